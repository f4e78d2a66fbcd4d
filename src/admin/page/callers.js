// The callers without a secret key, and those that fail by their own doing: signatures that do not verify, recordings that
// are not found, and what the settings on trial would refuse.

import { countColumns } from "./columns.js";
import { byId, show, style, text } from "./elements.js";
import { ago, clock, count, counted } from "./numbers.js";
import { buildTable } from "./table.js";

/** Builds the tables; returns the function that shows a status. */
export function startCallers() {
  const claimed = buildTable(byId("claimed-table"), CLAIMED, { key: (item) => `${item.access_key} ${item.configured} ${item.length}`, empty: "", limit: 10 });
  const missing = buildTable(byId("missing-table"), MISSING, { key: (item) => item.access_key, empty: "" });
  const keyless = buildTable(byId("callers-table"), KEYLESS, { key: (item) => item.name, empty: "" });
  return (status) => {
    const now = status.now;
    show(byId("callers"), status.callers.length > 0);
    keyless.update(status.callers);
    text(byId("callers-summary"), status.callers_omitted > 0 ? `the first ${count(status.callers.length)} of ${count(status.callers.length + status.callers_omitted)}` : "the gateway signs for them");
    show(byId("claimed"), status.claimed_access_keys.length > 0);
    claimed.update(status.claimed_access_keys.map((item) => ({ ...item, now })));
    show(byId("missing"), status.recordings_not_found.length > 0);
    missing.update(status.recordings_not_found);
    showTrial(status);
  };
}

const CLAIMED = [
  { title: "Claims to be", kind: "mono name", fill: (cell, item) => { text(cell, item.access_key); cell.title = item.access_key; } },
  { title: "Configured", fill: (cell, item) => text(cell, item.configured ? "yes" : "no") },
  { title: "Requests", kind: "n", sort: (item) => item.count, fill: (cell, item) => text(cell, count(item.count)) },
  { title: "Why", fill: (cell, item) => text(cell, item.class.replace("_", " ")) },
  { title: "The mistake", kind: "why", fill: (cell, item) => { text(cell, item.mistake ?? (item.configured ? "not looked for yet" : "–")); cell.title = item.mistake ?? ""; style(cell, item.mistake ? "why" : "why dim"); } },
  { title: "Last address", kind: "mono", fill: (cell, item) => text(cell, item.address) },
  { title: "Last seen", sort: (item) => item.last_seen, fill: (cell, item) => { text(cell, `${ago(item.last_seen, item.now)} ago`); cell.title = clock(item.last_seen, item.now); } },
];

const KEYLESS = [
  { title: "Caller", kind: "mono name", fill: (cell, item) => { text(cell, item.name); cell.title = item.name; } },
  { title: "Signs as", kind: "mono name", fill: (cell, item) => { text(cell, item.access_key); cell.title = item.access_key; } },
  ...countColumns("caller", "a limit of the caller or of its access key", (name) => (item) => item[name]),
  { title: "In flight", kind: "n", fill: (cell, item) => text(cell, item.in_flight_limit === null ? count(item.in_flight) : `${count(item.in_flight)} of ${count(item.in_flight_limit)}`) },
  { title: "State", kind: "why", fill: (cell, item) => {
    text(cell, item.usable ? "usable" : "gets 401");
    style(cell, item.usable ? "why dim" : "why amber");
    cell.title = item.not_after === null ? "" : `until ${item.not_after}`;
  } },
];

const MISSING = [
  { title: "Access key", kind: "mono name", fill: (cell, item) => { text(cell, item.access_key); cell.title = item.access_key; } },
  { title: "Requests", kind: "n", fill: (cell, item) => text(cell, count(item.requests)) },
  { title: "Not found", kind: "n", fill: (cell, item) => text(cell, count(item.not_found)) },
  { title: "Too young", kind: "n", hint: "the call is younger than 24 hours: the recording may come", fill: (cell, item) => text(cell, count(item.not_synchronised)) },
  { title: "Window ends before the call", kind: "n", fill: (cell, item) => text(cell, count(item.ends_before_call)) },
  { title: "Window begins after it", kind: "n", fill: (cell, item) => text(cell, count(item.begins_after_call)) },
  { title: "Zone mixed up by", kind: "why", fill: (cell, item) => {
    text(cell, item.times_off.map(({ by, count: times }) => `${by} in ${counted(times, "request")}`).join(", ") || "–");
    style(cell, item.times_off.length ? "why amber" : "why dim");
  } },
];

/** Says what is on trial, and how often it would have refused. */
function showTrial(status) {
  const { auth, shadow_invalid: invalid, ratelimit_decisions: decisions } = status.counters;
  const shadowed = status.listeners.filter((listener) => listener.authentication === "shadow").map((listener) => listener.name);
  const lenient = status.listeners.filter((listener) => listener.validation === "shadow").map((listener) => listener.name);
  const isDry = status.limits.dry_run;
  const lines = [];
  if (shadowed.length) lines.push(`Authentication on ${shadowed.join(", ")}: ${counted(auth.shadowed, "request")} would have got 401, and went to a node. The table of callers says whose, and why.`);
  if (lenient.length) lines.push(`Validation on ${lenient.join(", ")}: ${counted(invalid.forwarded ?? 0, "request")} would have been refused for what is in them.`);
  if (isDry) {
    const limits = Object.entries(decisions).filter(([name, times]) => name.includes("would_refuse") && times > 0)
      .map(([name, times]) => `${name.split(",")[0].replaceAll("_", " ")} ${count(times)}`);
    lines.push(`Limits (dry_run): ${limits.length ? `would have refused ${limits.join(", ")}` : "would have refused no request yet"}.`);
  }
  show(byId("trial"), lines.length > 0);
  const list = byId("trial-lines");
  while (list.children.length > lines.length) list.lastChild.remove();
  lines.forEach((line, index) => text(list.children[index] ?? list.appendChild(document.createElement("li")), line));
  text(byId("claimed-title"), shadowed.length ? "Callers that do not verify, or would not" : "Callers that do not verify");
}
