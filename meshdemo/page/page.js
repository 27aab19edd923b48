"use strict";

// What a server answers is only ever set as text. The proxy makes the calls and sends a line for each answer, an object
// with what sample.py says of make_sample; this script counts and draws. It holds the answers of the window and of the
// places of the stream, and no others.
//
// It is one script in several files: this one draws figures, shares and tables, and has the controls; calls.js calls and
// counts, stream.js shows each answer, picture.js where they came from and how long they took, lab.js what a lab has.

const DRAW_MS = 200;
const ROWS = 60;               // of a table
const SLOW_MS = 500;

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
    : `Calling ${settings.path}${settings.header ? ` with ${settings.header}` : ""}`;
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
// Not "mouseover": answers that move below a mouse that rests are not looked at.
$("dots").addEventListener("mousemove", (event) => {
  const place = placeOf(event);
  if (!pinned && !place?.classList.contains("looked")) look(place);
});
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
