"""Broken HTTP on raw sockets: requests that are wrong, long, late or many, made from a seeded generator.

A `Random` enters; bytes to send leave, several requests on one connection among them. `send_all` sends them,
reads what comes, and never waits longer than a moment.
"""

from __future__ import annotations

import contextlib
import socket
import time
import zlib
from random import Random
from urllib.parse import urlsplit

from tests.hostile.mutation import Mutator

METHODS = (b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE", b"PRI", b"get", b"G\0T", b"")
PATHS = (
    *(b"/engage", b"/groups/", b"//engage", b"/engage/../groups", b"/%65ngage", b"/engage%2f", b"/engage%00"),
    *(b"/track", b"/record", b"/flags/x/first-time-events", b"/flags/%2e%2e/first-time-events", b"/decide"),
    *(b"/api/query/engage", b"/api/2.0/engage/", b"/api/mixdown/status", b"/api/mixdown/refusals/resend"),
    *(b"/", b"/docs", b"/openapi.json", b"/livez", b"/metrics", b"/static/..%2fpage.py"),
    *(
        b"/static/%2e%2e%2fpage.py",
        b"/explorer/sign-in",
        b"/explorer/sign-out",
        b"*",
        b"http://x/engage",
    ),
    *(
        b"/" + b"a" * 3000,
        b"/\xff\xfe",
        b"/engage?data=%5B%7B",
        b"/engage?" + b"a=b&" * 500,
        b"?",
        b"/a b",
        b"/\\..\\",
    ),
)
HEADERS = (
    *(
        b"Host: x",
        b"Host: [",
        b"Host: a\0b",
        b"Origin: http://[",
        b"Origin: a\x0bb",
        b"Origin: http://a\r\n folded",
    ),
    *(
        b"Content-Type: application/json",
        b"Content-Type: multipart/form-data; boundary=",
        b"Expect: 100-continue",
    ),
    *(
        b"Content-Encoding: gzip",
        b"Content-Encoding: deflate",
        b"Accept: text/html",
        b"Cookie: mixdown_explorer=v1.a.b",
    ),
    *(b"Cookie: mixdown_explorer=v1.\xff.9.x.y", b"Authorization: Basic \xff", b"Authorization: Basic dTpw"),
    *(b"Authorization: basic " + b"A" * 5000, b"X-Forwarded-For: a,b,,[", b"Idempotency-Key: " + b"k" * 300),
    *(
        b"X-Mixdown-Wait: 99999999999999",
        b"X-Mixdown-Wait: -1",
        b"Upgrade: h2c",
        b"Connection: Upgrade",
        b"Connection: close",
    ),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity, chunked", b"Transfer-Encoding: xchunked"),
    *(
        b"Content-Length: 5",
        b"Content-Length: -1",
        b"Content-Length: 99999999999999999999",
        b"Content-Length: 1e3",
    ),
    *(
        b"Sec-Fetch-Site: cross-site",
        b": empty",
        b"no colon",
        b"Bad Name: x",
        b"Nul\0: x",
        b"Long: " + b"x" * 70_000,
    ),
    *(
        b"A: b\nInjected: yes",
        b"A: b\rInjected: yes",
        b"X: \x01\x02",
        b"Access-Control-Request-Headers: a\x7f",
    ),
)


class WireFuzzer:
    """Makes what is sent on one connection."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.mutator = Mutator()
        self.mutator.random = self.random

    def connection(self) -> tuple[bytes, int]:
        """What to send, and how many requests it holds."""
        count = 1 + int(self.random.random() ** 3 * 12)
        return b"".join(self.request() for _ in range(count)), count

    def request(self) -> bytes:
        """One request, wrong in most cases."""
        chance = self.random.random
        if chance() < 0.3:
            return self._write()
        method = self.random.choice(METHODS)
        version = (
            b"HTTP/1.1"
            if chance() < 0.95
            else self.random.choice((b"HTTP/1.0", b"HTTP/9.9", b"", b"HTTP/1.1 x"))
        )
        lines = [b"%b %b %b" % (method, self.random.choice(PATHS), version)]
        lines += [self.random.choice(HEADERS) for _ in range(int(chance() ** 2 * 6))]
        body = self.mutator.record() if chance() < 0.4 else b""
        if chance() < 0.7:
            lines.append(
                b"Content-Length: %d" % max(0, len(body) + self.random.choice((0, 0, 0, -1, 1, 1000)))
            )
        elif chance() < 0.5:
            lines.append(b"Transfer-Encoding: chunked")
            body = self._chunked(body)
        text = b"\r\n".join(lines) + b"\r\n\r\n" + body
        return self.mutator.broken(text) if chance() < 0.3 else text

    def _write(self) -> bytes:
        """A well-formed request around a made-up body; now and then a small bomb."""
        sent = self.mutator.request()
        body = sent.body
        encoding = sent.content_encoding
        if self.random.random() < 0.01:
            squeezed = zlib.compressobj(9, zlib.DEFLATED, 31)
            body, encoding = squeezed.compress(bytes(12_000_000)) + squeezed.flush(), b"gzip"
        path = self.random.choice((b"/engage", b"/groups"))
        clean = [
            value.replace(b"\n", b"").replace(b"\r", b"")
            for value in (sent.query, sent.content_type, encoding)
        ]
        return (
            b"POST %b?%b HTTP/1.1\r\nHost: x\r\n"
            b"Content-Type: %b\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n"
            % (path, clean[0].replace(b" ", b"+"), clean[1], clean[2], len(body))
        ) + body

    def _chunked(self, body: bytes) -> bytes:
        size = self.random.choice((len(body), len(body), len(body) + 5, 0, -1, 2**64))
        written = b"%x" % size if size >= 0 else b"zz"
        end = self.random.choice(
            (b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"", b"0\n\n", b"-0\r\n\r\n")
        )
        return b"%b\r\n%b\r\n%b" % (written, body, end)


def send_all(base_url: str, text: bytes, *, pieces: int = 1, patience_s: float = 2.0) -> tuple[bytes, bool]:
    """Send a text, read until the server closes or nothing more comes; and whether it answered in time."""
    address = urlsplit(base_url)
    received = b""
    began = time.monotonic()
    with socket.create_connection((address.hostname or "", address.port or 80), timeout=60) as wire:
        with contextlib.suppress(OSError):
            step = max(1, -(-len(text) // pieces))
            for start in range(0, len(text), step):
                wire.sendall(text[start : start + step])
            wire.shutdown(socket.SHUT_WR)  # whatever waits for more sees that none will come
        with contextlib.suppress(OSError):
            wire.settimeout(patience_s)
            while piece := wire.recv(1 << 16):
                received += piece
            return received, True
    return received, time.monotonic() - began < patience_s


def statuses(received: bytes) -> list[int]:
    """The status of each answer."""
    return [int(piece[:3]) for piece in received.split(b"HTTP/1.1 ")[1:] if piece[:3].isdigit()]
