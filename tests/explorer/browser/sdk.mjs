/** A website of its own origin that has the browser SDK, unmodified, from npm. */
import http from "node:http";
import { source } from "./packages.mjs";

const PAGE = "<!doctype html><html lang=en><title>A shop</title><h1>A shop</h1><script src=/mixpanel.js></script>";

/** Start the website; {url, close}. */
export async function website() {
  const sdk = source("mixpanel-browser/dist/mixpanel.umd.js");
  const server = http.createServer((request, response) => {
    const script = request.url === "/mixpanel.js";
    const known = script || request.url === "/";
    response.writeHead(known ? 200 : 204, { "Content-Type": script ? "text/javascript" : "text/html" });
    response.end(known ? (script ? sdk : PAGE) : undefined);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return { url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}
