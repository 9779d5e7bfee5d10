// The moving figure of the page "Who is with whom, when nobody gives the labels?": two lines through the origin, sorted by
// k-means and by the least coding rate. Loaded after interactive.js, whose helpers it uses and whose list it joins.
"use strict";

FIGURES["subspace-clusters"] = subspaceClusters;

// Points [line, place along it, distance from it] in the plane, the second line turned by the angle.
function clusterPoints(points, degrees) {
  return points.map(([line, along, off]) => {
    const a = line * degrees * RADIANS, c = Math.cos(a), s = Math.sin(a);
    return [along * c - off * s, along * s + off * c];
  });
}

// Second moments [xx, xy, yy] with weights, 1/2 log det(I + factor * moments), and the slopes of the latter.
function clusterMoments(points, weights) {
  return points.reduce(([p, q, r], [x, y], i) => [p + weights[i] * x * x, q + weights[i] * x * y, r + weights[i] * y * y], [0, 0, 0]);
}

function clusterRate(points, weights, eps) {
  const size = weights.reduce((a, b) => a + b, 0), f = 2 / (Math.max(size, 1e-9) * eps * eps), [p, q, r] = clusterMoments(points, weights);
  return 0.5 * Math.log((1 + f * p) * (1 + f * r) - f * f * q * q);
}

// R_c of two hard groups, in nats a point.
function clusterGroupRate(points, groups, eps) {
  return [0, 1].reduce((sum, g) => {
    const weights = groups.map((k) => (k === g ? 1 : 0)), size = weights.reduce((a, b) => a + b, 0);
    return sum + (size ? (size / points.length) * clusterRate(points, weights, eps) : 0);
  }, 0);
}

// The slope of n R_c in the share that a point gives to a group with these weights.
function clusterSlopes(points, weights, eps) {
  const size = weights.reduce((a, b) => a + b, 0), f = 2 / (size * eps * eps), [p, q, r] = clusterMoments(points, weights).map((m) => m * f);
  const det = (1 + p) * (1 + r) - q * q, spent = ((1 + r) * p - 2 * q * q + (1 + p) * r) / det;
  return points.map(([x, y]) => 0.5 * (Math.log(det) + size * f * (((1 + r) * x * x - 2 * q * x * y + (1 + p) * y * y) / det) - spent));
}

// From each start: give every point to the group of least slope until nothing moves; the result of least rate.
function clusterByRate(points, starts, eps) {
  return clusterBest(starts, (start) => {
    let groups = start;
    for (let round = 0; round < 40; round += 1) {
      const slopes = [0, 1].map((g) => clusterSlopes(points, groups.map((k) => (k === g ? 0.995 : 0.005)), eps));
      const next = groups.map((_, i) => (slopes[1][i] < slopes[0][i] ? 1 : 0));
      if (next.every((k, i) => k === groups[i])) break;
      groups = next;
    }
    return [groups, clusterGroupRate(points, groups, eps)];
  });
}

function clusterByMeans(points, starts) {
  return clusterBest(starts, (start) => {
    let groups = start, inertia = 0;
    for (let round = 0; round < 40; round += 1) {
      const centres = [0, 1].map((g) => {
        const own = points.filter((_, i) => groups[i] === g), n = Math.max(1, own.length);
        return [0, 1].map((c) => own.reduce((sum, z) => sum + z[c], 0) / n);
      });
      const far = (z, c) => (z[0] - c[0]) ** 2 + (z[1] - c[1]) ** 2;
      const next = points.map((z) => (far(z, centres[1]) < far(z, centres[0]) ? 1 : 0));
      inertia = points.reduce((sum, z, i) => sum + far(z, centres[next[i]]), 0);
      if (next.every((k, i) => k === groups[i])) break;
      groups = next;
    }
    return [groups, inertia];
  });
}

function clusterBest(starts, run) {
  return starts.map(run).reduce((best, now) => (now[1] < best[1] - 1e-12 ? now : best))[0];
}

// Starts: the plane cut in halves along a turning line, and in two pairs of opposite quarters.
function clusterStarts(points) {
  return Array.from({ length: 24 }, (_, k) => points.map(([x, y]) => {
    const turn = Math.atan2(y, x) - ((k % 12) * Math.PI) / 12;
    return (k < 12 ? Math.sin(turn) : Math.sin(2 * turn)) > 0 ? 1 : 0;
  }));
}

function subspaceClusters(stage, { points, angle, eps }) {
  const state = { angle, eps }, truth = points.map(([line]) => line), n = points.length;
  const right = (groups) => { const same = groups.filter((k, i) => k === truth[i]).length; return Math.max(same, n - same); };
  const named = (groups) => (groups.filter((k, i) => k === truth[i]).length * 2 < n ? groups.map((k) => 1 - k) : groups);

  const top = make("div", { class: "panels panels-spd" }, stage);
  const planes = make("div", { class: "panels" }, top);
  const means = panel(planes, "k-means", 170, 170, "Points on two lines, coloured by k-means");
  const least = panel(planes, "Least coding rate", 170, 170, "The same points, coloured by the least coding rate");
  const chart = panel(top, "Nats against the angle (drag)", 330, 220, "Three curves against the angle: the rate, the rate in groups, and their difference");
  const controls = make("div", { class: "sliders" }, stage);
  const says = make("p", { class: "numbers", "aria-live": "polite" }, stage);

  const inputs = {};
  [["angle", "Angle between the lines", 0, 90, 1, (v) => `${v}°`], ["eps", "Distortion eps", 0.1, 2, 0.1, (v) => Number(v).toFixed(1)]].forEach(([key, label, min, max, step, text]) => {
    const row = make("label", { class: "slider" }, controls);
    make("span", { text: label }, row);
    const input = make("input", { type: "range", min, max, step, value: state[key] }, row), shown = make("output", { text: text(state[key]) }, row);
    inputs[key] = (v) => { input.value = v; shown.textContent = text(v); };
    input.addEventListener("input", () => change({ [key]: Number(input.value) }));
  });
  draggable(chart, (x) => change({ angle: Math.max(0, Math.min(90, Math.round(((x - 40) / 275) * 90))) }));

  function change(update) {
    Object.assign(state, update);
    Object.keys(inputs).forEach((key) => inputs[key](state[key]));
    draw();
  }

  function rates(degrees) {
    const z = clusterPoints(points, degrees), R = clusterRate(z, z.map(() => 1), state.eps), Rc = clusterGroupRate(z, truth, state.eps);
    return [R, Rc, R - Rc];
  }

  function drawPlane(svg, z, groups) {
    svg.replaceChildren();
    for (const line of [0, 1]) {
      const [[x, y]] = clusterPoints([[line, 1.1, 0]], state.angle);
      make("svg:line", { x1: 85 - 74 * x, y1: 85 + 74 * y, x2: 85 + 74 * x, y2: 85 - 74 * y, class: "thin" }, svg);
    }
    z.forEach(([x, y], i) => {
      const u = 85 + 74 * x, v = 85 - 74 * y, kind = `cluster-${groups[i]}`;
      if (truth[i]) make("svg:rect", { x: u - 3.6, y: v - 3.6, width: 7.2, height: 7.2, class: kind }, svg);
      else make("svg:circle", { cx: u, cy: v, r: 4.2, class: kind }, svg);
    });
  }

  function draw() {
    const z = clusterPoints(points, state.angle), starts = clusterStarts(z);
    const a = named(clusterByMeans(z, starts)), b = named(clusterByRate(z, starts, state.eps));
    drawPlane(means, z, a);
    drawPlane(least, z, b);
    chart.replaceChildren();
    const curves = Array.from({ length: 46 }, (_, k) => rates(2 * k)), peak = Math.max(...curves.map(([R]) => R));
    const X = (degrees) => 40 + (degrees / 90) * 275, Y = (nats) => 185 - (165 * nats) / peak, now = rates(state.angle);
    for (const share of [0, 0.5, 1]) {
      make("svg:line", { x1: 40, x2: 315, y1: Y(share * peak), y2: Y(share * peak), class: "grid" }, chart);
      make("svg:text", { x: 34, y: Y(share * peak) + 4, class: "end", text: (share * peak).toFixed(peak < 1 ? 2 : 1) }, chart);
    }
    for (const d of [0, 30, 60, 90]) make("svg:text", { x: X(d), y: 205, class: "middle", text: `${d}°` }, chart);
    make("svg:line", { x1: X(state.angle), x2: X(state.angle), y1: Y(0), y2: Y(peak), class: "cursor" }, chart);
    ["all", "grouped", "saved"].forEach((name, k) => {
      make("svg:polyline", { points: curves.map((c, i) => `${X(2 * i).toFixed(1)},${Y(c[k]).toFixed(1)}`).join(" "), class: `curve cluster-curve-${name}` }, chart);
      make("svg:circle", { cx: X(state.angle), cy: Y(now[k]), r: 3.5, class: `cluster-dot-${name}` }, chart);
      const label = ["— R", "- - R_c", "••• saved"][k];
      make("svg:text", { x: 46 + 95 * k, y: 12, class: `cluster-key cluster-key-${name}`, text: label }, chart);
    });
    says.textContent = `Angle ${state.angle}°, eps ${state.eps.toFixed(1)}: R = ${now[0].toFixed(2)}, R_c of the two lines = ${now[1].toFixed(2)}, `
      + `saved ${now[2].toFixed(2)} nats a point. Sorted right: k-means ${right(a)} of ${n}, least rate ${right(b)} of ${n}.`;
  }

  change({});
}
