// The image as a relief: each pixel lies at the distance that its depth says, and is seen from a camera that turns about it.
const NEAR = 1.0, FAR = 2.6, HALF_FIELD = 0.42, JUMP = 0.3, START = { yaw: 0.32, pitch: -0.12, zoom: 1.0 };
const canvas = element.querySelector("canvas");
const empty = element.querySelector(".pair-view-empty");
const gl = canvas.getContext("webgl", { antialias: true, preserveDrawingBuffer: true });
let view = { ...START }, mesh = null, program = null;

const VERTEX = `attribute vec3 place; attribute vec2 texel; uniform mat4 turn; varying vec2 at;
void main() { at = texel; gl_Position = turn * vec4(place, 1.0); }`;
const FRAGMENT = `precision mediump float; varying vec2 at; uniform sampler2D image;
void main() { gl_FragColor = texture2D(image, at); }`;

function compile(kind, source) {
  const shader = gl.createShader(kind);
  gl.shaderSource(shader, source);
  gl.compileShader(shader);
  return shader;
}

function setUp() {
  program = gl.createProgram();
  gl.attachShader(program, compile(gl.VERTEX_SHADER, VERTEX));
  gl.attachShader(program, compile(gl.FRAGMENT_SHADER, FRAGMENT));
  gl.linkProgram(program);
  gl.useProgram(program);
  gl.enable(gl.DEPTH_TEST);
}

function load(source) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = reject;
    image.src = source;
  });
}

// Depth comes as 16 bits in the red and green channel of a small image: 65535 is nearest.
function readDepth(image) {
  const copy = document.createElement("canvas");
  copy.width = image.width;
  copy.height = image.height;
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const bytes = context.getImageData(0, 0, image.width, image.height).data;
  return Float32Array.from({ length: image.width * image.height }, (_, i) => (bytes[4 * i] * 256 + bytes[4 * i + 1]) / 65535);
}

function buildMesh(depth, width, height) {
  const places = [], triangles = [], long = Math.max(width, height);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    const near = depth[y * width + x], z = 1 / (near / NEAR + (1 - near) / FAR);
    const across = ((x + 0.5) - width / 2) / (long / 2), down = ((y + 0.5) - height / 2) / (long / 2);
    places.push(across * z * HALF_FIELD, -down * z * HALF_FIELD, -z, (x + 0.5) / width, (y + 0.5) / height);
  }
  const flat = (a, b, c) => Math.max(depth[a], depth[b], depth[c]) - Math.min(depth[a], depth[b], depth[c]) < JUMP;
  for (let y = 0; y + 1 < height; y++) for (let x = 0; x + 1 < width; x++) {
    const a = y * width + x, b = a + 1, c = a + width, d = c + 1;
    if (flat(a, b, c)) triangles.push(a, c, b);
    if (flat(b, c, d)) triangles.push(b, c, d);
  }
  return { places: new Float32Array(places), triangles: new Uint16Array(triangles) };
}

function upload(built, image) {
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, built.places, gl.STATIC_DRAW);
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, built.triangles, gl.STATIC_DRAW);
  for (const [name, size, offset] of [["place", 3, 0], ["texel", 2, 12]]) {
    const slot = gl.getAttribLocation(program, name);
    gl.enableVertexAttribArray(slot);
    gl.vertexAttribPointer(slot, size, gl.FLOAT, false, 20, offset);
  }
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, image);
  for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.LINEAR);
  mesh = built.triangles.length;
}

// The camera turns about the middle of the scene, on the axis of the first view.
function matrix() {
  const middle = 1.45, aspect = canvas.width / canvas.height, zoom = view.zoom / HALF_FIELD * 0.92;
  const [cy, sy, cp, sp] = [Math.cos(view.yaw), Math.sin(view.yaw), Math.cos(view.pitch), Math.sin(view.pitch)];
  const rows = [[cy, 0, sy], [sp * sy, cp, -sp * cy], [-cp * sy, sp, cp * cy]];
  const shift = rows.map((row) => row[2] * middle);
  shift[2] -= middle;
  const near = 0.1, far = 12, a = (far + near) / (near - far), b = 2 * far * near / (near - far);
  const [sx, sz] = [zoom / Math.max(aspect, 1), zoom * Math.min(aspect, 1)];
  const column = (k) => [sx * rows[0][k], sz * rows[1][k], a * rows[2][k], -rows[2][k]];
  return [...column(0), ...column(1), ...column(2), sx * shift[0], sz * shift[1], a * shift[2] + b, -shift[2]];
}

function draw() {
  if (!gl) return;
  gl.viewport(0, 0, canvas.width, canvas.height);
  gl.clearColor(0.09, 0.094, 0.11, 1);
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  if (!mesh) return;
  gl.uniformMatrix4fv(gl.getUniformLocation(program, "turn"), false, matrix());
  gl.drawElements(gl.TRIANGLES, mesh, gl.UNSIGNED_SHORT, 0);
}

async function show() {
  if (!gl) { empty.textContent = "This browser shows no WebGL, which the view in three dimensions needs."; return; }
  if (!props.value) return;
  const pair = JSON.parse(props.value);
  const [image, depth] = await Promise.all([load(pair.image), load(pair.depth)]);
  upload(buildMesh(readDepth(depth), depth.width, depth.height), image);
  empty.style.display = "none";
  canvas.dataset.triangles = mesh / 3;
  draw();
}

function turn(yaw, pitch, zoom = 1) {
  view.yaw = Math.max(-0.9, Math.min(0.9, view.yaw + yaw));
  view.pitch = Math.max(-0.6, Math.min(0.6, view.pitch + pitch));
  view.zoom = Math.max(0.6, Math.min(3, view.zoom * zoom));
  draw();
}

const KEYS = { ArrowLeft: [-0.08, 0], ArrowRight: [0.08, 0], ArrowUp: [0, -0.06], ArrowDown: [0, 0.06], "+": [0, 0, 1.1], "-": [0, 0, 1 / 1.1] };
canvas.addEventListener("keydown", (event) => {
  if (!(event.key in KEYS)) return;
  event.preventDefault();
  turn(...KEYS[event.key]);
});
canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
canvas.addEventListener("pointermove", (event) => { if (event.buttons) turn(event.movementX * 0.006, event.movementY * 0.005); });
element.querySelector("button").addEventListener("click", () => { view = { ...START }; draw(); });

if (gl) setUp();
draw();
show();
watch("value", show);
