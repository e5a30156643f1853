"""Clients that mean ill and one that means well, for `make bounds`; each runs in a process of its own.

A port enters; what the normal client waited leaves. All of them are bounded in number and time, and
speak to 127.0.0.1 alone.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import socket
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from typing import Any, Final

import orjson

HOST: Final = "127.0.0.1"
SLOW_PAUSE_S: Final = 0.2
NORMAL_CONNECTIONS: Final = 4
BOMB_BYTES: Final = 10 * 1024 * 1024
_SPAWN: Final = multiprocessing.get_context("spawn")


@dataclass
class Waited:
    """What a normal client saw: milliseconds a request, by its records; replies that were no `1`."""

    times_ms: dict[int, list[float]] = field(default_factory=dict)
    faults: int = 0

    def figures(self) -> dict[str, Any]:
        """Requests, p50, p99 and the longest wait, by records of a request."""
        return {
            str(size): {
                "requests": len(times),
                "p50_ms": percentile(times, 50),
                "p99_ms": percentile(times, 99),
                "max_ms": round(max(times), 2),
            }
            for size, times in sorted(self.times_ms.items())
        } | {"faults": self.faults}


def percentile(times: list[float], percent: float) -> float:
    """A percentile of some times."""
    ordered = sorted(times)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))], 2)


def post(body: bytes, *, gzip: bool = False) -> bytes:
    """A whole request that posts `body` to /engage."""
    coding = "Content-Encoding: gzip\r\n" if gzip else ""
    head = (
        f"POST /engage?ip=0 HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n{coding}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def records(token: str, first: int, count: int) -> bytes:
    """A body of small ordinary updates."""
    return orjson.dumps(
        [
            {
                "$token": token,
                "$distinct_id": f"user-{(first + number) * 7919 % 5_000_000:08d}",
                "$set": {"plan": "amber", "last_page": f"/page/{first + number}", "active": True},
                "$add": {"logins": 1},
            }
            for number in range(count)
        ]
    )


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def reply_of(sock: socket.socket) -> bytes:
    """One reply with a Content-Length; what came so far where the server closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return data
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
    while len(rest) < length:
        piece = sock.recv(65536)
        if not piece:
            break
        rest += piece
    return head + b"\r\n\r\n" + rest


# --- the normal client


def normal(port: int, token: str, seconds: float, rates: dict[int, float]) -> Waited:
    """Send on a schedule; each request's time counts from when it was due (no omission while it waits).

    Args:
        port: the server's.
        token: of a project.
        seconds: how long.
        rates: requests/s by records of a request, shared by `NORMAL_CONNECTIONS` each.
    """
    waited = Waited({size: [] for size in rates})
    start = time.perf_counter() + 0.1

    def client(size: int, rate: float, place: int) -> None:
        requests = [post(records(token, number * size, size)) for number in range(50)]
        with socket.create_connection((HOST, port), timeout=30) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for number in range(int(seconds * rate)):
                due = start + (number + place / NORMAL_CONNECTIONS) / rate
                time.sleep(max(0.0, due - time.perf_counter()))
                sock.sendall(requests[number % 50])
                reply = reply_of(sock)
                waited.times_ms[size].append(1000 * (time.perf_counter() - due))
                waited.faults += not reply.endswith(b"\r\n\r\n1")
                if not reply:
                    return

    threads = [
        threading.Thread(target=client, args=(size, rate / NORMAL_CONNECTIONS, place))
        for size, rate in rates.items()
        for place in range(NORMAL_CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return waited


# --- the others


def idle(port: int, count: int, ready: Event, ended: Event, report: Any) -> None:
    """Open `count` connections, send one request on each, and hold them."""
    _raise_file_limit()
    held: list[socket.socket] = []
    ask = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    for start in range(0, count, 200):
        some = [socket.create_connection((HOST, port), timeout=30) for _ in range(min(200, count - start))]
        for sock in some:
            sock.sendall(ask)
        for sock in some:
            if not reply_of(sock).startswith(b"HTTP/1.1 200"):
                raise RuntimeError("an idle connection was not let in")
        held += some
    ready.set()
    ended.wait()
    report.put(sum(_is_open(sock) for sock in held))


def _is_open(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def slow(port: int, count: int, ready: Event, ended: Event, report: Any) -> None:
    """Send a byte on each of `count` connections every 0.2 s: half of them headers, half bodies."""
    heads = [
        b"POST /engage HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * 100_000,
        post(b"[" + b" " * 99_998 + b"]"),
    ]
    places: dict[int, tuple[socket.socket, bytes, int]] = {}
    sent = cut = 0
    while not ended.wait(SLOW_PAUSE_S):
        for number in range(count):
            if number not in places:
                data = heads[number % 2]
                sock = socket.create_connection((HOST, port), timeout=30)
                at = 0 if number % 2 == 0 else data.index(b"\r\n\r\n") + 4
                sock.sendall(data[:at])
                places[number] = (sock, data, at)
            sock, data, at = places[number]
            try:
                sock.sendall(data[at : at + 1])
                sent += 1
                places[number] = (sock, data, at + 1)
            except OSError:
                cut += 1
                sock.close()
                del places[number]
        ready.set()
    report.put({"bytes_sent": sent, "cut_off": cut})


def bomb_bodies() -> dict[str, bytes]:
    """Small bodies that unfold: past the limit, or to ten megabytes of JSON that is dear to parse."""
    fill: Callable[[bytes], bytes] = lambda unit: (  # noqa: E731 - one line says it
        b"[" + b",".join([unit] * ((BOMB_BYTES - 2) // (len(unit) + 1))) + b"]"
    )
    plain = {
        "a hundred megabytes of zeros": b"\0" * 100_000_000,
        "numbers": fill(b"1"),
        "empty objects": fill(b"{}"),
        "small objects": fill(b'{"a":1}'),
        "empty lists": fill(b"[]"),
        "one deep record": b'{"$token":"x","$set":{"a":' + fill(b"[[]]")[: BOMB_BYTES - 100] + b"]}}",
    }
    packed = {}
    for name, text in plain.items():
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        packed[name] = packer.compress(text) + packer.flush()
    return packed


def bombs(port: int, count: int, ready: Event, ended: Event, report: Any) -> None:
    """Send bombs on `count` connections, one after the other without a pause."""
    requests = {name: post(body, gzip=True) for name, body in bomb_bodies().items()}
    seen: dict[str, dict[str, float]] = {}
    guard = threading.Lock()

    def sender(number: int) -> None:
        names = list(requests)
        turn = number
        sock = None
        while not ended.is_set():
            name = names[turn % len(names)]
            turn += 1
            began = time.perf_counter()
            with contextlib.suppress(OSError):
                sock = sock or socket.create_connection((HOST, port), timeout=30)
                sock.sendall(requests[name])
                status = reply_of(sock)[9:12].decode()
                if not status:
                    sock.close()
                    sock = None
                with guard:
                    one = seen.setdefault(f"{name}: {status or 'closed'}", {"count": 0, "longest_ms": 0})
                    one["count"] += 1
                    one["longest_ms"] = max(one["longest_ms"], round(1000 * (time.perf_counter() - began)))

    threads = [threading.Thread(target=sender, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    ready.set()
    ended.wait()
    for thread in threads:
        thread.join(30)
    report.put(seen)


@contextmanager
def beside(what: Callable[..., None], port: int, count: int) -> Iterator[list[Any]]:
    """Run one of the above beside the block; its report is in the list once the block has ended."""
    ready, ended, report = _SPAWN.Event(), _SPAWN.Event(), _SPAWN.Queue()
    process = _SPAWN.Process(target=what, args=(port, count, ready, ended, report), daemon=True)
    process.start()
    reports: list[Any] = []
    try:
        while not ready.wait(0.1):
            if process.exitcode is not None:
                raise RuntimeError(f"{what.__name__} ended with status {process.exitcode}")
        yield reports
        ended.set()
        reports.append(report.get(timeout=60))
    finally:
        ended.set()
        process.join(30)
        if process.is_alive():
            print(f"{what.__name__} did not end", file=sys.stderr)
            process.kill()
