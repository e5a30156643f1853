/**
 * `node pages.mjs CONFIG`: how quickly pages of the explorer are there and shown, in headless Chromium.
 *
 * CONFIG is a JSON file: {url, project, people, account, chromium, flags, rounds, live}. Without `live` it prints, for
 * each page, first byte and time until all is shown (every part in, charts drawn), cold and warm, and the bytes of a
 * first visit. With `live`, a number of seconds, it opens the live view, prints "ready", and then what it saw of the
 * frames of that many seconds. The last line is JSON.
 */
import { readFileSync } from "node:fs";
import { chromium } from "../tests/explorer/browser/packages.mjs";
import { pages } from "../tests/explorer/browser/pages.mjs";
import { pending } from "../tests/explorer/browser/pending.mjs";

const STILL_MS = 200;
const SHOWN_LIMIT_MS = 60_000;

/** Runs in each page before its scripts: note the first moment from which nothing was waited for. */
const NOTE = `(() => {
  const pending = ${pending};
  let since = 0;
  const look = () => {
    if (pending()) since = 0;
    else if (!since) since = performance.now();
    else if (performance.now() - since > ${STILL_MS}) { window.__shown = since; return; }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})()`;

/** Runs in the live view: frames for so long; resolves to their gaps in ms, and to tasks that took over 50 ms. */
function frames(seconds) {
  return new Promise((done) => {
    const gaps = [];
    const tasks = [];
    new PerformanceObserver((list) => tasks.push(...list.getEntries().map((one) => one.duration))).observe({ type: "longtask" });
    const began = performance.now();
    let last = began;
    const frame = (now) => {
      gaps.push(now - last);
      last = now;
      if (now - began < seconds * 1000) requestAnimationFrame(frame);
      else done({ gaps: gaps.slice(1), tasks, elapsed: now - began, shows: document.querySelector("main").innerText.slice(0, 600) });
    };
    requestAnimationFrame(frame);
  });
}

const address = ({ url, project }, path, params) =>
  `${url}${path.startsWith("/") ? path : `/explorer/${project}${path ? `/${path}` : ""}`}?${new URLSearchParams(params)}`;

/** Sign in; the cookies for other contexts. */
async function signIn(browser, config) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${config.url}/explorer/sign-in`);
  await page.fill("input[name=username]", config.account[0]);
  await page.fill("input[name=password]", config.account[1]);
  await page.press("input[name=password]", "Enter");
  await page.waitForURL((url) => !url.pathname.startsWith("/explorer/sign-in"));
  const state = await context.storageState();
  await context.close();
  return state;
}

/** Visit once; {first_byte_ms, shown_ms, bytes, requests}. */
async function visit(page, target) {
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  let bytes = 0;
  let requests = 0;
  session.on("Network.loadingFinished", ({ encodedDataLength }) => { bytes += encodedDataLength; requests += 1; });
  const response = await page.goto(target, { waitUntil: "commit" });
  if (response.status() !== 200) throw new Error(`${target} answers ${response.status()}`);
  await page.waitForFunction(() => window.__shown, undefined, { timeout: SHOWN_LIMIT_MS, polling: 50 });
  const found = await page.evaluate(() => {
    const [navigation] = performance.getEntriesByType("navigation");
    return { first_byte_ms: navigation.responseStart - navigation.requestStart, shown_ms: window.__shown };
  });
  await session.detach();
  return { ...found, bytes, requests };
}

const middle = (numbers) => [...numbers].sort((one, other) => one - other)[Math.floor(numbers.length / 2)];
const round = (number) => Math.round(number * 10) / 10;

/** A page: cold once (no cache), then warm as many rounds as asked. */
async function measure(browser, config, state, [name, path, params]) {
  const context = await browser.newContext({ storageState: state, viewport: { width: 1280, height: 800 } });
  await context.addInitScript(NOTE);
  const page = await context.newPage();
  const target = address(config, path, params);
  const cold = await visit(page, target);
  const warm = [];
  for (let at = 0; at < config.rounds; at += 1) warm.push(await visit(page, target));
  await context.close();
  return {
    name,
    cold: { first_byte_ms: round(cold.first_byte_ms), shown_ms: round(cold.shown_ms), bytes: cold.bytes, requests: cold.requests },
    first_byte_ms: round(middle(warm.map((one) => one.first_byte_ms))),
    first_byte_max_ms: round(Math.max(...warm.map((one) => one.first_byte_ms))),
    shown_ms: round(middle(warm.map((one) => one.shown_ms))),
    shown_max_ms: round(Math.max(...warm.map((one) => one.shown_ms))),
    bytes: warm.at(-1).bytes,
  };
}

/** The live view while records come in. */
async function live(browser, config, state) {
  const context = await browser.newContext({ storageState: state, viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  const response = await page.goto(address(config, "live", {}));
  if (response.status() !== 200) throw new Error(`the live view answers ${response.status()}`);
  await page.waitForTimeout(1000);
  process.stdout.write("ready\n");
  await page.waitForTimeout(2000); // the load begins
  const { gaps, tasks, elapsed, shows } = await page.evaluate(frames, config.live);
  await context.close();
  const ordered = [...gaps].sort((one, other) => one - other);
  return {
    frames_s: round((gaps.length / elapsed) * 1000), gap_p50_ms: round(middle(gaps)), gap_p99_ms: round(ordered[Math.floor(ordered.length * 0.99)]),
    gap_max_ms: round(ordered.at(-1)), late_frames: gaps.filter((gap) => gap > 25).length, long_tasks: tasks.length, shows,
  };
}

const config = JSON.parse(readFileSync(process.argv[2], "utf8"));
const browser = await chromium(config);
try {
  const state = await signIn(browser, config);
  if (config.live) process.stdout.write(`${JSON.stringify(await live(browser, config, state))}\n`);
  else {
    const found = [];
    for (const page of pages(config.people)) found.push(await measure(browser, config, state, page));
    process.stdout.write(`${JSON.stringify(found)}\n`);
  }
} finally {
  await browser.close();
}
