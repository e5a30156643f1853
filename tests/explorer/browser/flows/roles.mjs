/** Who may only read meets no token, no secret, and no control that would be refused. */
import { pages } from "../pages.mjs";

const SERVER_WIDE = ["/explorer/projects", "/explorer/accounts", "/explorer/health"];

/** Runs in a page: where its forms post to, and where its navigation leads. */
function leads() {
  const posts = [...document.querySelectorAll("main form[method=post], main [hx-post], main [hx-delete], main [hx-put]")];
  return {
    posts: posts.map((one) => one.getAttribute("action") ?? one.getAttribute("hx-post") ?? one.outerHTML.slice(0, 120)),
    links: [...document.querySelectorAll("nav a[href]")].map((one) => one.href),
  };
}

/** A consumer's posts change nothing: queries that are too long for an address. */
const READING = /\/sql/;

export default async function roles(site) {
  await site.signIn("consumer");
  const seen = new Set();
  for (const [name, path, params] of pages(site.people)) {
    if (SERVER_WIDE.includes(path) || ["settings", "new-cohort"].includes(name)) continue;
    const response = await site.go(path, params);
    site.expect(response.status() === 200, `a consumer sees ${name}, not ${response.status()}`);
    const html = await site.page.content();
    for (const secret of [site.token, site.secret]) site.expect(!html.includes(secret), `${name} shows a consumer no ${secret === site.token ? "token" : "secret"}`);
    const { posts, links } = await site.page.evaluate(leads);
    const changing = posts.filter((action) => !READING.test(action));
    site.expect(!changing.length, `${name} offers a consumer nothing to change: ${changing}`);
    for (const link of links) seen.add(link);
    const twin = await site.context.request.get(site.url(name === "start" ? `/explorer/${site.project}.json` : `${path}.json`, params));
    site.expect(!(await twin.text()).includes(site.token), `${name}'s twin shows a consumer no token`);
  }
  for (const link of seen) {
    const answer = await site.context.request.get(link);
    site.expect(answer.status() === 200, `the navigation leads a consumer to ${link}: ${answer.status()}`);
    const text = await answer.text();
    site.expect(!text.includes(site.token) && !text.includes(site.secret), `${link} shows a consumer no keys`);
  }
}
