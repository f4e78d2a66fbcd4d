// Orders to the gateway, and the message that answers them. A message goes after ten seconds, and at once when
// /status shows that it is no longer true.

import { byId, style, text } from "./elements.js";

const SHOWN_MS = 10000;
const ORDER_TIMEOUT_MS = 30000;

let current = null;
let latest = null;

/** Shows a message for as long as `isTrue(status)` holds, at most ten seconds. */
export function say(words, isTrue = () => true, isBad = false) {
  forget();
  current = { isTrue, timer: setTimeout(forget, SHOWN_MS) };
  style(byId("message"), isBad ? "bad" : "");
  text(byId("message"), words);
}

/** Removes the message. */
export function forget() {
  if (current) clearTimeout(current.timer);
  current = null;
  text(byId("message"), "");
}

/** Removes the message if a status contradicts it. */
export function review(status) {
  latest = status;
  if (current && !current.isTrue(status)) forget();
}

/** Sends an order, and says its answer. `isTrue` tells whether the answer `done` still holds; if it is left out, that is until the next reload. */
export async function order(path, done, poll, isTrue) {
  forget();
  let answer;
  try {
    const response = await fetch(location.origin + path, {
      method: "POST",
      headers: { "X-Ccfs-Gateway": "1" },
      signal: AbortSignal.timeout(ORDER_TIMEOUT_MS),
    });
    if (response.ok) answer = { words: done, isTrue };
    else {
      const detail = (await response.json().catch(() => null))?.detail ?? `status ${response.status}`;
      answer = { words: `rejected: ${detail.split("\n")[0]}`, isBad: true };
    }
  } catch {
    answer = { words: "the gateway did not answer the order", isBad: true };
  }
  // First the state after the order, so that the answer is not judged by the state before it.
  await poll();
  say(answer.words, answer.isTrue ?? sameReload(), answer.isBad);
}

/** Holds until the next reload. */
function sameReload() {
  const reload = (status) => `${status?.generation} ${status?.reloads.last?.at}`;
  const before = reload(latest);
  return (status) => reload(status) === before;
}
