"""A proxy that does what Mixpanel's front does.

It turns requests away with 429 and `Retry-After`, fails, cuts connections and answers.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from tests.serving import Server


class Front(ThreadingHTTPServer):
    """Passes requests on to `address`; each number in `trouble` is done to one request first, in order.

    429 comes with `retry_after`, 0 cuts the connection. `damage` is done to each answer. `seen` are the
    forms or queries of the requests that were passed on, `times` when each request came.
    """

    daemon_threads = True

    def __init__(self, address: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.target = urlsplit(address).netloc
        self.trouble: list[int] = []
        self.retry_after = "1"
        self.seen: list[dict[str, str]] = []
        self.times: list[float] = []
        self.paths: list[str] = []
        self.damage: Callable[[bytes], bytes] = bytes

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Passing(BaseHTTPRequestHandler):
    server: Front
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Do what the trouble says, or pass the request on."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._pass("POST", body, body.decode())

    def do_GET(self) -> None:
        """Likewise."""
        self._pass("GET", None, urlsplit(self.path).query)

    def _pass(self, method: str, body: bytes | None, form: str) -> None:
        self.server.times.append(time.monotonic())
        trouble = self.server.trouble.pop(0) if self.server.trouble else 200
        if trouble == 0:
            self.close_connection = True
            return
        if trouble != 200:
            headers = {"Retry-After": self.server.retry_after} if trouble == 429 else {}
            self._answer(trouble, b'{"error": "Query rate limit exceeded for project_id: 1"}', headers)
            return
        self.server.seen.append({name: values[0] for name, values in parse_qs(form).items()})
        self.server.paths.append(self.path)
        connection = http.client.HTTPConnection(self.server.target, timeout=120)
        names = ("Authorization", "Content-Type", "Accept")
        passed = {name: self.headers[name] for name in names if name in self.headers}
        connection.request(method, self.path, body, passed)
        reply = connection.getresponse()
        self._answer(reply.status, self.server.damage(reply.read()), {})
        connection.close()

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def fronting(server: Server) -> Iterator[Front]:
    """A front before a server that plays Mixpanel, as long as the block lasts."""
    front = Front(server.base_url)
    thread = threading.Thread(target=front.serve_forever, daemon=True)
    thread.start()
    try:
        yield front
    finally:
        front.shutdown()
        front.server_close()
        thread.join()
