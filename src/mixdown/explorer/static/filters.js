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

// Enter settles a filter; what it stands in is not sent by it
document.addEventListener("keydown", (event) => {
  const field = event.target;
  if (event.key !== "Enter" || !(field instanceof HTMLInputElement) || !field.closest("[data-filter]")) return;
  event.preventDefault();
  field.dispatchEvent(new Event("change", { bubbles: true }));
});

// --- what a filter stands in is sent once the filter has settled: by then conditions are in its text ---------

let waiting = null; // the form, and how it goes on

const isSettling = (form) => form.querySelector("[data-filter].htmx-request, [data-filter] .htmx-request") !== null;

document.addEventListener(
  "submit",
  (event) => {
    const { target: form, submitter } = event;
    if (!isSettling(form)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    waiting = { form, go: () => form.requestSubmit(submitter?.isConnected ? submitter : null) };
  },
  true,
);

document.addEventListener("htmx:confirm", (event) => {
  const { elt, issueRequest } = event.detail;
  if (!(elt instanceof HTMLButtonElement) || !elt.form || !isSettling(elt.form)) return;
  event.preventDefault();
  waiting = { form: elt.form, go: () => issueRequest(true) };
});

function goOn() {
  if (!waiting || isSettling(waiting.form)) return;
  const { form, go } = waiting;
  waiting = null;
  if (form.isConnected && !form.querySelector("[data-filter] .problem")) go();
}

document.addEventListener("htmx:afterRequest", (event) => {
  const { target, successful } = event.detail;
  if (!successful && target?.closest("[data-filter]")) waiting = null; // the page says why, and nothing is sent in part
  queueMicrotask(goOn); // a question that waited for its turn is on its way by then
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
