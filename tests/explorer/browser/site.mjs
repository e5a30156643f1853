/**
 * What a flow drives: a browser that has signed in to the server under test, and the server's API beside it.
 *
 * `site.page` is Playwright's page. `site.project`, `site.token`, `site.people`, `site.accounts`, … come from
 * tests/explorer/seed.py, `site.width` is "desktop" or "phone". Whatever of faults.mjs happens fails the flow.
 */
import { source } from "./packages.mjs";
import { Faults } from "./faults.mjs";
import { pending, watchWaits } from "./pending.mjs";
import { website } from "./sdk.mjs";
import { slowly } from "./slowly.mjs";

export const WIDTHS = { desktop: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } };
const PATIENCE_MS = 45_000;
const SERIOUS = ["serious", "critical"];

/** Runs in a page: what sticks out of it, where the page has to be scrolled sideways. */
function sticksOut() {
  const wide = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= wide + 1) return [];
  const out = [...document.querySelectorAll("body *")].filter((element) => element.getBoundingClientRect().right > wide + 1);
  return out.slice(0, 5).map((element) => element.outerHTML.slice(0, 160));
}

/** Runs in a page that has axe-core: the serious faults of what is shown. */
async function axeFaults(serious) {
  const found = await window.axe.run(document, { resultTypes: ["violations"] });
  return found.violations
    .filter(({ impact }) => serious.includes(impact))
    .map(({ id, help, nodes }) => `${id}: ${help}\n${nodes.slice(0, 4).map(({ html, failureSummary }) => `  ${html.slice(0, 300)}\n    ${failureSummary.replaceAll("\n", " ")}`).join("\n")}`);
}

export class Site {
  /** A browser that has not signed in yet. */
  static async open(browser, config, width) {
    const site = new Site(browser, config, width);
    await site.fresh();
    return site;
  }

  constructor(browser, config, width) {
    this.browser = browser;
    this.config = config;
    this.width = width;
    this.patience = PATIENCE_MS * (config.slow ?? 1);
    this.faults = new Faults();
    const { url, project, token, secret, accounts, people, isOfFolder } = config;
    Object.assign(this, { base: url, project, token, secret, accounts, people, isOfFolder });
    this.contexts = [];
    this.websites = [];
  }

  /** A new browser context (no cookies), with one page that becomes `site.page`; options are Playwright's. */
  async fresh(options = {}) {
    const context = await this.browser.newContext({
      viewport: WIDTHS[this.width], hasTouch: this.width === "phone", locale: "en-GB", timezoneId: "UTC",
      acceptDownloads: true, colorScheme: "light", ...options,
    });
    context.setDefaultTimeout(this.patience);
    await context.addInitScript(...watchWaits);
    await this.faults.watch(context);
    await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: this.base });
    this.contexts.push(context);
    this.context = context;
    this.page = await this.newPage();
    return this.page;
  }

  /** One more page of the context. */
  async newPage() {
    const page = await this.context.newPage();
    await slowly(page, this.config);
    return page;
  }

  /** Close everything. */
  async close() {
    for (const context of this.contexts.splice(0)) await context.close();
    for (const one of this.websites.splice(0)) one.close();
  }

  /** An address: `/…` on the server, anything else below the project ("users", "", "profile"), with parameters. */
  url(path = "", params = {}) {
    const below = path.startsWith("/") ? path : `/explorer/${this.project}${path ? `/${path}` : ""}`;
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(params)) for (const one of [value].flat()) query.append(name, one);
    return `${this.base}${below}${query.size ? `?${query}` : ""}`;
  }

  /** Visit an address as `url` makes it, and wait until all of it is shown; Playwright's response. */
  async go(path = "", params = {}) {
    const response = await this.page.goto(this.url(path, params));
    await this.settled();
    return response;
  }

  /**
   * Wait until the page and its slow parts are there, and what somebody did has had its effects: timers that end soon,
   * answers, what they bring. It knows nothing of a page that comes instead of this one: that is `leads`.
   */
  async settled(patience = this.patience) {
    let left = "";
    for (const start = Date.now(); Date.now() - start < patience;) {
      left = await this.page.evaluate(pending).catch((error) => String(error)); // a navigation ends what runs in a page
      if (!left) {
        await new Promise((done) => setTimeout(done, 30)); // what was swapped in may load more
        left = await this.page.evaluate(pending).catch((error) => String(error));
        if (!left) return;
      }
      await new Promise((done) => setTimeout(done, 20));
    }
    throw new Error(`the page still waits for ${left}`);
  }

  /** Do what leads to another document (a link, a form), and wait until all of that is shown. */
  async leads(action) {
    await this.settled(); // its scripts have what is done
    await this.page.evaluate(() => { window.__left = true; });
    await action();
    const left = () => this.page.evaluate(() => window.__left === true).catch(() => true); // between two documents
    await this.until(async () => !(await left()), "it leads to another page");
    await this.settled();
  }

  /** Wait until the address is as wanted: `condition` gets it as a URL. It may come later than what is shown. */
  async address(condition, text) {
    await this.until(() => condition(new URL(this.page.url())), text).catch((error) => {
      throw new Error(`${error.message}, not ${this.page.url()}`);
    });
  }

  /** Keep back answers whose address matches, from now on; what is returned lets them come, and those that follow. */
  async hold(pattern) {
    let release;
    const released = new Promise((done) => { release = done; });
    const held = [];
    await this.page.route(pattern, (route) => {
      held.push(route.request().url());
      return released.then(() => route.continue());
    });
    return { held, release };
  }

  /** Wait until `condition` (in Node, may be async) is true. */
  async until(condition, text, patience = this.patience) {
    for (const start = Date.now(); Date.now() - start < patience;) {
      if (await condition()) return;
      await new Promise((done) => setTimeout(done, 40));
    }
    throw new Error(`did not come true: ${text}`);
  }

  /** Fail the flow with this text unless the condition holds. */
  expect(condition, text) {
    if (!condition) throw new Error(`expected: ${text}`);
  }

  /** Fail unless the page shows this text somewhere, waiting for it. */
  async shows(text) {
    await this.until(async () => (await this.page.innerText("body")).includes(text), `the page shows ${JSON.stringify(text)}`);
  }

  /** Faults whose text matches are expected from here on, such as /status of 400/ of a page that shows an error. */
  allow(pattern) {
    this.faults.allow(pattern);
  }

  /** Fail where axe-core finds a serious or critical fault in what the page shows now. */
  async axe() {
    if (!(await this.page.evaluate(() => "axe" in window))) await this.page.evaluate(source("axe-core/axe.min.js"));
    const faults = await this.page.evaluate(axeFaults, SERIOUS);
    if (faults.length) throw new Error(`axe-core on ${this.page.url()}, ${this.width}:\n${faults.join("\n")}`);
  }

  /** Fail where the page is wider than the window. */
  async fits() {
    const out = await this.page.evaluate(sticksOut);
    if (out.length) throw new Error(`${this.page.url()} is wider than the window (${this.width}):\n${out.join("\n")}`);
  }

  /** Sign in as "owner", "admin", "analyst" or "consumer" in a fresh context; its page becomes `site.page`. */
  async signIn(role, options = {}) {
    await this.fresh(options);
    const { username, password } = this.accounts[role];
    await this.page.goto(this.url("/explorer/sign-in"));
    await this.page.fill("input[name=username]", username);
    await this.page.fill("input[name=password]", password);
    await this.page.press("input[name=password]", "Enter");
    await this.page.waitForURL((url) => !url.pathname.startsWith("/explorer/sign-in"));
    if (options.javaScriptEnabled !== false) await this.settled();
    return this.page;
  }

  /** Ask the server's API as a role: {status, data}. */
  async ask(method, path, { params = {}, body, role = "owner", headers = {} } = {}) {
    const { username, password } = this.accounts[role];
    const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
    const answer = await fetch(this.url(path, { project_id: this.project, ...params }), {
      method,
      headers: { authorization, ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await answer.text();
    try {
      return { status: answer.status, data: JSON.parse(text) };
    } catch {
      return { status: answer.status, data: text };
    }
  }

  /** Send records as an SDK does, to "/engage", "/groups" or "/track"; the verbose answer. */
  async send(path, records) {
    const answer = await fetch(`${this.base}${path}?verbose=1&ip=0`, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(records),
    });
    return answer.json();
  }

  /** A page of another origin with the browser SDK (`window.mixpanel`), which sends to the server at once. */
  async sdk(token = this.token, options = {}) {
    const shop = await website();
    this.websites.push(shop);
    const page = await this.newPage();
    await page.goto(shop.url);
    await page.evaluate(([key, config]) => void window.mixpanel.init(key, config), [
      token, { api_host: this.base, batch_requests: false, ...options },
    ]);
    return page;
  }

  /** A project of the flow's own, for what would disturb others: {id, name, token, secret}. */
  async newProject(name) {
    const { status, data } = await this.ask("POST", "/api/mixdown/projects", { body: { name } });
    this.expect(status === 201, `a project is made (${status}: ${JSON.stringify(data)})`);
    return data.results;
  }

  /** What the clipboard holds. */
  clipboard() {
    return this.page.evaluate(() => navigator.clipboard.readText());
  }

  /** A line for whoever runs the flow: it is printed with the result. */
  tell(line) {
    this.config.tell?.(line);
  }
}
