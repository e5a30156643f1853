/** Without JavaScript each page can be read: what loads later has a link to it, and forms work. */
import { pages } from "../pages.mjs";

/** Runs in a page: parts that would be loaded, without a link in their place. */
function lost() {
  const later = [...document.querySelectorAll("[hx-get][hx-trigger*='load'], [hx-get][hx-trigger*='revealed']")];
  return later.filter((part) => part.querySelector(".skeleton") && !part.querySelector("a[href]")).map((part) => part.outerHTML.slice(0, 200));
}

export default async function withoutScript(site) {
  await site.signIn("owner", { javaScriptEnabled: false });
  for (const [name, path, params] of pages(site.people)) {
    const response = await site.page.goto(site.url(path, params));
    site.expect(response.status() === 200, `${name} answers 200`);
    const text = await site.page.innerText("main");
    site.expect(text.trim().length > 40, `${name} can be read: ${text}`);
    const parts = await site.page.evaluate(lost);
    site.expect(!parts.length, `${name} links to what it would load: ${parts.join("\n")}`);
  }
  await site.page.goto(site.url("cohorts/new", { name: "Looked", event1: site.people.event }));
  await site.page.click("button:has-text('One more condition')");
  await site.page.fill("#event2", "Invoice paid");
  await site.page.click("button:text-is('How many are they?')");
  await site.until(async () => /\d+ users? match/.test(await site.page.innerText("#where-check")), "what people did is counted");
  await site.page.goto(site.url("users"));
  await site.page.click("main a[href*='/profile?']");
  await site.address(({ pathname }) => pathname.endsWith("/profile"), "a row leads to a profile");
  await site.until(async () => (await site.page.innerText("main")).includes("plan"), "a profile can be read");
  await site.page.goto(site.url("users", { search: "lovelace" }));
  site.expect((await site.page.innerText("main")).includes("Ada Lovelace"), "a search finds somebody");
}
