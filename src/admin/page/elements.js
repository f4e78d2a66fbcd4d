// DOM helpers that update elements in place. Values are set as text only, never as HTML.

export function text(element, value) {
  const shown = String(value);
  if (element.textContent !== shown) element.textContent = shown;
}

export function style(element, name) {
  if (element.className !== name) element.className = name;
}

export function make(tag, className, content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (content !== undefined) element.textContent = content;
  return element;
}

/** Reconciles the rows of `body` with `items`, by key and in their order; `fill` updates a row. */
export function rows(body, items, key, create, fill, nothing) {
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

export function cells(...classes) {
  const row = make("tr");
  for (const name of classes) row.append(make("td", name));
  return row;
}
