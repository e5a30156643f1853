/** On a slow network a page shows itself before its slow parts; without one it says so, and is never blank. */
import { pages } from "../pages.mjs";

const SLOW = { offline: false, latency: 300, downloadThroughput: 60_000, uploadThroughput: 30_000 };

export default async function network(site) {
  const session = await site.context.newCDPSession(site.page);
  await session.send("Network.enable");
  await session.send("Network.emulateNetworkConditions", SLOW);
  for (const [name, path, params] of pages(site.people, ["start", "users", "profile", "events", "dictionary"])) {
    const began = Date.now();
    let release;
    const shown = new Promise((done) => { release = done; });
    await site.page.route("**/*", async (route) => {
      if (route.request().headers()["hx-request"]) await shown; // its parts come once it has been seen
      await route.continue();
    });
    await site.page.goto(site.url(path, params), { waitUntil: "commit" });
    await site.page.waitForSelector("h1");
    site.tell(`${name}: heading after ${Date.now() - began} ms at 60 kB/s and 300 ms`);
    release();
    await site.settled();
    await site.page.unrouteAll({ behavior: "wait" });
    site.tell(`${name}: all of it after ${Date.now() - began} ms`);
  }
  await session.send("Network.emulateNetworkConditions", { ...SLOW, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  await offline(site);
}

/** The server is out of reach: what was there stays, and a message says why nothing comes. */
async function offline(site) {
  await site.go("dictionary");
  const before = await site.page.innerText("main");
  site.allow(/ERR_INTERNET_DISCONNECTED|Failed to fetch|console: htmx:/);
  await site.context.setOffline(true);
  await site.page.fill("main input[type=search]", "plan");
  await site.until(async () => /reach|offline|connection/i.test(await site.page.innerText("body")), "a page without a server says so");
  const after = await site.page.innerText("main");
  site.expect(before.length > 100 && after.length > 100, "what was there stays");
  await site.context.setOffline(false);
}
