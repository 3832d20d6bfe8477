// The dial: a slider on a log scale that answers at once, with its value in words for screen readers. See dial.py.
const STEPS = 400;

const plain = (said) => (said.includes("e") ? Number(said).toFixed(12).replace(/0+$/, "") : said);
const money = (usd) => `$${plain(String(Number(usd.toPrecision(3))))}`;

export default {
  template: `
    <div class="rg-dial">
      <div class="rg-dial-head">
        <label class="rg-dial-label" :for="name">{{ label }}</label>
        <span class="rg-dial-value"><span aria-hidden="true">$</span><input type="text" inputmode="decimal" autocomplete="off"
          spellcheck="false" :aria-label="label + ', in USD'" :aria-invalid="wrong" :value="typed" @input="draft = $event.target.value" @change="type" @keydown.enter="type"></span>
      </div>
      <input type="range" :id="name" min="0" :max="steps" step="1" :value="place" :aria-valuetext="said"
        @input="slide" @keydown="jump">
      <div class="rg-dial-ends" aria-hidden="true"><span>{{ ends[0] }}</span><span>{{ ends[1] }}</span></div>
    </div>`,
  props: { label: String, name: String, low: Number, high: Number, stops: Array, put: Array },
  data() {
    return { worth: this.put[0], move: this.put[1], steps: STEPS, draft: null, wrong: false };
  },
  watch: {
    put([worth, move]) {
      if (move === this.move) return; // said again with other news, such as another range: it stays where it is
      this.move = move;
      this.settle(worth);
    },
  },
  computed: {
    place() {
      return this.at(this.worth);
    },
    typed() {
      return this.draft ?? money(this.worth).slice(1); // what is being typed outlives other news
    },
    said() {
      return `${money(this.worth)} for a perfect answer`;
    },
    ends() {
      return [`${money(this.low)} cheaper`, `better ${money(this.high)}`];
    },
  },
  methods: {
    at(worth) {
      const place = (STEPS * Math.log(worth / this.low)) / Math.log(this.high / this.low);
      return Math.round(Math.min(Math.max(place, 0), STEPS));
    },
    slide(event) {
      const place = Number(event.target.value);
      const worth = this.low * (this.high / this.low) ** (place / STEPS);
      const near = this.stops.find((stop) => Math.abs(this.at(stop) - place) <= 1); // snaps to what was computed
      this.go(near ?? Number(worth.toPrecision(3)));
    },
    jump(event) {
      const up = event.key === "PageUp";
      if (!up && event.key !== "PageDown") return;
      event.preventDefault();
      const stops = up ? this.stops : [...this.stops].reverse();
      const next = stops.find((stop) => (up ? stop > this.worth * 1.0001 : stop < this.worth * 0.9999));
      if (next) this.go(next);
    },
    type(event) {
      const worth = Number(event.target.value.replace("$", "").trim());
      this.wrong = !(worth > 0 && Number.isFinite(worth));
      if (this.wrong) this.draft = event.target.value;
      else if (worth !== this.worth) this.go(worth);
      else this.settle(worth);
    },
    settle(worth) {
      this.worth = worth;
      this.draft = null;
      this.wrong = false;
    },
    go(worth) {
      this.settle(worth);
      clearTimeout(this.timer);
      const wait = 60 - (performance.now() - (this.last ?? 0)); // at most so often while it is dragged
      const tell = () => ((this.last = performance.now()), this.$emit("dial", this.worth));
      if (wait <= 0) tell();
      else this.timer = setTimeout(tell, wait);
    },
  },
};
