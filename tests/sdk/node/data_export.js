/**
 * Calls mixpanel-data-export as the task says: {secret, calls: [[method, parameters], ...]}, one after the other.
 * The result holds what each call gave: the answer, parsed by the library.
 */
"use strict";

const MixpanelExport = require("mixpanel-data-export");
const { fail, finish, readTask } = require("./revive.js");

async function main({ secret, calls }) {
  const panel = new MixpanelExport({ api_key: "not looked at", api_secret: secret });
  const answers = [];
  for (const [method, parameters] of calls) answers.push(await panel[method](parameters));
  return answers;
}

main(readTask()).then(finish, fail);
