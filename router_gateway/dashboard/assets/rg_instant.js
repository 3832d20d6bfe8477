// An instant in the viewer's zone and language; see words.py.
import { say, wholly } from "/assets/say.js";

export default {
  template: `<time :datetime="at" :title="title">{{ said }}</time>`,
  props: { at: String, kind: { type: String, default: "full" } },
  data: () => ({ beat: 0 }),
  mounted() {
    if (this.kind === "ago") this.timer = setInterval(() => this.beat++, 15000);
  },
  unmounted() {
    clearInterval(this.timer);
  },
  computed: {
    said() {
      return this.beat, say(this.at, this.kind);
    },
    title() {
      const date = new Date(this.at);
      return isNaN(date) ? "" : wholly(date);
    },
  },
};
