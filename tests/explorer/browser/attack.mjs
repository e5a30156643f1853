/**
 * Visits all that the explorer shows, and looks for markup of clients that became more than text.
 *
 * Faults are scripts that ran, reports of the policy, dialogs (faults.mjs), elements and attributes that no template
 * has, and links that would run a script. `config.pages` bounds how many addresses are visited.
 */
import { pages } from "./pages.mjs";

export const widths = ["desktop"];
const VISITS = 70;
const OF_ONE_KIND = 2;
const UNFOLDED_MS = 500;
const PARAMETERS = ["q", "search", "where", "sort", "columns", "name", "id", "group_key", "key", "by", "from", "to", "kind",
  "event", "query", "page", "after", "next", "unit", "property", "value", "tab", "notice", "problem", "cohort", "as_of",
  "on", "event1", "where1", "label1", "event2", "born_event", "born_where", "report", "back"];

/** Runs in a page: what clients' markup became, if anything. */
function injected() {
  const found = [...document.querySelectorAll("[data-xss], base, iframe, object, embed")].map((one) => `element: ${one.outerHTML.slice(0, 200)}`);
  for (const element of document.querySelectorAll("*")) {
    for (const { name, value } of element.attributes) {
      if (name.startsWith("on") || name.startsWith("hx-on")) found.push(`handler ${name}: ${element.outerHTML.slice(0, 200)}`);
      const link = ["href", "src", "action", "formaction", "xlink:href", "data"].includes(name);
      if (link && /^\s*(javascript|data|vbscript):/i.test(value)) found.push(`link ${name}=${value.slice(0, 100)}`);
    }
  }
  if ({}.polluted !== undefined) found.push("Object.prototype is polluted");
  if (document.querySelector("script:not([src])")) found.push("an inline script");
  return found;
}

/** Runs in a page: open all that can be opened without changing anything, with what loads then. */
function unfold() {
  for (const details of document.querySelectorAll("details")) details.open = true;
  for (const opener of document.querySelectorAll("[data-dialog], [data-opens], [popovertarget]")) opener.click();
  for (const one of document.querySelectorAll("dialog:not([open])")) one.show();
}

/** Runs in a page: the addresses that it leads to, those of parts among them. */
function addresses() {
  const found = [...document.querySelectorAll("a[href]")].map((one) => one.href);
  for (const name of ["hx-get", "data-src", "data-stream"]) {
    for (const one of document.querySelectorAll(`[${name}]`)) found.push(new URL(one.getAttribute(name), location.href).href);
  }
  return found.filter((one) => new URL(one).origin === location.origin);
}

/** Addresses that differ only in the values of their parameters are of one kind. */
function kind(address) {
  const { pathname, searchParams } = new URL(address);
  return `${pathname}?${[...new Set(searchParams.keys())].sort().join("&")}`;
}

async function inspect(site, where) {
  const found = await site.page.evaluate(injected);
  if (found.length) throw new Error(`markup of a client on ${where}:\n${found.slice(0, 10).join("\n")}`);
  site.faults.check();
}

/** Visit one address and look at it as it comes, without what loads later. */
async function look(site, address) {
  await site.page.goto(address, { waitUntil: "domcontentloaded" }).catch((error) => {
    if (!/Download is starting|net::ERR_ABORTED/.test(error.message)) throw error;
  });
  await inspect(site, address);
}

/** Visit one address; what it leads to. */
async function visit(site, address) {
  try {
    const response = await site.page.goto(address);
    if (response.status() === 200) site.found += 1;
  } catch (error) {
    if (/Download is starting|net::ERR_ABORTED/.test(error.message)) return []; // a file to keep, or an answer without a body
    throw error;
  }
  if (!(await site.page.evaluate(() => document.contentType === "text/html"))) {
    await inspect(site, address);
    return [];
  }
  if (!(await site.page.evaluate(() => !!document.querySelector("main")))) { // a part, as it comes
    await inspect(site, address);
    return site.page.evaluate(addresses);
  }
  await site.settled();
  await inspect(site, address);
  const found = await site.page.evaluate(addresses);
  await site.page.evaluate(unfold);
  await site.settled(UNFOLDED_MS).catch(() => {}); // a dialog that was shown without its opener may wait for ever
  await inspect(site, `${address}, unfolded`);
  return [...found, ...await site.page.evaluate(addresses)];
}

/** Visit pages, what they lead to and what that leads to, few of each kind, hostile ones first; what was visited. */
async function crawl(site, starts, limit) {
  const waiting = [...starts];
  const seen = new Set();
  const kinds = new Map();
  while (waiting.length && seen.size < limit) {
    const address = waiting.shift();
    const like = kinds.get(kind(address)) ?? 0;
    if (seen.has(address) || like >= OF_ONE_KIND || /sign-out|\/docs$|openapi|\/live\/stream/.test(address)) continue;
    seen.add(address);
    kinds.set(kind(address), like + 1);
    const found = (await visit(site, address)).filter((one) => one.startsWith(`${site.base}/explorer`) && !seen.has(one));
    waiting.push(...found.sort((one, other) => other.includes("data-xss") - one.includes("data-xss")));
  }
  return seen;
}

/** Each parameter that a visited address has, with markup for its value; one address for each. */
function reflections(visited, marks) {
  const found = new Map();
  for (const address of visited) {
    for (const name of new URL(address).searchParams.keys()) {
      const hostile = new URL(address);
      hostile.searchParams.set(name, marks[found.size % marks.length]);
      found.set(`${hostile.pathname} ${name}`, hostile.href);
    }
  }
  return [...found.values()];
}

/** Records that arrive while a page of live data is open. */
async function live(site, path) {
  await site.go(path);
  for (const [target, records] of site.config.writes.slice(2, 8)) await site.send(target.split("?")[0], records);
  await new Promise((done) => setTimeout(done, 1500));
  await site.page.evaluate(unfold);
  await inspect(site, `${path || "start"}, as records arrive`);
}

/** JSONP answers live on this origin: the policy must not let a page take one for a script. */
async function jsonp(site) {
  await site.go("");
  site.allow(/policy: script-src|Content Security Policy/);
  const outcome = await site.page.evaluate(() => new Promise((done) => {
    const script = document.createElement("script");
    script.src = "/engage?callback=__ran&data=W10=";
    script.onload = () => done("loaded");
    script.onerror = () => done("refused");
    document.head.append(script);
  }));
  site.expect(outcome === "refused", "the policy refuses a JSONP answer as a script");
}

/** Runs in a page: where its forms post to, those with something to write in. */
function posts() {
  const forms = [...document.querySelectorAll("main form[method=post]")];
  return forms.map((form) => form.querySelector("input:is([type=text], [type=search], :not([type])), textarea") && form.action);
}

/** Runs in a page: fill a form with markup and send it. */
function fill(form, mark) {
  for (const field of form.querySelectorAll("input:is([type=text], [type=search], :not([type])), textarea")) field.value = mark;
  form.noValidate = true;
  form.requestSubmit();
}

/** Whatever a form that changes something is filled with comes back as text; each form once. */
async function forms(site, starts) {
  const sent = new Set();
  for (const start of starts) {
    await site.page.goto(start);
    const found = await site.page.evaluate(posts);
    for (const [at, action] of found.entries()) {
      if (!action || sent.has(action)) continue;
      sent.add(action);
      await site.page.goto(start);
      const form = site.page.locator("main form[method=post]").nth(at);
      await form.evaluate(fill, site.config.marks[0]);
      await new Promise((done) => setTimeout(done, 300));
      await site.settled(UNFOLDED_MS).catch(() => {});
      await inspect(site, `${action}, sent`);
    }
  }
  return sent.size;
}

export default async function attack(site) {
  site.allow(/status of (400|403|404|405|409|413|422|429)/); // hostile parameters are refused, and Chromium notes that
  const starts = pages(site.people).map(([, path, params]) => site.url(path, params));
  const { "user id": user, "group key": groupKey, "group id": group, "event name": event } = site.config.named;
  const attackers = [["profile", { id: user }], ["profile", { id: group, group_key: groupKey }], ["event", { name: event }], ["groups", { key: groupKey }],
    ["reports/segmentation", { event, on: event }], ["reports/funnel", { event1: event, event2: event, label2: event }], ["reports/retention", { born_event: event, event }]];
  starts.unshift(...attackers.map(([path, params]) => site.url(path, params)));
  const parameters = PARAMETERS.flatMap((name) => site.config.marks.map((mark) => [name, mark]));
  const mirrors = pages(site.people).map(([, path, params]) => site.url(path, { ...Object.fromEntries(parameters), ...params }));
  const limit = site.config.pages ?? VISITS;
  site.found = 0;
  const visited = await crawl(site, [...starts, ...mirrors], limit);
  site.tell(`visited ${visited.size} addresses; ${site.found} answered 200`);
  if (site.config.pages) return;
  const reflected = reflections(visited, site.config.marks);
  for (const address of reflected) await look(site, address);
  site.tell(`${reflected.length} parameters with markup`);
  await live(site, "");
  await live(site, "live");
  site.tell(`${await forms(site, starts)} forms sent with markup`);
  await jsonp(site);
}
