// The status page: polls /status, and updates only what changed. URLs are built from the origin: fetch() rejects
// relative ones if the page was opened with credentials in its address.

import { startCallers } from "./callers.js";
import { buildChart, drawChart } from "./charts.js";
import { forget, order, review } from "./commands.js";
import { attribute, byId, style, text } from "./elements.js";
import { showFindings, showLast, startFindings } from "./findings.js";
import { startKeys } from "./keys.js";
import { startNodes } from "./nodes.js";
import { count, span } from "./numbers.js";
import { startSettings } from "./settings.js";
import { startTails } from "./tails.js";
import { documentTitle, verdict } from "./verdict.js";

const POLL_INTERVAL_MS = 2000;
/** A page in the background still tells the truth in its title. */
const HIDDEN_INTERVAL_MS = 10000;
const POLL_TIMEOUT_MS = 4000;

const ICONS = { critical: "/icon-critical.svg", warning: "/icon-warning.svg", note: "/icon.svg", none: "/icon.svg" };

const page = { started: null, newest: 0, points: [], capacity: 180, period: 5, seen: null, status: null };

function show(status) {
  page.seen = Date.now();
  page.status = status;
  document.body.classList.remove("stale", "waiting");
  byId("reload").disabled = false;
  text(byId("state"), status.draining ? "draining" : "serving");
  style(byId("state"), `pill ${status.draining ? "warn" : "good"}`);
  text(byId("instance"), status.instance);
  text(byId("version"), status.version);
  text(byId("config-file"), status.config_file ?? "no file");
  byId("config-file").title = status.config_file ?? "";
  text(byId("in-flight"), count(status.requests_in_flight));
  text(byId("uptime"), span(status.uptime_seconds));
  document.title = documentTitle(status);
  attribute(byId("icon"), "href", ICONS[verdict(status).worst]);
  review(status);
  showFindings(status);
  for (const view of charts) drawChart(view);
  for (const panel of panels) panel(status);
}

/** Says at once that what is shown is old, and until when it was true. */
function showStale(reason) {
  forget();
  document.body.classList.add("stale");
  for (const button of document.querySelectorAll("button")) button.disabled = true;
  const age = page.seen ? `, last seen ${span((Date.now() - page.seen) / 1000)} ago` : "";
  style(byId("state"), "pill bad");
  text(byId("state"), `${reason}${age}`);
  if (page.status) showLast(page.status, (Date.now() - page.seen) / 1000);
  document.title = documentTitle(page.status, reason);
}

/** Enables what the stale page had disabled; the tables do it for the buttons of their rows. */
function enableButtons() {
  if (!document.body.classList.contains("stale")) return;
  for (const button of document.querySelectorAll("button")) button.disabled = false;
}

function take(status) {
  const isOther = page.started !== null && status.started !== page.started;
  page.started = status.started;
  page.capacity = status.history.capacity;
  page.period = status.history.period_seconds;
  // Another process has other points: they are asked for again from the first.
  page.newest = isOther ? 0 : status.history.newest;
  page.points = isOther ? [] : page.points.concat(status.history.points).slice(-page.capacity);
  enableButtons();
  show(status);
}

let polling = null;

/** Asks for the status; a poll that is under way ends before. */
async function poll() {
  while (polling) await polling;
  polling = ask().finally(() => { polling = null; });
  await polling;
}

async function ask() {
  let status;
  try {
    const url = `${location.origin}/status?after=${page.newest}${keys.query()}`;
    const response = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(POLL_TIMEOUT_MS) });
    if (!response.ok) {
      showStale(response.status === 401 ? "token needed: load the page again" : `rejected: ${response.status}`);
      return;
    }
    status = await response.json();
  } catch {
    showStale("disconnected");
    return;
  }
  take(status);
}

const keys = startKeys(poll);
const panels = [startNodes(poll), keys.show, startCallers(), startTails(), startSettings()];
const charts = [...document.querySelectorAll(".chart")].map((article) => buildChart(article, page));
startFindings(() => { if (page.status) showFindings(page.status); });
byId("reload").addEventListener("click", () => order("/reload", "the configuration was reloaded and is in force", poll));
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });

let lastPoll = 0;
setInterval(() => {
  const now = Date.now();
  if (polling || now - lastPoll < (document.hidden ? HIDDEN_INTERVAL_MS : POLL_INTERVAL_MS) - 100) return;
  lastPoll = now;
  poll();
}, 500);
