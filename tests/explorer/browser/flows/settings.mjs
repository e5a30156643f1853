/** Settings, projects, accounts and health: what is typed to confirm, secrets shown once, and a backup. */

import { stat } from "node:fs/promises";

export default async function settings(site) {
  site.allow(/status of 4(01|09)/);
  let { page } = site;
  const made = await site.newProject(`Settings ${site.width}`);
  const below = (rest) => `/explorer/${made.id}/${rest}`;

  // a project's settings
  await site.go(below("settings"));
  await site.axe();
  await site.fits();
  await page.fill("#f-name", `Shop ${site.width}`);
  await page.focus("#f-timezone");
  await site.until(async () => (await page.locator("#zones option").count()) > 300, "the zones are offered");
  await page.fill("#f-timezone", "Europe/Berlin");
  await page.getByLabel("Take late events").check();
  await site.leads(() => page.getByRole("button", { name: "Save" }).click());
  await site.shows("The settings are saved.");
  site.expect(await page.inputValue("#f-timezone") === "Europe/Berlin", "the time zone is kept");

  // a secret: the name is typed, it is shown once, and a reload neither shows nor makes one
  await page.getByText("Rotate the secret").first().click();
  const rotate = page.getByRole("button", { name: "Rotate the secret" });
  site.expect(await rotate.isDisabled(), "the button waits for the name");
  await page.fill("#confirm-secret", `Shop ${site.width}`);
  await site.leads(() => rotate.click());
  const secret = await page.locator("#once").innerText();
  site.expect(/^[0-9a-f]{64}$/.test(secret), "the secret is shown");
  await site.axe();
  const reads = (password) => site.ask("GET", "/api/query/engage", {
    params: { project_id: made.id }, headers: { authorization: `Basic ${Buffer.from(`${password}:`).toString("base64")}` },
  });
  site.expect((await reads(secret)).status === 200, "it opens the project");
  await page.reload();
  site.expect(!(await page.content()).includes(secret), "a reload does not show it");
  site.expect((await reads(secret)).status === 200, "nor makes another");
  await site.go(below("settings"));
  site.expect(!(await page.content()).includes(secret), "nor does the page");

  // an account: its password signs in, its role holds, and it goes
  const name = `someone-${site.width}`;
  await site.go("/explorer/accounts");
  await site.axe();
  await site.fits();
  await page.fill("#f-username", name);
  await page.selectOption("#f-role", "consumer");
  await page.locator(`input[name=project][value="${made.id}"]`).check();
  await site.leads(() => page.getByRole("button", { name: "Make the account" }).click());
  const password = await page.locator("#once").innerText();
  site.accounts.someone = { username: name, password };
  const owner = page;
  const guest = await site.signIn("someone");
  await site.go(below("settings"));
  site.expect(!(await guest.content()).includes(made.token), "a consumer sees no token");
  site.expect(await guest.locator("main form").count() === 0, "and no form");
  await site.axe();
  site.page = page = owner;
  await site.leads(() => page.getByRole("link", { name, exact: true }).click());
  await site.axe();
  await page.locator(`#role-${made.id}`).selectOption("analyst");
  await site.leads(() => page.getByRole("button", { name: "Set" }).click());
  await site.shows("The role is set.");
  await page.locator(".act-danger > summary").click();
  await page.fill("#confirm-delete", name);
  await site.leads(() => page.getByRole("button", { name: "Delete the account" }).click());
  await site.shows(`The account ${name} is deleted.`);

  // one's own account is not for deleting
  await site.leads(() => page.getByRole("row", { name: "you" }).getByRole("link").click());
  await site.shows("This is the account that you signed in with.");
  site.expect(await page.getByRole("button", { name: "Delete the account" }).count() === 0, "nobody deletes themselves");

  // health, and a backup
  await site.go("/explorer/health");
  await site.axe();
  await site.fits();
  await site.shows("Records can be stored.");
  const backup = page.getByRole("button", { name: "Download a backup" });
  if (site.isOfFolder) {
    const [download] = await Promise.all([page.waitForEvent("download"), backup.click()]);
    site.expect((await stat(await download.path())).size > 10_000, "the archive has something in it");
  } else {
    site.expect((await backup.count()) === 0, "PostgreSQL is backed up by its own tools");
  }
  const [answer] = await Promise.all([
    page.waitForResponse((one) => one.url().includes("health/now")), page.getByRole("button", { name: "Look again" }).click(),
  ]);
  site.expect(answer.status() === 200, `it looks again: ${answer.status()}`);
  await site.settled();
  await site.shows("Records can be stored.");

  // and the project goes
  await site.go(below("settings"));
  await page.locator(".act-danger > summary").click();
  await page.fill("#confirm-delete", `Shop ${site.width}`);
  await site.leads(() => page.getByRole("button", { name: "Delete this project" }).click());
  await site.shows("is deleted.");
}
