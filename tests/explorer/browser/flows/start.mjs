/** From a fresh project to one's own profile: the page waits, the browser SDK sends, the first record lights up. */
export const widths = ["desktop", "phone"];

export default async function start(site) {
  const project = await site.newProject(`First steps ${site.width}`);
  const address = `/explorer/${project.id}`;
  const began = Date.now();
  await site.go(address);
  await site.until(async () => (await site.page.locator("#first [hx-trigger='every 1s']").count()) === 1, "the page waits for the first record");
  await site.axe();
  await snippets(site, project);
  await refusedFirst(site, project);
  await lightsUp(site, project, began);
  await site.go(address);
  await site.shows("Last record received");
  await chart(site);
  await site.settled();
  await site.axe();
  await survives(site);
}

/** The server is gone for a while: what is shown stays, nobody is told again and again, and it goes on. */
async function survives(site) {
  site.allow(/\b503\b|ERR_FAILED|Failed to load resource|htmx:(afterRequest|sendError)/);
  await site.page.route("**/totals*", (route) => route.fulfill({ status: 503, contentType: "application/json", body: "{}" }));
  await site.page.waitForResponse((answer) => answer.url().includes("/totals") && answer.status() === 503);
  await site.settled();
  await site.page.route("**/totals*", (route) => route.abort());
  await site.page.waitForEvent("requestfailed", (request) => request.url().includes("/totals"));
  await site.settled();
  site.expect((await site.page.locator(".start-total").count()) >= 2, "the totals stay");
  site.expect((await site.page.locator(".toast").count()) === 0, "nothing pops up");
  await site.page.unroute("**/totals*");
  await site.page.waitForResponse((answer) => answer.url().includes("/totals") && answer.status() === 200);
}

/** Each SDK's snippet has this server and this token; the copy button copies it; the address keeps the choice. */
async function snippets(site, project) {
  for (const name of await site.page.locator("#snippet .chip").allInnerTexts()) {
    await site.page.getByRole("link", { name, exact: true }).and(site.page.locator("#snippet .chip")).click();
    const current = site.page.locator("#snippet .chip[aria-current]");
    await site.until(async () => (await current.innerText()) === name, `${name} is chosen`);
    await site.settled();
    site.expect(await current.evaluate((one) => one === document.activeElement), `the focus stays on ${name}`);
    const code = await site.page.locator("#snippet pre").innerText();
    site.expect(code.includes(project.token), `the snippet of ${name} has the token`);
    const host = new URL(site.base);
    site.expect(code.includes(host.host) || code.includes(`port: ${host.port}`), `the snippet of ${name} has the host`);
    site.expect(!code.includes("6493") && !code.includes("example.com"), `nothing of the example is left for ${name}`);
  }
  await site.address(({ searchParams }) => searchParams.has("sdk"), "the choice stands in the address");
  await site.page.locator("#snippet .copied .btn").click();
  await site.until(async () => (await site.clipboard()) === (await site.page.locator("#snippet pre").innerText()), "the snippet is copied");
}

/** A first record that is wrong is told with its reason, and the page waits on. */
async function refusedFirst(site, project) {
  const answer = await site.send("/engage", [{ $token: project.token, $set: { plan: "pro" } }]);
  site.expect(answer.status === 0, "a record without an id is refused");
  await site.shows("$distinct_id, missing or empty");
  site.expect((await site.page.locator("#first").getAttribute("role")) === "status", "what happens is announced");
}

/** The real SDK on a page of another origin. */
async function lightsUp(site, project, began) {
  const shop = await site.sdk(project.token);
  await shop.evaluate(() => {
    window.mixpanel.identify("first-visitor");
    window.mixpanel.people.set({ $name: "First Visitor", plan: "pro" });
  });
  await site.shows("First record received");
  site.tell(`${site.width}: the first record lit up ${Date.now() - began} ms after the page was opened, this flow's looks at all snippets included`);
  const text = await site.page.locator("#first").innerText();
  site.expect(text.includes("first-visitor"), `it says whose record it was: ${text}`);
  await site.until(async () => (await site.page.locator(".start-total .figure").first().innerText()) === "1", "the number of users follows");
  const link = site.page.getByRole("link", { name: "See the profile" });
  site.expect((await link.getAttribute("href")) === `/explorer/${project.id}/profile?id=first-visitor`, "the link goes to the profile");
  await site.leads(() => link.click());
  await site.shows("First Visitor");
  await shop.close();
}

/** The chart counts what came, and says it as a table too. */
async function chart(site) {
  await site.until(async () => (await site.page.locator("figure.chart[data-state=ready]").count()) === 1, "the chart is drawn");
  const rows = site.page.locator("figure.chart .chart-legend");
  await site.until(async () => (await rows.innerText()).includes("profile updates"), "the chart names its kinds");
}
