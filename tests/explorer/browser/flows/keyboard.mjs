/** With a keyboard alone: focus can be seen, reaches everything, is trapped nowhere, and dialogs give it back. */
import { pages } from "../pages.mjs";

const TABS = 400;

/** Runs in a page: how many things one may come to with Tab. */
function reachable() {
  const all = document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]");
  return [...all].filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.disabled && one.tabIndex >= 0 && one.type !== "hidden" && !one.closest("[inert]")).length;
}

/** Runs in a page: what has the focus, and whether one sees that. */
function focused() {
  const one = document.activeElement;
  if (!one || one === document.body) return null;
  const style = getComputedStyle(one);
  const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  const box = one.getBoundingClientRect();
  one.dataset.visited = "";
  return {
    html: one.outerHTML.slice(0, 140), seen: ring || style.boxShadow !== "none", shown: box.width > 0 && box.height > 0,
    skip: one.matches("a[href^='#']"), visited: document.querySelectorAll("[data-visited]").length,
  };
}

export default async function keyboard(site) {
  for (const [name, path, params] of pages(site.people)) {
    await site.go(path, params);
    const wanted = await site.page.evaluate(reachable);
    await site.page.keyboard.press("Tab");
    const first = await site.page.evaluate(focused);
    site.expect(first?.skip, `on ${name} one comes first to a link that skips to the content, not ${first?.html}`);
    let reached = 1;
    let stuck = 0;
    for (let at = 0; at < TABS && reached < wanted && stuck < 3; at += 1) {
      await site.page.keyboard.press("Tab");
      const found = await site.page.evaluate(focused);
      if (!found) break; // the end of the page
      site.expect(found.shown && found.seen, `on ${name} one sees that the focus is on ${found.html}`);
      stuck = found.visited === reached ? stuck + 1 : 0;
      reached = found.visited;
    }
    site.expect(reached >= Math.min(wanted, TABS) * 0.95, `on ${name} Tab reaches all ${wanted} controls, not ${reached}`);
    site.faults.check();
  }
}
