
// --- The lab: what runs there, and the desk, from which a lesson can be led and its numbers turned ---
//
// Elsewhere, as on a cluster, nothing of this is asked for or shown.

const LAB_RETRY_MS = 2000;
const WIDE = matchMedia("(min-width: 1200px)");

// Who may edit: the link that the lab prints ends in a token, which goes nowhere but into edits.
const token = readToken();
let scene = null;              // what the lab said last
let turning = null;            // the control that a person holds, which is not drawn anew meanwhile

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
  const isOther = scene === null ? token && !["rate", "path", "header"].some((name) => new URLSearchParams(location.search).has(name)) : scene.title !== next.title;
  scene = next;
  if (!turning) drawLab();
  const link = next.link && new URL(next.link);
  $("elsewhere").hidden = !link || link.port === location.port;
  $("elsewhere").firstElementChild.href = link ? link.href + (token ? `#desk=${token}` : "") : "";
  if (isOther && link && link.port === location.port) setScene(link.search);
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
  const { title, files, policies, changes, refusal, desk } = scene;
  $("lab").hidden = false;
  document.body.classList.add("with-lab");
  setText($("lab-title"), title || files.at(-1).split("/").at(-1));
  $("keys").hidden = !(desk && token);
  $("desk-hint").hidden = !desk || Boolean(token);
  $("refusal").hidden = refusal === null;
  $("refusal").replaceChildren(...(refusal ? [make("p", refusal.problem), codeOf(refusal.lines)] : []));
  $("edited").hidden = changes.length === 0;
  setText($("edited"), changes.join(", "));
  const focused = document.activeElement?.dataset?.turns;
  $("policies").replaceChildren(...policies.flatMap(({ label, file, lines, more }) => {
    const heading = make("h3", label);
    heading.append(make("span", ` ${file.split("/").at(-1)}`, "quiet"));
    return [heading, codeOf(lines, desk && token), ...(more ? [make("p", "and more lines, which are in the file", "quiet")] : [])];
  }), ...(policies.length ? [] : [make("p", "No policy is in force: calls go as they would without a mesh.", "quiet")]));
  if (focused) [...document.querySelectorAll("[data-turns]")].find((other) => other.dataset.turns === focused)?.focus();
  else $("policies").querySelector("mark")?.scrollIntoView?.({ block: "nearest" });
}

function codeOf(lines, turnable) {
  const list = make("ol", undefined, "code");
  list.append(...lines.map((line) => {
    const item = make("li");
    item.value = line.number;
    const text = make(line.changed ? "mark" : "span", line.text);
    item.append(text);
    if (turnable && line.turn) item.append(...knobOf(line.turn, line.text, text));
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
  return [knob];
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
  $("lab-fold").open = WIDE.matches;
}

if ("lab" in told.dataset) {
  for (const button of $("keys").querySelectorAll("button")) button.addEventListener("click", () => edit({ key: button.dataset.key }));
  WIDE.addEventListener("change", foldLab);
  foldLab();
  followLab();
}
