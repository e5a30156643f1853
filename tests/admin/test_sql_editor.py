"""SQL for editors: what a query may name, fewer rows, where an error is, and ending what nobody waits for."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from mixdown.query.sql_events import EventSql
from mixdown.query.sql_schema import EVENT_VIEWS, PROFILE_VIEWS
from tests.engine import open_store, plain_store
from tests.reads.support import OWNER, PASSWORD, READER, STRANGER, World, basic, user

SQL = "/api/mixdown/sql"
ENDLESS = "with recursive n(x) as (select 1 union all select x + 1 from n) select count(*) from n"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server with a few users, on which a query may take long."""
    folder = tmp_path_factory.mktemp("sql") / "data"
    store = open_store(folder, role="worker", create=True)
    made = World(store, open_store(folder, role="fold", create=False), sql_timeout_s=30, sql_rows=50)
    made.send(*[user(f"u{place}", n=place) for place in range(4)])
    made.fold_all()
    yield made
    made.close()


def test_the_views_that_are_told_are_those_that_a_query_meets(world: World) -> None:
    told = world.get(SQL).json()["results"]
    assert told["available"]
    assert [view["name"] for view in told["profiles"]["views"]] == [view.name for view in PROFILE_VIEWS]
    for view in told["profiles"]["views"]:
        reply = world.post(SQL, json={"query": f"select * from {view['name']} limit 0"})
        assert reply.json()["columns"] == [column["name"] for column in view["columns"]]


@pytest.mark.parametrize("view", EVENT_VIEWS, ids=lambda view: view.name)
def test_the_views_of_events_are_as_told(view: Any) -> None:
    store = plain_store()
    with EventSql(
        f"select * from {view.name}",
        events=store.events,
        state=store.state,
        project=1,
        memory_bytes=2**28,
        timeout_s=10,
    ) as asked:
        columns, _ = asked.run([])
    assert columns == [column.name for column in view.columns]
    store.close()


def test_the_limits_that_are_told_are_those_of_the_settings(world: World) -> None:
    limits = world.get(SQL).json()["results"]["limits"]
    assert (limits["timeout_s"], limits["rows"]) == (30, 50)


def test_what_a_query_may_name_is_told_to_those_who_read_the_project(world: World) -> None:
    assert world.get(SQL, user=STRANGER, params={"project_id": world.project.id}).status_code == 403
    assert world.get(SQL, user=OWNER).status_code == 400, "an owner names a project"
    world.services.store.catalog.limit_project(
        world.project.id, records_per_s=None, requests_per_s=None, queries_per_hour=1
    )
    try:
        assert [world.get(SQL).status_code for _ in range(3)] == [200, 200, 200], "it is no query"
    finally:
        world.services.store.catalog.limit_project(
            world.project.id, records_per_s=None, requests_per_s=None, queries_per_hour=None
        )


def test_fewer_rows_may_be_asked_for_but_not_more_than_the_setting(world: World) -> None:
    query = "select distinct_id from users order by 1"
    few = world.post(SQL, json={"query": query, "limit": 3}).json()
    assert (len(few["results"]), few["more"]) == (3, True)
    every = "with recursive n(x) as (select 1 union all select x + 1 from n where x < 100) select x from n"
    most = world.post(SQL, json={"query": every, "limit": 80}).json()
    assert (len(most["results"]), most["more"]) == (50, True)
    assert world.post(SQL, json={"query": query, "limit": 0}).status_code == 400


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("selec 1", "(line 1, column 1)"),
        ("select *\nfrom users\nwhere nothing = 1", "(line 3, column 7)"),
        ("select 'é',\n  frm users", "(line 2, column 3)"),
    ],
)
def test_an_error_says_where_it_is(world: World, query: str, place: str) -> None:
    reply = world.post(SQL, json={"query": query})
    assert reply.status_code == 400
    assert reply.json()["error"].endswith(place)


def test_a_client_that_hangs_up_ends_its_query(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    began_to_run = asyncio.Event()

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)
            world.loop.call_soon_threadsafe(began_to_run.set)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    body = orjson.dumps({"query": ENDLESS})
    headers = {
        "authorization": basic(f"{READER}:{PASSWORD}"),
        "content-type": "application/json",
        "content-length": str(len(body)),
    }
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": SQL,
        "raw_path": SQL.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("192.0.2.7", 4711),
        "server": ("mixdown.test", 80),
    }

    async def hang_up() -> None:
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await began_to_run.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            del message

        await world.app(scope, receive, send)

    began = time.monotonic()
    world.loop.run_until_complete(hang_up())
    status = started[0].wait(timeout=60)
    assert status < 0, "killed"
    assert time.monotonic() - began < 25, "well below the limit of 30 s"
    assert world.post(SQL, json={"query": "select 1 as n"}).json()["results"] == [{"n": 1}]
