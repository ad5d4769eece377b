// One row a namespace, the worst first.

import { percent, short, signed } from "./units.js";
import * as words from "./words.js";

// Rows at the most: who is not among the worst is in the metrics.
const ROWS = 50;
const UNKNOWN = "not available";

// What is written in a cell: a number, and something smaller below it. A null is a "?".
const told = (value, write, below = "") => ({ text: value === null ? null : write(value), below });

const COLUMNS = [
  { label: "State", cell: (netns) => {
    const { icon, word } = words.state(netns);
    const below = words.fullIn(netns) ?? "no forecast";
    return { text: `${icon} ${word}`, below, look: words.urgency(netns), title: words.reason(netns) };
  } },
  { label: "Entries", cell: (netns, source) => {
    const fill = netns.fill_ratio === null ? "" : `${percent(netns.fill_ratio)}, `;
    return {
      text: words.entries(netns),
      of: words.limit(netns) ?? "?",
      bar: netns.fill_ratio,
      below: fill + words.exactness(netns, source),
      look: words.urgency(netns),
    };
  } },
  { label: "Drift", cell: (netns) => {
    const moving = netns.count_drift === null && netns.totals !== null;
    if (moving) return { text: "~", title: "the table moved during every read" };
    return { ...told(netns.count_drift, signed), look: netns.count_drift ? "bad" : "" };
  } },
  { label: "Inserts/s", cell: (netns) => {
    const peak = netns.windows?.insert_rate_peak ?? null;
    const below = peak === null ? "peak ?" : `peak ${short(peak)}`;
    return { ...told(netns.insert_rate, short, below), title: "peak: the highest rate within some 10 ms" };
  } },
  { label: "Deletes/s", cell: (netns) => told(netns.delete_rate, short) },
  { label: "Net/s", cell: (netns) => told(netns.net_rate, signed) },
  { label: "Drops", cell: (netns) => loss(netns, "table_full_drops", "bad") },
  { label: "Evictions", cell: (netns) => loss(netns, "early_drops", "warning") },
  { label: "Settles at", cell: (netns) => {
    if (words.isFull(netns)) return { text: "–", title: "full: nothing is forecast" };
    const level = words.steadyState(netns);
    const title = level ? "" : "does not settle, or not available";
    return { text: level?.entries ?? null, below: level?.when ?? "", title };
  } },
];

// What was lost in the last tick, and since counting began.
function loss(netns, field, look) {
  const now = netns.tick?.[field] ?? null;
  const all = netns.totals?.[field] ?? null;
  const below = all === null ? "" : `${short(all)} in all`;
  return { ...told(now, short, below), look: now ? look : "" };
}

export class Table {
  constructor(table) {
    this.body = table.tBodies[0];
    this.rows = new Map();
    for (const label of ["Namespace", ...COLUMNS.map((column) => column.label)]) {
      const head = add(table.tHead.rows[0], "th", label);
      head.scope = "col";
      head.setAttribute("role", "columnheader");
    }
  }

  // Shows the tables of `sorted`, `chosen` among them; returns how many had no room.
  show(sorted, chosen, source) {
    const shown = sorted.slice(0, ROWS);
    const keys = new Set(shown.map(words.key));
    for (const [key, row] of this.rows) {
      if (!keys.has(key)) {
        row.element.remove();
        this.rows.delete(key);
      }
    }
    shown.forEach((netns, at) => {
      const key = words.key(netns);
      if (!this.rows.has(key)) this.rows.set(key, new Row(key));
      const row = this.rows.get(key);
      row.show(netns, source, netns === chosen);
      // Only those that moved, lest the focus is lost.
      if (this.body.children[at] !== row.element) this.body.insertBefore(row.element, this.body.children[at]);
    });
    return sorted.length - shown.length;
  }
}

class Row {
  constructor(key) {
    this.element = document.createElement("tr");
    this.element.setAttribute("role", "row");
    const head = add(this.element, "th");
    head.scope = "row";
    head.setAttribute("role", "rowheader");
    this.link = add(head, "a");
    this.link.href = `#${key}`;
    this.below = add(head, "small");
    this.cells = COLUMNS.map(({ label }) => new Cell(this.element, label));
  }

  show(netns, source, isChosen) {
    this.element.className = words.urgency(netns);
    write(this.link, words.name(netns));
    this.link.title = words.name(netns);
    if (isChosen) this.link.setAttribute("aria-current", "true");
    else this.link.removeAttribute("aria-current");
    write(this.below, netns.name === null ? "no name is known" : `${words.kind(netns)} ${netns.inode}`);
    COLUMNS.forEach(({ cell }, at) => this.cells[at].show(cell(netns, source)));
  }
}

class Cell {
  constructor(row, label) {
    this.element = add(row, "td");
    this.element.setAttribute("role", "cell");
    this.element.dataset.label = label;
    this.text = add(this.element, "span");
    this.of = add(this.element, "span");
    this.of.className = "of";
    this.below = add(this.element, "small");
  }

  show({ text, of, bar, below = "", look = "", title = "" }) {
    this.element.className = look;
    this.element.title = title || (text === null ? UNKNOWN : "");
    write(this.text, text ?? "?");
    write(this.of, of === undefined ? "" : ` of ${of}`);
    write(this.below, below);
    if (bar === undefined) return;
    this.bar ??= this.element.insertBefore(document.createElement("i"), this.below);
    this.bar.style.setProperty("--fill", Math.min(bar ?? 0, 1));
  }
}

// A new element at the end of `parent`.
export function add(parent, tag, text = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  return parent.appendChild(element);
}

// Changes what an element says only where it says something else, lest it is said again.
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
