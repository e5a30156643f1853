"""The load generator: one thread on epoll, prepared bytes out, every reply checked, its own CPU time told.

It sits beside the server on the same cores, so it does as little as it can for a request: one send, one
receive, one look at the clock. A *closed* load has each connection send as soon as it has its reply; a
*paced* one sends at a rate, and reckons a request's time from when it was due, so that a server which stalls
does not thereby spare itself the requests that it held up.
"""

from __future__ import annotations

import gc
import select
import socket
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from bench.records import Pool

RECEIVE_BYTES: Final = 65_536
SEND_BUFFER_BYTES: Final = 1 << 20
STALL_LIMIT_S: Final = 60.0


class LoadError(RuntimeError):
    """The server did not answer 1, or not at all."""


@dataclass
class Load:
    """What one run of the generator saw. Times in seconds."""

    requests: int = 0
    records: int = 0
    elapsed_s: float = 0.0
    cpu_s: float = 0.0
    latencies_s: array[float] = field(default_factory=lambda: array("d"))

    def figures(self) -> dict[str, float]:
        """Rates and percentiles, as the results hold them."""
        ordered = sorted(self.latencies_s)
        return {
            "requests_s": round(self.requests / self.elapsed_s, 1),
            "records_s": round(self.records / self.elapsed_s),
            **waits_ms(ordered),
            "generator_cpu": round(self.cpu_s / self.elapsed_s, 2),
        }


def waits_ms(ordered_s: list[float]) -> dict[str, float]:
    """p50, p99 and the longest of some times in seconds, in ascending order."""
    return {
        "p50_ms": percentile_ms(ordered_s, 50),
        "p99_ms": percentile_ms(ordered_s, 99),
        "max_ms": percentile_ms(ordered_s, 100),
    }


def percentile_ms(ordered_s: list[float], percent: float) -> float:
    """A percentile of sorted times in seconds, in milliseconds."""
    if not ordered_s:
        return 0.0
    at = min(len(ordered_s) - 1, int(len(ordered_s) * percent / 100))
    return round(1000 * ordered_s[at], 2)


class _Connection:
    """One keep-alive connection: what is still to send, what has come, and since when."""

    __slots__ = ("began", "reply", "rest", "sock", "writing")

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.sock.setblocking(False)
        self.rest: memoryview[int] | None = None
        self.writing = False
        self.reply = b""
        self.began = 0.0


class _Generator:
    def __init__(self, port: int, pool: Pool, connections: int) -> None:
        self._pool = pool
        self._good = b"\r\n\r\n" + pool.good
        self._load = Load()
        self._epoll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        for _ in range(connections):
            connection = _Connection(port)
            self._connections[connection.sock.fileno()] = connection
            self._epoll.register(connection.sock.fileno(), select.EPOLLIN)

    def close(self) -> None:
        for connection in self._connections.values():
            connection.sock.close()
        self._epoll.close()

    def closed(self, seconds: float, requests: int) -> None:
        """As fast as replies come: for `seconds`, or so many requests in all where `seconds` is 0."""
        clock = time.perf_counter
        left = requests if not seconds else 1 << 60
        deadline = clock() + seconds if seconds else float("inf")
        busy = 0
        for connection in self._connections.values():
            if left:
                self._begin(connection, self._pool.next(), clock())
                left -= 1
                busy += 1
        while busy:
            for connection in self._replied():
                now = clock()
                self._load.latencies_s.append(now - connection.began)
                if left and now < deadline:
                    data = self._pool.next()
                    self._begin(connection, data, clock())
                    left -= 1
                else:
                    busy -= 1

    def paced(self, seconds: float, records_s: float, stop: Callable[[], bool]) -> None:
        """At `records_s`, for `seconds` or until `stop`; late requests wait for a free connection."""
        clock = time.perf_counter
        gap = self._pool.size / records_s
        free = deque(self._connections.values())
        due = clock()
        deadline = due + seconds
        busy = 0
        while due < deadline and not stop():
            now = clock()
            while free and due <= now:
                self._begin(free.popleft(), self._pool.next(), due)
                due += gap
                busy += 1
            for connection in self._replied(max(0.0, due - now) if free else 1.0):
                self._load.latencies_s.append(clock() - connection.began)
                free.append(connection)
                busy -= 1
        while busy:
            for connection in self._replied():
                self._load.latencies_s.append(clock() - connection.began)
                busy -= 1

    def _begin(self, connection: _Connection, data: bytes, at: float) -> None:
        connection.began = at
        connection.reply = b""
        try:
            sent = connection.sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            connection.rest = memoryview(data)[sent:]
            connection.writing = True
            self._epoll.modify(connection.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _replied(self, timeout_s: float = STALL_LIMIT_S) -> list[_Connection]:
        """Wait for events; the connections whose reply is whole."""
        events = self._epoll.poll(timeout_s)
        if not events and timeout_s == STALL_LIMIT_S:
            raise LoadError(f"the server has not answered for {STALL_LIMIT_S:g} s")
        replied = []
        for fd, event in events:
            connection = self._connections[fd]
            if connection.writing and event & select.EPOLLOUT:
                self._write_on(connection)
            if event & ~select.EPOLLOUT:
                try:
                    data = connection.sock.recv(RECEIVE_BYTES)
                except ConnectionError as error:
                    raise LoadError(f"the server cut a connection: {error}") from error
                if connection.reply:
                    data = connection.reply + data
                if data.endswith(self._good):
                    replied.append(connection)
                else:
                    self._look_at(connection, data)
        return replied

    def _write_on(self, connection: _Connection) -> None:
        assert connection.rest is not None
        connection.rest = connection.rest[connection.sock.send(connection.rest) :]
        if not connection.rest:
            connection.rest, connection.writing = None, False
            self._epoll.modify(connection.sock.fileno(), select.EPOLLIN)

    def _look_at(self, connection: _Connection, data: bytes) -> None:
        """A reply that is not whole yet is kept; one that is no 1 ends the run."""
        head, end, body = data.partition(b"\r\n\r\n")
        if data == connection.reply or (end and body) or not head.startswith(b"HTTP/1.1 200"[: len(head)]):
            raise LoadError(f"the server did not answer 1: {data[-300:].decode('utf-8', 'replace')!r}")
        connection.reply = data

    def finish(self, elapsed_s: float, cpu_s: float) -> Load:
        load = self._load
        load.requests = len(load.latencies_s)
        load.records = load.requests * self._pool.size
        load.elapsed_s, load.cpu_s = elapsed_s, cpu_s
        return load


def send(
    port: int,
    pool: Pool,
    *,
    connections: int,
    seconds: float = 0.0,
    requests: int = 0,
    records_s: float = 0.0,
    stop: Callable[[], bool] = lambda: False,
) -> Load:
    """Send from `pool` for `seconds`; or `requests` of it (0: all of it, once) where `seconds` is 0.

    With `records_s` the load is paced, and ends early when `stop()` says so. Raises `LoadError` on a reply
    that is not `1`.
    """
    generator = _Generator(port, pool, connections)
    gc_was: Any = gc.isenabled()
    gc.disable()
    began, cpu = time.perf_counter(), time.process_time()
    try:
        if records_s:
            generator.paced(seconds, records_s, stop)
        else:
            generator.closed(seconds, requests or len(pool))
        return generator.finish(time.perf_counter() - began, time.process_time() - cpu)
    finally:
        generator.close()
        if gc_was:
            gc.enable()
