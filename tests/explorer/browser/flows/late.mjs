/** Answers that come late: what is typed, taken away, chosen or closed meanwhile counts, and not what came last. */
export default async function late(site) {
  const id = `late ${Date.now()}`;
  const send = ($set) => site.send("/engage", [{ $token: site.token, $distinct_id: id, $set }]);
  await send({ $name: "Late Answer", plan: "free", seats: 3 });
  await new Promise((done) => setTimeout(done, 1100)); // the next change is of another second: there is a past to look at
  await send({ plan: "pro" });
  await search(site, id);
  await tabs(site);
  await dialogs(site, id);
  await filter(site);
  await deeds(site);
}

/** Let what is held come, and wait until the page has done with it. */
async function come(site, { release }) {
  release();
  await site.settled();
}

/** A search while the history is on its way, whichever comes first. */
async function search(site, id) {
  const { page } = site;
  const found = page.locator("#profile-table", { hasText: "1 found" });
  const slider = page.getByLabel("Time of the profile");
  for (const first of ["history", "search"]) {
    const answers = { history: await site.hold(/profile\/properties\?.*slider=1/), search: await site.hold(/profile\/properties\?.*find=seats/) };
    await page.goto(site.url("profile", { id }));
    await page.getByLabel("Search names and values").fill("seats");
    await site.until(() => Object.values(answers).every(({ held }) => held.length), "both are asked for");
    const second = first === "history" ? "search" : "history";
    answers[first].release();
    await (first === "history" ? slider : found).waitFor();
    await come(site, answers[second]);
    await found.waitFor();
    await slider.waitFor();
    site.expect((await page.locator("#profile-table tbody tr").count()) === 1, `it is the search's table that stays, after the ${second}`);
    await site.address(({ searchParams }) => searchParams.get("find") === "seats", "the address names the search");
    await page.unrouteAll();
  }
}

/** Two tabs, one after the other: the one that was chosen last stays. */
async function tabs(site) {
  const { page } = site;
  const tab = (name) => page.getByRole("navigation", { name: "About this profile" }).getByRole("link", { name, exact: true });
  const history = await site.hold(/profile\/history/);
  await tab("History").click();
  await site.until(() => history.held.length, "one is asked for");
  await tab("JSON").click();
  await page.locator("#profile-pane", { hasText: "curl" }).waitFor();
  await come(site, history);
  site.expect((await page.locator("#profile-history").count()) === 0, "what was chosen before does not come instead");
  await site.address(({ searchParams }) => searchParams.get("tab") === "code", "nor into the address");
}

/** Dialogs: the last one opens, what is typed stays in it, and one that is closed stays closed. */
async function dialogs(site, id) {
  const { page } = site;
  const dialog = page.locator("#profile-dialog");
  const edit = (name) => page.getByRole("link", { name: `Edit ${name}` }).click();
  await site.go("profile", { id });
  const plan = await site.hold(/profile\/edit\?.*name=plan/);
  await edit("plan");
  await site.until(() => plan.held.length, "one is asked for");
  await edit("seats");
  await dialog.getByLabel("Value").fill("4");
  await come(site, plan);
  site.expect((await dialog.innerText()).includes("seats") && (await dialog.getByLabel("Value").inputValue()) === "4", "the dialog is still the other's");

  const review = await site.hold(/profile\/review/);
  await dialog.getByRole("button", { name: "Show the update…" }).click();
  await site.until(() => review.held.length, "the update is asked for");
  await page.keyboard.press("Escape");
  await site.until(async () => !(await dialog.isVisible()), "the dialog closes");
  await come(site, review);
  site.expect(!(await dialog.isVisible()), "it stays closed");

  await page.getByRole("link", { name: "Add a property" }).click();
  await dialog.getByLabel("Property").fill("visits");
  const typed = await site.hold(/profile\/edit\?.*type=number/);
  await dialog.getByLabel("Type").selectOption("number");
  await site.until(() => typed.held.length, "the field for a number is asked for");
  await dialog.getByLabel("Value").fill("42");
  await come(site, typed);
  await dialog.locator("input#edit-value").waitFor();
  site.expect((await dialog.getByLabel("Value").inputValue()) === "42", "what was typed before it came stands in it");
  await page.keyboard.press("Escape");
}

/** The filter of a list: rows that are changed or taken away while an answer about them is on its way. */
async function filter(site) {
  const { page } = site;
  const where = (wanted, text) => site.until(async () => (await page.inputValue("#where").catch(() => "")) === wanted, text);
  await site.go("users");
  await page.click("details.filter > summary");
  await page.fill("#where", 'properties["plan"] == "free" and properties["seats"] == 3');
  await site.until(async () => (await page.locator("#value-2").count()) === 1, "the rows follow the text");
  await site.settled();

  const changed = await site.hold(/users\/filter/);
  await page.selectOption("#operator-1", "is-not");
  await site.until(() => changed.held.length, "the text is asked for");
  await page.fill("#value-1", "pro");
  await come(site, changed);
  await where('properties["plan"] != "pro" and properties["seats"] == 3', "what was typed meanwhile is in the text");
  site.expect((await page.inputValue("#value-1")) === "pro", "and in its field");

  const removed = await site.hold(/users\/filter/);
  await page.selectOption("#operator-2", "ge");
  await site.until(() => removed.held.length, "the text is asked for");
  await page.getByRole("button", { name: "Remove condition 1" }).click();
  await come(site, removed);
  await where('properties["seats"] >= 3', "the row that was taken away meanwhile is gone");
}

/** A cohort's form: it is sent with the conditions that were typed last, and what is typed while it grows stays. */
async function deeds(site) {
  const { page } = site;
  const project = await site.newProject("Late answers");
  await site.go(`/explorer/${project.id}/cohorts/new`);
  await page.fill("#f-name", "Late");
  await page.fill("#event1", "Page viewed");
  await page.fill("#where1-property-1", "$browser");
  await page.press("#where1-property-1", "Tab");
  await site.settled();

  const filtered = await site.hold(/reports\/filter/);
  await page.fill("#where1-value-1", "Firefox");
  await page.click("button:has-text('One more condition')"); // which takes the focus, and so ends what was typed
  await site.until(() => filtered.held.length, "the filter is asked for");
  await come(site, filtered);
  await page.locator("#event2").waitFor();
  site.expect((await page.inputValue("#where1")).includes('"Firefox"'), "a condition is added once the filter has settled");

  await page.fill("#event2", "Project created");
  await site.settled();
  const grown = await site.hold(/cohorts\/save/);
  await page.click("button:has-text('One more condition')");
  await site.until(() => grown.held.length, "one more is asked for");
  await page.fill("#event2", "Invoice paid");
  await page.selectOption("#did2", "did-not");
  await come(site, grown);
  await page.locator("#event3").waitFor();
  site.expect((await page.inputValue("#event2")) === "Invoice paid" && (await page.inputValue("#did2")) === "did-not", "what was typed meanwhile stays");

  const saved = await site.hold(/reports\/filter/);
  await site.leads(async () => {
    await page.fill("#where1-value-1", "Chrome");
    await page.click("button:has-text('Save cohort')");
    await site.until(() => saved.held.length, "the filter is asked for");
    saved.release();
  });
  await site.shows("was saved");
  await site.shows("Chrome");
}
