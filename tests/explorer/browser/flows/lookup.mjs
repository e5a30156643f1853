/** Lookup tables: made, filled with progress, refused rows with their index, replaced, downloaded, deleted. */
import { readFile } from "node:fs/promises";

export default async function lookup(site) {
  const { page } = site;
  await site.go("lookup-tables");
  await page.fill("#f-name", `seats ${site.width}`);
  await site.leads(() => page.click("button:has-text('Make it')"));
  await site.shows("Upload its rows next.");
  await site.axe();
  const send = async (name, text) => {
    await page.setInputFiles("#file", { name, mimeType: "text/csv", buffer: Buffer.from(text) });
    await page.click("#upload button");
  };
  site.allow(/status of 400/);
  await send("wrong.csv", "plan,seats\nstarter,5\n,7\nstarter,6\n");
  await site.shows("primary key is required and cannot be blank");
  await site.shows("have the same primary key");
  await site.axe();
  await site.leads(() => send("right.csv", 'plan,seats\nstarter,5\nbusiness,"<b>50</b>"\n'));
  await page.waitForSelector("text=Download CSV");
  await site.shows("<b>50</b>");
  await site.shows(`lookup["seats ${site.width}"]["seats"]`);
  await site.axe();
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("text=Download CSV")]);
  const fetched = await readFile(await download.path(), "utf8");
  site.expect(fetched === "plan,seats\r\nstarter,5\r\nbusiness,<b>50</b>\r\n", `the download is what was sent: ${fetched}`);
  await page.click("summary:has-text('Delete this table')");
  await site.leads(() => page.click("button:has-text('Delete “')"));
  await site.shows("was deleted");

  const reader = await site.signIn("consumer");
  await site.go("lookup-tables");
  await site.leads(() => reader.click("text=plans >> nth=0"));
  site.expect(!(await reader.isVisible("#upload")), "a consumer uploads nothing");
}
