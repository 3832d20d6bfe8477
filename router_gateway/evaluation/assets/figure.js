"use strict";
// What surrounds a chart: legend, options, hover and keyboard, downloads.

function figure(node, spec) {
  const state = { hidden: new Set(spec.off ?? []), log: spec.log, bands: spec.bands ?? true, hulls: true, variant: 0 };
  const stage = node.querySelector(".stage");
  const svg = shape("svg", { tabindex: 0, role: "application", "aria-label": `${spec.title}. Arrow keys walk through the points: left and right along a series, up and down between series.` });
  const tip = element("div", PLAIN_TIP);
  const said = element("div", { "aria-live": "polite", class: "unseen" });
  stage.append(svg, tip, said);
  let marks = [];
  let at = -1;
  const draw = () => {
    marks = DRAWN[spec.kind](svg, spec, state, Math.max(260, Math.floor(stage.clientWidth)));
    hide();
  };
  const hide = () => { at = -1; tip.hidden = true; svg.querySelector(".ring")?.remove(); };
  const show = (index, aloud) => {
    if (!marks[index]) return;
    if (index === at && !aloud) return;
    hide();
    at = index;
    const mark = marks[index];
    tip.replaceChildren(element("b", {}, mark.name), ...mark.lines.map((line) => element("span", {}, line)));
    tip.hidden = false;
    svg.append(mark.column
      ? shape("line", { class: "ring", x1: mark.x, x2: mark.x, y1: mark.column.top, y2: mark.column.bottom, stroke: "var(--text)" })
      : shape("circle", { class: "ring", cx: mark.x, cy: mark.y, r: 8, fill: "none", stroke: "var(--text)", "stroke-width": 1.5 }));
    const left = mark.x + 14 + tip.offsetWidth > stage.clientWidth ? mark.x - 14 - tip.offsetWidth : mark.x + 14;
    tip.style.left = `${Math.max(0, left)}px`;
    tip.style.top = `${Math.max(0, mark.y - tip.offsetHeight - 10)}px`;
    if (aloud) said.textContent = [mark.name, ...mark.lines].join(", ");
  };
  const point = (event) => {
    const frame = svg.getBoundingClientRect();
    const px = event.clientX - frame.left;
    const py = event.clientY - frame.top;
    let best = -1;
    let least = spec.kind === "plane" ? 48 : Infinity;
    marks.forEach((mark, i) => {
      const away = spec.kind === "stack" ? Math.abs(mark.x - px) : spec.kind === "dots" ? Math.abs(mark.y - py) : Math.hypot(mark.x - px, mark.y - py);
      if (away < least) { least = away; best = i; }
    });
    if (best < 0) hide(); else show(best, false);
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const next = step(marks, at, event.key);
    if (event.key === "Escape") hide();
    if (next === null) return;
    event.preventDefault();
    show(next, true);
  });
  node.append(legend(spec, state, draw), options(spec, state, draw), tools(node, spec, svg));
  new ResizeObserver(draw).observe(stage);
}

/** The mark a key leads to, or null for a key that means nothing here. */
function step(marks, at, key) {
  if (!marks.length) return null;
  if (key === "Home") return 0;
  if (key === "End") return marks.length - 1;
  if (key === "ArrowRight") return Math.min(at + 1, marks.length - 1);
  if (key === "ArrowLeft") return Math.max(at - 1, 0);
  if (key !== "ArrowUp" && key !== "ArrowDown") return null;
  const groups = [...new Set(marks.map((mark) => mark.group))];
  const own = at < 0 ? -1 : groups.indexOf(marks[at].group);
  const wanted = groups[Math.min(Math.max(own + (key === "ArrowDown" ? 1 : -1), 0), groups.length - 1)];
  return groups.length > 1 ? marks.findIndex((mark) => mark.group === wanted) : Math.min(Math.max(at + (key === "ArrowDown" ? 1 : -1), 0), marks.length - 1);
}

function legend(spec, state, draw) {
  const bar = element("div", { class: "bar", role: "group", "aria-label": "Series" });
  const keys = spec.kind === "plane" ? spec.series.map((one) => [one.name, one.index, one.line]) : spec.kind === "stack" ? spec.names.map((name, i) => [name, i, false]) : [];
  for (const [name, index, line] of keys) {
    const sample = shape("svg", { viewBox: "0 0 26 14", "aria-hidden": "true" });
    if (spec.kind === "stack") sample.append(shape("rect", { x: 5, y: 1, width: 16, height: 12, fill: colour(index), opacity: index >= COLOURS ? 0.55 : 0.85 }));
    else {
      if (line) sample.append(shape("line", { x1: 0, x2: 26, y1: 7, y2: 7, stroke: colour(index), "stroke-width": 2, "stroke-dasharray": dash(index) }));
      sample.append(marker(Math.abs(index), 13, 7, line ? 3 : 4.5, { fill: colour(index) }));
    }
    const key = element("button", { type: "button", class: "key", "aria-pressed": !state.hidden.has(name) ? "true" : "false" }, sample, name);
    key.addEventListener("click", () => {
      if (state.hidden.has(name)) state.hidden.delete(name); else state.hidden.add(name);
      key.setAttribute("aria-pressed", state.hidden.has(name) ? "false" : "true");
      draw();
    });
    bar.append(key);
  }
  return bar;
}

function options(spec, state, draw) {
  const bar = element("div", { class: "bar", role: "group", "aria-label": "Options" });
  const box = (name, text) => {
    const input = element("input", { type: "checkbox", on: { change: () => { state[name] = input.checked; draw(); } } });
    input.checked = Boolean(state[name]);
    bar.append(element("label", {}, input, text));
  };
  if (spec.kind === "plane" && spec.log !== undefined) box("log", spec.logLabel ?? "logarithmic cost");
  if (spec.kind === "plane" && spec.series.some((one) => one.hull)) box("hulls", "hulls");
  if (spec.kind === "plane" && spec.series.some((one) => one.sd)) box("bands", "± 1 sd over seeds");
  if (spec.kind === "stack" && spec.variants.length > 1) {
    const choice = element("select", {}, ...spec.variants.map((one, i) => element("option", { value: i }, one.name)));
    choice.addEventListener("change", () => { state.variant = Number(choice.value); draw(); });
    bar.append(element("label", {}, "policy ", choice));
  }
  return bar;
}
