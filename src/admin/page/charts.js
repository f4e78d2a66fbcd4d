// The charts of the last 15 minutes: SVG, values shown by pointer or arrow keys.

import { milliseconds, rate, span, whole } from "./numbers.js";
import { make, text } from "./elements.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 180;
const HEIGHT = 100;
const CHARTS = {
  requests: { line: "requests", least: 1, show: rate, unit: "/s" },
  errors: { line: "errors", least: 1, show: rate, unit: "/s", alarm: (v) => v > 0 },
  limited: { line: "limited", least: 1, show: rate, unit: "/s", alarm: (v) => v > 0 },
  hit_ratio: { line: "hit_ratio", least: 1, most: 1, show: (v) => v === null || v === undefined ? "–" : whole.format(v * 100), unit: " %" },
  latency: { line: "p99_ms", second: "p50_ms", least: 5, show: milliseconds, unit: " ms" },
};

function part(svg, tag, name) {
  const element = document.createElementNS(SVG, tag);
  element.setAttribute("class", name);
  svg.append(element);
  return element;
}

export function chart(article, page) {
  const kind = CHARTS[article.dataset.chart];
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("tabindex", "0");
  for (const y of [0, HEIGHT / 2, HEIGHT]) {
    const line = part(svg, "line", "grid");
    for (const [name, value] of Object.entries({ x1: 0, x2: WIDTH, y1: y, y2: y })) line.setAttribute(name, value);
  }
  const view = { kind, article, svg, page, at: null };
  view.area = part(svg, "path", "area");
  view.second = part(svg, "path", "second");
  view.line = part(svg, "path", "line");
  view.cursor = part(svg, "line", "cursor");
  view.cursor.setAttribute("visibility", "hidden");
  view.value = article.querySelector("b");
  view.scale = make("p", "scale");
  view.low = make("span", "", "15 min ago");
  view.top = make("span");
  view.scale.append(view.low, view.top);
  article.append(svg, view.scale);
  const point = (at) => { view.at = at; draw(view); };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    point(Math.max(0, Math.min(page.capacity - 1, Math.floor(page.capacity * (1 - share)))));
  });
  svg.addEventListener("pointerleave", () => point(null));
  svg.addEventListener("blur", () => point(null));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: 1, ArrowRight: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    point(Math.max(0, Math.min(page.points.length - 1, (view.at ?? -1) + step)));
  });
  return view;
}

/** Returns the next round number at or above `value`. */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

/** Returns the path of a series, with the newest point at the right edge and gaps for unknown values. */
function path(values, top, slots) {
  let d = "";
  let pen = false;
  values.forEach((value, index) => {
    if (value === null || value === undefined) { pen = false; return; }
    const x = WIDTH - (values.length - 1 - index) * WIDTH / (slots - 1);
    const y = HEIGHT - Math.min(1, value / top) * HEIGHT;
    d += `${pen ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`;
    pen = true;
  });
  return d;
}

/** Returns the area under a series, one piece per stretch without gaps. */
function area(values, top, slots) {
  const pieces = path(values, top, slots).split("M").filter(Boolean);
  return pieces.map((piece) => {
    const xs = piece.split("L").map((point) => point.split(" ")[0]);
    return `M${piece}L${xs[xs.length - 1]} ${HEIGHT}L${xs[0]} ${HEIGHT}Z`;
  }).join("");
}

export function draw(view) {
  const { kind, page } = view;
  const values = page.points.map((point) => point[kind.line]);
  const known = values.filter((value) => value !== null && value !== undefined);
  const top = kind.most ?? ceiling(Math.max(kind.least, ...known));
  view.line.setAttribute("d", path(values, top, page.capacity));
  view.area.setAttribute("d", area(values, top, page.capacity));
  if (kind.second) view.second.setAttribute("d", path(page.points.map((point) => point[kind.second]), top, page.capacity));
  const at = view.at === null ? null : page.points[page.points.length - 1 - view.at];
  const now = kind.second ? page.status?.latency.all.p99_ms : page.status?.rates[kind.line];
  const value = at ? at[kind.line] : now;
  text(view.value, kind.show(value));
  view.article.classList.toggle("alarm", Boolean(kind.alarm?.(value)));
  view.article.classList.toggle("quiet", Boolean(kind.alarm) && !known.some((it) => it > 0));
  text(view.low, at ? `${span(view.at * page.period)} ago` : "15 min ago");
  text(view.top, known.length ? `max ${kind.show(Math.max(...known))}${kind.unit}` : "");
  if (at) {
    const x = WIDTH - view.at * WIDTH / (page.capacity - 1);
    for (const [name, place] of Object.entries({ x1: x, x2: x, y1: 0, y2: HEIGHT })) view.cursor.setAttribute(name, place);
  }
  view.cursor.setAttribute("visibility", at ? "visible" : "hidden");
  const title = view.article.querySelector("h2").firstChild.textContent.trim();
  view.svg.setAttribute("aria-label", `${title}: ${kind.show(value)}${kind.unit}${at ? `, ${view.low.textContent}` : " now"}; ${view.top.textContent} in 15 minutes. Left and right arrow keys look back.`);
}
