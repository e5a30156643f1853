"""As much of S3 as files of events take, over HTTP on this machine: objects are put, read by ranges, deleted.

It looks at no signature. What a real store does beyond is tried where `MIXDOWN_TEST_S3_URL` names a bucket.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

_RANGE: Final = re.compile(r"bytes=(\d+)-(\d+)")
_MISSING: Final = b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code><Message>none</Message></Error>"


class Objects(ThreadingHTTPServer):
    """The objects of all buckets, by path; `asked` notes each request as (method, path, range)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.held: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.failing = False

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def environment(self) -> dict[str, str]:
        """The variables that say so to whoever is to use it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "eu-central-1",
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Objects

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the library
        """Say nothing."""

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _begin(self) -> tuple[str, bytes]:
        path = self.path.partition("?")[0]
        self.server.asked.append((self.command, path, self.headers.get("Range", "")))
        return path, self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def do_PUT(self) -> None:
        path, body = self._begin()
        if self.server.failing:
            self._answer(403)
            return
        self.server.held[path] = body
        self._answer(200, ETag='"1"')

    def do_DELETE(self) -> None:
        path, _ = self._begin()
        self.server.held.pop(path, None)
        self._answer(204)

    def do_POST(self) -> None:
        path, body = self._begin()
        names = re.findall(rb"<Key>([^<]*)</Key>", body)
        for name in names:
            self.server.held.pop(f"{path.rstrip('/')}/{name.decode()}", None)
        deleted = b"".join(b"<Deleted><Key>%b</Key></Deleted>" % name for name in names)
        self._answer(200, b"<?xml version='1.0'?><DeleteResult>%b</DeleteResult>" % deleted)

    def do_HEAD(self) -> None:
        self._get()

    def do_GET(self) -> None:
        self._get()

    def _get(self) -> None:
        path, _ = self._begin()
        held = self.server.held.get(path)
        if held is None:
            self._answer(404, _MISSING)
            return
        common = {"ETag": '"1"', "Last_Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        if asked is None:
            self._answer(200, held, Content_Length=str(len(held)), **common)
            return
        begin, end = int(asked[1]), min(int(asked[2]) + 1, len(held))
        self._answer(206, held[begin:end], Content_Range=f"bytes {begin}-{end - 1}/{len(held)}", **common)


@contextmanager
def object_store() -> Iterator[Objects]:
    """A running one."""
    server = Objects()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
