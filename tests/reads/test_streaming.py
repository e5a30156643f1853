"""Answers that are sent while they are made: whole or visibly broken, bounded, ended with a client."""

from __future__ import annotations

import http.client
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http import streaming
from mixdown.http.read_errors import answering
from mixdown.http.services import EXPORTS_AT_ONCE
from mixdown.http.streaming import streamed, takes_gzip
from mixdown.model.errors import QueryError, StoreError, TooMuchAtOnceError
from mixdown.server.listening import BACKLOG
from mixdown.server.protocol import ConnectionLimits, bounded_protocol
from mixdown.store import patience
from mixdown.store.memory import MemoryStore
from tests.reads.support import World

LIMITS = ConnectionLimits(header_bytes=8192, header_s=9, body_s=9, idle_s=9, connections=50)
PIECE = b"x" * 2000


class Pieces:
    """An iterator that tells how far it was read, and when it was closed."""

    def __init__(self, make: Callable[[], Iterator[bytes]]) -> None:
        self.given = 0
        self.closed = threading.Event()
        self._make = make

    def __call__(self) -> Iterator[bytes]:
        try:
            for piece in self._make():
                self.given += 1
                yield piece
        finally:
            self.closed.set()


class Streams:
    """A server on a socket that sends one after the other what a test hands in."""

    def __init__(self) -> None:
        self.world = World(MemoryStore(), read_timeout_s=1)
        self.pieces = Pieces(lambda: iter(()))
        self.connections: list[http.client.HTTPConnection] = []
        self.replies: list[http.client.HTTPResponse] = []
        app = Starlette(routes=[Route("/", answering(self._answer), methods=["GET"])])
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        protocol: Any = bounded_protocol(LIMITS, app, lambda _: None)
        config = uvicorn.Config(app, http=protocol, log_config=None, lifespan="off", backlog=BACKLOG)
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()
        while not self.server.started:
            time.sleep(0.01)

    async def _answer(self, request: Request) -> Response:
        return await streamed(request, self.world.services, self.pieces(), "text/plain")

    def send(self, make: Callable[[], Iterator[bytes]]) -> Pieces:
        """What the next answers are made of."""
        self.pieces = Pieces(make)
        return self.pieces

    def get(self, **headers: str) -> http.client.HTTPResponse:
        """The head of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        self.connections.append(connection)
        connection.request("GET", "/", headers=headers)
        reply = connection.getresponse()
        self.replies.append(reply)
        return reply

    def leave(self) -> None:
        """Close all connections."""
        for reply in self.replies:
            reply.close()
        for connection in self.connections:
            connection.close()
        self.replies.clear()
        self.connections.clear()

    def close(self) -> None:
        self.server.should_exit = True
        self._thread.join()
        self._socket.close()
        self.world.close()


@pytest.fixture(scope="module")
def streams() -> Iterator[Streams]:
    made = Streams()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def left(streams: Streams) -> Iterator[None]:
    """No connection outlives its test."""
    yield
    streams.leave()


def many(count: int) -> Iterator[bytes]:
    return iter([PIECE] * count)


def test_pieces_come_in_order_and_the_end_is_told(streams: Streams) -> None:
    sent = streams.send(lambda: iter([b"a", b"", b"b" * 3000, b"", b"c"]))
    reply = streams.get()
    assert reply.read() == b"ab" + b"b" * 2999 + b"c"
    assert reply.headers["transfer-encoding"] == "chunked"
    assert reply.headers["cache-control"] == "no-store"
    assert sent.closed.wait(60)


def test_what_is_small_has_a_length_and_is_not_compressed(streams: Streams) -> None:
    for pieces in ([], [b"a"], [b"a" * 700, b"b" * 700]):
        streams.send(lambda pieces=pieces: iter(pieces))  # type: ignore[misc]
        reply = streams.get(**{"Accept-Encoding": "gzip"})
        assert reply.read() == b"".join(pieces)
        assert reply.headers["content-length"] == str(sum(map(len, pieces)))
        assert "content-encoding" not in reply.headers


@pytest.mark.parametrize("count", [1, 40])
def test_what_is_larger_is_compressed_where_it_is_allowed(streams: Streams, count: int) -> None:
    streams.send(lambda: many(count))
    reply = streams.get(**{"Accept-Encoding": "br, gzip"})
    assert reply.headers["content-encoding"] == "gzip"
    assert zlib.decompress(reply.read(), 31) == PIECE * count


def failing(after: int, error: Exception) -> Iterator[bytes]:
    yield from many(after)
    raise error


def test_a_fault_before_the_first_bytes_is_an_error_like_any_other(streams: Streams) -> None:
    for error, status in (
        (QueryError("where, wrong", status=400), 400),
        (StoreError("the disk"), 503),
        (TooMuchAtOnceError("the memory"), 400),
    ):
        sent = streams.send(lambda error=error: failing(0, error))  # type: ignore[misc]
        reply = streams.get()
        assert (reply.status, b'"status":"error"' in reply.read()) == (status, True)
        assert sent.closed.wait(60)


@pytest.mark.parametrize("accepted", ["identity", "gzip"])
def test_a_fault_in_the_middle_breaks_the_connection_without_its_end(streams: Streams, accepted: str) -> None:
    sent = streams.send(lambda: failing(30, StoreError("a file is gone")))
    reply = streams.get(**{"Accept-Encoding": accepted})
    assert reply.status == 200
    with pytest.raises(http.client.IncompleteRead):
        reply.read()
    assert sent.closed.wait(60)
    streams.send(lambda: many(2))
    assert streams.get().read() == PIECE * 2, "and the server goes on"


def test_a_client_that_goes_ends_the_work(streams: Streams) -> None:
    sent = streams.send(lambda: many(10**6))
    reply = streams.get()
    reply.read(10)
    streams.leave()
    assert sent.closed.wait(60)
    assert sent.given < 10**6


def test_a_client_that_takes_nothing_holds_back_the_work_and_is_left_in_the_end(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "STALLED_S", 1.0)
    sent = streams.send(lambda: many(10**6))
    reply = streams.get()
    assert reply.status == 200
    assert sent.closed.wait(60)
    assert sent.given * len(PIECE) < 64 * 1024 * 1024, "what nobody takes is not made"


def endless() -> Iterator[bytes]:
    while True:
        time.sleep(0.005)
        yield b""


def test_a_client_that_goes_before_the_first_bytes_ends_the_work(streams: Streams) -> None:
    sent = streams.send(endless)
    connection = socket.create_connection(("127.0.0.1", streams.port))
    connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.1)
    connection.close()
    assert sent.closed.wait(60)


def slow() -> Iterator[bytes]:
    while True:
        time.sleep(0.01)
        patience.check()
        if patience.remaining_s() is None:
            yield b"no bound"


def test_a_step_takes_no_longer_than_a_read_may(streams: Streams) -> None:
    sent = streams.send(slow)
    reply = streams.get()
    assert reply.status == 503
    assert b"this read took longer than 1 s" in reply.read()
    assert sent.closed.wait(60)


def test_no_more_are_sent_at_a_time_than_there_are_places(streams: Streams) -> None:
    go = threading.Event()

    def waits() -> Iterator[bytes]:
        yield PIECE
        while not go.wait(0.01):
            yield b""

    streams.send(waits)
    held = [streams.get() for _ in range(EXPORTS_AT_ONCE)]
    late = streams.get()
    assert (late.status, b"too many exports" in late.read()) == (503, True)
    assert "retry-after" not in late.headers
    go.set()
    assert [reply.read() for reply in held] == [PIECE] * EXPORTS_AT_ONCE
    assert streams.get().read() == PIECE, "their places are free again"


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [
        ("", False),
        ("identity", False),
        ("gzip", True),
        ("GZIP, br", True),
        ("br;q=1, gzip;q=0.2", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("x-gzip", True),
        ("*", False),
    ],
)
def test_gzip_is_sent_to_whoever_names_it(accepted: str, taken: bool) -> None:
    request = Request({"type": "http", "headers": [(b"accept-encoding", accepted.encode())]})
    assert takes_gzip(request) == taken
