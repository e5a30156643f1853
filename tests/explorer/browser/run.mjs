/**
 * `node run.mjs FLOW CONFIG`: runs one flow in headless Chromium and prints `{"failures": […], "told": […]}`.
 *
 * FLOW is a module of flows/; CONFIG a JSON file: what tests/explorer/site.py says of the server and of Chromium.
 * A flow exports `default async function (site)`; and `widths`, a list of "desktop" and "phone", where it is to run at
 * other widths than a desktop's alone; the configuration's `slow` and `latency` are those of slowly.mjs. What fails is told with its text, the address, what the page shows and a
 * screenshot in the configuration's folder; the program then ends with status 1.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "./packages.mjs";
import { Site } from "./site.mjs";

const PATIENCE_MS = 800_000; // for all widths together: TIMEOUT_S of __init__.py is a little more

/** The failure as it is printed, with a screenshot of where the flow was. */
async function failure(error, site, name) {
  const page = site.page;
  const found = { text: error.stack || String(error), width: site.width, url: page.url(), shows: "", screenshot: "" };
  const file = join(site.config.folder, `${name}-${site.width}.png`);
  try {
    found.shows = (await page.innerText("body", { timeout: 2000 })).slice(0, 4000);
    await page.screenshot({ path: file, timeout: 5000 });
    found.screenshot = file;
  } catch (late) {
    found.shows += `\n(no screenshot: ${late.message})`;
  }
  return found;
}

/** Run a flow at one width, until a moment at most; the failures. */
async function run(browser, config, flow, name, width, until) {
  const site = await Site.open(browser, config, width);
  let timer;
  const patience = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("the flow did not end in time")), Math.max(0, until - Date.now()));
  });
  try {
    await Promise.race([(async () => {
      if (flow.signedOut !== true) await site.signIn("owner");
      await flow.default(site);
    })(), patience]);
    site.faults.check();
    return [];
  } catch (error) {
    const failures = [await failure(error, site, name)];
    for (const fault of site.faults.taken()) failures.push({ text: fault, width });
    return failures;
  } finally {
    clearTimeout(timer);
    await site.close();
  }
}

async function main([file, configFile]) {
  const config = JSON.parse(readFileSync(configFile, "utf8"));
  const flow = await import(pathToFileURL(file));
  const name = file.replace(/^.*\//, "").replace(/\.mjs$/, "");
  const browser = await chromium(config);
  const failures = [];
  const told = [];
  const until = Date.now() + PATIENCE_MS * (config.slow ?? 1);
  try {
    for (const width of flow.widths ?? ["desktop"]) {
      failures.push(...await run(browser, { ...config, tell: (line) => told.push(line) }, flow, name, width, until));
    }
  } finally {
    await browser.close();
  }
  process.stdout.write(`${JSON.stringify({ failures, told })}\n`);
  process.exitCode = failures.length ? 1 : 0;
}

await main(process.argv.slice(2));
