// The findings, the worst first: what is wrong, since when, whom it fails, why, and what to do.

import { byId, make, reconcile, show, style, text } from "./elements.js";
import { ago, clock, count, counted, span } from "./numbers.js";
import { runbook } from "./runbook.js";
import { failing, verdict } from "./verdict.js";

/** So many cards, and so many cases of one card, are shown before "show all". */
const SHOWN_CARDS = 10;
const SHOWN_CASES = 6;

let isWhole = false;

/** Prepares the list. */
export function startFindings(redraw) {
  byId("findings-more").addEventListener("click", () => { isWhole = !isWhole; redraw(); });
}

/** Shows the headline and the findings. */
export function showFindings(status) {
  const words = verdict(status);
  style(byId("verdict"), words.isGreen ? "good" : words.worst);
  text(byId("verdict"), words.headline);
  const cards = grouped(status.findings);
  const isLong = cards.length > SHOWN_CARDS || cards.some((card) => card.cases.length > SHOWN_CASES);
  const shown = isWhole ? cards : cards.slice(0, SHOWN_CARDS);
  reconcile(byId("findings"), shown, (card) => card.key, createCard, (item, card) => fillCard(item, card, status.now));
  const omitted = status.findings_omitted ? `; ${count(status.findings_omitted)} more are not listed` : "";
  show(byId("findings-more"), isLong || omitted !== "");
  byId("findings-more").disabled = !isLong;
  text(byId("findings-more"), `${isWhole ? "show less" : `show all ${status.findings.length} findings`}${omitted}`);
}

/** Says that the findings are those of a gateway that no longer answers. */
export function showLast(status, seconds) {
  style(byId("verdict"), "stale");
  text(byId("verdict"), `Not known now; ${span(seconds)} ago: ${verdict(status).headline}`);
}

/** Puts the findings of one kind, severity and advice together, in the order of the first of each. Pure. */
export function grouped(findings) {
  const cards = new Map();
  for (const finding of findings) {
    const key = `${finding.severity} ${finding.id} ${finding.advice}`;
    if (!cards.has(key)) cards.set(key, { key, ...finding, cases: [] });
    cards.get(key).cases.push(finding);
  }
  return [...cards.values()];
}

function createCard() {
  const item = make("li");
  const head = item.appendChild(make("p", "head"));
  item.severity = head.appendChild(make("span", "severity"));
  item.heading = head.appendChild(make("b", "subject"));
  item.cases = item.appendChild(make("ul", "cases"));
  const advice = item.appendChild(make("p", "advice"));
  advice.append(make("span", "label", "What to do: "));
  item.advice = advice.appendChild(make("span"));
  item.runbook = item.appendChild(runbook());
  return item;
}

function fillCard(item, card, now) {
  style(item, `finding ${card.severity}`);
  text(item.severity, card.severity);
  const { kind, name } = card.subject;
  const noun = kind.replace("_", " ");
  text(item.heading, card.cases.length === 1 ? `${noun} ${name}` : counted(card.cases.length, noun));
  const shown = isWhole ? card.cases : card.cases.slice(0, SHOWN_CASES);
  const key = (finding) => `${finding.subject.name} ${finding.since}`;
  reconcile(item.cases, shown, key, createCase, (line, finding) => fillCase(line, finding, card, now));
  text(item.advice, card.advice);
  item.runbook.setChapter(card.runbook);
}

function createCase() {
  const line = make("li", "case");
  line.name = line.appendChild(make("b"));
  line.fails = line.appendChild(make("span", "fails"));
  line.since = line.appendChild(make("span", "since"));
  line.cause = line.appendChild(make("p", "cause"));
  line.whole = line.appendChild(make("details", "whole"));
  line.whole.append(make("summary"), make("p", "chapter mono"));
  return line;
}

function fillCase(line, finding, card, now) {
  text(line.name, finding.subject.name);
  show(line.name, card.cases.length > 1);
  text(line.fails, failing(finding));
  show(line.fails, line.fails.textContent !== "");
  const silence = (Date.parse(now) - Date.parse(finding.last_seen)) / 1000;
  const last = silence > 10 ? `, last seen ${ago(finding.last_seen, now)} ago` : "";
  text(line.since, `for ${ago(finding.since, now)}${last}`);
  line.since.title = `since ${clock(finding.since, now)}, last seen ${clock(finding.last_seen, now)}`;
  text(line.cause, finding.cause);
  showWhole(line, finding.details?.error);
}

/** Shows the whole text of a rejected configuration, which has a paragraph for each mistake. */
function showWhole(line, error) {
  show(line.whole, Boolean(error));
  if (!error) return;
  const lines = error.split("\n");
  const mistakes = lines.filter((it) => it.startsWith("error")).length;
  text(line.whole.firstChild, mistakes > 1 ? `All ${mistakes} mistakes` : "The whole text");
  text(line.whole.lastChild, error);
}
