// What every page does where scripts run: copying, dialogs, local times, theme, menu, shortcuts, messages.
// Texts become text nodes; nothing that came from outside is ever parsed as HTML here.

import { copyText, makeButton, toast } from "./say.js";
import "./typed.js";

const THEMES = ["system", "light", "dark"];
const STORED = "mixdown-theme";
const COPIED_MS = 1500;

// --- copying ---------------------------------------------------------------------------------------------

async function copyBy(button, text) {
  const label = button.querySelector("span") ?? button;
  const before = label.textContent;
  try {
    await copyText(text);
    label.textContent = "Copied";
  } catch {
    label.textContent = "Select and copy";
  }
  setTimeout(() => { label.textContent = before; }, COPIED_MS);
}

function addCopyButtons(root) {
  for (const button of root.querySelectorAll("[data-copy-text]")) button.hidden = false;
  for (const source of root.querySelectorAll("pre[data-copy]:not([data-copy-ready])")) {
    source.dataset.copyReady = "";
    const frame = document.createElement("div");
    frame.className = "copied";
    source.replaceWith(frame);
    const button = makeButton("Copy", "btn btn-small");
    button.addEventListener("click", () => copyBy(button, source.textContent));
    frame.append(source, button);
  }
}

// --- times -----------------------------------------------------------------------------------------------

const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const UNITS = [["year", 31536e6], ["month", 2592e6], ["day", 864e5], ["hour", 36e5], ["minute", 6e4], ["second", 1e3]];

function ago(ms) {
  const past = ms - Date.now();
  const [unit, size] = UNITS.find(([, each]) => Math.abs(past) >= each) ?? ["second", 1e3];
  return relative.format(Math.round(past / size), unit);
}

function localiseTimes(root) {
  for (const time of root.querySelectorAll("time[data-ms]")) {
    const ms = Number(time.dataset.ms);
    if (!Number.isFinite(ms) || Math.abs(ms) > 8.64e15) continue;
    time.textContent = "relative" in time.dataset ? ago(ms) : local.format(ms);
  }
  for (const time of root.querySelectorAll('time[datetime$="Z"]:not([data-ms])')) {
    const text = time.textContent.trim();
    const ms = Date.parse(time.dateTime);
    if (!text.endsWith(" UTC") || Number.isNaN(ms)) continue;
    time.title = text;
    time.textContent = local.format(ms);
  }
}

// --- theme -----------------------------------------------------------------------------------------------

function theme() {
  return document.documentElement.dataset.theme ?? "system";
}

function showTheme(button) {
  const name = theme();
  button.querySelector("[data-theme-label]").textContent = { system: "System", light: "Light", dark: "Dark" }[name];
}

function setTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  try {
    if (name === "system") localStorage.removeItem(STORED);
    else localStorage.setItem(STORED, name);
  } catch { /* it lasts as long as the page, then */ }
  document.dispatchEvent(new CustomEvent("mixdown:theme", { detail: { theme: name } }));
}

function addThemeSwitch() {
  for (const button of document.querySelectorAll("[data-theme-switch]")) {
    button.hidden = false;
    showTheme(button);
    button.addEventListener("click", () => {
      setTheme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
      showTheme(button);
    });
  }
}

// --- menu on phones, project switcher --------------------------------------------------------------------

function addMenu() {
  const here = document.querySelector("#sidebar nav [aria-current]");
  const list = here?.closest("nav");
  if (list && here.offsetTop + here.offsetHeight > list.offsetTop + list.clientHeight) here.scrollIntoView({ block: "nearest" });
  const button = document.querySelector("[data-menu]");
  const sidebar = document.getElementById("sidebar");
  if (!button || !sidebar) return;
  const set = (open) => {
    sidebar.classList.toggle("open", open);
    button.setAttribute("aria-expanded", String(open));
  };
  button.addEventListener("click", () => {
    const open = !sidebar.classList.contains("open");
    set(open);
    if (open) sidebar.querySelector("nav a")?.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && sidebar.classList.contains("open")) {
      set(false);
      button.focus();
    }
  });
  const switcher = document.querySelector(".switcher");
  document.addEventListener("click", (event) => {
    if (switcher?.open && !switcher.contains(event.target)) switcher.open = false;
  });
  switcher?.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !switcher.open) return;
    switcher.open = false;
    switcher.querySelector("summary").focus();
  });
}

// --- dialogs, and clicks everywhere ----------------------------------------------------------------------

function onClick(event) {
  const target = event.target instanceof Element ? event.target : null;
  const copy = target?.closest("[data-copy-text]");
  if (copy) void copyBy(copy, copy.dataset.copyText);
  const opener = target?.closest("[data-dialog]");
  if (opener) {
    const dialog = document.getElementById(opener.dataset.dialog);
    if (dialog instanceof HTMLDialogElement && !dialog.open) dialog.showModal();
  }
  const closer = target?.closest("[data-close]");
  if (closer) closer.closest("dialog")?.close();
  if (target instanceof HTMLDialogElement && target.open) {
    const box = target.getBoundingClientRect();
    const outside = event.clientX < box.left || event.clientX > box.right || event.clientY < box.top || event.clientY > box.bottom;
    if (outside && event.detail) target.close();
  }
}

// --- messages --------------------------------------------------------------------------------------------

/** Whether a part asks again by itself: what fails once is asked for again, and what is shown stays. */
function polls(event) {
  return Boolean(event.detail.requestConfig?.elt?.getAttribute("hx-trigger")?.includes("every "));
}

function addMessages() {
  document.addEventListener("htmx:sendError", (event) => polls(event) || toast("The server cannot be reached. Nothing was changed; try again in a moment."));
  document.addEventListener("htmx:timeout", (event) => polls(event) || toast("The server took too long to answer."));
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (polls(event) && event.detail.xhr.status >= 400) event.detail.shouldSwap = false;
  });
  document.addEventListener("mixdown:problem", (event) => toast(String(event.detail.text ?? event.detail.value ?? "That did not work.")));
  document.addEventListener("mixdown:notice", (event) => toast(String(event.detail.text ?? event.detail.value ?? ""), { good: true }));
  document.addEventListener("htmx:configRequest", (event) => {
    const token = document.querySelector('meta[name="csrf-token"]')?.content;
    if (token && event.detail.verb !== "get") event.detail.headers["X-CSRF-Token"] = token;
  });
  document.addEventListener("htmx:load", (event) => prepare(event.detail.elt));
}

// --- shortcuts: / for the search field, g and a letter for a page -----------------------------------------

let leader = 0;

function onKey(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.querySelector("dialog[open]")) return;
  const at = event.target;
  if (at instanceof HTMLElement && (at.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName))) return;
  if (event.key === "/") {
    const field = document.querySelector("main [data-search], main input[type=search]");
    if (!field) return;
    event.preventDefault();
    field.focus();
    field.select?.();
  } else if (event.key === "g") {
    leader = Date.now();
  } else if (Date.now() - leader < 1500 && /^[a-z]$/.test(event.key)) {
    leader = 0;
    const link = document.querySelector(`#sidebar a[data-key="${event.key}"]`);
    if (link) {
      event.preventDefault();
      link.click();
    }
  }
}

function prepare(root) {
  if (!(root instanceof Element || root instanceof Document)) return;
  addCopyButtons(root);
  localiseTimes(root);
}

prepare(document);
addThemeSwitch();
addMenu();
addMessages();
document.addEventListener("click", onClick);
document.addEventListener("keydown", onKey);
