// --- The picture: boxes for the proxy, versions or what the mesh answered, and pods; a line is as thick as its share.

const QUIET_SECONDS = 300;     // how long a pod that does not answer any more is shown, grey

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
  const forName = Math.min((0.9 + 0.57 * callerHere().length) * rem, 0.24 * width);
  const boxes = { proxy: [1, Math.max(forName, Math.min(5 * rem, 0.17 * width))], group: withPods ? [0.36 * width, Math.min(13 * rem, 0.32 * width)] : [width - 15 * rem, 15 * rem - 1], pod: [width - Math.min(11 * rem, 0.28 * width) - 1, Math.min(11 * rem, 0.28 * width)] };
  const parts = [];
  // A name that is too long goes on in a second line where its box is high enough. Else it is cut in the middle: names
  // begin alike and differ at the end, reasons at the beginning.
  const box = ([x, boxWidth], y, boxHeight, text, className, prefix = "") => {
    parts.push(svg("rect", { x, y: y - boxHeight / 2, width: boxWidth, height: boxHeight, rx: 4, class: "box " + className }));
    const letters = Math.floor((boxWidth / rem - 0.8) / 0.57) - prefix.length;
    const half = Math.max(1, Math.floor((letters - 1) / 2));
    const cut = text.length <= letters ? text : text.slice(0, half) + "…" + text.slice(-half);
    const two = cut !== text && !prefix && boxHeight >= 2.4 * rem ? wrapped(text, letters) : [];
    const lines = two.length === 2 ? two : [prefix + cut];
    lines.forEach((line, index) => parts.push(svg("text", { x: x + 0.4 * rem, y: y + (0.32 + 1.1 * (index - (lines.length - 1) / 2)) * rem, class: `on ${className} ${boxHeight < 1.2 * rem ? "small" : ""}` }, line)));
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
  if (shown.length) box(boxes.proxy, height / 2, Math.max(low.group, thick), callerHere(), "");
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
    // Beside the line where there is more room; in two lines where one is too long, and never outside. In a lab the
    // words stand with the policies.
    const label = "lab" in told.dataset ? lastChange.label.slice(0, 8) : lastChange.label;
    const room = Math.max(right - x(start), x(start) - left) - 0.4 * rem;
    const lines = wrapped(unbroken(label), Math.floor(room / (0.57 * rem)));
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

// Keep an arrow whole, and a number with its sign.
const unbroken = (text) => text.replaceAll("->", "→").replaceAll(" %", "\u00a0%");

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
