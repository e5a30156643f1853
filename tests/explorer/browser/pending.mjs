/** What a page still waits for, "" when all of it is shown; runs in the page, so it stands for itself. */
export function pending() {
  if (document.readyState !== "complete") return "the document";
  const loads = ".htmx-request, .htmx-swapping, .htmx-settling, .skeleton, [aria-busy='true']";
  const busy = [...document.querySelectorAll(loads)].find((one) => one.checkVisibility());
  if (busy) return busy.outerHTML.slice(0, 200);
  const undrawn = [...document.querySelectorAll("figure.chart")].find((one) => one.checkVisibility() && !one.querySelector("canvas, svg, .empty, .problem"));
  return undrawn ? `a chart: ${undrawn.outerHTML.slice(0, 200)}` : "";
}
