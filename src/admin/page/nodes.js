// The clusters and their nodes: state, load, latency, health, and the button that drains a node.

import { attribute, byId, make, part, show, style, text } from "./elements.js";
import { ago, clock, count, counted, milliseconds, rate, span } from "./numbers.js";
import { order, say } from "./commands.js";
import { drawSparkline } from "./sparkline.js";
import { buildTable } from "./table.js";
import { isUsable } from "./verdict.js";

const CONFIRM_MS = 4000;
/** With more nodes than this there is a filter, and "show all" at the end. */
const MANY = 40;
/** Points of a sparkline: 15 minutes of 15 seconds. */
const SPARK_POINTS = 60;

/** Builds the table; returns the function that shows a status. */
export function startNodes(poll) {
  const view = { points: new Map(), status: null, started: null };
  const table = buildTable(byId("nodes-table"), columns(poll, view), {
    key: (item) => item.key,
    empty: "No node matches.",
    limit: MANY,
    fillHeading,
  });
  byId("nodes-filter").addEventListener("input", () => { if (view.status) table.update(rowsOf(view.status)); });
  return (status) => {
    if (view.started !== status.started) view.points.clear();
    view.started = status.started;
    view.status = status;
    takePoints(view.points, status);
    const nodes = status.clusters.flatMap((cluster) => cluster.nodes);
    show(byId("nodes-filter").parentElement, nodes.length > 8);
    const usable = nodes.filter(isUsable).length;
    text(byId("nodes-summary"), `${usable} of ${nodes.length} up`);
    table.update(rowsOf(status));
  };
}

/** Returns the rows that the filter leaves: a heading for each cluster, those that are not well first. */
function rowsOf(status) {
  const wanted = byId("nodes-filter").value.trim().toLowerCase();
  const marks = marksOf(status.findings);
  const isWell = (cluster, node) => isUsable(node) && !marks.has(`${cluster.name}/${node.address}`);
  const isTroubled = (cluster) => cluster.panic || cluster.nodes.some((node) => !isWell(cluster, node));
  const areMany = status.clusters.reduce((sum, cluster) => sum + cluster.nodes.length, 0) > MANY;
  const clusters = areMany ? [...status.clusters].sort((one, other) => isTroubled(other) - isTroubled(one)) : status.clusters;
  return clusters.flatMap((cluster) => {
    const nodes = cluster.nodes.map((node) => ({ key: keyOf(cluster, node), cluster, node, now: status.now, mark: marks.get(`${cluster.name}/${node.address}`) }));
    const matches = ({ node, mark }) => [cluster.name, node.address, node.socket, node.state, mark?.words].join(" ").toLowerCase().includes(wanted);
    const left = nodes.filter(matches);
    if (areMany) left.sort((one, other) => isWell(cluster, one.node) - isWell(cluster, other.node));
    return left.length ? [{ key: `cluster ${cluster.name}`, isHeading: true, cluster }, ...left] : [];
  });
}

/** What a finding says about a node that its state and the other columns do not. */
const MARKS = { "node-refuses-signature": "refuses signatures", "node-failing": "requests fail", "clock-off": "clock is off", "flow-control": "flow control" };

/** Returns for each node with findings their worst severity and their words. */
function marksOf(findings) {
  const marks = new Map();
  for (const { id, severity, subject, details } of findings) {
    if (!MARKS[id]) continue;
    const ofCluster = subject.kind === "cluster" ? (details?.nodes ?? []).map(({ node }) => `${subject.name}/${node}`) : [];
    for (const name of subject.kind === "node" ? [subject.name] : ofCluster) {
      const mark = marks.get(name);
      // The findings come worst first.
      if (mark) mark.words += `, ${MARKS[id]}`;
      else marks.set(name, { severity, words: MARKS[id] });
    }
  }
  return marks;
}

const keyOf = (cluster, node) => `${cluster.name} ${node.address} ${node.socket}`;

/** Keeps the points that came with this status: [attempts/s, failures/s] of 15 seconds each. */
function takePoints(known, status) {
  for (const cluster of status.clusters) {
    for (const node of cluster.nodes) {
      if (!node.points?.length) continue;
      const key = keyOf(cluster, node);
      known.set(key, [...(known.get(key) ?? []), ...node.points].slice(-SPARK_POINTS));
    }
  }
}

function fillHeading(cell, { cluster }) {
  const usable = cluster.nodes.filter(isUsable).length;
  const words = [`${usable} of ${counted(cluster.nodes.length, "node")} up`];
  words.push({ "first-tier": "", none: "nothing serves", fallback: `the fallback cluster ${cluster.fallback} serves` }[cluster.serving]
    ?? `the nodes of priority ${cluster.serving.replace("tier-", "")} serve`);
  if (cluster.fallback && cluster.serving !== "fallback") words.push(`fallback ${cluster.fallback}`);
  if (cluster.panic) words.push("panic mode: too few are healthy, so all are used");
  if (cluster.insecure_skip_verify) words.push("certificates are not verified");
  if (cluster.flow_control_waiters > 0) words.push(`${counted(cluster.flow_control_waiters, "request")} waiting for flow control`);
  if (!cell.firstChild) cell.append(make("b"), make("span"));
  text(cell.children[0], `cluster ${cluster.name}`);
  text(cell.children[1], words.filter(Boolean).join(" · "));
}

function columns(poll, view) {
  return [
    { title: "Node", kind: "mono name", sort: ({ node }) => node.address, fill: fillName },
    { title: "State", kind: "two-lines", sort: ({ node }) => node.state, create: (cell) => cell.append(make("span", "state"), make("small"), make("span", "mark")), fill: fillState },
    { title: "In flight", kind: "n", sort: ({ node }) => node.in_flight, fill: (cell, { node }) => text(cell, count(node.in_flight)) },
    { title: "Attempts/s", kind: "n", sort: ({ node }) => node.attempts_per_second, fill: (cell, { node }) => text(cell, rate(node.attempts_per_second)) },
    { title: "Failures/s", kind: "n", sort: ({ node }) => node.failures_per_second, fill: fillFailures },
    { title: "15 min", kind: "spark-cell", create: (cell) => part(cell, "svg"), fill: (cell, item) => drawSparkline(cell.firstChild, view.points.get(item.key) ?? []) },
    { title: "p50 ms", kind: "n", hint: "of the last minute", sort: ({ node }) => node.p50_ms, fill: (cell, { node }) => text(cell, milliseconds(node.p50_ms)) },
    { title: "p99 ms", kind: "n", hint: "of the last minute", sort: ({ node }) => node.p99_ms, fill: fillSlow },
    { title: "Last check", kind: "two-lines", create: (cell) => cell.append(make("span"), make("small")), sort: ({ node }) => node.last_check?.duration_ms, fill: fillCheck },
    { title: "Flow control", kind: "flow", hint: "what was learned: in flight, and a second", fill: fillCeiling },
    { title: "Certificate", kind: "n", sort: ({ node }) => node.certificate?.days_left, fill: fillCertificate },
    { title: "Last failure", kind: "why", sort: ({ node }) => node.last_failure_at, create: (cell) => cell.append(make("span"), make("small")), fill: fillFailure },
    { title: "Order", isUnseen: true, kind: "action", create: (cell, row) => { row.button = cell.appendChild(drainButton(row, poll)); }, fill: (cell, item, row) => label(row) },
  ];
}

function fillName(cell, { node }) {
  const isSame = !node.socket || node.socket === node.address;
  const priority = node.priority > 0 ? `, priority ${node.priority}` : "";
  text(cell, `${node.address}${isSame ? "" : ` (${node.socket})`}${priority}`);
  cell.title = cell.textContent;
}

function fillState(cell, { node, now, mark }, row) {
  style(row, mark?.severity ?? "");
  style(cell.children[2], `mark ${mark?.severity ?? ""}`);
  text(cell.children[2], mark?.words ?? "");
  style(cell.children[0], `state ${node.state}`);
  const reason = { "refuses-signatures": "refuses signatures", failures: "failures" }[node.ejected?.reason];
  text(cell.children[0], reason ? `ejected: ${reason}` : node.state);
  const left = node.ejected_for_seconds ? `, ${span(node.ejected_for_seconds)} left` : "";
  text(cell.children[1], node.state_since ? `${ago(node.state_since, now)}${left}` : left.slice(2));
  cell.title = node.state_since ? `since ${clock(node.state_since, now)}` : "";
}

function fillFailures(cell, { node }) {
  text(cell, rate(node.failures_per_second));
  style(cell, node.failures_per_second > 0 ? "n red" : "n");
  cell.title = `${count(node.failures)} of ${counted(node.requests, "attempt")} failed`;
}

function fillSlow(cell, { node }) {
  text(cell, milliseconds(node.p99_ms));
  cell.title = node.max_ms === null || node.max_ms === undefined ? "" : `longest ${milliseconds(node.max_ms)} ms`;
}

function fillCheck(cell, { node, now }) {
  const check = node.last_check;
  text(cell.children[0], check ? `${check.ok ? "ok" : "failed"}, ${milliseconds(check.duration_ms)} ms` : "–");
  text(cell.children[1], check ? `${ago(check.at, now)} ago` : "");
  style(cell.children[0], check && !check.ok ? "red" : "");
}

function fillCeiling(cell, { node }) {
  const classes = Object.entries(node.flow_control ?? {}).map(([name, bound]) => {
    const limits = [bound.in_flight !== null && `${bound.in_flight} at once`, bound.per_second !== null && `${rate(bound.per_second)}/s`].filter(Boolean);
    if (bound.access_keys > 0) limits.push(counted(bound.access_keys, "access key"));
    return limits.length ? `${name} ${limits.join(", ")}` : "";
  });
  text(cell, classes.filter(Boolean).join("; ") || "free");
}

function fillCertificate(cell, { node }) {
  const days = node.certificate?.days_left;
  const isKnown = days !== null && days !== undefined;
  text(cell, isKnown ? (days < 0 ? "expired" : `${count(days)} d`) : "–");
  style(cell, isKnown && days < 3 ? "n red" : isKnown && days < 14 ? "n amber" : "n");
  cell.title = isKnown ? `${node.certificate.subject}, issued by ${node.certificate.issuer}, until ${node.certificate.not_after}` : "";
}

function fillFailure(cell, { node, now }) {
  const failure = [node.last_error?.replace("_", " "), node.last_cause].filter(Boolean).join(": ");
  text(cell.children[0], failure || "–");
  text(cell.children[1], failure && node.last_failure_at ? `${ago(node.last_failure_at, now)} ago` : "");
  // A failure that is over is not to be taken for one of now.
  const isOver = isUsable(node) && node.last_failure_at && Date.parse(now) - Date.parse(node.last_failure_at) > 60000;
  style(cell, isOver ? "why over" : "why");
  cell.title = failure;
}

/** Whether a node is the last usable one of its cluster: draining it needs a second press. */
function isLast(cluster, node) {
  return isUsable(node) && !cluster.nodes.some((it) => isUsable(it) && it.address !== node.address);
}

function drainButton(row, poll) {
  const button = make("button");
  button.type = "button";
  const disarm = () => { button.classList.remove("armed"); row.isArmed = false; label(row); };
  button.addEventListener("click", async () => {
    const { cluster, node } = row.item;
    const isDrain = node.state !== "drained";
    if (isDrain && isLast(cluster, node) && !row.isArmed) {
      row.isArmed = true;
      button.classList.add("armed");
      label(row);
      say(`${node.address} is the last node of ${cluster.name} that is up: press again to drain it`, () => row.isArmed, true);
      setTimeout(disarm, CONFIRM_MS);
      return;
    }
    disarm();
    const target = [cluster.name, node.address, isDrain ? "drain" : "undrain"].map(encodeURIComponent);
    const done = `${node.address} ${isDrain ? "is drained: it receives no new requests" : "receives requests again"}`;
    const isTrue = (status) => status.clusters.some((it) => it.name === cluster.name
      && it.nodes.some((one) => one.address === node.address && (one.state === "drained") === isDrain));
    await order(`/nodes/${target.join("/")}`, done, poll, isTrue);
  });
  return button;
}

function label(row) {
  const { cluster, node } = row.item;
  const word = node.state === "drained" ? "Undrain" : row.isArmed ? "Last one!" : "Drain";
  text(row.button, word);
  attribute(row.button, "aria-label", `${word} ${node.address} of ${cluster.name}`);
  row.button.disabled = document.body.classList.contains("stale");
}
