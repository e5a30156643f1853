/** Pictures of each page, light and dark, desktop and phone, into `config.pictures`; PNG too where `config.png` names a folder. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pages } from "./pages.mjs";

export const widths = ["desktop", "phone"];
export const signedOut = true;
const QUALITY = 82;

const QUERY = `select properties ->> '$.plan' as plan, count(*) as people,
  round(avg(properties ->> '$.tasks_done')) as tasks
from users group by plan order by people desc`;

/** Runs in a page: a text in place of another. */
function rename([shown, wanted]) {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) walker.currentNode.data = walker.currentNode.data.replaceAll(shown, wanted);
}

/** What makes a page look as it does in use. */
const PREPARED = {
  health: (site) => site.page.evaluate(rename, [site.config.data, "/var/lib/mixdown"]), // a path of nobody's machine
  sql: async (site) => {
    await site.go("sql", { q: QUERY });
    await site.page.getByRole("button", { name: "Run" }).click();
    await site.until(async () => (await site.page.locator("main table").count()) > 0, "the query's result is shown");
    await site.settled();
  },
  profile: async (site) => {
    await site.page.getByRole("tab", { name: "History" }).or(site.page.getByRole("link", { name: "History" })).first().click();
    await site.settled();
  },
  live: async (site) => {
    for (const [path, records] of site.config.live) await site.send(path, records);
    await site.page.waitForTimeout(900);
  },
};

async function picture(site, name, scheme) {
  const file = `${name}-${site.width}-${scheme}`;
  const session = await site.context.newCDPSession(site.page);
  const { data } = await session.send("Page.captureScreenshot", { format: "webp", quality: QUALITY });
  await session.detach();
  mkdirSync(site.config.pictures, { recursive: true });
  writeFileSync(join(site.config.pictures, `${file}.webp`), Buffer.from(data, "base64"));
  if (site.config.png) await site.page.screenshot({ path: join(site.config.png, `${file}.png`) });
}

export default async function screenshots(site) {
  const wanted = site.config.only?.length ? site.config.only : null;
  const schemes = ["light", "dark"];
  for (const scheme of schemes) {
    await site.page.emulateMedia({ colorScheme: scheme });
    if (!wanted || wanted.includes("sign-in")) {
      await site.go("/explorer/sign-in");
      await picture(site, "sign-in", scheme);
    }
  }
  await site.signIn("owner");
  for (const scheme of schemes) {
    await site.page.emulateMedia({ colorScheme: scheme });
    const board = ["dashboard", "reports/dashboard", { id: site.config.dashboard }];
    for (const [name, path, params] of [...pages(site.people, wanted), ...(!wanted || wanted.includes("dashboard") ? [board] : [])]) {
      await site.go(path, params);
      await PREPARED[name]?.(site);
      await site.page.waitForTimeout(150);
      await picture(site, name, scheme);
    }
  }
}
