const SOON_MS = 1000;

/**
 * Runs in each page before its own scripts: keep what it has asked for, and the timers that end soon. By these pages
 * wait for whoever types to rest: what was typed last has not been asked about yet. Those of a second and more ask
 * again and again.
 */
export const watchWaits = [(soonMs) => {
  const soon = new Set();
  const { send } = XMLHttpRequest.prototype;
  XMLHttpRequest.prototype.send = function sendAndTell(body) {
    soon.add(this);
    this.addEventListener("loadend", () => soon.delete(this)); // once the page has done with the answer
    send.call(this, body);
  };
  const { setTimeout: start, clearTimeout: stop } = window;
  window.setTimeout = (task, ms = 0, ...given) => {
    const timer = start(() => {
      soon.delete(timer);
      task(...given);
    }, ms);
    if (ms < soonMs) soon.add(timer);
    return timer;
  };
  window.clearTimeout = (timer) => {
    soon.delete(timer);
    stop(timer);
  };
  window.__soon = soon;
}, SOON_MS];

/** What a page still waits for, "" when all of it is shown; runs in the page, so it stands for itself. */
export function pending() {
  if (document.readyState !== "complete") return "the document";
  if (window.__soon?.size) return [...window.__soon].map((one) => one.responseURL ?? "a timer").join(", ") || "an answer";
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
