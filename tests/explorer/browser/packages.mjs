/** The packages of tests/sdk/node, which installs them for all tests that need Node: Chromium's driver and axe-core. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const require = createRequire(fileURLToPath(new URL("../../sdk/node/package.json", import.meta.url)));

/** The source text of a file of a package, to be run in a page. */
export function source(path) {
  return readFileSync(require.resolve(path), "utf8");
}

/** Start Chromium: the configuration's `chromium` (its path) and `flags`. */
export function chromium({ chromium: executablePath, flags }) {
  return require("playwright-core").chromium.launch({ executablePath, args: flags });
}
