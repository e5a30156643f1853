"""Processes that die while people are erased: the job goes on with the next one, and nothing is left."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest

from tests.durability.processes import children
from tests.erasure.people import Crowd, ask_erasure, job_of, wait_until_erased
from tests.erasure.raw import found
from tests.serving import StartServer

pytestmark = pytest.mark.slow


def kill(pid: int, kind: str) -> int:
    """Kill the server's processes of one kind; how many there were."""
    found_there = children(pid, kind)
    for child in found_there:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    return len(found_there)


def test_an_erasure_outlives_the_deaths_of_fold_worker_and_server(start_server: StartServer) -> None:
    server = start_server()
    crowd = Crowd(server, "k", 400)
    crowd.send(5, at_once=10)
    assert len(server.profiles()) == len(crowd.ids)
    gone, kept = crowd.ids[::2], crowd.ids[1::2]
    job = ask_erasure(server, gone)
    killed = 0
    for pause_s in (0.0, 0.02, 0.05, 0.1, 0.2):
        killed += kill(server.pid, "fold")
        time.sleep(pause_s)
        crowd.post([{"$token": server.token, "$distinct_id": kept[0], "$add": {"went_on": 1}}])
    killed += kill(server.pid, "worker")
    server.kill()
    again = start_server(server.data_dir)
    done = wait_until_erased(again, job["task_id"])
    assert killed >= 3
    assert done["distinct_ids"] == []
    assert found(again.data_dir, {marker for person in gone for marker in crowd.markers(person)}) == {}
    profiles = again.profiles()
    assert set(profiles) == set(kept)
    assert profiles[kept[0]]["went_on"] == 5


def test_people_go_while_records_come_in(start_server: StartServer) -> None:
    """Writers are neither refused nor lost while the files are rewritten under them."""
    server = start_server(workers=2)
    crowd = Crowd(server, "b", 300)
    crowd.send(2, at_once=20)
    gone, kept = crowd.ids[:100], crowd.ids[100:]
    job = ask_erasure(server, gone)
    sent = 0
    while job_of(server, job["task_id"])["status"] != "SUCCESS" or sent < 20:
        crowd.post(
            [{"$token": server.token, "$distinct_id": each, "$add": {"sent": 1}} for each in kept[:50]]
        )
        sent += 1
        assert sent < 500
    assert found(server.data_dir, {marker for person in gone for marker in crowd.markers(person)}) == {}
    profiles = server.profiles()
    assert set(profiles) == set(kept)
    assert {profiles[each]["sent"] for each in kept[:50]} == {sent}
