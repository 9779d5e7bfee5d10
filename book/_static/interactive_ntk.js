// The moving figure of the page on the neural tangent kernel: kernels of real networks between the point (1, 0) and the
// points of the unit circle, before and after training, and the line of infinite width. Loaded after interactive.js,
// whose helpers it uses and whose list of figures it joins.
//
// Data: {
//   "depth": 4, "bias": 0.1     the networks: ReLU, NTK parametrization, weights of deviation one
//   "angles": [...]             radians, rising, from -pi
//   "widths": [25, 50, ...]     rising
//   "before": [[[...]]]         width, seed, angle
//   "after": [[[...]]]          the same networks after training
//   "width": 2                  where the slider starts
// }
"use strict";

FIGURES["ntk-circle"] = ntkFigure;

// The recursion for inputs of length one in two dimensions: [NNGP, NTK] between (1, 0) and the point at the angle.
function ntkCircle(angle, depth, bias) {
  const b2 = bias * bias;
  let q = 0.5 + b2, s = Math.cos(angle) / 2 + b2, theta = s;
  for (let layer = 1; layer < depth; layer += 1) {
    const c = Math.max(-1, Math.min(1, s / q)), open = Math.PI - Math.acos(c);
    s = (q * (Math.sqrt(1 - c * c) + open * c)) / (2 * Math.PI) + b2;
    theta = (theta * open) / (2 * Math.PI) + s;
    q = q / 2 + b2;
  }
  return [s, theta];
}

// Of curves (seed, angle) and a line (angle): the mean, the relative RMS distance of the curves from the line, and how
// far the mean of the curves lies above the line at angle 0, relative to it.
function ntkSummary(curves, line, zero) {
  const mean = line.map((_, a) => curves.reduce((sum, curve) => sum + curve[a], 0) / curves.length);
  const square = (values) => values.reduce((sum, v) => sum + v * v, 0) / values.length;
  const off = square(curves.flatMap((curve) => curve.map((v, a) => v - line[a])));
  return { mean, error: Math.sqrt(off / square(line)), peak: mean[zero] / line[zero] - 1 };
}

function ntkFigure(stage, { depth, bias, angles, widths, before, after, width }) {
  const WIDE = 440, HIGH = 250, LEFT = 40, RIGHT = 432, TOP = 10, BASE = 208, MOST = 0.5;
  const states = [["start", "Before training", before], ["trained", "After training", after]];
  const state = { width, curves: "start", angle: angles.findIndex((a) => Math.abs(a) < 1e-6) };
  const zero = state.angle, line = angles.map((a) => ntkCircle(a, depth, bias)[1]);
  const X = (angle) => LEFT + ((angle + Math.PI) / (2 * Math.PI)) * (RIGHT - LEFT);
  const Y = (value) => BASE - (Math.max(0, Math.min(MOST, value)) / MOST) * (BASE - TOP);

  const chart = panel(stage, "Tangent kernel between (1, 0) and a point of the circle", WIDE, HIGH,
    "Kernel against angle: thin curves of networks, their mean, and the line of infinite width; drag for the angle");
  chart.parentNode.classList.add("panel-wide");
  const controls = make("div", { class: "sliders" }, stage);
  const says = make("p", { class: "numbers", "aria-live": "polite" }, stage);

  const setWidth = shownSlider(controls, "Width", [0, widths.length - 1, 1], (v) => `${widths[v]}`, (v) => change({ width: v }));
  const setAngle = shownSlider(controls, "Angle", [0, angles.length - 1, 1], (v) => `${Math.round(angles[v] / RADIANS)}°`, (v) => change({ angle: v }));
  const row = make("label", { class: "slider" }, controls);
  make("span", { text: "Networks" }, row);
  const select = make("select", { class: "ntk-select" }, row);
  for (const [value, text] of states) make("option", { value, text }, select);
  select.addEventListener("change", () => change({ curves: select.value }));
  draggable(chart, (x) => {
    const angle = ((x - LEFT) / (RIGHT - LEFT)) * 2 * Math.PI - Math.PI;
    change({ angle: angles.reduce((best, a, i) => (Math.abs(a - angle) < Math.abs(angles[best] - angle) ? i : best), 0) });
  });

  function change(update) {
    Object.assign(state, update);
    setWidth(state.width);
    setAngle(state.angle);
    select.value = state.curves;
    const curves = states.find(([value]) => value === state.curves)[2][state.width], sum = ntkSummary(curves, line, zero);
    draw(curves, sum.mean);
    const here = curves.map((curve) => curve[state.angle]), digits = (v) => v.toFixed(4);
    says.textContent = `Width ${widths[state.width]}, ${state.curves === "start" ? "before" : "after"} training: the ${curves.length} curves are off `
      + `by ${(100 * sum.error).toFixed(1)} % of the line (root mean square), their mean peak by ${(100 * sum.peak).toFixed(1)} %. `
      + `At ${Math.round(angles[state.angle] / RADIANS)}° the line is ${digits(line[state.angle])}, the curves go from ${digits(Math.min(...here))} to ${digits(Math.max(...here))}.`;
  }

  function draw(curves, mean) {
    chart.replaceChildren();
    for (const value of [0, 0.1, 0.2, 0.3, 0.4, 0.5]) {
      make("svg:line", { x1: LEFT, x2: RIGHT, y1: Y(value), y2: Y(value), class: "grid" }, chart);
      make("svg:text", { x: LEFT - 6, y: Y(value) + 4, class: "end", text: value.toFixed(1) }, chart);
    }
    for (const degrees of [-180, -90, 0, 90]) make("svg:text", { x: X(degrees * RADIANS), y: BASE + 18, class: "middle", text: `${degrees}°` }, chart);
    make("svg:text", { x: (LEFT + RIGHT) / 2, y: BASE + 36, class: "middle", text: "angle of the second point" }, chart);
    const points = (values) => values.map((v, a) => `${X(angles[a]).toFixed(1)},${Y(v).toFixed(1)}`).join(" ");
    for (const curve of curves) make("svg:polyline", { points: points(curve), class: "curve ntk-one" }, chart);
    make("svg:polyline", { points: points(mean), class: "curve ntk-mean" }, chart);
    make("svg:polyline", { points: points(line), class: "curve ntk-limit" }, chart);
    const x = X(angles[state.angle]);
    make("svg:line", { x1: x, x2: x, y1: TOP, y2: BASE, class: "cursor" }, chart);
    for (const curve of curves) make("svg:circle", { cx: x, cy: Y(curve[state.angle]), r: 3, class: "ntk-dot" }, chart);
    [["ntk-one", "one network"], ["ntk-mean", "their mean"], ["ntk-limit", "infinite width"]].forEach(([kind, text], i) => {
      make("svg:line", { x1: LEFT + 8, x2: LEFT + 34, y1: TOP + 10 + 16 * i, y2: TOP + 10 + 16 * i, class: `curve ${kind}` }, chart);
      make("svg:text", { x: LEFT + 40, y: TOP + 14 + 16 * i, text }, chart);
    });
  }

  change({});
}

