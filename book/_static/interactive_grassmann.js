// The moving figure of the page on classes as subspaces: three classes in space, each a line or a plane through the
// origin, and a feature of length one whose longest shadow names its class. Loaded after interactive.js, whose helpers
// it uses and whose list of figures it joins.
//
// Data: {
//   "bases": {"three lines": [S0, S1, S2], ...}   the choices of the menu, in this order; each S is 3 x k, k = 1 or 2,
//                                                 as a list of three rows, its columns orthonormal: S.tolist()
//   "names": ["class 0", "class 1", "class 2"]    short, they stand in the drawings
//   "scale": 25                                   the logit is scale * |S^T u|
//   "start": {"azimuth": 35, "elevation": 40}     of u, in degrees: u = (cos e cos a, cos e sin a, sin e)
// }
// The third class can be tilted towards the second, by a rotation, until one contains the other.
"use strict";

FIGURES["class-subspaces"] = grassFigure;

// ---- subspaces of R^3: a basis is a list of k orthonormal columns --------------------------------------------------

const grassSum = (vectors) => vectors.reduce((a, b) => a.map((x, i) => x + b[i]));
const grassColumns = (S) => { // orthonormal again, as the page's numbers are rounded
  const [a, b] = S[0].map((_, j) => S.map((row) => row[j])), first = unit(a);
  return b ? [first, unit(grassSum([b, scaled(first, -dot(first, b))]))] : [first];
};
const grassShadow = (basis, u) => grassSum(basis.map((s) => scaled(s, dot(s, u)))); // S S^T u
const grassLength = (basis, u) => Math.hypot(...basis.map((s) => dot(s, u))); // |S^T u|
const grassOverlap = (A, B) => A.flatMap((a) => B.map((b) => dot(a, b) ** 2)).reduce((x, y) => x + y); // |A^T B|^2
const grassTurned = (R, basis) => basis.map((s) => R.map((row) => dot(row, s)));

// The rotation that takes A into B, or until it contains B, on the shortest way: axis and degrees. In space there is
// only one angle to close: between two lines, two planes (their normals), or a line and its shadow on the plane.
function grassWay(A, B) {
  let a = A[0], b = B[0];
  if (A.length === 2 && B.length === 2) [a, b] = [cross(...A), cross(...B)];
  else if (A.length === 2) a = grassShadow(A, b);
  else if (B.length === 2) b = grassShadow(B, a);
  const sign = dot(a, b) < 0 ? -1 : 1, axis = cross(a, scaled(b, sign)), sine = Math.hypot(...axis);
  return { axis: sine > 1e-9 ? unit(axis) : [0, 0, 1], degrees: Math.atan2(sine, sign * dot(a, b)) / RADIANS };
}

function grassDirection(azimuth, elevation) {
  const a = azimuth * RADIANS, e = elevation * RADIANS;
  return [Math.cos(e) * Math.cos(a), Math.cos(e) * Math.sin(a), Math.sin(e)];
}

// ---- drawing -------------------------------------------------------------------------------------------------------

// Seen from here, without perspective: x right, y up, z towards the reader.
const GRASS_EYE = grassDirection(28, 24), GRASS_RIGHT = unit(cross([0, 0, 1], GRASS_EYE));
const GRASS_VIEW = [GRASS_RIGHT, cross(GRASS_EYE, GRASS_RIGHT), GRASS_EYE];
const GRASS_BALL = { size: 280, centre: 140, radius: 116 };
const GRASS_ROWS = 110; // of the picture of regions
let grassFigures = 0; // on this page: names of patterns must differ

function grassRow(parent, label) {
  const row = make("label", { class: "slider" }, parent);
  make("span", { text: label }, row);
  return row;
}

// A fill for each class: plain, hatched, dotted, so that the colour is not the only sign.
function grassFills(svg, figure) {
  const defs = make("svg:defs", {}, svg), kind = svg.dataset.fills;
  return [0, 1, 2].map((k) => {
    const id = `grass-${figure}-${kind}-${k}`;
    const square = { width: 7, height: 7 };
    const tile = make("svg:pattern", { id, ...square, patternUnits: "userSpaceOnUse", class: `grass-${k}` }, defs);
    make("svg:rect", { ...square, class: "grass-tint" }, tile);
    if (k === 1) make("svg:path", { d: "M-1,1 L1,-1 M0,7 L7,0 M6,8 L8,6", class: "grass-mark" }, tile);
    if (k === 2) make("svg:circle", { cx: 3.5, cy: 3.5, r: 1.2, class: "grass-point" }, tile);
    return `url(#${id})`;
  });
}

function grassFigure(stage, { bases, names, scale, start }) {
  const figure = (grassFigures += 1), choices = Object.keys(bases);
  const sets = Object.fromEntries(choices.map((choice) => [choice, bases[choice].map(grassColumns)]));
  const state = { choice: choices[0], tilt: 0, ...start };
  const degrees = (v) => `${Math.round(v)}°`.replace("-", "−");

  const top = make("div", { class: "panels panels-grass" }, stage), { size } = GRASS_BALL;
  const ball = panel(top, "Drag u: its shadows on the three classes", size, size,
    "The unit sphere with three classes, the feature u and its shadows");
  const map = panel(top, "Which class wins where (drag u)", size, size,
    "The near half of the sphere, divided into the regions of the three classes");
  const below = make("div", { class: "panels panels-grass" }, stage);
  const chart = panel(below, `Logit ${scale} · ‖Sᵀu‖ and softmax probability`, 400, 104,
    "Bars of logits and probabilities");
  map.dataset.fills = "map"; chart.dataset.fills = "chart";

  const controls = make("div", { class: "sliders" }, stage);
  const select = make("select", { class: "grass-select" }, grassRow(controls, "Classes"));
  for (const choice of choices) make("option", { value: choice, text: choice }, select);
  select.addEventListener("change", () => change({ choice: select.value, tilt: 0 }));
  const setters = {
    tilt: shownSlider(controls, `${names[2]} towards ${names[1]}`, [0, 100, 1], (v) => degrees((v / 100) * way.degrees),
      (tilt) => change({ tilt })),
    azimuth: shownSlider(controls, "u: azimuth", [-180, 180, 1], degrees, (azimuth) => change({ azimuth })),
    elevation: shownSlider(controls, "u: elevation", [-90, 90, 1], degrees, (elevation) => change({ elevation })),
    choice: (choice) => { select.value = choice; },
  };
  const flip = make("button", { type: "button", class: "grass-button", text: "Turn u into −u" }, controls);
  flip.addEventListener("click", () => change({
    azimuth: state.azimuth > 0 ? state.azimuth - 180 : state.azimuth + 180, elevation: -state.elevation,
  }));
  const says = make("p", { class: "numbers", "aria-live": "polite" }, stage);

  const { centre, radius } = GRASS_BALL;
  const seen = (p) => GRASS_VIEW.map((axis) => dot(axis, p)); // right, up, towards the reader
  const place = (p) => { const [x, y] = seen(p); return [centre + radius * x, centre - radius * y]; };
  for (const svg of [ball, map]) {
    draggable(svg, (px, py) => {
      let x = (px - centre) / radius, y = (centre - py) / radius;
      const r = Math.hypot(x, y);
      if (r > 1) { x /= r; y /= r; }
      const parts = [x, y, Math.sqrt(Math.max(0, 1 - x * x - y * y))];
      const u = grassSum(parts.map((part, i) => scaled(GRASS_VIEW[i], part)));
      change({
        azimuth: Math.round(Math.atan2(u[1], u[0]) / RADIANS),
        elevation: Math.round(Math.asin(Math.max(-1, Math.min(1, u[2]))) / RADIANS),
      });
    });
  }

  let classes, way;
  const lengths = (u) => classes.map((basis) => grassLength(basis, u));
  const winners = (u) => { // more than one where shadows are equally long
    const all = lengths(u), most = Math.max(...all) - 1e-9;
    return [0, 1, 2].filter((k) => all[k] > most);
  };
  const winner = (u) => winners(u)[0];

  function change(update) {
    Object.assign(state, update);
    if (!classes || "choice" in update || "tilt" in update) {
      const [first, second, third] = sets[state.choice];
      way = grassWay(third, second);
      classes = [first, second, grassTurned(rotation(way.axis, (state.tilt / 100) * way.degrees), third)];
      drawMap();
    }
    for (const key of Object.keys(update)) setters[key](state[key]);
    draw();
  }

  const line = (svg, [x1, y1], [x2, y2], kind) => make("svg:line", { x1, y1, x2, y2, class: kind }, svg);
  const circle = (svg, [cx, cy], r, kind) => make("svg:circle", { cx, cy, r, class: kind }, svg);
  const outline = (svg, points, kind) => make("svg:polyline", {
    points: points.map((p) => place(p).map((x) => x.toFixed(1)).join(",")).join(" "), class: kind,
  }, svg);

  // Half of a great circle from where it comes out of the rim, in front of the ball; the other half is its mirror image.
  function halfCircle([a, b]) {
    const [za, zb] = [a, b].map((p) => dot(GRASS_EYE, p)), top = Math.atan2(zb, za);
    return Array.from({ length: 61 }, (_, i) => {
      const t = top - Math.PI / 2 + (Math.PI * i) / 60;
      return grassSum([scaled(a, Math.cos(t)), scaled(b, Math.sin(t))]);
    });
  }

  // A class on the ball: its front in full, its back pale (or left out), and its name beside it.
  function drawClass(svg, k, back) {
    const basis = classes[k], kind = `curve grass-line grass-${k}`;
    let at;
    if (basis.length === 2) {
      const half = halfCircle(basis), other = half.map((p) => scaled(p, -1)), end = k === 1 ? half[0] : half[60];
      if (back) {
        outline(svg, [...half, ...other], `grass-disc grass-${k}`);
        outline(svg, other, `${kind} grass-back`);
      }
      outline(svg, half, kind);
      at = place(scaled(end, 1.11));
    } else {
      const [s] = basis, near = dot(GRASS_EYE, s) < 0 ? scaled(s, -1) : s, far = scaled(near, -1);
      if (back) {
        line(svg, place(far), place([0, 0, 0]), `${kind} grass-back`);
        line(svg, place([0, 0, 0]), place(near), kind);
        circle(svg, place(far), 5, `grass-end grass-back grass-${k}`);
      }
      circle(svg, place(near), 6, `grass-end grass-${k}`);
      at = [place(near)[0], place(near)[1] - 16];
    }
    const x = Math.max(24, Math.min(size - 24, at[0]));
    make("svg:text", { x, y: at[1] + 4, class: `middle grass-name grass-${k}`, text: names[k] }, svg);
  }

  // The regions, each one path of many thin bands; where a band changes hands is found by halving. The feature is drawn
  // over them later.
  let over;
  function drawMap() {
    const paths = ["", "", ""], thick = 2 / GRASS_ROWS;
    for (let row = 0; row < GRASS_ROWS; row += 1) {
      const y = 1 - (row + 0.5) * thick, half = Math.sqrt(1 - y * y), cells = Math.ceil(50 * half);
      const at = (x) => {
        const z = Math.sqrt(Math.max(0, 1 - x * x - y * y));
        return winner(GRASS_EYE.map((_, i) => x * GRASS_VIEW[0][i] + y * GRASS_VIEW[1][i] + z * GRASS_VIEW[2][i]));
      };
      const band = (k, from, to) => {
        const corner = [centre + radius * from, centre - radius * (y + thick / 2)].map((v) => v.toFixed(2));
        paths[k] += `M${corner}h${(radius * (to - from)).toFixed(2)}v${(radius * thick).toFixed(2)}H${corner[0]}z`;
      };
      let from = -half, holder = at(from);
      for (let cell = 1; cell <= cells; cell += 1) {
        let low = half * ((2 * (cell - 1)) / cells - 1), high = half * ((2 * cell) / cells - 1);
        const next = at(high);
        if (next === holder) continue;
        for (let round = 0; round < 5; round += 1) {
          const middle = (low + high) / 2;
          if (at(middle) === holder) low = middle; else high = middle;
        }
        band(holder, from, high);
        from = high; holder = next;
      }
      band(holder, from, half);
    }
    map.replaceChildren();
    const fills = grassFills(map, figure);
    paths.forEach((d, k) => make("svg:path", { d, fill: fills[k], class: "grass-cells" }, map));
    circle(map, [centre, centre], radius, "track");
    for (const k of [0, 1, 2]) drawClass(map, k, false);
    over = make("svg:g", {}, map);
  }

  function drawBall(u) {
    const origin = place([0, 0, 0]), tip = place(u), behind = dot(GRASS_EYE, u) < 0;
    ball.replaceChildren();
    circle(ball, [centre, centre], radius, "grass-ball");
    for (const k of [0, 1, 2]) drawClass(ball, k, true);
    classes.forEach((basis, k) => {
      const shadow = place(grassShadow(basis, u));
      line(ball, tip, shadow, "level");
      line(ball, origin, shadow, `grass-shadow grass-${k}`);
      circle(ball, shadow, 4, `grass-end grass-${k}`);
    });
    line(ball, origin, tip, "grass-u");
    circle(ball, origin, 2.5, "grass-origin");
    circle(ball, tip, 10, behind ? "handle behind" : "handle");
    make("svg:text", { x: tip[0], y: tip[1] + 4, class: behind ? "middle" : "middle on-handle", text: "u" }, ball);
    over.replaceChildren(); // a point behind has its opposite in front
    const [x, y] = place(behind ? scaled(u, -1) : u);
    circle(over, [x, y], 10, behind ? "handle behind" : "handle");
    make("svg:text", { x, y: y + 4, class: behind ? "middle" : "middle on-handle", text: behind ? "−u" : "u" }, over);
  }

  function drawChart(logits, shares, best) {
    const X = (value, most, from) => ({ x: from, width: Math.max(0.5, (105 * value) / most) });
    chart.replaceChildren();
    const fills = grassFills(chart, figure);
    make("svg:text", { x: 70, y: 11, text: `logit, at most ${scale}` }, chart);
    make("svg:text", { x: 240, y: 11, text: "probability" }, chart);
    names.forEach((name, k) => {
      const y = 18 + 28 * k, kind = `grass-bar grass-${k}`, bold = best.includes(k) ? " grass-best" : "";
      make("svg:text", { x: 62, y: y + 15, class: `end grass-name grass-${k}`, text: name }, chart);
      for (const x of [70, 240]) make("svg:rect", { x, y, width: 105, height: 20, class: "grass-track" }, chart);
      make("svg:rect", { ...X(logits[k], scale, 70), y, height: 20, fill: fills[k], class: kind }, chart);
      make("svg:rect", { ...X(shares[k], 1, 240), y, height: 20, fill: fills[k], class: kind }, chart);
      make("svg:text", { x: 181, y: y + 15, class: bold, text: logits[k].toFixed(2) }, chart);
      const mark = best.includes(k) ? " ◂" : "";
      make("svg:text", { x: 351, y: y + 15, class: bold, text: shares[k].toFixed(3) + mark }, chart);
    });
  }

  function draw() {
    const u = grassDirection(state.azimuth, state.elevation), logits = lengths(u).map((length) => scale * length);
    const best = winners(u), raised = logits.map((l) => Math.exp(l - Math.max(...logits)));
    const shares = raised.map((r) => r / raised.reduce((a, b) => a + b));
    drawBall(u); drawChart(logits, shares, best);
    const [, second, third] = classes, most = Math.min(second.length, third.length);
    const who = `${best.map((k) => names[k]).join(" and ")} ${best.length > 1 ? "tie" : "wins"}`;
    const opposite = `${winners(scaled(u, -1))}` === `${best}` ? "−u gets the same" : "−u gets another";
    const shadows = names.map((name, k) => `${name} ${(logits[k] / scale).toFixed(3)}`).join(", ");
    says.textContent = `u at azimuth ${degrees(state.azimuth)}, elevation ${degrees(state.elevation)}: ${who} with `
      + `probability ${shares[best[0]].toFixed(3)}; ${opposite}. Lengths of the shadows: ${shadows}. `
      + `Overlap ‖SᵀT‖² of ${names[1]} and ${names[2]}: ${grassOverlap(second, third).toFixed(3)} of at most ${most}, `
      + `with ${degrees((1 - state.tilt / 100) * way.degrees)} between them.`;
  }

  change({ ...state });
}
