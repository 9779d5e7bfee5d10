// The moving figure of the page on width and learning rates: measured loss against the learning rate, one curve a width.
// Under the standard rule the valley moves as the network grows, under maximal update it stands still. Loaded after
// interactive.js, whose helpers it uses and whose list of figures it joins.
//
// Data: {
//   "widths": [32, 64, ...]                        the first is the base width
//   "rates": {"adam": [-13, ...], "sgd": [...]}    log2 of the learning rates
//   "losses": {"adam": {"sp": [[...], ...], "mup": [[...], ...]}, "sgd": ...}   a row a width, null where a run was lost
// }
"use strict";

FIGURES["transfer"] = transferFigure;

const TRANSFER_RULES = { sp: "standard", mup: "maximal update" }, TRANSFER_OPTIMIZERS = { adam: "Adam", sgd: "SGD" };

// Where a curve is lowest.
function transferBest(losses) {
  let best = -1;
  losses.forEach((loss, j) => { if (loss !== null && (best < 0 || loss < losses[best])) best = j; });
  return best;
}

// A network of the k-th width: its best rate, the shift from the narrowest network's in octaves, the loss at both rates and
// their ratio (null where the narrow network's rate does not train).
function transferReading(rates, curves, k) {
  const best = transferBest(curves[k]), narrow = transferBest(curves[0]), copied = curves[k][narrow];
  return {
    best: rates[best], narrow: rates[narrow], shift: rates[best] - rates[narrow], loss: curves[k][best], copied,
    cost: copied === null ? null : copied / curves[k][best],
  };
}

const transferPower = (k) => `2${`${k}`.replace("-", "⁻").replace(/\d/g, (d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d])}`;

function transferSelect(parent, label, options, onChange) {
  const row = make("label", { class: "slider" }, parent);
  make("span", { text: label }, row);
  const select = make("select", { class: "transfer-select" }, row);
  for (const [value, text] of Object.entries(options)) make("option", { value, text }, select);
  select.addEventListener("change", () => onChange(select.value));
}

function transferFigure(stage, { widths, rates, losses }) {
  const state = { optimizer: "adam", rule: "sp", k: widths.length - 1 };
  const chart = panel(make("div", { class: "panels panels-transfer" }, stage), "Loss against learning rate", 360, 236,
    "Measured loss against the learning rate: the curve of the chosen width in front of those of all widths");
  const controls = make("div", { class: "sliders" }, stage);
  transferSelect(controls, "Scaling rule", TRANSFER_RULES, (rule) => change({ rule }));
  transferSelect(controls, "Optimiser", TRANSFER_OPTIMIZERS, (optimizer) => change({ optimizer }));
  const row = make("label", { class: "slider" }, controls);
  make("span", { text: "Width n" }, row);
  const input = make("input", { type: "range", min: 0, max: widths.length - 1, step: 1 }, row), shown = make("output", {}, row);
  input.addEventListener("input", () => change({ k: Number(input.value) }));
  const says = make("p", { class: "numbers", "aria-live": "polite" }, stage);

  const LEFT = 40, RIGHT = 348, TOP = 12, BOTTOM = 190;

  function change(update) {
    Object.assign(state, update);
    input.value = state.k;
    shown.textContent = `${widths[state.k]}`;
    input.setAttribute("aria-valuetext", `${widths[state.k]}`);
    draw();
    tell();
  }

  function draw() {
    const xs = rates[state.optimizer], curves = losses[state.optimizer][state.rule];
    const all = Object.values(losses[state.optimizer]).flat(2).filter((loss) => loss !== null); // one axis for both rules
    const low = Math.log(Math.min(...all)) - 0.1, high = Math.log(Math.min(4, Math.max(...all)));
    const X = (rate) => LEFT + ((rate - xs[0]) / (xs.at(-1) - xs[0])) * (RIGHT - LEFT);
    const Y = (loss) => BOTTOM - ((Math.min(Math.log(loss), high) - low) / (high - low)) * (BOTTOM - TOP);
    chart.replaceChildren();
    for (const loss of [0.05, 0.1, 0.2, 0.5, 1, 2].filter((v) => Math.log(v) > low && Math.log(v) <= high)) {
      make("svg:line", { x1: LEFT, x2: RIGHT, y1: Y(loss), y2: Y(loss), class: "grid" }, chart);
      make("svg:text", { x: LEFT - 5, y: Y(loss) + 4, class: "end", text: loss }, chart);
    }
    xs.forEach((rate, j) => {
      if ((xs.length - 1 - j) % 2 === 0) make("svg:text", { x: X(rate), y: BOTTOM + 18, class: "middle", text: transferPower(rate) }, chart);
    });
    make("svg:text", { x: (LEFT + RIGHT) / 2, y: BOTTOM + 38, class: "middle", text: "learning rate at the base width" }, chart);
    const narrow = X(xs[transferBest(curves[0])]);
    make("svg:line", { x1: narrow, x2: narrow, y1: TOP, y2: BOTTOM, class: "cursor" }, chart);
    const path = (curve) => curve.map((loss, j) => (loss === null ? null : `${X(xs[j]).toFixed(1)},${Y(loss).toFixed(1)}`)).filter(Boolean).join(" ");
    for (const curve of curves) make("svg:polyline", { points: path(curve), class: "curve transfer-faint" }, chart);
    const now = curves[state.k], best = transferBest(now), colour = `transfer-${state.rule}`;
    make("svg:polyline", { points: path(now), class: `curve transfer-now ${colour}` }, chart);
    make("svg:circle", { cx: X(xs[best]), cy: Y(now[best]), r: 5, class: `transfer-dot ${colour}` }, chart);
  }

  function tell() {
    const { best, narrow, shift, loss, copied, cost } = transferReading(rates[state.optimizer], losses[state.optimizer][state.rule], state.k);
    const octaves = Math.abs(shift) === 1 ? "octave" : "octaves", way = shift < 0 ? "left" : "right";
    const where = shift === 0 ? "where it is for the narrowest network" : `${Math.abs(shift)} ${octaves} to the ${way} of the narrowest network's`;
    const price = copied === null ? "does not train" : `gives ${copied.toFixed(3)}, ${cost.toFixed(2)} times as much`;
    says.textContent = `${TRANSFER_OPTIMIZERS[state.optimizer]}, ${TRANSFER_RULES[state.rule]}, n = ${widths[state.k]}: the best rate is ${transferPower(best)}, ${where}; `
      + `its loss is ${loss.toFixed(3)}. The narrow network's rate ${transferPower(narrow)} (dotted) ${price}.`;
  }

  change({});
}
