// The moving figure of the page on what limits of width predict: test and train error of ridge regression on random
// features, for power-law spectra, from the two equations for kappa and gamma. Loaded after interactive.js, whose helpers it
// uses and whose list of figures it joins.
//
// Data: {
//   "modes": 200, "alpha": 1.5, "beta": 1.5    eigenvalues i^-alpha, squared coefficients i^-beta
//   "n": 60, "k": 100, "ridge": 0.001, "noise": 0.1    where the sliders start: n 10 to 150, k 10 to 1000, ridge 1e-4 to 10, noise 0 to 1
//   "cases": [...]    values to compare with, for tests: n, k, ridge, noise, test, train, kappa, gamma
// }
"use strict";

FIGURES["width"] = widthFigure;

// Eigenvalues and squared coefficients.
function widthSpectrum(modes, alpha, beta) {
  const places = Array.from({ length: modes }, (_, i) => i + 1);
  return { lam: places.map((i) => i ** -alpha), squares: places.map((i) => i ** -beta) };
}

// gamma rises while samples and features cannot pay for what lies above it; ridge > 0.
function widthRisk({ lam, squares }, n, k, ridge, noise, rounds = 56) {
  const least = Math.min(n, k), total = lam.reduce((a, b) => a + b);
  const above = (gamma) => { let z = 0; for (const l of lam) z += l / (l + gamma); return z; };
  let high = Math.log((2 * total) / least + (4 * ridge) / n), low = high - 90;
  for (let round = 0; round < rounds; round += 1) {
    const middle = (low + high) / 2, gamma = Math.exp(middle), z = above(gamma);
    if (z >= least || z + ridge / (gamma * (1 - z / k)) > n) low = middle; else high = middle;
  }
  const gamma = Math.exp((low + high) / 2), z = above(gamma), kappa = (gamma * (k - z)) / k;
  let q = 0, kept = 0, bent = 0;
  lam.forEach((l, i) => {
    const share = l / (l + gamma);
    q += share ** 2;
    kept += (1 - share) * squares[i];
    bent += (share ** 2 / l) * squares[i];
  });
  const test = (kept - ((kappa * k) / (k - q)) * bent + noise) / (1 - (q * (k - 2 * z) + z * z) / (n * (k - q)));
  return { test, train: (1 - z / n) ** 2 * test, kappa, gamma };
}

const WIDTH_RIDGES = Array.from({ length: 16 }, (_, i) => 10 ** (-4 + i / 3)); // among which the thin curve takes the best

function widthBest(spectrum, n, k, noise) {
  return Math.min(...WIDTH_RIDGES.map((ridge) => widthRisk(spectrum, n, k, ridge, noise, 40).test));
}

function widthFigure(stage, { modes, alpha, beta, n, k, ridge, noise }) {
  const spectrum = widthSpectrum(modes, alpha, beta), state = { n, k, ridge, noise };
  const chart = panel(make("div", { class: "panels panels-width" }, stage), "Error against features (drag)", 360, 232,
    "Predicted test error, train error, and test error at the best ridge, against the number of features");
  const controls = make("div", { class: "sliders" }, stage);
  const says = make("p", { class: "numbers", "aria-live": "polite" }, stage);
  const plain = (v) => (v >= 0.01 ? `${Number(v.toPrecision(2))}` : v.toFixed(5).replace(/0+$/, ""));
  const setters = {
    n: shownSlider(controls, "Samples n", [10, 150, 5], (v) => `${v}`, (v) => change({ n: v })),
    k: shownSlider(controls, "Features k", [1, 3, 0.02], (v) => `${v}`, (v) => change({ k: Math.round(10 ** v) })),
    ridge: shownSlider(controls, "Ridge δ", [-4, 1, 0.1], plain, (v) => change({ ridge: 10 ** v })),
    noise: shownSlider(controls, "Noise σ²", [0, 1, 0.05], (v) => v.toFixed(2), (v) => change({ noise: v })),
  };
  const LEFT = 34, RIGHT = 348, TOP = 10, BOTTOM = 188, POWERS = Array.from({ length: 121 }, (_, i) => 1 + i / 60);
  const X = (power) => LEFT + ((power - 1) / 2) * (RIGHT - LEFT);
  let thin = null;
  draggable(chart, (x) => change({ k: Math.round(10 ** Math.max(1, Math.min(3, 1 + (2 * (x - LEFT)) / (RIGHT - LEFT)))) }));

  function change(update) {
    Object.assign(state, update);
    setters.n(state.n, state.n);
    setters.k(Math.log10(state.k), state.k);
    setters.ridge(Math.log10(state.ridge), state.ridge);
    setters.noise(state.noise, state.noise);
    if (!thin || "n" in update || "noise" in update) { // the best ridge depends on neither ridge nor place
      thin = POWERS.filter((_, i) => i % 6 === 0).map((p) => [p, widthBest(spectrum, state.n, 10 ** p, state.noise)]);
    }
    draw();
    tell();
  }

  function draw() {
    const all = POWERS.map((p) => [p, widthRisk(spectrum, state.n, 10 ** p, state.ridge, state.noise)]);
    const now = widthRisk(spectrum, state.n, state.k, state.ridge, state.noise);
    const top = 1.5 + 2 * state.noise, Y = (error) => BOTTOM - (Math.min(error, top) / top) * (BOTTOM - TOP);
    const line = (points, kind) => { // what lies above the frame is left out
      const runs = [[]];
      for (const [p, error] of points) {
        if (error <= top) runs.at(-1).push(`${X(p).toFixed(1)},${Y(error).toFixed(1)}`);
        else if (runs.at(-1).length) runs.push([]);
      }
      for (const run of runs) make("svg:polyline", { points: run.join(" "), class: `curve ${kind}` }, chart);
    };
    chart.replaceChildren();
    for (let error = 0; error <= top; error += 0.5) {
      make("svg:line", { x1: LEFT, x2: RIGHT, y1: Y(error), y2: Y(error), class: "grid" }, chart);
      make("svg:text", { x: LEFT - 5, y: Y(error) + 4, class: "end", text: error.toFixed(1) }, chart);
    }
    for (const size of [10, 30, 100, 300, 1000]) make("svg:text", { x: Math.min(RIGHT - 10, X(Math.log10(size))), y: BOTTOM + 17, class: "middle", text: size }, chart);
    make("svg:text", { x: (LEFT + RIGHT) / 2, y: BOTTOM + 36, class: "middle", text: "features k" }, chart);
    const equal = X(Math.log10(state.n));
    make("svg:line", { x1: equal, x2: equal, y1: TOP, y2: BOTTOM, class: "cursor" }, chart);
    line(thin, "width-best");
    line(all.map(([p, risk]) => [p, risk.train]), "width-train");
    line(all.map(([p, risk]) => [p, risk.test]), "width-test");
    make("svg:circle", { cx: X(Math.log10(state.k)), cy: Y(now.test), r: 5, class: "width-dot" }, chart);
    [["test", all[120][1].test, -6], ["train", all[120][1].train, -6]].forEach(([text, error, up]) =>
      make("svg:text", { x: RIGHT, y: Y(error) + up, class: "end width-key", text }, chart));
  }

  function tell() {
    const now = widthRisk(spectrum, state.n, state.k, state.ridge, state.noise), best = widthBest(spectrum, state.n, state.k, state.noise);
    says.textContent = `n = ${state.n}, k = ${state.k}: test error ${now.test.toFixed(3)}, train error ${now.train.toFixed(3)}; `
      + `at the best ridge (thin curve) ${best.toFixed(3)}. Directions above γ = ${now.gamma.toPrecision(3)} are learned. Dashed: k = n.`;
  }

  change({});
}
