// The page's half of PlotView: draws figures into slots that stay, and follows a source on its own clock.
// value: {key, figures: {slot: figure}, html: {slot: markup}, source: name to follow, or null}
// server.read({source, cursor}) answers {cursor, wait, figures?, html?, append?: {slot: {trace: {x, y}}}}

const SMOOTHING = 0.95;
const HIDDEN_PAUSE = 400; // milliseconds between two looks whether the page can be seen again
const RETRY = 2000; // after an answer that did not come

const slots = {};
for (const node of element.querySelectorAll('[data-slot]')) slots[node.dataset.slot] = node;

let source = null;
let cursor = 0;
let generation = 0;
let timer = null;

function themed(figure) {
  const style = getComputedStyle(element);
  const ink = style.getPropertyValue('--lab-ink').trim() || '#222';
  const grid = style.getPropertyValue('--lab-line').trim() || '#ddd';
  const paper = style.getPropertyValue('--lab-paper').trim() || '#fff';
  const layout = { ...figure.layout, font: { family: style.fontFamily, size: 12, color: ink } };
  layout.hoverlabel = { bgcolor: paper, bordercolor: grid, font: { color: ink } };
  for (const axis of ['xaxis', 'yaxis'])
    layout[axis] = { ...layout[axis], gridcolor: grid, zerolinecolor: grid, linecolor: grid };
  return layout;
}

// Exponential moving average, corrected for its start (as in Adam), kept so that it can go on.
function smooth(div, trace, xs, ys) {
  const state = (div.smoothed[trace] ??= { sum: 0, weight: 0 });
  const out = ys.map((y) => {
    state.sum = SMOOTHING * state.sum + (1 - SMOOTHING) * y;
    state.weight = SMOOTHING * state.weight + (1 - SMOOTHING);
    return state.sum / state.weight;
  });
  return { x: [...xs], y: out };
}

async function draw(name, figure) {
  const div = slots[name];
  if (!div) return;
  if (!figure.data.length) {
    window.Plotly.purge(div);
    div.figure = null;
    return;
  }
  div.smoothed = {};
  if (figure.layout.height) div.style.height = `${figure.layout.height}px`;
  for (const [index, trace] of figure.data.entries())
    if (trace.meta && trace.meta.smooths !== undefined)
      Object.assign(trace, smooth(div, index, figure.data[trace.meta.smooths].x, figure.data[trace.meta.smooths].y));
  div.figure = figure;
  const options = { responsive: true, displaylogo: false, displayModeBar: 'hover',
    modeBarButtonsToRemove: ['select2d', 'lasso2d', 'autoScale2d'] };
  await window.Plotly.react(div, figure.data, themed(figure), options);
}

function append(name, traces) {
  const div = slots[name];
  if (!div || !div.figure) return;
  const indices = [], xs = [], ys = [];
  const add = (index, points) => { indices.push(index); xs.push(points.x); ys.push(points.y); };
  for (const [key, points] of Object.entries(traces)) {
    add(Number(key), points);
    for (const [index, trace] of div.figure.data.entries())
      if (trace.meta && trace.meta.smooths === Number(key)) add(index, smooth(div, index, points.x, points.y));
  }
  window.Plotly.extendTraces(div, { x: xs, y: ys }, indices);
}

async function show(answer) {
  for (const [name, markup] of Object.entries(answer.html || {}))
    if (slots[name]) slots[name].innerHTML = markup;
  for (const [name, figure] of Object.entries(answer.figures || {})) await draw(name, figure);
  for (const [name, traces] of Object.entries(answer.append || {})) append(name, traces);
}

function visible() {
  return !document.hidden && element.offsetParent !== null;
}

function later(milliseconds) {
  clearTimeout(timer);
  timer = setTimeout(tick, milliseconds);
}

async function tick() {
  if (!source || !element.isConnected) return;
  if (!visible()) return later(HIDDEN_PAUSE);
  const mine = generation;
  try {
    const answer = await server.read({ source, cursor });
    if (mine !== generation) return;
    cursor = answer.cursor;
    await show(answer);
    later(answer.wait * 1000);
  } catch (error) {
    if (mine === generation) later(RETRY);
  }
}

async function take() {
  const value = props.value || {};
  const mine = ++generation;
  clearTimeout(timer);
  await loaded;
  if (mine !== generation) return;
  await show(value);
  if (mine !== generation) return;
  source = value.source || null;
  cursor = 0;
  if (source) tick();
}

const loaded = new Promise((resolve) => {
  const look = () => (window.Plotly ? resolve() : setTimeout(look, 30));
  look();
});

// A chart drawn in a hidden tab has no size yet; it takes its own as soon as it can be seen.
const resized = new ResizeObserver((entries) => {
  for (const { target } of entries)
    if (target.figure && target.offsetParent !== null) window.Plotly.Plots.resize(target);
});
for (const div of Object.values(slots)) resized.observe(div);

new MutationObserver(() => {
  for (const div of Object.values(slots)) if (div.figure) window.Plotly.relayout(div, themed(div.figure));
}).observe(document.body, { attributes: true, attributeFilter: ['class'] });

watch('value', take);
take();
