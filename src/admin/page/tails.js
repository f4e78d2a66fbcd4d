// The last events of the gateway and the last requests that failed, the newest first.

import { byId, make, reconcile, show, style, text } from "./elements.js";
import { ago, clock, milliseconds } from "./numbers.js";
import { buildTable } from "./table.js";

/** Builds the lists; returns the function that shows a status. */
export function startTails() {
  const failed = buildTable(byId("failed-table"), COLUMNS, { key: (item) => `${item.at} ${item.request_id}`, empty: "No request has failed since the start.", limit: 12 });
  return (status) => {
    failed.update(status.failed_requests.map((item) => ({ ...item, now: status.now })));
    show(byId("no-events"), status.events.length === 0);
    const key = (event) => `${event.at} ${event.kind} ${event.text}`;
    reconcile(byId("events"), status.events, key, createEvent, (item, event) => fillEvent(item, event, status.now));
  };
}

function createEvent() {
  const item = make("li");
  item.append(make("time"), make("span", "severity"), make("span", "words"));
  return item;
}

function fillEvent(item, event, now) {
  style(item, `event ${event.severity}`);
  const [time, severity, words] = item.children;
  time.dateTime = event.at;
  text(time, clock(event.at, now));
  time.title = `${ago(event.at, now)} ago`;
  text(severity, event.severity === "info" ? "" : event.severity);
  text(words, event.text);
}

const COLUMNS = [
  { title: "At", kind: "mono", fill: (cell, item) => { text(cell, clock(item.at, item.now)); cell.title = `${ago(item.at, item.now)} ago`; } },
  { title: "Status", kind: "n", fill: (cell, item) => { text(cell, item.status || "none"); style(cell, item.status >= 500 || !item.status ? "n red" : "n amber"); } },
  { title: "Code", kind: "mono", fill: (cell, item) => text(cell, item.result_code ?? "–") },
  { title: "What", kind: "mono name", fill: (cell, item) => { text(cell, item.interface ?? item.path ?? "–"); cell.title = item.path ?? ""; } },
  { title: "Access key", kind: "mono name", fill: (cell, item) => { text(cell, item.access_key ?? "not verified"); style(cell, item.access_key ? "mono name" : "dim"); } },
  { title: "Client", kind: "mono", fill: (cell, item) => text(cell, item.client) },
  { title: "Node", kind: "mono", hint: "that was tried last, and the number of attempts", fill: (cell, item) => text(cell, item.node ? `${item.node}${item.attempts > 1 ? ` ×${item.attempts}` : ""}` : "–") },
  { title: "ms", kind: "n", fill: (cell, item) => text(cell, milliseconds(item.duration_ms)) },
  { title: "Reason", kind: "why", fill: (cell, item) => { text(cell, item.reason ?? item.outcome.replace("_", " ")); cell.title = item.reason ?? ""; } },
  { title: "Request id", kind: "mono name", fill: (cell, item) => { text(cell, item.request_id); cell.title = item.request_id; } },
];
