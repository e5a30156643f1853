/** Signing in and out, coming back to where one was, links of other sites, errors, the theme, the menu, the keyboard. */
export const widths = ["desktop", "phone"];

async function gate(site) {
  const page = await site.fresh();
  await page.goto(site.url("/"));
  site.expect((await page.innerText("h1")) === "Sign in to Mixdown", "who has not signed in is asked to");
  await site.until(() => page.evaluate(() => document.activeElement.id === "username"), "the first field has the focus");
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await site.axe();
  }
  await site.fits();
  await page.click("summary");
  await site.shows("mixdown account create");
  site.allow(/status of 401/);
  await page.fill("#username", site.accounts.owner.username);
  await page.fill("#password", "wrong");
  await page.press("#password", "Enter");
  await site.shows("No service account has this name and password.");
  await site.axe();
}

async function comingBack(site) {
  const { username, password } = site.accounts.owner;
  const wanted = site.url("", { from: "a b&c" });
  const page = await site.fresh();
  await page.goto(wanted);
  site.expect(new URL(page.url()).pathname === "/explorer/sign-in", "a page asks to sign in first");
  await page.fill("#username", username);
  await page.fill("#password", password);
  await page.press("#password", "Enter");
  await page.waitForURL(wanted);
  await site.settled();
}

async function links(site) {
  const elsewhere = site.base.replace("127.0.0.1", "localhost");
  site.expect(elsewhere !== site.base, "the server has a second name");
  await site.page.goto(`${elsewhere}/docs`);
  const wanted = site.url("", { shared: "yes" });
  await site.page.evaluate((address) => { location.href = address; }, wanted);
  await site.until(async () => (await site.page.locator("#sidebar").count()) === 1, "a link of another site leads in");
  await site.address(({ href }) => href === wanted, "it leads where it says");
  await site.page.goto(`${elsewhere}/docs`);
  await site.page.evaluate((address) => { location.href = address; }, site.url("/"));
  await site.until(async () => (await site.page.locator("#sidebar").count()) === 1, "so does one to the server itself");
  await site.settled();
}

async function errors(site) {
  site.allow(/status of (401|403|404)/);
  await site.go("nothing-here");
  await site.shows("There is no such page");
  site.expect((await site.page.locator("#sidebar").count()) === 1, "an error page has the navigation");
  await site.axe();
  await site.fits();
  await site.go("/explorer/999999");
  await site.shows("There is no such page");
}

async function messages(site) {
  await site.go();
  site.allow(/Failed to load resource|net::ERR|htmx:(sendError|afterRequest)/);
  await site.page.route("**/explorer/*/unreachable", (route) => route.abort());
  await site.page.evaluate((address) => { void window.htmx.ajax("GET", address, "#toasts").catch(() => {}); }, site.url("unreachable"));
  await site.shows("The server cannot be reached.");
  await site.axe();
  await site.page.click(".toast button");
  await site.until(async () => (await site.page.locator(".toast").count()) === 0, "a message can be closed");
}

async function theme(site) {
  const back = () => site.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await site.page.emulateMedia({ colorScheme: "light" });
  await site.go();
  if (site.width === "phone") await site.page.click("[data-menu]");
  const light = await back();
  const button = site.page.locator("[data-theme-switch]");
  await button.click();
  await site.until(async () => (await button.innerText()).includes("Light"), "the switch says what it chose");
  await button.click();
  await site.until(async () => (await back()) !== light, "the dark theme is another");
  const dark = await back();
  await site.page.reload();
  site.expect((await back()) === dark, "the theme stays");
  if (site.width === "phone") await site.page.click("[data-menu]");
  await site.page.locator("[data-theme-switch]").click();
  await site.until(async () => (await back()) === light, "the system decides again");
}

async function menu(site) {
  await site.go();
  const sidebar = site.page.locator("#sidebar");
  if (site.width === "phone") {
    site.expect(!(await sidebar.isVisible()), "the menu is closed");
    await site.page.click("[data-menu]");
    await sidebar.waitFor(); // the menu opens
    await site.axe();
    await site.fits();
    await site.page.keyboard.press("Escape");
    await site.until(async () => !(await sidebar.isVisible()), "Escape closes it");
    await site.until(() => site.page.evaluate(() => document.activeElement.matches("[data-menu]")), "the focus is back on its button");
    return;
  }
  await site.page.keyboard.press("Tab");
  await site.until(() => site.page.evaluate(() => document.activeElement.matches(".skip")), "the first stop skips the navigation");
  await site.page.keyboard.press("Enter");
  await site.until(() => site.page.evaluate(() => document.activeElement.id === "main"), "it leads to the page");
  // the second must follow soon, which a busy machine may miss
  await site.leads(() => site.until(async () => {
    await site.page.keyboard.press("g");
    await site.page.keyboard.press("l");
    return site.page.waitForURL(site.url("live"), { waitUntil: "commit", timeout: 5000 }).then(() => true, () => false);
  }, "letters lead to a page"));
  await site.page.click(".switcher summary");
  await site.page.locator(".switcher ul").waitFor(); // the project switcher opens
  await site.axe();
  await site.page.keyboard.press("Escape");
  await site.until(async () => !(await site.page.locator(".switcher ul").isVisible()), "Escape closes it");
}

async function ending(site) {
  site.allow(/status of 401/);
  await site.go();
  await site.context.clearCookies();
  await site.page.evaluate((address) => { void window.htmx.ajax("GET", address, "#toasts"); }, site.url("nothing-here"));
  await site.page.waitForURL(/\/explorer\/sign-in\?next=/);
  await site.signIn("consumer");
  if (site.width === "phone") await site.page.click("[data-menu]");
  await site.page.click("form[action='/explorer/sign-out'] button");
  await site.page.waitForURL(/\/explorer\/sign-in$/);
  await site.page.goto(site.url());
  site.expect(new URL(site.page.url()).pathname === "/explorer/sign-in", "signed out is signed out");
}

export default async function signIn(site) {
  await gate(site);
  await comingBack(site);
  await links(site);
  await errors(site);
  await messages(site);
  await theme(site);
  await menu(site);
  await ending(site);
}
