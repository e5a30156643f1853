"""Broken HTTP against a running server: no 5xx, no hang, no growth, and good requests still answered."""

from __future__ import annotations

import gzip
import json
import os
import time
from pathlib import Path

import pytest

from tests.hostile.wire import WireFuzzer, send_all, statuses
from tests.operations.support import child
from tests.serving import TOKEN, Server

BATCH = 60
# a browser's call whose connection is closed, as ours are after sending, is not taken (DESIGN G2)
CUT = b"the connection was cut before the records were taken"
GROWTH_LIMIT_KIB = 48 * 1024


def rss_kib(pid: int) -> int:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def good_request_is_answered(server: Server, number: int) -> None:
    began = time.monotonic()
    record = {"$token": TOKEN, "$distinct_id": "good", "$set": {"n": number}}
    assert server.post("/engage", [record]).body == b"1"
    assert time.monotonic() - began < 60


def drive(server: Server, *, seed: int, requests: int) -> dict[int, int]:
    """Send made-up requests; how often each status came."""
    fuzzer = WireFuzzer(seed)
    seen: dict[int, int] = {}
    sent = batch = 0
    while sent < requests:
        for _ in range(BATCH):
            text, count = fuzzer.connection()
            pieces = 1 if fuzzer.random.random() < 0.9 else 5
            received, in_time = send_all(server.base_url, text, pieces=pieces, patience_s=60)
            assert in_time, text[:2000]
            for status in statuses(received):
                seen[status] = seen.get(status, 0) + 1
                is_fault = status >= 500 and not (status == 503 and CUT in received)
                assert not is_fault, (status, text[:4000], received[-2000:])
            sent += count
        batch += 1
        good_request_is_answered(server, batch)
    return seen


def test_broken_http_gets_no_5xx_and_costs_no_neighbour(server: Server) -> None:
    seen = drive(server, seed=int(os.environ.get("SEED", "1")), requests=800)
    assert {200, 400, 404, 405} <= seen.keys()
    assert server.profiles(distinct_id="good")["good"]["n"] > 1


@pytest.mark.slow
def test_much_broken_http_leaves_memory_as_it_was(server: Server) -> None:
    worker = child(server.pid, "worker")
    drive(server, seed=2, requests=3000)  # caches, arenas and counters are filled then
    before = rss_kib(worker)
    drive(server, seed=3, requests=12_000)
    assert child(server.pid, "worker") == worker, "the worker was started again"
    assert rss_kib(worker) - before < GROWTH_LIMIT_KIB
    assert '"level":"error"' not in server.log_text()


def test_a_gzip_bomb_is_refused_before_it_unfolds(server: Server) -> None:
    worker = child(server.pid, "worker")
    bomb = gzip.compress(bytes(300_000_000), 9)
    before = rss_kib(worker)
    answer = server.post("/engage", bomb, {"Content-Encoding": "gzip", "Content-Type": "application/json"})
    assert answer.status == 413
    assert json.loads(answer.body)["code"] == 413
    assert rss_kib(worker) - before < GROWTH_LIMIT_KIB
