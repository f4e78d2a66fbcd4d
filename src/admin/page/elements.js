// DOM helpers that update elements in place, so that focus, selection and scroll position stay. Values are set
// as text only, never as HTML.

export const byId = (id) => document.getElementById(id);

/** Sets the text of an element, unless it has it. */
export function text(element, value) {
  const shown = String(value);
  if (element.textContent !== shown) element.textContent = shown;
}

/** Sets the class of an element, unless it has it. */
export function style(element, name) {
  if (element.className !== name) element.className = name;
}

/** Sets or removes an attribute. */
export function attribute(element, name, value) {
  if (value === null || value === undefined || value === "") element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** Creates an element. */
export function make(tag, className, content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (content !== undefined) element.textContent = content;
  return element;
}

/** Creates an SVG element inside `parent`. */
export function part(parent, tag, className) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  if (className) element.setAttribute("class", className);
  parent.append(element);
  return element;
}

/** Sets attributes of an SVG element. */
export function place(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) attribute(element, name, value);
}

/** Reconciles the children of `body` with `items`, by key and in their order; `fill` updates a child. */
export function reconcile(body, items, key, create, fill) {
  const known = body.childrenByKey ?? (body.childrenByKey = new Map());
  const wanted = new Set(items.map(key));
  for (const [name, child] of known) {
    if (!wanted.has(name)) { child.remove(); known.delete(name); }
  }
  let next = body.firstElementChild;
  for (const item of items) {
    let child = known.get(key(item));
    if (!child) { child = create(item); known.set(key(item), child); }
    if (child === next) next = next.nextElementSibling;
    else body.insertBefore(child, next);
    fill(child, item);
  }
}

/** Shows or hides an element. */
export function show(element, isShown) {
  if (element.hidden === isShown) element.hidden = !isShown;
}
