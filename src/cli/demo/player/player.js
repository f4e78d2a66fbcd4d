// The page of the player: signs in, gets a link for each play, and shows what the gateway counted.
"use strict";

const byId = (id) => document.getElementById(id);
const player = byId("player");

/** Sends a request to the server of the page; returns the response, or throws with its text. */
async function ask(method, path, body) {
  const response = await fetch(path, { method, body: body && JSON.stringify(body) });
  if (!response.ok) throw new Error(await response.text());
  return response;
}

function say(text) {
  byId("trouble").textContent = text;
  byId("trouble").hidden = !text;
}

async function showCounts() {
  const counts = await (await ask("GET", "/counts")).json();
  byId("hits").textContent = counts?.hits ?? "unknown";
}

async function play(callId) {
  say("");
  byId("trust").hidden = true;
  const link = await (await ask("POST", `/link/${encodeURIComponent(callId)}`)).json();
  byId("link").textContent = link.url;
  player.src = link.url;
  await player.play();
}

byId("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await ask("POST", "/sign-in", { code: byId("code").value.trim() });
    say("");
    byId("sign-in").hidden = true;
    byId("recordings").hidden = false;
    await showCounts();
  } catch (error) {
    say(error.message);
  }
});

for (const button of document.querySelectorAll("button[data-call]")) {
  button.addEventListener("click", () => play(button.dataset.call).catch((error) => say(error.message)));
}

player.addEventListener("playing", showCounts);
player.addEventListener("error", () => {
  say(`The recording cannot be played: ${player.error?.message || "the player got no sound"}`);
  byId("trust").hidden = false;
});
