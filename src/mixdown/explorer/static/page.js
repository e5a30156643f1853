// Comforts for browsers with JavaScript: copy buttons, and a page that keeps itself fresh. It works without.
"use strict";

const REFRESH_MS = 5000;
let paused = false;

function button(text) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "quiet";
  made.textContent = text;
  return made;
}

function addCopyButtons(root) {
  if (!navigator.clipboard) return; // browsers offer it on HTTPS and localhost alone
  for (const source of root.querySelectorAll("[data-copy]")) {
    const copy = button("Copy");
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(source.textContent);
      copy.textContent = "Copied";
      setTimeout(() => { copy.textContent = "Copy"; }, 1500);
    });
    if (source.tagName === "PRE") {
      const frame = document.createElement("div");
      frame.className = "copied";
      source.replaceWith(frame);
      frame.append(source, copy);
    } else {
      source.after(copy);
    }
  }
}

function mayReplace(live) {
  const selection = getSelection();
  const selecting = selection && !selection.isCollapsed && live.contains(selection.anchorNode);
  return !paused && !document.hidden && !selecting;
}

async function refresh() {
  const live = document.getElementById("live");
  if (!mayReplace(live)) return;
  let answer;
  try {
    answer = await fetch("/", { headers: { Accept: "text/html" } });
  } catch {
    return; // the server restarts, or the network is away: try again later
  }
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
  if (!fresh) {
    location.reload(); // signed out elsewhere, or the cookie has expired
    return;
  }
  if (!mayReplace(live)) return;
  for (const open of live.querySelectorAll("details[open]")) {
    const same = fresh.querySelector(`#${open.id}`);
    if (same) same.open = true;
  }
  const focused = document.activeElement?.closest("#live details")?.id;
  const focusedCopy = document.activeElement?.closest("#live button") !== null;
  if (focusedCopy) return;
  addCopyButtons(fresh);
  live.replaceChildren(...fresh.childNodes);
  if (focused) document.querySelector(`#${focused} > summary`)?.focus({ preventScroll: true });
}

function addPause() {
  const place = document.getElementById("pause");
  const toggle = button("Pause refreshing");
  toggle.addEventListener("click", () => {
    paused = !paused;
    toggle.textContent = paused ? "Refresh by itself" : "Pause refreshing";
  });
  place.append(" · ", toggle);
}

addCopyButtons(document);
if (document.getElementById("live")) {
  addPause();
  setInterval(refresh, REFRESH_MS);
}
