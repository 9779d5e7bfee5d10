// The moving figure of the page "How far back should a covariance look?": a signal against its own past, for five classes.
// Loaded after interactive.js, whose helpers it uses and whose list of figures it joins.
"use strict";

FIGURES["delay-ellipses"] = delayEllipses;

// The covariance [[1, r], [r, 1]] as the curve of points at distance one: half axes sqrt(1 + r) and sqrt(1 - r), turned by 45 degrees.
function delayOutline(r, scale, centre) {
  const long = Math.sqrt(1 + r) / Math.SQRT2, short = Math.sqrt(1 - r) / Math.SQRT2;
  return Array.from({ length: 73 }, (_, i) => {
    const u = Math.cos((i * Math.PI) / 36), v = Math.sin((i * Math.PI) / 36);
    return [centre[0] + scale * (long * u - short * v), centre[1] - scale * (long * u + short * v)].map((x) => x.toFixed(1)).join(",");
  }).join(" ");
}

function delayRow(parent, label) {
  const row = make("label", { class: "slider" }, parent);
  make("span", { text: label }, row);
  return row;
}

function delayEllipses(stage, { correlations, frequencies, channel, lag, rate }) {
  const state = { lag, channel }, lags = correlations[0][0].length - 1, classes = frequencies.map((_, k) => k);
  const rho = (k, l) => correlations[k][state.channel][l];

  const top = make("div", { class: "panels panels-spd" }, stage);
  const plane = panel(top, "The signal now and its past", 250, 230, "One ellipse for each class, in the plane of the signal now and the signal some samples ago");
  const chart = panel(top, "Correlation with the past (drag)", 330, 230, "Five curves of correlation against the lag, with a cursor");
  const key = make("p", { class: "delay-key" }, stage);
  classes.forEach((k) => {
    const entry = make("span", { class: `delay-${k}` }, key), line = make("svg:svg", { viewBox: "0 0 36 8", class: "key", "aria-hidden": "true" }, entry);
    make("svg:line", { x1: 0, x2: 36, y1: 4, y2: 4, class: "curve delay-line" }, line);
    entry.append(`${frequencies[k]} Hz`);
  });
  const controls = make("div", { class: "sliders" }, stage);
  const says = make("p", { class: "numbers", "aria-live": "polite" }, stage);

  const row = delayRow(controls, "Lag (samples)");
  const input = make("input", { type: "range", min: 0, max: lags, step: 1, value: lag }, row), shown = make("output", { text: lag }, row);
  input.addEventListener("input", () => change({ lag: Number(input.value) }));
  const select = make("select", {}, delayRow(controls, "Channel"));
  correlations[0].forEach((_, c) => make("option", { value: c, text: `channel ${c + 1}` }, select));
  select.value = String(channel);
  select.addEventListener("change", () => change({ channel: Number(select.value) }));
  const X = (l) => 40 + (l / lags) * 275, Y = (r) => 142 - 124 * Math.max(r, -0.5); // from -0.5 to 1
  draggable(chart, (x) => change({ lag: Math.max(0, Math.min(lags, Math.round(((x - 40) / 275) * lags))) }));

  function change(update) {
    Object.assign(state, update);
    input.value = state.lag;
    shown.textContent = state.lag;
    draw();
  }

  function draw() {
    plane.replaceChildren();
    chart.replaceChildren();
    make("svg:line", { x1: 20, x2: 230, y1: 110, y2: 110, class: "grid" }, plane);
    make("svg:line", { x1: 125, x2: 125, y1: 10, y2: 210, class: "grid" }, plane);
    make("svg:text", { x: 125, y: 226, class: "middle", text: `${state.lag} sample${state.lag === 1 ? "" : "s"} ago →` }, plane);
    make("svg:text", { x: 12, y: 110, class: "middle", transform: "rotate(-90 12 110)", text: "now →" }, plane);
    for (const r of [-0.5, 0, 0.5, 1]) {
      make("svg:line", { x1: 40, x2: 315, y1: Y(r), y2: Y(r), class: "grid" }, chart);
      make("svg:text", { x: 34, y: Y(r) + 4, class: "end", text: r }, chart);
    }
    for (const l of [0, 10, 20, 30, 40]) make("svg:text", { x: X(l), y: 220, class: "middle", text: l }, chart);
    make("svg:line", { x1: X(state.lag), x2: X(state.lag), y1: Y(-0.5), y2: Y(1), class: "cursor" }, chart);
    classes.forEach((k) => {
      const points = correlations[k][state.channel].map((r, l) => `${X(l).toFixed(1)},${Y(r).toFixed(1)}`).join(" ");
      make("svg:polyline", { points, class: `curve delay-line delay-${k}` }, chart);
      make("svg:circle", { cx: X(state.lag), cy: Y(rho(k, state.lag)), r: 3.5, class: `delay-dot delay-${k}` }, chart);
      make("svg:polygon", { points: delayOutline(Math.max(-1, Math.min(1, rho(k, state.lag))), 88, [125, 110]), class: `curve delay-line delay-${k}` }, plane);
    });
    const now = classes.map((k) => rho(k, state.lag)), low = Math.min(...now), high = Math.max(...now);
    const conditions = now.map((r) => (1 + Math.abs(r)) / (1 - Math.abs(r))).sort((a, b) => a - b);
    const condition = state.lag === 0 ? "infinite: the matrix is singular" : conditions[2].toFixed(1);
    says.textContent = `Lag ${state.lag} (${((1000 * state.lag) / rate).toFixed(0)} ms), channel ${state.channel + 1}: correlations from ${low.toFixed(2)} `
      + `(${frequencies[now.indexOf(low)]} Hz) to ${high.toFixed(2)} (${frequencies[now.indexOf(high)]} Hz). Condition number in the middle class: ${condition}.`;
  }

  change({});
}
