// The moving figure of the page "Rotations in practice": a chain of two bodies, and what two networks make of it.
// Loaded after interactive.js, whose helpers it uses and whose list of figures it joins.
"use strict";

FIGURES["marker-chain"] = markerChain;

// Six marker positions (metres) of the chain with joint turns [R0, R1]: body 1 sits half a metre up body 0, and each body
// carries a marker 0.3 m along each of its axes. Returns the two origins and the markers.
function chainPoints([R0, R1]) {
  const column = (M, i) => M.map((row) => row[i]);
  const child = R0.map((row) => [0, 1, 2].map((i) => dot(row, column(R1, i))));
  const origin = scaled(column(R0, 1), 0.5);
  const about = (p, M) => [0, 1, 2].map((i) => p.map((x, k) => x + 0.3 * column(M, i)[k]));
  return { origins: [[0, 0, 0], origin], markers: [...about([0, 0, 0], R0), ...about(origin, child)] };
}

// Weights arrive as signed bytes in base64, one scale per output.
function unpack(layers) {
  return layers.map(({ bytes, scale, bias }) => {
    const text = atob(bytes), raw = Int8Array.from(text, (c) => (c.charCodeAt(0) << 24) >> 24);
    return { raw, scale, bias, width: raw.length / bias.length };
  });
}

function runNetwork(layers, slope, input) {
  return layers.reduce((x, { raw, scale, bias, width }, depth) => bias.map((b, o) => {
    let sum = 0;
    for (let i = 0; i < width; i += 1) sum += raw[o * width + i] * x[i];
    const y = b + scale[o] * sum;
    return depth === layers.length - 1 || y > 0 ? y : slope * y;
  }), input);
}

function choice(parent, label, options, onChange) {
  const row = make("label", { class: "slider" }, parent);
  make("span", { text: label }, row);
  const input = make("select", {}, row);
  options.forEach((text, value) => make("option", { value, text }, input));
  input.addEventListener("change", () => onChange(Number(input.value)));
}

function markerChain(stage, { networks, poses, names, slope, ceiling }) {
  const NAMES = { "6d": "6D", quaternion: "Quaternion" }, codes = Object.keys(NAMES);
  const layers = Object.fromEntries(codes.map((code) => [code, unpack(networks[code])]));
  const state = { pose: 0, body: 0, axis: 2, t: 0 };
  const axes = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];

  const multiply = (A, B) => A.map((row) => [0, 1, 2].map((i) => dot(row, B.map((b) => b[i]))));
  const poseAt = (t) => poses[state.pose].map((R, j) => (j === state.body ? multiply(R, rotation(axes[state.axis], t)) : R));
  function predict(code, points) {
    const y = runNetwork(layers[code], slope, points.markers.flat()), half = y.length / 2;
    return chainPoints([DECODERS[code](y.slice(0, half)), DECODERS[code](y.slice(half))]);
  }
  const apart = (a, b) => 100 * a.markers.reduce((sum, p, i) => sum + Math.hypot(...p.map((x, k) => x - b.markers[i][k])), 0) / 6;

  const top = make("div", { class: "panels" }, stage);
  const views = Object.fromEntries(codes.map((code) =>
    [code, panel(top, NAMES[code], 280, 220, `The true chain in grey and the chain of the ${NAMES[code]} network`)]));
  for (const svg of Object.values(views)) svg.style.maxWidth = "22rem";
  const width = Math.max(300, Math.min(560, stage.clientWidth - 20)), right = width - 15; // letters stay legible on a phone
  const chart = panel(stage, "Mean marker error in centimetres along the turn (drag)", width, 190, "Two error curves against the angle of the turn");
  chart.parentNode.classList.add("panel-wide");
  const controls = make("div", { class: "sliders" }, stage);
  const says = make("p", { class: "numbers", "aria-live": "polite" }, stage);
  const setT = slider(controls, "Turn", [-180, 180, 1], state.t, (v) => change({ t: v }));
  choice(controls, "Pose", names, (v) => change({ pose: v }));
  choice(controls, "Body that turns", ["lower body", "upper body"], (v) => change({ body: v }));
  choice(controls, "About its own axis", ["x", "y", "z"], (v) => change({ axis: v }));
  controls.querySelectorAll("select")[2].value = String(state.axis);
  const X = (t) => 40 + ((t + 180) / 360) * (right - 40), Y = (e) => 160 - (Math.min(e, ceiling) / ceiling) * 145;
  draggable(chart, (x) => change({ t: Math.max(-180, Math.min(180, Math.round(((x - 40) / (right - 40)) * 360 - 180))) }));

  let curves;
  function change(update) {
    Object.assign(state, update);
    if ("t" in update) setT(state.t);
    if (!curves || !("t" in update)) {
      const angles = Array.from({ length: 121 }, (_, i) => 3 * i - 180);
      curves = Object.fromEntries(codes.map((code) => [code, angles.map((t) => {
        const truth = chainPoints(poseAt(t));
        return [t, apart(predict(code, truth), truth)];
      })]));
    }
    draw();
  }

  function drawChain(svg, points, middle, kind, dots) { // seen so that the middle of the true chain stays in the middle
    const place = (p) => project(p.map((x, k) => x - middle[k]), 0, 170).map((x, k) => x + [140, 110][k]);
    const at = points.origins.map(place), tips = points.markers.map(place);
    make("svg:line", { x1: at[0][0], y1: at[0][1], x2: at[1][0], y2: at[1][1], class: kind, style: "stroke-width:6;stroke-dasharray:none" }, svg);
    tips.forEach(([x, y], i) => {
      const [u, v] = at[i < 3 ? 0 : 1];
      make("svg:line", { x1: u, y1: v, x2: x, y2: y, class: kind, style: "stroke-width:2;stroke-dasharray:none" }, svg);
      make("svg:circle", { cx: x, cy: y, r: 4, ...dots }, svg);
    });
  }

  function draw() {
    const truth = chainPoints(poseAt(state.t)), now = {};
    const middle = [0, 1, 2].map((k) => truth.markers.reduce((sum, p) => sum + p[k], 0) / 6);
    for (const code of codes) {
      const guess = predict(code, truth);
      now[code] = apart(guess, truth);
      views[code].replaceChildren();
      drawChain(views[code], truth, middle, "track", { style: "fill:#999" });
      drawChain(views[code], guess, middle, `curve curve-${code}`, { class: `dot-${code}` });
    }
    chart.replaceChildren();
    for (const e of [0, ceiling / 2, ceiling]) {
      make("svg:line", { x1: 40, x2: right, y1: Y(e), y2: Y(e), class: "grid" }, chart);
      make("svg:text", { x: 34, y: Y(e) + 4, class: "end", text: e }, chart);
    }
    for (const t of [-180, -90, 0, 90, 180]) make("svg:text", { x: X(t), y: 178, class: "middle", text: `${t}°` }, chart);
    make("svg:line", { x1: X(state.t), x2: X(state.t), y1: Y(0), y2: Y(ceiling), class: "cursor" }, chart);
    codes.forEach((code, k) => {
      const points = curves[code].map(([t, e]) => `${X(t).toFixed(1)},${Y(e).toFixed(1)}`).join(" ");
      make("svg:polyline", { points, class: `curve curve-${code}` }, chart);
      make("svg:circle", { cx: X(state.t), cy: Y(now[code]), r: 4, class: `dot-${code}` }, chart);
      make("svg:text", { x: 50 + 110 * k, y: 12, class: `key-${code}`, text: NAMES[code] }, chart);
    });
    const worst = (code) => Math.max(...curves[code].map((c) => c[1])).toFixed(0);
    says.textContent = `Turn ${state.t}°: the 6D network misses the markers by ${now["6d"].toFixed(1)} cm, the quaternion network by `
      + `${now.quaternion.toFixed(1)} cm. Worst on this turn: 6D ${worst("6d")} cm, quaternion ${worst("quaternion")} cm.`;
  }

  change({});
}
