"use strict";
// Three kinds of chart, each drawn from a plain description: curves and points, stacked shares, rows of dots.
// A chart is { marks: [{x, y, name, lines}] to hover and to walk by keyboard, groups: their order }.

const BOX_TOP = 10;
const BOX_BELOW = 44;

function boxOf(width, height, left) {
  return { left, right: width - 12, top: BOX_TOP, bottom: height - BOX_BELOW };
}

/** Curves with bands and hulls, and named points. Hidden series do not count for the axes' ranges. */
function drawPlane(svg, spec, state, width) {
  const height = Math.round(Math.min(480, Math.max(290, width * 0.52)));
  const series = spec.series.filter((one) => !state.hidden.has(one.name));
  const all = series.length ? series : spec.series;
  const log = Boolean(state.log);
  const heights = all.flatMap((s) => s.y.flatMap((v, i) => (state.bands && s.sd ? [v - s.sd[i], v + s.sd[i]] : [v])));
  const y = scaleOf(heights, { from: height - BOX_BELOW, to: BOX_TOP, fixed: spec.yRange });
  const box = boxOf(width, height, 32 + 6.8 * Math.max(3, ...y.ticks.map(([, text]) => text.length)));
  const x = scaleOf(all.flatMap((s) => s.x), { log, from: box.left, to: box.right, wanted: width < 480 ? 4 : 7, fixed: spec.xRange });
  size(svg, width, height);
  const inner = axes(svg, box, x, y, { xLabel: spec.xLabel + (log ? " (logarithmic)" : ""), yLabel: spec.yLabel, xTicks: spec.xTicks });
  if (spec.diagonal) inner.append(shape("line", { x1: x.at(0), y1: y.at(0), x2: x.at(1), y2: y.at(1), stroke: "var(--soft)", "stroke-dasharray": "4 4" }));
  const place = ([a, b]) => [x.at(a), y.at(b)];
  const marks = [];
  const taken = [];
  for (const one of series) {
    const at = one.x.map((v, i) => [v, one.y[i], i]).filter(([v, w]) => x.holds(v) && known(w));
    if (state.bands && one.sd && !one.line) {
      for (const [v, w, i] of at) {
        const [[px, low], [, high]] = [place([v, w - (one.sd[i] || 0)]), place([v, w + (one.sd[i] || 0)])];
        inner.append(shape("line", { x1: px, x2: px, y1: low, y2: high, stroke: colour(one.index), "stroke-width": 2, opacity: 0.5 }));
      }
    } else if (state.bands && one.sd) {
      const upper = at.map(([v, w, i]) => place([v, w + (one.sd[i] || 0)]));
      const lower = at.map(([v, w, i]) => place([v, w - (one.sd[i] || 0)])).reverse();
      inner.append(shape("path", { d: `${path([...upper, ...lower])}Z`, fill: colour(one.index), opacity: 0.12 }));
    }
    const withHull = state.hulls && one.hull;
    if (one.line) {
      inner.append(shape("path", { d: path(at.map(place)), fill: "none", stroke: colour(one.index), "stroke-width": withHull ? 1 : 2,
        "stroke-dasharray": dash(one.index), "stroke-linejoin": "round", opacity: withHull ? 0.6 : 1 }));
    }
    if (withHull) {
      const hull = one.hull.x.map((v, i) => [v, one.hull.y[i]]).filter(([v]) => x.holds(v));
      inner.append(shape("path", { d: path(hull.map(place)), fill: "none", stroke: colour(one.index), "stroke-width": 2.5,
        "stroke-dasharray": dash(one.index), "stroke-linejoin": "round" }));
    }
    for (const [v, w, i] of at) {
      const [px, py] = place([v, w]);
      marks.push({ x: px, y: py, name: one.labels ? one.labels[i] : one.name, group: one.name, lines: tipLines(spec, one, i) });
      const radius = one.weight ? 2 + 7 * Math.sqrt(one.weight[i]) : one.line && at.length > 1 ? 2.2 : 5;
      if (one.markers !== false) inner.append(marker(Math.abs(one.index), px, py, radius, { fill: colour(one.index) }));
      if (one.labels && one.labels.length <= 12) label(inner, taken, box, px, py, one.labels[i]);
    }
  }
  return marks;
}

function tipLines(spec, one, i) {
  const sd = one.sd && known(one.sd[i]) ? ` ± ${number(Number(one.sd[i].toPrecision(2)))}` : "";
  const tick = spec.xTicks && spec.xTicks.find(([value]) => value === Math.round(one.x[i]));
  return [`${spec.xLabel}: ${tick ? tick[1] : number(one.x[i])}`, `${spec.yLabel}: ${number(one.y[i])}${sd}`, ...(one.info ? one.info[i] : [])];
}

/** A point's name beside it, unless another name is there already. */
function label(inner, taken, box, x, y, name) {
  const text = name.length > 26 ? `${name.slice(0, 25)}…` : name;
  const wide = text.length * 6.2;
  for (const [left, anchor] of [[x + 8, "start"], [x - 8 - wide, "end"]]) {
    const own = [left, y - 8, left + wide, y + 6];
    const free = left > box.left && left + wide < box.right && !taken.some((o) => own[0] < o[2] && o[0] < own[2] && own[1] < o[3] && o[1] < own[3]);
    if (!free) continue;
    taken.push(own);
    inner.append(shape("text", { x: anchor === "start" ? left : left + wide, y: y + 4, "text-anchor": anchor, class: "label" }, text));
    return;
  }
}

/** Shares of the endpoints, stacked to one, over the dial; one variant (policy) at a time. */
function drawStack(svg, spec, state, width) {
  const height = Math.round(Math.min(360, Math.max(260, width * 0.5)));
  const variant = spec.variants[state.variant];
  const box = boxOf(width, height, 58);
  const x = scaleOf(variant.x, { log: true, from: box.left, to: box.right, pad: 0, wanted: width < 480 ? 3 : 6 });
  const y = scaleOf([0, 1], { from: box.bottom, to: box.top, fixed: [0, 1], wanted: 5 });
  size(svg, width, height);
  const inner = axes(svg, box, x, y, { xLabel: spec.xLabel, yLabel: spec.yLabel, yTicks: y.ticks.map(([v]) => [v, `${Math.round(v * 100)} %`]) });
  const base = variant.x.map(() => 0);
  const marks = [];
  spec.names.forEach((name, row) => {
    const top = base.map((v, i) => v + variant.shares[row][i]);
    const outline = [...variant.x.map((v, i) => [x.at(v), y.at(top[i])]), ...variant.x.map((v, i) => [x.at(v), y.at(base[i])]).reverse()];
    if (!state.hidden.has(name)) inner.append(shape("path", { d: `${path(outline)}Z`, fill: colour(row), opacity: row >= COLOURS ? 0.55 : 0.85, stroke: "var(--card)", "stroke-width": 0.5 }));
    top.forEach((v, i) => { base[i] = v; });
  });
  variant.x.forEach((v, i) => {
    const order = spec.names.map((name, row) => [variant.shares[row][i], name]).sort((a, b) => b[0] - a[0]);
    const lines = order.filter(([share]) => share >= 0.005).slice(0, 6).map(([share, name]) => `${(share * 100).toFixed(1)} % ${name}`);
    marks.push({ x: x.at(v), y: (box.top + box.bottom) / 2, name: `${variant.name}, worth ${number(v)} USD`, group: variant.name, lines, column: box });
  });
  return marks;
}

/** One row per name: a dot with its interval, or the two ends of a range. */
function drawDots(svg, spec, state, width) {
  const rows = spec.rows.filter((row) => known(row.value));
  const left = Math.min(width * 0.38, 12 + 6.6 * Math.max(6, ...rows.map((row) => row.name.length)));
  const height = BOX_TOP + BOX_BELOW + 28 * Math.max(1, rows.length);
  const box = boxOf(width, height, left);
  const values = rows.flatMap((row) => [row.value, row.low, row.high]).concat(spec.zero ? [0] : []);
  const x = scaleOf(values, { log: spec.log, from: box.left, to: box.right, pad: 0.06, wanted: width < 480 ? 4 : 7 });
  const at = (i) => box.top + 28 * (i + 0.5);
  const fits = Math.floor((left - 12) / 6.4);
  const names = rows.map((row, i) => [i, row.name.length > fits ? `${row.name.slice(0, fits - 1)}…` : row.name]);
  size(svg, width, height);
  const inner = axes(svg, box, x, { at }, { xLabel: spec.xLabel + (spec.log ? " (logarithmic)" : ""), yLabel: "", yTicks: names });
  if (spec.zero) inner.append(shape("line", { x1: x.at(0), x2: x.at(0), y1: box.top, y2: box.bottom, stroke: "var(--soft)", "stroke-dasharray": "4 4" }));
  return rows.map((row, i) => {
    const px = x.at(row.value);
    if (x.holds(row.low) && x.holds(row.high)) {
      inner.append(shape("line", { x1: x.at(row.low), x2: x.at(row.high), y1: at(i), y2: at(i), stroke: colour(row.index), "stroke-width": 3, opacity: 0.5 }));
      for (const end of [row.low, row.high]) inner.append(shape("line", { x1: x.at(end), x2: x.at(end), y1: at(i) - 5, y2: at(i) + 5, stroke: colour(row.index), "stroke-width": 1.5 }));
    }
    inner.append(marker(Math.abs(row.index), px, at(i), 5, { fill: colour(row.index) }));
    const range = known(row.low) && known(row.high) ? [`${spec.rangeLabel}: ${number(row.low)} to ${number(row.high)}`] : [];
    return { x: px, y: at(i), name: row.name, group: spec.title, lines: [`${spec.xLabel}: ${number(row.value)}`, ...range] };
  });
}

function size(svg, width, height) {
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
}

const DRAWN = { plane: drawPlane, stack: drawStack, dots: drawDots };
