"""Reports that take too long, and many at once, on a server with one worker: who is told what, and who waits.

The question that takes too long is one of few events: each is of hundreds of groups, and of all twenty steps.
"""

from __future__ import annotations

import gzip
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlencode

import pytest

from mixdown.server.worker import EVENT_THREADS
from tests.operations.support import child, wait_until
from tests.reads.support import DAY_MS, NOON_MS, group
from tests.serving import TOKEN, Response, Server, StartServer

pytestmark = pytest.mark.slow

EVENTS: Final = 12_000
GROUPS: Final = 254
FEW: Final = 10
LIMIT_S: Final = 3
SLACK_S: Final = 60.0
"""What a machine that does other things may add to any time."""
DAYS: Final = {"from_date": "2026-01-14", "to_date": "2026-01-16"}
ENDLESS: Final = {**DAYS, "steps": json.dumps(["a"] * 20), "data_group_id": "company", "length": "14"}
QUICK: Final = {"from_date": "2026-01-10", "to_date": "2026-01-12", "event": "b"}
IDLE_S: Final = 0.5
QUERIES: Final = 24


def crowded(number: int) -> dict[str, object]:
    """The properties of an event of many groups."""
    return {"company": [f"g{number % 7}-{each}" for each in range(GROUPS)]}


@pytest.fixture(scope="module")
def server(start_module_server: StartServer) -> Server:
    """A server with a few thousand events of hundreds of groups each, and some of another day, of none."""
    made = start_module_server(
        arguments=["--workers", "1"], environment={"MIXDOWN_READ_TIMEOUT_S": str(LIMIT_S)}
    )
    assert made.post("/groups?ip=0", group("company", "acme", token=TOKEN)).body == b"1"
    import_events(made, "b", NOON_MS - 4 * DAY_MS, range(FEW))
    wait_until(lambda: is_answered(quick(made)), timeout_s=60)
    for begin in range(0, EVENTS, 2000):
        import_events(made, "a", NOON_MS, range(begin, begin + 2000))
    wait_until(lambda: is_answered(quick(made)), timeout_s=120)
    return made


def import_events(server: Server, event: str, at_ms: int, numbers: range) -> None:
    lines = [
        {
            "event": event,
            "properties": {
                "time": at_ms // 1000 + number,
                "distinct_id": f"u{number % 50}",
                "$insert_id": f"i{number}",
                **(crowded(number) if event == "a" else {}),
            },
        }
        for number in numbers
    ]
    headers = {**server.authorization(), "Content-Type": "application/json", "Content-Encoding": "gzip"}
    body = gzip.compress(json.dumps(lines).encode(), 1)
    assert server.request("POST", f"/import?project_id={server.project_id}", body, headers).status == 200


def quick(server: Server) -> Response:
    return server.get("/api/query/segmentation", project_id=server.project_id, **QUICK)


def is_answered(reply: Response) -> bool:
    """Whether it counted all, of whatever was stored before it was asked."""
    if reply.status != 200 or reply.header("x-mixdown-behind") is not None:
        return False
    return bool(sum(reply.json()["data"]["values"]["b"].values()) == FEW)


def endless(server: Server) -> tuple[float, Response]:
    """A funnel that takes much longer than it may: after how long it is answered, and what."""
    began = time.monotonic()
    typed = {**server.authorization(), "Content-Type": "application/x-www-form-urlencoded"}
    reply = server.post(
        "/api/query/arb_funnels", urlencode({**ENDLESS, "project_id": server.project_id}), typed
    )
    return time.monotonic() - began, reply


def is_refused_for_its_time(reply: Response) -> bool:
    told = f"this report took longer than {LIMIT_S} s: ask for fewer days, or for fewer events by a filter"
    return reply.status == 400 and str(reply.json()["error"]).startswith(told)


def cpu_s(pid: int) -> float:
    """What a process has computed so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def computes(pid: int) -> float:
    """What part of a core a process takes."""
    before = cpu_s(pid)
    time.sleep(IDLE_S)
    return (cpu_s(pid) - before) / IDLE_S


def test_reports_that_take_too_long_end_and_leave_their_threads_to_others(server: Server) -> None:
    with ThreadPoolExecutor(EVENT_THREADS) as clients:
        asked = [clients.submit(endless, server) for _ in range(EVENT_THREADS)]
        answers = [each.result() for each in asked]
    for seconds, reply in answers:
        assert is_refused_for_its_time(reply), reply
        assert LIMIT_S <= seconds < LIMIT_S + SLACK_S
        assert reply.header("retry-after") is None
    wait_until(lambda: is_answered(quick(server)), timeout_s=SLACK_S)
    worker = child(server.pid, "worker")
    wait_until(lambda: computes(worker) < 0.5)  # nothing goes on that nobody waits for


def test_many_reports_at_once_are_all_answered_and_nobody_who_writes_waits_for_them(server: Server) -> None:
    with ThreadPoolExecutor(QUERIES) as clients:
        began = time.monotonic()
        asked = [clients.submit(endless, server) for _ in range(QUERIES)]
        waits_s: list[float] = []
        while not all(each.done() for each in asked):
            begun = time.monotonic()
            record = {"$token": TOKEN, "$distinct_id": f"w{len(waits_s)}", "$set": {}}
            assert server.post("/engage?ip=0", record).body == b"1"
            waits_s.append(time.monotonic() - begun)
        took_s = time.monotonic() - began
    answers = [each.result() for each in asked]
    assert all(is_refused_for_its_time(reply) for _, reply in answers)
    assert took_s < LIMIT_S + SLACK_S, "they wait for their turn in the same time"
    assert len(waits_s) > 3, "writes wait until reports have ended"
    assert median(waits_s) < LIMIT_S / 3
    wait_until(lambda: is_answered(quick(server)), timeout_s=SLACK_S)
