// The access keys: the busiest ones, or those that a filter finds among all. Filter and order are the gateway's, since a
// hundred thousand of them are not sent.

import { countColumns } from "./columns.js";
import { byId, style, text } from "./elements.js";
import { ago, count, counted, rate } from "./numbers.js";
import { buildTable } from "./table.js";

/** How long after the last key press the filter is asked for. */
const PAUSE_MS = 250;

/** Builds the table; returns the query of a poll and the function that shows a status. */
export function startKeys(poll) {
  const view = { sort: null };
  const table = buildTable(byId("keys-table"), COLUMNS, {
    key: (item) => item.access_key,
    empty: "No access key matches.",
    onSort: (name) => { view.sort = name; poll(); },
  });
  let timer = null;
  byId("keys-filter").addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(poll, PAUSE_MS); });
  const query = () => {
    const filter = byId("keys-filter").value.trim();
    return `&keys=${encodeURIComponent(filter)}${view.sort ? `&sort=${view.sort}` : ""}`;
  };
  const show = (status) => {
    const found = status.access_key_rows;
    table.update(found.rows.map((row) => ({ ...row, now: status.now })));
    const isFiltered = byId("keys-filter").value.trim() !== "";
    const shown = found.rows.length < found.matching ? `the first ${found.rows.length} of ` : "";
    text(byId("keys-summary"), isFiltered ? `${shown}${count(found.matching)} that match, of ${count(status.access_keys)}` : `${shown}${counted(status.access_keys, "access key")}, the busiest first`);
  };
  return { query, show };
}

const COLUMNS = [
  { title: "Access key", kind: "mono name", fill: (cell, item) => { text(cell, item.access_key); cell.title = item.access_key; } },
  { title: "Name", kind: "name", fill: (cell, item) => text(cell, item.name ?? "–") },
  { title: "Plan", fill: (cell, item) => text(cell, item.plan ?? "–") },
  { title: "Requests/s", kind: "n", sort: "per_second", fill: (cell, item) => text(cell, rate(item.per_second)) },
  ...countColumns("access key", "a limit of the access key", (name) => name),
  { title: "State", kind: "why", fill: fillState },
  { title: "Second secret", kind: "why", fill: fillSecond },
];

function fillState(cell, item) {
  text(cell, { usable: "usable", "disabled-by-order": "disabled by an order", "disabled-by-configuration": "disabled in the file", "not-yet-valid": "not yet valid", "no-longer-valid": "no longer valid" }[item.state]
    + (item.not_after && item.state === "usable" ? `, until ${item.not_after.slice(0, 10)}` : ""));
  style(cell, item.state === "usable" ? "why" : "why amber");
}

function fillSecond(cell, item) {
  const second = item.second_secret;
  text(cell, second ? (second.last_used ? `last used ${ago(second.last_used, item.now)} ago` : "never since the start: safe to remove") : "–");
}
