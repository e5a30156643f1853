// The profile's page where scripts run: its dialogs, the slider over its past, the address that names what is shown.
// Times and addresses come from attributes that the server wrote; texts become text nodes.

const WAIT_MS = 140;
const told = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

// --- answers: of each place the one that was asked for last -------------------------------------------------

const PLACES = ["profile-found", "profile-pane", "profile-dialog"];
const newest = new Map(); // places → the requests that were sent last

document.addEventListener("htmx:beforeRequest", (event) => {
  const { target, xhr } = event.detail;
  if (PLACES.includes(target?.id)) newest.set(target.id, xhr);
});

document.addEventListener("htmx:beforeSwap", (event) => {
  const { target, xhr } = event.detail;
  if (!newest.has(target.id) || newest.get(target.id) === xhr) return;
  if (target.id === "profile-found") event.detail.swapOverride = "none"; // the slider that comes with it is taken
  else event.detail.shouldSwap = false;
});

// --- dialogs: whatever is put into the one dialog opens it ------------------------------------------------

let opener = null;

function openDialog(dialog) {
  if (!dialog.open) {
    opener = document.activeElement;
    dialog.showModal();
  }
  const first = dialog.querySelector("[autofocus], .problem, .dialog-body input:not([type=hidden]), .dialog-body textarea, .dialog-body select, .dialog-body button");
  if (first?.matches(".problem")) first.tabIndex = -1;
  first?.focus();
}

document.addEventListener("htmx:afterSwap", (event) => {
  const target = event.detail.target;
  if (target instanceof HTMLDialogElement && target.id === "profile-dialog") openDialog(target);
});

document.addEventListener("close", (event) => {
  if (event.target instanceof HTMLDialogElement && event.target.id === "profile-dialog") {
    event.target.replaceChildren();
    newest.set("profile-dialog", null); // what is on its way would open it again
    opener?.focus?.();
  }
}, true);

// a link that leads away where there are no scripts only closes the dialog where there are
document.addEventListener("click", (event) => {
  if (event.target instanceof Element && event.target.closest("#profile-dialog a[data-close]")) event.preventDefault();
});

// --- tabs -------------------------------------------------------------------------------------------------

function markTab(name) {
  for (const tab of document.querySelectorAll(".profile-side .tabs [data-tab]")) {
    if (tab.dataset.tab === name) tab.setAttribute("aria-current", "true");
    else tab.removeAttribute("aria-current");
  }
}

document.addEventListener("click", (event) => {
  const link = event.target instanceof Element ? event.target.closest("[data-tab], [data-opens-tab]") : null;
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) markTab(link.dataset.tab ?? link.dataset.opensTab);
});

// --- the slider -------------------------------------------------------------------------------------------

const numbers = (text) => text.trim().split(/\s+/).filter(Boolean).map(Number);

class Slider {
  constructor(input) {
    this.input = input;
    this.moments = numbers(input.dataset.moments);
    this.changes = numbers(input.dataset.changes);
    this.output = input.closest(".profile-slider").querySelector("output");
    this.timer = 0;
    input.addEventListener("input", () => this.moved());
    for (const step of input.closest(".profile-slide").querySelectorAll("[data-step]")) {
      step.addEventListener("click", (event) => {
        event.preventDefault();
        this.to(Number(input.value) + Number(step.dataset.step));
      });
    }
    this.tell();
  }

  get isNow() {
    return Number(this.input.value) === this.moments.length - 1;
  }

  to(place) {
    const kept = Math.min(this.moments.length - 1, Math.max(0, place));
    if (kept === Number(this.input.value)) return;
    this.input.value = String(kept);
    this.moved();
  }

  /** Say which time that is. */
  tell() {
    const place = Number(this.input.value);
    const count = this.changes[place];
    const change = count ? `, ${count} changed` : ", before the first change that is kept";
    const text = this.isNow ? `Now: as it stands since ${told.format(this.moments[place])}` : `${told.format(this.moments[place])}${change}`;
    this.output.textContent = text;
    this.input.setAttribute("aria-valuetext", text);
    for (const step of this.input.closest(".profile-slide").querySelectorAll("[data-step]")) {
      const end = place + Number(step.dataset.step);
      if (end < 0 || end >= this.moments.length) step.setAttribute("aria-disabled", "true");
      else step.removeAttribute("aria-disabled");
    }
  }

  /** Show the profile of that time, once the hand rests. */
  moved() {
    this.tell();
    keepTime(this.isNow ? "" : String(this.moments[Number(this.input.value)])); // of a search meanwhile too
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.show(), WAIT_MS);
  }

  show() {
    const url = new URL(this.input.dataset.part, location.href);
    const find = document.getElementById("profile-find")?.value;
    if (find) url.searchParams.set("find", find);
    if (!this.isNow) url.searchParams.set("at", String(this.moments[Number(this.input.value)]));
    url.searchParams.set("changed", "1");
    window.htmx.ajax("GET", url.pathname + url.search, { source: this.input, target: "#profile-found" });
  }
}

function mount(root) {
  for (const input of root.querySelectorAll(".profile-slide input[type=range]:not([data-ready])")) {
    input.dataset.ready = "";
    new Slider(input);
  }
}

// --- the address names what is shown ----------------------------------------------------------------------

/** Have the search's form name a time, "" for now. */
function keepTime(at) {
  const form = document.querySelector(".profile-find");
  form?.querySelector("input[name=at]")?.remove();
  if (!form || !at) return;
  const field = document.createElement("input");
  field.type = "hidden";
  field.name = "at";
  field.value = at;
  form.append(field);
}

/** Keep the address, the search's form and the tabs at the time and the search that the table shows. */
function follow(table) {
  const shown = new URL(table.dataset.url, location.href);
  const tab = new URL(location.href).searchParams.get("tab");
  if (tab) shown.searchParams.set("tab", tab);
  history.replaceState(history.state, "", shown.pathname + shown.search);
  keepTime(shown.searchParams.get("at") ?? "");
}

document.addEventListener("htmx:load", (event) => {
  const root = event.detail.elt;
  if (!(root instanceof Element)) return;
  mount(root.parentElement ?? root);
  if (root.id === "profile-table") follow(root);
});

mount(document);
