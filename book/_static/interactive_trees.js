// The moving figure of the page "Which metric does a hierarchy need?": a balanced binary tree as a fan in the plane and
// with straight edges in the disc, and what the layouts do to its distances. Loaded after interactive.js, whose helpers
// it uses and whose list of figures it joins.
//
// Data: {"depth": 5, "edge": 1.5, "exponent": 0.7}    levels 1 to 6, length of an edge in the disc, power of the plane's
//                                                     distance
"use strict";

FIGURES["trees"] = treesFigure;

// ---- the two layouts; node i has the children 2 i + 1 and 2 i + 2 --------------------------------------------------

function treesSteps(i, j) { // edges between two nodes: the deeper one climbs
  let steps = 0;
  while (i !== j) {
    if (i > j) i = (i - 1) >> 1; else j = (j - 1) >> 1;
    steps += 1;
  }
  return steps;
}

function treesFan(depth) {
  const points = [];
  for (let level = 0; level <= depth; level += 1) {
    for (let k = 0; k < 2 ** level; k += 1) {
      const angle = (2 * Math.PI * (k + 0.5)) / 2 ** level;
      points.push([level * Math.cos(angle), level * Math.sin(angle)]);
    }
  }
  return points;
}

// Möbius addition in the disc of radius one, c = 1.
function treesAdd([a, b], [x, y]) {
  const mix = a * x + b * y, p = a * a + b * b, q = x * x + y * y, below = 1 + 2 * mix + p * q;
  const left = (1 + 2 * mix + q) / below, right = (1 - p) / below;
  return [left * a + right * x, left * b + right * y];
}

function treesDisc(depth, edge) {
  const points = [[0, 0]], towards = [Math.PI], r = Math.tanh(edge / 2);
  for (let child = 1; child < 2 ** (depth + 1) - 1; child += 1) {
    const parent = (child - 1) >> 1, angle = towards[parent] + ((2 * Math.PI) / 3) * (2 - (child % 2));
    points.push(treesAdd(points[parent], [r * Math.cos(angle), r * Math.sin(angle)]));
    const back = treesAdd(points[child].map((v) => -v), points[parent]);
    towards.push(Math.atan2(back[1], back[0]));
  }
  return points;
}

function treesBall([a, b], [x, y]) {
  return 2 * Math.asinh(Math.hypot(a - x, b - y) / Math.sqrt((1 - a * a - b * b) * (1 - x * x - y * y)));
}

// Average distortion after the best scale, largest stretch over smallest, and the pair that is shortened most.
function treesDistortion(points, distance) {
  const ratios = [];
  let worst = null;
  for (let i = 0; i < points.length; i += 1) {
    for (let j = i + 1; j < points.length; j += 1) {
      const ratio = distance(points[i], points[j]) / treesSteps(i, j);
      ratios.push(ratio);
      if (!worst || ratio < worst.ratio * (1 - 1e-9)) worst = { ratio, pair: [i, j] };
    }
  }
  const sum = ratios.reduce((a, b) => a + b, 0), squares = ratios.reduce((a, b) => a + b * b, 0), scale = sum / squares;
  return {
    average: ratios.reduce((a, b) => a + Math.abs(scale * b - 1), 0) / ratios.length,
    worst: ratios.reduce((a, b) => Math.max(a, b)) / worst.ratio,
    pair: worst.pair,
  };
}

function treesState(depth, edge, exponent) {
  const fan = treesFan(depth), disc = treesDisc(depth, edge), flat = (p, q) => Math.hypot(p[0] - q[0], p[1] - q[1]);
  return {
    fan, disc,
    plane: treesDistortion(fan, flat),
    snowflake: treesDistortion(fan, (p, q) => flat(p, q) ** exponent),
    ball: treesDistortion(disc, treesBall),
    bits: Math.ceil((depth * edge) / Math.LN2),
  };
}

// ---- drawing -------------------------------------------------------------------------------------------------------

function treesFigure(stage, start) {
  const state = { depth: start.depth, edge: start.edge, exponent: start.exponent };
  const top = make("div", { class: "panels panels-trees" }, stage);
  const plane = panel(top, "Plane", 200, 200, "The tree as a fan in the plane; the pair of nodes that is shortened most is marked");
  const disc = panel(top, "Hyperbolic disc", 200, 200, "The tree with equal edges in the hyperbolic disc; the pair of nodes that is shortened most is marked");
  const bars = panel(stage, "Average distortion", 330, 96, "Bars of the average distortion of plane, snowflake of the plane, and disc");
  bars.parentNode.classList.add("trees-bars");
  const controls = make("div", { class: "sliders" }, stage);
  const says = make("p", { class: "numbers", "aria-live": "polite" }, stage);
  const setters = {
    depth: shownSlider(controls, "Depth of the tree", [1, 6, 1], (v) => `${v}`, (v) => change({ depth: v })),
    edge: shownSlider(controls, "Edge in the disc", [0.5, 3, 0.05], (v) => v.toFixed(2), (v) => change({ edge: v })),
    exponent: shownSlider(controls, "Snowflake exponent", [0.3, 1, 0.05], (v) => v.toFixed(2), (v) => change({ exponent: v })),
  };

  function change(update) {
    Object.assign(state, update);
    for (const [key, set] of Object.entries(setters)) set(state[key]);
    const found = treesState(state.depth, state.edge, state.exponent);
    drawTree(plane, found.fan.map(([x, y]) => [100 + (90 / state.depth) * x, 100 - (90 / state.depth) * y]), found.plane.pair, false);
    const at = ([x, y]) => [100 + 90 * x, 100 - 90 * y];
    drawTree(disc, found.disc.map(at), found.ball.pair, true, (i, j) => Array.from({ length: 9 }, (_, k) => at(treesBetween(found.disc[i], found.disc[j], k / 8))));
    drawBars(found);
    says.textContent = `${2 ** (state.depth + 1) - 1} nodes. Average distortion: plane ${found.plane.average.toFixed(3)}, snowflake `
      + `${found.snowflake.average.toFixed(3)}, disc ${found.ball.average.toFixed(3)}. Worst distortion: ${found.plane.worst.toFixed(2)}, `
      + `${found.snowflake.worst.toFixed(2)}, ${found.ball.worst.toFixed(2)}. The leaves of the disc lie at distance `
      + `${(state.depth * state.edge).toFixed(2)} and need about ${found.bits} binary digits.`;
  }

  // The point at that share of the way between two points of the disc.
  function treesBetween(p, q, share) {
    const step = treesAdd(p.map((v) => -v), q), r = Math.hypot(...step);
    if (r === 0) return p;
    const length = Math.tanh(share * Math.atanh(Math.min(r, 1 - 1e-15)));
    return treesAdd(p, step.map((v) => (v * length) / r));
  }

  function drawTree(svg, places, pair, rim, between) {
    svg.replaceChildren();
    if (rim) make("svg:circle", { cx: 100, cy: 100, r: 90, class: "rim" }, svg);
    for (let child = 1; child < places.length; child += 1) {
      const parent = (child - 1) >> 1, line = between ? between(parent, child) : [places[parent], places[child]];
      make("svg:polyline", { points: line.map((p) => p.map((v) => v.toFixed(2)).join(",")).join(" "), class: "trees-edge" }, svg);
    }
    for (const [x, y] of places) make("svg:circle", { cx: x.toFixed(2), cy: y.toFixed(2), r: 1.6, class: "trees-node" }, svg);
    for (const k of pair) make("svg:circle", { cx: places[k][0].toFixed(2), cy: places[k][1].toFixed(2), r: 4.5, class: "trees-pair" }, svg);
  }

  function drawBars(found) {
    bars.replaceChildren();
    [["plane", found.plane], ["snowflake", found.snowflake], ["disc", found.ball]].forEach(([name, { average }], k) => {
      const y = 4 + 30 * k;
      make("svg:text", { x: 66, y: y + 16, class: "end", text: name }, bars);
      make("svg:rect", { x: 72, y, width: 200, height: 22, class: "trees-track" }, bars);
      make("svg:rect", { x: 72, y, width: (200 * Math.min(0.6, average)) / 0.6, height: 22, class: `trees-bar trees-${name}` }, bars);
      make("svg:text", { x: 278, y: y + 16, text: average.toFixed(3) }, bars);
    });
  }

  change({});
}
