/**
 * Stands for a name server and a port: mixpanel.com and its hosts are MIXDOWN_TEST_PORT of this machine. The name in
 * the handshake and the check of the certificate stay as they are.
 */
"use strict";

const tls = require("node:tls");

const connect = tls.connect;

tls.connect = function (...args) {
  const [options] = args;
  if (options && typeof options === "object" && /(^|\.)mixpanel\.com$/.test(options.host || "")) {
    const servername = options.servername || options.host;
    const port = Number(process.env.MIXDOWN_TEST_PORT);
    args[0] = { ...options, host: "127.0.0.1", port, servername };
  }
  return connect.apply(this, args);
};
