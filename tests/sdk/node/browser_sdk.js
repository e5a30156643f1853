/**
 * Drives the browser SDK in headless Chromium: {chromium, flags, token, apiHost, paths, visits: [{config, steps}]}.
 *
 * Every visit is a browser context of its own (own localStorage and cookies), and all run at the same time.
 * A step is ["people.set", ...arguments], ["group", key, id, "set", ...arguments], ["identify", id], ["reload", more]
 * (the page is opened again, with more settings), ["leave"] (the page is left, as for another site) or ["requests", n]
 * (n requests to one of `paths` have been answered).
 * Steps wait for each other: a call with a callback is over when the callback came, so that the SDK's queue cannot
 * change their order. The result holds, for each visit, what the callbacks got and which requests Chromium sent.
 */
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const { chromium } = require("playwright-core");
const { fail, finish, readTask } = require("./revive.js");

const SDK = fs.readFileSync(require.resolve("mixpanel-browser/dist/mixpanel.umd.js"));
const PAGE = "<!doctype html><title>A page</title><body><script src=/mixpanel.js></script>";
const PATIENCE_MS = 90_000;
const LEAVING_MS = 2_000;
const QUEUES = { "/engage/": "pp", "/groups/": "gr", "/track/": "ev" };
const WITHOUT_CALLBACK = ["identify", "people.delete_user", "people.track_charge", "alias", "register", "reset", "time_event"];

/** The website that the SDK is part of, on an origin other than the server's. */
function servePage() {
  const site = http.createServer((request, response) => {
    const script = request.url === "/mixpanel.js";
    response.writeHead(200, { "Content-Type": script ? "text/javascript" : "text/html" });
    response.end(script ? SDK : PAGE);
  });
  return new Promise((resolve) => site.listen(0, "127.0.0.1", () => resolve(site)));
}

/** Runs in the page: call one function of the SDK; resolves to what its callback gets. */
function callInPage([name, args, hasCallback]) {
  const path = name.split(".");
  let owner = window.mixpanel;
  if (path[0] === "group") owner = owner.get_group(args.shift(), args.shift());
  else if (path.length === 2) owner = owner[path[0]];
  const method = path[path.length - 1];
  return new Promise((resolve) => {
    if (hasCallback) {
      owner[method](...args, resolve);
      return;
    }
    owner[method](...args);
    if (method !== "delete_user" || !window.mixpanel.get_config("batch_requests")) {
      resolve(null);
      return;
    }
    const queue = `__mpq_${window.mixpanel.get_config("token")}_pp`;
    const poll = setInterval(() => {
      if ((localStorage.getItem(queue) || "").includes("$delete")) resolve(clearInterval(poll) || null);
    }, 20);
  });
}

/** Runs in the page: whether these queues of the SDK are empty. */
function queuesAreEmpty(queues) {
  const token = window.mixpanel.get_config("token");
  return queues.every((queue) => JSON.parse(localStorage.getItem(`__mpq_${token}_${queue}`) || "[]").length === 0);
}

async function until(condition, what) {
  for (const start = Date.now(); !(await condition()); await new Promise((go) => setTimeout(go, 25))) {
    if (Date.now() - start > PATIENCE_MS) throw new Error(`gave up waiting for ${what}`);
  }
}

/** Keep the requests to some paths that a context sends; the status of each comes when it has been answered. */
function recordRequests(context, paths) {
  const records = new Map();
  context.on("request", (request) => {
    const { pathname, search } = new URL(request.url());
    if (!paths.includes(pathname)) return;
    records.set(request, { method: request.method(), pathname, search, body: request.postData(), status: null });
  });
  context.on("requestfailed", (request) => records.delete(request));
  context.on("requestfinished", async (request) => {
    const record = records.get(request);
    if (!record) return;
    record.type = (await request.allHeaders())["content-type"] || null;
    record.status = (await request.response()).status();
  });
  return records;
}

async function visit(browser, site, { token, apiHost, paths }, { config, steps }) {
  const context = await browser.newContext();
  context.setDefaultNavigationTimeout(2 * PATIENCE_MS); // a page of this machine, which may be busy
  const records = recordRequests(context, paths);
  const answered = () => [...records.values()].filter((record) => record.status !== null).length;
  const page = await context.newPage();
  const open = async (more = {}) => {
    await page.goto(`http://127.0.0.1:${site.address().port}/`);
    await page.evaluate(([key, options]) => void window.mixpanel.init(key, options), [
      config.token || token,
      { api_host: apiHost, ...config, ...more },
    ]);
  };
  await open();
  const answers = [];
  let left = false;
  for (const [name, ...args] of steps) {
    if (name === "reload") await open(args[0]);
    else if (name === "leave") {
      await page.goto("about:blank");
      await new Promise((go) => setTimeout(go, LEAVING_MS)); // what a page sends as it goes is told to nobody here
      left = true;
    }
    else if (name === "requests") await until(() => answered() >= args[0], `${args[0]} requests`);
    else if (name === "group") {
      const [key, id, method, ...rest] = args;
      answers.push(await page.evaluate(callInPage, [`group.${method}`, [key, id, ...rest], true]));
    } else answers.push(await page.evaluate(callInPage, [name, args, !config.img && !WITHOUT_CALLBACK.includes(name)]));
  }
  if (!left) await until(() => page.evaluate(queuesAreEmpty, paths.map((path) => QUEUES[path])), "the SDK's queues to be sent");
  if (!left) await until(() => answered() === records.size, "the answers to all requests");
  await context.close();
  return { answers, requests: [...records.values()] };
}

async function main(task) {
  const site = await servePage();
  const browser = await chromium.launch({ executablePath: task.chromium, args: task.flags });
  try {
    return await Promise.all(task.visits.map((one) => visit(browser, site, task, one)));
  } finally {
    await browser.close();
    site.close();
  }
}

main(readTask()).then(finish, fail);
