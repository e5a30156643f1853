/** Segmentation: built, filtered, noted, saved, shared by its address, handed out; read in black and white. */
const CHART = "figure.chart[data-state=ready]";

/** The days and figures of the table that stands beside the chart. */
async function table(site) {
  const rows = site.page.locator("#figures .figures-table tbody tr");
  return rows.evaluateAll((all) => all.map((row) => [...row.children].map((cell) => cell.textContent.trim())));
}

async function choosing(site) {
  const { page } = site;
  await site.go("reports");
  await site.leads(() => page.click(".kind a:text-is('Segmentation')"));
  await site.leads(() => page.click(`.choices a:text-is('${site.people.event}')`));
  await page.waitForSelector(CHART);
  const rows = await table(site);
  site.expect(rows.length === 31, `a total and thirty days, not ${rows.length}`);
  const sum = rows.slice(1).reduce((total, [, figure]) => total + Number(figure.replaceAll(",", "")), 0);
  site.expect(Number(rows[0][1].replaceAll(",", "")) === sum, `the total ${rows[0][1]} is what the days add up to: ${sum}`);
  for (const [list, name] of [["event-names", site.people.event], ["property-names", "plan"], ["on-names", 'user["plan"]']]) {
    const options = page.locator(`#${list} option`);
    await site.until(async () => (await options.evaluateAll((all) => all.map((one) => one.value))).includes(name), `${list} suggest ${name}`);
  }
  await page.fill("#f-on", "plan");
  await site.leads(() => page.click("button:text-is('Show')"));
  await page.waitForSelector(CHART);
  await site.until(async () => (await page.locator(".chart-key").count()) > 1, "there is a key for each value");
  await site.axe();
}

async function filtering(site) {
  const { page } = site;
  const whole = Number((await table(site))[0][1].replaceAll(",", ""));
  await page.fill("#where-property-1", "plan");
  await page.keyboard.press("Tab");
  await site.settled();
  site.expect((await page.locator("#where-value-1").count()) === 1, "a condition wants its value");
  await page.fill("#where-value-1", "free");
  await site.leads(() => page.press("#where-value-1", "Enter"));
  await site.address(({ searchParams }) => searchParams.get("where")?.startsWith("properties"), "the filter stands in the address");
  site.expect((await page.inputValue("#where")) === 'properties["plan"] == "free"', "the condition became the filter");
  const rows = await table(site);
  site.expect(Number(rows[0][1].replaceAll(",", "")) <= whole, "a filter chooses some of them");
  await page.click(".filter-text > summary");
  await page.fill("#where", 'properties["plan"] == ("free"');
  await page.press("#where", "Enter");
  await page.waitForSelector(".fault mark");
  await site.settled();
  site.expect((await page.getAttribute("#where", "aria-invalid")) === "true", "the field says that it is wrong");
  await site.axe();
  await page.fill("#where", 'user["plan"] == "free"');
  await site.leads(() => page.press("#where", "Enter"));
  await site.address(({ searchParams }) => searchParams.get("where")?.startsWith("user"), "the expression stands in the address");
  await site.shows("This filter says more than conditions can");
}

async function noting(site) {
  const { page } = site;
  await page.click(".note-add > summary");
  await site.until(async () => {
    const late = Date.now() - Date.parse(`${await page.inputValue("#note-date")}Z`); // the project's zone is UTC
    return late > -600_000 && late < 3_600_000;
  }, "a note begins at this moment");
  await page.fill("#note-text", "Released <b>2.0</b>");
  await site.leads(() => page.click(".note-add button:text-is('Add')"));
  await site.shows("Released <b>2.0</b>");
  await page.waitForSelector(CHART);
  await page.focus(".chart-plot");
  await page.keyboard.press("End");
  await site.until(async () => (await page.textContent(".chart-body [aria-live]")).includes("Released <b>2.0</b>"), "the chart reads the note out");
  await page.click(".note-edit > summary");
  await page.fill(".note-edit input[name=description]", "Released 2.1");
  await site.leads(() => page.click(".note-edit button:text-is('Save')"));
  await site.shows("Released 2.1");
  await site.axe();
  await page.click(".note-edit > summary");
  await site.leads(() => page.click(".note-edit button:has-text('Delete')"));
  site.expect((await page.locator(".note").count()) === 0, "the note is gone");
}

async function saving(site) {
  const { page } = site;
  await page.click("button:text-is('Save report')");
  await page.fill("#save-name", "Views by plan");
  await site.axe();
  await site.leads(() => page.click("#save-report button:text-is('Save')"));
  site.expect((await page.innerText("h1")).includes("Views by plan"), "the page has the report's name");
  const shown = await table(site);
  const shared = page.url();
  await site.leads(() => page.selectOption("#f-measure", "unique"));
  await site.address(({ searchParams }) => searchParams.get("measure") === "unique", "the choice stands in the address");
  await site.leads(() => page.click("button:text-is('Save changes')"));
  await page.goto(shared);
  await site.settled();
  site.expect(JSON.stringify(await table(site)) === JSON.stringify(shown), "a copied link shows what it showed");
  await page.click("summary:text-is('Rename or delete this report')");
  await page.fill("#rename-name", "Visitors by plan");
  await site.leads(() => page.click("button:text-is('Save name')"));
  await site.go("reports");
  await site.leads(() => page.click("a:text-is('Visitors by plan')"));
  site.expect((await page.inputValue("#f-measure")) === "unique", "it opens as it was changed");
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("a:has-text('CSV')")]);
  site.expect(download.suggestedFilename().endsWith(".csv"), "the figures are handed out as CSV");
  return page.url();
}

/** A dashboard shows saved reports side by side, each about the same days. */
async function dashboard(site) {
  const { page } = site;
  await site.go("reports");
  await page.fill("#board-title", "What we look at");
  await site.leads(() => page.click(".new-board button"));
  await page.selectOption("#added", { label: "Visitors by plan" });
  await site.leads(() => page.click(".arrange button:text-is('Save')"));
  await page.waitForSelector(`.place ${CHART}`);
  await site.leads(() => page.click(".chip:text-is('7 days')"));
  await page.waitForSelector(`.place ${CHART}`);
  await page.click(".place .chart-table > summary");
  await site.until(
    async () => (await page.locator(".place .chart-table tbody tr").count()) === 7, // made when it is opened
    "it is about the days that are chosen",
  );
  await site.axe();
  await site.fits();
}

/** A reader sees the same at the same address, and nothing that would be refused. */
async function reading(site, address) {
  await site.signIn("consumer");
  const { page } = site;
  await page.goto(address);
  await site.settled();
  await page.waitForSelector(CHART);
  site.expect((await page.locator("main form[method=post], main dialog").count()) === 0, "a reader is offered nothing to change");
  await site.signIn("analyst");
  await site.page.goto(address);
  await site.settled();
  await site.page.click("summary:text-is('Rename or delete this report')");
  await site.leads(() => site.page.click("button:has-text('Delete report')"));
  await site.page.goto(address);
  await site.settled();
  await site.shows("is there no more");
}

/** Without colour each series is still drawn in a way of its own. */
async function colourless(site) {
  const { page } = site;
  await site.go("reports/segmentation", { event: site.people.event, on: "$browser", chart: "bars" });
  await page.waitForSelector(CHART);
  const swatches = () => page.locator("canvas.chart-swatch").evaluateAll((all) => all.map((canvas) => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const edge = pixels.slice(0, 3).join();
    return Array.from({ length: pixels.length / 4 }, (_, at) => (pixels.slice(4 * at, 4 * at + 3).join() === edge ? "#" : ".")).join("");
  }));
  for (const kind of ["bars", "line"]) {
    if (kind === "line") {
      await site.leads(() => page.selectOption("#f-chart", "line"));
      await site.address(({ searchParams }) => searchParams.get("chart") === "line", "the kind stands in the address");
      await page.waitForSelector(CHART);
    }
    const drawn = await swatches();
    site.expect(drawn.length > 2 && new Set(drawn).size === drawn.length, `${kind} differ by more than colour: ${drawn.length}`);
  }
}

export default async function reports(site) {
  await site.signIn("analyst");
  await choosing(site);
  await filtering(site);
  await noting(site);
  const address = await saving(site);
  await dashboard(site);
  await reading(site, address);
  await colourless(site);
}
