"""`mixdown serve --database-url`: nodes that share a PostgreSQL, and what their users see."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving import SECRET, TOKEN, Server, launch
from tests.store.postgres import Server as Postgres
from tests.store.postgres import postgres_server

PATIENCE_S = 120.0
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Postgres]:
    """A server for these tests."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def node(postgresql: Postgres, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts nodes on one database of three partitions."""
    url = postgresql.migrated(3)
    variables = {"MIXDOWN_DATABASE_URL": url, "MIXDOWN_EVENTS_URL": str(tmp_path / "events")}
    started: list[Server] = []

    def start(**options: Any) -> Server:
        made = launch(tmp_path / f"node-{len(started)}", environment=variables, **options)
        started.append(made)
        return made

    yield start
    for server in started:
        server.stop()


def send(server: Server, *ids: str, by: int = 1) -> None:
    records = [{"$token": TOKEN, "$distinct_id": each, "$add": {"n": by}} for each in ids]
    reply = server.request(
        "POST", "/engage?verbose=1&ip=0", json.dumps(records), {"Content-Type": "application/json"}
    )
    assert reply.json() == {"error": None, "status": 1}, reply.body


def value(server: Server, profile_id: str) -> Any:
    return server.profiles(distinct_id=profile_id)[profile_id]["n"]


def test_what_one_node_takes_another_answers(node: Callable[..., Server]) -> None:
    one = node()
    other = node()
    assert one.project_id == other.project_id
    for number in range(5):
        send(one if number % 2 else other, "ada", "bob")
        assert value(other if number % 2 else one, "ada") == number + 1
    event = {"event": "seen", "properties": {"token": TOKEN, "distinct_id": "ada"}}
    assert one.request("POST", "/track?verbose=1", json.dumps([event])).json()["status"] == 1
    health = other.get("/api/mixdown/health").json()
    assert health["results"]["verdict"] in ("ok", "warn"), health
    assert one.request("GET", "/metrics").status == 200
    assert SECRET not in one.log_text()


def test_a_node_that_is_killed_is_stood_in_for(node: Callable[..., Server]) -> None:
    one, other = node(), node()
    send(one, "ada")
    one.kill()
    deadline = time.monotonic() + PATIENCE_S
    expected = 1
    while True:
        send(other, "ada")
        expected += 1
        if value(other, "ada") == expected:
            break
        assert time.monotonic() < deadline, "nobody folds"
        time.sleep(0.2)
    assert other.stop() == 0


def test_several_folds_of_a_node_share_the_partitions(node: Callable[..., Server]) -> None:
    server = node(arguments=["--fold-workers", "2"])
    send(server, "ada")
    assert value(server, "ada") == 1
    processes = server.get("/api/mixdown/health").json()["results"]["processes"]
    assert {"fold", "fold-1"} <= {each["process"] for each in processes}
