// The charts of the last 15 minutes: SVG, values shown by pointer or arrow keys. The time axis begins with the first
// point, so that a gateway that was just started fills its charts.

import { milliseconds, percent, rate, span } from "./numbers.js";
import { attribute, make, part, place, text } from "./elements.js";

const WIDTH = 180;
const HEIGHT = 100;
/** The shortest time axis: a minute. */
const LEAST_POINTS = 12;

const codes = [
  { name: "success", title: "success" },
  { name: "no_data", title: "no data yet" },
  { name: "not_found", title: "not found" },
  { name: "flow_control", title: "flow control" },
  { name: "parameter", title: "parameter" },
  { name: "other", title: "other" },
];

/** The charts: their series, the first of which is the value that is shown large. */
const CHARTS = {
  requests: { unit: "/s", least: 1, show: rate, series: [{ of: (point) => point.requests }] },
  errors: { unit: "/s", least: 1, show: rate, alarm: true, series: [{ of: (point) => point.errors }] },
  refused: {
    unit: "/s", least: 1, show: rate, alarm: true,
    series: [{ of: (point) => point.refused, title: "4xx" }, { of: (point) => point.limited, title: "429", isDashed: true }],
  },
  hit_ratio: { unit: " %", least: 1, most: 1, show: percent, series: [{ of: (point) => point.hit_ratio }] },
  latency: {
    unit: " ms", least: 5, show: milliseconds,
    series: [{ of: (point) => point.p99_ms, title: "p99" }, { of: (point) => point.p50_ms, title: "p50", isDashed: true }],
    hasLongest: true,
  },
  codes: {
    unit: "/s", least: 1, show: rate, isStacked: true,
    series: codes.map(({ name, title }) => ({ of: (point) => point.result_codes?.[name], title, name })),
  },
};

/** Builds the chart of an article; `page` holds the points. */
export function buildChart(article, page) {
  const kind = CHARTS[article.dataset.chart];
  const svg = part(article, "svg");
  place(svg, { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", tabindex: 0, "aria-label": "nothing is known yet" });
  for (const y of [0, HEIGHT / 2, HEIGHT]) place(part(svg, "line", "grid"), { x1: 0, x2: WIDTH, y1: y, y2: y });
  const view = { kind, article, svg, page, at: null };
  view.paths = kind.series.map((series, index) => ({
    area: part(svg, "path", kind.isStacked ? `area ${series.name}` : index === 0 ? "area" : "none"),
    line: part(svg, "path", kind.isStacked ? "none" : series.isDashed ? "second" : "line"),
  }));
  view.cursor = part(svg, "line", "cursor");
  view.value = article.querySelector("b");
  view.legend = make("p", "legend");
  const scale = make("p", "scale");
  view.low = scale.appendChild(make("span"));
  view.top = scale.appendChild(make("span"));
  article.append(scale, view.legend);
  listen(view);
  return view;
}

function listen(view) {
  const { svg } = view;
  const point = (at) => { view.at = at; drawChart(view); };
  const last = () => view.page.points.length - 1;
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    point(Math.max(0, Math.min(last(), Math.round((slots(view.page) - 1) * (1 - share)) - 1)));
  });
  svg.addEventListener("pointerleave", () => point(null));
  svg.addEventListener("blur", () => point(null));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: 1, ArrowRight: -1 }[event.key];
    if (!step || last() < 0) return;
    event.preventDefault();
    point(Math.max(0, Math.min(last(), (view.at ?? -1) + step)));
  });
}

/** The number of places on the time axis; the last one is now. */
const slots = (page) => Math.max(LEAST_POINTS, Math.min(page.capacity, page.points.length)) + 1;

const isKnown = (value) => value !== null && value !== undefined;

/** Returns the next round number at or above `value`. */
export function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

/** Returns the stretches of a series without gaps, as points in the drawing; the newest is at the right edge. */
function stretches(values, top, places) {
  const found = [];
  let stretch = null;
  values.forEach((value, index) => {
    if (!isKnown(value)) { stretch = null; return; }
    if (!stretch) found.push(stretch = []);
    const x = WIDTH - (values.length - 1 - index) * WIDTH / (places - 1);
    stretch.push([x, HEIGHT - Math.min(1, value / top) * HEIGHT]);
  });
  return found;
}

const joined = (points) => points.map(([x, y]) => `${x.toFixed(2)} ${y.toFixed(2)}`).join("L");

function linePath(values, top, places) {
  return stretches(values, top, places).map((points) => `M${joined(points)}`).join("");
}

/** Returns the area between a series and the one below it. */
function areaPath(values, below, top, places) {
  const upper = stretches(values, top, places);
  const lower = below ? stretches(below.map((value, index) => isKnown(values[index]) ? value : null), top, places) : null;
  return upper.map((points, index) => {
    const back = lower ? [...lower[index]].reverse() : [[points[points.length - 1][0], HEIGHT], [points[0][0], HEIGHT]];
    return `M${joined(points)}L${joined(back)}Z`;
  }).join("");
}

/** Returns the values of all series, the live one last; those of a stack are sums from below. */
function valuesOf(kind, points) {
  const all = kind.series.map((series) => points.map(series.of));
  if (!kind.isStacked) return all;
  const sums = [];
  all.forEach((values, index) => {
    sums.push(values.map((value, at) => isKnown(value) ? value + (index > 0 ? sums[index - 1][at] ?? 0 : 0) : null));
  });
  return sums;
}

/** Draws a chart. The live value is its newest point, so that it can never exceed the maximum. */
export function drawChart(view) {
  const { kind, page } = view;
  const live = page.status?.rates ?? {};
  const points = [...page.points, live];
  const places = slots(page);
  const all = valuesOf(kind, points);
  const outer = kind.isStacked ? [all[all.length - 1]] : all;
  const known = outer.flat().filter(isKnown);
  const top = kind.most ?? ceiling(Math.max(kind.least, ...known));
  view.paths.forEach(({ area, line }, index) => {
    if (!kind.isStacked) attribute(line, "d", linePath(all[index], top, places));
    if (kind.isStacked || index === 0) attribute(area, "d", areaPath(all[index], kind.isStacked && index > 0 ? all[index - 1] : null, top, places));
  });
  const at = view.at === null ? null : page.points[page.points.length - 1 - view.at];
  const shown = at ?? live;
  const total = kind.isStacked ? sumOf(kind, shown) : kind.series[0].of(shown);
  const value = kind.alarm ? kind.series.reduce((sum, series) => sum + (series.of(shown) ?? 0), 0) : total;
  text(view.value, kind.show(value));
  view.article.classList.toggle("alarm", Boolean(kind.alarm) && value > 0);
  view.article.classList.toggle("quiet", Boolean(kind.alarm) && !known.some((it) => it > 0));
  const oldest = page.points.length * page.period;
  text(view.low, at ? `${span((view.at + 1) * page.period)} ago` : oldest > 0 ? `${span(Math.max(oldest, LEAST_POINTS * page.period))} ago` : "");
  const most = kind.alarm ? Math.max(0, ...points.map((point) => kind.series.reduce((sum, series) => sum + (series.of(point) ?? 0), 0))) : Math.max(...known);
  text(view.top, known.length ? `max ${kind.show(most)}${kind.unit}` : "");
  showLegend(view, shown);
  const x = WIDTH - (view.at + 1) * WIDTH / (places - 1);
  place(view.cursor, { x1: x, x2: x, y1: 0, y2: HEIGHT, visibility: at ? "visible" : "hidden" });
  const title = view.article.querySelector("h3").textContent.trim();
  const parts = view.legend.textContent && `; ${view.legend.textContent}`;
  const when = at ? view.low.textContent : "now";
  attribute(view.svg, "aria-label", `${title}: ${kind.show(value)}${kind.unit} ${when}${parts}; ${view.top.textContent} in ${span(oldest)}. Left and right arrow keys look back.`);
}

const sumOf = (kind, point) => {
  const values = kind.series.map((series) => series.of(point)).filter(isKnown);
  return values.length ? values.reduce((sum, value) => sum + value, 0) : null;
};

/** Shows the value of each series; of a stack only those that are not zero. */
function showLegend(view, point) {
  const { kind, legend } = view;
  if (kind.series.length < 2) return;
  const shown = kind.series.filter((series) => !kind.isStacked || series.of(point) > 0);
  const wanted = shown.map((series) => [series.name ?? (series.isDashed ? "dashed" : "solid"), `${series.title} ${kind.show(series.of(point))}`]);
  if (kind.hasLongest) wanted.unshift(["plain", `max ${kind.show(point.max_ms)}`]);
  while (legend.children.length > wanted.length) legend.lastChild.remove();
  wanted.forEach(([name, words], index) => {
    const item = legend.children[index] ?? legend.appendChild(make("span"));
    item.className = `key ${name}`;
    text(item, words);
  });
}
