// --- The stream has as many places as fit. Newest first, each entry moves on by one; where motion is not wanted, each
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
    setText($("frozen-text"), `Frozen${newer ? `, ${newer === places.length ? "all new" : newer + " newer"}` : ""}`);
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
