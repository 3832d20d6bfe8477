// Draws what charts.py describes. No name or value is ever HTML: the canvas is text, the tooltip is drawn on it
// (richText), and the table beneath is Vue's own text.
import { echarts } from "nicegui-echart";
import { say } from "/assets/say.js";

function color(name) {
  const probe = document.createElement("span");
  probe.style.cssText = `display:none;color:var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function faded(rgb, share) {
  const [r, g, b] = rgb.match(/[\d.]+/g);
  return `rgba(${r},${g},${b},${share})`;
}

const short = (v) => {
  const a = Math.abs(v);
  const [size, letter] = a >= 1e9 ? [1e9, "B"] : a >= 1e6 ? [1e6, "M"] : a >= 1e4 ? [1e3, "k"] : [1, ""];
  return `${Number((v / size).toPrecision(3))}${letter}`;
};
const digits = (v) => (v === 0 ? "0" : Math.abs(v) >= 1 ? v.toFixed(2) : String(Number(v.toPrecision(3))));
const forms = {
  plain: (v) => short(v),
  count: (v) => short(v),
  usd: (v) => (Math.abs(v) >= 1e4 ? `$${short(v)}` : `$${plain(digits(v))}`),
  percent: (v) => `${Number((v * 100).toPrecision(3))} %`,
  ms: (v) => (v >= 1000 ? `${Number((v / 1000).toPrecision(3))} s` : `${Number(v.toPrecision(3))} ms`),
};
// 1.2e-7 as 0.00000012: nobody reads money in exponents
const plain = (said) => (said.includes("e") ? Number(said).toFixed(12).replace(/0+$/, "") : said);

function tell(form, value) {
  return value === null || value === undefined || Number.isNaN(value) ? "–" : (forms[form] ?? forms.plain)(value);
}

// The band about a line of points: along its upper end and back along its lower one.
function region(s, i, own) {
  const corners = [...s.points.map(([x], j) => [x, s.high[j]]), ...s.points.map(([x], j) => [x, s.low[j]]).reverse()];
  return {
    type: "custom", name: `band ${i}`, silent: true, tooltip: { show: false }, z: 1, clip: true,
    data: s.points.length ? [[s.points[0][0], s.low[0], s.high[0]]] : [],
    encode: { x: 0, y: [1, 2] },
    renderItem: (_, api) => ({
      type: "polygon",
      shape: { points: corners.map((corner) => api.coord(corner)) },
      style: { fill: faded(own, 0.16) },
    }),
  };
}

function options(spec, narrow) {
  const [text, dim, line, panel] = ["--rg-text", "--rg-dim", "--rg-line", "--rg-panel"].map(color);
  const palette = [1, 2, 3, 4, 5, 6, 7, 8].map((n) => color(`--rg-c${n}`));
  const drawn = [];
  spec.series.forEach((s, i) => {
    const own = palette[((s.color ?? i + 1) - 1) % 8];
    const kind = s.kind ?? spec.kind;
    const at = (values) =>
      spec.x_kind === "time" ? values.map((v, j) => [spec.x[j], v]) : spec.x_kind === "value" ? s.points : values;
    if (s.low.length && spec.x_kind === "value") {
      drawn.push(region(s, i, own));
    } else if (s.low.length) {
      const gap = s.high.map((h, j) => (h === null || s.low[j] === null ? null : h - s.low[j]));
      const hidden = { type: "line", stack: `band${i}`, symbol: "none", silent: true, tooltip: { show: false } };
      drawn.push({ ...hidden, name: `low ${i}`, data: at(s.low), lineStyle: { opacity: 0 } });
      drawn.push({
        ...hidden, name: `high ${i}`, data: at(gap), lineStyle: { opacity: 0 }, areaStyle: { color: faded(own, 0.18) },
      });
    }
    const points = s.points.length ? s.points : s.values;
    drawn.push({
      rg: i,
      name: s.name,
      type: kind === "area" ? "line" : kind,
      data: at(s.values),
      stack: spec.stacked ? "all" : undefined,
      symbol: kind === "scatter" || (kind === "line" && points.length < 40) ? "circle" : "none",
      symbolSize: s.symbol_px ?? (kind === "scatter" ? 9 : 5),
      barMaxWidth: 32,
      connectNulls: false,
      itemStyle: { color: own },
      lineStyle: { color: own, width: kind === "area" ? 1 : 2, type: s.dashed ? "dashed" : "solid" },
      areaStyle: kind === "area" ? { color: faded(own, spec.stacked ? 0.55 : 0.2) } : undefined,
      emphasis: { focus: spec.series.length > 2 ? "series" : "none" },
    });
  });
  const label = { color: dim, fontSize: 11, hideOverlap: true };
  const value = {
    type: "value",
    axisLabel: { ...label, formatter: (v) => tell(spec.form, v) },
    splitLine: { lineStyle: { color: line } },
    min: spec.y_min ?? undefined,
    max: spec.y_max ?? undefined,
    scale: spec.x_kind === "value",
  };
  const x = {
    type: spec.x_kind === "value" && spec.log_x ? "log" : spec.x_kind,
    axisLabel: spec.x_kind === "value" ? { ...label, formatter: (v) => tell(spec.x_form, v) } : label,
    axisLine: { lineStyle: { color: line } },
    axisTick: { show: false },
    splitLine: { show: spec.x_kind === "value", lineStyle: { color: line } },
    name: spec.x_title,
    nameLocation: "middle",
    nameGap: 26,
    nameTextStyle: { color: dim, fontSize: 11 },
    scale: spec.x_kind === "value",
    data: spec.x_kind === "category" ? spec.x : undefined,
    boundaryGap: spec.x_kind === "category" && spec.series.some((s) => (s.kind ?? spec.kind) === "bar"),
  };
  return {
    animation: false,
    aria: { enabled: false },
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
    grid: {
      left: 8, right: 24, top: spec.series.length > 1 ? 34 : 12, bottom: spec.x_title ? 26 : 6, containLabel: true,
    },
    legend: {
      show: spec.series.length > 1,
      type: "scroll",
      left: 0,
      top: 2,
      itemWidth: 14,
      itemHeight: 10,
      icon: "roundRect",
      textStyle: { color: text, fontSize: 12, width: narrow ? 120 : 200, overflow: "truncate" },
      pageTextStyle: { color: dim },
      pageIconColor: dim,
      pageIconInactiveColor: line,
      data: spec.series.map((s) => s.name),
    },
    tooltip: {
      renderMode: "richText",
      trigger: spec.x_kind === "value" ? "item" : "axis",
      confine: true,
      backgroundColor: panel,
      borderColor: line,
      textStyle: { color: text, fontSize: 12 },
      axisPointer: { lineStyle: { color: dim } },
      formatter: (given) => tooltip(spec, Array.isArray(given) ? given : [given]),
    },
    xAxis: x,
    yAxis: value,
    series: drawn,
  };
}

// ECharts reads {name|text} as a style: braces of a name are spelled in a way that it does not.
const bare = (said) => String(said).replaceAll("{", "❴").replaceAll("}", "❵").slice(0, 80);

function tooltip(spec, given) {
  const rows = given.filter((g) => spec.series.some((s) => s.name === g.seriesName));
  if (!rows.length) return "";
  if (spec.x_kind === "value") {
    const [g] = rows;
    const s = spec.series.find((each) => each.name === g.seriesName);
    const name = s.labels[g.dataIndex] ?? s.name;
    const around = s.low.length ? ` (${tell(spec.form, s.low[g.dataIndex])} to ${tell(spec.form, s.high[g.dataIndex])})` : "";
    return `${bare(name)}\n${bare(spec.x_title)}: ${tell(spec.x_form, g.value[0])}\n${bare(spec.unit)}: ${tell(spec.form, g.value[1])}${around}`;
  }
  const at = spec.x_kind === "time" ? say(spec.x[rows[0].dataIndex], "full") : bare(rows[0].name);
  const said = rows.map((g) => {
    const s = spec.series.find((each) => each.name === g.seriesName);
    const [low, high] = [s.low[g.dataIndex], s.high[g.dataIndex]];
    const around = s.low.length ? ` (${tell(spec.form, low)} to ${tell(spec.form, high)})` : "";
    return `${bare(g.seriesName)}: ${tell(spec.form, Array.isArray(g.value) ? g.value[1] : g.value)}${around}`;
  });
  return [at, ...said].join("\n");
}

// A cell of a file that a spreadsheet might run begins with a quote.
function cell(value) {
  let said = value === null || value === undefined ? "" : String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(said)) said = `'${said}`;
  return /[",\n\r]/.test(said) ? `"${said.replaceAll('"', '""')}"` : said;
}

function save(url, name) {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
}

export default {
  template: `
    <figure class="rg-chart" role="group" :aria-label="spec.title">
      <div class="rg-chart-head">
        <span class="rg-chart-title">{{ spec.title }}</span><span class="rg-chart-unit">{{ spec.unit }}</span>
        <span class="rg-chart-tools">
          <button type="button" @click="png" :aria-label="'Download ' + spec.title + ' as PNG'">PNG</button>
          <button type="button" @click="csv" :aria-label="'Download ' + spec.title + ' as CSV'">CSV</button>
        </span>
      </div>
      <div ref="stage" class="rg-chart-stage" role="img" :aria-label="told" :style="{ height }"></div>
      <details @toggle="open = $event.target.open">
        <summary>As a table</summary>
        <div v-if="open" tabindex="0"><table>
          <thead><tr><th v-for="head in table[0]" scope="col">{{ head }}</th></tr></thead>
          <tbody><tr v-for="row in table.slice(1, 401)"><td v-for="value in row">{{ value }}</td></tr></tbody>
        </table></div>
      </details>
    </figure>`,
  props: { spec: Object, height: String },
  data: () => ({ open: false }),
  computed: {
    told() {
      const names = this.spec.series.map((s) => s.name).join(", ");
      return `${this.spec.title}, ${this.spec.unit}. ${this.spec.about || `Series: ${names}.`} The figures are in the table below.`;
    },
    table() {
      return this.rows().map((row, i) =>
        i === 0 ? row : row.map((v, j) => (j === 0 && this.spec.x_kind === "time" ? say(v, "full") : v ?? "–")),
      );
    },
  },
  mounted() {
    this.chart = echarts.init(this.$refs.stage, null, { renderer: "canvas" });
    this.chart.on("click", (e) =>
      this.$emit("point", { series: e.seriesName, index: e.dataIndex, x: e.value?.[0] ?? e.name, y: e.value?.[1] ?? e.value }),
    );
    this.draw = () => this.chart.setOption(options(this.spec, this.$el.clientWidth < 480), { notMerge: true });
    this.draw();
    this.sizes = new ResizeObserver(() => this.chart.resize());
    this.sizes.observe(this.$refs.stage);
    document.addEventListener("rg-theme", this.draw);
  },
  updated() {
    if (this.spec !== this.last) this.draw(), (this.last = this.spec);
  },
  beforeUnmount() {
    document.removeEventListener("rg-theme", this.draw);
    this.sizes.disconnect();
    this.chart.dispose();
  },
  methods: {
    rows() {
      const { spec } = this;
      if (spec.x_kind === "value") {
        const head = ["series", spec.x_title || "x", spec.unit || "y", "low", "high", "point"];
        return [
          head,
          ...spec.series.flatMap((s) =>
            s.points.map(([x, y], i) => [s.name, x, y, s.low[i] ?? null, s.high[i] ?? null, s.labels[i] ?? ""]),
          ),
        ];
      }
      const heads = spec.series.flatMap((s) => (s.low.length ? [s.name, `${s.name} low`, `${s.name} high`] : [s.name]));
      const first = spec.x_kind === "time" ? "time (UTC)" : spec.x_title || "name";
      return [
        [first, ...heads],
        ...spec.x.map((x, i) => [
          x, ...spec.series.flatMap((s) => (s.low.length ? [s.values[i], s.low[i], s.high[i]] : [s.values[i]])),
        ]),
      ];
    },
    name(ending) {
      return `${this.spec.title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "")}.${ending}`;
    },
    png() {
      save(this.chart.getDataURL({ type: "png", pixelRatio: 2, backgroundColor: color("--rg-panel") }), this.name("png"));
    },
    csv() {
      const text = this.rows().map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
      const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
      save(url, this.name("csv"));
      setTimeout(() => URL.revokeObjectURL(url), 1000);
    },
  },
};
