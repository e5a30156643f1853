// The pages of events: the address follows the search, choices apply at once, lists of properties are searched.

function keepUrl(form) {
  const params = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value) params.append(name, value);
  const query = params.toString();
  history.replaceState(null, "", query ? `${form.action}?${query}` : form.action);
}

document.addEventListener("htmx:beforeRequest", (event) => {
  const form = event.target;
  if (form instanceof HTMLFormElement && "keepUrl" in form.dataset) keepUrl(form);
});

// a range of days that is typed stands instead of a preset
function dropPreset(form) {
  const typed = [...form.querySelectorAll('input[type="date"]')].some((input) => input.value);
  const preset = form.querySelector('input[name="days"]');
  if (preset) preset.disabled = typed;
}

document.addEventListener("change", (event) => {
  const form = event.target instanceof Element ? event.target.closest("form") : null;
  if (!form) return;
  if (event.target.type === "date") dropPreset(form);
  if ("submitOnChange" in form.dataset && event.target.checkValidity()) form.requestSubmit();
});

// addresses say only what was chosen
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!("submitOnChange" in form.dataset)) return;
  for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
  setTimeout(() => {
    for (const field of form.elements) field.disabled = false;
  });
});

document.addEventListener("input", (event) => {
  const name = event.target instanceof HTMLElement ? event.target.dataset.filterList : undefined;
  if (!name) return;
  const wanted = event.target.value.toLowerCase();
  for (const item of document.getElementById(name)?.children ?? []) {
    const own = item.querySelector("[data-name]")?.dataset.name ?? "";
    item.hidden = wanted ? !own.includes(wanted) : "rest" in item.dataset;
  }
});

document.addEventListener("click", (event) => {
  const button = event.target instanceof Element ? event.target.closest("[data-show-rest]") : null;
  if (!button) return;
  for (const item of document.querySelectorAll(`#${CSS.escape(button.dataset.showRest)} > [data-rest]`)) {
    item.hidden = false;
    delete item.dataset.rest;
  }
  button.remove();
});

// The JSON of events comes without blanks, for there are many; it is laid out when it is looked at: as text, since
// numbers of more digits than a double has would not come back from a parser.
function laidOut(json) {
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  return json.replace(/"(?:[^"\\]|\\.)*"|\[\]|\{\}|[[\]{},:]/g, (part) => {
    if (part === ",") return `,${line()}`;
    if (part === ":") return ": ";
    if (part === "{" || part === "[") {
      depth += 1;
      return part + line();
    }
    if (part === "}" || part === "]") {
      depth -= 1;
      return line() + part;
    }
    return part;
  });
}

document.addEventListener(
  "toggle",
  (event) => {
    for (const block of event.target.querySelectorAll?.("pre[data-compact]") ?? []) {
      delete block.dataset.compact;
      block.textContent = laidOut(block.textContent);
    }
  },
  true,
);
