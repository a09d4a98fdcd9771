// The page's half of RunTable. server.rows({stamp}) answers {stamp, wait, rows?, ids?}: what has changed.
// value: {shown: id of the run that is shown}

const body = element.querySelector('tbody');
const rows = new Map(); // id -> row
const lines = new Map(); // id -> <tr>
const ticked = new Set();
const FIRST = 60; // rows drawn at once; the rest follows in pieces, so that the page can be used meanwhile
let stamp = 0;
let drawing = 0; // number of the last drawing
let sort = { key: 'created', down: true };
const COLUMNS = [...element.querySelectorAll('[data-sort]')].map((button) => button.dataset.sort);
const WHEN = new Intl.DateTimeFormat([], { dateStyle: 'short', timeStyle: 'short' }); // costly to make

function cellText(row, key) {
  const value = row[key];
  if (key === 'accuracy') return value === null ? '–' : `${(value * 100).toFixed(1)} %`;
  if (key === 'seconds') return value >= 3600 ? `${Math.floor(value / 3600)} h ${Math.floor(value % 3600 / 60)} min`
    : value >= 60 ? `${Math.floor(value / 60)} min` : `${value} s`;
  if (key === 'created') return value ? WHEN.format(value * 1000) : '';
  return key === 'status' ? row.words : value;
}

function line(row) {
  let tr = lines.get(row.id);
  if (tr?.row === row) return tr;
  if (!tr) {
    tr = document.createElement('tr');
    tr.tabIndex = 0;
    tr.dataset.run = row.id;
    tr.innerHTML = `<td><input type="checkbox"></td>${COLUMNS.map(() => '<td></td>').join('')}`;
    tr.querySelector('input').setAttribute('aria-label', row.id);
    lines.set(row.id, tr);
  }
  COLUMNS.forEach((key, i) => {
    tr.cells[i + 1].textContent = cellText(row, key);
    if (key === 'status') tr.cells[i + 1].className = `lab-${row.status}`;
  });
  tr.row = row;
  tr.classList.toggle('lab-shown', row.id === props.value?.shown);
  return tr;
}

// Bring the table's body to these rows, a piece at a time.
function fill(shown, mine, from = 0) {
  if (mine !== drawing) return;
  const to = from ? from + 4 * FIRST : FIRST;
  const focused = document.activeElement;
  for (const [i, row] of shown.slice(from, to).entries()) {
    const tr = line(row);
    if (body.children[from + i] !== tr) body.insertBefore(tr, body.children[from + i] ?? null);
  }
  if (to < shown.length) setTimeout(fill, 0, shown, mine, to);
  else while (body.children.length > shown.length) body.lastElementChild.remove();
  if (focused !== document.activeElement && body.contains(focused)) focused.focus();
}

function draw() {
  const wanted = element.querySelector('input[type=search]').value.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = [...rows.values()].filter((row) => {
    if (!wanted.length) return true;
    const all = `${row.id} ${COLUMNS.map((key) => cellText(row, key)).join(' ')}`.toLowerCase();
    return wanted.every((word) => all.includes(word));
  });
  const sign = sort.down ? -1 : 1;
  shown.sort((a, b) => {
    const [x, y] = [a[sort.key] ?? -1, b[sort.key] ?? -1];
    return sign * (x < y ? -1 : x > y ? 1 : 0) || (a.id < b.id ? 1 : -1);
  });
  fill(shown, ++drawing);
  for (const button of element.querySelectorAll('[data-sort]'))
    button.parentElement.ariaSort = button.dataset.sort === sort.key ? (sort.down ? 'descending' : 'ascending') : 'none';
  element.classList.toggle('lab-no-runs', rows.size === 0);
}

async function tick() {
  if (!element.isConnected) return;
  let wait = 2;
  if (!document.hidden && element.offsetParent !== null) {
    try {
      const answer = await server.rows({ stamp });
      ({ stamp, wait } = answer);
      if (answer.ids) {
        for (const row of answer.rows) rows.set(row.id, row);
        const there = new Set(answer.ids);
        for (const id of [...rows.keys()]) if (!there.has(id)) { rows.delete(id); lines.delete(id); ticked.delete(id); }
        draw();
      }
    } catch (error) { /* the server is away; ask again */ }
  } else wait = 0.4;
  setTimeout(tick, wait * 1000);
}

element.addEventListener('click', ({ target }) => {
  if (target.dataset.sort) {
    sort = { key: target.dataset.sort, down: sort.key === target.dataset.sort ? !sort.down : true };
    return draw();
  }
  const tr = target.closest('tr[data-run]');
  if (!tr) return;
  if (target.type === 'checkbox') {
    target.checked ? ticked.add(tr.dataset.run) : ticked.delete(tr.dataset.run);
    // In the value, not with the event: of events that come while one is answered, Gradio repeats the first.
    props.value = { ...props.value, ticked: [...ticked] };
    trigger('input');
  } else trigger('click', { run: tr.dataset.run });
});

element.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && event.target.matches('tr[data-run]'))
    trigger('click', { run: event.target.dataset.run });
});

element.querySelector('input[type=search]').addEventListener('input', draw);
watch('value', () => {
  for (const tr of lines.values()) tr.classList.toggle('lab-shown', tr.dataset.run === props.value?.shown);
});
draw();
tick();
