/** Lists: search, the filter in its two forms, columns, order, rows that come as one scrolls, a download, a cohort. */
import { readFile } from "node:fs/promises";

export const widths = ["desktop", "phone"];

const rows = (site) => site.page.locator("a.row-link");
const state = (site) => new URL(site.page.url()).searchParams;

export default async function users(site) {
  await list(site);
  await search(site);
  await filter(site);
  await mistake(site);
  await columns(site);
  if (site.width === "desktop") {
    await download(site);
    await cohort(site);
  }
  await groups(site);
}

/** Rows come as one scrolls, each once, and each leads to its profile. */
async function list(site) {
  await site.go("users");
  await site.axe();
  await site.fits();
  const { page } = site;
  await site.until(async () => /\d+ users/.test(await page.innerText(".totals")), "the totals come");
  const total = Number((await page.innerText(".totals")).replace(/\D/g, ""));
  await site.until(async () => {
    await page.evaluate(() => window.scrollTo(0, document.body.scrollHeight));
    await site.settled();
    return (await rows(site).count()) >= total;
  }, `all ${total} users come`);
  const links = await rows(site).evaluateAll((all) => all.map((one) => one.href));
  site.expect(links.length === total, `all ${total} users come, not ${links.length}`);
  site.expect(new Set(links).size === total, "each of them once");
  site.expect((await page.locator("tr.goes-on").count()) === 0, "the list says that it has ended");
  // without scripts, the same by a link
  await site.go("users");
  const more = await page.locator("tr.goes-on a").first().getAttribute("href");
  await page.goto(site.base + more);
  await site.settled();
  site.expect((await rows(site).first().getAttribute("href")) !== new URL(links[0]).pathname + new URL(links[0]).search, "the link goes on");
}

/** A search by any text; what matches nothing says so. */
async function search(site) {
  const { page } = site;
  await site.go("users");
  await site.leads(async () => {
    await page.keyboard.press("/");
    await page.keyboard.type("Ada Lovelace");
    await page.keyboard.press("Enter");
  });
  await site.address(({ searchParams }) => searchParams.get("search") === "Ada Lovelace", "the search stands in the address");
  site.expect((await rows(site).count()) === 1, "one is found");
  site.expect((await page.innerText("table.people")).includes("Ada Lovelace"), "it is she");
  const row = page.locator("table.people tbody tr").first();
  const box = await row.boundingBox();
  const before = page.url();
  await site.leads(() => page.mouse.click(Math.min(box.x + box.width - 40, page.viewportSize().width - 40), box.y + box.height / 2));
  await site.address(({ pathname, searchParams }) => pathname.endsWith("/profile") && searchParams.get("id") === site.people.ada, "the whole row leads to the profile");
  await page.goto(before);
  await site.go("users", { search: "nobody at all" });
  await site.shows("Nothing matches");
  await site.axe();
  await site.leads(() => page.getByRole("link", { name: "Show all" }).click());
  await site.address(({ search }) => !search, "all are shown");
}

/** Conditions make an expression while one edits, and an expression conditions. */
async function filter(site) {
  const { page } = site;
  await site.go("users");
  await page.click("details.filter > summary");
  await page.fill("#property-1", "plan");
  await page.press("#property-1", "Tab");
  await site.settled();
  await page.selectOption("#operator-1", "is");
  await page.fill("#value-1", "free");
  await page.press("#value-1", "Tab");
  await site.until(async () => (await page.inputValue("#where")) === 'properties["plan"] == "free"', "the text follows the rows");
  await page.fill("#property-2", "tasks_done");
  await page.press("#property-2", "Tab");
  await site.until(async () => (await page.inputValue("#operator-2")) === "eq", "a number is compared as a number");
  await page.selectOption("#operator-2", "ge");
  await page.fill("#value-2", "many");
  await page.press("#value-2", "Tab");
  await site.shows("this is no number");
  await page.fill("#value-2", "0");
  await page.press("#value-2", "Tab");
  const both = 'properties["plan"] == "free" and properties["tasks_done"] >= 0';
  await site.until(async () => (await page.inputValue("#where")) === both, "two rows are joined");
  await site.settled();
  await site.axe();
  await site.fits();
  await page.getByRole("button", { name: "Remove condition 1" }).click();
  await site.until(async () => (await page.inputValue("#where")) === 'properties["tasks_done"] >= 0', "a row is removed");
  await page.fill("#where", both);
  await site.until(async () => (await page.inputValue("#value-1").catch(() => "")) === "free", "the rows follow the text");
  await site.settled();
  await site.leads(() => page.getByRole("button", { name: "Apply conditions" }).click());
  await site.address(({ searchParams }) => searchParams.get("where") === both, "the address holds the filter");
  site.expect((await rows(site).count()) > 0, "some match");
  await site.until(async () => /of \d+ users match/.test(await page.innerText(".totals")), "how many match is told");
}

/** An expression with an error: where it stands is shown under the text. */
async function mistake(site) {
  const { page } = site;
  await site.go("users", { where: 'properties["plan"] = "free"' });
  site.expect((await page.innerText("#filter-problem mark")) === "=", "the character is marked");
  const [mark, caret] = await Promise.all(["mark", ".points"].map((one) => page.locator(`#filter-problem ${one}`).boundingBox()));
  site.expect(Math.abs(mark.x - caret.x) < 2 && caret.y > mark.y, "the caret stands under it");
  site.expect((await rows(site).count()) === 0, "nothing is listed");
  await site.axe();
  await site.fits();
  await page.fill("#where", 'properties["plan"] == "free"');
  await site.until(async () => !(await page.locator("#filter-problem .problem").count()), "the problem goes once it is mended");
}

/** Columns are found, chosen, moved and sorted by, all of it in the address. */
async function columns(site) {
  const { page } = site;
  await site.go("users");
  await page.getByRole("link", { name: "Columns" }).click();
  await page.waitForSelector("#columns-form");
  await site.settled();
  await site.axe();
  await page.fill("#narrow", "tasks_d");
  const found = page.locator("[data-others] > li:visible");
  await site.until(async () => (await found.count()) === 1, "one property is found among all");
  await found.getByRole("checkbox").check();
  await page.getByRole("button", { name: "Move plan down" }).click();
  await site.leads(() => page.getByRole("button", { name: "Show these" }).click());
  await site.address(({ searchParams }) => searchParams.getAll("column").includes("tasks_done"), "the columns stand in the address");
  const chosen = state(site).getAll("column").filter(Boolean);
  site.expect(chosen[1] === "plan" && chosen.at(-1) === "tasks_done", `the columns are as chosen: ${chosen}`);
  await site.leads(() => page.getByRole("link", { name: "tasks_done" }).click());
  await site.address(({ searchParams }) => searchParams.get("sort") === "tasks_done", "a heading sorts");
  site.expect((await page.locator("th[aria-sort=ascending]").innerText()).startsWith("tasks_done"), "the heading says the order");
  await site.leads(() => page.getByRole("link", { name: "tasks_done" }).click());
  await site.address(({ searchParams }) => searchParams.get("order") === "descending", "and once more the other way round");
  const values = await page.locator("table.people tbody tr td:last-child").allInnerTexts();
  const numbers = values.map(Number).filter(Number.isFinite);
  site.expect(numbers.length > 20 && numbers.every((value, at) => !at || value <= numbers[at - 1]), "the values descend");
}

/** What is shown comes as a file. */
async function download(site) {
  const { page } = site;
  await site.go("users", { search: "Ada Lovelace", column: ["plan"] });
  await page.click("details.menu > summary");
  await site.axe();
  const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: /^CSV columns shown/ }).click()]);
  site.expect(/-users-\d{4}-\d\d-\d\d\.csv$/.test(file.suggestedFilename()), `the file has a name: ${file.suggestedFilename()}`);
  const lines = (await readFile(await file.path(), "utf8")).trim().split("\r\n");
  site.expect(lines[0] === "$distinct_id,$name,$email,$last_seen,plan", `the columns are those shown: ${lines[0]}`);
  site.expect(lines.length === 2 && lines[1].includes("Ada Lovelace"), "the rows are those shown");
}

/** An analyst saves the filter; a consumer is offered nothing of the kind. */
async function cohort(site) {
  const where = 'properties["plan"] == "free"';
  await site.signIn("analyst");
  await site.go("users", { where });
  await site.page.getByRole("link", { name: "Save as cohort" }).click();
  await site.page.waitForSelector("#cohort-form");
  await site.settled();
  await site.axe();
  const name = `Free ${Date.now()}`;
  await site.page.fill("#f-name", name);
  await site.page.fill("#f-description", "Who does not pay yet.");
  await site.leads(() => site.page.getByRole("button", { name: "Save" }).click());
  await site.address(({ pathname }) => pathname.endsWith("/cohorts"), "it leads to the cohorts");
  const made = await (await site.context.request.get(site.url("users.json", { where }))).json();
  site.expect(made.may_save === true, "an analyst may save");
  await site.signIn("consumer");
  await site.go("users", { where });
  site.expect((await site.page.getByText("Save as cohort").count()) === 0, "a consumer sees no such button");
  await site.signIn("owner");
}

/** Each group key has its own list. */
async function groups(site) {
  await site.go("groups", { key: "company" });
  await site.axe();
  await site.fits();
  site.expect((await rows(site).count()) > 0, "groups are listed");
  const link = new URL(await rows(site).first().evaluate((one) => one.href));
  site.expect(link.searchParams.get("group_key") === "company", "a group's row leads to the group");
}
