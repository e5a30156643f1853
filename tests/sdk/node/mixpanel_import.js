/**
 * Runs mixpanel-import jobs one after the other: [{credentials, data, options}, ...]; the result holds, for each, its
 * counts, its errors and what it read.
 */
"use strict";

const mixpanelImport = require("mixpanel-import");
const { fail, finish, readTask } = require("./revive.js");

async function run({ credentials, data, options }) {
  const { success, failed, total, requests, errors, dryRun, responses } = await mixpanelImport(credentials, data, options);
  return { success, failed, total, requests, errors, read: dryRun, responses };
}

async function main(jobs) {
  const results = [];
  for (const job of jobs) results.push(await run(job));
  return results;
}

main(readTask()).then(finish, fail);
