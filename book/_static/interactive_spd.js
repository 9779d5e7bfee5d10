// The moving figure of the page on covariances that stay positive: the cone of 2x2 covariances, three paths from one to
// another, and the ellipses on the way. Loaded after interactive.js, whose helpers it uses and whose list of figures it joins.
"use strict";

FIGURES["spd-cone"] = spdCone;

// ---- symmetric 2x2 matrices ((a, b), (b, c)), written [a, b, c] ----------------------------------------------------

// Eigenvalues, and the direction of the larger one's eigenvector in radians, -pi/2 to pi/2. A product of positive
// eigenvalues is divided, not subtracted, so that the smaller one keeps its digits.
function spdEigen([a, b, c]) {
  const middle = (a + c) / 2, half = Math.hypot((a - c) / 2, b), big = middle + half;
  return { big, small: middle > 0 ? (a * c - b * b) / big : middle - half, angle: Math.atan2(2 * b, a - c) / 2 };
}

function spdFrom({ big, small, angle }) {
  const c = Math.cos(angle), s = Math.sin(angle);
  return [big * c * c + small * s * s, (big - small) * c * s, big * s * s + small * c * c];
}

function spdMap(X, f) { // a function of a matrix acts on its eigenvalues
  const { big, small, angle } = spdEigen(X);
  return spdFrom({ big: f(big), small: f(small), angle });
}

function spdSandwich([p, q, r], [a, b, c]) { // S X S
  const x = p * a + q * b, y = p * b + q * c, z = q * a + r * b, w = q * b + r * c;
  return [x * p + y * q, x * q + y * r, z * q + w * r];
}

const spdBlend = (X, Y, t) => X.map((x, i) => (1 - t) * x + t * Y[i]);
const spdLess = (X, Y) => X.map((x, i) => x - Y[i]);
const spdNorm = ([a, b, c]) => Math.hypot(a, b, b, c);
const spdDeterminant = ([a, b, c]) => a * c - b * b;

// For each metric the path from A to B, a function of t, and the distance; last the straight line.
function spdPaths(A, B) {
  const I = [1, 0, 1], root = spdMap(A, Math.sqrt), inverse = spdMap(A, (x) => 1 / Math.sqrt(x));
  const seen = spdEigen(spdSandwich(inverse, B)); // B as seen from A
  seen.small = spdDeterminant(B) / spdDeterminant(A) / seen.big;
  const aim = (t) => spdSandwich(root, spdFrom({ big: seen.big ** t, small: seen.small ** t, angle: seen.angle }));
  const logs = [A, B].map((X) => spdMap(X, Math.log));
  const T = spdSandwich(inverse, spdMap(spdSandwich(root, B), Math.sqrt)); // the cheapest transport: T A T = B
  const moved = spdSandwich(spdLess(T, I), A);
  return {
    aim: { at: aim, distance: Math.hypot(Math.log(seen.big), Math.log(seen.small)) },
    lem: { at: (t) => spdMap(spdBlend(...logs, t), Math.exp), distance: spdNorm(spdLess(...logs)) },
    bw: { at: (t) => spdSandwich(spdBlend(I, T, t), A), distance: Math.sqrt(Math.max(0, moved[0] + moved[2])) },
    line: { at: (t) => spdBlend(A, B, t), distance: spdNorm(spdLess(A, B)) },
  };
}

// ---- drawing -------------------------------------------------------------------------------------------------------

function spdPower(power) { // of ten
  return power === 0 ? "1" : `10${power === 1 ? "" : String(power).replace("-", "⁻").replace(/\d/g, (d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d])}`;
}

// Three digits; small numbers as 1.2 × 10⁻⁵.
function spdNumber(x) {
  if (x < 1e-12) return "0";
  if (x >= 999.5) return x.toFixed(0);
  if (x >= 0.001) return x.toPrecision(3);
  const [digits, power] = x.toExponential(1).split("e");
  return `${digits} × ${spdPower(Number(power))}`;
}

const SPD_NAMES = { aim: "AIM", lem: "LEM", bw: "BW", line: "straight line" };
const SPD_LIMIT = 50; // of the condition number while dragging: nearer to the rim a hand cannot aim

// A dot whose shape tells the metric too: circle, diamond (smaller, so that the circle shows behind it), triangle.
function spdDot(svg, code, [x, y]) {
  const at = (points) => points.map(([u, v]) => `${x + u},${y + v}`).join(" ");
  if (code === "aim") make("svg:circle", { cx: x, cy: y, r: 7, class: "dot-aim" }, svg);
  if (code === "lem") make("svg:polygon", { points: at([[0, -6], [6, 0], [0, 6], [-6, 0]]), class: "dot-lem" }, svg);
  if (code === "bw") make("svg:polygon", { points: at([[0, -7], [6.5, 5], [-6.5, 5]]), class: "dot-bw" }, svg);
}

function spdCone(stage, data) {
  const codes = Object.keys(SPD_NAMES), metrics = codes.slice(0, 3), ends = ["A", "B"];
  const state = { t: 0.5 };
  for (const end of ends) { // the start matrices exactly, in the coordinates of the sliders
    const { big, small, angle } = spdEigen(data[end]);
    state[end] = { angle: angle / RADIANS, condition: Math.log10(big / small), size: Math.sqrt(big + small) };
  }
  const largest = Math.ceil(11 * Math.max(state.A.size, state.B.size)) / 10, smallest = Math.round(20 * largest) / 100;
  const matrix = ({ angle, condition, size }) => {
    const k = 10 ** condition, share = size ** 2 / (1 + k);
    return spdFrom({ big: k * share, small: share, angle: angle * RADIANS });
  };

  const top = make("div", { class: "panels panels-spd" }, stage);
  const cone = panel(top, "Drag A and B in the cone", 300, 286, "The cone of covariances with the three paths from A to B");
  const view = panel(top, "The ellipses at time t", 260, 260, "Ellipses of A and B, and of the point at time t on each path");
  const below = make("div", { class: "panels panels-spd" }, stage);
  const chart = panel(below, "Determinant against t (log scale, drag)", 300, 170, "The determinant against t on each path");
  const table = make("table", { class: "readout" }, make("div", { class: "panel" }, below));
  const setters = { t: shownSlider(make("div", { class: "sliders" }, stage), "Time t", [0, 1, 0.01], (v) => v.toFixed(2), (t) => change({ t })) };
  const sliders = make("div", { class: "sliders" }, stage);
  for (const end of ends) {
    const group = make("div", { role: "group", "aria-label": `Ellipse ${end}` }, sliders);
    const set = (key) => (v) => change({ [end]: { ...state[end], [key]: v } });
    const of = {
      angle: shownSlider(group, `${end}: long axis`, [-90, 90, 1], (v) => `${Math.round(v)}°`.replace("-", "−"), set("angle")),
      condition: shownSlider(group, `${end}: condition number`, [0, 4, 0.01], (v) => spdNumber(10 ** v), set("condition")),
      size: shownSlider(group, `${end}: size`, [smallest, largest, 0.01], (v) => v.toFixed(2), set("size")),
    };
    setters[end] = (values) => { for (const key of Object.keys(of)) of[key](values[key]); };
  }
  const says = make("p", { class: "numbers", "aria-live": "polite" }, stage);
  make("p", { class: "rule", text: "Size is the root of the trace. Dragging keeps the size and stops at condition number "
    + `${SPD_LIMIT}; the slider goes to 10\u202f000. The beads show the ellipses that lie there: flat on the rim, round in the middle.` }, stage);

  // The cone stands on its tip: the height is the trace a + c, the place at that height is (a - c, 2 b), at most a + c from
  // the middle. Seen from above, so that directions turn as the long axis does, twice as fast.
  const tip = [150, 276], scale = 1 / largest ** 2, across = 132, deep = 54, high = 204;
  const place = ([a, b, c]) => [tip[0] + across * scale * (a - c), tip[1] - scale * (high * (a + c) + deep * 2 * b)];
  let held = null;
  cone.addEventListener("pointerdown", () => { held = null; });
  draggable(cone, (x, y) => {
    const away = (end) => { const [u, v] = place(matrix(state[end])); return Math.hypot(u - x, v - y); };
    held = held || (away("A") <= away("B") ? "A" : "B");
    const trace = scale * state[held].size ** 2, u = (x - tip[0]) / (across * trace), v = (tip[1] - high * trace - y) / (deep * trace);
    const r = Math.min(Math.hypot(u, v), (SPD_LIMIT - 1) / (SPD_LIMIT + 1));
    change({ [held]: { ...state[held], angle: Math.atan2(v, u) / 2 / RADIANS, condition: Math.log10((1 + r) / (1 - r)) } });
  });
  const X = (t) => 40 + 244 * t;
  draggable(chart, (x) => change({ t: Math.round(100 * Math.min(1, Math.max(0, (x - X(0)) / (X(1) - X(0))))) / 100 }));

  let A, B, paths;
  function change(update) {
    Object.assign(state, update);
    for (const key of Object.keys(update)) setters[key](state[key]);
    if (!paths || "A" in update || "B" in update) {
      [A, B] = ends.map((end) => matrix(state[end]));
      paths = spdPaths(A, B);
    }
    draw();
  }

  const line = (svg, [x1, y1], [x2, y2], kind) => make("svg:line", { x1, y1, x2, y2, class: kind }, svg);
  const along = (svg, code, point) => make("svg:polyline", {
    points: Array.from({ length: 121 }, (_, i) => point(i / 120).map((x) => x.toFixed(1)).join(",")).join(" "),
    class: `curve curve-${code}`,
  }, svg);

  function drawCone(now) {
    const middle = (trace) => [tip[0], tip[1] - high * trace];
    const ring = (trace, kind) => {
      const [cx, cy] = middle(trace);
      make("svg:ellipse", { cx, cy, rx: across * trace, ry: deep * trace, class: kind }, cone);
    };
    const down = -deep / high, side = across * Math.sqrt(1 - down * down), edge = tip[1] - high - deep * down;
    cone.replaceChildren();
    make("svg:path", { d: `M${tip} L${tip[0] - side},${edge} A${across},${deep} 0 1 1 ${tip[0] + side},${edge} Z`, class: "cone" }, cone);
    ring(1 / 3, "thin"); ring(2 / 3, "thin"); ring(1, "rim");
    line(cone, tip, middle(1), "thin");
    const dot = ([cx, cy], r, kind) => make("svg:circle", { cx, cy, r, class: kind }, cone);
    for (let angle = 0; angle < 180; angle += 22.5) { // on the rim an ellipse is a stroke
      const [x, y] = place(spdFrom({ big: 1 / scale, small: 0, angle: angle * RADIANS }));
      const dx = 8 * Math.cos(angle * RADIANS), dy = 8 * Math.sin(angle * RADIANS);
      dot([x, y], 11, "bead");
      line(cone, [x - dx, y + dy], [x + dx, y - dy], "needle");
    }
    dot(middle(1), 11, "bead"); dot(middle(1), 6, "needle");
    for (const [end, X] of [["A", A], ["B", B]]) { // the level of the trace, and where on it
      const trace = scale * state[end].size ** 2;
      ring(trace, "level");
      line(cone, middle(trace), place(X), "level");
    }
    for (const code of ["line", ...metrics]) along(cone, code, (t) => place(paths[code].at(t)));
    for (const code of metrics) spdDot(cone, code, place(now[code]));
    for (const [end, X] of [["A", A], ["B", B]]) {
      const [x, y] = place(X);
      dot([x, y], 10, "handle");
      make("svg:text", { x, y: y + 4, class: "middle on-handle", text: end }, cone);
    }
  }

  function drawEllipses(now) {
    const unit = 118 / largest;
    view.replaceChildren();
    line(view, [4, 130], [256, 130], "grid"); line(view, [130, 4], [130, 256], "grid");
    const ellipse = (X, kind) => {
      const { big, small, angle } = spdEigen(X), turn = `translate(130 130) rotate(${-angle / RADIANS})`;
      make("svg:ellipse", { rx: unit * Math.sqrt(big), ry: unit * Math.sqrt(small), transform: turn, class: kind }, view);
      return [unit * Math.sqrt(big), angle];
    };
    for (const [end, X] of [["A", A], ["B", B]]) {
      const [length, angle] = ellipse(X, "end-ellipse");
      make("svg:text", { x: 130 + (length + 9) * Math.cos(angle), y: 134 - (length + 9) * Math.sin(angle), class: "middle", text: end }, view);
    }
    for (const code of metrics) ellipse(now[code], `curve curve-${code}`);
  }

  function drawChart(now) {
    const logs = (code) => Array.from({ length: 41 }, (_, i) => Math.log10(spdDeterminant(paths[code].at(i / 40))));
    const all = codes.flatMap(logs), low = Math.floor(Math.min(...all)), top = Math.max(low + 1, Math.ceil(Math.max(...all)));
    const Y = (x) => 146 - (134 * (Math.log10(x) - low)) / (top - low), every = Math.ceil((top - low) / 4);
    chart.replaceChildren();
    for (let power = low; power <= top; power += every) {
      line(chart, [X(0), Y(10 ** power)], [X(1), Y(10 ** power)], "grid");
      make("svg:text", { x: X(0) - 6, y: Y(10 ** power) + 4, class: "end", text: spdPower(power) }, chart);
    }
    for (const t of [0, 0.5, 1]) make("svg:text", { x: X(t), y: 163, class: "middle", text: `t = ${t}` }, chart);
    line(chart, [X(state.t), 146], [X(state.t), 12], "cursor");
    for (const code of ["line", ...metrics]) along(chart, code, (t) => [X(t), Y(spdDeterminant(paths[code].at(t)))]);
    for (const code of metrics) spdDot(chart, code, [X(state.t), Y(spdDeterminant(now[code]))]);
  }

  function draw() {
    const now = Object.fromEntries(codes.map((code) => [code, paths[code].at(state.t)]));
    drawCone(now); drawEllipses(now); drawChart(now);
    const columns = {
      determinant: (code) => spdNumber(spdDeterminant(now[code])),
      "condition number": (code) => { const { big, small } = spdEigen(now[code]); return spdNumber(big / small); },
      "distance from A to B": (code) => spdNumber(paths[code].distance),
    };
    says.textContent = `At t = ${state.t.toFixed(2)}: ` + Object.entries(columns).map(([name, of]) =>
      `${name} ${codes.map((code) => `${SPD_NAMES[code]} ${of(code)}`).join(", ")}`).join("; ") + ".";
    table.replaceChildren();
    const head = make("tr", {}, make("thead", {}, table)), body = make("tbody", {}, table);
    for (const text of ["", "det", "cond", "d(A, B)"]) make("th", { text, scope: "col" }, head);
    for (const code of codes) {
      const row = make("tr", {}, body), name = make("th", { scope: "row" }, row);
      const key = make("svg:svg", { viewBox: "0 0 40 14", class: "key", "aria-hidden": "true" }, name);
      line(key, [0, 7], [40, 7], `curve curve-${code}`);
      spdDot(key, code, [20, 7]);
      make("span", { text: SPD_NAMES[code] }, name);
      for (const of of Object.values(columns)) make("td", { text: of(code) }, row);
    }
  }

  change({ t: state.t, A: state.A, B: state.B });
}
