/** The SQL page: keys, errors with their line, cancelling, links that run nothing, the history, downloads, charts. */

import { readFile } from "node:fs/promises";

const ENDLESS = "with recursive n(x) as (select 1 union all select x + 1 from n)\nselect count(*) from n";

export default async function sql(site) {
  site.allow(/htmx:(afterRequest|sendAbort)/); // what htmx says to the console of a request that was cancelled
  const { page } = site;
  const editor = page.locator("#sql-text");
  const write = async (text) => { await editor.fill(text); };
  const result = page.locator("#result");
  const run = async (text) => {
    await write(text);
    await editor.press("Control+Enter");
    await site.settled();
  };

  await site.go("sql");
  await site.axe();
  await site.fits();

  // whoever comes by Tab goes on by Tab; who types indents, and Esc lets go
  await page.locator("input[name=over]:checked").focus();
  await page.keyboard.press("Tab");
  site.expect(await editor.evaluate((one) => one === document.activeElement), "Tab reaches the editor");
  await page.keyboard.press("Tab");
  site.expect(await editor.evaluate((one) => one !== document.activeElement), "and leaves it again");
  await editor.click();
  await page.keyboard.type("select 1");
  await page.keyboard.press("Home");
  await page.keyboard.press("Tab");
  site.expect(await editor.inputValue() === "  select 1", "Tab indents for who types");
  await page.keyboard.press("Shift+Tab");
  site.expect(await editor.inputValue() === "select 1", "Shift and Tab take it back");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Tab");
  site.expect(await editor.evaluate((one) => one !== document.activeElement), "Esc, then Tab leaves the editor");

  // a column that is clicked is put into the query
  await write("select ");
  await page.locator("#side-schema [data-over=profiles] [data-insert=distinct_id]").first().click();
  site.expect(await editor.inputValue() === "select distinct_id", "a click inserts the column");

  // the answer, its address, and what was wrong
  await run("select distinct_id, 2 as two\nfrom users\norder by 1 limit 3");
  await site.until(async () => await result.locator(".sql-scroll tbody tr").count() === 3, "three rows");
  site.expect((await result.locator(".sql-scroll th.num").innerText()) === "two", "numbers stand to the right");
  await site.address(({ searchParams }) => searchParams.get("q")?.includes("from users"), "the address holds the query");
  await site.axe();
  await site.fits();
  await run("select *\nfrom users\nwhere nothing_here = 1");
  await site.shows("no such column: nothing_here");
  site.expect((await page.locator("#sql-lines .wrong").innerText()).trim() === "3", "the line is marked");
  await result.getByRole("button", { name: "Go to line 3" }).click();
  const at = await editor.evaluate((one) => one.value.slice(one.selectionStart));
  site.expect(at.startsWith("nothing_here"), "the caret stands where the error is");
  await site.axe();

  // a chart
  await page.locator("input[name=over][value=events]").check();
  await run("select date_trunc('day', time) as day, count(*) as n from events group by all order by day");
  await result.locator("figure.chart canvas").first().waitFor();
  await site.settled();
  await site.axe();
  await page.locator("input[name=over][value=profiles]").check();

  // cancelling ends the query: its process is free for the next long before its time is over
  for (let times = 0; times < 3; times += 1) {
    await write(ENDLESS);
    await page.locator("#sql-run").click();
    await page.locator("#sql-cancel").click();
    await site.shows("Cancelled: the query was ended.");
  }
  const began = Date.now();
  await run("select 7 as seven");
  site.expect((await result.locator(".sql-scroll td").innerText()) === "7", "the next one is answered");
  site.expect(Date.now() - began < 30_000, "at once, not when the cancelled ones would have ended");

  // the history is this browser's; a link fills the editor and runs nothing
  await page.getByRole("tab", { name: "History" }).click();
  await page.locator("#sql-history button", { hasText: "nothing_here" }).click();
  await site.until(async () => (await editor.inputValue()).includes("nothing_here"), "the history gives a query back");
  await write("select 8 as eight");
  await page.locator("#sql-copy-link").click();
  await site.until(async () => (await site.clipboard()).includes("eight"), "the link is copied");
  const asked = [];
  page.on("request", (request) => { if (request.url().includes("/sql/run")) asked.push(request.url()); });
  await page.goto(await site.clipboard());
  await site.settled();
  site.expect(await editor.inputValue() === "select 8 as eight", "the link fills the editor");
  await site.shows("This query came with the link.");
  site.expect(asked.length === 0, "and runs nothing");
  await page.getByRole("tab", { name: "History" }).click();
  await page.locator("#sql-forget").click();
  await site.shows("Nothing yet: queries that you run show up here.");

  // downloads
  for (const [name, start] of [["CSV", "eight\r\n8"], ["JSON", '[{"eight":8}']]) {
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name, exact: true }).click()]);
    const text = await readFile(await download.path(), "utf8");
    site.expect(text.startsWith(start), `${name} is downloaded: ${text.slice(0, 40)}`);
  }
}
