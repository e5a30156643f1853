/** At 200 % zoom, on the narrowest screens, and with values no designer thought of: no page needs sideways scrolling. */
import { pages } from "../pages.mjs";

const SIZES = [{ width: 640, height: 400 }, { width: 320, height: 568 }];

export default async function reflow(site) {
  for (const size of SIZES) {
    await site.page.setViewportSize(size);
    const awkward = [["hostile", "profile", { id: site.people.hostile }], ["wide", "profile", { id: site.people.wide }]];
    for (const [, path, params] of [...pages(site.people), ...awkward]) {
      await site.go(path, params);
      await site.fits();
    }
  }
}
