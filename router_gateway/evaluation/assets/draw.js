"use strict";
// Elements, scales and words. Every text goes in as a text node: names come from data files and may hold markup.

const SVG = "http://www.w3.org/2000/svg";
const DASHES = ["", "2 3", "7 3", "9 3 2 3"];
const COLOURS = 8;

function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function shape(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") for (const [type, act] of Object.entries(value)) node.addEventListener(type, act);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const known = (value) => typeof value === "number" && Number.isFinite(value);
// References have negative numbers and no colour: -1 the zero router, -2 the oracle, and so on.
const colour = (index) => (index < 0 ? (index === -1 ? "var(--text)" : "var(--soft)") : `var(--c${index % COLOURS})`);
const dash = (index) => (index < 0 ? DASHES[(-1 - index) % DASHES.length] : DASHES[Math.floor(index / COLOURS) % DASHES.length]);

function number(value) {
  if (!known(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return Number(value.toPrecision(3)).toExponential().replace("e+", "e");
  return String(Number(value.toPrecision(4)));
}

/** Data to pixels, with `ticks` [value, text]. A logarithmic axis knows positive values only. */
function scaleOf(values, { log = false, from, to, pad = 0.04, fixed = null, wanted = 6 }) {
  const usable = values.filter((v) => known(v) && (!log || v > 0));
  const go = log ? Math.log10 : (v) => v;
  let low = usable.length ? Math.min(...usable.map(go)) : 0;
  let high = usable.length ? Math.max(...usable.map(go)) : 1;
  if (high - low < 1e-12) { const half = Math.abs(high) * 0.05 || 0.5; low -= half; high += half; }
  const margin = (high - low) * pad;
  if (fixed) [low, high] = fixed.map(go); else { low -= margin; high += margin; }
  const at = (value) => from + ((go(value) - low) / (high - low)) * (to - from);
  return { at, log, holds: (v) => known(v) && (!log || v > 0), ticks: log ? logTicks(low, high, wanted) : linearTicks(low, high, wanted) };
}

function linearTicks(low, high, wanted) {
  const raw = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((m) => m * power >= raw) * power;
  const ticks = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i += 1) ticks.push([i * step, number(Number((i * step).toPrecision(12)))]);
  return ticks;
}

function logTicks(low, high, wanted) {
  const inside = (m) => {
    const found = [];
    for (let e = Math.floor(low); e <= Math.ceil(high); e += 1) for (const k of m) {
      const value = k * 10 ** e;
      if (Math.log10(value) >= low && Math.log10(value) <= high) found.push(value);
    }
    return found;
  };
  for (const m of [[1, 2, 5], [1, 3], [1]]) {
    const found = inside(m);
    if (found.length <= wanted + 1 && found.length > 1) return found.map((v) => [v, number(v)]);
  }
  const decades = inside([1]);
  if (decades.length < 2) return linearTicks(10 ** low, 10 ** high, wanted).filter(([v]) => v > 0);
  const every = Math.ceil(decades.length / wanted);
  return decades.filter((_, i) => i % every === 0).map((v) => [v, number(v)]);
}

/** A marker that differs by shape as well as by colour. */
function marker(kind, x, y, size, attributes) {
  const s = size;
  const corners = {
    1: [[-s, -s], [s, -s], [s, s], [-s, s]],
    2: [[0, -s * 1.25], [s * 1.15, s * 0.85], [-s * 1.15, s * 0.85]],
    3: [[0, -s * 1.35], [s * 1.35, 0], [0, s * 1.35], [-s * 1.35, 0]],
  }[kind % 4];
  if (!corners) return shape("circle", { cx: x, cy: y, r: size, ...attributes });
  return shape("path", { d: `M${corners.map(([a, b]) => `${(x + a).toFixed(1)} ${(y + b).toFixed(1)}`).join("L")}Z`, ...attributes });
}

function path(points) {
  return points.length ? `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}` : "";
}

const PLAIN_TIP = { hidden: true, class: "tip" };

/** The frame of every chart: grid, axes with titles, ticks. Returns the group to draw into. */
function axes(svg, box, x, y, { xLabel, yLabel, xTicks = null, yTicks = null }) {
  const grid = shape("g", { "aria-hidden": "true" });
  for (const [value, text] of yTicks ?? y.ticks) {
    const at = y.at(value);
    if (!yTicks) grid.append(shape("line", { x1: box.left, x2: box.right, y1: at, y2: at, stroke: "var(--grid)" }));
    grid.append(shape("text", { x: box.left - 7, y: at + 4, "text-anchor": "end", class: "tick" }, text));
  }
  for (const [value, text] of xTicks ?? x.ticks) {
    const at = x.at(value);
    grid.append(shape("line", { x1: at, x2: at, y1: box.top, y2: box.bottom, stroke: "var(--grid)" }));
    grid.append(shape("text", { x: at, y: box.bottom + 17, "text-anchor": "middle", class: "tick" }, text));
  }
  grid.append(shape("path", { d: `M${box.left} ${box.top}V${box.bottom}H${box.right}`, fill: "none", stroke: "var(--soft)" }));
  const half = xLabel.length * 3.1; // about; a long title moves left rather than out of the picture
  grid.append(shape("text", { x: Math.max(half, Math.min((box.left + box.right) / 2, box.right + 10 - half)), y: box.bottom + 37, "text-anchor": "middle" }, xLabel));
  if (yLabel) grid.append(shape("text", { transform: `translate(13 ${(box.top + box.bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, yLabel));
  svg.append(grid);
  const inner = shape("g");
  svg.append(inner);
  return inner;
}
