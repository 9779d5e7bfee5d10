// Figures that the reader can move. A page holds <figure class="interactive-figure" data-figure="NAME"> with data as JSON
// and a picture; the function registered here under NAME puts the moving figure in front of the picture. Where it fails,
// or does not run at all (print, Colab), the picture stays. No libraries.
"use strict";

const FIGURES = { "rotation-loop": rotationLoop };

document.addEventListener("DOMContentLoaded", () => {
  for (const figure of document.querySelectorAll("figure.interactive-figure")) {
    const draw = FIGURES[figure.dataset.figure];
    const source = figure.querySelector('script[type="application/json"]');
    if (!draw || !source) continue;
    const stage = document.createElement("div");
    stage.className = "stage";
    figure.querySelector("img").before(stage);
    draw(stage, JSON.parse(source.textContent));
    figure.classList.add("is-live");
  }
});

// ---- helpers shared by all figures --------------------------------------------------------------------------------

// An HTML or SVG element: make("svg:circle", {r: 3}, parent), make("p", {text: "..."}, parent).
function make(name, attributes, parent) {
  const svg = name.startsWith("svg:");
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") element.textContent = value;
    else element.setAttribute(key, value);
  }
  if (parent) parent.append(element);
  return element;
}

// A labelled slider; onChange receives the number. Keyboard and screen readers come with the native element.
function slider(parent, label, [low, high, step], value, onChange) {
  const row = make("label", { class: "slider" }, parent);
  make("span", { text: label }, row);
  const input = make("input", { type: "range", min: low, max: high, step, value }, row);
  const shown = make("output", { text: `${value}°` }, row);
  const set = (number) => { input.value = number; shown.textContent = `${input.value}°`; };
  input.addEventListener("input", () => { set(input.value); onChange(Number(input.value)); });
  return set;
}

// A slider whose number is written by show, for screen readers too. Its setter takes the place, and the value to show
// where that is not the place itself.
function shownSlider(parent, label, [min, max, step], show, onChange) {
  const row = make("label", { class: "slider" }, parent);
  make("span", { text: label }, row);
  const input = make("input", { type: "range", min, max, step }, row), shown = make("output", {}, row);
  input.addEventListener("input", () => onChange(Number(input.value)));
  return (place, value = place) => {
    input.value = place;
    shown.textContent = show(value);
    input.setAttribute("aria-valuetext", show(value));
  };
}

// Calls onMove(x, y) in the drawing's own units while the pointer is held down on it.
function draggable(svg, onMove) {
  const move = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    onMove(at.x, at.y);
  };
  svg.classList.add("draggable");
  svg.addEventListener("pointerdown", (event) => { svg.setPointerCapture(event.pointerId); event.preventDefault(); move(event); });
  svg.addEventListener("pointermove", (event) => { if (svg.hasPointerCapture(event.pointerId)) move(event); });
}

function panel(parent, title, width, height, label) {
  const box = make("div", { class: "panel" }, parent);
  make("div", { class: "panel-title", text: title }, box);
  return make("svg:svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, box);
}

// ---- rotation-loop: a quaternion network must jump somewhere on a loop of rotations, a 6D network need not ---------

const RADIANS = Math.PI / 180, CHART_HEIGHT = 190;
const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
const scaled = (a, s) => a.map((x) => x * s);
const unit = (a) => scaled(a, 1 / Math.hypot(...a));
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];

// Rodrigues: rotation by `degrees` about the unit axis n, as three rows.
function rotation(n, degrees) {
  const c = Math.cos(degrees * RADIANS), s = Math.sin(degrees * RADIANS), [x, y, z] = n, d = 1 - c;
  return [
    [c + x * x * d, x * y * d - z * s, x * z * d + y * s],
    [y * x * d + z * s, c + y * y * d, y * z * d - x * s],
    [z * x * d - y * s, z * y * d + x * s, c + z * z * d],
  ];
}

const DECODERS = {
  quaternion(q) { // (w, x, y, z), normalised
    const [w, x, y, z] = unit(q);
    return [
      [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
      [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
      [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ];
  },
  "6d"(v) { // Gram-Schmidt on the first two columns
    const a = unit(v.slice(0, 3)), second = v.slice(3);
    const b = unit(second.map((x, i) => x - dot(a, second) * a[i])), c = cross(a, b);
    return [0, 1, 2].map((i) => [a[i], b[i], c[i]]);
  },
};

function forward(layers, slope, input) {
  return layers.reduce((x, layer, depth) => {
    const y = layer.weight.map((row, i) => dot(row, x) + layer.bias[i]);
    return depth < layers.length - 1 ? y.map((v) => (v > 0 ? v : slope * v)) : y;
  }, input);
}

// Geodesic angle between two rotations in degrees; the atan2 form keeps its digits near 0 and near 180 degrees.
function angleBetween(A, B) {
  const M = [0, 1, 2].map((i) => [0, 1, 2].map((j) => dot(A.map((row) => row[i]), B.map((row) => row[j])))); // A^T B
  const sine = Math.hypot(M[2][1] - M[1][2], M[0][2] - M[2][0], M[1][0] - M[0][1]) / 2;
  return Math.atan2(sine, (M[0][0] + M[1][1] + M[2][2] - 1) / 2) / RADIANS;
}

// Right-handed view from the front, a little from the left and above: x towards the reader, y right, z up.
const VIEW = [[-0.42, 0.9, 0.1], [-0.3, -0.25, 0.92]];
const project = (p, centre, length) => [centre + length * dot(VIEW[0], p), centre - length * dot(VIEW[1], p)];

function rotationLoop(stage, { networks, slope }) {
  const NAMES = { quaternion: "Quaternion", "6d": "6D" }, codes = Object.keys(NAMES);
  const state = { t: 60, azimuth: 30, elevation: 40 };
  const axis = () => {
    const a = state.azimuth * RADIANS, e = state.elevation * RADIANS;
    return [Math.cos(e) * Math.cos(a), Math.cos(e) * Math.sin(a), Math.sin(e)];
  };
  const predict = (code, R) => DECODERS[code](forward(networks[code], slope, R.flat()));
  const errorAt = (code, t) => { const R = rotation(axis(), t); return angleBetween(R, predict(code, R)); };

  const top = make("div", { class: "panels panels-2" }, stage), below = make("div", { class: "panels panels-3" }, stage);
  const ring = panel(top, "Drag the angle", 140, 140, "The loop of rotations, with a handle at the loop angle");
  const sphere = panel(top, "Drag the axis", 140, 140, "The axis of the loop as a point on a sphere");
  const frames = Object.fromEntries([["true", "True frame"], ...Object.entries(NAMES)].map(([key, title]) =>
    [key, panel(below, title, 140, 140, `${title}: three arrows x, y, z`)]));
  const chart = panel(stage, "Error in degrees along the loop", 560, CHART_HEIGHT, "Two error curves against the loop angle");
  chart.parentNode.classList.add("panel-wide");
  const controls = make("div", { class: "sliders" }, stage);
  const says = make("p", { class: "numbers", "aria-live": "polite" }, stage);

  const setters = {
    t: slider(controls, "Loop angle", [0, 360, 1], state.t, (v) => change({ t: v })),
    azimuth: slider(controls, "Axis: azimuth", [-180, 180, 1], state.azimuth, (v) => change({ azimuth: v })),
    elevation: slider(controls, "Axis: elevation", [-90, 90, 1], state.elevation, (v) => change({ elevation: v })),
  };
  draggable(ring, (x, y) => change({ t: Math.round((Math.atan2(70 - y, x - 70) / RADIANS + 360) % 360) }));
  draggable(sphere, (x, y) => { // seen from the front: right is y, up is z, the point nearer the reader has x > 0
    let right = (x - 70) / 50, up = (70 - y) / 50;
    const r = Math.hypot(right, up);
    if (r > 1) { right /= r; up /= r; }
    const towards = Math.sqrt(Math.max(0, 1 - right * right - up * up));
    change({ azimuth: Math.round(Math.atan2(right, towards) / RADIANS), elevation: Math.round(Math.asin(up) / RADIANS) });
  });

  let curves, worst;
  function change(update) {
    const turned = "azimuth" in update;
    Object.assign(state, update);
    for (const key of Object.keys(update)) setters[key](state[key]);
    if (!curves || turned || "elevation" in update) measure();
    draw();
  }

  // Error curves at whole degrees, and each worst error with its place, refined between neighbours: the jump is narrow.
  function measure() {
    curves = {}; worst = {};
    for (const code of codes) {
      const errors = curves[code] = Array.from({ length: 361 }, (_, t) => errorAt(code, t));
      let best = errors.indexOf(Math.max(...errors)), step = 1;
      for (let round = 0; round < 8; round += 1) {
        const near = [-1, -0.5, 0, 0.5, 1].map((k) => best + k * step);
        best = near.reduce((a, b) => (errorAt(code, b) > errorAt(code, a) ? b : a));
        step /= 2;
      }
      worst[code] = { t: (best + 360) % 360, error: errorAt(code, best) };
    }
  }

  function draw() {
    const R = rotation(axis(), state.t), now = {};
    drawRing(); drawSphere(); drawFrame(frames.true, R);
    for (const code of codes) {
      const P = predict(code, R);
      now[code] = angleBetween(R, P);
      drawFrame(frames[code], P, R);
    }
    drawChart(now);
    says.textContent = `Loop angle ${state.t}°: the quaternion network is off by ${now.quaternion.toFixed(1)}°, the 6D network by `
      + `${now["6d"].toFixed(1)}°. Worst on this loop: quaternion ${worst.quaternion.error.toFixed(1)}° at `
      + `${worst.quaternion.t.toFixed(0)}°, 6D ${worst["6d"].error.toFixed(1)}° at ${worst["6d"].t.toFixed(0)}°.`;
  }

  function drawRing() {
    const x = 70 + 52 * Math.cos(state.t * RADIANS), y = 70 - 52 * Math.sin(state.t * RADIANS);
    ring.replaceChildren();
    make("svg:circle", { cx: 70, cy: 70, r: 52, class: "track" }, ring);
    make("svg:line", { x1: 70, y1: 70, x2: x, y2: y, class: "thin" }, ring);
    make("svg:circle", { cx: x, cy: y, r: 9, class: "handle" }, ring);
    make("svg:text", { x: 70, y: 96, class: "middle", text: `${state.t}°` }, ring);
  }

  function drawSphere() {
    const [towards, right, up] = axis(), x = 70 + 50 * right, y = 70 - 50 * up;
    sphere.replaceChildren();
    make("svg:circle", { cx: 70, cy: 70, r: 50, class: "track" }, sphere);
    make("svg:ellipse", { cx: 70, cy: 70, rx: 50, ry: 12, class: "thin" }, sphere);
    make("svg:line", { x1: 70, y1: 70, x2: x, y2: y, class: "thin" }, sphere);
    make("svg:circle", { cx: x, cy: y, r: 8, class: towards < 0 ? "handle behind" : "handle" }, sphere);
  }

  // Arrows for the images of the three axes, the farthest first; behind them, dashed, the true frame to compare with.
  function drawFrame(svg, M, truth) {
    svg.replaceChildren();
    if (truth) for (let i = 0; i < 3; i += 1) arrow(svg, truth.map((row) => row[i]), "axis ghost", "");
    const depth = cross(VIEW[0], VIEW[1]);
    const columns = [0, 1, 2].map((i) => [M.map((row) => row[i]), i]);
    columns.sort((a, b) => dot(depth, a[0]) - dot(depth, b[0]));
    for (const [column, i] of columns) arrow(svg, column, `axis axis-${"xyz"[i]}`, "xyz"[i]);
  }

  function arrow(svg, direction, kind, name) {
    const [x, y] = project(direction, 70, 58), [u, v] = project(direction, 70, 69);
    make("svg:line", { x1: 70, y1: 70, x2: x, y2: y, class: kind }, svg);
    if (name) make("svg:text", { x: u, y: v + 4, class: "middle", text: name }, svg);
  }

  function drawChart(now) {
    const width = Math.min(640, Math.max(280, stage.clientWidth)); // as wide as shown, so that letters keep their size
    const X = (t) => 34 + (t / 360) * (width - 54), Y = (e) => CHART_HEIGHT - 30 - (e / 180) * (CHART_HEIGHT - 50);
    chart.replaceChildren();
    chart.setAttribute("viewBox", `0 0 ${width} ${CHART_HEIGHT}`);
    for (const e of [0, 60, 120, 180]) {
      make("svg:line", { x1: X(0), x2: X(360), y1: Y(e), y2: Y(e), class: "grid" }, chart);
      make("svg:text", { x: X(0) - 6, y: Y(e) + 4, class: "end", text: e }, chart);
    }
    for (const t of [0, 90, 180, 270, 360]) make("svg:text", { x: X(t), y: CHART_HEIGHT - 12, class: "middle", text: `${t}°` }, chart);
    make("svg:line", { x1: X(state.t), x2: X(state.t), y1: Y(0), y2: Y(180), class: "cursor" }, chart);
    codes.forEach((code, k) => {
      const points = curves[code].map((e, t) => `${X(t).toFixed(1)},${Y(e).toFixed(1)}`).join(" ");
      make("svg:polyline", { points, class: `curve curve-${code}` }, chart);
      make("svg:circle", { cx: X(state.t), cy: Y(now[code]), r: 4, class: `dot-${code}` }, chart);
      make("svg:text", { x: X(0) + 6 + 110 * k, y: 12, class: `key-${code}`, text: `${k ? "- -" : "—"} ${NAMES[code]}` }, chart);
    });
  }

  change({});
  window.addEventListener("resize", draw);
}
