/** For whoever asked for less motion, nothing moves. */
import { pages } from "../pages.mjs";

/** Runs in a page: what moves for longer than a blink. */
function moving() {
  const long = document.getAnimations().filter((each) => each.playState === "running" && each.effect.getComputedTiming().endTime > 100);
  return long.map((each) => `${each.constructor.name} of ${each.effect.target?.outerHTML.slice(0, 120)}`);
}

export default async function motion(site) {
  await site.page.emulateMedia({ reducedMotion: "reduce" });
  for (const [name, path, params] of pages(site.people)) {
    await site.page.goto(site.url(path, params));
    const found = await site.page.evaluate(moving);
    site.expect(!found.length, `nothing moves on ${name}: ${found.join("; ")}`);
  }
}
