/** Pictures of each page, light and dark, desktop and phone, into `config.pictures`; PNG too where `config.png` names a folder. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pages } from "./pages.mjs";

export const widths = ["desktop", "phone"];
export const signedOut = true;
const QUALITY = 82;

/** What makes a page look as it does in use. */
const PREPARED = {
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
    for (const [name, path, params] of pages(site.people, wanted)) {
      await site.go(path, params);
      await PREPARED[name]?.(site);
      await site.page.waitForTimeout(150);
      await picture(site, name, scheme);
    }
  }
}
