// Columns that the tables of access keys and of callers share: what became of their requests.

import { style, text } from "./elements.js";
import { count, percent } from "./numbers.js";

/**
 * Returns the columns of the counts of a `subject`, of which `limits` refuse requests. `sortBy(name)` is the `sort` of
 * a column.
 */
export function countColumns(subject, limits, sortBy) {
  const figure = (title, name, hint, isBad) => ({
    title, kind: "n", sort: sortBy(name), hint,
    fill: (cell, item) => {
      text(cell, count(item[name]));
      style(cell, isBad && item[name] > 0 ? "n amber" : "n");
    },
  });
  return [
    figure("Requests", "requests", `admitted since the ${subject} was configured`),
    { title: "Hits", kind: "n", sort: sortBy("hits"), hint: "answered by the cache", fill: (cell, item) => {
      text(cell, count(item.hits));
      cell.title = item.requests > 0 ? `${percent(Math.min(1, item.hits / item.requests))} % of the requests` : "";
    } },
    figure("4xx", "refused", "responses 4xx, except 429, and requests that validation refused", true),
    figure("429", "limited", `${limits} refused`, true),
    figure("5xx", "failed", "responses 5xx", true),
    figure("Not found", "not_found", "0300012 and 0300011"),
  ];
}
