// A picture with a frame on it that can be moved and sized, by pointer or keyboard.
// value: {picture: address of it or null, of: its name, frame: {left, top, side}}; a move arrives in Python as a click event.

const image = element.querySelector('img');
const box = element.querySelector('.lab-frame-box');
const size = element.querySelector('input');
let frame = { left: 0.5, top: 0.5, side: 1 };
let drag = null;

function room() {
  const side = Math.max(image.clientWidth, image.clientHeight) * frame.side;
  const [width, height] = [Math.min(side, image.clientWidth), Math.min(side, image.clientHeight)];
  return { width, height, x: image.clientWidth - width, y: image.clientHeight - height };
}

function draw() {
  const { width, height, x, y } = room();
  Object.assign(box.style, { width: `${width}px`, height: `${height}px`, left: `${x * frame.left}px`, top: `${y * frame.top}px` });
}

function move(dx, dy) { // in pixels
  const { x, y } = room();
  if (x > 0) frame.left = Math.min(Math.max(frame.left + dx / x, 0), 1);
  if (y > 0) frame.top = Math.min(Math.max(frame.top + dy / y, 0), 1);
  draw();
}

function tell() {
  // In the value, not with the event: of events that come while one is answered, Gradio repeats the first.
  props.value = { ...props.value, frame: { ...frame } };
  trigger('click');
}

box.addEventListener('pointerdown', (event) => {
  drag = { x: event.clientX, y: event.clientY };
  box.setPointerCapture(event.pointerId);
});
box.addEventListener('pointermove', (event) => {
  if (!drag) return;
  move(event.clientX - drag.x, event.clientY - drag.y);
  drag = { x: event.clientX, y: event.clientY };
});
box.addEventListener('pointerup', () => { if (drag) tell(); drag = null; });
box.addEventListener('pointercancel', () => { drag = null; });
box.addEventListener('keydown', (event) => {
  const steps = { ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -8], ArrowDown: [0, 8] };
  if (!steps[event.key]) return;
  event.preventDefault();
  move(...steps[event.key]);
  tell();
});
size.addEventListener('input', () => { frame.side = Number(size.value); draw(); });
size.addEventListener('change', tell);
image.addEventListener('load', draw);
new ResizeObserver(draw).observe(image);

function take() {
  const picture = props.value?.picture;
  element.classList.toggle('lab-no-frame', !picture);
  if (!picture) image.removeAttribute('src');
  if (!picture || props.value.frame) return; // a value with a frame is our own; one without begins anew
  frame = { left: 0.5, top: 0.5, side: 1 };
  size.value = 1;
  image.src = picture;
  draw();
}

watch('value', take);
take();
