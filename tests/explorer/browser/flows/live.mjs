/** The live view: what arrives shows up, is opened, copied, filtered, paused, sampled, mended; a lost connection loses nothing. */
const rows = (site) => site.page.locator("#live-rows > li");
const titles = (site) => site.page.locator("#live-rows .live-id").allInnerTexts();

export default async function live(site) {
  const project = await site.newProject("Live");
  const update = (id, properties = {}) => ({ $token: project.token, $distinct_id: id, $set: properties });
  await site.go(`/explorer/${project.id}/live`, { tokens: "project" });
  await site.shows("No record fits so far");
  await site.until(async () => (await site.page.locator("#live-state").innerText()) === "Live", "it listens");
  await site.axe();
  await arrives(site, project, update);
  await pauses(site, update);
  await comesBack(site, update);
  await mends(site, project, update);
  await filters(site, project, update);
  await samples(site, project, update);
  await ends(site, project);
}

async function arrives(site, project, update) {
  await site.send("/engage", [update("ada", { plan: "pro", large: 9007199254740992, "<b>name</b>": "<img src=x onerror=__ran('live')>" })]);
  await site.until(async () => (await titles(site)).includes("ada"), "an update shows up");
  const event = { event: "Signed in", properties: { token: project.token, distinct_id: "ada", $device_id: "d1", $user_id: "ada", plan: "pro" } };
  await site.send("/track", [event]);
  await site.until(async () => (await rows(site).count()) === 3, "the event and its link show up");
  await site.send("/engage", [update("bob"), { $token: project.token, $set: { it: "is wrong" } }]);
  await site.until(async () => (await rows(site).count()) === 5, "the refused record stands beside the good one");
  const refused = await site.page.locator("#live-rows > li[data-kind=refusal]").innerText();
  site.expect(refused.includes("record 1") && refused.includes("$distinct_id, missing or empty"), `index, field and reason are told: ${refused}`);
  await site.axe();
  const first = site.page.locator("#live-rows > li[data-kind=update]", { hasText: "ada" });
  await first.locator("summary").click();
  const json = await first.locator("pre").innerText(); // it is made when the row is open
  site.expect(json.includes("9007199254740992"), "large numbers keep their digits");
  site.expect(json.includes('"<b>name</b>"'), "markup is text");
  await first.getByRole("button", { name: "Copy as curl" }).click();
  await site.until(async () => (await site.clipboard()).startsWith("curl "), "a line for the shell is copied");
  const line = await site.clipboard();
  for (const part of [`${site.base}/engage?verbose=1`, project.token, '"$distinct_id":"ada"', "9007199254740992"]) {
    site.expect(line.includes(part), `the line has ${part}: ${line}`);
  }
  site.expect((await first.getByRole("link", { name: "Open the profile" }).getAttribute("href")).endsWith("/profile?id=ada"), "the profile is linked");
  await site.axe();
  await first.locator("summary").click();
}

async function pauses(site, update) {
  const before = await rows(site).count();
  await site.page.keyboard.press("p");
  await site.shows("Paused");
  await site.send("/engage", [update("while-paused")]);
  await site.shows("Resume, 1 new");
  site.expect((await rows(site).count()) === before, "nothing moves while it is paused");
  await site.page.getByRole("button", { name: /Resume/ }).click();
  await site.until(async () => (await titles(site))[0] === "while-paused", "what came meanwhile is shown");
  await rows(site).first().locator("summary").click();
  await site.shows("Waiting while a record is open");
  await site.send("/engage", [update("while-open")]);
  await site.shows("Resume, 1 new");
  await rows(site).first().locator("summary").click();
  await site.until(async () => (await titles(site))[0] === "while-open", "closing the record goes on");
}

/** The connection is cut: what arrives meanwhile comes when it is there again, once. */
async function comesBack(site, update) {
  site.allow(/ERR_INTERNET_DISCONNECTED|ERR_NETWORK_CHANGED|Failed to load resource/);
  await site.context.setOffline(true);
  await site.page.evaluate(() => dispatchEvent(new Event("pagehide")));
  await site.send("/engage", [update("while-gone-1"), update("while-gone-2")]);
  await site.context.setOffline(false);
  await site.page.evaluate(() => dispatchEvent(new Event("pageshow")));
  await site.until(async () => (await titles(site)).includes("while-gone-2"), "what came meanwhile is shown");
  await site.send("/engage", [update("there-again")]);
  await site.until(async () => (await titles(site)).includes("there-again"), "what comes then is shown too");
  const shown = await titles(site);
  site.expect(shown.filter((title) => title.startsWith("while-gone")).length === 2, `nothing comes twice: ${shown}`);
}

async function mends(site, project, update) {
  const refused = site.page.locator("#live-rows > li[data-kind=refusal]").first();
  await refused.locator("summary").click();
  await refused.getByRole("button", { name: "Mend and send again" }).click();
  const field = site.page.getByLabel("The record");
  await field.waitFor();
  site.expect((await field.inputValue()).includes('"is wrong"'), "the editor has the record");
  await site.axe();
  await field.fill("{ no JSON");
  await site.page.getByRole("button", { name: "Send again", exact: true }).click();
  await site.shows("This is not one JSON object yet.");
  await field.fill(JSON.stringify({ $token: project.token, $set: { still: "wrong" } }));
  await site.page.getByRole("button", { name: "Send again", exact: true }).click();
  await site.until(async () => (await site.page.locator("#mend-problem").innerText()).includes("$distinct_id"), "it says why it is refused again");
  await field.fill(JSON.stringify({ ...update("mended"), $set: { exact: 1 } }).replace('"exact":1', '"exact":9007199254740993'));
  await site.page.getByRole("button", { name: "Send again", exact: true }).click();
  await site.shows("sent again and stored");
  const { data } = await site.ask("GET", "/api/query/engage", { params: { project_id: project.id, distinct_id: "mended" } });
  site.expect(data.results.length === 1, "the profile is there");
  const left = await site.ask("GET", "/api/mixdown/refusals", { params: { project_id: project.id } });
  site.expect(left.data.results.length === 0, "the refusal is gone");
  await refused.locator("summary").click();
  await site.until(async () => (await titles(site)).includes("mended"), "what was mended arrives");
  const text = await rows(site).filter({ hasText: "mended" }).first();
  await text.locator("summary").click();
  site.expect((await text.locator("pre").innerText()).includes("9007199254740993"), "no number was rounded on its way");
}

async function filters(site, project, update) {
  await site.go(`/explorer/${project.id}/live`, { tokens: "project", id: "ada" });
  site.expect((await titles(site)).every((title) => ["ada", "$device:d1"].includes(title)), "only what is of ada is there");
  await site.until(async () => (await site.page.locator("#live-state").innerText()) === "Live", "it listens");
  await site.send("/engage", [update("nobody"), update("ada", { seen: true })]);
  await site.until(async () => (await titles(site)).filter((title) => title === "ada").length === 3, "only ada arrives");
  site.expect(!(await titles(site)).includes("nobody"), "others do not");
  await site.leads(() => site.page.getByRole("link", { name: "Refused only" }).click());
  await site.address(({ searchParams }) => searchParams.get("kind") === "refusal", "the filter stands in the address");
  await site.until(async () => (await site.page.locator("#live-state").innerText()) === "Live", "it listens");
  site.expect(await site.page.getByLabel("Refused", { exact: true }).isChecked(), "the filter is shown");
  await site.send("/engage", [update("fine"), { $token: "nobody-has-this", $distinct_id: "x", $set: {} }]);
  await site.shows("$token, no project has this token");
  site.expect(!(await titles(site)).includes("fine"), "good records are left out");
}

async function samples(site, project, update) {
  await site.go(`/explorer/${project.id}/live`, { tokens: "project" });
  await site.until(async () => (await site.page.locator("#live-state").innerText()) === "Live", "it listens");
  // how much is left out is told while it lasts, however rarely this looks
  await site.page.evaluate(() => {
    const told = document.getElementById("live-sample");
    window.__told = [];
    new MutationObserver(() => window.__told.push(told.textContent)).observe(told, { childList: true, characterData: true, subtree: true });
  });
  for (let batch = 0; batch < 6; batch += 1) {
    await site.send("/engage", Array.from({ length: 1000 }, (_, place) => update(`many-${batch}-${place}`, { n: place })));
  }
  await site.until(() => site.page.evaluate(() => window.__told.some((text) => /showing 1 of \d+/.test(text))), "it says that it samples");
  site.expect((await rows(site).count()) <= 500, "the list is bounded");
  await site.until(async () => !(await site.page.locator("#live-sample").innerText()), "and stops saying so when it is over");
}

/** Who signs out elsewhere, or loses the account, hears nothing more and is told. */
async function ends(site, project) {
  const { data } = await site.ask("POST", "/api/mixdown/accounts", { body: { username: "leaving", role: "consumer", project_id: project.id } });
  const { id, username, password } = data.results;
  site.accounts.leaving = { username, password };
  await site.signIn("leaving");
  await site.go(`/explorer/${project.id}/live`);
  await site.until(async () => (await site.page.locator("#live-state").innerText()) === "Live", "a consumer may listen");
  site.expect((await site.page.locator("#mend").count()) === 0, "a consumer mends nothing");
  site.expect(!(await site.page.content()).includes(project.token), "a consumer sees no token");
  site.allow(/status of 401/);
  site.expect((await site.ask("DELETE", `/api/mixdown/accounts/${id}`)).status < 300, "the account is deleted");
  await site.until(async () => (await site.page.locator("#live-state").innerText()) === "Ended", "the stream has ended");
}
