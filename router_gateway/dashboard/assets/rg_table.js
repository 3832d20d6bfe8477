// Draws what tables.py describes; every cell is Vue's own text.
import { say } from "/assets/say.js";

const short = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3, notation: "compact" });
const full = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const three = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });
const cents = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const small = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 2, maximumFractionDigits: 11 });
const sign = (v, said) => (v < 0 ? `−${said}` : said);
const right = new Set(["money", "number", "percent", "count", "ms"]);

const tells = {
  money: (v) => sign(v, `$${Math.abs(v) >= 1e6 ? short.format(Math.abs(v)) : Math.abs(v) >= 1 || v === 0 ? cents.format(Math.abs(v)) : small.format(Math.abs(v))}`),
  number: (v) => sign(v, three.format(Math.abs(v))),
  percent: (v) => sign(v, `${(Math.abs(v) * 100).toFixed(1)} %`),
  count: (v) => sign(v, full.format(Math.abs(v))),
  ms: (v) => (v >= 1000 ? `${(v / 1000).toFixed(1)} s` : `${v.toFixed(v < 10 ? 2 : 0)} ms`),
  instant: (v) => say(v, "full"),
  ago: (v) => say(v, "ago"),
};
const tones = new Set(["good", "bad", "warn", "accent"]);

export default {
  template: `
    <div class="rg-table-box" :style="height ? { maxHeight: height, overflowY: 'auto' } : {}" tabindex="0" role="region" :aria-label="label">
      <table class="rg-table" :aria-label="label">
        <thead><tr>
          <th v-for="c in columns" scope="col" :class="{ 'rg-right': isRight(c) }" :aria-sort="sorted(c)">
            <button v-if="c.sort" type="button" @click="sort(c)">{{ c.title }}<span aria-hidden="true">{{ arrow(c) }}</span></button>
            <span v-else>{{ c.title }}</span>
          </th>
        </tr></thead>
        <tbody>
          <tr v-for="[row, index] in shown" :key="index" :class="{ 'rg-open-row': opens }" @click="open(index, $event)">
            <td v-for="(c, i) in columns" :class="cellClass(c)">
              <a v-if="link(c, row)" class="rg-link" :href="link(c, row)">{{ tell(c, row) }}</a>
              <span v-else-if="c.form === 'pill' && row[c.name]" class="rg-pill" :class="tone(row[c.name])">{{ row[c.name][0] }}</span>
              <button v-else-if="opens && i === 0" type="button" class="rg-row-button" @click.stop="$emit('open', index)">{{ tell(c, row) }}</button>
              <template v-else>{{ tell(c, row) }}</template>
            </td>
          </tr>
        </tbody>
      </table>
      <div v-if="!rows.length" class="rg-table-none">{{ none }}</div>
      <div v-if="paged" class="rg-table-foot">
        <span role="status">{{ range }}</span>
        <button type="button" :disabled="offset === 0" @click="page(-1)">Previous</button>
        <button type="button" :disabled="last" @click="page(1)">Next</button>
      </div>
    </div>`,
  props: {
    columns: Array, rows: Array, label: String, none: String, total: Number, by: String, descending: Boolean,
    offset: Number, limit: Number, remote: Boolean, opens: Boolean, height: String,
  },
  emits: ["order", "open"],
  data() {
    return { mine: { by: this.by, descending: this.descending } };
  },
  computed: {
    order() {
      return this.remote ? { by: this.by, descending: this.descending } : this.mine;
    },
    shown() {
      const rows = this.rows.map((row, index) => [row, index]);
      if (this.remote || !this.order.by) return rows;
      const key = ([row]) => (Array.isArray(row[this.order.by]) ? row[this.order.by][0] : row[this.order.by]);
      const way = this.order.descending ? -1 : 1;
      return rows.sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === y) return 0;
        if (x === null || x === undefined) return 1;
        if (y === null || y === undefined) return -1;
        return (x < y ? -1 : 1) * way;
      });
    },
    paged() {
      return this.remote && (this.offset > 0 || this.rows.length >= this.limit || (this.total ?? 0) > this.rows.length);
    },
    last() {
      return this.total === null || this.total === undefined
        ? this.rows.length < this.limit
        : this.offset + this.rows.length >= this.total;
    },
    range() {
      const to = this.offset + this.rows.length;
      const of = this.total === null || this.total === undefined ? "" : ` of ${full.format(this.total)}`;
      return this.rows.length ? `${full.format(this.offset + 1)} to ${full.format(to)}${of}` : "";
    },
  },
  methods: {
    isRight: (c) => right.has(c.form),
    cellClass: (c) => ({
      "rg-right": right.has(c.form), "rg-mono": c.form === "mono", "rg-nowrap": c.form === "instant" || c.form === "ago",
    }),
    tone: (value) => (tones.has(value[1]) ? `rg-${value[1]}` : ""),
    tell(c, row) {
      const value = row[c.name];
      if (value === null || value === undefined || value === "") return "–";
      return tells[c.form] ? tells[c.form](value) : String(value);
    },
    link(c, row) {
      const path = c.path && row[c.path];
      return typeof path === "string" && /^\/(?![/\\])/.test(path) ? path : null;
    },
    sorted(c) {
      if (!c.sort) return undefined;
      return this.order.by !== c.name ? "none" : this.order.descending ? "descending" : "ascending";
    },
    arrow(c) {
      return this.order.by !== c.name ? "" : this.order.descending ? " ↓" : " ↑";
    },
    sort(c) {
      const descending = this.order.by === c.name ? !this.order.descending : true;
      if (this.remote) this.$emit("order", { by: c.name, descending, offset: 0 });
      else this.mine = { by: c.name, descending };
    },
    page(way) {
      const offset = Math.max(0, this.offset + way * this.limit);
      this.$emit("order", { by: this.by, descending: this.descending, offset });
    },
    open(index, event) {
      if (this.opens && !event.target.closest("a, button") && !String(getSelection())) this.$emit("open", index);
    },
  },
};
