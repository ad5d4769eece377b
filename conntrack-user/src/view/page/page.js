// Asks the daemon, and shows what it answers. Names are chosen by others: text only, never markup.

import { Plot } from "./plot.js";
import { Table, add, write } from "./table.js";
import { clock, count, percent, short, time } from "./units.js";
import * as words from "./words.js";

// Milliseconds: between two questions at least, until one is given up, and until what was told is old.
const EVERY = 1000;
const PATIENCE = 8000;
const STALE = 5000;
// Seconds that the last minutes are kept.
const KEPT = 600;

const $ = (id) => document.getElementById(id);
const table = new Table(document.querySelector("table"));
const plot = new Plot($("plot"), document.querySelector("#plot svg"), readOut);
const histories = new Map();
let node = null;
let newestNs = 0;
// When the daemon told something new last: milliseconds that never jump.
let told = 0;
// The time of day since when nothing is heard of it; null while it answers.
let silentSince = null;
let timer = null;
let isAsking = false;

// Why there is no answer.
class Silence extends Error {}

// Asks for the newest, shows it, and asks again: the slower the answer, the later.
async function poll() {
  if (isAsking) return;
  isAsking = true;
  const begun = performance.now();
  try {
    await look();
  } catch (error) {
    if (!(error instanceof Silence)) throw error;
    silentSince ??= Date.now() * 1e6;
    const last = node === null ? "" : ` What is shown is of ${clock(node.time_ns)}.`;
    trouble(`No answer since ${clock(silentSince)}: ${error.message}. Trying again.${last}`);
  } finally {
    isAsking = false;
    const took = performance.now() - begun;
    const wait = Math.max(EVERY, (node?.interval_ns ?? 0) / 1e6, 5 * took) - took;
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(poll, wait);
  }
}

async function look() {
  const status = await ask("api/v1/status");
  if (node !== null && (status.source !== node.source || status.time_ns < node.time_ns)) forget();
  remember(await ask(`api/v1/history?since=${newestNs}`));
  if (status.time_ns !== node?.time_ns) told = performance.now();
  node = status;
  silentSince = null;
  const isOld = performance.now() - told > Math.max(STALE, (3 * node.interval_ns) / 1e6);
  trouble(isOld ? `The tables were last read at ${clock(node.time_ns)}.` : "");
  show();
}

async function ask(path) {
  const why = (error) => (error.name === "TimeoutError" ? "it takes too long" : "it cannot be reached");
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) }).catch((error) => {
    throw new Silence(why(error));
  });
  if (answer.status === 401) throw new Silence("it wants a name and a password: load this page again");
  if (!answer.ok) throw new Silence(`it answers ${answer.status}, ${(await answer.text()).trim().slice(0, 200)}`);
  return answer.json().catch(() => {
    throw new Silence("what it answers is cut off, or no JSON");
  });
}

// Another source counts, or the clock was set back.
function forget() {
  histories.clear();
  newestNs = 0;
}

// Adds what is new of the last minutes.
function remember({ columns, netns: all }) {
  const keys = new Set(all.map(words.key));
  for (const key of histories.keys()) if (!keys.has(key)) histories.delete(key);
  for (const netns of all) {
    const key = words.key(netns);
    const points = histories.get(key) ?? [];
    histories.set(key, points);
    for (const row of netns.points) {
      const point = Object.fromEntries(columns.map((column, at) => [column, row[at]]));
      // The digits of a time are more than a number here has: the last one may come again.
      if (point.time_ns > (points.at(-1)?.time_ns ?? 0)) points.push(point);
      newestNs = Math.max(newestNs, point.time_ns);
    }
    while (points.length && points[0].time_ns < newestNs - KEPT * 1e9) points.shift();
  }
}

// The daemon is silent, or what it tells is old: greyed out, and why. An empty text: all is well.
function trouble(text) {
  write($("trouble"), text);
  $("trouble").hidden = text === "";
  document.body.classList.toggle("gone", text !== "");
}

function show() {
  const by = (netns) => words.order(netns);
  const sorted = [...node.netns].sort((a, b) => compare(by(a), by(b)));
  document.querySelector("main").hidden = false;
  write($("node"), `${node.source}, Linux ${node.kernel_release}`);
  write($("clock"), clock(node.time_ns));
  notes();
  const worst = sorted[0] ?? null;
  headline(worst);
  const wanted = decodeURIComponent(location.hash.slice(1));
  const chosen = sorted.find((netns) => words.key(netns) === wanted) ?? worst;
  $("chosen").hidden = chosen === null;
  $("namespaces").hidden = chosen === null;
  const hidden = table.show(sorted, chosen, node.source);
  const idle = [
    hidden > 0 ? `${count(hidden)} more that are less full are not shown.` : "",
    node.netns_idle > 0 ? `${count(node.netns_idle)} are idle: nothing was counted in them for 10 s.` : "",
    words.coverage(node.netns_coverage),
  ];
  write($("idle"), idle.join(" "));
  if (chosen) detail(chosen, wanted !== "" && words.key(chosen) !== wanted);
  $("follow").hidden = wanted === "";
}

function compare(a, b) {
  const at = a.findIndex((value, at) => value !== b[at]);
  return at < 0 ? 0 : a[at] - b[at];
}

function headline(worst) {
  const section = $("worst");
  const part = (name) => section.querySelector(name);
  section.className = worst ? words.urgency(worst) : "";
  const { icon, word } = worst ? words.state(worst) : { icon: "○", word: "nothing to see" };
  write(part(".badge"), `${icon} ${word}`);
  write(part(".name"), worst ? `${words.name(worst)}:` : "");
  write(part(".what"), worst ? words.sentence(worst) : "No network namespace tracks connections.");
  write(part(".reason"), worst ? words.reason(worst) : "");
  document.title = worst ? `${icon} ${words.fullIn(worst) ?? word} · ctmon` : "ctmon";
  // For those who listen: changes, not every second.
  write($("said"), worst ? `${words.name(worst)} is ${word}` : "");
}

// What is missing from these numbers, and why.
function notes() {
  const texts = [];
  if (node.source !== "ebpf") texts.push(`From ${node.source}, not from kernel programs: what is not available is a “?”.`);
  for (const { what, reason } of node.unavailable) texts.push(`Not available: ${what}: ${reason}.`);
  if (node.missed_calls_max > 0) texts.push(`Up to ${count(node.missed_calls_max)} calls were not counted: counts are no more exact.`);
  if (node.events?.lost > 0) texts.push(`${count(node.events.lost)} events of flows were lost since counting began; no count suffers.`);
  if (node.netns_overflow) texts.push("There are more network namespaces than are counted apart.");
  const list = $("notes");
  if (list.children.length !== texts.length) list.replaceChildren(...texts.map(() => document.createElement("li")));
  texts.forEach((text, at) => write(list.children[at], text));
}

// The last minutes of one table, and what else is known of it.
function detail(netns, isGone) {
  const name = words.name(netns);
  write($("chosen-name"), isGone ? `${name} (the chosen one is gone)` : name);
  const limit = words.limit(netns) ?? "not known";
  plot.show(histories.get(words.key(netns)) ?? [], netns.entries_limit, limit, node.time_ns);
  const { full_probability: within, seconds_to_first_drop: drop } = netns.forecast;
  const victim = (kind) => node.victims.findLast((one) => one.kind === kind && one.netns_inode === netns.inode);
  const tuple = ({ original: of }) => `${of.source} port ${of.source_port} to ${of.destination} port ${of.destination_port}`;
  const dropped = victim("table_full_drop");
  const evicted = victim("early_drop");
  facts($("facts"), [
    // Of a full table the sentence has the facts, and nothing is forecast.
    ...(words.isFull(netns) ? [] : [["Full within 1 min, 5 min, 15 min, 1 h", within && ["1m", "5m", "15m", "1h"].map((key) => chance(within[key])).join(", ")]]),
    ...(words.isFull(netns) || netns.tick?.table_full_drops ? [] : [["First packet dropped", drop && (drop.p50 === null ? "not within 3 h" : `in ${words.interval(drop)}`)]]),
    ["Entries that can be evicted", words.evictable(netns)],
    ["Count of the kernel", netns.kernel.count === null ? null : count(netns.kernel.count)],
    ...(dropped ? [["Dropped last", tuple(dropped)]] : []),
    ...(evicted ? [["Evicted last", tuple(evicted)]] : []),
  ]);
}

// A probability that is neither 0 nor 1 is not written as one.
const chance = (share) => (share > 0 && share < 0.01 ? "<1 %" : percent(share));

// When it is full, as told at a point. A null is beyond three hours where there was a forecast, else not known.
function fullAt(point, isForecast) {
  const at = point?.seconds_to_full_p50 ?? null;
  if (at === null) return isForecast ? "–" : null;
  return at === 0 ? "full" : time(at);
}

// Entries a minute later, as told at a point: no more than the limit of now.
function inAMinute(point, isForecast) {
  if (!isForecast) return point?.seconds_to_full_p50 === 0 ? "–" : null;
  const [low, high] = [point.entries_in_60s_p10, point.entries_in_60s_p90];
  const limit = plot.series.limit ?? Infinity;
  return low >= limit ? "full" : `${short(low)} to ${short(Math.min(high, limit))}`;
}

// One second of the plot in numbers.
function readOut(point, isChosen) {
  const rate = (value) => (value == null ? null : short(value));
  const whole = (value) => (value == null ? null : count(value));
  const ahead = point?.entries_in_60s_p10 != null;
  facts($("readout"), [
    [isChosen ? "Then" : "Now", point && clock(point.time_ns)],
    ["Entries", whole(point?.entries)],
    ["Inserts/s", rate(point?.insert_rate)],
    ["Peak/s", rate(point?.insert_rate_peak)],
    ["Deletes/s", rate(point?.delete_rate)],
    ["Drops", whole(point?.table_full_drops)],
    ["Evictions", whole(point?.early_drops)],
    ["Full in", fullAt(point, ahead)],
    ["60 s later", inAMinute(point, ahead)],
  ]);
  const texts = [...$("readout").children].map((pair) => pair.innerText.replace("\n", " "));
  // Not every second, lest it is read out all the time.
  const slider = $("plot");
  if (!isChosen && slider.ariaValueText) return;
  slider.ariaValueText = texts.join(", ");
  slider.ariaValueNow = point ? Math.round((point.time_ns - node.time_ns) / 1e9) : 0;
}

// Fills a list of labels and values; a null is a "?".
function facts(list, pairs) {
  while (list.children.length > pairs.length) list.lastChild.remove();
  pairs.forEach(([label, value], at) => {
    const pair = list.children[at] ?? add(list, "div");
    const [term, text] = pair.children.length ? pair.children : [add(pair, "dt"), add(pair, "dd")];
    write(term, label);
    write(text, value ?? "?");
    text.title = value === null ? "not available" : "";
  });
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) poll();
});
addEventListener("hashchange", () => {
  if (node === null) return;
  show();
  if ($("chosen").getBoundingClientRect().top < 0) $("chosen").scrollIntoView();
});
poll();
