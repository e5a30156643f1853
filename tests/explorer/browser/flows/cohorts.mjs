/** Conditions on what people did: counted while they are chosen, joined, taken away, saved and read again. */
async function deeds(site) {
  const { page } = site;
  // what stands there was asked for by the last change, not by one before it
  const counted = async () => {
    await site.settled();
    return Number.parseInt(await page.locator("#where-check").innerText(), 10);
  };
  const more = async () => {
    await page.click("button:has-text('One more condition')");
    await page.waitForSelector("#event2");
    await site.settled();
  };
  await site.go("cohorts/new");
  await page.fill("#f-name", "Visitors who never pay");
  await page.fill("#event1", site.people.event);
  await page.selectOption("select[name=when1]", "last");
  await page.fill("input[name=length1]", "60");
  const looked = await counted();
  site.expect(/\d+ users? match/.test(await page.innerText("#where-check")), "it says how many looked");
  await more();
  site.expect((await page.inputValue("#event1")) === site.people.event, "a new row leaves the others as they are");
  site.expect(await page.evaluate(() => document.activeElement.id === "deeds-add"), "and the focus where it was");
  await page.fill("#event2", "Invoice paid");
  await page.selectOption("select[name=did2]", "did-not");
  const unpaid = await counted();
  site.expect(unpaid < looked, `fewer than ${looked} did not pay, not ${unpaid}`);
  await page.fill("#where1-property-1", "$browser");
  await page.press("#where1-property-1", "Tab");
  await site.settled();
  await page.fill("#where1-value-1", "Firefox");
  await page.press("#where1-value-1", "Enter");
  const fewer = await counted();
  site.expect(fewer < unpaid, `fewer than ${unpaid} of them by one browser, not ${fewer}`);
  site.expect((await page.inputValue("#where1")).includes('"Firefox"'), "conditions become the filter's text");
  await site.axe();
  await site.fits();
  await page.click("button:has-text('Remove condition 2'):visible");
  await site.until(async () => (await page.locator(".deed").count()) === 1, "a condition is taken away");
  const alone = await counted();
  site.expect(alone > fewer, `more than ${fewer} without it, not ${alone}`);
  await more();
  await page.fill("#event2", "Invoice paid");
  await page.selectOption("#deeds-joined", "any");
  const any = await counted();
  site.expect(any > alone, `any of both hold for more than ${alone}, not ${any}`);
  await site.leads(() => page.click("button:has-text('Save cohort')"));
  await site.shows("was saved");
  const row = page.locator("tr", { hasText: "Visitors who never pay" });
  await site.until(async () => (await row.locator("td.num").innerText()) === `${any}`, `the list counts ${any} as the form did`);
  site.expect((await row.innerText()).includes("did “Invoice paid”"), "the list says it in words");
  await site.leads(() => row.locator("th a").click());
  await page.waitForSelector("#event2");
  site.expect((await page.inputValue("#deeds-joined")) === "any", "it is read again as it was chosen");
  await gone(site);
}

/** Delete the cohort whose page this is. */
async function gone(site) {
  await site.page.click("summary:has-text('Delete this cohort')");
  await site.axe();
  await site.leads(() => site.page.click("button:has-text('Delete “')"));
  await site.shows("was deleted");
}

/** Cohorts: a wrong expression shows its place, a right one how many match; saved, renamed, followed and deleted. */
export default async function cohorts(site) {
  const { page } = site;
  await site.go("cohorts");
  await site.shows("Paying customers");
  await site.leads(() => page.click("text=New cohort"));
  await page.fill("#f-name", "Starters");
  await page.fill("#where", 'properties["plan"] = "starter"');
  await page.waitForSelector("#where-check .place mark");
  await site.axe();
  await page.fill("#where", 'properties["plan"] == "starter"');
  await page.waitForSelector("#where-check strong");
  await site.settled();
  const counted = await page.innerText("#where-check strong");
  await site.leads(() => page.click("button:has-text('Save cohort')"));
  await site.shows("The cohort “Starters” was saved.");
  const row = page.locator("tr", { hasText: "Starters" });
  await site.until(async () => (await row.locator("td.num").innerText()) === counted, `the list counts ${counted} as the form did`);
  await site.leads(() => row.locator("th a").click());
  await page.fill("#f-name", "On the starter plan");
  await page.fill("#f-description", "Small teams");
  await site.leads(() => page.click("button:has-text('Save changes')"));
  await site.shows("The cohort “On the starter plan” was changed.");
  await site.shows("Small teams");
  await site.leads(() => page.click("#cohort-rows a:text-is('On the starter plan')"));
  const people = await page.getAttribute("a:has-text('of this cohort')", "href");
  site.expect(/\/users\?cohort=\d+$/.test(people), `the cohort leads to its users, not to ${people}`);
  await gone(site);
  await page.fill("#q", "germany");
  await site.until(async () => (await page.locator("#cohort-rows tr").count()) === 1, "the search narrows the list");

  await site.go("cohorts/new");
  await page.check("input[value=ids]");
  await page.fill("#f-name", "By hand");
  await page.fill("#ids", "user-0001\nuser-0002\n");
  await site.leads(() => page.click("button:has-text('Save cohort')"));
  await site.shows("By hand");
  await site.leads(() => page.click("#cohort-rows a:text-is('By hand')"));
  await gone(site);

  await deeds(site);

  const reader = await site.signIn("consumer");
  await site.go("cohorts");
  await site.shows("Paying customers");
  site.expect(!(await reader.isVisible("text=New cohort")), "a consumer makes no cohorts");
}
