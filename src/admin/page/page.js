// The status page: polls /status every two seconds and updates only what changed, so that focus,
// selection and scroll position stay. URLs are built from the origin: fetch() rejects relative URLs
// if the page was opened with credentials in its address.
import { chart, draw } from "./charts.js";
import { cells, make, rows, style, text } from "./elements.js";
import { bytes, count, milliseconds, rate, span, whole } from "./numbers.js";

const POLL_INTERVAL_MS = 2000;
const POLL_TIMEOUT_MS = 4000;
const CONFIRM_MS = 4000;

const byId = (id) => document.getElementById(id);
const page = { started: null, newest: 0, points: [], capacity: 180, period: 5, seen: null, nodes: new Map(), status: null };

// ---- commands

function setMessage(message) {
  text(byId("message"), message);
}

async function sendCommand(path, done) {
  try {
    const response = await fetch(location.origin + path, { method: "POST", headers: { "X-Ccfs-Gateway": "1" }, signal: AbortSignal.timeout(30000) });
    if (response.ok) setMessage(done);
    else setMessage(`rejected: ${(await response.json().catch(() => null))?.detail ?? response.status}`);
  } catch {
    setMessage("the gateway did not answer");
  }
  await poll();
}

/** Whether a node is the last usable one of its cluster: draining it needs a second press. */
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
      setMessage(`${node.address} is the last node of ${cluster.name} that is up: press again to drain it`);
      setTimeout(disarm, CONFIRM_MS);
      return;
    }
    disarm();
    const place = [cluster.name, node.address, drain ? "drain" : "undrain"].map(encodeURIComponent);
    await sendCommand(`/nodes/${place.join("/")}`, `${node.address} ${drain ? "is drained: it receives no new requests" : "receives requests again"}`);
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

// ---- rendering

/** Returns a node's attempts and failures per second over the last polls. */
function nodeRates(key, node, now) {
  const history = page.nodes.get(key) ?? [];
  if (history.length && node.requests < history[history.length - 1].requests) history.length = 0;
  history.push({ now, requests: node.requests, failures: node.failures });
  while (history.length > 6) history.shift();
  page.nodes.set(key, history);
  const first = history[0];
  const seconds = (now - first.now) / 1000;
  if (seconds < 1) return { attempts: null, failures: null };
  return { attempts: (node.requests - first.requests) / seconds, failures: (node.failures - first.failures) / seconds };
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
    const row = cells("mono cut", "", "n", "n", "n", "n", "n", "n", "dim why", "");
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
    const rates = nodeRates(item.key, node, now);
    const sameHost = !node.socket || node.socket === node.address;
    text(row.children[0], sameHost ? node.address : `${node.address} (${node.socket})`);
    row.children[0].title = row.children[0].textContent;
    style(row.stateCell, `state ${node.state}`);
    text(row.stateCell, node.ejected_for_seconds ? `ejected, ${span(node.ejected_for_seconds)} left` : node.state);
    text(row.children[2], count(node.in_flight));
    text(row.children[3], rate(rates.attempts));
    text(row.children[4], rate(rates.failures));
    style(row.children[4], rates.failures > 0 ? "n red" : "n");
    text(row.children[5], count(node.requests));
    text(row.children[6], count(node.failures));
    text(row.children[7], milliseconds(node.p50_ms));
    const failure = [node.last_error && node.last_error.replace("_", " "), node.last_cause].filter(Boolean).join(": ");
    text(row.children[8], failure || "–");
    row.children[8].title = row.children[8].textContent;
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
  rows(byId("keys"), status.busiest_access_keys, (item) => item.access_key, () => cells("mono cut", "n", "n"), fill, "no requests were admitted yet");
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
  text(element, last ? `${last.ok ? "done" : "rejected"} ${ago} ago` : "none since the start");
  style(element, last && !last.ok ? "red" : "");
  const { cache } = status;
  text(byId("cache"), `${count(cache.entries)} · ${bytes(cache.bytes)} of ${bytes(cache.max_bytes)}`);
  const { shared } = status;
  text(byId("shared"), shared ? shared.state : "not configured");
  byId("shared").title = shared ? shared.url : "";
  style(byId("shared"), shared?.state === "away" ? "amber" : "");
}

function showAlerts(status) {
  const alerts = [];
  const last = status.reloads.last;
  if (last && !last.ok) alerts.push({ bad: true, text: `The last reload was rejected, the configuration before it stays:\n${last.error}` });
  for (const cluster of status.clusters) {
    if (cluster.panic) alerts.push({ bad: true, text: `Cluster ${cluster.name}: most nodes are unhealthy, so all are used (panic mode)` });
    if (cluster.insecure_skip_verify) alerts.push({ text: `Cluster ${cluster.name}: certificates of nodes are not verified (insecure_skip_verify)` });
  }
  const { shared } = status;
  if (shared?.state === "away") alerts.push({ text: `The shared store is unavailable (${shared.reason}): this gateway works without it` });
  if (shared?.insecure_skip_verify) alerts.push({ text: "Shared store: its certificate is not verified (insecure_skip_verify)" });
  for (const listener of status.listeners) {
    for (const certificate of listener.certificates) {
      const days = certificate.days_left;
      if (days === null) alerts.push({ bad: true, text: `Listener ${listener.name}: a certificate cannot be read` });
      else if (days < 14) alerts.push({ bad: days < 3, text: `Listener ${listener.name}: the certificate of ${certificate.names[0] ?? "?"} ${days < 0 ? "has expired" : `expires in ${days} days`}` });
    }
  }
  rows(byId("alerts"), alerts, (alert) => alert.text, (alert) => make("li", "", alert.text), (item, alert) => style(item, [alert.bad && "bad", alert.text.includes("\n") && "long mono"].filter(Boolean).join(" ")));
}

const isUnhealthy = (node) => ["down", "ejected", "unresolved"].includes(node.state);

function countUnhealthy(status) {
  return status.clusters.flatMap((cluster) => cluster.nodes).filter(isUnhealthy).length;
}

function state(name, title) {
  style(byId("state"), `pill ${name}`);
  text(byId("state"), title);
}

function show(status) {
  const now = Date.now();
  page.seen = now;
  page.status = status;
  document.body.classList.remove("stale", "waiting");
  byId("reload").disabled = false;
  if (status.draining) state("warn", "draining");
  else if (status.clusters.some((cluster) => cluster.panic)) state("bad", "panic mode");
  else if (status.clusters.some((cluster) => cluster.nodes.some(isUnhealthy))) state("warn", `serving, unhealthy nodes: ${countUnhealthy(status)}`);
  else state("good", "serving");
  text(byId("in-flight"), count(status.requests_in_flight));
  text(byId("uptime"), span(status.uptime_seconds));
  text(byId("version"), status.version);
  showAlerts(status);
  for (const view of page.charts) draw(view);
  showNodes(status, now);
  showListeners(status);
  showKeys(status);
  showLatency(status);
  showConfiguration(status);
}

function showStale(reason) {
  document.body.classList.add("stale");
  for (const button of document.querySelectorAll("button")) button.disabled = true;
  const age = page.seen ? `, last seen ${span((Date.now() - page.seen) / 1000)} ago` : "";
  state("bad", `${reason}${age}`);
}

// ---- polling

let polling = false;

async function poll() {
  if (polling) return;
  polling = true;
  try {
    const response = await fetch(`${location.origin}/status?after=${page.newest}`, { cache: "no-store", signal: AbortSignal.timeout(POLL_TIMEOUT_MS) });
    if (!response.ok) {
      showStale(response.status === 401 ? "token needed: load the page again" : `rejected: ${response.status}`);
      return;
    }
    const status = await response.json();
    const again = page.started !== null && status.started !== page.started;
    if (again) { page.points = []; page.nodes.clear(); }
    page.started = status.started;
    page.newest = again ? 0 : status.history.newest;
    page.capacity = status.history.capacity;
    page.period = status.history.period_seconds;
    page.points = again ? [] : page.points.concat(status.history.points).slice(-page.capacity);
    show(status);
  } catch {
    showStale("disconnected");
  } finally {
    polling = false;
  }
}

page.charts = [...document.querySelectorAll(".chart")].map((article) => chart(article, page));
byId("reload").addEventListener("click", () => sendCommand("/reload", "the configuration was reloaded and is in force"));
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
setInterval(() => { if (!document.hidden) poll(); }, POLL_INTERVAL_MS);
poll();
