/** The dictionary: properties and events found, described, and read back by everyone. */
export default async function dictionary(site) {
  const { page } = site;
  const words = `What they pay for, ${site.width}.`;
  const found = () => page.locator("#entries tbody tr").count();
  await site.go("dictionary");
  await page.fill("#q", "plan");
  await site.until(async () => (await found()) < 20, "the search narrows the list");
  await site.settled();
  await site.leads(() => page.locator("#entries a", { hasText: /^plan$/ }).click());
  await page.fill("#f-description", words);
  await page.fill("#f-tags", "money, core");
  await page.fill("#f-owners", "ada@example.com");
  await site.axe();
  await site.leads(() => page.click("button:has-text('Save')"));
  await site.shows("was saved");
  await page.selectOption("#only", "documented");
  await site.settled();
  await site.shows(words);
  await page.selectOption("#only", "undocumented");
  await site.until(async () => (await found()) > 1 && !(await page.innerText("#entries")).includes(words), "what is described is left out");

  await site.leads(() => page.click(".tabs a:text-is('Events')"));
  await page.fill("#q", site.people.event);
  await site.until(async () => (await found()) === 1, "the event is found");
  await site.settled();
  await site.leads(() => page.locator("#entries th a").click());
  await page.fill("#f-description", "Somebody looked at a page.");
  await site.leads(() => page.click("button:has-text('Save')"));
  await site.shows("Somebody looked at a page.");
  await site.leads(() => page.click(".tabs a:text-is('Event properties')"));
  await site.axe();

  const reader = await site.signIn("consumer");
  await site.go("dictionary", { only: "documented" });
  await site.shows(words);
  await site.leads(() => reader.locator("#entries th a").first().click());
  site.expect(!(await reader.isVisible("button:has-text('Save')")), "a consumer writes nothing");
  await site.axe();
}
