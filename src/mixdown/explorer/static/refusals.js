// Choosing all refusals of a page at once.

document.addEventListener("change", (event) => {
  const box = event.target;
  if (!(box instanceof HTMLInputElement) || !box.matches("[data-choose-all]")) return;
  for (const each of box.closest("form").querySelectorAll('input[name="ids"]')) each.checked = box.checked;
});
