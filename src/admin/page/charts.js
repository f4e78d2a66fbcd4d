// The charts of the last 15 minutes: drawn as SVG, read by pointer or arrow keys.

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
  const drawn = { kind, article, svg, page, at: null };
  drawn.area = part(svg, "path", "area");
  drawn.second = part(svg, "path", "second");
  drawn.line = part(svg, "path", "line");
  drawn.cursor = part(svg, "line", "cursor");
  drawn.cursor.setAttribute("visibility", "hidden");
  drawn.value = article.querySelector("b");
  drawn.scale = make("p", "scale");
  drawn.low = make("span", "", "15 min ago");
  drawn.top = make("span");
  drawn.scale.append(drawn.low, drawn.top);
  article.append(svg, drawn.scale);
  const point = (at) => { drawn.at = at; draw(drawn); };
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
    point(Math.max(0, Math.min(page.points.length - 1, (drawn.at ?? -1) + step)));
  });
  return drawn;
}

/** A round number that is not less. */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

/** The path of a series, newest point at the right edge; gaps where nothing is known. */
function path(values, top, slots) {
  let drawn = "";
  let pen = false;
  values.forEach((value, index) => {
    if (value === null || value === undefined) { pen = false; return; }
    const x = WIDTH - (values.length - 1 - index) * WIDTH / (slots - 1);
    const y = HEIGHT - Math.min(1, value / top) * HEIGHT;
    drawn += `${pen ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`;
    pen = true;
  });
  return drawn;
}

/** The path of a series down to the ground, one piece for each stretch without gaps. */
function area(values, top, slots) {
  const pieces = path(values, top, slots).split("M").filter(Boolean);
  return pieces.map((piece) => {
    const xs = piece.split("L").map((point) => point.split(" ")[0]);
    return `M${piece}L${xs[xs.length - 1]} ${HEIGHT}L${xs[0]} ${HEIGHT}Z`;
  }).join("");
}

export function draw(drawn) {
  const { kind, page } = drawn;
  const values = page.points.map((point) => point[kind.line]);
  const known = values.filter((value) => value !== null && value !== undefined);
  const top = kind.most ?? ceiling(Math.max(kind.least, ...known));
  drawn.line.setAttribute("d", path(values, top, page.capacity));
  drawn.area.setAttribute("d", area(values, top, page.capacity));
  if (kind.second) drawn.second.setAttribute("d", path(page.points.map((point) => point[kind.second]), top, page.capacity));
  const at = drawn.at === null ? null : page.points[page.points.length - 1 - drawn.at];
  const now = kind.second ? page.status?.latency.all.p99_ms : page.status?.rates[kind.line];
  const value = at ? at[kind.line] : now;
  text(drawn.value, kind.show(value));
  drawn.article.classList.toggle("alarm", Boolean(kind.alarm?.(value)));
  drawn.article.classList.toggle("quiet", Boolean(kind.alarm) && !known.some((it) => it > 0));
  text(drawn.low, at ? `${span(drawn.at * page.period)} ago` : "15 min ago");
  text(drawn.top, known.length ? `max ${kind.show(Math.max(...known))}${kind.unit}` : "");
  if (at) {
    const x = WIDTH - drawn.at * WIDTH / (page.capacity - 1);
    for (const [name, place] of Object.entries({ x1: x, x2: x, y1: 0, y2: HEIGHT })) drawn.cursor.setAttribute(name, place);
  }
  drawn.cursor.setAttribute("visibility", at ? "visible" : "hidden");
  const title = drawn.article.querySelector("h2").firstChild.textContent.trim();
  drawn.svg.setAttribute("aria-label", `${title}: ${kind.show(value)}${kind.unit}${at ? `, ${drawn.low.textContent}` : " now"}; ${drawn.top.textContent} in 15 minutes. Left and right arrow keys look back.`);
}
