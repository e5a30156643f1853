/** Shared by the programs: the task from stdin (with {"$date": …} as a Date), and the result on stdout. */
"use strict";

const fs = require("node:fs");

/** A value of the task as the program passes it on: {"$date": "2026-01-02T03:04:05Z"} becomes a Date. */
function revive(key, value) {
  return value && typeof value === "object" && "$date" in value ? new Date(value.$date) : value;
}

exports.readTask = () => JSON.parse(fs.readFileSync(0, "utf8"), revive);

/** Print the result as the last line, and end the program even if the SDK holds connections open. */
exports.finish = (result) => process.stdout.write(`\n${JSON.stringify(result)}\n`, () => process.exit(0));

exports.fail = (error) => {
  process.stderr.write(`${error.stack || error}\n`, () => process.exit(1));
};
