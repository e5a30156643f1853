/**
 * Calls the Node SDK as the task says: {token, config, calls: [["people.set", ...arguments], ["track", ...], ...], atOnce}.
 * Each call is given a callback; the result is what the callbacks got, null for success, else the error's text.
 * Calls wait for each other unless `atOnce`.
 */
"use strict";

const Mixpanel = require("mixpanel");
const { fail, finish, readTask } = require("./revive.js");

function call(client, [name, ...args]) {
  const method = name.split(".").pop();
  const owner = name === method ? client : client[name.split(".")[0]];
  const told = (error) => resolveError(error);
  return new Promise((resolve) => owner[method](...args, (error) => resolve(told(error))));
}

/** The text of an error, or of the first of several; null for none. */
function resolveError(error) {
  const first = Array.isArray(error) ? error.find(Boolean) : error;
  return first ? first.message : null;
}

async function main({ token, config, calls, atOnce }) {
  const client = Mixpanel.init(token, config);
  if (atOnce) return Promise.all(calls.map((one) => call(client, one)));
  const outcomes = [];
  for (const one of calls) outcomes.push(await call(client, one));
  return outcomes;
}

main(readTask()).then(finish, fail);
