// The moving figure of the page "What of a representation is the task's, and what is the seed's?": the class means of two
// seeds, one of them turned, scaled and shifted, and the cosines between them. Loaded after interactive.js.
"use strict";

FIGURES["relative-seeds"] = relativeSeeds;

// Points [x, y] turned by an angle in degrees, scaled, then shifted to the right.
function relativeMoved(points, degrees, scale, shift) {
  const c = Math.cos(degrees * RADIANS), s = Math.sin(degrees * RADIANS);
  return points.map(([x, y]) => [scale * (c * x - s * y) + shift, scale * (s * x + c * y)]);
}

function relativeCosines(points) {
  return points.map((p) => points.map((q) => dot(p, q) / Math.max(1e-12, Math.hypot(...p) * Math.hypot(...q))));
}

function relativeGap(A, B) {
  const all = A.flatMap((row, i) => row.map((v, j) => Math.abs(v - B[i][j])));
  return all.reduce((sum, v) => sum + v, 0) / all.length;
}

// White at zero, orange towards 1, violet towards -1: readable without telling hues apart, as the sign has its own side.
function relativeColour(v) {
  const [r, g, b] = v > 0 ? [179, 88, 6] : [84, 39, 136], t = Math.min(1, Math.abs(v));
  return `rgb(${[r, g, b].map((c) => Math.round(255 + (c - 255) * t)).join(",")})`;
}

function relativeSeeds(stage, { points, angle, scale, shift }) {
  const state = { angle, scale, shift }, first = points.map((p) => p.slice(0, 2)), second = points.map((p) => p.slice(2));
  const before = relativeCosines(first), unmoved = relativeCosines(second);

  const top = make("div", { class: "panels panels-grass" }, stage);
  const plane = panel(top, "Class means (drag to turn)", 320, 320, "The digits 0 to 9 of two seeds in a plane; those of the second are in circles");
  const tables = make("div", { class: "panels" }, top);
  const left = panel(tables, "First seed: cosines", 180, 200, "Table of cosines between the ten class means of the first seed");
  const right = panel(tables, "Second: cosines", 180, 200, "Table of cosines between the ten class means of the second seed");
  const controls = make("div", { class: "sliders" }, stage);
  const says = make("p", { class: "numbers", "aria-live": "polite" }, stage);

  const inputs = {};
  [["angle", "Turn", 0, 360, 1, (v) => `${v}°`], ["scale", "Scale", 0.3, 1.3, 0.1, (v) => Number(v).toFixed(1)],
    ["shift", "Shift", -1, 1, 0.1, (v) => Number(v).toFixed(1)]].forEach(([key, label, min, max, step, text]) => {
    const row = make("label", { class: "slider" }, controls);
    make("span", { text: label }, row);
    const input = make("input", { type: "range", min, max, step, value: state[key] }, row), shown = make("output", { text: text(state[key]) }, row);
    inputs[key] = (v) => { input.value = v; shown.textContent = text(v); };
    input.addEventListener("input", () => change({ [key]: Number(input.value) }));
  });
  draggable(plane, (x, y) => change({ angle: Math.round((Math.atan2(160 - y, x - 160) / RADIANS + 360) % 360) }));

  function change(update) {
    Object.assign(state, update);
    Object.keys(inputs).forEach((key) => inputs[key](state[key]));
    draw();
  }

  function drawTable(svg, C) {
    svg.replaceChildren();
    C.forEach((row, i) => row.forEach((v, j) => make("svg:rect", { x: 20 + 16 * j, y: 20 + 16 * i, width: 16, height: 16, fill: relativeColour(v) }, svg)));
    make("svg:rect", { x: 20, y: 20, width: 160, height: 160, class: "thin" }, svg);
    C.forEach((_, k) => {
      make("svg:text", { x: 28 + 16 * k, y: 14, class: "middle", text: `${k}` }, svg);
      make("svg:text", { x: 14, y: 32 + 16 * k, class: "end", text: `${k}` }, svg);
    });
  }

  function draw() {
    const moved = relativeMoved(second, state.angle, state.scale, state.shift), now = relativeCosines(moved);
    const X = (v) => 160 + 60 * v, Y = (v) => 160 - 60 * v;
    plane.replaceChildren();
    make("svg:line", { x1: 0, x2: 320, y1: 160, y2: 160, class: "thin" }, plane);
    make("svg:line", { x1: 160, x2: 160, y1: 0, y2: 320, class: "thin" }, plane);
    moved.forEach(([x, y], k) => {
      make("svg:circle", { cx: X(x), cy: Y(y), r: 9, class: "cluster-1" }, plane);
      make("svg:text", { x: X(x), y: Y(y) + 4.5, class: "middle cluster-key cluster-key-grouped", text: `${k}` }, plane);
    });
    first.forEach(([x, y], k) => make("svg:text", { x: X(x), y: Y(y) + 4.5, class: "middle cluster-key cluster-key-all", text: `${k}` }, plane));
    drawTable(left, before);
    drawTable(right, now);
    says.textContent = `Turned ${state.angle}°, scale ${state.scale.toFixed(1)}, shift ${state.shift.toFixed(1)}: the second seed's coordinates differ `
      + `from the first's by ${relativeGap(first, moved).toFixed(2)} on average, its cosines by ${relativeGap(before, now).toFixed(2)}. `
      + `Your moves changed its cosines by ${relativeGap(unmoved, now).toFixed(2)}.`;
  }

  change({});
}
