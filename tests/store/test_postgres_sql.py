"""SQL over HTTP of a server on PostgreSQL: the same answers, one project and nothing else (DESIGN G6, G7)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from mixdown.fold.loop import catch_up
from mixdown.query.sql_store import StoreGuard
from mixdown.store import event_upkeep
from mixdown.store.places import all_views
from mixdown.store.postgres import PostgresStore, open_postgres
from mixdown.store.postgres.texts import TextCursor
from mixdown.store.protocols import Store
from mixdown.store.shelves import FolderShelf, shelf_of
from mixdown.store.sqlite.guarded import RefusedError
from tests.admin.test_sql import ENDLESS, HIDDEN, OTHER_DEEDS, OTHER_TABLES
from tests.reads.support import NOON_MS, OTHER_TOKEN, READER, STRANGER, TOKEN, World, group, user
from tests.store.postgres import Server
from tests.store.s3 import object_store

SQL = "/api/mixdown/sql"


@pytest.fixture(scope="module")
def world(postgresql: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two projects with users, groups, refusals and events: no query can change them, so one is enough."""
    shelf = FolderShelf(tmp_path_factory.mktemp("events"))
    store = open_postgres(postgresql.migrated(), role="fold", create=False, shelf=shelf)
    made = World(store, sql_timeout_s=3, sql_memory_bytes=128 * 1024 * 1024, sql_rows=50)
    for token, name in ((TOKEN, "mine"), (OTHER_TOKEN, HIDDEN)):
        made.send(*[user(f"{name}{place}", token=token, n=place, of=name) for place in range(4)])
        made.send(group(f"Key {name}", f"{name} group", token=token, of=name), endpoint="groups")
        made.send({"$token": token, "$set": {"of": name}}, user("same", token=token, of=name))
    made.fold_all()
    for project, name in ((made.project.id, "mine"), (made.other.id, HIDDEN)):
        made.store_events([_event(place, name) for place in range(6)], project=project)
    yield made
    made.close()


def _event(place: int, whose: str) -> dict[str, Any]:
    return {
        "position": place,
        "arrived": NOON_MS,
        "event": "bought" if place % 2 else "looked",
        "time": NOON_MS + place * 1000,
        "distinct_id": f"{whose}{place % 3}",
        "insert_id": f"{whose} {place}",
        "properties": {"n": place, "of": whose},
    }


def ask(world: World, query: str, by: str = READER, **fields: Any) -> httpx.Response:
    return world.post(SQL, user=by, json={"query": query, **fields})


def rows(reply: httpx.Response) -> Any:
    assert reply.status_code == 200, reply.text
    return reply.json()["results"]


def guarded_run(world: World, query: str) -> str:
    guard = StoreGuard(world.store, world.project.id, timeout_s=3, memory_bytes=1 << 26)
    job = {"query": query, "params": [], "format": "csv", "rows": 1000, "bytes": 1 << 24}
    try:
        head, body = guard.answer(job)
        return f"{head} {body.decode()}"
    except RefusedError as error:
        return f"refused: {error}"
    finally:
        guard.connection.close()


def test_the_views_show_the_project_and_nothing_of_another(world: World) -> None:
    query = (
        "select (select group_concat(distinct_id) from users), (select count(*) from groups),"
        " (select max(group_id) from groups), (select message from refusals),"
        " (select count(distinct id) from history), (select last_seen from users where distinct_id = 'mine2')"
    )
    [found] = rows(ask(world, query))
    message = "$distinct_id, missing or empty"
    ids = "mine0,mine1,mine2,mine3,same"
    assert list(found.values()) == [ids, 1, "mine group", message, 6, "2026-01-15T12:00:00"]
    [theirs] = rows(ask(world, query.replace("mine2", "theirs2"), STRANGER))
    assert list(theirs.values())[:3] == ["same,theirs0,theirs1,theirs2,theirs3", 1, "theirs group"]


def test_events_are_asked_with_the_users_of_the_project(world: World) -> None:
    query = (
        "select e.event, count(*) as n, max(u.properties ->> 'of') as of from events e"
        " join users u using (distinct_id) group by all order by 1"
    )
    expected = [{"event": "bought", "n": 3, "of": "mine"}, {"event": "looked", "n": 3, "of": "mine"}]
    assert rows(ask(world, query, events=True)) == expected
    refused = ask(world, "select * from read_text('/etc/passwd')", events=True)
    assert (refused.status_code, "root:" in refused.text) == (400, False)


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_events_in_files_are_asked_wherever_these_lie(
    where: str, postgresql: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_upkeep, "CLOSED_EVENTS", 4)
    with object_store() as objects:
        for name, value in objects.environment().items():
            monkeypatch.setenv(name, value)
        shelf = shelf_of(str(tmp_path / "events") if where == "folder" else "s3://bucket/of/events", tmp_path)
        store = open_postgres(postgresql.migrated(), role="fold", create=False, shelf=shelf)
        made = World(cast("Store", store), sql_timeout_s=10, sql_memory_bytes=128 * 1024 * 1024)
        made.store_events([_event(place, "mine") for place in range(6)], project=made.project.id)
        size = store.events.size()
        assert (size.hot_events, size.files) == (0, 1)
        query = "select event, count(*) as n, sum(property('n')::int) as s from events group by 1 order by 1"
        expected = [{"event": "bought", "n": 3, "s": 9}, {"event": "looked", "n": 3, "s": 6}]
        objects.asked.clear()
        assert rows(ask(made, query, events=True)) == expected
        assert bool(objects.asked) == (where == "bucket")
        assert rows(ask(made, "select count(*) as n from users")) == [{"n": 0}]
        objects.held.clear()
        assert (ask(made, query, events=True).status_code == 200) == (where == "folder")
        made.close()


@pytest.mark.parametrize("query", OTHER_TABLES + OTHER_DEEDS)
def test_nothing_else_is_read_or_done(world: World, query: str) -> None:
    said = guarded_run(world, query)
    assert said.startswith("refused: "), said
    assert HIDDEN not in said.removeprefix("refused: ")


@pytest.mark.parametrize(
    "query",
    [
        "select pg_sleep(10)",
        "select pg_read_file('/etc/passwd')",
        "select set_config('role', 'postgres', false)",
        "select * from dblink('dbname=postgres', 'select 1')",
        "select lo_import('/etc/passwd')",
        "select * from mixdown.projects",
        "select * from pg_catalog.pg_class",
        "select * from pg_stat_activity",
        "select current_user",
        "copy mixdown.projects to stdout",
        "select 1; drop schema mixdown cascade",
        "select $$theirs$$",
        "select * from users where distinct_id = 'x'::text",
        "set role postgres",
        "do $$ begin end $$",
        "listen x",
    ],
)
def test_nothing_of_the_database_can_be_called(world: World, query: str) -> None:
    assert guarded_run(world, query).startswith("refused: ")


def test_no_text_of_a_query_reaches_the_database(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    execute = TextCursor.execute

    def noted(cursor: TextCursor, query: Any, params: Any = None, **options: Any) -> TextCursor:
        sent.append(str(query))
        return execute(cursor, query, params, **options)

    monkeypatch.setattr(TextCursor, "execute", noted)
    for condition in ("= 'mine2'' needle'", "in ('needle', 'mine2')", "like '%needle'", "> 'needle'"):
        query = f'select count(*) as "x needle\'); drop" from users u, groups where distinct_id {condition}'
        assert "needle" in guarded_run(world, query).splitlines()[0]
    assert sent
    assert not [each for each in sent if "needle" in each]


def test_a_query_ends_at_its_limits_and_leaves_no_connection(world: World) -> None:
    database = cast("PostgresStore", world.store).database
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mixdown cli'"
    for query, error in (
        (ENDLESS + " select count(*) from n", "time limit"),
        (ENDLESS + " select x, printf('%.*c', 3000, 'a') as y from n order by y, x", "memory|time limit"),
        (ENDLESS + " select count(*) from n, users, users as b", "time limit"),
    ):
        reply = ask(world, query)
        assert reply.status_code == 400, reply.text
        assert any(part in reply.json()["error"] for part in error.split("|")), reply.text
    deadline = time.monotonic() + 90
    while database.value(count):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_large_project_is_read_out_of_all_partitions(postgresql: Server) -> None:
    store = open_postgres(postgresql.migrated(4), role="fold", create=False)
    made = World(cast("Store", store), sql_timeout_s=5)
    store.catalog.enlarge_project(made.project.id)
    made.services.catalog.refresh()
    made.send(*[user(f"u{place:03}", n=place) for place in range(100)])
    for view in all_views(made.store):
        catch_up(view)
    query = (
        "select count(*) as n, sum(properties ->> '$.n') as s, group_concat(distinct_id) as ids from users"
        " where distinct_id like 'u0%'"
    )
    [found] = rows(ask(made, query))
    assert (found["n"], found["s"]) == (100, 4950)
    assert found["ids"].split(",") == [f"u{place:03}" for place in range(100)]
    assert rows(ask(made, "select last_seen from users where distinct_id = 'u042'"))[0]["last_seen"]
    made.close()
