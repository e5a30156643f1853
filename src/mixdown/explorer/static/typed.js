// What somebody types or chooses while an answer is on its way is not lost by that answer.
//
// Of a filter, whose rows and text follow each other, an answer to what stands there no more is not shown: it is
// asked again. Elsewhere the fields that an answer brings get back what has been typed into them since it was asked for.

const FILTERS = "[data-filter], #filter-forms";
const FIELDS = "input:not([type=hidden], [type=checkbox], [type=radio], [type=file]), select, textarea";

/** Requests → what their targets' fields held when they were sent: the fields, and their values. */
const sent = new WeakMap();
/** Requests → what has been typed into those fields since then, by the fields' ids. */
const typed = new WeakMap();

const fieldsOf = (root) => [...root.querySelectorAll(FIELDS)].map((field) => [field, field.value]);

/** Have whoever listens to a field hear of its value. */
function tell(field) {
  for (const kind of ["input", "change"]) field.dispatchEvent(new Event(kind, { bubbles: true }));
}

/** Put a value into a field; whether it takes it and had another. */
function put(field, value) {
  const before = field.value;
  if (before === value) return false;
  field.value = value;
  if (field.value === value) return true;
  field.value = before; // a choice that is there no more
  return false;
}

document.addEventListener("htmx:beforeRequest", (event) => {
  const { target, xhr } = event.detail;
  if (target instanceof Element) sent.set(xhr, fieldsOf(target));
});

document.addEventListener("htmx:beforeSwap", (event) => {
  const { target, xhr } = event.detail;
  if (!sent.has(xhr) || !(target instanceof Element)) return;
  const before = sent.get(xhr);
  const changed = before.filter(([field, value]) => field.isConnected && field.value !== value);
  const isOther = changed.length > 0 || fieldsOf(target).length !== before.length;
  if (!target.closest(FILTERS)) {
    typed.set(xhr, changed.filter(([field]) => field.id).map(([field]) => [field.id, field.value]));
  } else if (isOther) {
    event.detail.shouldSwap = false;
    const [field] = changed.at(-1) ?? [];
    if (field) queueMicrotask(() => field.isConnected && tell(field)); // once htmx is done with this answer
  }
});

document.addEventListener("htmx:afterSettle", (event) => {
  const { xhr } = event.detail;
  const again = (typed.get(xhr) ?? []).filter(([id, value]) => {
    const field = document.getElementById(id);
    return field && put(field, value);
  });
  typed.delete(xhr);
  const field = document.getElementById(again.at(-1)?.[0] ?? "");
  if (field) tell(field);
});
