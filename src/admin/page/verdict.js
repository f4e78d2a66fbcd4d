// What the page says about the whole gateway. Pure: one value of /status in, words out.

import { count, counted, rate } from "./numbers.js";

export const SEVERITIES = ["critical", "warning", "note"];

/** Returns the worst severity and the words for it: for the headline, the pill and the title of the document. */
export function verdict(status) {
  const counts = { critical: 0, warning: 0, note: 0 };
  for (const finding of status.findings) counts[finding.severity] += 1;
  const worst = SEVERITIES.find((severity) => counts[severity] > 0) ?? "none";
  const omitted = status.findings_omitted ?? 0;
  const named = [counts.critical && `${counts.critical} critical`, counts.warning && counted(counts.warning, "warning"), omitted && `${count(omitted)} more`];
  const title = named.filter(Boolean).join(", ");
  const is = { worst, isGreen: worst === "none" || worst === "note" };
  const notes = counts.note ? `, ${counted(counts.note, "note")}` : "";
  if (!is.isGreen) return { ...is, headline: title + notes, title };
  return { ...is, ...quiet(status, counts.note) };
}

/** The words where no finding is above `note`: single failures are no finding, but they are not hidden either. */
function quiet(status, notes) {
  const { errors, requests } = status.rates;
  const failing = errors > 0 ? `; ${rate(errors)} of ${rate(requests)} requests a second fail, too few for a finding` : "";
  const idle = requests === 0 ? "; none asks just now" : "";
  const headline = `Callers get what they ask for${failing || idle}.`;
  return { headline, title: notes > 0 ? `ok, ${counted(notes, "note")}` : "ok" };
}

/** Returns the title of the document: the severity first, so that a narrow tab shows it. */
export function documentTitle(status, connection) {
  const name = status ? status.instance : "";
  const words = connection ?? (status.draining ? `draining, ${verdict(status).title}` : verdict(status).title);
  return [words, name, "ccfs-gateway"].filter(Boolean).join(" · ");
}

/** Returns how much fails in the last minute, or an empty text where that means nothing. */
export function failing(finding) {
  const { failing_per_second: perSecond, failing_share: share } = finding;
  const words = [];
  if (perSecond !== null && perSecond !== undefined) words.push(`${rate(perSecond)}/s`);
  if (share !== null && share !== undefined) words.push(`${share > 0 && share < 0.01 ? "<1" : Math.round(share * 100)} %`);
  return words.length && perSecond !== 0 ? `${words.join(", ")} fail` : "";
}

/** Whether a node may be given requests. */
export const isUsable = (node) => node.state === "up" || node.state === "slow-start";
