"""The browser SDK in real Chromium, through a proxy that resets its connection: one call counts once.

Chromium sends a POST again by itself when a kept-alive connection is reset before the answer; nobody in the
page hears of it. The proxy does that to the increment, with the request stored and its reply not written.
"""

import base64
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.engine import nothing_appended
from tests.sdk.npm import FLAGS
from tests.sdk.support import run_node
from tests.serving import Server, StartServer

pytestmark = pytest.mark.slow

IN_FLIGHT_S = 0.2
STEPS = [
    ["identify", "again"],
    ["people.set", {"a": 1}],
    ["people.increment", "n", 1],
    ["people.set", {"b": 2}],
]


class ResettingProxy:
    """Passes bytes between Chromium and a server; resets both sides of the first request with an `$add`."""

    def __init__(self, server: Server) -> None:
        address = urlsplit(server.base_url)
        self.server_address = (address.hostname, address.port)
        self.data_dir = server.data_dir
        self.increments: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.turn = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Requests and replies of one connection, in turn."""
        upstream = socket.create_connection(self.server_address)
        with contextlib.suppress(OSError), client, upstream:
            while request := read_message(client):
                if b'"$add"' in decoded(request):
                    with self.turn:
                        self.increments.append(request)
                        first = len(self.increments) == 1
                    if first:
                        self._reset(request, client, upstream)
                        return
                upstream.sendall(request)
                client.sendall(read_message(upstream))

    def _reset(self, request: bytes, client: socket.socket, upstream: socket.socket) -> None:
        """Cut both sides while the server holds the request and has not written its reply."""
        with nothing_appended(self.data_dir):
            upstream.sendall(request)
            time.sleep(IN_FLIGHT_S)
            for sock in (client, upstream):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
            time.sleep(IN_FLIGHT_S)


def read_message(sock: socket.socket) -> bytes:
    """One request or reply with its body; b"" at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    wanted = int(lengths[0].partition(b":")[2]) if lengths else 0
    while len(body) < wanted:
        piece = sock.recv(65536)
        data += piece
        body += piece
    return data


def decoded(request: bytes) -> bytes:
    """The records of a form as the browser SDK sends it."""
    data = unquote(request.partition(b"\r\n\r\n")[2].decode()).removeprefix("data=")
    return base64.b64decode(data + "==") if data else b""


@pytest.fixture
def proxied(start_server: StartServer) -> Iterator[tuple[Server, ResettingProxy]]:
    server = start_server(workers=2)
    proxy = ResettingProxy(server)
    yield server, proxy
    proxy.listener.close()


def test_what_chromium_sends_again_by_itself_counts_once(
    proxied: tuple[Server, ResettingProxy],
    node_environment: Mapping[str, str],
    chromium: str,
    tmp_path: Path,
) -> None:
    server, proxy = proxied
    task = {
        "chromium": chromium,
        "flags": FLAGS,
        "token": server.token,
        "apiHost": proxy.url,
        "paths": ["/engage/", "/groups/"],
        "visits": [{"config": {"batch_requests": False}, "steps": STEPS}],
    }
    [visit] = run_node(tmp_path, "browser_sdk.js", task, environment=node_environment)
    assert visit["answers"] == [None, 1, 1, 1]
    assert len(proxy.increments) > 1, "Chromium did not send it again: the test has shown nothing"
    assert len({request.partition(b"\r\n")[0] for request in proxy.increments}) == 1
    assert len({request.partition(b"\r\n\r\n")[2] for request in proxy.increments}) == 1
    profile = server.profiles()["again"]
    assert (profile["a"], profile["n"], profile["b"]) == (1, 1, 2)
