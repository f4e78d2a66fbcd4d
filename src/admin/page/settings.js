// Listeners, certificates, latency, and the configuration in force.

import { byId, style, text } from "./elements.js";
import { ago, bytes, clock, count, counted, milliseconds } from "./numbers.js";
import { buildTable } from "./table.js";

/** Builds the tables; returns the function that shows a status. */
export function startSettings() {
  const listeners = buildTable(byId("listeners-table"), LISTENERS, { key: (item) => item.name, empty: "No listener is configured." });
  const certificates = buildTable(byId("certificates-table"), CERTIFICATES, { key: (item) => item.key, empty: "No certificate is known yet.", limit: 8 });
  const latency = buildTable(byId("latency-table"), LATENCY, { key: (item) => item.name, empty: "" });
  return (status) => {
    listeners.update(status.listeners);
    certificates.update(certificatesOf(status));
    latency.update([["all", "All requests"], ["hit", "Cache hits"], ["node", "Through a node"]].map(([name, title]) => ({ name, title, ...status.latency[name] })));
    showConfiguration(status);
  };
}

const LISTENERS = [
  { title: "Listener", fill: (cell, item) => text(cell, item.name) },
  { title: "Address", kind: "mono", fill: (cell, item) => text(cell, item.address ?? item.bind) },
  { title: "Connections", kind: "n", fill: (cell, item) => text(cell, count(item.connections ?? 0)) },
  { title: "Routes", kind: "why", fill: (cell, item) => text(cell, item.routes.map((route) => `${route.prefix} → ${route.cluster}`).join(", ")) },
  { title: "Mode", fill: (cell, item) => {
    const modes = [item.authentication !== "enforce" && `authentication ${item.authentication}`, item.validation !== "enforce" && `validation ${item.validation}`].filter(Boolean);
    text(cell, modes.join(", ") || "enforce");
    style(cell, modes.length ? "amber" : "");
  } },
];

/** Returns the certificates of listeners and nodes, those that end first first. Equal ones of a cluster are one. */
function certificatesOf(status) {
  const found = new Map();
  const add = (key, whose, certificate) => {
    const known = found.get(key);
    if (known) known.nodes += 1;
    else found.set(key, { key, whose, nodes: 1, ...certificate });
  };
  for (const listener of status.listeners) {
    listener.certificates.forEach((certificate, index) => add(`l ${listener.name} ${index}`, `listener ${listener.name}`, certificate));
  }
  for (const cluster of status.clusters) {
    for (const { certificate } of cluster.nodes) {
      if (certificate) add(`c ${cluster.name} ${certificate.subject} ${certificate.not_after}`, `cluster ${cluster.name}`, certificate);
    }
  }
  const days = (item) => item.days_left ?? -Infinity;
  return [...found.values()].sort((one, other) => days(one) - days(other));
}

const CERTIFICATES = [
  { title: "Of", fill: (cell, item) => text(cell, item.nodes > 1 ? `${item.whose}, ${counted(item.nodes, "node")}` : item.whose) },
  { title: "Names", kind: "mono name", fill: (cell, item) => { text(cell, item.names?.length ? item.names.join(", ") : item.subject ?? "–"); cell.title = cell.textContent; } },
  { title: "Days left", kind: "n", fill: (cell, item) => {
    const days = item.days_left;
    text(cell, days === null || days === undefined ? "unreadable" : days < 0 ? "expired" : count(days));
    style(cell, !(days >= 3) ? "n red" : days < 14 ? "n amber" : "n");
    cell.title = item.not_after ? `until ${item.not_after}` : "";
  } },
];

const LATENCY = [
  { title: "Last minute, ms", fill: (cell, item) => text(cell, item.title) },
  ...["p50", "p90", "p99", "max"].map((name) => ({ title: name, kind: "n", fill: (cell, item) => text(cell, milliseconds(item[`${name}_ms`])) })),
  { title: "Count", kind: "n", fill: (cell, item) => text(cell, count(item.count)) },
];

function showConfiguration(status) {
  const { cache, shared, audit, reloads } = status;
  text(byId("generation"), status.generation);
  const last = reloads.last;
  text(byId("last-reload"), last ? `${last.ok ? "done" : "rejected"} ${ago(last.at, status.now)} ago` : "none since the start");
  style(byId("last-reload"), last && !last.ok ? "red" : "");
  byId("last-reload").title = last ? clock(last.at, status.now) : "";
  text(byId("changes"), last?.ok ? last.changes.join("; ") || "nothing" : "–");
  text(byId("restart"), reloads.restart_needed.join(", ") || "no");
  style(byId("restart"), reloads.restart_needed.length ? "amber" : "");
  text(byId("cache"), `${counted(cache.entries, "entry").replace("entrys", "entries")}, ${bytes(cache.bytes)} of ${bytes(cache.max_bytes)}`);
  const store = shared ? { sought: "connecting", connected: "connected", away: "away" }[shared.state] : "not configured";
  const untold = shared?.untold_purges ? `, ${counted(shared.untold_purges, "purge")} to tell` : "";
  text(byId("shared"), shared?.reason ? `${store}: ${shared.reason}${untold}` : store + untold);
  byId("shared").title = shared ? shared.url : "";
  style(byId("shared"), shared?.state === "away" ? "amber" : "");
  text(byId("audit"), audit ? `line ${count(audit.seq)}, ${audit.hash.slice(0, 16)}…` : "off");
  byId("audit").title = audit ? `${audit.seq}:${audit.hash}` : "";
  showKeyFiles(status);
}

function showKeyFiles(status) {
  const files = status.access_key_files;
  const refused = files ? files.refused.length + files.refused_omitted : 0;
  const second = status.second_secrets;
  text(byId("key-files"), files ? `${counted(files.files, "file")} in ${files.directory}${refused ? `, ${refused} refused` : ""}` : "one configuration");
  style(byId("key-files"), refused || files?.error ? "red" : "");
  const plans = Object.entries(status.access_keys_by_plan).map(([name, keys]) => `${name} ${count(keys)}`);
  text(byId("plans"), plans.join(", ") || "none");
  text(byId("second-secrets"), `${count(second.used_in_7_days)} used in the last 7 days, ${count(second.access_keys.length + second.access_keys_omitted)} configured`);
}
