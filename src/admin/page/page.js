// The status page: asks /status every two seconds and changes only what changed, so that focus,
// selection and scrolling stay where they are. Whatever comes from the gateway is set as text.
"use strict";

const PERIOD_MS = 2000;
const PATIENCE_MS = 4000;
const ARMED_MS = 4000;

const byId = (id) => document.getElementById(id);
const page = { started: null, newest: 0, points: [], capacity: 180, period: 5, seen: null, nodes: new Map(), status: null };

function text(element, value) {
  const shown = String(value);
  if (element.textContent !== shown) element.textContent = shown;
}

function style(element, name) {
  if (element.className !== name) element.className = name;
}

function make(tag, className, content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (content !== undefined) element.textContent = content;
  return element;
}

// ---- numbers for people

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

function rate(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  if (value < 0.1) return "<0.1";
  return value < 10 ? value.toFixed(1) : whole.format(value);
}

function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  return value < 10 ? value.toFixed(1) : whole.format(value);
}

function count(value) {
  return value < 100000 ? whole.format(value) : compact.format(value);
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit === 0 || value >= 100 ? whole.format(value) : value.toFixed(1)} ${units[unit]}`;
}

function span(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor(seconds % 86400 / 3600)} h`;
}

// ---- tables whose rows live on

/** Makes `body` hold one row per item, in their order, by key; `fill` changes what changed. */
function rows(body, items, key, create, fill, nothing) {
  const known = body.rowsByKey ?? (body.rowsByKey = new Map());
  const wanted = new Set(items.map(key));
  for (const [name, row] of known) {
    if (!wanted.has(name)) { row.remove(); known.delete(name); }
  }
  let place = body.firstElementChild;
  if (place?.classList.contains("nothing")) { place.remove(); place = body.firstElementChild; }
  for (const item of items) {
    let row = known.get(key(item));
    if (!row) { row = create(item); known.set(key(item), row); }
    if (row === place) place = place.nextElementSibling;
    else body.insertBefore(row, place);
    fill(row, item);
  }
  if (items.length === 0 && nothing) {
    const row = make("tr", "nothing");
    const cell = make("td", "empty", nothing);
    cell.colSpan = 10;
    row.append(cell);
    body.replaceChildren(row);
  }
}

function cells(...classes) {
  const row = make("tr");
  for (const name of classes) row.append(make("td", name));
  return row;
}

// ---- charts

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 180;
const HEIGHT = 100;
const CHARTS = {
  requests: { line: "requests", least: 1, show: rate, unit: "/s" },
  errors: { line: "errors", least: 1, show: rate, unit: "/s", alarm: (v) => v > 0 },
  limited: { line: "limited", least: 1, show: rate, unit: "/s", alarm: (v) => v > 0 },
  hit_ratio: { line: "hit_ratio", least: 1, most: 1, show: (v) => v === null || v === undefined ? "–" : whole.format(v * 100), unit: " %" },
  latency: { line: "p99_ms", second: "p50_ms", least: 5, show: milliseconds, unit: " ms" },
};

function part(svg, tag, name) {
  const element = document.createElementNS(SVG, tag);
  element.setAttribute("class", name);
  svg.append(element);
  return element;
}

function chart(article) {
  const kind = CHARTS[article.dataset.chart];
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("tabindex", "0");
  for (const y of [0, HEIGHT / 2, HEIGHT]) {
    const line = part(svg, "line", "grid");
    for (const [name, value] of Object.entries({ x1: 0, x2: WIDTH, y1: y, y2: y })) line.setAttribute(name, value);
  }
  const drawn = { kind, article, svg, at: null };
  drawn.area = part(svg, "path", "area");
  drawn.second = part(svg, "path", "second");
  drawn.line = part(svg, "path", "line");
  drawn.cursor = part(svg, "line", "cursor");
  drawn.cursor.setAttribute("visibility", "hidden");
  drawn.value = article.querySelector("b");
  drawn.scale = make("p", "scale");
  drawn.low = make("span", "", "15 min ago");
  drawn.top = make("span");
  drawn.scale.append(drawn.low, drawn.top);
  article.append(svg, drawn.scale);
  const point = (at) => { drawn.at = at; draw(drawn); };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    point(Math.max(0, Math.min(page.capacity - 1, Math.floor(page.capacity * (1 - share)))));
  });
  svg.addEventListener("pointerleave", () => point(null));
  svg.addEventListener("blur", () => point(null));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: 1, ArrowRight: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    point(Math.max(0, Math.min(page.points.length - 1, (drawn.at ?? -1) + step)));
  });
  return drawn;
}

/** A round number that is not less. */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

/** The path of a series, newest point at the right edge; gaps where nothing is known. */
function path(values, top) {
  let drawn = "";
  let pen = false;
  values.forEach((value, index) => {
    if (value === null || value === undefined) { pen = false; return; }
    const x = WIDTH - (values.length - 1 - index) * WIDTH / (page.capacity - 1);
    const y = HEIGHT - Math.min(1, value / top) * HEIGHT;
    drawn += `${pen ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`;
    pen = true;
  });
  return drawn;
}

/** The path of a series down to the ground, one piece for each stretch without gaps. */
function area(values, top) {
  const pieces = path(values, top).split("M").filter(Boolean);
  return pieces.map((piece) => {
    const xs = piece.split("L").map((point) => point.split(" ")[0]);
    return `M${piece}L${xs[xs.length - 1]} ${HEIGHT}L${xs[0]} ${HEIGHT}Z`;
  }).join("");
}

function draw(drawn) {
  const { kind } = drawn;
  const values = page.points.map((point) => point[kind.line]);
  const known = values.filter((value) => value !== null && value !== undefined);
  const top = kind.most ?? ceiling(Math.max(kind.least, ...known));
  drawn.line.setAttribute("d", path(values, top));
  drawn.area.setAttribute("d", area(values, top));
  if (kind.second) drawn.second.setAttribute("d", path(page.points.map((point) => point[kind.second]), top));
  const at = drawn.at === null ? null : page.points[page.points.length - 1 - drawn.at];
  const now = kind.second ? page.status?.latency.all.p99_ms : page.status?.rates[kind.line];
  const value = at ? at[kind.line] : now;
  text(drawn.value, kind.show(value));
  drawn.article.classList.toggle("alarm", Boolean(kind.alarm?.(value)));
  drawn.article.classList.toggle("quiet", Boolean(kind.alarm) && !known.some((it) => it > 0));
  text(drawn.low, at ? `${span(drawn.at * page.period)} ago` : "15 min ago");
  text(drawn.top, `max ${known.length ? kind.show(Math.max(...known)) : "–"}${kind.unit}`);
  if (at) {
    const x = WIDTH - drawn.at * WIDTH / (page.capacity - 1);
    for (const [name, place] of Object.entries({ x1: x, x2: x, y1: 0, y2: HEIGHT })) drawn.cursor.setAttribute(name, place);
  }
  drawn.cursor.setAttribute("visibility", at ? "visible" : "hidden");
  const title = drawn.article.querySelector("h2").firstChild.textContent.trim();
  drawn.svg.setAttribute("aria-label", `${title}: ${kind.show(value)}${kind.unit}${at ? `, ${drawn.low.textContent}` : " now"}; ${drawn.top.textContent} in 15 minutes. Left and right arrow keys look back.`);
}

// ---- orders

function say(message) {
  text(byId("message"), message);
}

async function order(path, done) {
  try {
    const answer = await fetch(path, { method: "POST", headers: { "X-Ccfs-Gateway": "1" }, signal: AbortSignal.timeout(30000) });
    if (answer.ok) say(done);
    else say(`refused: ${(await answer.json().catch(() => null))?.detail ?? answer.status}`);
  } catch {
    say("the gateway did not answer");
  }
  await poll();
}

/** What would leave a cluster without a node is asked twice. */
function isLast(cluster, node) {
  const usable = (it) => it.state === "up" || it.state === "slow-start";
  return usable(node) && !cluster.nodes.some((it) => usable(it) && it.address !== node.address);
}

function drainButton(row) {
  const button = make("button");
  button.type = "button";
  const disarm = () => { button.classList.remove("armed"); row.armed = false; label(row); };
  button.addEventListener("click", async () => {
    const { cluster, node } = row.item;
    const drain = node.state !== "drained";
    if (drain && isLast(cluster, node) && !row.armed) {
      row.armed = true;
      button.classList.add("armed");
      label(row);
      say(`${node.address} is the last node of ${cluster.name} that is up: press again to drain it`);
      setTimeout(disarm, ARMED_MS);
      return;
    }
    disarm();
    const place = [cluster.name, node.address, drain ? "drain" : "undrain"].map(encodeURIComponent);
    await order(`/nodes/${place.join("/")}`, `${node.address} ${drain ? "is drained: it gets nothing new" : "gets requests again"}`);
  });
  return button;
}

function label(row) {
  const { cluster, node } = row.item;
  const word = node.state === "drained" ? "Undrain" : row.armed ? "Last one!" : "Drain";
  text(row.button, word);
  const name = `${word} ${node.address} of ${cluster.name}`;
  if (row.button.getAttribute("aria-label") !== name) row.button.setAttribute("aria-label", name);
}

// ---- what is shown

/** Tries and failures a second of a node, over the last polls. */
function speed(key, node, now) {
  const seen = page.nodes.get(key) ?? [];
  if (seen.length && node.requests < seen[seen.length - 1].requests) seen.length = 0;
  seen.push({ now, requests: node.requests, failures: node.failures });
  while (seen.length > 6) seen.shift();
  page.nodes.set(key, seen);
  const first = seen[0];
  const seconds = (now - first.now) / 1000;
  if (seconds < 1) return { tries: null, failures: null };
  return { tries: (node.requests - first.requests) / seconds, failures: (node.failures - first.failures) / seconds };
}

function showNodes(status, now) {
  const items = [];
  let up = 0;
  let all = 0;
  for (const cluster of status.clusters) {
    items.push({ key: `cluster ${cluster.name}`, cluster });
    for (const node of cluster.nodes) {
      items.push({ key: `${cluster.name} ${node.address} ${node.socket}`, cluster, node });
      all += 1;
      up += node.state === "up" || node.state === "slow-start" ? 1 : 0;
    }
  }
  const create = (item) => {
    if (!item.node) {
      const row = make("tr");
      const cell = make("td", "cluster");
      cell.colSpan = 10;
      row.append(cell);
      return row;
    }
    const row = cells("mono cut", "", "n", "n", "n", "n", "n", "n", "dim", "");
    row.stateCell = row.children[1].appendChild(make("span", "state"));
    row.item = item;
    row.button = row.children[9].appendChild(drainButton(row));
    return row;
  };
  const fill = (row, item) => {
    if (!item.node) {
      text(row.firstChild, `cluster ${item.cluster.name}`);
      return;
    }
    const { node } = row.item = item;
    const now_ = speed(item.key, node, now);
    const sameHost = node.socket === node.address;
    text(row.children[0], sameHost ? node.address : `${node.address} (${node.socket})`);
    row.children[0].title = row.children[0].textContent;
    style(row.stateCell, `state ${node.state}`);
    text(row.stateCell, node.ejected_for_seconds ? `ejected, ${span(node.ejected_for_seconds)} left` : node.state);
    text(row.children[2], count(node.in_flight));
    text(row.children[3], rate(now_.tries));
    text(row.children[4], rate(now_.failures));
    style(row.children[4], now_.failures > 0 ? "n red" : "n");
    text(row.children[5], count(node.requests));
    text(row.children[6], count(node.failures));
    text(row.children[7], milliseconds(node.p50_ms));
    text(row.children[8], node.last_error ? node.last_error.replace("_", " ") : "–");
    label(row);
    row.button.disabled = document.body.classList.contains("stale");
  };
  rows(byId("nodes"), items, (item) => item.key, create, fill, "no cluster is configured");
  text(byId("nodes-summary"), `${up} of ${all} up`);
}

function showListeners(status) {
  const items = status.listeners.flatMap((listener) => {
    const certificates = listener.certificates.length ? listener.certificates : [null];
    return certificates.map((certificate, index) => ({ key: `${listener.name} ${index}`, listener, certificate, first: index === 0 }));
  });
  const create = () => cells("", "mono", "n", "dim", "cut");
  const fill = (row, { listener, certificate, first }) => {
    text(row.children[0], first ? listener.name : "");
    text(row.children[1], first ? listener.address ?? listener.bind : "");
    text(row.children[2], first ? count(listener.connections ?? 0) : "");
    const routes = listener.routes.map((route) => `${route.prefix} → ${route.cluster}`).join(", ");
    const more = listener.routes.length > 1 ? ` +${listener.routes.length - 1}` : "";
    text(row.children[3], first ? routes.split(", ")[0] + more : "");
    row.children[3].title = routes;
    const days = certificate?.days_left;
    const left = days === undefined || days === null ? "unreadable" : days < 0 ? "expired" : days === 0 ? "last day" : `${whole.format(days)} d left`;
    text(row.children[4], certificate ? `${left} · ${certificate.names[0] ?? ""}` : "none");
    row.children[4].title = certificate ? `${certificate.names.join(", ")}; until ${certificate.not_after}` : "";
    style(row.children[4], days === undefined || days === null || days < 3 ? "cut red" : days < 14 ? "cut amber" : "cut");
  };
  rows(byId("listeners"), items, (item) => item.key, create, fill, "no listener is configured");
}

function showKeys(status) {
  const fill = (row, item) => {
    text(row.children[0], item.access_key);
    row.children[0].title = item.access_key;
    text(row.children[1], rate(item.per_second));
    text(row.children[2], count(item.requests));
  };
  rows(byId("keys"), status.busiest_access_keys, (item) => item.access_key, () => cells("mono cut", "n", "n"), fill, "nobody was let in yet");
  text(byId("keys-summary"), `of ${whole.format(status.access_keys)}`);
}

function showLatency(status) {
  const items = [["all", "All requests"], ["hit", "Cache hits"], ["node", "Through a node"]];
  const fill = (row, [name, title]) => {
    const seen = status.latency[name];
    text(row.children[0], title);
    ["p50_ms", "p90_ms", "p99_ms"].forEach((share, index) => text(row.children[index + 1], milliseconds(seen[share])));
    text(row.children[4], count(seen.count));
  };
  rows(byId("latency"), items, ([name]) => name, () => cells("", "n", "n", "n", "n dim"), fill);
}

function showConfiguration(status) {
  text(byId("generation"), status.generation);
  const last = status.reloads.last;
  const element = byId("last-reload");
  const ago = last ? span((Date.parse(status.now) - Date.parse(last.at)) / 1000) : "";
  text(element, last ? `${last.ok ? "done" : "refused"} ${ago} ago` : "none since the start");
  style(element, last && !last.ok ? "red" : "");
  const { cache } = status;
  text(byId("cache"), `${count(cache.entries)} · ${bytes(cache.bytes)} of ${bytes(cache.max_bytes)}`);
  const { shared } = status;
  text(byId("shared"), shared ? shared.state ?? "configured" : "not configured");
}

function showAlerts(status) {
  const alerts = [];
  const last = status.reloads.last;
  if (last && !last.ok) alerts.push({ bad: true, text: `The last reload was refused, the configuration before it stays:\n${last.error}` });
  for (const cluster of status.clusters) {
    if (cluster.panic) alerts.push({ bad: true, text: `Cluster ${cluster.name}: most nodes look dead, so all are tried` });
    if (cluster.insecure_skip_verify) alerts.push({ text: `Cluster ${cluster.name}: certificates of nodes are not verified (insecure_skip_verify)` });
  }
  for (const listener of status.listeners) {
    for (const certificate of listener.certificates) {
      const days = certificate.days_left;
      if (days === null) alerts.push({ bad: true, text: `Listener ${listener.name}: a certificate cannot be read` });
      else if (days < 14) alerts.push({ bad: days < 3, text: `Listener ${listener.name}: the certificate of ${certificate.names[0] ?? "?"} ${days < 0 ? "has expired" : `ends in ${days} days`}` });
    }
  }
  rows(byId("alerts"), alerts, (alert) => alert.text, (alert) => make("li", "", alert.text), (item, alert) => style(item, [alert.bad && "bad", alert.text.includes("\n") && "long mono"].filter(Boolean).join(" ")));
}

const isUnwell = (node) => node.state === "down" || node.state === "ejected";

function unwell(status) {
  return status.clusters.flatMap((cluster) => cluster.nodes).filter(isUnwell).length;
}

function state(name, words) {
  style(byId("state"), `pill ${name}`);
  text(byId("state"), words);
}

function show(status) {
  const now = Date.now();
  page.seen = now;
  page.status = status;
  document.body.classList.remove("stale", "waiting");
  byId("reload").disabled = false;
  if (status.draining) state("warn", "draining");
  else if (status.clusters.some((cluster) => cluster.panic)) state("bad", "nodes in panic");
  else if (status.clusters.some((cluster) => cluster.nodes.some(isUnwell))) state("warn", `serving, nodes unwell: ${unwell(status)}`);
  else state("good", "serving");
  text(byId("in-flight"), count(status.requests_in_flight));
  text(byId("uptime"), span(status.uptime_seconds));
  text(byId("version"), status.version);
  showAlerts(status);
  for (const drawn of page.charts) draw(drawn);
  showNodes(status, now);
  showListeners(status);
  showKeys(status);
  showLatency(status);
  showConfiguration(status);
}

function lost(reason) {
  document.body.classList.add("stale");
  for (const button of document.querySelectorAll("button")) button.disabled = true;
  const age = page.seen ? `, last seen ${span((Date.now() - page.seen) / 1000)} ago` : "";
  state("bad", `${reason}${age}`);
}

// ---- the beat

let asking = false;

async function poll() {
  if (asking) return;
  asking = true;
  try {
    const answer = await fetch(`/status?after=${page.newest}`, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) {
      lost(answer.status === 401 ? "token needed: load the page again" : `refused: ${answer.status}`);
      return;
    }
    const status = await answer.json();
    const again = page.started !== null && status.started !== page.started;
    if (again) { page.points = []; page.nodes.clear(); }
    page.started = status.started;
    page.newest = again ? 0 : status.history.newest;
    page.capacity = status.history.capacity;
    page.period = status.history.period_seconds;
    page.points = again ? [] : page.points.concat(status.history.points).slice(-page.capacity);
    show(status);
  } catch {
    lost("disconnected");
  } finally {
    asking = false;
  }
}

page.charts = [...document.querySelectorAll(".chart")].map(chart);
byId("reload").addEventListener("click", () => order("/reload", "the configuration was read again and is in force"));
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
setInterval(() => { if (!document.hidden) poll(); }, PERIOD_MS);
poll();
