// How instants are told: in the viewer's zone and language. A module of its own, for the components that tell them.
const styles = {
  full: { dateStyle: "medium", timeStyle: "medium" },
  date: { dateStyle: "medium" },
  time: { timeStyle: "medium" },
};
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const made = {};
const steps = [
  [60, "second", 1],
  [3600, "minute", 60],
  [86400, "hour", 3600],
  [86400 * 60, "day", 86400],
  [Infinity, "month", 86400 * 30.44],
];
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "always", style: "short" });

export function say(at, kind) {
  const date = new Date(at);
  if (!at || isNaN(date)) return "–";
  if (kind === "ago") {
    const seconds = (date - Date.now()) / 1000;
    const [, unit, size] = steps.find(([limit]) => Math.abs(seconds) < limit);
    return relative.format(Math.round(seconds / size), unit);
  }
  made[kind] ??= new Intl.DateTimeFormat(undefined, styles[kind] ?? styles.full);
  return made[kind].format(date);
}

export const wholly = (date) => whole.format(date);
