// The live view: rows as records arrive, at most one batch a frame; pause, open, mend and send again.
//
// Messages of the stream enter, rows leave. Layout is never read here, so that a frame costs what its new rows cost.

import { pretty } from "./json-text.js";
import { clock, detail, row } from "./live-rows.js";
import { Stream } from "./live-stream.js";

const ROWS = 500;
const ROWS_A_FRAME = 24;
const RATE_OVER_S = 3;
const HIDDEN_MS = 10_000;

const root = document.getElementById("live");
const list = document.getElementById("live-rows");
const empty = document.getElementById("live-empty");
const state = document.getElementById("live-state");
const told = document.getElementById("live-told");
const sample = document.getElementById("live-sample");
const pauseButton = document.getElementById("live-pause");
const pauseLabel = pauseButton.querySelector("span");
const page = JSON.parse(root.dataset.page);
const csrf = document.querySelector('meta[name="csrf-token"]').content;

/** What rows were made of: the kind and the JSON of each. */
const sources = new WeakMap();
let waiting = [];
let waited = 0;
let paused = false;
let open = 0;
let frame = 0;
let connection = "lost";
let tallies = [];

// --- what arrives ------------------------------------------------------------------------------------------

function take(kind, text) {
  if (kind === "begin" || kind === "sample" || kind === "end") {
    counted(kind, JSON.parse(text));
    return;
  }
  waiting.push([kind, text]);
  waited += 1;
  if (waiting.length > ROWS) waiting.shift();
  schedule();
}

function schedule() {
  if (!frame) frame = requestAnimationFrame(flush);
}

function flush() {
  frame = 0;
  if (paused || open) {
    say();
    return;
  }
  const some = waiting.splice(0, ROWS_A_FRAME);
  waited = waiting.length;
  const made = document.createDocumentFragment();
  for (const [kind, text] of some) {
    const item = row(kind, text, page.projects);
    sources.set(item, { kind, text });
    made.prepend(item);
  }
  list.prepend(made);
  for (let left = list.childElementCount - ROWS; left > 0; left -= 1) list.lastElementChild.remove();
  if (some.length) empty.hidden = true;
  if (waiting.length) schedule();
  else say();
}

// --- what is said about it ---------------------------------------------------------------------------------

function counted(kind, data) {
  if (kind === "begin") {
    if (data.gap) announce("Some records arrived while nobody listened and are not shown.");
    return;
  }
  if (kind === "sample") {
    if (data.gap) announce("Some records came too fast to be looked at, or were trimmed before, and are not shown.");
    tallies.push({ at: Date.now(), ...data });
    say();
  }
}

function say() {
  const since = Date.now() - RATE_OVER_S * 1000;
  tallies = tallies.filter((tally) => tally.at > since);
  const sum = (name) => tallies.reduce((total, tally) => total + Number(tally[name]), 0);
  const shown = sum("shown");
  const all = sum("matched") + sum("unread");
  const share = shown ? Math.round(all / shown) : 1;
  const rate = Math.round(all / RATE_OVER_S);
  const sampled = share > 1 ? `showing 1 of ${share.toLocaleString()}` : "";
  const slow = sum("dropped") ? "some were dropped, because this page was too slow" : "";
  const held = paused ? "Paused" : open ? "Waiting while a record is open" : "Live";
  const words = connection === "open" ? held : connection === "ended" ? "Ended" : "Connecting…";
  if (state.textContent !== words) state.textContent = words;
  root.dataset.state = connection === "open" ? (paused || open ? "held" : "open") : connection;
  sample.textContent = [rate ? `${rate.toLocaleString()} records/s` : "", sampled, slow].filter(Boolean).join(" · ");
  pauseButton.classList.toggle("live-held", paused || open > 0);
  const label = paused || open ? (waited ? `Resume, ${waited.toLocaleString()} new` : "Resume") : "Pause";
  if (pauseLabel.textContent !== label) pauseLabel.textContent = label;
}

function announce(text) {
  told.textContent = text;
}

setInterval(() => {
  if (tallies.length || waited) say();
}, 1000);

// --- listening, pausing ------------------------------------------------------------------------------------

const stream = new Stream({
  url: page.stream,
  csrf,
  after: page.cursor,
  onMessage: take,
  onState(name, text) {
    if (connection === "open" && name === "lost") announce("The connection was lost. It is made again by itself.");
    if (name === "open" && told.textContent.startsWith("The connection was lost")) announce("Connected again.");
    if (text) announce(text);
    connection = name;
    say();
  },
});

function setPaused(on) {
  paused = on;
  if (!on) for (const each of list.querySelectorAll("details[open]")) each.open = false;
  announce(on ? "Paused. What arrives meanwhile is kept." : "Live again.");
  pauseButton.setAttribute("aria-pressed", String(on));
  say();
  if (!on) schedule();
}

pauseButton.hidden = false;
pauseButton.addEventListener("click", () => setPaused(!paused && !list.querySelector("details[open]")));
document.addEventListener("keydown", (event) => {
  const at = event.target;
  if (event.defaultPrevented || event.key !== "p" || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (at instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName)) return;
  setPaused(!paused && !list.querySelector("details[open]"));
});

let hiding = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(() => stream.close(), HIDDEN_MS);
  else stream.open();
});
addEventListener("pagehide", () => stream.close());
addEventListener("pageshow", () => stream.open());

// --- rows that are opened ----------------------------------------------------------------------------------

function sourceOf(item) {
  if (!sources.has(item)) {
    // it came with the page, which holds its JSON as text
    sources.set(item, { kind: item.dataset.kind, text: item.querySelector("pre").textContent });
  }
  return sources.get(item);
}

list.addEventListener("toggle", (event) => {
  const details = event.target;
  const item = details.closest("li");
  open = list.querySelectorAll("details[open]").length;
  if (details.open && !details.dataset.filled) {
    details.dataset.filled = "yes";
    const { kind, text } = sourceOf(item);
    details.querySelector("pre")?.remove();
    details.append(detail(kind, text, page));
  }
  say();
  if (!open && !paused) schedule();
}, true);

// --- mending and sending again -----------------------------------------------------------------------------

const dialog = document.getElementById("mend");
const form = document.getElementById("mend-form");
let mended = null;

async function api(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: { ...options.headers, "X-CSRF-Token": csrf } });
  const data = await answer.json();
  if (!answer.ok) throw new Error(data.error || `The server answered ${answer.status}.`);
  return data.results;
}

function project(record) {
  return record.project_id ? `project_id=${record.project_id}` : "";
}

list.addEventListener("click", async (event) => {
  const button = event.target.closest?.("[data-mend]");
  if (!button) return;
  const { text } = sourceOf(button.closest("li"));
  let record = JSON.parse(text);
  try {
    if (record.cut) {
      const asked = `before_id=${record.id + 1}&limit=1&${project(record)}`;
      [record] = await api(`/api/mixdown/refusals?${asked}`);
      if (record?.id !== JSON.parse(text).id) throw new Error("This refusal is not kept any more.");
    }
  } catch (error) {
    announce(error.message);
    return;
  }
  mended = { record, button };
  form.elements.record.value = isObject(record.record) ? pretty(record.record) : record.record;
  document.getElementById("mend-why").textContent = record.message;
  problem("");
  dialog.showModal();
  form.elements.record.focus();
});

function isObject(text) {
  try {
    const value = JSON.parse(text);
    return Boolean(value) && typeof value === "object" && !Array.isArray(value);
  } catch {
    return false;
  }
}

function problem(text) {
  const place = document.getElementById("mend-problem");
  place.textContent = text;
  place.hidden = !text;
}

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = form.elements.record.value;
  if (!isObject(text)) {
    problem("This is not one JSON object yet.");
    return;
  }
  const { record, button } = mended;
  // as text, so that no number is rounded on its way
  const body = `{"ids":[${record.id}],"record":${text}}`;
  try {
    const [answer] = await api(`/api/mixdown/refusals/resend?${project(record)}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body,
    });
    if (!answer.stored) {
      problem(answer.error);
      return;
    }
    const done = document.createElement("span");
    done.className = "badge badge-good";
    done.textContent = "sent again and stored";
    button.replaceWith(done);
    dialog.close();
    announce("The record is stored.");
  } catch (error) {
    problem(error.message);
  }
});

// --- filters -----------------------------------------------------------------------------------------------

for (const field of document.querySelectorAll("#live-filter input[type=checkbox], #live-filter select")) {
  field.addEventListener("change", () => field.form.requestSubmit());
}

for (const time of list.querySelectorAll("time")) time.textContent = clock(Date.parse(time.dateTime));
say();
stream.open();
