// The chapter of the runbook that belongs to a finding, read from the gateway itself when it is opened.

import { make, text } from "./elements.js";

let file = null;

/** Fetches the runbook once; a failure is tried again at the next opening. */
async function wholeText() {
  file ??= fetch(`${location.origin}/troubleshooting.md`).then((response) => response.ok ? response.text() : Promise.reject(response.status));
  try {
    return await file;
  } catch (error) {
    file = null;
    throw error;
  }
}

/** Returns the chapter `### id` without its heading and the marks of Markdown. Pure. */
export function chapter(markdown, id) {
  const lines = markdown.split("\n");
  const start = lines.indexOf(`### ${id}`);
  if (start < 0) return null;
  const after = lines.slice(start + 1);
  const end = after.findIndex((line) => /^#{1,3} /.test(line));
  const body = (end < 0 ? after : after.slice(0, end)).join("\n").trim();
  return body.replaceAll("**", "").replaceAll("`", "").replace(/\n(?![-\n|])\s*/g, " ");
}

/** Creates the disclosure of a chapter; `setChapter("troubleshooting.md#id")` names it. */
export function runbook() {
  const details = make("details", "runbook");
  const summary = details.appendChild(make("summary"));
  const body = details.appendChild(make("p", "chapter"));
  details.setChapter = (name) => { details.chapter = name; text(summary, `Runbook ${name}`); };
  details.addEventListener("toggle", async () => {
    if (!details.open || body.textContent) return;
    const [, id] = details.chapter.split("#");
    try {
      text(body, chapter(await wholeText(), id) ?? "The runbook has no such chapter.");
    } catch {
      text(body, `The runbook cannot be read; it is deploy/${details.chapter} of the source.`);
    }
  });
  return details;
}
