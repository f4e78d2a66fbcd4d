// The attempts of one node in the last 15 minutes, in the height of a line.

import { attribute, part, place } from "./elements.js";
import { rate } from "./numbers.js";

/** Draws the attempts of a node in the last 15 minutes, with its failures below them in another colour. */
export function drawSparkline(svg, points) {
  const width = 90;
  const height = 20;
  if (!svg.firstChild) {
    place(svg, { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img" });
    part(svg, "path", "spark");
    part(svg, "path", "spark failed");
  }
  const top = Math.max(0.1, ...points.map(([attempts]) => attempts));
  const step = width / Math.max(points.length, 1);
  const bars = (index) => points.map((point, at) => {
    const size = point[index] > 0 ? Math.max(1, point[index] / top * height) : 0;
    return size ? `M${(at * step).toFixed(1)} ${height}v${(-size).toFixed(1)}h${(step * 0.8).toFixed(1)}v${size.toFixed(1)}Z` : "";
  }).join("");
  attribute(svg.children[0], "d", bars(0));
  attribute(svg.children[1], "d", bars(1));
  const failed = Math.max(0, ...points.map(([, failures]) => failures));
  attribute(svg, "aria-label", points.length ? `attempts: at most ${rate(top)}/s; failures: at most ${rate(failed)}/s` : "no attempts yet");
}
