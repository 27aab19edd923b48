// --- Calling: the proxy makes the calls of a slice; the next is asked for in time, however long answers take ---

const SLICE_SECONDS = 2;       // calls are asked for in slices of this length
const OPEN_SLICES = 5;         // a browser opens no more than six connections to a host
const SILENCE_MS = 10000;      // a slice says something four times a second: after this the proxy is lost
const RETRY_MS = 1000;
const LINE_LIMIT = 100000;     // characters; a line has some hundred
const SAMPLES = 6000;          // 60 seconds of 100 calls
const GROUPS = 40;             // versions or reasons that are told apart, and pods of a version; the rest is one
const NAMES = 64;              // names whose colour is remembered

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
  sample.at = performance.now() - (sample.held_milliseconds ?? 0);
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
