// Elements that live on while what they show changes. Whatever is shown is set as text.

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

/** Makes `body` hold one row per item, in their order, by key; `fill` changes what changed. */
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
