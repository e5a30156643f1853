/** At 200 % zoom, on the narrowest screens, and with values no designer thought of: no page needs sideways scrolling. */
import { pages } from "../pages.mjs";

const SIZES = [{ width: 640, height: 400 }, { width: 320, height: 568 }];

export default async function reflow(site) {
  for (const size of SIZES) {
    await site.page.setViewportSize(size);
    for (const [name, path, params] of pages(site.people)) {
      await site.go(path, params);
      await site.fits();
      if (name !== "profile") continue;
      for (const id of [site.people.hostile, site.people.wide]) {
        await site.go(path, { id });
        await site.fits();
      }
    }
  }
}
