"""A load generator for loopback: keep-alive connections in threads, prepared bytes out, replies checked."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice

RECEIVE_BYTES = 65_536


@dataclass
class Load:
    """What one run of the generator saw. Times in seconds."""

    requests: int = 0
    records: int = 0
    elapsed_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)

    def percentile_ms(self, percent: float) -> float:
        """A percentile of the request times, in milliseconds."""
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def request_bytes(body: bytes, port: int) -> bytes:
    """A whole HTTP request that posts `body` to /engage."""
    head = (
        f"POST /engage?ip=0 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def send(port: int, requests: Sequence[bytes], *, size: int, connections: int, seconds: float) -> Load:
    """Send `requests` round and round for `seconds` (0: each once).

    Raises `RuntimeError` on a reply that is not 1.
    """
    load = Load()
    lock = threading.Lock()
    faults: list[str] = []
    began = time.perf_counter()
    deadline = began + seconds if seconds else None

    def connection(number: int) -> None:
        mine = requests[number::connections]
        if not mine:
            return
        times = []
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for data in cycle(mine) if deadline else islice(mine, None):
                sent = time.perf_counter()
                if deadline and sent >= deadline:
                    break
                sock.sendall(data)
                reply = _reply(sock)
                times.append(time.perf_counter() - sent)
                if not reply.endswith(b"\r\n\r\n1"):
                    faults.append(reply[-200:].decode("utf-8", "replace"))
                    break
        with lock:
            load.latencies_s += times

    threads = [threading.Thread(target=connection, args=(n,)) for n in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise RuntimeError(f"the server did not answer 1: {faults[0]}")
    load.elapsed_s = time.perf_counter() - began
    load.requests = len(load.latencies_s)
    load.records = load.requests * size
    return load


def _reply(sock: socket.socket) -> bytes:
    """One reply with a Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(RECEIVE_BYTES)
        if not piece:
            return data
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    )
    while len(rest) < length:
        piece = sock.recv(RECEIVE_BYTES)
        if not piece:
            break
        rest += piece
    return head + b"\r\n\r\n" + rest
