/** Each page, at both widths and in both schemes: it is there, it fits, axe-core finds nothing serious, its twin answers. */
import { pages } from "../pages.mjs";

export const widths = ["desktop", "phone"];

/** Runs in a page: its headings, title and landmarks. */
function anatomy() {
  const shown = (selector) => [...document.querySelectorAll(selector)].filter((one) => one.checkVisibility()).length;
  return {
    title: document.title, language: document.documentElement.lang, headings: shown("h1"), mains: shown("main"),
    heading: document.querySelector("h1")?.innerText.trim() ?? "", text: document.querySelector("main")?.innerText.length ?? 0,
    inline: document.querySelectorAll("script:not([src]), style, [style], [onclick]").length,
    ids: [...document.querySelectorAll("[id]")].map((one) => one.id).filter((id, at, all) => all.indexOf(id) !== at),
  };
}

export default async function everyPage(site) {
  const titles = new Map();
  for (const [name, path, params] of pages(site.people)) {
    await site.page.emulateMedia({ colorScheme: "light" });
    const response = await site.go(path, params);
    site.expect(response.status() === 200, `${name} answers 200, not ${response.status()}`);
    const found = await site.page.evaluate(anatomy);
    site.expect(found.headings === 1 && found.heading, `${name} has one heading, not ${found.headings}: ${found.heading}`);
    site.expect(found.mains === 1 && found.text > 20, `${name} has something in its main part`);
    site.expect(found.language === "en", `${name} names its language`);
    site.expect(found.title && !titles.has(found.title), `${name} has a title of its own, not ${found.title}, as ${titles.get(found.title)}`);
    site.expect(!found.ids.length, `${name} uses an id once: ${found.ids.slice(0, 5)}`);
    titles.set(found.title, name);
    await site.fits();
    await site.axe();
    if (site.width === "desktop") {
      await site.page.emulateMedia({ colorScheme: "dark" });
      await site.axe();
      await twin(site, name, path, params);
    }
    if (site.width === "phone") await menu(site, name);
    site.faults.check();
  }
}

/** The menu opens, on a page that loads whatever scripts, and closes. */
async function menu(site, name) {
  const sidebar = site.page.locator("#sidebar");
  await site.page.click("[data-menu]");
  await site.until(() => sidebar.isVisible(), `the menu opens on ${name}`);
  await site.page.keyboard.press("Escape");
  await site.until(async () => !(await sidebar.isVisible()), `Escape closes it on ${name}`);
}

/** The same data as JSON, with the page's own cookie. */
async function twin(site, name, path, params) {
  const address = path || name !== "start" ? `${path}.json` : `/explorer/${site.project}.json`;
  const answer = await site.context.request.get(site.url(address, params));
  site.expect(answer.status() === 200, `${name}'s twin answers 200, not ${answer.status()}`);
  site.expect(answer.headers()["content-type"].startsWith("application/json"), `${name}'s twin is JSON`);
  site.expect(Object.keys(await answer.json()).length > 0, `${name}'s twin has something in it`);
}
