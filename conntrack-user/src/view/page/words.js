// What is said of a table, as `ctmon watch` says it: view/forecast.rs.

import { about, count, percent, time } from "./units.js";

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

// Tells one namespace from another that had its number before.
export const key = (netns) => `${netns.inode}/${netns.cookie ?? ""}`;

// A table that is evicting is full, although it has a few entries less now and then.
export function state(netns) {
  const lost = (netns.tick?.early_drops ?? 0) + (netns.tick?.table_full_drops ?? 0);
  const at = netns.seconds_to_full_p50;
  const isFull = at !== null && at < 1 && lost > 0;
  return STATES[isFull ? "full" : netns.forecast.state];
}

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
  if (state(netns).word === "full") return "full now";
  const at = netns.forecast.seconds_to_full;
  if (at === null) return null;
  if (at.p50 === null) {
    if (at.p10 === null) return `not full within ${HORIZON}`;
    return `may be full in ${time(at.p10)}, but probably not within ${HORIZON}`;
  }
  return `full in ${interval(at)}`;
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
  if (full !== null && full !== "full now") parts.push(full);
  const lost = (field) => netns.tick?.[field] ?? null;
  const [dropped, evicted] = [lost("table_full_drops"), lost("early_drops")];
  if (full === "full now" || dropped || evicted) {
    const told = (value) => (value === null ? "?" : count(value));
    parts.push(`${told(dropped)} packets dropped and ${told(evicted)} entries evicted just now`);
  }
  return `${parts.join(", ")}.`;
}
