/**
 * Send what Node.js programs address to Mixpanel to a Mixdown server instead, without changing the programs:
 *
 *     MIXDOWN_BASE=http://127.0.0.1:6493 node --require /path/to/mixdown-redirect.js your_program.js
 *
 * or, for programs that start others, NODE_OPTIONS="--require /path/to/mixdown-redirect.js".
 *
 * Every TLS connection to mixpanel.com and its subdomains (api, api-eu, data, ...) is made to MIXDOWN_BASE, whatever
 * sends the request: https, fetch, undici, got, axios. With an http address the "TLS" connection is a plain one, so the
 * server needs no certificate; with an https address that has a certificate of your own, name it in
 * NODE_EXTRA_CA_CERTS. All other connections are left alone, and without MIXDOWN_BASE nothing is changed.
 */
"use strict";

const net = require("node:net");
const tls = require("node:tls");

/** The parts of MIXDOWN_BASE, or an error that says what it should look like. */
function target(base) {
  const parts = URL.canParse(base) ? new URL(base) : null;
  if (!parts || !["http:", "https:"].includes(parts.protocol) || parts.pathname !== "/" || parts.search) {
    throw new Error(`MIXDOWN_BASE must look like http://127.0.0.1:6493, not ${JSON.stringify(base)}`);
  }
  const secure = parts.protocol === "https:";
  const host = parts.hostname.replace(/^\[|\]$/g, ""); // an IPv6 address is written in brackets
  return { secure, host, port: Number(parts.port) || (secure ? 443 : 80) };
}

function isMixpanel(host) {
  return typeof host === "string" && /(^|\.)mixpanel\.com\.?$/i.test(host);
}

/** tls.connect takes (options), (port, host?, options?) or (path, options?), each with a callback at the end. */
function connectOptions(args) {
  const options = Object.assign({}, ...args.filter((argument) => argument && typeof argument === "object"));
  if (typeof args[0] === "number") options.port = args[0];
  if (typeof args[1] === "string") options.host = args[1];
  return options;
}

/** A plain connection that answers the few questions which https, fetch and undici ask of a TLS socket. */
function connectPlainly({ host, port }, callback) {
  const socket = net.connect({ host, port });
  Object.assign(socket, { encrypted: true, authorized: true, alpnProtocol: false, servername: host });
  Object.assign(socket, { isSessionReused: () => false, getSession: () => undefined });
  Object.assign(socket, { getPeerCertificate: () => ({}), getCipher: () => undefined, getProtocol: () => null });
  if (callback) socket.once("secureConnect", callback);
  socket.once("connect", () => socket.emit("secureConnect"));
  return socket;
}

if (process.env.MIXDOWN_BASE) {
  const mixdown = target(process.env.MIXDOWN_BASE);
  const connect = tls.connect;

  tls.connect = function connectToMixdown(...args) {
    const options = connectOptions(args);
    if (!isMixpanel(options.host) && !isMixpanel(options.servername)) return connect.apply(this, args);
    const last = args[args.length - 1];
    const callback = typeof last === "function" ? last : undefined;
    if (!mixdown.secure) return connectPlainly(mixdown, callback);
    // An address of digits may not be asked for by name (RFC 6066), and is checked by itself then.
    const servername = net.isIP(mixdown.host) ? "" : mixdown.host;
    return connect.call(this, { ...options, host: mixdown.host, port: mixdown.port, servername }, callback);
  };
}
