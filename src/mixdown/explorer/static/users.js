// Lists of users and groups: dialogs that are pages of their own without scripts, the column chooser, and
// the removal of a condition. Texts from outside are compared, never parsed as HTML.

document.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  if (!target) return;
  const opener = target.closest("a[data-dialog]");
  if (opener && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault(); // app.js opens it
    const body = document.querySelector(`#${opener.dataset.dialog} [hx-get]`);
    body?.dispatchEvent(new CustomEvent("mixdown:open"));
  }
  const closer = target.closest("dialog [data-close-dialog]");
  if (closer) {
    event.preventDefault();
    closer.closest("dialog").close();
  }
  const mover = target.closest("[data-move]");
  if (mover) {
    event.preventDefault();
    move(mover);
  }
  const remover = target.closest("[data-remove-condition]");
  if (remover) remove(remover);
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

function move(button) {
  const item = button.closest("li");
  const other = button.dataset.move === "-1" ? item.previousElementSibling : item.nextElementSibling;
  if (!other) return;
  if (button.dataset.move === "-1") other.before(item);
  else other.after(item);
  button.focus();
}

function remove(button) {
  const condition = button.closest(".condition");
  const form = condition.closest("form");
  condition.remove();
  form.dispatchEvent(new Event("change", { bubbles: true }));
}

function narrow(field) {
  const wanted = field.value.trim().toLowerCase();
  const form = field.closest("form");
  let shown = 0;
  for (const item of form.querySelectorAll("[data-others] > li")) {
    const name = item.querySelector("input")?.value.toLowerCase() ?? "";
    item.hidden = !name.includes(wanted);
    if (!item.hidden) shown += 1;
  }
  form.querySelector("[data-none]").hidden = shown > 0;
}

function prepare(root) {
  if (!(root instanceof Element || root instanceof Document)) return;
  for (const part of root.querySelectorAll("[data-narrow]")) {
    part.hidden = false;
    part.querySelector("input").addEventListener("input", (event) => narrow(event.target));
  }
  for (const button of root.querySelectorAll("[data-remove-condition]")) button.hidden = false;
}

prepare(document);
document.addEventListener("htmx:load", (event) => prepare(event.detail.elt));
