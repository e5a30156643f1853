/**
 * What must never happen while a flow runs, collected from every page of a browser context: errors in the console,
 * violations of the content security policy, uncaught exceptions, dialogs, responses of 500 and above, scripts of
 * clients that ran (they call `__ran`).
 */

/** Runs in each page before its own scripts: tell violations of the policy. */
function watch() {
  document.addEventListener("securitypolicyviolation", (event) => {
    window.__fault(`policy: ${event.effectiveDirective} forbids ${event.blockedURI} (${event.sourceFile || "page"}:${event.lineNumber})`);
  });
}

export class Faults {
  #found = [];
  #allowed = [];

  /** Watch all pages of a context, those that it opens later too. */
  async watch(context) {
    await context.exposeBinding("__fault", ({ page }, text) => this.#add(text, page));
    await context.exposeBinding("__ran", ({ page }, what) => this.#add(`a client's script ran: ${what}`, page));
    await context.addInitScript(watch);
    context.on("page", (page) => this.#page(page));
  }

  /** From here on, faults whose text matches are expected. */
  allow(pattern) {
    this.#allowed.push(pattern);
  }

  /** The faults so far, which are forgotten. */
  taken() {
    return this.#found.splice(0);
  }

  /** Raise the faults so far, if there are any. */
  check() {
    const found = this.taken();
    if (found.length) throw new Error(`faults of the pages:\n${[...new Set(found)].join("\n")}`);
  }

  #page(page) {
    page.on("console", (message) => {
      if (message.type() !== "error") return;
      this.#add(`console: ${message.text()} (${message.location().url})`, page);
    });
    page.on("pageerror", (error) => this.#add(`uncaught: ${error.stack || error}`, page));
    page.on("crash", () => this.#add("the page crashed", page));
    page.on("dialog", (dialog) => {
      this.#add(`dialog: ${dialog.type()} ${dialog.message()}`, page);
      dialog.dismiss().catch(() => {});
    });
    page.on("response", (response) => {
      if (response.status() >= 500) this.#add(`status ${response.status()} of ${response.url()}`, page);
    });
  }

  #add(text, page) {
    if (this.#allowed.some((pattern) => pattern.test(text))) return;
    this.#found.push(`${text}\n    on ${page?.url() ?? "a page"}`);
  }
}
