// The moving figure of the page on neural collapse: three classes, a linear head of some depth on free features, squared
// error and weight decay. Where class means and classifier rows end up, in closed form, until a class dies. Loaded after
// interactive.js, whose helpers it uses and whose list of figures it joins.
//
// Data: {
//   "counts": [100, 60, 30]    samples of the three classes, 2 to 200
//   "decay": 0.008             the decay of every layer and of the features, 0.0001 to 0.1
//   "depth": 2                 number M of linear layers, one of "depths"
//   "depths": [1, 2, 3, 6]     choices of the menu
//   "cases": [...]             solutions to compare with, for tests: counts, decay, depth, w2, h2, logits, critical
// }
"use strict";

FIGURES["collapse"] = collapseFigure;

// ---- the solution --------------------------------------------------------------------------------------------------

// Least cost of one class is that of g(x) = 1 / (1 + x^M) + b x over x >= 0. Its largest stationary point solves
// b = M x^(M-1) / (1 + x^M)^2, whose right side falls beyond x^M = (M-1) / (M+1); zero wins where g is not below g(0) = 1.
function collapseRoot(b, depth) {
  if (depth === 1) return b < 1 ? 1 / Math.sqrt(b) - 1 : 0;
  const slope = (x) => (depth * x ** (depth - 1)) / (1 + x ** depth) ** 2;
  let low = ((depth - 1) / (depth + 1)) ** (1 / depth), high = 2;
  if (b >= slope(low)) return 0;
  while (slope(high) > b) high *= 2;
  for (let round = 0; round < 200 && high - low > 1e-15 * high; round += 1) {
    const middle = (low + high) / 2;
    if (slope(middle) > b) low = middle; else high = middle;
  }
  return 1 / (1 + high ** depth) + b * high < 1 ? high : 0;
}

// All decays equal. Squared lengths of the classifier rows (w2) and of the class means (h2), logits of the true classes,
// the loss, and the class size at which a class dies.
function collapseSolution(counts, decay, depth) {
  const N = counts.reduce((a, b) => a + b), unitOfSize = N * (N * decay ** (depth + 1)) ** (1 / depth);
  const xs = counts.map((n) => collapseRoot((depth * unitOfSize) / n, depth)), ys = xs.map((x) => x ** depth);
  return {
    w2: ys.map((y) => N * decay * y),
    h2: ys.map((y) => y / (N * decay * (1 + y) ** 2)),
    logits: ys.map((y) => y / (1 + y)),
    loss: counts.reduce((sum, n, k) => sum + (n / (2 * N)) * (1 / (1 + ys[k]) + ((depth * unitOfSize) / n) * xs[k]), 0),
    critical: (depth === 1 ? 1 : depth ** 2 * (depth - 1) ** ((1 - depth) / depth)) * unitOfSize,
  };
}

// The decay at which a class of n among N dies.
function collapseDeath(n, N, depth) {
  const most = depth === 1 ? 1 : (depth - 1) ** ((depth - 1) / depth) / depth;
  return (((most * n) / (depth * N)) ** depth / N) ** (1 / (depth + 1));
}

// ---- drawing -------------------------------------------------------------------------------------------------------

const COLLAPSE_DECAYS = [-4, -1]; // powers of ten

// Three digits; below a thousandth as 5.3 × 10⁻⁴.
function collapseNumber(x) {
  if (x === 0) return "0";
  if (x >= 0.001) return x >= 999.5 ? x.toFixed(0) : x.toPrecision(3);
  const [digits, power] = x.toExponential(1).split("e");
  return `${digits} × 10⁻${power.slice(1).replace(/\d/g, (d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d])}`;
}

function collapseFigure(stage, { counts, decay, depth, depths }) {
  const state = { counts: [...counts], decay, depth, azimuth: 32, elevation: 24 };
  const classes = [0, 1, 2], centre = [85, 86], digit = (k) => "₁₂₃"[k];

  const top = make("div", { class: "panels panels-collapse" }, stage);
  const means = panel(top, "Class means h̄", 170, 160, "The three class means as arrows: drag, or press arrow keys, to turn them");
  const rows = panel(top, "Classifier rows w", 170, 160, "The three classifier rows as arrows: drag, or press arrow keys, to turn them");
  const below = make("div", { class: "panels panels-spd" }, stage);
  const bars = panel(below, "Logit of the true class", 300, 112, "Bars of the logits that the classes get");
  const chart = panel(below, "Logit against weight decay (drag)", 340, 190, "One curve for each class: its logit against the weight decay");
  const table = make("table", { class: "readout" }, make("div", { class: "wide-box" }, stage));
  const controls = make("div", { class: "sliders" }, stage);
  const says = make("p", { class: "numbers", "aria-live": "polite" }, stage);

  const sizes = classes.map((k) => shownSlider(controls, `Class ${k + 1}: samples`, [2, 200, 1], (n) => `${n}`, (n) => {
    change({ counts: state.counts.map((old, j) => (j === k ? n : old)) });
  }));
  const setDecay = shownSlider(controls, "Weight decay λ", [...COLLAPSE_DECAYS, 0.01], collapseNumber, (power) => change({ decay: 10 ** power }));
  const line = make("label", { class: "slider" }, controls);
  make("span", { text: "Linear layers M" }, line);
  const select = make("select", { class: "collapse-select" }, line);
  for (const M of depths) make("option", { value: M, text: M }, select);
  select.addEventListener("change", () => change({ depth: Number(select.value) }));

  // Turning: one view for both drawings.
  for (const svg of [means, rows]) {
    let last = null;
    draggable(svg, (x, y) => {
      if (last) turn(last[0] - x, y - last[1]);
      last = [x, y];
    });
    for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, () => { last = null; });
    svg.setAttribute("tabindex", "0");
    svg.addEventListener("pointerdown", () => svg.focus({ preventScroll: true }));
    svg.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: [6, 0], ArrowRight: [-6, 0], ArrowUp: [0, 6], ArrowDown: [0, -6] }[event.key];
      if (!by) return;
      event.preventDefault();
      turn(...by);
    });
  }
  const LEFT = 34, WIDE = 296, HIGH = 140, X = (power) => LEFT + ((power - COLLAPSE_DECAYS[0]) / (COLLAPSE_DECAYS[1] - COLLAPSE_DECAYS[0])) * WIDE;
  const Y = (logit) => 154 - HIGH * logit;
  draggable(chart, (x) => {
    const share = Math.max(0, Math.min(1, (x - LEFT) / WIDE)), [low, high] = COLLAPSE_DECAYS;
    change({ decay: 10 ** (Math.round(100 * (low + share * (high - low))) / 100) });
  });

  function turn(right, up) {
    change({ azimuth: (state.azimuth + right + 360) % 360, elevation: Math.max(-85, Math.min(85, state.elevation + up)) });
  }

  function change(update) {
    Object.assign(state, update);
    sizes.forEach((set, k) => set(state.counts[k], state.counts[k]));
    setDecay(Math.log10(state.decay), state.decay);
    select.value = state.depth;
    const found = collapseSolution(state.counts, state.decay, state.depth);
    drawArrows(means, found.h2, "h̄");
    drawArrows(rows, found.w2, "w");
    if ("azimuth" in update) return; // turning the view changes no number
    drawBars(found);
    drawChart(found);
    drawTable(found);
    tell(found);
  }

  // Arrows along three axes at right angles, the longest of them at full length; the farthest is drawn first.
  function drawArrows(svg, squares, name) {
    const a = state.azimuth * RADIANS, e = state.elevation * RADIANS, longest = Math.sqrt(Math.max(...squares)) || 1;
    const right = [-Math.sin(a), Math.cos(a), 0], up = [-Math.sin(e) * Math.cos(a), -Math.sin(e) * Math.sin(a), Math.cos(e)];
    const towards = [Math.cos(e) * Math.cos(a), Math.cos(e) * Math.sin(a), Math.sin(e)];
    const place = (k, length) => [centre[0] + 62 * length * right[k], centre[1] - 62 * length * up[k]];
    const lengths = squares.map((s) => Math.sqrt(s) / longest);
    svg.replaceChildren();
    make("svg:polygon", { points: classes.map((k) => place(k, lengths[k]).map((v) => v.toFixed(1)).join(",")).join(" "), class: "collapse-face" }, svg);
    for (const k of [...classes].sort((i, j) => towards[i] - towards[j])) {
      const [x, y] = place(k, lengths[k]), [fx, fy] = place(k, 1.05), kind = `collapse-${k}`;
      make("svg:line", { x1: centre[0], y1: centre[1], x2: fx, y2: fy, class: "thin" }, svg);
      const flat = Math.hypot(x - centre[0], y - centre[1]), dead = lengths[k] === 0;
      if (!dead) make("svg:line", { x1: centre[0], y1: centre[1], x2: x, y2: y, class: `collapse-arrow ${kind}` }, svg);
      if (flat > 9) {
        const u = [(x - centre[0]) / flat, (y - centre[1]) / flat], back = [x - 9 * u[0], y - 9 * u[1]];
        const corners = [[x, y], [back[0] - 5 * u[1], back[1] + 5 * u[0]], [back[0] + 5 * u[1], back[1] - 5 * u[0]]];
        make("svg:polygon", { points: corners.map((c) => c.map((v) => v.toFixed(1)).join(",")).join(" "), class: `collapse-head ${kind}` }, svg);
      }
      const [tx, ty] = place(k, Math.max(0.5, lengths[k]) + 0.2);
      make("svg:text", { x: Math.max(14, Math.min(156, tx)), y: ty + 4, class: `middle collapse-name ${kind}`, text: `${name}${digit(k)}${dead ? " = 0" : ""}` }, svg);
    }
    make("svg:circle", { cx: centre[0], cy: centre[1], r: 3, class: "collapse-origin" }, svg);
  }

  function drawBars({ logits }) {
    bars.replaceChildren();
    classes.forEach((k) => {
      const y = 6 + 30 * k, dead = logits[k] === 0;
      make("svg:text", { x: 52, y: y + 15, class: `end collapse-name collapse-${k}`, text: `class ${k + 1}` }, bars);
      make("svg:rect", { x: 58, y, width: 170, height: 20, class: "collapse-track" }, bars);
      make("svg:rect", { x: 58, y, width: 170 * logits[k], height: 20, class: `collapse-bar collapse-${k}` }, bars);
      make("svg:text", { x: 234, y: y + 15, text: dead ? "0 · dead" : logits[k].toFixed(3) }, bars);
    });
    for (const [x, text] of [[58, "0"], [228, "1"]]) make("svg:text", { x, y: 108, class: "middle", text }, bars);
  }

  function drawChart({ logits }) {
    const N = state.counts.reduce((a, b) => a + b), [low, high] = COLLAPSE_DECAYS;
    const deaths = state.counts.map((n) => Math.log10(collapseDeath(n, N, state.depth)));
    const powers = Array.from({ length: 121 }, (_, i) => low + ((high - low) * i) / 120);
    for (const d of deaths) powers.push(d - 1e-7, d + 1e-7); // both sides of the jump
    const inside = powers.filter((p) => p >= low && p <= high).sort((p, q) => p - q);
    const all = inside.map((p) => collapseSolution(state.counts, 10 ** p, state.depth).logits), now = Math.log10(state.decay);
    chart.replaceChildren();
    for (const logit of [0, 0.5, 1]) {
      make("svg:line", { x1: LEFT, x2: LEFT + WIDE, y1: Y(logit), y2: Y(logit), class: "grid" }, chart);
      make("svg:text", { x: LEFT - 6, y: Y(logit) + 4, class: "end", text: logit }, chart);
    }
    ["10⁻⁴", "10⁻³", "10⁻²", "10⁻¹"].forEach((text, i) => make("svg:text", { x: X(i - 4), y: 172, class: "middle", text }, chart));
    make("svg:text", { x: LEFT + WIDE / 2, y: 187, class: "middle", text: "weight decay λ" }, chart);
    make("svg:line", { x1: X(now), x2: X(now), y1: Y(0), y2: Y(1), class: "cursor" }, chart);
    for (const k of classes) {
      const points = all.map((each, i) => `${X(inside[i]).toFixed(2)},${Y(each[k]).toFixed(2)}`).join(" ");
      make("svg:polyline", { points, class: `curve collapse-curve collapse-${k}` }, chart);
      make("svg:circle", { cx: X(now), cy: Y(logits[k]), r: 4, class: `collapse-dot collapse-${k}` }, chart);
    }
  }

  function drawTable({ w2, h2, logits }) {
    table.replaceChildren();
    const head = make("tr", {}, make("thead", {}, table)), body = make("tbody", {}, table);
    for (const text of ["class", "samples", "‖w‖²", "‖h̄‖²", "logit"]) make("th", { scope: "col", text }, head);
    for (const k of classes) {
      const row = make("tr", {}, body);
      make("th", { scope: "row", class: `collapse-name collapse-${k}`, text: `${k + 1}` }, row);
      for (const text of [`${state.counts[k]}`, collapseNumber(w2[k]), collapseNumber(h2[k]), logits[k].toFixed(4)]) make("td", { text }, row);
    }
  }

  function tell({ logits, loss, critical }) {
    const dead = classes.filter((k) => logits[k] === 0).map((k) => k + 1);
    const list = dead.length > 1 ? `${dead.slice(0, -1).join(", ")} and ${dead.at(-1)}` : `${dead[0]}`;
    const fate = dead.length ? `Class${dead.length > 1 ? "es" : ""} ${list} ${dead.length > 1 ? "have" : "has"} died.` : "No class has died.";
    says.textContent = `M = ${state.depth}, λ = ${collapseNumber(state.decay)}: a class needs more than ${critical.toFixed(1)} samples to live. `
      + `${fate} Logits ${logits.map((l) => l.toFixed(3)).join(", ")}; loss ${loss.toFixed(4)}.`;
  }

  change({});
}
