"""Processes that die while people are erased: the job goes on with the next one, and nothing is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.durability.processes import children
from tests.erasure.people import Crowd, ask_erasure, job_of, wait_until_erased
from tests.erasure.raw import found
from tests.serving import Server, StartServer

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


def test_events_are_hidden_at_once_and_gone_when_the_job_says_so_whoever_dies(
    start_server: StartServer,
) -> None:
    server = start_server()
    people = [f"ev-{number:03d}-id" for number in range(60)]
    for _ in range(4):
        events = [
            {
                "event": "seen",
                "properties": {"token": server.token, "distinct_id": each, "of": f"{each}-value"},
            }
            for each in people
        ]
        assert server.post("/track", events).body == b"1"
    wait_until_shown(server, set(people))
    gone, kept = people[::2], people[1::2]
    job = ask_erasure(server, gone)
    began = time.monotonic()
    killed = kill(server.pid, "events")
    wait_until_shown(server, set(kept))
    assert time.monotonic() - began < 40, "within some seconds, a death of its process included"
    killed += kill(server.pid, "events") + kill(server.pid, "fold")
    done = wait_until_erased(server, job["task_id"])
    assert killed >= 2
    assert done["distinct_ids"] == []
    assert found(server.data_dir, {each.removesuffix("-id") for each in gone}) == {}
    assert shown(server) == set(kept)


def shown(server: Server) -> set[str]:
    """Whose events the raw export has."""
    today = datetime.now(UTC).date()
    days = f"from_date={today - timedelta(days=1)}&to_date={today}"
    reply = server.request(
        "GET", f"/api/2.0/export?project_id={server.project_id}&{days}", headers=server.authorization()
    )
    assert reply.status == 200, reply.body
    return {json.loads(line)["properties"]["distinct_id"] for line in reply.body.splitlines()}


def wait_until_shown(server: Server, people: set[str]) -> None:
    """Wait until the export has the events of these people and of nobody else."""
    deadline = time.monotonic() + 120
    while shown(server) != people:
        assert time.monotonic() < deadline, shown(server) ^ people
        time.sleep(0.05)


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
