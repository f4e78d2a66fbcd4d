// A table of rows that are updated in place, with columns that sort. On a phone each row becomes a card, in which
// the title of the column stands before each value.

import { attribute, make, reconcile, show, text } from "./elements.js";

/** On a phone a row takes the height of a card: fewer are shown at first. */
const NARROW_LIMIT = 6;
const isNarrow = matchMedia("(max-width: 700px)");

/**
 * Builds the head of `table` and returns it with `update(items)`.
 *
 * A column has `title`, `fill(cell, item, row)`, and may have `kind` (a class), `create(cell, row)`, `hint` (a tooltip
 * of the title) and `sort`, which is either a function of an item, or a name with which `options.onSort` is called.
 * `options`: `key(item)`, `empty` (what stands in a table without rows), `limit` (rows before "show all").
 */
export function buildTable(table, columns, options) {
  const state = { table, columns, options, sorted: null, isWhole: false, items: [] };
  const head = table.createTHead().insertRow();
  for (const column of columns) head.append(heading(state, column));
  state.body = table.createTBody();
  state.empty = make("p", "empty", options.empty);
  state.more = make("button", "more");
  state.more.type = "button";
  state.more.addEventListener("click", () => { state.isWhole = !state.isWhole; update(state, state.items); });
  table.after(state.empty, state.more);
  show(state.more, false);
  return { update: (items) => update(state, items), isSorted: () => state.sorted !== null };
}

function heading(state, column) {
  const cell = make("th", column.kind === "n" ? "n" : "");
  cell.scope = "col";
  if (!column.sort) {
    cell.append(make("span", column.isUnseen ? "unseen" : "", column.title));
  } else {
    const button = make("button", "sort", column.title);
    button.type = "button";
    button.addEventListener("click", () => sortBy(state, column));
    cell.append(button);
  }
  if (column.hint) cell.title = column.hint;
  column.heading = cell;
  return cell;
}

/** The first press sorts the largest first, the second the smallest, the third not at all. */
function sortBy(state, column) {
  const before = state.sorted;
  if (before?.column !== column) state.sorted = { column, isDescending: true };
  else state.sorted = before.isDescending && typeof column.sort === "function" ? { column, isDescending: false } : null;
  for (const { heading } of state.columns) attribute(heading, "aria-sort", null);
  if (state.sorted) attribute(column.heading, "aria-sort", state.sorted.isDescending ? "descending" : "ascending");
  if (typeof column.sort === "string") state.options.onSort(state.sorted ? column.sort : null);
  update(state, state.items);
}

function ordered(state, items) {
  const { sorted } = state;
  if (!sorted || typeof sorted.column.sort !== "function") return items;
  const value = sorted.column.sort;
  const direction = sorted.isDescending ? -1 : 1;
  const compare = (one, other) => {
    const [a, b] = [value(one), value(other)];
    if (a === null || a === undefined) return b === null || b === undefined ? 0 : 1;
    if (b === null || b === undefined) return -1;
    return (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b) * direction;
  };
  return [...items].sort(compare);
}

function update(state, items) {
  state.items = items;
  const { options, columns, isWhole } = state;
  const all = ordered(state, items.filter((item) => !item.isHeading || !state.sorted));
  const limit = isNarrow.matches ? Math.min(NARROW_LIMIT, options.limit ?? NARROW_LIMIT) : options.limit ?? Infinity;
  const shown = isWhole || all.length <= limit ? all : all.slice(0, limit);
  const create = (item) => {
    const row = make("tr");
    if (item.isHeading) {
      row.className = "group";
      const cell = row.appendChild(make("th"));
      cell.scope = "rowgroup";
      cell.colSpan = columns.length;
      return row;
    }
    for (const column of columns) {
      const cell = row.appendChild(make("td", column.kind));
      if (!column.isUnseen) cell.dataset.label = column.title;
      column.create?.(cell, row);
    }
    return row;
  };
  const fill = (row, item) => {
    row.item = item;
    if (item.isHeading) { options.fillHeading(row.firstChild, item); return; }
    columns.forEach((column, index) => column.fill(row.children[index], item, row));
  };
  reconcile(state.body, shown, options.key, create, fill);
  show(state.table, all.length > 0);
  show(state.empty, all.length === 0);
  show(state.more, all.length > limit);
  text(state.more, isWhole ? `show the first ${limit}` : `show all ${all.length}`);
}
