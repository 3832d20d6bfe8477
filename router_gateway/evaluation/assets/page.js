"use strict";
// Downloads, sortable tables, and the start: every figure of the page gets its chart.

function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** Quoted where needed. A leading = + - @ of a text would be a formula in a spreadsheet, so it gets an apostrophe. */
function cell(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) && !Number.isFinite(Number(value)) ? `'${value}` : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const csv = (rows) => new Blob([rows.map((row) => row.map(cell).join(",")).join("\r\n"), "\r\n"], { type: "text/csv;charset=utf-8" });

function rowsOf(spec) {
  if (spec.kind === "plane") {
    const rows = [["series", "point", spec.xLabel, spec.yLabel, "sd over seeds", "detail"]];
    for (const one of spec.series) {
      one.x.forEach((x, i) => rows.push([one.name, one.labels ? one.labels[i] : i, x, one.y[i], one.sd ? one.sd[i] : null, one.info ? one.info[i].join("; ") : null]));
      if (one.hull) one.hull.x.forEach((x, i) => rows.push([`${one.name} (hull)`, i, x, one.hull.y[i], null, null]));
    }
    return rows;
  }
  if (spec.kind === "stack") {
    return [["policy", spec.xLabel, ...spec.names], ...spec.variants.flatMap((one) => one.x.map((x, i) => [one.name, x, ...one.shares.map((row) => row[i])]))];
  }
  return [["name", spec.xLabel, "low", "high"], ...spec.rows.map((row) => [row.name, row.value, row.low, row.high])];
}

function tools(node, spec, svg) {
  const name = node.dataset.file;
  const button = (text, what, act) => element("button", { type: "button", "aria-label": `Download “${spec.title}” as ${what}`, on: { click: act } }, text);
  return element("div", { class: "bar tools" }, button("PNG", "a picture", () => picture(svg, spec.title, `${name}.png`)), button("CSV", "a table", () => save(csv(rowsOf(spec)), `${name}.csv`)));
}

/** The chart as it looks now, at twice its size; colours are resolved because a picture knows no style sheet. */
function picture(svg, title, name) {
  const copy = svg.cloneNode(true);
  copy.querySelector(".ring")?.remove();
  const originals = [...svg.querySelectorAll("*")].filter((one) => !one.matches(".ring"));
  [...copy.querySelectorAll("*")].forEach((one, i) => {
    const style = getComputedStyle(originals[i]);
    for (const key of ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font-size", "font-family", "text-anchor", "paint-order"]) one.setAttribute(key, style.getPropertyValue(key));
  });
  const { width, height } = svg.viewBox.baseVal;
  const head = 30;
  const card = getComputedStyle(svg.closest(".chart"));
  copy.setAttribute("viewBox", `0 ${-head} ${width} ${height + head}`);
  copy.setAttribute("width", width * 2);
  copy.setAttribute("height", (height + head) * 2);
  copy.prepend(shape("rect", { x: 0, y: -head, width, height: height + head, fill: card.backgroundColor }),
    shape("text", { x: 12, y: -10, fill: card.color, "font-size": 14, "font-weight": 600, "font-family": "system-ui, sans-serif" }, title));
  const image = new Image();
  image.addEventListener("load", () => {
    const canvas = element("canvas", { width: width * 2, height: (height + head) * 2 });
    canvas.getContext("2d").drawImage(image, 0, 0);
    canvas.toBlob((blob) => save(blob, name), "image/png");
  });
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
}

/** Column heads become buttons; empty cells stay last either way. */
function sortable(table) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = element("button", { type: "button" }, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const downwards = head.getAttribute("aria-sort") === "none" || !head.hasAttribute("aria-sort") ? column > 0 : head.getAttribute("aria-sort") === "ascending";
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", downwards ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const rows = [...body.rows].sort((a, b) => compared(key(a), key(b), downwards));
      body.append(...rows);
    });
  });
  const own = [...table.rows].map((row) => [...row.cells].map((one) => one.dataset.value ?? one.textContent.trim()));
  const button = element("button", { type: "button", "aria-label": `Download the table “${table.caption.textContent}” as CSV`, on: { click: () => save(csv(own), `${table.dataset.file}.csv`) } }, "CSV");
  table.closest(".scroll").after(element("div", { class: "bar tools" }, button));
}

function compared(a, b, downwards) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const order = Number.isFinite(Number(a)) && Number.isFinite(Number(b)) ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
  return downwards ? -order : order;
}

const charts = JSON.parse(document.getElementById("charts").textContent);
for (const node of document.querySelectorAll("figure[data-chart]")) figure(node, charts[node.dataset.chart]);
for (const table of document.querySelectorAll("table.sortable")) sortable(table);
