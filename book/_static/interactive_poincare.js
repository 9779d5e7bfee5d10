// The moving figure of the page on hyperbolic networks: a tree with three equal edges at every node, in a ball of curvature
// -c that the reader flattens down to the plane, and shortest paths from its root to five places. Loaded after
// interactive.js, whose helpers it uses and whose list of figures it joins.
//
// Data: {
//   "c": 1, "edge": 1.5        curvature (times -1), 0 to 1; distance of neighbours, 0.5 to 2.5
//   "depth": 5                 levels of the tree
//   "root": [0.1, 0.05]        tangent vector at the origin whose exponential is the root
//   "places": [[...], ...]     tangent vectors of the other points
// }
"use strict";

FIGURES["poincare"] = poincareFigure;

// ---- the disc ------------------------------------------------------------------------------------------------------

// All points are pairs of numbers; c = 0 is the plane with lengths doubled, as the ball tends to it.
function poincareAdd(x, y, c) {
  const xy = x[0] * y[0] + x[1] * y[1], xx = x[0] * x[0] + x[1] * x[1], yy = y[0] * y[0] + y[1] * y[1];
  const a = 1 + 2 * c * xy + c * yy, b = 1 - c * xx, d = 1 + 2 * c * xy + c * c * xx * yy;
  return [(a * x[0] + b * y[0]) / d, (a * x[1] + b * y[1]) / d];
}

// The factor from |v| to |exp_0 v|, and back.
function poincareShrink(n, c) {
  const u = Math.sqrt(c) * n;
  return u < 1e-4 ? 1 - (u * u) / 3 : Math.tanh(u) / u;
}

function poincareExp(v, c) {
  const shrink = poincareShrink(Math.hypot(...v), c);
  return [v[0] * shrink, v[1] * shrink];
}

function poincareLog(x, c) {
  const u = Math.sqrt(c) * Math.hypot(...x), grow = u < 1e-4 ? 1 + (u * u) / 3 : Math.atanh(u) / u;
  return [x[0] * grow, x[1] * grow];
}

function poincareDistance(x, y, c) {
  const xx = x[0] * x[0] + x[1] * x[1], yy = y[0] * y[0] + y[1] * y[1];
  const chord = Math.hypot(x[0] - y[0], x[1] - y[1]) / Math.sqrt((1 - c * xx) * (1 - c * yy)), s = Math.sqrt(c);
  return s * chord < 1e-6 ? 2 * chord : (2 / s) * Math.asinh(s * chord);
}

function poincareGeodesic(x, y, t, c) {
  const step = poincareLog(poincareAdd([-x[0], -x[1]], y, c), c);
  return poincareAdd(x, poincareExp([t * step[0], t * step[1]], c), c);
}

// Nodes of the tree, the root at the origin first, and the index of each node's parent. A subtree is built once about its
// own root and moved along an edge by Möbius addition, which is an isometry.
function poincareTree(depth, edge, c) {
  const step = poincareExp([edge / 2, 0], c);
  const turn = ([x, y], degrees) => {
    const a = Math.cos(degrees * RADIANS), b = Math.sin(degrees * RADIANS);
    return [a * x - b * y, b * x + a * y];
  };
  const branch = (part, degrees) => part.points.map((p) => turn(poincareAdd(step, p, c), degrees));
  const join = (part, angles) => {
    const points = [[0, 0]], parents = [-1];
    for (const degrees of angles) {
      const first = points.length;
      points.push(...branch(part, degrees));
      parents.push(...part.parents.map((p) => (p < 0 ? 0 : p + first)));
    }
    return { points, parents };
  };
  let part = { points: [[0, 0]], parents: [-1] };
  for (let level = 1; level < depth; level += 1) part = join(part, [-60, 60]);
  return join(part, [0, 120, 240]);
}

// The smallest distance between two nodes that are not neighbours.
function poincareCrowding({ points, parents }, c) {
  let least = Infinity;
  for (let i = 0; i < points.length; i += 1) {
    for (let j = 0; j < i; j += 1) {
      if (parents[i] !== j) least = Math.min(least, poincareDistance(points[i], points[j], c));
    }
  }
  return least;
}

// ---- drawing -------------------------------------------------------------------------------------------------------

function poincareFigure(stage, { c, edge, depth, root, places }) {
  const state = { c, edge, root: [...root] };
  const REACH = (edge * depth) / 2 + 0.2, MIDDLE = 170, RADIUS = 160, FARTHEST = 0.92 * REACH;
  const box = make("div", { class: "panels panels-poincare" }, stage);
  const svg = panel(box, "Drag the root of the tree", 2 * MIDDLE, 2 * MIDDLE,
    "A disc with a tree whose root moves: drag, or press arrow keys. Shortest paths lead from the root to five squares");
  const clip = make("svg:clipPath", { id: "poincare-window" }, make("svg:defs", {}, svg));
  make("svg:circle", { cx: MIDDLE, cy: MIDDLE, r: RADIUS }, clip);
  const layer = make("svg:g", { "clip-path": "url(#poincare-window)" }, svg), over = make("svg:g", {}, svg);
  const table = make("table", { class: "readout" }, make("div", { class: "wide-box" }, box));
  const controls = make("div", { class: "sliders" }, stage);
  const says = make("p", { class: "numbers", "aria-live": "polite" }, stage);
  const setC = shownSlider(controls, "Curvature −c: c =", [0, 1, 0.02], (v) => v.toFixed(2), (v) => change({ c: v }));
  const setEdge = shownSlider(controls, "Length of an edge", [0.5, 2, 0.05], (v) => v.toFixed(2), (v) => change({ edge: v }));

  // The window shows what lies within tangent length REACH of the origin: at c = 1 nearly the whole disc.
  const scale = () => RADIUS / (REACH * poincareShrink(REACH, state.c));
  const place = (p) => [MIDDLE + p[0] * scale(), MIDDLE - p[1] * scale()];
  const path = (points) => points.map((p) => place(p).map((v) => v.toFixed(2)).join(",")).join(" ");

  draggable(svg, (x, y) => {
    let p = [(x - MIDDLE) / scale(), (MIDDLE - y) / scale()];
    const most = FARTHEST * poincareShrink(FARTHEST, state.c), r = Math.hypot(...p);
    if (r > most) p = [(p[0] * most) / r, (p[1] * most) / r];
    change({ root: poincareLog(p, state.c) });
  });
  svg.setAttribute("tabindex", "0");
  svg.addEventListener("pointerdown", () => svg.focus({ preventScroll: true }));
  svg.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!by) return;
    event.preventDefault();
    const next = state.root.map((v, i) => v + 0.1 * by[i]);
    if (Math.hypot(...next) <= FARTHEST) change({ root: next });
  });

  function change(update) {
    Object.assign(state, update);
    setC(state.c, state.c);
    setEdge(state.edge, state.edge);
    draw();
  }

  function draw() {
    const here = poincareExp(state.root, state.c), tree = poincareTree(depth, state.edge, state.c);
    const nodes = tree.points.map((p) => poincareAdd(here, p, state.c)), steps = [0, 1, 2, 3, 4, 5, 6, 7, 8];
    layer.replaceChildren();
    over.replaceChildren();
    if (state.c > 0) make("svg:circle", { cx: MIDDLE, cy: MIDDLE, r: scale() / Math.sqrt(state.c), class: "poincare-rim" }, layer);
    nodes.forEach((p, i) => {
      const parent = tree.parents[i];
      if (parent < 0) return;
      const line = steps.map((k) => poincareGeodesic(nodes[parent], p, k / 8, state.c));
      make("svg:polyline", { points: path(line), class: "poincare-edge" }, layer);
    });
    for (const p of nodes) {
      const [x, y] = place(p), size = Math.max(0.6, 3.2 * (1 - state.c * (p[0] * p[0] + p[1] * p[1])));
      make("svg:circle", { cx: x.toFixed(2), cy: y.toFixed(2), r: size.toFixed(2), class: "poincare-node" }, layer);
    }
    const ends = places.map((v) => poincareExp(v, state.c)), distances = ends.map((p) => poincareDistance(here, p, state.c));
    ends.forEach((p, k) => {
      const line = Array.from({ length: 33 }, (_, i) => poincareGeodesic(here, p, i / 32, state.c)), [x, y] = place(p);
      make("svg:polyline", { points: path(line), class: "poincare-path" }, layer);
      make("svg:rect", { x: x - 4, y: y - 4, width: 8, height: 8, class: "poincare-place" }, over);
      make("svg:text", { x: x + 7, y: y - 5, class: "poincare-name", text: "ABCDE"[k] }, over);
    });
    const [x, y] = place(here);
    make("svg:circle", { cx: MIDDLE, cy: MIDDLE, r: RADIUS, class: "track" }, over);
    make("svg:circle", { cx: x, cy: y, r: 8, class: "handle" }, over);

    table.replaceChildren();
    const head = make("tr", {}, make("thead", {}, table)), body = make("tbody", {}, table);
    for (const text of ["to", "distance", "on paper"]) make("th", { scope: "col", text }, head);
    ends.forEach((p, k) => {
      const row = make("tr", {}, body);
      make("th", { scope: "row", text: "ABCDE"[k] }, row);
      for (const value of [distances[k], Math.hypot(p[0] - here[0], p[1] - here[1])]) make("td", { text: value.toFixed(3) }, row);
    });
    const least = poincareCrowding(tree, state.c), limit = Math.log(3) / Math.sqrt(state.c);
    const nearest = least < 1e-9 ? "Two nodes lie on one another." : `The closest two nodes that are not neighbours are ${least.toFixed(3)} apart.`;
    says.textContent = `c = ${state.c.toFixed(2)}, edge ${state.edge.toFixed(2)}: ${nodes.length} nodes. ${nearest} `
      + (state.c === 0 ? "In the plane no edge is long enough." : `Edges longer than ln 3 / √c = ${limit.toFixed(3)} leave room for ever.`);
  }

  change({});
}
