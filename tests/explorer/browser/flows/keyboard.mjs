/** With a keyboard alone: focus can be seen, reaches everything, is trapped nowhere, and dialogs give it back. */
import { pages } from "../pages.mjs";

const TABS = 400;

/** Runs in a page: mark what one should come to with Tab; how many that are. */
function reachable() {
  const groups = new Set(); // of radio buttons, which share a place
  const all = document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]");
  const shown = [...all].filter((one) => {
    const group = one.type === "radio" && one.name;
    if (one.disabled || one.tabIndex < 0 || one.type === "hidden" || one.closest("[inert]")) return false;
    if (!one.checkVisibility({ visibilityProperty: true }) || (group && groups.has(group))) return false;
    if (group) groups.add(group);
    return true;
  });
  for (const one of shown) one.dataset.wanted = "";
  return shown.length;
}

/** Runs in a page: what has the focus, and whether one sees that. */
function focused() {
  const one = document.activeElement;
  if (!one || one === document.body) return null;
  const rings = [getComputedStyle(one), getComputedStyle(one, "::after")];
  const seen = rings.some((style) => (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none");
  const box = one.getBoundingClientRect();
  const isWanted = "wanted" in one.dataset;
  delete one.dataset.wanted;
  if (one.type === "radio") for (const other of document.getElementsByName(one.name)) delete other.dataset.wanted;
  return {
    isWanted, html: one.outerHTML.slice(0, 140), seen, shown: box.width > 0 && box.height > 0,
    skip: one.matches("a[href^='#']"),
  };
}

/** Runs in a page: what one has not come to. */
function missed() {
  return [...document.querySelectorAll("[data-wanted]")].map((one) => one.outerHTML.slice(0, 160));
}

/** Open the first dialog by Enter, close it by Escape: the focus is inside, and then where it was. */
async function dialogs(site, name) {
  const opener = site.page.locator("main [data-dialog]:visible, main [data-opens]:visible").first();
  if (!(await opener.count())) return;
  await opener.focus();
  await site.page.keyboard.press("Enter");
  await site.until(() => site.page.evaluate(() => !!document.activeElement.closest("dialog[open]")), `on ${name} the focus is in the dialog that was opened`);
  await site.settled();
  await site.page.keyboard.press("Escape");
  await site.until(() => site.page.evaluate(() => !document.querySelector("dialog[open]")), `on ${name} Escape closes the dialog`);
  await site.until(() => opener.evaluate((one) => one === document.activeElement), `on ${name} the focus returns to what opened the dialog`);
}

export default async function keyboard(site) {
  for (const [name, path, params] of pages(site.people)) {
    await site.go(path, params);
    const wanted = await site.page.evaluate(reachable);
    await site.page.keyboard.press("Tab");
    const first = await site.page.evaluate(focused);
    site.expect(first?.skip, `on ${name} one comes first to a link that skips to the content, not ${first?.html}`);
    // what comes while one goes on (rows as a list is scrolled) is gone through too
    for (let come = 0, others = 0; come < Math.min(wanted, TABS) && others < TABS;) {
      await site.page.keyboard.press("Tab");
      const found = await site.page.evaluate(focused);
      if (!found) break; // the end of the page
      if (found.isWanted) come += 1;
      else others += 1;
      site.expect(found.shown && found.seen, `on ${name} one sees that the focus is on ${found.html}`);
    }
    const left = await site.page.evaluate(missed);
    site.expect(wanted > TABS || !left.length, `on ${name} Tab comes to all ${wanted} controls, but not to\n${left.join("\n")}`);
    await dialogs(site, name);
    site.faults.check();
  }
}
