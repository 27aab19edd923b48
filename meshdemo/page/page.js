"use strict";

// What a server answers is only ever set as text. The proxy makes the calls and sends a line for each answer, an object
// with what calls.py says of make_sample; this script counts and draws. It holds the answers of the window and of
// the places of the stream, and no others.

const SLICE_SECONDS = 2;       // calls are asked for in slices of this length
const OPEN_SLICES = 5;         // a browser opens no more than six connections to a host
const SILENCE_MS = 10000;      // a slice says something four times a second: after this the proxy is lost
const RETRY_MS = 1000;
const DRAW_MS = 200;
const LINE_LIMIT = 100000;     // characters; a line has some hundred
const SAMPLES = 6000;          // 60 seconds of 100 calls
const GROUPS = 40;             // versions or reasons that are told apart, and pods of a version; the rest is one
const NAMES = 64;              // names whose colour is remembered
const ROWS = 60;               // of a table
const SLOW_MS = 500;
const QUIET_SECONDS = 300;     // how long a pod that does not answer any more is shown, grey

const $ = (id) => document.getElementById(id);
const make = (tag, text, className) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
};
const setText = (element, text) => { if (element.textContent !== text) element.textContent = text; };
const formatTime = (ms) => (ms >= 9995 ? (ms / 1000).toFixed(1) + " s" : ms >= 999.5 ? (ms / 1000).toFixed(2) + " s" : ms.toFixed(ms >= 9.95 ? 0 : 1) + " ms");
// Only all is 100 %, and only none 0 %.
const percent = (part, whole) => {
  if (!whole) return "–";
  if (part === 0 || part === whole) return part ? "100 %" : "0 %";
  return Math.min(99.9, Math.max(0.1, 100 * part / whole)).toFixed(1) + " %";
};
// From 0 for half a millisecond to 1 for 30 s, the scale of the chart and of the rings.
const scaleOf = (ms) => Math.min(1, Math.log10(Math.max(ms, 0.5) / 0.5) / Math.log10(60000));

// --- Settings: in the controls and in the address, so that a link opens a scene and a reload keeps it ---

const isStill = () => settings.paused || waiting;
const settings = { rate: 10, path: "/", header: "", window: 10, big: false, paused: false };

// What the server told this page: a value by which it knows the page's own requests, and who led here.
const told = document.querySelector("meta[name=meshdemo]");
// A link may come from anybody, so it sets a scene and no more: the person's first click begins the calls. After that
// a reload goes on.
let waiting = false;

function isBegun() {
  try {
    return sessionStorage.getItem("begun") === location.search;
  } catch {
    return false;              // no storage in this browser: each load waits
  }
}

function rememberBegun() {
  try {
    sessionStorage.setItem("begun", location.search);
  } catch { /* as above */ }
}

function readAddress() {
  const fields = new URLSearchParams(location.search);
  const within = (text, low, high, otherwise) => (/^\d{1,3}$/.test(text ?? "") ? Math.min(high, Math.max(low, Number(text))) : otherwise);
  settings.rate = within(fields.get("rate"), 1, 100, 10);
  settings.path = fields.get("path") || "/";
  settings.header = fields.get("header") ?? "";
  settings.window = [5, 10, 30, 60].includes(Number(fields.get("window"))) ? Number(fields.get("window")) : 10;
  settings.big = fields.has("big");
  settings.paused = fields.has("paused");
  const isLed = ["rate", "path", "header"].some((name) => fields.has(name)) || "led" in told.dataset;
  waiting = isLed && !isBegun() && !settings.paused;
  $("rate").value = $("rate-shown").value = settings.rate;
  $("path").value = settings.path;
  $("header").value = settings.header;
  $("window").value = settings.window;
  document.documentElement.classList.toggle("big", settings.big);
}

function writeAddress() {
  const fields = new URLSearchParams();
  if (settings.rate !== 10) fields.set("rate", settings.rate);
  if (settings.path !== "/") fields.set("path", settings.path);
  if (settings.header) fields.set("header", settings.header);
  if (settings.window !== 10) fields.set("window", settings.window);
  const flags = ["big", "paused"].filter((name) => settings[name]);
  const query = [fields.toString().replaceAll("%2F", "/").replaceAll("%3A", ":"), ...flags].filter(Boolean).join("&");
  history.replaceState(null, "", query ? "?" + query : location.pathname);
  if (!waiting) rememberBegun();
}

// --- Calling: the proxy makes the calls of a slice; the next is asked for in time, however long answers take ---

let generation = 0;            // answers to what was called before are not counted
let abort = new AbortController();
let openSlices = 0;
let timer = null;
let nextSlice = 0;             // when it is due, by performance.now()
let lost = false;
let problem = "";              // why the proxy refuses what is asked for
let limit = { text: "", at: -Infinity };

function restart() {
  generation += 1;
  abort.abort();
  abort = new AbortController();
  openSlices = 0;
  lost = false;
  problem = "";
  limit.at = -Infinity;
  clear();
  clearTimeout(timer);
  nextSlice = performance.now();
  if (!isStill()) pump();
}

function pump() {
  clearTimeout(timer);
  if (isStill() || problem) return;
  const now = performance.now();
  if (openSlices >= OPEN_SLICES) {
    limit = { text: "Calls wait for slow answers.", at: now };
    nextSlice = now;
  } else if (now >= nextSlice) {
    nextSlice = Math.max(nextSlice + 1000 * SLICE_SECONDS, now + 500 * SLICE_SECONDS);
    callSlice(generation, abort.signal);
  }
  timer = setTimeout(pump, Math.max(20, Math.min(500, nextSlice - now)));
}

async function callSlice(born, signal) {
  openSlices += 1;
  const silence = new AbortController();
  let watchdog;
  const hear = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => silence.abort(), SILENCE_MS);
  };
  try {
    hear();
    // Relative, so that it goes through a gateway's prefix as the page did.
    const fields = new URLSearchParams({ rate: document.hidden ? 1 : settings.rate, seconds: SLICE_SECONDS, path: settings.path, header: settings.header });
    const response = await fetch("ui/calls?" + fields, { cache: "no-store", headers: { "Meshdemo-Page": told.content }, signal: AbortSignal.any([signal, silence.signal]) });
    if (!response.ok) {
      await refuse(born, response);
    } else if (!response.headers.get("content-type")?.startsWith("application/x-ndjson")) {
      throw new TypeError("not an answer of the proxy");
    } else {
      lost = false;
      await readLines(response, (line) => { if (born === generation) take(JSON.parse(line)); }, hear);
    }
  } catch {
    if (born === generation) {
      lost = true;
      nextSlice = performance.now() + RETRY_MS;
    }
  } finally {
    clearTimeout(watchdog);
    if (born === generation) openSlices -= 1;
  }
}

async function refuse(born, response) {
  const text = (await response.text()).slice(0, 300);
  if (born !== generation) return;
  if (response.status === 400 || response.status === 403) {
    problem = text;
  } else if (response.status === 503) {
    limit = { text, at: performance.now() };
    nextSlice = performance.now() + RETRY_MS;
  } else {
    throw new TypeError("not an answer of the proxy");
  }
}

async function readLines(response, use, hear) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    hear();
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    if (rest.length > LINE_LIMIT) throw new TypeError("not an answer of the proxy");
    lines.filter(Boolean).forEach(use);
  }
}

function take(line) {
  if (line.begun !== undefined) began(line.begun);
  else if (line.limit) limit = { text: line.limit, at: performance.now() };
  else if (line.changes) takeChanges(line.changes, new Date(line.now));
  else add(line);
}

// --- The model: answers and changes, and what is counted of them in the window ---

let samples = [];              // oldest first, each with `at`, when it came, and `group`, what it is counted under
let begun = [];                // how many calls were begun: objects with `at` and `count`
let entries = [];              // what stands in the stream: samples and changes
let sequence = 0;
let windowStart = 0;           // the last clear, change, or resume
let rateStart = 0;             // since when calls are requested at this rate
let pausedAt = null;
let lastChange = null;
let knownChanges = new Set();
const names = new Map();       // version -> { slot: its colour, pods: Map(pod -> letter), seen: Map(pod -> when it last answered), at: the same of all }

const clock = () => pausedAt ?? performance.now();

function clear() {
  samples = [];
  begun = [];
  entries = [];
  windowStart = rateStart = performance.now();
  if (pausedAt !== null) pausedAt = windowStart;
  release();
}

function add(sample) {
  sample.at = performance.now();
  sample.begunAt = Date.parse(sample.begun_at);
  sample.group = sample.version ?? (sample.failed ? sample.reason : sample.text || String(sample.status));
  sample.kind = sample.version !== null ? "version" : sample.failed ? "mesh" : "text";
  if (sample.kind !== "mesh") nameOf(sample);
  samples.push(sample);
  if (samples.length > SAMPLES) samples.shift();
  enter(sample);
}

// How many calls were really begun, told four times a second, whether they are answered or not.
function began(count) {
  begun.push({ at: performance.now(), count });
}

// A stream tells the latest changes as a whole. The proxy's clock says how long ago they were, since this one may be wrong.
function takeChanges(changes, now) {
  const keyOf = ({ time, text }) => `${time} ${text}`;
  for (const { time, text } of changes.filter((change) => !knownChanges.has(keyOf(change)))) {
    const at = performance.now() - Math.max(0, now - new Date(time));
    lastChange = { at, time: Date.parse(time), kind: "change", label: `${new Date(time).toLocaleTimeString("en-GB")} ${text}` };
    if (at > windowStart) enter(lastChange);
  }
  knownChanges = new Set(changes.map(keyOf));
}

function enter(entry) {
  entry.sequence = sequence += 1;
  entries.push(entry);
  if (entries.length > places.length) entries.splice(0, entries.length - places.length);
}

// A version that ends in a number has the colour of that number, whichever answers first; others leave the first two
// colours to these. Only where two names want the same one does the order matter.
function nameOf({ group, pod, at }) {
  let name = names.get(group);
  if (!name) {
    if (names.size >= NAMES) names.delete([...names].reduce((oldest, other) => (other[1].at < oldest[1].at ? other : oldest))[0]);
    const number = /(\d+)$/.exec(group);
    const taken = new Set([...names.values()].map((other) => other.slot));
    const hash = [...group].reduce((sum, letter) => (31 * sum + letter.codePointAt(0)) % 9973, 7);
    let slot = number ? (Number(number[1]) + 7) % 8 : 2 + hash % 6;
    for (let step = 0; step < 6 && taken.has(slot); step += 1) slot = 2 + (hash + step) % 6;
    name = { slot, pods: new Map(), seen: new Map() };
    names.set(group, name);
  }
  name.at = at;
  if (pod !== null) name.seen.set(pod, at);
  if (pod !== null && !name.pods.has(pod)) {
    if (name.pods.size >= 26) {
      const oldest = name.pods.keys().next().value;
      name.pods.delete(oldest);
      name.seen.delete(oldest);
    }
    const free = [..."abcdefghijklmnopqrstuvwxyz"].filter((letter) => ![...name.pods.values()].includes(letter));
    const own = "abcdefghijklmnopqrstuvwxyz"[Number(/-(\d{1,2})$/.exec(pod)?.[1] ?? 0) - 1];
    name.pods.set(pod, free.includes(own) ? own : free[0]);
  }
  return name;
}

// Everything that is shown of the window comes from here: shares, figures, tables, picture and chart say one thing.
function summarise() {
  const now = clock();
  const changed = lastChange !== null && lastChange.at > windowStart && lastChange.at > now - 1000 * settings.window;
  const start = Math.max(now - 1000 * settings.window, windowStart, changed ? lastChange.at : -Infinity);
  for (const list of [samples, begun]) {
    const oldest = list.findIndex(({ at }) => at >= now - 1000 * settings.window);
    list.splice(0, oldest === -1 ? list.length : oldest);
  }
  // A call that began before the change was not treated by what it changed; both times are the proxy's.
  const shown = samples.filter((sample) => sample.at >= start && (!changed || sample.begunAt >= lastChange.time));
  const groups = new Map();
  const statuses = new Map();
  for (const sample of shown) {
    const group = countIn(groups, sample.group, sample, "others");
    if (sample.pod !== null) countIn(group.pods, sample.pod, sample, "other pods");
    const status = sample.kind === "mesh" ? sample.reason : String(sample.status);
    countIn(statuses, status, sample, "others").explanation = sample.explanation ?? sample.text;
  }
  const order = (a, b) => (a.kind === "mesh") - (b.kind === "mesh") || String(a.name).localeCompare(String(b.name), "en", { numeric: true });
  const times = shown.map((sample) => sample.milliseconds).sort((a, b) => a - b);
  const failed = shown.filter((sample) => sample.failed).length;
  const rateSeconds = Math.max(0.5, (now - Math.max(start, rateStart)) / 1000);
  return {
    now, start, changed, shown, failed, total: shown.length,
    seconds: Math.max(1, Math.round((now - start) / 1000)),
    groups: [...groups.values()].sort(order),
    statuses: [...statuses.values()].sort(order),
    median: percentile(times, 0.5),
    p95: percentile(times, 0.95),
    rateSeconds,
    rate: begun.reduce((sum, { at, count }) => (at >= Math.max(start, rateStart) ? sum + count : sum), 0) / rateSeconds,
  };
}

function countIn(groups, name, sample, otherwise) {
  if (!groups.has(name) && groups.size >= GROUPS) name = otherwise;
  let group = groups.get(name);
  if (!group) groups.set(name, group = { name, kind: sample.kind, count: 0, failed: 0, retried: 0, caller: null, times: [], pods: new Map() });
  group.count += 1;
  group.failed += sample.failed ? 1 : 0;
  group.retried += sample.attempt > 1 ? 1 : 0;
  group.caller ??= sample.caller;
  group.times.push(sample.milliseconds);
  return group;
}

// Nearest rank, as `meshdemo watch` has it.
function percentile(ordered, share) {
  return ordered.length ? ordered[Math.max(0, Math.ceil(ordered.length * share) - 1)] : null;
}

// --- Drawing ---

const colourOf = (group) => (group.kind === "mesh" ? "" : "v" + (names.get(group.name)?.slot ?? 6));

function draw() {
  const view = summarise();
  drawState(view);
  drawFigures(view);
  drawShares(view);
  drawStream();
  drawFlows(view);
  drawChart(view);
  drawTables(view);
  drawMet(view);
}

function drawState({ total, failed, groups }) {
  const limited = performance.now() - limit.at < 3000;
  const allFailed = total > 0 && failed === total;
  const top = allFailed ? groups.reduce((most, group) => (group.count > most.count ? group : most)).name : "";
  const text = lost ? "The proxy does not answer; trying again."
    : problem ? "No calls are made."
    : settings.paused ? "Paused."
    : waiting ? `Press Start to call ${settings.path} ${settings.rate} times a second${settings.header ? ` with ${settings.header}` : ""}.`
    : allFailed ? `Every call fails: ${top}.`
    : limited ? limit.text
    : document.hidden ? "Calling once a second while the page is hidden."
    : `Calling ${settings.path}`;
  setText($("state"), text);
  $("problem").hidden = !problem;
  setText($("problem"), problem);
  const tile = $("state").parentElement;
  tile.className = lost || problem ? "missed" : allFailed && !isStill() ? "bad" : limited ? "missed" : "";
}

function drawFigures(view) {
  const figure = (id, text, className = "") => {
    setText($(id), text);
    const tile = $(id).parentElement;
    if (tile.className !== "figure " + className) tile.className = "figure " + className;
  };
  const { total, failed, median, p95, rate, rateSeconds } = view;
  figure("answered", percent(total - failed, total), total && failed === total ? "bad" : "");
  figure("failed", percent(failed, total), failed ? "bad" : "");
  figure("median", median === null ? "–" : formatTime(median), median >= SLOW_MS ? "slow" : "");
  figure("p95", p95 === null ? "–" : formatTime(p95), p95 >= SLOW_MS ? "slow" : "");
  const missed = !isStill() && !document.hidden && rateSeconds >= 4 && rate < 0.9 * settings.rate;
  const real = rate >= 9.95 ? rate.toFixed(0) : rate.toFixed(1);
  figure("pace", total || rateSeconds >= 4 ? real : "–", missed ? "missed" : "");
  setText($("pace-of"), missed ? `of ${settings.rate} requested` : "calls a second");
}

function drawShares({ groups, total, changed, seconds }) {
  const parts = [];
  const segments = groups.map((group) => {
    const segment = make("div", undefined, `segment ${group.kind} ${colourOf(group)}`);
    segment.style.flex = `${group.count} 0 0`;
    const fine = make("div", undefined, "fine");
    const bad = make("div", undefined, "hatched");
    fine.style.flex = `${group.count - group.failed} 0 0`;
    bad.style.flex = `${group.failed} 0 0`;
    const label = make("p", group.name);
    label.append(make("b", percent(group.count, total)));
    segment.append(fine, bad, label);
    const own = group.kind !== "mesh" && group.failed ? percent(group.failed, group.count) : "";
    if (own) {
      const part = make("p", "✕ " + own, "part");
      part.append(make("span", " failed"));
      segment.append(part);
    }
    parts.push(`${group.name} ${percent(group.count, total)}` + (own ? `, of these ${own} failed` : ""));
    segment.title = parts.at(-1);
    return segment;
  });
  $("share").replaceChildren(...segments);
  const summary = parts.join("; ") || "no answers yet";
  if ($("share").getAttribute("aria-label") !== summary) $("share").setAttribute("aria-label", summary);
  // What is too narrow for its words says fewer, or stands in the legend.
  const sizes = segments.map((segment) => [segment.clientWidth, [...segment.querySelectorAll("p")].reduce((sum, label) => sum + label.scrollWidth, 0), segment.querySelector("span")?.offsetWidth ?? 0]);
  const wide = sizes.map(([width, needed, word]) => needed - word <= width);
  segments.forEach((segment, index) => {
    segment.classList.toggle("tight", sizes[index][1] > sizes[index][0]);
    segment.classList.toggle("crowded", !wide[index]);
  });
  $("legend").replaceChildren(...legendOf(groups.filter((_, index) => !wide[index]), total));
  document.querySelectorAll(".span").forEach((element) => setText(element, `last ${seconds} s`));
  $("change").hidden = lastChange === null;
  if (lastChange) setText($("change"), `${changed ? "since" : "last change"} ${"lab" in told.dataset ? lastChange.label.slice(0, 8) : lastChange.label}`);
}

function legendOf(groups, total) {
  const most = [...groups].sort((a, b) => b.count - a.count).slice(0, 4);
  const shown = groups.filter((group) => most.includes(group));
  const items = shown.map((group) => {
    const item = make("li", `${group.name} ${percent(group.count, total)}` + (group.failed && group.kind !== "mesh" ? `, ${percent(group.failed, group.count)} failed` : ""));
    item.prepend(make("span", undefined, `swatch ${group.kind === "mesh" ? "hatched" : colourOf(group)}`));
    return item;
  });
  if (groups.length > shown.length) items.push(make("li", `and ${groups.length - shown.length} more, see the table`));
  return items;
}

// The stream has as many places as fit. Newest first, each entry moves on by one; where motion is not wanted, each
// stays in the place that it got, and the places are filled in turn.

let places = [];
let columns = 1;
let frozenAt = null;           // the number of the newest entry when somebody began to look
let pinned = false;            // by a tap, until told to go on
const still = matchMedia("(prefers-reduced-motion: reduce)");

function layOut() {
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const size = 2.25 * rem;
  columns = Math.max(1, Math.floor($("dots").clientWidth / size));
  const count = columns * Math.max(1, Math.round($("dots").clientHeight / size));
  if (count === places.length) return;
  const focused = places.indexOf(document.activeElement);
  while (places.length > count) places.pop().parentElement.remove();
  while (places.length < count) {
    const item = make("li");
    const button = make("button");
    button.type = "button";
    button.tabIndex = -1;
    button.append(make("span"));
    item.append(button);
    $("dots").append(item);
    places.push(button);
    setEntry(button, null);
  }
  entries.splice(0, Math.max(0, entries.length - count));
  if (focused >= count) focusPlace(count - 1);
}

function drawStream() {
  // Its place is kept free: what somebody points at must not move away when it appears.
  $("frozen").classList.toggle("shown", frozenAt !== null);
  if (frozenAt !== null) {
    const newer = Math.min(places.length, sequence - frozenAt);
    setText($("frozen-text"), `Frozen while you look${newer ? `, ${newer === places.length ? "all new" : newer + " newer"}` : ""}`);
    return;
  }
  if (still.matches) {
    const byPlace = new Map(entries.map((entry) => [entry.sequence % places.length, entry]));
    places.forEach((place, index) => setEntry(place, byPlace.get(index) ?? null));
    places.forEach((place) => place.classList.toggle("newest", place.entry !== null && place.entry.sequence === sequence));
  } else {
    places.forEach((place, index) => setEntry(place, entries[entries.length - 1 - index] ?? null));
  }
  setText($("dots-title"), still.matches ? "Each answer, the underlined one is the newest" : "Each answer, newest first");
  if (!places.some((place) => place.tabIndex === 0 && place.entry)) {
    places.forEach((place) => { place.tabIndex = -1; });
    const first = places.find((place) => place.entry);
    if (first) first.tabIndex = 0;
  }
}

function setEntry(place, entry) {
  if (place.entry === entry) return;
  place.entry = entry;
  const span = place.firstElementChild;
  if (entry === null) {
    place.className = "empty";
    place.removeAttribute("aria-label");
    return;
  }
  if (entry.kind === "change") {
    place.className = "change";
    span.textContent = "";
  } else {
    const letter = entry.kind === "version" ? names.get(entry.group)?.pods.get(entry.pod) ?? "" : "";
    const colour = entry.kind === "mesh" ? "" : "v" + (names.get(entry.group)?.slot ?? 6);
    place.className = `${entry.kind} ${entry.failed ? "fail" : "fine"} ${entry.attempt > 1 ? "retried" : ""} ${colour}`;
    span.textContent = entry.failed ? (entry.status === null ? "!" : "✕" + letter) : letter;
    place.style.setProperty("--ring", Math.max(0, (scaleOf(entry.milliseconds) - 0.4) / 0.4).toFixed(2));
  }
  place.setAttribute("aria-label", describe(entry).map(([term, text]) => (term ? `${term} ${text}` : text)).join(", "));
}

function describe(entry) {
  if (entry.kind === "change") return [["", entry.label]];
  const facts = [];
  if (entry.version !== null) facts.push(["", entry.version], ["pod", entry.pod]);
  else if (entry.reason === null || entry.status === null) facts.push(["", entry.text]);
  if (entry.path) facts.push(["path", entry.path]);
  if (entry.status !== null) facts.push(["status", String(entry.status)]);
  if (entry.reason !== null && entry.status !== null) facts.push(["reason", entry.reason + (entry.explanation ? `: ${entry.explanation}` : "")]);
  if (entry.kind === "version" && entry.failed) facts.push(["reason", "answered by the application"]);
  if (entry.attempt !== null) facts.push(["try", String(entry.attempt)]);
  if (entry.caller !== null) facts.push(["mutual TLS, called by", entry.caller]);
  facts.push(["took", formatTime(entry.milliseconds)]);
  return facts;
}

function drawDetail(place) {
  places.forEach((other) => other.classList.toggle("looked", other === place));
  if (!place) {
    const hint = make("p", "A circle is an answer, its letter the pod, its ring the time, dashed if it took another try; a red square is a failure. Point, tap, or use Tab and arrow keys.", "quiet");
    $("detail").replaceChildren(hint);
    drawWay(null);
    return;
  }
  const facts = make("dl");
  facts.append(...describe(place.entry).map(([term, text], index) => {
    const pair = make("div");
    pair.append(make("dt", term || (place.entry.kind === "change" ? "changed" : place.entry.version !== null ? "version" : "answer")), make("dd", text, place.entry.failed && (term === "reason" || term === "status" || (index === 0 && place.entry.version === null)) ? "wrong" : ""));
    return pair;
  }));
  $("detail").replaceChildren(facts);
  drawWay(place.entry);
}

function look(place) {
  if (!place?.entry) return;
  frozenAt ??= sequence;
  drawDetail(place);
  drawStream();
}

function release() {
  frozenAt = null;
  pinned = false;
  drawDetail(null);
  drawStream();
}

function focusPlace(index) {
  const place = places[index];
  if (!place?.entry) return;
  places.forEach((other) => { other.tabIndex = other === place ? 0 : -1; });
  place.focus();
}

function moveFocus(event) {
  const index = places.indexOf(event.target);
  const filled = places.flatMap((place, position) => (place.entry ? [position] : []));
  const step = { ArrowRight: index + 1, ArrowLeft: index - 1, ArrowDown: index + columns, ArrowUp: index - columns, Home: filled[0], End: filled.at(-1) }[event.key];
  if (index === -1 || step === undefined) return;
  event.preventDefault();
  focusPlace(step);
}

// The picture: boxes for the proxy, versions or what the mesh answered, and pods; a line is as thick as its share.

function svg(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function measure(element) {
  const { width, height } = element.getBoundingClientRect();
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  if (element.getAttribute("viewBox") !== `0 0 ${width} ${height}`) element.setAttribute("viewBox", `0 0 ${width} ${height}`);
  return { width, height, rem };
}

// A box is as high as the share of its calls, but never too low for its name; a ribbon is never thicker than a box at
// its ends. Pods and versions that answered lately, and now do not, stay as boxes without a ribbon.
function drawFlows({ groups, total, now }) {
  const { width, height, rem } = measure($("flows"));
  const lately = (at) => at > now - QUIET_SECONDS * 1000;
  const quiet = [...names].filter(([name, { at, seen }]) => total && seen.size && lately(at) && !groups.some((group) => group.name === name));
  const all = [...groups, ...quiet.map(([name]) => ({ name, kind: "app", count: 0, failed: 0, pods: new Map() }))];
  all.sort((a, b) => (a.kind === "mesh") - (b.kind === "mesh") || String(a.name).localeCompare(String(b.name), "en", { numeric: true }));
  const podsOf = (group) => {
    const known = [...(names.get(group.name)?.seen ?? [])].filter(([name, at]) => lately(at) && !group.pods.has(name));
    return [...group.pods.values(), ...known.map(([name]) => ({ name, count: 0, failed: 0 }))].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  };
  const gap = 0.15 * rem, low = { group: 1.6 * rem };
  const shown = all.length * (low.group + gap) > height ? [] : all;
  const pods = shown.flatMap((group) => podsOf(group).map((pod) => ({ ...pod, group })));
  low.pod = Math.min(1.25 * rem, 0.99 * height / pods.length - gap);
  const withPods = pods.length > 0 && low.pod >= 0.8 * rem;
  const heightOf = (counted, lowest, thick) => Math.max(lowest, counted.count * thick / (total || 1));
  const sum = (list, lowest, thick) => list.reduce((up, each) => up + heightOf(each, lowest, thick) + gap, 0);
  // As thick as leaves room for a name in each box.
  let thick = 0.9 * height;
  while (thick > 1 && (sum(shown, low.group, thick) > height || (withPods && sum(pods, low.pod, thick) > height))) thick -= 0.02 * height;
  const boxes = { proxy: [1, Math.min(5 * rem, 0.17 * width)], group: withPods ? [0.36 * width, Math.min(13 * rem, 0.32 * width)] : [width - 15 * rem, 15 * rem - 1], pod: [width - Math.min(11 * rem, 0.28 * width) - 1, Math.min(11 * rem, 0.28 * width)] };
  const parts = [];
  // Names begin alike and differ at the end, reasons at the beginning: what is too long is cut in the middle.
  const box = ([x, boxWidth], y, boxHeight, text, className, prefix = "") => {
    parts.push(svg("rect", { x, y: y - boxHeight / 2, width: boxWidth, height: boxHeight, rx: 4, class: "box " + className }));
    const letters = Math.floor((boxWidth / rem - 0.8) / 0.57) - prefix.length;
    const half = Math.max(1, Math.floor((letters - 1) / 2));
    const cut = text.length <= letters ? text : text.slice(0, half) + "…" + text.slice(-half);
    parts.push(svg("text", { x: x + 0.4 * rem, y: y + 0.32 * rem, class: `on ${className} ${boxHeight < 1.2 * rem ? "small" : ""}` }, prefix + cut));
  };
  // Two bands, the failed part below; `y1` and `y2` are the upper edges.
  const flow = (x1, y1, x2, y2, counted, className) => {
    const bend = (x1 + x2) / 2;
    for (const [count, extra] of [[counted.count - counted.failed, ""], [counted.failed, "wrong"]]) {
      const thickness = count * thick / total;
      if (!count) continue;
      parts.push(svg("path", { class: `flow ${className} ${extra}`, d: `M${x1} ${y1}C${bend} ${y1} ${bend} ${y2} ${x2} ${y2}V${y2 + thickness}C${bend} ${y2 + thickness} ${bend} ${y1 + thickness} ${x1} ${y1 + thickness}Z` }));
      y1 += thickness;
      y2 += thickness;
    }
  };
  // The middle of each box of a column, which is spread over the height.
  const middles = (list, lowest) => {
    const space = (height - sum(list, lowest, thick) + list.length * gap) / list.length;
    let top = space / 2;
    return list.map((each) => {
      const own = heightOf(each, lowest, thick);
      top += own + space;
      return top - space - own / 2;
    });
  };
  const groupMiddles = middles(shown, low.group), podMiddles = middles(pods, low.pod);
  let fromProxy = (height - thick) / 2;
  let podIndex = 0;
  shown.forEach((group, index) => {
    const y = groupMiddles[index];
    const stroke = group.count * thick / (total || 1);
    const className = group.kind === "mesh" ? "wrong" : group.count ? colourOf(group) : "quiet";
    if (group.count) flow(boxes.proxy[0] + boxes.proxy[1], fromProxy, boxes.group[0], y - stroke / 2, group, className);
    fromProxy += stroke;
    let fromGroup = y - stroke / 2;
    for (const pod of withPods ? pods.filter((other) => other.group === group) : []) {
      const podY = podMiddles[podIndex];
      const podStroke = pod.count * thick / (total || 1);
      if (pod.count) flow(boxes.group[0] + boxes.group[1], fromGroup, boxes.pod[0], podY - podStroke / 2, pod, className);
      fromGroup += podStroke;
      podIndex += 1;
      const podClass = !pod.count ? "quiet" : pod.failed === pod.count ? "wrong" : className;
      box(boxes.pod, podY, heightOf(pod, low.pod, thick), pod.name, podClass, `${names.get(group.name)?.pods.get(pod.name) ?? ""} `);
    }
    box(boxes.group, y, heightOf(group, low.group, thick), group.name, className);
  });
  if (shown.length) box(boxes.proxy, height / 2, Math.max(low.group, thick), "proxy", "");
  $("flows").replaceChildren(...parts);
  const retried = groups.reduce((up, group) => up + group.retried, 0);
  const caller = groups.find((group) => group.caller)?.caller;
  const notes = [groups.length && !shown.length ? "(too many for a picture)" : "", retried ? `${percent(retried, total)} needed another try` : "", caller ? `mutual TLS as ${caller.split("/ns/").at(-1)}` : ""];
  setText($("picture-title"), ["Where the calls went", ...notes.filter(Boolean)].join(" · "));
}

function drawChart({ shown, now, start, changed, median, p95 }) {
  const { width, height, rem } = measure($("chart"));
  const left = 3.6 * rem, right = width - 4 * rem, top = 0.5 * rem, bottom = height - 1.3 * rem;
  const span = 1000 * settings.window;
  const x = (at) => right - (right - left) * (now - at) / span;
  const y = (ms) => bottom - (bottom - top) * scaleOf(ms);
  const parts = [];
  for (const ms of [1, 10, 100, 1000, 10000]) {
    parts.push(svg("line", { class: "grid", x1: left, x2: right, y1: y(ms), y2: y(ms) }));
    parts.push(svg("text", { class: "axis", x: left - 0.4 * rem, y: y(ms) + 0.3 * rem, "text-anchor": "end" }, ms >= 1000 ? ms / 1000 + " s" : ms + " ms"));
  }
  parts.push(svg("text", { class: "axis", x: left, y: height - 0.25 * rem }, `${settings.window} s ago`));
  parts.push(svg("text", { class: "axis", x: right, y: height - 0.25 * rem, "text-anchor": "end" }, "now"));
  const paths = new Map();     // one path for each colour, however many points
  const reach = Math.round(0.28 * rem);
  for (const sample of shown) {
    const px = Math.round(x(sample.at)), py = Math.round(y(sample.milliseconds));
    const className = sample.failed ? "cross" : "points v" + (names.get(sample.group)?.slot ?? 6);
    const mark = sample.failed ? `M${px - reach} ${py - reach}l${2 * reach} ${2 * reach}m${-2 * reach} 0l${2 * reach} ${-2 * reach}` : `M${px} ${py}h0`;
    paths.set(className, (paths.get(className) ?? "") + mark);
  }
  for (const [className, d] of [...paths].sort()) parts.push(svg("path", { class: className, d }));
  if (changed) {
    parts.push(svg("line", { class: "changed", x1: x(start), x2: x(start), y1: top, y2: bottom }));
    // Beside the line where there is more room; in two lines where one is too long, and never outside.
    const room = Math.max(right - x(start), x(start) - left) - 0.4 * rem;
    const lines = wrapped(lastChange.label, Math.floor(room / (0.52 * rem)));
    const anchor = x(start) > (left + right) / 2 ? "end" : "start";
    lines.forEach((line, index) => parts.push(svg("text", { class: "label", x: x(start) + (anchor === "end" ? -0.4 : 0.4) * rem, y: top + (1 + 1.1 * index) * rem, "text-anchor": anchor }, line)));
  }
  if (median !== null) {
    const push = Math.max(0, (1.1 * rem - (y(median) - y(p95))) / 2);
    for (const [className, value, text, lift] of [["median", median, "median", push], ["p95", p95, "95 %", -push]]) {
      parts.push(svg("line", { class: className, x1: left, x2: right, y1: y(value), y2: y(value) }));
      parts.push(svg("text", { class: "label", x: right + 0.3 * rem, y: y(value) + 0.3 * rem + lift }, text));
    }
  }
  $("chart").replaceChildren(...parts);
}

// Break a label between its words, and within those that are too long for a line.
function wrapped(text, letters) {
  const most = Math.max(8, letters);
  const lines = [""];
  for (const word of text.split(/(?<=[ /])/)) {
    if ((lines.at(-1) + word).trimEnd().length > most && lines.at(-1)) lines.push("");
    lines[lines.length - 1] += word;
  }
  return lines.flatMap((line) => line.trimEnd().match(new RegExp(`.{1,${most}}`, "gsu")) ?? []);
}

function drawTables({ groups, statuses, total }) {
  const row = (className, name, group, cells) => {
    const line = make("tr", undefined, className);
    const heading = make("th", name);
    heading.scope = "row";
    line.append(heading, make("td", group.count), make("td", percent(group.count, total)), ...cells);
    return line;
  };
  const failures = (group) => [make("td", group.failed || "–", group.failed ? "bad" : ""), make("td", formatTime(percentile(group.times.sort((a, b) => a - b), 0.5)))];
  const lines = [];
  for (const group of groups.filter((other) => other.kind !== "mesh")) {
    const line = row("version", group.name, group, failures(group));
    line.firstElementChild.prepend(make("span", undefined, "swatch " + colourOf(group)));
    lines.push(line);
    const letters = names.get(group.name)?.pods;
    for (const pod of [...group.pods.values()].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }))) {
      lines.push(row("", `${letters?.get(pod.name) ?? ""}  ${pod.name}`, pod, failures(pod)));
    }
  }
  $("pod-rows").replaceChildren(...cut(lines));
  $("reason-rows").replaceChildren(...cut(statuses.map((status) => {
    const line = row("version", status.kind === "mesh" && status.explanation ? `${status.name}: ${status.explanation}` : status.name, status, []);
    if (status.failed) line.children[1].className = "bad";
    return line;
  })));
}

function cut(lines) {
  if (lines.length <= ROWS) return lines;
  const last = make("tr");
  const heading = make("th", `and ${lines.length - ROWS} more rows`);
  heading.scope = "row";
  last.append(heading);
  return [...lines.slice(0, ROWS), last];
}

// --- Controls ---

function change(values, begin) {
  Object.assign(settings, values);
  writeAddress();
  begin();
}

$("controls").addEventListener("submit", (event) => event.preventDefault());
function showPause() {
  $("pause").textContent = waiting ? "Start" : settings.paused ? "Resume" : "Pause";
}
$("pause").addEventListener("click", () => {
  const paused = !isStill();
  waiting = false;
  change({ paused }, () => {
    showPause();
    if (paused) {
      pausedAt = performance.now();
      generation += 1;
      abort.abort();
      openSlices = 0;
    } else {
      abort = new AbortController();
      pausedAt = null;
      windowStart = rateStart = nextSlice = performance.now();
      pump();
    }
    draw();
  });
});
$("clear").addEventListener("click", restart);
$("rate").addEventListener("input", () => change({ rate: Number($("rate").value) }, () => {
  $("rate-shown").value = settings.rate;
  rateStart = nextSlice;       // the slice that runs keeps its rate
}));
let typing;
for (const id of ["path", "header"]) {
  $(id).addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => change({ path: $("path").value.trim() || "/", header: $("header").value.trim() }, restart), 400);
  });
}
$("window").addEventListener("change", () => change({ window: Number($("window").value) }, draw));
for (const button of document.querySelectorAll("[data-path]")) {
  button.addEventListener("click", () => {
    $("path").value = button.dataset.path;
    change({ path: button.dataset.path }, restart);
  });
}
$("unfold").addEventListener("click", () => {
  const unfolded = $("controls").classList.toggle("unfolded");
  $("unfold").setAttribute("aria-expanded", unfolded);
  $("unfold").textContent = unfolded ? "Less" : "More";
});

const placeOf = (event) => event.target.closest?.("#dots button");
$("dots").addEventListener("mouseover", (event) => { if (!pinned) look(placeOf(event)); });
$("dots").addEventListener("mouseleave", () => { if (!pinned && !$("dots").contains(document.activeElement)) release(); });
$("dots").addEventListener("focusin", (event) => look(placeOf(event)));
$("dots").addEventListener("focusout", (event) => { if (!pinned && !$("dots").contains(event.relatedTarget)) release(); });
$("dots").addEventListener("click", (event) => {
  const place = placeOf(event);
  if (!place) return;
  pinned = true;
  look(place);
});
$("dots").addEventListener("keydown", moveFocus);
$("go-on").addEventListener("click", release);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") release(); });
document.addEventListener("visibilitychange", () => { rateStart = nextSlice; });

// At the end of the script, which lab.js is.
function start() {
  readAddress();
  showPause();
  layOut();
  new ResizeObserver(layOut).observe($("dots"));
  if (isStill()) pausedAt = performance.now();
  restart();
  draw();
  setInterval(draw, DRAW_MS);
}
