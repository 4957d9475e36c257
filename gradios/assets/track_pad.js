// A surface on which paths are dragged over the first frame. Its value is the text of the file that run_trajectory.py
// reads; numbers are pixels of the image, counted from the middle of the upper left one. A value from the server may
// have a "background", the image to draw on.
const canvas = element.querySelector("canvas"), said = element.querySelector(".track-said");
const pen = canvas.getContext("2d");
const POINTS = 16, CELLS = 32, BRUSH = 1.2, SHORTEST = 3;
let size = null, image = null, actions = [], open = null, tool = "path", cross = null, keyed = null, written = null;

const round = (value) => Math.round(value * 100) / 100;
const grid = () => ({ across: Math.max(1, Math.round(CELLS * size.width / Math.max(size.width, size.height))), down: Math.max(1, Math.round(CELLS * size.height / Math.max(size.width, size.height))) });

function toImage(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width * size.width - 0.5, (event.clientY - box.top) / box.height * size.height - 0.5];
}
const toCanvas = ([x, y]) => [(x + 0.5) / size.width * canvas.width, (y + 0.5) / size.height * canvas.height];
const inside = ([x, y]) => x >= -0.5 && y >= -0.5 && x <= size.width - 0.5 && y <= size.height - 0.5;
const length = (path) => path.slice(1).reduce((sum, p, i) => sum + Math.hypot(p[0] - path[i][0], p[1] - path[i][1]), 0);

// Points at equal distances, so that what follows the path keeps its speed.
function even(path) {
  const whole = length(path), result = [path[0]];
  let walked = 0, k = 1;
  for (let i = 1; i < POINTS - 1; i++) {
    const due = whole * i / (POINTS - 1);
    let step = Math.hypot(path[k][0] - path[k - 1][0], path[k][1] - path[k - 1][1]);
    while (walked + step < due && k < path.length - 1) {
      walked += step;
      k += 1;
      step = Math.hypot(path[k][0] - path[k - 1][0], path[k][1] - path[k - 1][1]);
    }
    const share = step ? (due - walked) / step : 0;
    result.push([0, 1].map((c) => path[k - 1][c] + share * (path[k][c] - path[k - 1][c])));
  }
  return [...result, path[path.length - 1]];
}

// Cells of the brush as few rectangles x0, y0, x1, y1: runs of a row, joined with the equal runs below.
function rectangles(cells) {
  const { across, down } = grid(), runs = [];
  for (let y = 0; y < down; y++) for (let x = 0; x < across; x++) {
    if (!cells.has(`${x},${y}`)) continue;
    let end = x;
    while (cells.has(`${end + 1},${y}`)) end += 1;
    const above = runs.find((run) => run.x === x && run.end === end && run.low === y - 1);
    if (above) above.low = y; else runs.push({ x, end, top: y, low: y });
    x = end;
  }
  const edge = (cell, count, side) => Math.round(cell * side / count);
  return runs.map((run) => [edge(run.x, across, size.width), edge(run.top, down, size.height), edge(run.end + 1, across, size.width) - 1, edge(run.low + 1, down, size.height) - 1]);
}

function brushed(cells, place) {
  const { across, down } = grid();
  const [cx, cy] = [(place[0] + 0.5) / size.width * across, (place[1] + 0.5) / size.height * down];
  for (let y = 0; y < down; y++) for (let x = 0; x < across; x++) if (Math.hypot(x + 0.5 - cx, y + 0.5 - cy) <= BRUSH) cells.add(`${x},${y}`);
}

const of = (kind) => actions.filter((one) => one.kind === kind);
function regions() {
  const cells = new Set(of("region").flatMap((one) => [...one.cells]));
  return [...of("rectangle").map((one) => one.edges), ...rectangles(cells)];
}

function content() {
  const tracks = of("path").map((one) => one.points.map((p) => p.map(round)));
  return { width: size.width, height: size.height, tracks, static_points: of("point").map((one) => one.place.map(round)), static_regions: regions() };
}

function say() {
  const parts = [[of("path").length, "path"], [of("point").length, "kept point"], [regions().length ? 1 : 0, "kept region"]];
  const words = parts.filter(([n]) => n).map(([n, name]) => `${n} ${name}${n > 1 ? "s" : ""}`);
  said.textContent = words.length ? words.join(", ") : "Nothing is drawn yet: drag on the image.";
}

function changed() {
  written = JSON.stringify(content());
  props.value = written;
  say();
  draw();
}

function arrow(points, color) {
  const places = points.map(toCanvas), end = places[places.length - 1];
  for (const [width, paint] of [[6, "rgba(0,0,0,0.45)"], [3, color]]) {
    pen.strokeStyle = paint;
    pen.lineWidth = width;
    pen.beginPath();
    places.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.stroke();
  }
  const from = places[Math.max(0, places.length - 3)], angle = Math.atan2(end[1] - from[1], end[0] - from[0]);
  pen.fillStyle = color;
  pen.beginPath();
  pen.moveTo(end[0] + 9 * Math.cos(angle), end[1] + 9 * Math.sin(angle));
  for (const turn of [2.5, -2.5]) pen.lineTo(end[0] + 10 * Math.cos(angle + turn), end[1] + 10 * Math.sin(angle + turn));
  pen.fill();
  pen.beginPath();
  pen.arc(...places[0], 5, 0, 7);
  pen.fill();
}

function draw() {
  if (!size) return;
  const scale = Math.min(window.devicePixelRatio || 1, 2), width = Math.max(200, canvas.clientWidth || 480);
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(width * scale * size.height / size.width);
  pen.imageSmoothingEnabled = size.width >= 200;
  if (image) pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  pen.lineJoin = pen.lineCap = "round";
  pen.fillStyle = "rgba(56, 132, 255, 0.38)";
  const pending = open && open.kind === "region" ? rectangles(open.cells) : [];
  for (const [x0, y0, x1, y1] of [...regions(), ...pending]) {
    const [left, top] = toCanvas([x0 - 0.5, y0 - 0.5]), [right, low] = toCanvas([x1 + 0.5, y1 + 0.5]);
    pen.fillRect(left, top, right - left, low - top);
  }
  for (const one of of("point")) {
    const [x, y] = toCanvas(one.place);
    pen.lineWidth = 3;
    pen.strokeStyle = "#3884ff";
    pen.fillStyle = "white";
    pen.beginPath();
    pen.rect(x - 6, y - 6, 12, 12);
    pen.fill();
    pen.stroke();
  }
  for (const one of of("path")) arrow(one.points, "#28dc3c");
  if (open && open.kind === "path" && open.points.length > 1) arrow(open.points, "#8dff9b");
  if (cross) {
    const [x, y] = toCanvas(cross);
    pen.strokeStyle = keyed ? "#8dff9b" : "white";
    pen.lineWidth = 2;
    pen.beginPath();
    for (const [dx, dy] of [[12, 0], [0, 12]]) { pen.moveTo(x - dx, y - dy); pen.lineTo(x + dx, y + dy); }
    pen.stroke();
  }
}

function shown(text) {
  if (!text || text === written) return;
  const file = JSON.parse(text);
  size = { width: file.width, height: file.height };
  actions = [
    ...(file.tracks || []).map((points) => ({ kind: "path", points })),
    ...(file.static_points || []).map((place) => ({ kind: "point", place })),
    ...(file.static_regions || []).map((edges) => ({ kind: "rectangle", edges })),
  ];
  if (file.background) {
    image = new Image();
    image.onload = draw;
    image.src = file.background;
  }
  changed();
}

canvas.addEventListener("pointerdown", (event) => {
  if (!size || event.button > 0) return;
  canvas.setPointerCapture(event.pointerId);
  cross = keyed = null;
  const place = toImage(event);
  if (!inside(place)) return;
  if (tool === "point") { actions.push({ kind: "point", place }); changed(); return; }
  open = tool === "path" ? { kind: "path", points: [place] } : { kind: "region", cells: new Set() };
  if (tool === "region") brushed(open.cells, place);
  draw();
});
canvas.addEventListener("pointermove", (event) => {
  if (!open) return;
  for (const one of event.getCoalescedEvents ? event.getCoalescedEvents() : [event]) {
    if (open.kind === "path") open.points.push(toImage(one)); else brushed(open.cells, toImage(one));
  }
  draw();
});
function finish() {
  if (!open) return;
  const done = open, perPixel = canvas.clientWidth / size.width;
  open = null;
  if (done.kind === "path") {
    if (done.points.length < 2 || length(done.points) * perPixel < SHORTEST) { draw(); return; }
    done.points = even(done.points);
  }
  actions.push(done);
  changed();
}
canvas.addEventListener("pointerup", finish);
canvas.addEventListener("pointercancel", () => { open = null; draw(); });

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
canvas.addEventListener("keydown", (event) => {
  if (!size || !(event.key in STEPS || ["Enter", " ", "Backspace", "Escape"].includes(event.key))) return;
  event.preventDefault();
  if (event.key === "Backspace") { actions.pop(); changed(); return; }
  if (!cross) cross = [(size.width - 1) / 2, (size.height - 1) / 2];
  const step = Math.max(size.width, size.height) / 32;
  if (event.key in STEPS) cross = cross.map((value, c) => value + STEPS[event.key][c] * step);
  if (event.key === "Escape") keyed = null;
  if (event.key === " ") { if (inside(cross)) actions.push({ kind: "point", place: [...cross] }); changed(); return; }
  if (event.key === "Enter" && !keyed) { keyed = inside(cross) ? [...cross] : null; said.textContent = "A path begins here: move, then Enter."; }
  else if (event.key === "Enter") { actions.push({ kind: "path", points: even([keyed, [...cross]]) }); keyed = null; changed(); return; }
  draw();
});

element.querySelector(".track-tools").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || !size) return;
  if (button.dataset.tool) {
    tool = button.dataset.tool;
    for (const one of element.querySelectorAll("[data-tool]")) one.setAttribute("aria-pressed", one === button);
    return;
  }
  if (button.dataset.act === "undo") actions.pop(); else actions = [];
  changed();
});
new ResizeObserver(draw).observe(element);
shown(props.value);
watch("value", () => shown(props.value));
