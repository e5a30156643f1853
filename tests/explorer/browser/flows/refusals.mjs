/** Refusals: found by reason, read, copied as curl, mended in place, sent again; unknown tokens brought home. */
export default async function refusals(site) {
  const { page } = site;
  const mark = `mend-${site.width}`;
  const bad = (more) => ({ $token: site.token, $set: { mark, ...more } });
  await site.send("/engage?ip=0", [bad({ n: 1 }), bad({ n: 2 })]);
  await site.go("refusals");
  await site.leads(() => page.click("section[aria-label=Reasons] a:has-text('$distinct_id, missing or empty')"));
  await page.waitForSelector("section[aria-label=Reasons] a[aria-current]");
  await site.address(({ searchParams }) => searchParams.get("reason") === "distinct_id_missing", "a reason narrows the list");
  await page.fill("#text", mark);
  await site.leads(() => page.press("#text", "Enter"));
  await site.until(async () => (await page.locator(".refusal").count()) === 2, "both of them fit");
  const first = page.locator(".refusal").first();
  await first.locator("summary").click();
  await site.axe();
  await first.locator("button:has-text('Copy as curl')").click();
  await site.until(async () => {
    const copied = await site.clipboard();
    return copied.startsWith("curl 'http") && copied.includes(mark);
  }, "the command is copied");
  await first.locator("button:has-text('Send this record')").click();
  await site.shows("still refused: $distinct_id, missing or empty");
  await site.settled();
  const record = { ...bad({ n: 2 }), $distinct_id: `mended-${site.width}` };
  await first.locator("textarea").fill(JSON.stringify(record));
  await site.leads(() => first.locator("button:has-text('Send this record')").click());
  await site.shows("1 record was stored.");
  await site.go("refusals", { text: mark });
  await page.waitForSelector(".refusal");
  await page.check("[data-choose-all]");
  await site.leads(() => page.click("button:has-text('Send the chosen again')"));
  await site.shows("1 record is still refused");

  await site.send("/engage?ip=0", [{ $token: "nobody-has-this", $distinct_id: `home-${site.width}`, $set: { mark } }]);
  await site.go("refusals", { unknown: "1", text: `home-${site.width}` });
  await page.waitForSelector(".refusal");
  await page.check("[data-choose-all]");
  await site.leads(() => page.click("button:has-text('into this project')"));
  await site.shows("1 record was stored.");

  const reader = await site.signIn("consumer");
  await site.go("refusals");
  await reader.locator(".refusal summary").first().click();
  site.expect(!(await reader.content()).includes(site.token), "a consumer sees no token");
  site.expect(!(await reader.isVisible("button:has-text('Send')")), "a consumer sends nothing again");
}
