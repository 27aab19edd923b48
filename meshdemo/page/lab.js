
// --- The lab: what runs there, and the desk, from which a lesson can be led and its numbers turned ---
//
// Elsewhere, as on a cluster, nothing of this is asked for or shown.

const LAB_RETRY_MS = 2000;
const WIDE_PX = { normal: 1200, big: 1600 };     // from here on there is room beside the calls

// Who may edit: the link that the lab prints ends in a token, which goes nowhere but into edits.
const token = readToken();
let scene = null;              // what the lab said last
let wasWide = null;            // whether it stood beside the calls
let link = null;               // that of the scene to call, as the lab said it last
let turning = null;            // the control that a person holds, which is not drawn anew meanwhile

// Whose program makes the calls of this page.
const callerHere = () => scene?.callers?.[location.port] ?? "proxy";

function readToken() {
  const inLink = /^#desk=([\w-]+)$/.exec(location.hash)?.[1];
  try {
    if (inLink) sessionStorage.setItem("desk", inLink);
    return inLink ?? sessionStorage.getItem("desk") ?? "";
  } catch {
    return inLink ?? "";
  }
}

async function askLab(path, options = {}) {
  return fetch("ui" + path, { cache: "no-store", ...options, headers: { "Meshdemo-Page": told.content, ...options.headers } });
}

async function followLab() {
  for (;;) {
    try {
      const response = await askLab(scene ? "/scene/" + scene.revision : "/scene");
      if (!response.ok) throw new TypeError("no lab");
      const { lab } = await response.json();
      if (lab) takeScene(lab);
    } catch {
      await new Promise((resolve) => setTimeout(resolve, LAB_RETRY_MS));
    }
  }
}

function takeScene(next) {
  const isGiven = ["rate", "path", "header"].some((name) => new URLSearchParams(location.search).has(name));
  const isOther = next.link !== link && (scene !== null || (token && !isGiven));
  if (scene?.refusal && !next.refusal) $("desk-problem").hidden = true;
  scene = next;
  if (next.link) link = next.link;
  if (!turning) drawLab();
  const url = next.link ? new URL(next.link) : null;
  const isHere = url?.port === location.port;
  $("elsewhere").hidden = !url || isHere;
  $("elsewhere").firstElementChild.href = url ? url.href + (token ? `#desk=${token}` : "") : "";
  if (isOther && isHere) setScene(url.search);
}

// The page goes along when the lesson changes: its calls are those that the lesson speaks of.
function setScene(query) {
  history.replaceState(null, "", (query || "?") + (settings.big ? "&big" : ""));
  const { paused } = settings, waits = waiting;
  readAddress();
  waiting = waits;
  settings.paused = paused;
  writeAddress();
  restart();
  draw();
}

function drawLab() {
  const { title, files, policies, changes, refusal, desk, about, checks, verdict } = scene;
  $("lab").hidden = false;
  document.body.classList.add("with-lab");
  foldLab();
  setText($("lab-title"), title || files.at(-1).split("/").at(-1));
  $("keys").hidden = !(desk && token);
  $("about").hidden = !about;
  setText($("about"), about);
  $("verdict").hidden = !verdict;
  setText($("verdict"), verdict);
  const isJudged = checks.length && checks.every(([, met]) => met !== null);
  $("verdict").className = isJudged ? (checks.every(([, met]) => met) ? "met" : "unmet") : "";
  $("checks").hidden = checks.length === 0;
  $("checks").replaceChildren(...checks.map(([text, met]) => make("li", text, met === null ? "" : met ? "met" : "unmet")));
  $("desk-hint").hidden = !desk || Boolean(token);
  $("refusal").hidden = refusal === null;
  $("refusal").replaceChildren(...(refusal ? [make("p", refusal.problem), codeOf(refusal.lines)] : []));
  $("edited").hidden = changes.length === 0;
  setText($("edited"), unbroken(changes.join(", ")));
  const focused = document.activeElement?.dataset?.turns;
  $("policies").replaceChildren(...policies.flatMap(({ label, file, lines, more }) => {
    const heading = make("h3", label);
    heading.append(" ", make("span", file.split("/").at(-1), "quiet"));
    return [heading, codeOf(lines, desk && token, file), ...(more ? [make("p", "and more lines, which are in the file", "quiet")] : [])];
  }), ...(policies.length ? [] : [make("p", "No policy is in force: calls go as they would without a mesh.", "quiet")]));
  if (focused) [...document.querySelectorAll("[data-turns]")].find((other) => other.dataset.turns === focused)?.focus();
  else $("policies").querySelector("mark")?.scrollIntoView?.({ block: "nearest" });
}

function codeOf(lines, turnable, file = "") {
  const list = make("ol", undefined, "code");
  list.append(...lines.map((line) => {
    const item = make("li");
    item.value = line.number;
    const isTurned = turnable && line.turn;
    const words = isTurned ? line.text.replace(/\s+#.*$/, "") : line.text;   // room for the knob
    const text = make(line.changed ? "mark" : "span", words);
    item.append(text);
    if (isTurned) item.append(knobOf(line.turn, words, text));
    if (file) {
      const count = make("span", undefined, "count");
      count.dataset.place = `${file}:${line.number}`;
      item.append(count);
    }
    return item;
  }));
  return list;
}

const written = (turn, value) => (!turn.is_time ? String(value) : value % 1 === 0 ? `${value}s` : `${Math.round(1000 * value)}ms`);

function knobOf(turn, text, shown) {
  const knob = make("input");
  Object.assign(knob, { type: "range", min: turn.least, max: turn.most, step: turn.step, value: turn.value });
  knob.dataset.turns = `${turn.label} ${turn.path}`;
  knob.setAttribute("aria-label", knob.dataset.turns);
  knob.turn = turn;
  const show = () => {
    const value = written(turn, Number(knob.value));
    setText(shown, text.replace(/(:\s*).*$/, `$1${value}`));
    knob.setAttribute("aria-valuetext", value);
  };
  knob.show = show;
  knob.setAttribute("aria-valuetext", written(turn, turn.value));
  knob.addEventListener("input", () => {
    turning = knob;
    show();
    const other = counterpartOf(knob);
    if (other) {
      other.value = 100 - Number(knob.value);
      other.show();
    }
  });
  knob.addEventListener("change", () => {
    turning = null;
    const knobs = [knob, counterpartOf(knob)].filter(Boolean);
    edit({ numbers: knobs.map(({ turn: { label, path }, value }) => ({ label, path, value: Number(value) })) });
  });
  return knob;
}

// Two weights that are a hundred together stay so.
function counterpartOf(knob) {
  const family = (other) => `${other.turn.label} ${other.turn.path.replace(/\[\d+\](?=\.weight$)/, "")}`;
  if (!knob.turn.path.endsWith("].weight")) return null;
  const all = [...document.querySelectorAll("[data-turns]")].filter((other) => family(other) === family(knob));
  const sum = all.reduce((total, other) => total + other.turn.value, 0);
  return all.length === 2 && sum === 100 ? all.find((other) => other !== knob) : null;
}

async function edit(what) {
  let problem = "";
  try {
    const response = await askLab("/edit", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token, ...what }) });
    if (!response.ok) problem = (await response.text()).slice(0, 300);
  } catch {
    problem = "The lab does not answer.";
  }
  $("desk-problem").hidden = !problem;
  setText($("desk-problem"), problem);
  if (problem) drawLab();      // as it is in force
}

function foldLab() {
  const isWide = innerWidth >= (settings.big ? WIDE_PX.big : WIDE_PX.normal);
  if (document.body.classList.toggle("beside", isWide) !== wasWide) $("lab-fold").open = isWide;
  wasWide = isWide;
}

// --- The way of a call: in a line below the answer that one looks at, in full once it is chosen ---

const LOOK_MS = 150;           // who only passes over an answer does not ask for its way
const MET_MS = 2000;
const MET_AGE_MS = 300;        // an Envoy says a little later what it did
const MET_AT_ONCE = 250;
const MET_ASKS = 3;

let lookedAt = null;

function drawWay(entry) {
  lookedAt = entry;
  $("way").hidden = !("lab" in told.dataset);
  $("whole").hidden = true;
  setText($("way"), "");
  if (!entry?.id) return;
  if (entry.way) {
    showWay(entry);
    return;
  }
  setTimeout(async () => {
    if (lookedAt !== entry) return;
    try {
      const response = await askLab(`/calls/${entry.id}`);
      entry.way = response.ok ? (await response.json()).lab : null;
    } catch {
      entry.way = null;
    }
    if (lookedAt === entry) showWay(entry);
  }, LOOK_MS);
}

function showWay(entry) {
  setText($("way"), entry.way?.way ?? "");
  setText($("whole"), entry.way?.whole.join("\n") ?? "");
  $("whole").hidden = !pinned || !entry.way;
}

// Which rules the calls of the window met: at their lines, and in a table.
async function askForMet() {
  const now = performance.now();
  const asked = samples.filter((sample) => sample.id && !sample.met && now - sample.at > MET_AGE_MS && (sample.asks ?? 0) < MET_ASKS).slice(-MET_AT_ONCE);
  if (!asked.length) return;
  for (const sample of asked) sample.asks = (sample.asks ?? 0) + 1;
  try {
    const response = await askLab("/met", { method: "POST", body: JSON.stringify({ ids: asked.map(({ id }) => id) }) });
    const { lab } = response.ok ? await response.json() : { lab: {} };
    for (const sample of asked) sample.met = lab[sample.id] ?? sample.met;
  } catch { /* the lab has ended, which followLab notices */ }
}

function drawMet({ shown, seconds }) {
  if (!("lab" in told.dataset)) return;
  const known = shown.filter(({ met }) => met);
  const rules = new Map();
  for (const { met } of known) {
    for (const rule of met.length ? met : [null]) {
      const name = rule === null ? "no rule" : rule.label ? `rule ${rule.label} of ${rule.kind}/${rule.name}` : `${rule.kind}/${rule.name}${rule.rule === null ? "" : `[${rule.rule}]`}`;
      const counted = rules.get(name) ?? { name, place: rule?.line ? `${rule.file}:${rule.line}` : "", count: 0 };
      counted.count += 1;
      rules.set(name, counted);
    }
  }
  const rows = [...rules.values()].sort((a, b) => b.count - a.count);
  $("met").hidden = rows.length === 0;
  const behind = known.length < shown.length ? `, for ${known.length} of ${shown.length} calls so far` : "";
  setText($("met-title"), `Rules and policies met in the last ${seconds} s${behind}`);
  $("met-rows").replaceChildren(...cut(rows.map(({ name, place, count }) => {
    const row = make("tr", undefined, "version");
    const heading = make("th", `${name}  ${place.split("/").at(-1)}`);
    heading.scope = "row";
    row.append(heading, make("td", count), make("td", percent(count, known.length)));
    return row;
  })));
  const counts = new Map(rows.map(({ place, count }) => [place, count]));
  for (const element of document.querySelectorAll("[data-place]")) {
    const count = counts.get(element.dataset.place);
    setText(element, count ? String(count) : "");
  }
}

start();
if ("lab" in told.dataset) {
  setInterval(askForMet, MET_MS);
  for (const button of $("keys").querySelectorAll("button")) button.addEventListener("click", () => edit({ key: button.dataset.key }));
  addEventListener("resize", () => { if (scene) foldLab(); });
  followLab();
}
