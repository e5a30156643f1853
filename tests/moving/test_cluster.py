"""A folder moves into a cluster, and servers, folds and commands work on it as they do anywhere.

On one PostgreSQL all that they send is heard, and held to the rules of Citus; where `MIXDOWN_TEST_CITUS_URL`
names a cluster they work on it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.moving.test_worlds import moved
from tests.moving.world import JSON, Sender, answers, furnish
from tests.serving import SECRET, TOKEN, Server, launch
from tests.store.cluster import CLUSTER, URL, Cluster
from tests.store.coordinator import Coordinator
from tests.store.overhearing import SETTINGS, faults, heard
from tests.store.postgres import postgres_server

pytestmark = pytest.mark.slow
PARTITIONS: Final = 3
WAIT_S: Final = 300.0


@pytest.fixture(params=["postgres", *CLUSTER])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty store, spread where it is on a cluster; what a cluster would refuse fails the test."""
    if request.param == "cluster":
        cluster = Cluster(URL)
        with cluster.turn():
            try:
                yield cluster.emptied(PARTITIONS)
            finally:
                cluster.empty()
        return
    with postgres_server(SETTINGS) as server:
        yield server.migrated(PARTITIONS)
        known = heard(server.folder / "data")
        senders = {each.application for each in known}
        assert senders >= {f"mixdown {role}" for role in ("worker", "fold", "events", "cli")}
        assert len(known) > 200, "most of what there is to send was sent"
        server.copy(server.template(1), "judged")
        with server.connect("judged") as own:
            assert faults(Coordinator(own), known) == []


def test_a_folder_moves_and_is_worked_on(url: str, tmp_path: Path) -> None:
    source = launch(tmp_path / "folder", environment={"MIXDOWN_DATABASE_URL": ""})
    nodes: list[Server] = []
    try:
        made = source.command("project", "create", "original", "--id-merge", "original", "--json")
        projects = [(source.project_id, TOKEN, SECRET), (made["id"], made["token"], made["secret"])]
        for project, _, _ in projects:
            source.command("project", "set", str(project), "--late-events", "accept", "--json")
        senders = [Sender(source, token, at) for at, (_, token, _) in enumerate(projects)]
        for sender in senders:
            sender.send(60)
        furnish(source, source.project_id)
        moved(source.data_dir, url, tmp_path / "events")
        senders[0].send(30)
        moved(source.data_dir, url, tmp_path / "events", "--switch")
        before = [answers(source, project, secret) for project, _, secret in projects]
        variables = {"MIXDOWN_DATABASE_URL": url, "MIXDOWN_EVENTS_URL": str(tmp_path / "events")}
        variables["MIXDOWN_FOLD_WORKERS"] = "2"
        nodes += [launch(tmp_path / name, environment=variables) for name in ("one", "two")]
        for (project, _, secret), told in zip(projects, before, strict=True):
            assert answers(nodes[0], project, secret) == told
        _spread(nodes)
        _look_around(nodes[1])
        _erase(nodes[0])
        _die(nodes)
    finally:
        for server in (source, *nodes):
            server.stop()


def _spread(nodes: list[Server]) -> None:
    """A large project: what is sent to one node is told by the other, from all partitions."""
    one, other = nodes
    made = one.command("project", "create", "big", "--json")
    one.command("project", "set-large", "big", "--yes", "--json")
    own, elsewhere = one.in_project(made["secret"]), other.in_project(made["secret"])
    records = [
        {"$token": made["token"], "$distinct_id": f"u{n:03}", "$set": {"plan": "abc"[n % 3], "n": n}}
        for n in range(90)
    ]
    companies = [
        {"$token": made["token"], "$group_key": "Company", "$group_id": f"c{n}", "$set": {"size": n}}
        for n in range(9)
    ]
    for path, body in (
        ("/engage", [*records, {"$token": made["token"], "$set": {"of": "nobody"}}]),
        ("/groups", companies),
    ):
        key = {"Idempotency-Key": f"big{path}"}
        first, again = (
            one.request("POST", f"{path}?verbose=1", json.dumps(body), {**JSON, **key}) for _ in range(2)
        )
        assert first.body == again.body
    events = [
        {
            "event": "Order",
            "properties": {"token": made["token"], "distinct_id": f"u{n:03}", "$insert_id": f"o{n}"},
        }
        for n in range(30)
    ]
    assert one.request("POST", "/track?verbose=1", json.dumps(events), JSON).status == 200
    assert len(elsewhere.profiles()) == 90
    assert len(elsewhere.groups("Company")) == 9
    assert len(elsewhere.events()) == 30
    one.command("index", "add", 'properties["plan"]', "--project", "big", "--json")
    where = 'properties["plan"] == "a" and properties["n"] >= 30'
    _until(lambda: one.command("index", "list", "--project", "big", "--json")[0]["complete"])
    found = _json(elsewhere, "/api/query/engage", where=where)
    assert found["total"] == 20
    listed = _json(elsewhere, "/api/mixdown/profiles", limit=7, sort="n", order="descending")
    assert len(listed["results"]) == 7
    assert _json(own, "/api/query/engage/properties")
    one.command("project", "delete", "big", "--yes", "--json")
    _until(lambda: other.request("POST", "/engage", json.dumps(records[:1]), JSON).body == b"0")


def _look_around(server: Server) -> None:
    """What people and their tools ask."""
    own = {"project_id": server.project_id}
    for target, asked in (
        ("/metrics", {}),
        ("/readyz", {}),
        ("/api/mixdown/health", {}),
        ("/api/mixdown/live/recent", {}),
        ("/api/mixdown/arrivals", {}),
        ("/api/mixdown/refusals/reasons", {}),
        ("/api/mixdown/dictionary", own),
        ("/api/mixdown/activity", {**own, "distinct_id": "ann"}),
        (f"/api/mixdown/projects/{server.project_id}/storage", {}),
    ):
        reply = server.get(target, **asked)
        assert reply.status == 200, (target, reply)
    reply = server.post(
        f"/api/mixdown/sql?project_id={server.project_id}",
        {"query": "SELECT count(*) FROM users"},
        server.authorization(),
    )
    assert reply.status == 200, reply
    somebody = next(iter(server.profiles()))
    told = server.command("profiles", "get", somebody, "--project", "default", "--json")
    assert told["$distinct_id"] == somebody
    assert server.command("refusals", "list", "--project", "default", "--json")


def _erase(server: Server) -> None:
    """Somebody goes, with all that is kept of them."""
    server.command("erase", "ann", "bob", "--project", "default", "--wait", "--yes", "--json")
    left = server.profiles().keys()
    assert left
    assert not left & {"ann", "bob"}


def _die(nodes: list[Server]) -> None:
    """A node dies: the other folds what it was at, each record once."""
    dying, other = nodes
    records = [{"$token": TOKEN, "$distinct_id": "counted", "$add": {"times": 1}} for _ in range(20)]
    for _ in range(5):
        reply = dying.request("POST", "/engage?verbose=1", json.dumps(records), JSON)
        assert reply.json()["status"] == 1
    dying.kill()
    asked = {"distinct_ids": '["counted"]'}
    own = other.in_project(SECRET)
    _until(lambda: _counted(_json(own, "/api/query/engage", **asked)) >= 100)
    assert _counted(_json(own, "/api/query/engage", **asked)) == 100


def _counted(answer: Any) -> int:
    rows = answer["results"]
    return int(rows[0]["$properties"]["times"]) if rows else 0


def _json(server: Server, target: str, **asked: object) -> Any:
    reply = server.get(target, **asked)
    assert reply.status == 200, (target, reply)
    return reply.json()


def _until(holds: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < WAIT_S
        time.sleep(0.2)
