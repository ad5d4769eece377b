// What is said of a table, as `ctmon watch` says it: view/forecast.rs.

import { about, clock, count, percent, rate, signed, time } from "./units.js";

const HORIZON = "3 h";

const STATES = {
  full: { icon: "■", word: "full", rank: 0 },
  filling: { icon: "▲", word: "filling", rank: 1 },
  steady: { icon: "●", word: "steady", rank: 2 },
  draining: { icon: "▼", word: "draining", rank: 2 },
  not_enough_data: { icon: "○", word: "not enough data", rank: 2 },
};

// Names of what is called by nothing are their numbers.
export const name = (netns) => netns.name ?? `netns ${netns.inode}`;

// The kind of a name, in words.
export const kind = (netns) => netns.name_kind.replace("_", " ");

// Tables that are not read, and what may hide others.
export function coverage(of) {
  const unread = of ? of.counted + of.unread : 0;
  const hidden = (of?.blind_spots ?? []).map((spot) => `${spot.text}.`);
  if (unread + hidden.length === 0) return "";
  const least = of.is_total_exact ? "" : "at least ";
  return [`${count(of.read)} of ${least}${count(of.read + unread)} tables are read.`, ...hidden].join(" ");
}

// Tells one namespace from another that had its number before.
export const key = (netns) => `${netns.inode}/${netns.cookie ?? ""}`;

export const state = (netns) => STATES[netns.forecast.state];

export const isFull = (netns) => netns.forecast.state === "full";

// Class of style.css for the severity of a table.
const LOOKS = { critical: "bad", warning: "warning" };
export const urgency = (netns) => LOOKS[netns.severity] ?? "";

const WEIGHTS = { critical: 0, warning: 1 };

// Worse ones are less: by severity, then by what becomes of it. Coarse, lest two that are about the same take turns.
export function order(netns) {
  const { rank } = state(netns);
  const weight = WEIGHTS[netns.severity] ?? 2;
  const at = netns.seconds_to_full_p50;
  const soon = at === null ? 99 : Math.round(Math.log2(at + 1) * 2);
  return [weight, rank, rank < 2 ? soon : 0, -Math.round((netns.fill_ratio ?? -1) * 20), netns.inode];
}

// Entries as far as they are told; null where they are not.
export function entries(netns) {
  if (netns.entries !== null) return count(netns.entries);
  return netns.entries_high === null ? null : `≤ ${count(netns.entries_high)}`;
}

// The limit; null where it is not told.
export function limit(netns) {
  if (netns.unlimited) return "∞";
  return netns.entries_limit === null ? null : count(netns.entries_limit);
}

// How the number of entries is known.
export function exactness(netns, source) {
  if (source === "procfs") return "polled";
  if (netns.entries !== null) return netns.count_drift ? "drifting" : "exact";
  if (netns.entries_high === null) return "not available";
  return `at least ${count(netns.entries_low)}`;
}

// When it is full, with the interval that holds it in eight of ten cases; null where nothing can be said.
export function fullIn(netns) {
  if (netns.unlimited) return "never full: no limit";
  if (isFull(netns)) return fullFor(netns);
  const at = netns.forecast.seconds_to_full;
  if (at === null) return null;
  if (at.p50 === null) {
    if (at.p10 === null) return `not full within ${HORIZON}`;
    return `may be full in ${time(at.p10)}, but probably not within ${HORIZON}`;
  }
  return `full in ${interval(at)}`;
}

// How long it is full.
function fullFor({ full_seconds: seconds, full_at_start }) {
  if (seconds === null || seconds < 1) return "full now";
  return `full for ${full_at_start ? "at least " : ""}${time(seconds)}`;
}

// What a full table loses.
function losses({ table_full_drop_rate: dropped, early_drop_rate: evicted }) {
  const drops = dropped > 0 ? `drops ${noun(rate(dropped), "packet/s", "packets/s")}` : "";
  const evicts = evicted > 0 ? `evicts ${noun(rate(evicted), "entry/s", "entries/s")}` : "";
  if (drops && evicts) return `${drops} and ${evicts}`;
  if (drops) return evicted === 0 ? `${drops}, evicts nothing` : drops;
  if (evicts) return dropped === 0 ? `${evicts}, drops nothing` : evicts;
  return dropped === 0 ? "nothing dropped or evicted" : "drops and evictions are not counted";
}

const noun = (number, one, many) => `${number} ${number === "1" ? one : many}`;

// Why, in a line: since when of a full table, else the reason of its forecast.
export function reason(netns) {
  const { full_since_ns: since, table_full_drops_since_ns: dropped, full_at_start } = netns;
  if (since === null) return netns.forecast.reason;
  const begin = `Full since ${clock(since)}${full_at_start ? " or before" : ""}`;
  const drops = dropped === null ? "" : `, packets dropped since ${dropped === since ? "then" : clock(dropped)}`;
  const why = netns.forecast.reason === "the table is full" ? "" : ` ${netns.forecast.reason}.`;
  return `${begin}${drops}.${why}`;
}

// What is known of entries that can be evicted; null where nothing is.
export function evictable({ forecast }) {
  const { evictable_entries: value, evictable_entries_low: low, evictable_entries_high: high } = forecast;
  const { evictable_unknown_entries: unknown } = forecast;
  if (unknown === null) return null;
  if (value === null) return `unknown for ${count(unknown)}`;
  const [at, from, to] = [value, low, high].map(about);
  const interval = from === at && to === at ? "" : ` (${from} to ${to})`;
  return `${at}${interval}${unknown > 0 ? `, unknown for ${count(unknown)}` : ""}`;
}

// A median and its interval, where that says more.
export function interval({ p10, p50, p90 }) {
  const [low, median, high] = [p10, p50, p90].map((at) => (at === null ? `beyond ${HORIZON}` : time(at)));
  return low === median && high === median ? median : `${median} (${low} to ${high})`;
}

// Where it settles; null where it does not, or nobody knows.
export function steadyState(netns) {
  const { steady_state } = netns.forecast;
  if (steady_state === null) return null;
  const above = netns.entries_limit !== null && steady_state.entries > netns.entries_limit;
  const when = steady_state.seconds < 1 ? "now" : `in ${time(steady_state.seconds)}`;
  return { entries: about(steady_state.entries), when: above ? "above the limit" : when };
}

// The sentence behind the name.
export function sentence(netns) {
  const now = entries(netns);
  const of = limit(netns);
  const fill = netns.fill_ratio === null ? "" : ` (${percent(netns.fill_ratio)})`;
  const parts = [`${now ?? "?"} of ${of ?? "?"} entries${fill}`];
  const full = fullIn(netns);
  if (full !== null) parts.push(full);
  else if (now !== null && of !== null) parts.push(...room(netns), "no forecast yet");
  const [dropped, evicted] = ["table_full_drops", "early_drops"].map((field) => netns.tick?.[field] ?? null);
  if (isFull(netns)) parts.push(losses(netns));
  else if (dropped || evicted) {
    const told = (value) => (value === null ? "?" : count(value));
    parts.push(`${told(dropped)} packets dropped and ${told(evicted)} entries evicted just now`);
  }
  return `${parts.join(", ")}.`;
}

// Free room and growth, as long as there is no forecast.
function room({ entries_high, entries_limit, net_rate }) {
  const free = `${count(Math.max(0, entries_limit - entries_high))} free`;
  return net_rate === null ? [free] : [free, `${signed(net_rate)}/s`];
}
