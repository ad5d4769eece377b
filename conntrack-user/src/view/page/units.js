// Numbers as `ctmon watch` writes them: the same as in view/units.rs.

const STEPS = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

// A count or a rate in at most five characters: 999, 9.9k, 123k, 12M.
export function short(value) {
  const size = Math.abs(value);
  for (const [step, unit] of STEPS) {
    if (size >= 0.9995 * step) {
      const scaled = value / step;
      return scaled.toFixed(Math.abs(scaled) < 9.95 ? 1 : 0) + unit;
    }
  }
  return (size < 0.5 ? 0 : value).toFixed(0);
}

// A rate a second in a sentence, with a decimal below 10; one above 0 is never 0.
export function rate(value) {
  if (value <= 0 || value >= 9.95) return short(value);
  return Math.max(value, 0.1).toFixed(1).replace(/\.0$/, "");
}

// As short, with a sign.
export function signed(value) {
  const text = short(value);
  return text === "0" || value < 0 ? text : `+${text}`;
}

// A share, rounded down: no number looks as if a threshold were reached that is not.
export const percent = (ratio) => `${Math.floor(ratio * 100 + 1e-9)} %`;

// A span of time in a sentence: 42 s, 12 min, 2.5 h.
export function time(seconds) {
  if (seconds < 1) return "less than 1 s";
  if (seconds < 100) return `${Math.floor(seconds)} s`;
  if (seconds < 99.5 * 60) return `${(seconds / 60).toFixed(0)} min`;
  return `${(seconds / 3600).toFixed(1).replace(/\.0$/, "")} h`;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const estimate = new Intl.NumberFormat("en", { maximumFractionDigits: 0, maximumSignificantDigits: 3 });

// A count in full: 121,499.
export const count = (value) => whole.format(value);

// An estimated number, with three digits that count: 121,000.
export const about = (value) => estimate.format(value < 1000 ? Math.round(value) : value);

// A time of day here, from nanoseconds since 1970.
export function clock(ns, withSeconds = true) {
  const options = { hour: "2-digit", minute: "2-digit", hour12: false };
  if (withSeconds) options.second = "2-digit";
  return new Date(ns / 1e6).toLocaleTimeString("en-GB", options);
}
