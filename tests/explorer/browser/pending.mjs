/** What a page still waits for, "" when all of it is shown; runs in the page, so it stands for itself. */
export function pending() {
  if (document.readyState !== "complete") return "the document";
  const shown = (one) => one.checkVisibility();
  const below = (one) => { // what comes once somebody scrolls to it is not waited for
    const part = one.closest("[hx-trigger*='revealed'], [hx-trigger*='intersect']");
    return part !== null && part.getBoundingClientRect().top >= window.innerHeight;
  };
  const loads = ".htmx-request, .htmx-swapping, .htmx-settling, .skeleton, [aria-busy='true']";
  const busy = [...document.querySelectorAll(loads)].find((one) => shown(one) && !below(one));
  if (busy) return busy.outerHTML.slice(0, 200);
  const undrawn = [...document.querySelectorAll("figure.chart")].find((one) => shown(one) && !["empty", "error"].includes(one.dataset.state) && !one.querySelector("canvas, svg, .empty, .problem"));
  return undrawn ? `a chart: ${undrawn.outerHTML.slice(0, 200)}` : "";
}
