// The pages of reports: choices apply at once, steps are added, moved and removed.
// Texts from outside are compared and put into fields, never parsed as HTML.

import "./filters.js"; // where Enter settles a filter, before it sends the question here

const USUAL = { measure: "general", limit: "10", order: "loose", length: "14", length_unit: "day", retention_type: "birth", interval: "1" };
const form = document.getElementById("question");

// --- sending the question --------------------------------------------------------------------------------

const isOwn = (field) => field instanceof HTMLElement && field.form === form && form !== null;

/** Send the question; filters.js has it wait until what is typed into filters has become their texts. */
function send() {
  form.requestSubmit();
}

// a range of days that is typed stands instead of a preset
function dropPreset() {
  const typed = [...form.querySelectorAll('input[type="date"]')].some((input) => input.value);
  const preset = form.querySelector('input[name="days"]');
  if (preset) preset.disabled = typed;
}

document.addEventListener("change", (event) => {
  const field = event.target;
  if (!isOwn(field)) return;
  if (field.type === "date") dropPreset();
  const isChoice = field.matches("select, input[type=checkbox], input[type=date], input[type=number]");
  if (isChoice && field.checkValidity()) send();
});

form?.addEventListener("submit", () => {
  closeGaps();
  // addresses say only what was chosen
  const silent = [...form.elements].filter((field) => field.name && !field.disabled && (field.value === "" || USUAL[field.name] === field.value));
  for (const field of silent) field.disabled = true;
  setTimeout(() => {
    for (const field of silent) field.disabled = false;
  });
});

document.addEventListener("keydown", (event) => {
  const box = event.target instanceof HTMLInputElement ? event.target.closest("[data-filter]") : null;
  if (event.key === "Enter" && form?.contains(box)) send();
});

// --- steps of a funnel -----------------------------------------------------------------------------------

const stepsOf = () => [...(form?.querySelectorAll("[data-step]") ?? [])];

/** What a step says: its event, its label and its filter. */
function fieldsOfStep(step) {
  return { event: step.querySelector("[data-event]"), where: step.querySelector('[name^="where"]'), label: step.querySelector('[name^="label"]') };
}

function swap(one, other) {
  const [first, second] = [fieldsOfStep(one), fieldsOfStep(other)];
  [first.event.value, second.event.value] = [second.event.value, first.event.value];
  [first.where.value, second.where.value] = [second.where.value, first.where.value];
  for (const { label } of [first, second]) label?.remove(); // it named another event
}

/** A step without an event says nothing, and its filter neither. */
function closeGaps() {
  for (const step of stepsOf()) {
    const { event, where } = fieldsOfStep(step);
    if (!event.value) where.value = "";
  }
}

document.addEventListener("click", (event) => {
  const button = event.target instanceof Element ? event.target.closest("[data-move-step], [data-remove-step]") : null;
  if (!button) return;
  const step = button.closest("[data-step]");
  if ("removeStep" in button.dataset) {
    const { event: name, where, label } = fieldsOfStep(step);
    name.value = where.value = "";
    label?.remove();
  } else {
    const steps = stepsOf();
    const other = steps[steps.indexOf(step) + Number(button.dataset.moveStep)];
    if (!other) return;
    swap(step, other);
  }
  send();
});

// --- notes -----------------------------------------------------------------------------------------------

document.addEventListener(
  "toggle",
  (event) => {
    const field = event.target.querySelector?.("[data-note-date]");
    if (!field || field.value || !event.target.open) return;
    const now = new Date().toLocaleString("sv-SE", { timeZone: field.dataset.noteDate }); // written 2026-01-31 12:00:00
    field.value = now.replace(" ", "T").slice(0, 16);
  },
  true,
);
