"""kill -9 of the fold while links, unmerges and updates come in: all is as the order of the records says.

One client sends them one after the other, so their order is known; the fold is killed inside transactions and
anywhere else, and folds again from its watermark. The reference is `tests/fold/test_identity_hypothesis`'s.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.durability.processes import PYTHONPATH, children
from tests.engine import ON_POSTGRES
from tests.fold.test_identity_hypothesis import IDS, Record, expected
from tests.serving import Server, launch

RECORDS = 240
KILL_EVERY = 30
WAIT_S = 120.0
# the one who comes after a fold that was killed waits for its leases to end
MARKER_S = 15.0 if ON_POSTGRES else 0.3


def records(mode: str, chance: random.Random) -> list[Record]:
    """A sequence of links, unmerges and updates."""
    made: list[Record] = []
    for _ in range(RECORDS):
        kind = chance.choices(["link", "add", "set", "delete", "unmerge"], [4, 8, 2, 1, 1])[0]
        if kind == "link":
            device = mode == "simplified"
            verb = "device" if device else chance.choice(["identify", "create_alias"])
            made.append(("link", mode, verb, chance.choice(IDS[-2:] if device else IDS), chance.choice(IDS)))
        elif kind == "unmerge":
            made.append((kind, chance.choice(IDS)))
        else:
            made.append((kind, chance.choice(IDS), chance.choice(["", "", "literal"])))
    return made


def send(server: Server, project: int, token: str, record: Record, position: int) -> None:
    """Send a record as an application would; it is acknowledged on return."""
    kind, *rest = record
    if kind == "link":
        _, verb, one, other = rest
        named = {
            "device": {"$device_id": one, "$user_id": other},
            "identify": {"$identified_id": one, "$anon_id": other},
            "create_alias": {"distinct_id": one, "alias": other},
        }[verb]
        name = "Sign in" if verb == "device" else f"${verb}"
        event = {"event": name, "properties": {"token": token, **named}}
        assert server.post("/track", [event]).body == b"1"
    elif kind == "unmerge":
        body = {"project_id": project, "distinct_id": rest[0]}
        reply = server.post("/api/mixdown/identity/unmerge", body, headers=server.authorization())
        assert reply.status in (200, 404), reply
    else:
        operators: dict[str, dict[str, Any]] = {
            "set": {"$set": {"at": position}},
            "add": {"$add": {"n": 1}},
            "delete": {"$delete": ""},
        }
        update = {"$token": token, "$distinct_id": rest[0], "$ignore_alias": bool(rest[1])}
        update |= operators[kind]
        assert server.post("/engage?ip=0", [update]).body == b"1"


def kill_the_fold(server: Server, marker: Path) -> bool:
    """Kill the fold, which has something to do; whether that was between its writes and its commit."""
    deadline = time.monotonic() + WAIT_S
    while not (found := children(server.pid, "fold")):
        assert time.monotonic() < deadline, "there is no fold to kill"
        time.sleep(0.001)
    deadline = time.monotonic() + MARKER_S
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    inside = marker.exists()
    os.kill(found[0], signal.SIGKILL)
    time.sleep(0.05)
    inside = inside and marker.exists()
    marker.unlink(missing_ok=True)
    return inside


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["simplified", "original"])
def test_kills_of_the_fold_change_nothing(tmp_path: Path, mode: str) -> None:
    chance = random.Random(7)
    marker = tmp_path / "in-transaction"
    server = launch(
        tmp_path / "data",
        environment={"PYTHONPATH": PYTHONPATH, "FAULT_MARKER": str(marker), "FAULT_MUTANT": ""},
    )
    try:
        made = server.post(
            "/api/mixdown/projects", {"name": mode, "id_merge": mode}, headers=server.authorization()
        ).json()["results"]
        sequence = records(mode, chance)
        inside = 0
        for position, record in enumerate(sequence):
            send(server, made["id"], made["token"], record, position)
            if position % KILL_EVERY == KILL_EVERY - 1:
                inside += kill_the_fold(server, marker)
        canonical, profiles = expected(sequence)
        server.get("/api/query/engage", project_id=made["id"])  # waits for the fold
        shown = {
            each: server.get("/api/mixdown/identity", project_id=made["id"], distinct_id=each) for each in IDS
        }
        assert {each: reply.json()["results"]["canonical"] for each, reply in shown.items()} == canonical
        stored = server.in_project(made["secret"]).profiles()
        for properties in stored.values():
            del properties["$last_seen"]
        assert stored == profiles
        assert inside >= 2, "most kills are to strike inside a transaction"
    finally:
        server.stop()
