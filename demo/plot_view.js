// The page's half of PlotView: draws figures into slots that stay, and follows a source on its own clock.
// value: {key, figures: {slot: figure}, html: {slot: markup}, source: name to follow, or null}
// A <dialog> in markup is opened at once, and gone when it is closed; [data-close] in it closes it.
// server.read({source, cursor}) answers {cursor, wait, figures?, html?, parts?: {name: markup of [data-part=name]},
//   append?: {slot: {trace: {x, y, ...}}}}

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
  for (const axis of ['xaxis', 'yaxis', 'yaxis2'])
    if (axis in layout || axis !== 'yaxis2') layout[axis] = { ...layout[axis], gridcolor: grid, zerolinecolor: grid, linecolor: grid };
  for (const trace of figure.data) if (trace.texttemplate) trace.textfont = { color: ink };
  if (tool(figure.slot, 'log')?.checked) layout.yaxis.type = 'log';
  return layout;
}

// The switch `name` above the chart in a slot, if it has one.
function tool(slot, name) {
  return slots[slot]?.parentElement.querySelector(`[data-tool=${name}]`);
}

// Exponential moving average, corrected for its start (as in Adam), kept so that it can go on.
function smooth(div, trace, xs, ys) {
  const state = (div.smoothed[trace] ??= { sum: 0, weight: 0 });
  const keep = Number(tool(div.dataset.slot, 'smooth')?.value ?? 0);
  const out = ys.map((y) => {
    state.sum = keep * state.sum + (1 - keep) * y;
    state.weight = keep * state.weight + (1 - keep);
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
  figure.slot = name;
  if (figure.layout.height) div.style.height = `${figure.layout.height}px`;
  for (const [index, trace] of figure.data.entries())
    if (trace.meta && trace.meta.smooths !== undefined)
      Object.assign(trace, smooth(div, index, figure.data[trace.meta.smooths].x, figure.data[trace.meta.smooths].y));
  div.figure = figure;
  const options = { responsive: true, displaylogo: false, displayModeBar: 'hover',
    modeBarButtonsToRemove: ['select2d', 'lasso2d', 'autoScale2d'] };
  await window.Plotly.react(div, figure.data, themed(figure), options);
  if (!div.clicking && figure.layout.meta?.clicks) {
    div.clicking = true;
    div.on('plotly_click', ({ points: [{ x, y, data }] }) =>
      trigger('click', { slot: name, truth: y, prediction: data.type === 'heatmap' ? x : null }));
  }
  if (div.listening || !tool(name, 'follow')) return;
  div.listening = true;
  div.on('plotly_relayout', (change) => {
    if ('xaxis.range[0]' in change && !div.sliding) tool(name, 'follow').checked = false;
    if (change['xaxis.autorange']) tool(name, 'follow').checked = true;
  });
}

// Where a part is looked at and the newest is to stay in sight, move on with it.
async function follow(name) {
  const div = slots[name];
  if (!div.figure || !tool(name, 'follow')?.checked || div.layout.xaxis.autorange !== false) return;
  const [from, to] = div.layout.xaxis.range;
  const last = div.data[0].x.at(-1);
  div.sliding = true;
  await window.Plotly.relayout(div, { 'xaxis.range': [last - (to - from), last] });
  div.sliding = false;
}

function smoothAgain(name) {
  const div = slots[name];
  if (!div.figure) return;
  div.smoothed = {};
  for (const [index, trace] of div.figure.data.entries())
    if (trace.meta?.smooths !== undefined) {
      const { x, y } = smooth(div, index, div.data[trace.meta.smooths].x, div.data[trace.meta.smooths].y);
      window.Plotly.restyle(div, { x: [x], y: [y] }, [index]);
    }
}

function append(name, traces) {
  const div = slots[name];
  if (!div || !div.figure) return;
  const added = []; // [trace, points]
  for (const [key, points] of Object.entries(traces)) {
    added.push([Number(key), points]);
    for (const [index, trace] of div.figure.data.entries())
      if (trace.meta && trace.meta.smooths === Number(key)) added.push([index, smooth(div, index, points.x, points.y)]);
  }
  const update = {};
  for (const attribute of Object.keys(added[0][1])) update[attribute] = added.map(([, points]) => points[attribute]);
  window.Plotly.extendTraces(div, update, added.map(([index]) => index));
  follow(name);
}

// Stops as soon as there is something newer to show.
async function show(answer, mine) {
  for (const [name, markup] of Object.entries(answer.html || {}))
    if (slots[name] && slots[name].markup !== markup) {
      slots[name].innerHTML = slots[name].markup = markup;
      const dialog = slots[name].querySelector('dialog');
      dialog?.addEventListener('close', () => { slots[name].innerHTML = slots[name].markup = ''; });
      dialog?.showModal();
    }
  for (const [name, markup] of Object.entries(answer.parts || {})) {
    const part = element.querySelector(`[data-part="${name}"]`);
    if (part) part.innerHTML = markup;
  }
  for (const [name, figure] of Object.entries(answer.figures || {})) {
    if (mine !== generation) return;
    await draw(name, figure);
  }
  if (mine !== generation) return;
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
  const mine = generation;
  if (!source || !element.isConnected) return;
  if (!visible()) return later(HIDDEN_PAUSE);
  let answer = null;
  try {
    answer = await server.read({ source, cursor });
    if (mine !== generation) return;
    await show(answer, mine);
    if (mine !== generation) return;
    cursor = answer.cursor;
  } catch (error) {
    if (mine !== generation) return;
    if (answer) cursor = 0; // how much of it was drawn is not known: draw all again
    console.warn(error);
    return later(RETRY);
  }
  later(answer.wait * 1000);
}

async function take() {
  const value = props.value || {};
  const mine = ++generation;
  clearTimeout(timer);
  await loaded;
  if (mine !== generation) return;
  await show(value, mine);
  if (mine !== generation) return;
  source = value.source || null;
  cursor = 0;
  if (source) tick();
}

element.addEventListener('click', async (event) => {
  if (event.target.matches('dialog') || event.target.closest('[data-close]')) return event.target.closest('dialog').close();
  const button = event.target.closest('button');
  if (!button || !element.contains(button)) return;
  const { action, sure, export: what } = button.dataset;
  if (sure && !button.asked) {
    button.asked = true;
    const words = button.textContent;
    button.textContent = sure;
    setTimeout(() => { button.asked = false; button.textContent = words; }, 4000);
  } else if (action) {
    trigger('click', { action, source: button.dataset.source || source || props.value?.key });
  } else if (what) {
    const file = await server.export({ source: source || props.value?.key, what });
    if (!file.text) return;
    if (what === 'command') {
      await navigator.clipboard?.writeText(file.text).catch(() => {});
      element.querySelector('[data-part=command]').textContent = file.text;
      return;
    }
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([file.text]));
    link.download = file.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
});

element.addEventListener('input', ({ target }) => {
  const name = target.closest('section')?.querySelector('[data-slot]').dataset.slot;
  if (!name || !slots[name].figure) return;
  if (target.dataset.tool === 'smooth') smoothAgain(name);
  if (target.dataset.tool === 'log') window.Plotly.relayout(slots[name], themed(slots[name].figure));
  if (target.dataset.tool === 'follow') follow(name);
});

// Plotly is large: it comes once, after what can be used without it.
function load() {
  return new Promise((resolve) => {
    const script = document.createElement('script');
    script.src = document.querySelector('meta[name=plotly]').content;
    script.onload = resolve;
    const add = () => document.head.append(script);
    window.requestIdleCallback ? requestIdleCallback(add, { timeout: 1500 }) : setTimeout(add, 200);
  });
}
const loaded = (window.plotlyLoaded ??= load());

// A chart drawn in a hidden tab has no size yet; it takes its own as soon as it can be seen.
const resized = new ResizeObserver((entries) => {
  for (const { target } of entries)
    if (target.figure && target.offsetParent !== null) window.Plotly.Plots.resize(target);
});
for (const div of Object.values(slots)) resized.observe(div);

new MutationObserver(() => {
  for (const div of Object.values(slots))
    if (div.figure) window.Plotly.update(div, { 'textfont.color': getComputedStyle(element).getPropertyValue("--lab-ink") }, themed(div.figure));
}).observe(document.body, { attributes: true, attributeFilter: ['class'] });

watch('value', take);
take();
