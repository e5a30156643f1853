/** The pages of events: names and volumes, one event by a property, filters, values, properties, samples, charts. */
const CHART = "figure.chart[data-state=ready]";

/** What the chart on the page says, read by its table. */
async function table(site) {
  await site.page.click(".chart-table > summary");
  const rows = await site.page.locator(".chart-table tbody tr").evaluateAll((all) => all.map((row) => [...row.children].map((cell) => cell.textContent)));
  await site.page.click(".chart-table > summary");
  return rows;
}

async function names(site) {
  const { page } = site;
  await site.go("events");
  await page.waitForSelector(CHART);
  site.expect((await page.locator(".volumes tbody tr").count()) > 5, "names are listed");
  await page.fill("#event-search", "page view");
  await site.until(async () => (await page.locator(".volumes tbody tr").count()) === 1, "the search narrows the list");
  await site.address(({ searchParams }) => searchParams.get("q") === "page view", "the search stands in the address");
  await site.settled();
  await page.reload();
  await site.settled();
  site.expect((await page.locator(".volumes tbody tr").count()) === 1, "the address brings the search back");
  await site.leads(() => page.click(".volumes thead a:text-is('Event')"));
  site.expect((await page.getAttribute(".volumes th[aria-sort]", "aria-sort")) === "ascending", "a heading sorts");
  await site.leads(() => page.click(".volumes tbody a"));
  await site.address(({ pathname, searchParams }) => pathname.endsWith("/event") && searchParams.has("name"), "a name leads to its event");
}

async function reading(site) {
  const { page } = site;
  await page.waitForSelector(CHART);
  await site.settled();
  await page.focus(".chart-plot");
  await page.keyboard.press("End");
  await page.waitForSelector(".chart-tooltip:not([hidden])");
  const last = await page.innerText(".chart-tooltip-time");
  await site.until(async () => (await page.textContent(".chart-body [aria-live]")).startsWith(last), "what the keyboard reads is spoken");
  await page.keyboard.press("ArrowLeft");
  await site.until(async () => (await page.innerText(".chart-tooltip-time")) !== last, "an arrow key goes on");
  await page.keyboard.press("Escape");
  await page.waitForSelector(".chart-tooltip[hidden]", { state: "attached" });
  const box = await page.locator(".chart-plot").boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.waitForSelector(".chart-tooltip:not([hidden])");
  const rows = await table(site);
  site.expect(rows.length === 30, `the table has a row for each day, not ${rows.length}`);
}

async function choices(site) {
  const { page } = site;
  await site.leads(async () => {
    await page.fill("#f-by", "plan");
    await page.keyboard.press("Tab");
  });
  await site.address(({ searchParams }) => searchParams.get("by") === "plan", "what is chosen is in the address");
  site.expect(!page.url().includes("where="), "what was not chosen is not in the address");
  await page.waitForSelector(CHART);
  const keys = page.locator(".chart-key");
  const pressed = (is) => site.until(async () => (await keys.first().getAttribute("aria-pressed")) === `${is}`, `the key is ${is ? "" : "not "}pressed`);
  await site.until(async () => (await keys.count()) > 1, "there is a key for each value");
  await keys.first().click();
  await pressed(false); // its series is hidden
  await keys.first().click();
  await pressed(true);
  await site.leads(() => page.selectOption("#f-type", "unique"));
  await site.address(({ searchParams }) => searchParams.get("type") === "unique", "what is counted is in the address");
  await page.waitForSelector(CHART);
  site.expect((await page.getAttribute("figure.chart", "data-chart")) === "line", "users are drawn as lines");
  await site.leads(() => page.click(".values tbody a:has-text('Only')"));
  site.expect((await page.inputValue("#f-where")).startsWith('properties["plan"] == '), "a value becomes a filter");
  const shares = await page.locator(".values tbody tr").count();
  site.expect(shares === 1, `one value is left, not ${shares}`);
}

async function fault(site) {
  const { page } = site;
  await page.fill("#f-where", 'properties["plan"] == ("pro"');
  await site.leads(() => page.click("button:text-is('Show')"));
  await page.waitForSelector(".fault mark");
  site.expect((await page.getAttribute("#f-where", "aria-invalid")) === "true", "the field says that it is wrong");
  site.expect((await page.innerText("#where-fault")).includes("at position"), "the place of the fault is told");
  await site.axe();
  await site.leads(() => page.click("a:text-is('Clear filter')"));
}

async function details(site) {
  const { page } = site;
  await page.click(".property:has(.property-name:text-is('plan')) > summary");
  await page.waitForSelector(".property[open] .values tbody tr");
  await site.settled();
  site.expect((await page.locator(".property[open] .values svg.bar").count()) > 0, "values have bars");
  const samples = page.locator("#samples .feed-row");
  const before = await samples.count();
  await page.click("#samples .feed-older a");
  await site.until(async () => (await samples.count()) > before, "older ones are added");
  await site.settled();
  await samples.first().locator("summary").click();
  const text = samples.first().locator("pre.json:not([data-compact])"); // laid out once it is open
  await text.waitFor();
  site.expect(JSON.parse(await text.innerText()).event === site.people.event, "an event opens to its JSON");
  await page.click("button:has-text('Copy as curl') >> nth=0");
  await site.until(async () => (await site.clipboard()).startsWith("curl -G -u"), "the call of the API is copied");
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("a:has-text('CSV')")]);
  site.expect(download.suggestedFilename().endsWith(".csv"), "the figures are handed out as CSV");
  await site.axe();
}

async function themes(site) {
  const { page } = site;
  // "" while it is drawn anew
  const back = () => page.evaluate(() => document.querySelector(".chart-canvas canvas")?.toDataURL() ?? "");
  await page.emulateMedia({ colorScheme: "light" });
  await site.settled();
  const light = await back();
  await page.emulateMedia({ colorScheme: "dark" });
  await site.until(async () => !["", light].includes(await back()), "a chart follows the theme");
  await page.emulateMedia({ colorScheme: "light" });
}

async function odd(site) {
  const { page } = site;
  for (const name of ["__proto__", "constructor", "x".repeat(255), '"><script>__ran()</script>']) {
    await site.go("event", { name, by: name });
    site.expect((await page.innerText("h1")).includes(name.slice(0, 20)), "the name is shown as text");
    await site.fits();
  }
  await site.go("event", { name: "never sent" });
  site.expect((await page.getAttribute("figure.chart", "data-state")) === "empty", "no event is told calmly");
  await site.axe();
}

export default async function events(site) {
  await site.signIn("consumer");
  await names(site);
  await reading(site);
  await choices(site);
  await fault(site);
  await details(site);
  await themes(site);
  await odd(site);
}
