/** Funnels, retention and how often people come: built, read as pictures and tables, at both widths, in both themes. */
export const widths = ["desktop", "phone"];

async function funnel(site) {
  const { page } = site;
  await site.go("reports/funnel");
  await site.shows("Choose the steps");
  await site.leads(async () => {
    await page.fill("#f-event1", "Page viewed");
    await page.fill("#f-event2", "Project created");
    await page.press("#f-event2", "Enter");
  });
  await site.address(({ searchParams }) => searchParams.has("event2"), "the steps stand in the address");
  site.expect((await page.locator(".funnel-step").count()) === 2, "there is a bar for each step");
  const [began, done] = await page.locator(".funnel-count strong").evaluateAll((all) => all.map((one) => Number(one.textContent.replaceAll(",", ""))));
  site.expect(began > done && done > 0, `some drop off: ${began}, ${done}`);
  const cells = await page.locator("#figures .table tbody tr").nth(1).locator("td").allTextContents();
  site.expect(cells[0].trim() === String(done) && cells[3].trim() === String(began - done), `the table says the same: ${cells}`);
  await site.leads(async () => {
    await page.fill("#f-event3", "Invoice paid");
    await page.fill("#f-on", "$os");
    await page.selectOption("#f-unit", "week");
  });
  await site.address(({ searchParams }) => searchParams.get("unit") === "week", "the unit stands in the address");
  await page.waitForSelector(".over-time figure.chart[data-state=ready]");
  site.expect((await page.locator(".funnel-step").count()) === 3, "a step was added");
  site.expect((await page.locator(".values tbody tr").count()) > 1, "values stand by themselves");
  await look(site);
  await site.leads(() => page.locator("[data-move-step='-1']:visible").last().click());
  await site.address(({ searchParams }) => searchParams.get("event2") === "Invoice paid", "a step was moved");
  await site.leads(() => page.locator("[data-remove-step]:visible").nth(1).click());
  await site.address(({ search }) => !search.includes("Invoice"), "it is gone from the address");
  site.expect((await page.locator(".funnel-step").count()) === 2, "a step was taken out");
  await site.go("reports/funnel", { event1: "Page viewed", event2: "Never sent" });
  await site.shows("nobody has yet");
}

async function retention(site) {
  const { page } = site;
  await site.go("reports/retention", { born_event: "Signed in", unit: "week" });
  await page.waitForSelector("figure.chart[data-state=ready]");
  const grid = page.locator(".grid").first();
  const heads = await grid.locator("thead th").count();
  const first = await grid.locator("tbody tr").nth(1).locator("th, td").count();
  site.expect(heads === first && heads > 3, `each line has a cell for each interval: ${heads}, ${first}`);
  await site.shows("not over yet");
  await look(site);
  await site.leads(() => page.click("#f-unbounded"));
  await site.address(({ searchParams }) => searchParams.get("unbounded_retention") === "1", "the choice stands in the address");
  await site.go("reports/frequency", { on: "$os" });
  await page.waitForSelector("figure.chart[data-state=ready]");
  site.expect((await page.locator(".grid").count()) === 2, "how often people come, and by value");
  await look(site);
}

async function look(site) {
  for (const scheme of ["dark", "light"]) {
    await site.page.emulateMedia({ colorScheme: scheme });
    await site.axe();
    await site.fits();
  }
}

async function odd(site) {
  for (const name of ["__proto__", "x".repeat(255), '"><script>__ran()</script>', "=1+1"]) {
    await site.go("reports/segmentation", { event: name, on: name });
    await site.fits();
    await site.go("reports/funnel", { event1: name, event2: name, on: name });
    await site.fits();
  }
  await site.go("reports/segmentation", { event: "Page viewd" });
  await site.shows("Page viewed");
  await site.axe();
}

export default async function journeys(site) {
  await site.signIn("analyst");
  await funnel(site);
  await retention(site);
  await odd(site);
}
