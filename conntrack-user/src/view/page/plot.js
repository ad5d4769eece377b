// The last minutes of one table, and the minute ahead: the level above, rates below, losses at the foot.

import { clock, short } from "./units.js";

// Seconds that a picture may hold; the least that holds all is taken.
const SPANS = [120, 300, 600];
const AHEAD = 60;
// Pixels.
const LEFT = 46;
const RIGHT = 10;
const PANES = {
  level: { top: 16, height: 190 },
  rates: { top: 236, height: 84 },
  table_full_drops: { top: 330, height: 12 },
  early_drops: { top: 346, height: 12 },
};
const FOOT = 358;
const HEIGHT = 378;

export class Plot {
  // `svg` is drawn into; `read` is told which point is read out, and whether somebody chose it.
  constructor(box, svg, read) {
    Object.assign(this, { box, svg, read, series: null, chosen: null });
    new ResizeObserver(() => this.draw()).observe(box);
    const point = (event) => this.choose(this.nearest(event.clientX - box.getBoundingClientRect().left));
    box.addEventListener("pointermove", point);
    box.addEventListener("pointerdown", point);
    box.addEventListener("pointerleave", () => this.choose(null));
    box.addEventListener("blur", () => this.choose(null));
    box.addEventListener("keydown", (event) => this.key(event));
  }

  // Shows `points`, the oldest first, of a table with this limit (null: none, or not told), and what is said of it.
  show(points, limit, limitText, nowNs) {
    const seconds = (point) => (point.time_ns - nowNs) / 1e9;
    const recent = points.filter((point) => seconds(point) > -SPANS.at(-1));
    const oldest = recent.length ? -seconds(recent[0]) : 0;
    const span = SPANS.find((span) => span >= oldest) ?? SPANS.at(-1);
    this.series = { points: recent, limit, limitText, nowNs, span, seconds };
    this.draw();
  }

  key(event) {
    const points = this.series?.points ?? [];
    const last = points.length - 1;
    const at = this.chosen === null ? last : points.findIndex((point) => point.time_ns >= this.chosen);
    const to = {
      ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1,
      PageDown: at - 30, PageUp: at + 30, Home: 0, End: last,
    }[event.key];
    if (event.key === "Escape") this.choose(null);
    else if (to === undefined || last < 0) return;
    else this.choose(points[Math.max(0, Math.min(last, to))]);
    event.preventDefault();
  }

  choose(point) {
    this.chosen = point?.time_ns ?? null;
    this.draw();
  }

  // The point that is read out: the chosen one, as long as it is there, or the last.
  point() {
    const { points } = this.series;
    const chosen = this.chosen === null ? undefined : points.find((point) => point.time_ns === this.chosen);
    return chosen ?? points.at(-1) ?? null;
  }

  nearest(x) {
    const { points = [], seconds } = this.series ?? {};
    const distance = (point) => Math.abs(this.x(seconds(point)) - x);
    return points.reduce((best, point) => (best && distance(best) <= distance(point) ? best : point), null);
  }

  // Where a second, from now on, is.
  x(seconds) {
    const { span } = this.series;
    return LEFT + ((seconds + span) / (span + AHEAD)) * (this.width - LEFT - RIGHT);
  }

  draw() {
    this.width = this.box.clientWidth;
    if (!this.series || this.width < LEFT + RIGHT + 50) return;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    this.svg.setAttribute("height", HEIGHT);
    this.svg.replaceChildren();
    this.times();
    this.level();
    this.rates();
    this.losses("table_full_drops", "drops");
    this.losses("early_drops", "evict.");
    const point = this.point();
    if (point && this.chosen !== null) this.cross(point);
    this.read(point, this.chosen !== null);
  }

  // The axis of time, in the reader's own.
  times() {
    const { span, nowNs } = this.series;
    const room = (this.width - LEFT - RIGHT) / (span + AHEAD);
    const step = [15, 30, 60, 120, 300].find((step) => step * room >= 62) ?? 300;
    const first = Math.ceil((nowNs / 1e9 - span) / step) * step;
    for (let at = first; at <= nowNs / 1e9 + AHEAD; at += step) {
      const x = this.x(at - nowNs / 1e9);
      this.line("grid", x, PANES.level.top, x, FOOT);
      if (x > LEFT + 14 && x < this.width - 26) this.text("middle", x, FOOT + 15, clock(at * 1e9, step % 60 !== 0));
    }
    const now = this.x(0);
    this.add("rect", { class: "ahead", x: now, y: PANES.level.top, width: this.width - RIGHT - now, height: FOOT - PANES.level.top });
  }

  level() {
    const { points, limit, limitText } = this.series;
    const last = points.at(-1);
    const highest = Math.max(1, ...points.map((point) => point.entries ?? 0));
    // A limit that is far away would press the level to the floor.
    const isNear = limit !== null && highest > limit / 5;
    const ahead = last?.entries_in_60s_p90 ?? 0;
    const top = 1.15 * (isNear ? Math.max(limit, highest) : Math.max(highest, Math.min(ahead, 3 * highest + 20)));
    const pane = this.pane("level", top, "entries");
    if (isNear) {
      const y = pane.y(limit);
      this.line("limit", LEFT, y, this.width - RIGHT, y);
      this.text("limit-text", LEFT + 6, y - 4, `limit ${limitText}`);
    } else {
      const text = `limit ${limitText}${limit === null ? "" : ", far above"}`;
      this.text("limit-text", LEFT + 6, PANES.level.top + 11, text);
    }
    if (!last) this.note("level", "nothing was told of it lately");
    this.fan(pane, last);
    this.curve(pane, "level", "entries");
  }

  // What was said last of the minute ahead: a wedge from now to what may be then, cut off at the limit.
  fan({ y }, last) {
    const { seconds, limit } = this.series;
    if (!last || last.entries === null || last.entries_in_60s_p50 === null) return;
    const { top, height } = PANES.level;
    const ceiling = Math.min(top + height, Math.max(top, limit === null ? top : y(limit)));
    const clip = this.clip(ceiling, top + height - ceiling);
    const [from, to] = [this.x(seconds(last)), this.x(seconds(last) + AHEAD)];
    const at = (entries) => `${to.toFixed(1)},${y(entries).toFixed(1)}`;
    const start = `${from.toFixed(1)},${y(last.entries).toFixed(1)}`;
    this.add("polygon", { class: "fan", points: `${start} ${at(last.entries_in_60s_p90)} ${at(last.entries_in_60s_p10)}` }, clip);
    this.add("polyline", { class: "median", points: `${start} ${at(last.entries_in_60s_p50)}` }, clip);
  }

  rates() {
    const { points } = this.series;
    const all = points.flatMap((point) => [point.insert_rate ?? 0, point.delete_rate ?? 0]);
    const pane = this.pane("rates", Math.max(1, ...all) * 1.1, "per s");
    if (points.length && points.every((point) => point.insert_rate === null && point.delete_rate === null)) {
      return this.note("rates", "rates are not available");
    }
    this.curve(pane, "deletes", "delete_rate");
    this.curve(pane, "inserts", "insert_rate");
  }

  // A bar for each point whose member `name` is above 0.
  losses(name, label) {
    const { points, seconds } = this.series;
    const { top, height } = PANES[name];
    this.text("end", LEFT - 5, top + height - 2, label);
    this.line("grid", LEFT, top + height, this.width - RIGHT, top + height);
    for (const point of points.filter((point) => point[name] > 0)) {
      const tall = Math.min(height, 4 + 3 * Math.log10(point[name]));
      this.add("rect", { class: name, x: this.x(seconds(point)) - 1, y: top + height - tall, width: 2, height: tall });
    }
  }

  // A part of the picture from 0 to `top`: where a value is, and an element that cuts off what is beyond.
  pane(name, top, unit) {
    const pane = PANES[name];
    const y = (value) => pane.top + pane.height * (1 - value / top);
    for (const tick of ticks(top * 0.92, pane.height / 38)) {
      this.line("grid", LEFT, y(tick), this.width - RIGHT, y(tick));
      this.text("end", LEFT - 5, y(tick) + 4, short(tick).replace(".0", ""));
    }
    this.text("end", LEFT - 5, pane.top - 2, unit);
    return { y, clip: this.clip(pane.top, pane.height) };
  }

  // An element that cuts off what is above `top` and what is below that and `height`.
  clip(top, height) {
    const box = { x: 0, y: top, width: this.width, height: height + 1 };
    return this.add("svg", { ...box, viewBox: `0 ${top} ${this.width} ${height + 1}` });
  }

  // A line through the points, interrupted where nothing is told for a while.
  curve({ y, clip }, look, field) {
    const { points, seconds } = this.series;
    const usual = median(points.slice(1).map((point, at) => point.time_ns - points[at].time_ns));
    let path = "";
    let before = null;
    for (const point of points) {
      if (point[field] === null) {
        before = null;
        continue;
      }
      const joins = before !== null && point.time_ns - before <= 2.6 * usual;
      path += `${joins ? "L" : "M"}${this.x(seconds(point)).toFixed(1)} ${y(point[field]).toFixed(1)}`;
      before = point.time_ns;
    }
    this.add("path", { class: `curve ${look}`, d: path }, clip);
  }

  // Why a part of the picture is empty.
  note(name, text) {
    const { top, height } = PANES[name];
    this.text("middle", (LEFT + this.width) / 2, top + height / 2, text);
  }

  cross(point) {
    const x = this.x(this.series.seconds(point));
    this.line("cross", x, PANES.level.top, x, FOOT);
  }

  line(look, x1, y1, x2, y2) {
    this.add("line", { class: look, x1, y1, x2, y2 });
  }

  text(look, x, y, text) {
    this.add("text", { class: look, x, y }).textContent = text;
  }

  add(tag, attributes, parent = this.svg) {
    const element = document.createElementNS(this.svg.namespaceURI, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return parent.appendChild(element);
  }
}

// Round numbers from 0 to below `top`, about `wanted` of them.
function ticks(top, wanted) {
  const rough = top / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, power * [1, 2, 5, 10].find((times) => times * power >= rough));
  return Array.from({ length: Math.floor(top / step) + 1 }, (_, at) => at * step);
}

function median(values) {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;
}
