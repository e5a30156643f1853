// Filters of events that are built from conditions, and the names of properties that are suggested in them.
// Texts from outside are compared and put into fields, never parsed as HTML.

// --- conditions ------------------------------------------------------------------------------------------

// a property that is known brings the comparison that suits its values; before htmx sends the row
document.addEventListener(
  "change",
  (event) => {
    const field = event.target;
    if (!(field instanceof HTMLInputElement) || field.dataset.property === undefined) return;
    const row = field.closest(".condition");
    const value = row.querySelector('input[name="value"]');
    const known = [...(document.getElementById("property-names")?.options ?? [])].find((one) => one.value === field.value);
    if (known && !value?.value && row.classList.contains("condition-new")) row.querySelector("select").value = known.dataset.operator;
  },
  true,
);

document.addEventListener("click", (event) => {
  const remover = event.target instanceof Element ? event.target.closest("[data-remove-condition]") : null;
  if (!remover) return;
  const rows = remover.closest(".filter-rows");
  remover.closest(".condition").remove();
  rows.dispatchEvent(new Event("change", { bubbles: true }));
});

// What is typed into a filter while an answer about it is on its way is kept, and asked about again.

let sent = new Map();
let typed = new Map();

function fieldsOf(root) {
  return new Map([...root.querySelectorAll("input[id], select[id]")].map((field) => [field.id, field.value]));
}

document.addEventListener("htmx:beforeRequest", (event) => {
  const box = event.target.closest?.("[data-filter]");
  if (box) sent = fieldsOf(box);
});

document.addEventListener("htmx:beforeSwap", (event) => {
  const box = event.detail.target.closest?.("[data-filter]");
  if (box) typed = new Map([...fieldsOf(box)].filter(([id, value]) => sent.has(id) && sent.get(id) !== value));
});

function keepTyped() {
  let again = null;
  for (const [id, value] of typed) {
    const field = document.getElementById(id);
    if (!field || field.value === value) continue;
    field.value = value;
    again = field;
  }
  typed = new Map();
  again?.dispatchEvent(new Event("change", { bubbles: true }));
}

document.addEventListener("htmx:afterSettle", (event) => {
  if (event.target instanceof Element && event.target.closest("[data-filter]")) keepTyped();
});

// Enter settles a filter; what it stands in is not sent by it
document.addEventListener("keydown", (event) => {
  const field = event.target;
  if (event.key !== "Enter" || !(field instanceof HTMLInputElement) || !field.closest("[data-filter]")) return;
  event.preventDefault();
  field.dispatchEvent(new Event("change", { bubbles: true }));
});

// --- names of properties ---------------------------------------------------------------------------------

document.addEventListener("change", (event) => {
  const place = document.querySelector("[data-properties]");
  if (!place || !window.htmx || event.target.dataset?.event === undefined) return;
  const address = new URL(place.getAttribute("hx-get"), location.href);
  address.searchParams.delete("event");
  for (const field of document.querySelectorAll("[data-event]")) if (field.value) address.searchParams.append("event", field.value);
  window.htmx.ajax("GET", address.pathname + address.search, { source: place, target: place, swap: "none" });
});
