/** Cohorts: a wrong expression shows its place, a right one how many match; saved, renamed, followed and deleted. */
export default async function cohorts(site) {
  const { page } = site;
  await site.go("cohorts");
  await site.shows("Paying customers");
  await page.click("text=New cohort");
  await page.fill("#f-name", "Starters");
  await page.fill("#where", 'properties["plan"] = "starter"');
  await page.waitForSelector("#where-check .place mark");
  await site.axe();
  await page.fill("#where", 'properties["plan"] == "starter"');
  await page.waitForSelector("#where-check strong");
  const counted = await page.innerText("#where-check strong");
  await page.click("button:has-text('Save cohort')");
  await site.shows("The cohort “Starters” was saved.");
  await site.settled();
  const row = page.locator("tr", { hasText: "Starters" });
  site.expect((await row.locator("td.num").innerText()) === counted, `the list counts ${counted} as the form did`);
  await row.locator("th a").click();
  await page.fill("#f-name", "On the starter plan");
  await page.fill("#f-description", "Small teams");
  await page.click("button:has-text('Save changes')");
  await site.shows("The cohort “On the starter plan” was changed.");
  await site.shows("Small teams");
  await page.click("#cohort-rows a:text-is('On the starter plan')");
  const people = await page.getAttribute("a:has-text('of this cohort')", "href");
  site.expect(/\/users\?cohort=\d+$/.test(people), `the cohort leads to its users, not to ${people}`);
  await page.click("summary:has-text('Delete this cohort')");
  await site.axe();
  await page.click("button:has-text('Delete “')");
  await site.shows("was deleted");
  await page.fill("#q", "germany");
  await site.until(async () => (await page.locator("#cohort-rows tr").count()) === 1, "the search narrows the list");

  await page.goto(site.url("cohorts/new"));
  await page.check("input[value=ids]");
  await page.fill("#f-name", "By hand");
  await page.fill("#ids", "user-0001\nuser-0002\n");
  await page.click("button:has-text('Save cohort')");
  await site.shows("By hand");
  await page.click("#cohort-rows a:text-is('By hand')");
  await page.click("summary:has-text('Delete this cohort')");
  await page.click("button:has-text('Delete “')");
  await site.shows("was deleted");

  const reader = await site.signIn("consumer");
  await site.go("cohorts");
  site.expect(!(await reader.isVisible("text=New cohort")), "a consumer makes no cohorts");
}
