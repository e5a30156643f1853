// Small things that pages say and do for people: buttons, texts for the clipboard, messages at the edge of the page.
// A module of its own, because app.js is loaded by an address that names its contents: who imports it runs it twice.

const TOAST_MS = 12000;

/** A button with a label, which is text. */
export function makeButton(text, className) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = className;
  const label = document.createElement("span");
  label.textContent = text;
  made.append(label);
  return made;
}

/** Put a text on the clipboard; throws where the browser does not. */
export async function copyText(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // browsers offer the clipboard on HTTPS and localhost alone
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "visually-hidden";
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  if (!done) throw new Error("the browser does not copy");
}

/** Show a message for a while. */
export function toast(text, { good = false } = {}) {
  const place = document.getElementById("toasts");
  if (!place) return;
  const shown = document.createElement("div");
  shown.className = good ? "toast toast-good" : "toast";
  const words = document.createElement("p");
  words.dir = "auto";
  words.textContent = text;
  const close = makeButton("Close", "btn btn-quiet btn-small");
  close.addEventListener("click", () => shown.remove());
  shown.append(words, close);
  place.append(shown);
  while (place.children.length > 4) place.firstElementChild.remove();
  setTimeout(() => shown.remove(), TOAST_MS);
}
