/** A profile, as an admin changes it: edit, add, unset, what somebody else changed, history, the slider, undo, erase. */
const ID = "flow/profile ?&#'\"<b>";

export const widths = ["desktop", "phone"];

export default async function profile(site) {
  const id = `${ID} ${site.width} ${Date.now()}`;
  const { page, token } = { page: await site.signIn("admin"), token: site.token };
  const send = (operators) => site.send("/engage", [{ $token: token, $distinct_id: id, ...operators }]);
  const properties = async (params = {}) => {
    const { data } = await site.ask("GET", "/api/query/engage", { params: { distinct_id: id, ...params } });
    return data.results[0]?.$properties;
  };
  const row = (name) => page.locator("#profile-table tbody tr", { has: page.getByRole("rowheader", { name, exact: false }) });
  const dialog = page.locator("#profile-dialog");
  const press = (name) => dialog.getByRole("button", { name, exact: true }).click();
  const landed = async (text) => {
    await page.locator(".notice", { hasText: text }).waitFor();
    await site.settled();
  };

  await send({ $set: { $name: "Flo Flow", plan: "free", seats: 3, tags: ["a"] } });
  await new Promise((done) => setTimeout(done, 1100)); // the next moment is another second, to be told apart
  await site.go("profile", { id });
  await site.axe();

  // edit: the editor, the very update, the page after it
  await row("plan").getByRole("link", { name: "Edit plan" }).click();
  await dialog.getByLabel("Value").fill("pro");
  await site.axe();
  await press("Show the update…");
  await dialog.getByText("The same as curl").click();
  await site.until(async () => {
    const shown = await dialog.innerText();
    return shown.includes('"plan": "pro"') && shown.includes("curl ");
  }, "the update is shown, and the command");
  await site.axe();
  await press("Send it");
  await landed("plan is set");
  site.expect((await properties()).plan === "pro", "the update arrived");
  site.expect((await row("plan").innerText()).includes("pro"), "the page after it shows it");

  // add: by the type of the value, refused where it is none
  await page.getByRole("link", { name: "Add a property" }).click();
  await dialog.getByLabel("Property").waitFor();
  await site.settled();
  await dialog.getByLabel("Property").fill("visits");
  await dialog.getByLabel("Type").selectOption("number");
  await dialog.locator("input#edit-value").waitFor();
  await site.settled();
  await dialog.getByLabel("Value").fill("many");
  site.allow(/status of 400|status 400|Error Code 400/);
  await press("Show the update…");
  await dialog.getByText("write a number").waitFor();
  await site.settled(); // what was swapped in has taken the focus
  await dialog.getByLabel("Value").fill("7");
  await press("Show the update…");
  await press("Send it");
  await landed("visits is set");
  site.expect((await properties()).visits === 7, "a number was added");

  // what changed meanwhile is shown, and not overwritten
  await row("seats").getByRole("link", { name: "Edit seats" }).click();
  await dialog.getByLabel("Value").fill("5");
  await press("Show the update…");
  await dialog.getByRole("button", { name: "Send it", exact: true }).waitFor(); // the value has been looked at
  await send({ $set: { seats: 4 } });
  site.allow(/status of 409|status 409|Error Code 409/);
  await press("Send it");
  await dialog.getByText("The value has changed").waitFor();
  site.expect((await properties()).seats === 4, "nothing was overwritten");
  await site.axe();
  await press("Send all the same");
  await landed("seats is set");
  site.expect((await properties()).seats === 5, "it is sent once the person says so");

  // unset
  await row("tags").getByRole("link", { name: "Unset tags" }).click();
  await press("Unset it");
  await landed("tags is unset");
  site.expect((await properties()).tags === undefined, "it is gone");

  // search, and history with before and after
  await page.getByLabel("Search names and values").fill("FREE");
  await page.locator("#profile-table", { hasText: "Nothing found" }).waitFor();
  await page.getByLabel("Search names and values").fill("pro");
  await page.locator("#profile-table", { hasText: "1 found" }).waitFor();
  await site.address(({ searchParams }) => searchParams.get("find") === "pro", "the address names the search");
  await page.getByLabel("Search names and values").fill("");
  await row("visits").waitFor();
  await site.settled();
  await page.getByRole("link", { name: "History", exact: true }).click();
  await page.locator(".profile-entry").first().waitFor();
  await site.settled();
  await page.getByLabel("Property", { exact: true }).fill("plan");
  await page.getByLabel("Property", { exact: true }).press("Enter");
  await site.until(async () => await page.locator(".profile-entry").count() === 2, "history is filtered by property");
  await site.settled();
  const change = await page.locator(".profile-entry").first().innerText();
  site.expect(/free[\s\S]*pro/.test(change) && change.includes("explorer admin"), `before, after and who: ${change}`);
  await site.axe();

  // the slider, by keyboard; the address keeps the time
  const slider = page.getByLabel("Time of the profile");
  await slider.focus();
  await page.keyboard.press("Home");
  await page.locator(".profile-at", { hasText: "differ" }).waitFor();
  await site.settled();
  await site.address(({ searchParams }) => /^\d{13}$/.test(searchParams.get("at") ?? ""), "the address keeps the time");
  site.expect((await row("plan").innerText()).includes("free"), "it shows what was");
  site.expect(await slider.evaluate((input) => input === document.activeElement), "the slider keeps the focus");
  await site.axe();
  await site.fits();
  await page.reload();
  await site.settled();
  site.expect((await row("plan").innerText()).includes("free"), "the same address shows the same");

  // undo: what would change, then the profile as it stood
  await page.getByRole("link", { name: "Put it back…" }).click();
  await dialog.getByRole("button", { name: "Put it back" }).waitFor();
  const change2 = await dialog.innerText();
  site.expect(["plan", "seats", "tags", "visits"].every((name) => change2.includes(name)), "what would change is shown");
  await site.axe();
  await press("Put it back");
  await landed("The profile is back");
  const now = await properties();
  site.expect(now.plan === "free" && now.seats === 3 && now.tags[0] === "a" && now.visits === undefined, "it is as it was");

  // every tab opens, and the dialog closes by keyboard and gives the focus back
  for (const name of ["Activity", "Groups", "Identity", "Revenue", "JSON"]) {
    await page.getByRole("navigation", { name: "About this profile" }).getByRole("link", { name, exact: true }).click();
    await page.locator(`.tabs [aria-current="true"]`, { hasText: name }).waitFor();
    await site.settled();
  }
  site.expect((await page.locator("#profile-pane").innerText()).includes(token), "an admin's command has the token");
  const erase = page.getByRole("link", { name: "Erase…" });
  await erase.click();
  await dialog.getByLabel("Type the id to confirm").waitFor();
  await page.keyboard.press("Escape");
  await site.until(() => erase.evaluate((link) => link === document.activeElement), "the focus is back");

  // erase: the id itself must be typed; the page shows the job to its end
  await erase.click();
  await dialog.getByLabel("Type the id to confirm").fill("flow");
  await press("Erase for good");
  await dialog.getByText("Type the id exactly").waitFor();
  await site.settled();
  await dialog.getByLabel("Type the id to confirm").fill(id);
  await site.axe();
  await press("Erase for good");
  await page.locator("#profile-erasure", { hasText: "is done: nothing is left" }).waitFor({ timeout: 120_000 });
  await site.settled();
  await site.shows("There is no such profile");
  site.expect(await properties() === undefined, "nothing is left");
  await site.axe();

  // a consumer sees none of this
  await send({ $set: { plan: "free" } });
  const other = await site.signIn("consumer");
  await site.go("profile", { id });
  const texts = await other.locator("main").innerText();
  site.expect(texts.includes("plan") && !texts.includes("Erase") && !texts.includes("Add a property"), "a consumer only looks");
  site.expect(await other.locator("main a[href*='/edit'], main a[href*='/unset']").count() === 0, "no controls for a consumer");
}
