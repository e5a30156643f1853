"""SQL over events: it answers from one project, reads nothing else, ends at its limits (DESIGN G6, G7)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from mixdown.query import sql_events
from mixdown.query.sql_events import MANY_PROPERTIES, NOT_THAT, Asked, EventSql
from mixdown.store.chunk import Link
from mixdown.store.sqlite.guarded import RefusedError
from tests.engine import folder_of, open_store
from tests.reads.support import DAY_MS, NOON_MS, OTHER_TOKEN, READER, STRANGER, TOKEN, World, group, user
from tests.store.support import append, appending_events

pytestmark = pytest.mark.slow

SQL = "/api/mixdown/sql"
HIDDEN = "theirs"
"""It stands in everything that the other project has, and in nothing of this one."""


def event(position: int, place: int, whose: str, **properties: Any) -> dict[str, Any]:
    return {
        "position": position,
        "arrived": NOON_MS,
        "event": "bought" if place % 2 else "looked",
        "time": NOON_MS + place * 1000,
        "distinct_id": f"{whose}{place % 3}",
        "insert_id": f"i{place}",
        "properties": {"n": place, "plan": "pro" if place % 4 else "free", "of": whose, **properties},
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two projects with events in a file and in memory, and users: no query can change them."""
    folder = tmp_path_factory.mktemp("sql") / "data"
    store = open_store(folder, role="worker", create=True)
    fold_store = open_store(folder, role="fold", create=False)
    made = World(store, fold_store, sql_timeout_s=60, sql_memory_bytes=128 * 2**20, sql_rows=50)
    for token, whose in ((TOKEN, "mine"), (OTHER_TOKEN, HIDDEN)):
        made.send(*[user(f"{whose}{place}", token=token, age=20 + place, of=whose) for place in range(3)])
        made.send(group("Key", f"{whose} group", token=token, of=whose), endpoint="groups")
    made.fold_all()
    for project, whose in ((made.project, "mine"), (made.other, HIDDEN)):
        made.store_events([event(place, place, whose) for place in range(20)], project=project.id)
        while fold_store.events.tend(busy=False, now_ms=NOON_MS + 2 * DAY_MS):
            pass
        made.store_events(
            [event(place + 20, place, whose, late=True) for place in range(18, 24)], project=project.id
        )
    yield made
    made.close()


def run(world: World, query: str, params: Any = (), project: int | None = None) -> list[dict[str, Any]]:
    """The rows of a query, asked in this process: to start one takes a second."""
    with opened(world, query, project) as asked:
        columns, found = asked.run(params)
        return [dict(zip(columns, row, strict=True)) for row in found]


def opened(world: World, query: str, project: int | None = None) -> EventSql:
    return EventSql(
        query,
        events=world.store.events,
        state=world.store.state,
        project=world.project.id if project is None else project,
        memory_bytes=128 * 2**20,
        timeout_s=60,
    )


def ask(world: World, query: str, by: str = READER, **fields: Any) -> httpx.Response:
    return world.post(SQL, user=by, json={"query": query, "events": True, **fields})


def rows(reply: httpx.Response) -> Any:
    assert reply.status_code == 200, reply.text
    return reply.json()["results"]


def refused(reply: httpx.Response) -> str:
    assert reply.status_code == 400, reply.text
    error = str(reply.json()["error"])
    assert HIDDEN not in error
    return error


# --- what it answers


def test_events_of_files_and_of_memory_are_one_table_and_each_stands_there_once(world: World) -> None:
    found = run(world, "select event, count(*) as n from events group by all order by 1")
    assert found == [{"event": "bought", "n": 12}, {"event": "looked", "n": 12}]
    assert run(world, "select count(*) as n from events where properties ->> 'late'") == [{"n": 6}]
    [first] = run(world, "select * from events order by time limit 1")
    assert first == {
        "event": "looked",
        "time": "2026-01-15T12:00:00",
        "distinct_id": "mine0",
        "sent_id": "mine0",
        "insert_id": "i0",
        "position": 0,
        "arrived": "2026-01-15T12:00:00",
        "properties": first["properties"],
    }


def test_a_property_is_read_out_of_the_json_or_by_its_function(world: World) -> None:
    for plan in ("properties ->> '$.plan'", "property('plan')", "Property  ( 'plan' )"):
        found = run(
            world, f"select {plan} as plan, 'ü' as u, count(*) as n from events group by 1, 2 order by 1"
        )
        assert found == [{"plan": "free", "u": "ü", "n": 6}, {"plan": "pro", "u": "ü", "n": 18}]
    query = "select 'ü', sum(property('n')::double) as n, count(property('no ''ne')) as m from events"
    assert run(world, query) == [{"'ü'": "ü", "n": 276.0, "m": 0}]


def test_parameters_and_values_of_every_kind(world: World) -> None:
    query = "select count(*) as n from events where event = ? and time >= ?::timestamp"
    assert run(world, query, ["bought", "2026-01-15T12:00:10"]) == [{"n": 7}]
    named = "select count(*) as n from events where event = $name"
    assert run(world, named, {"name": "looked"}) == [{"n": 12}]
    [found] = run(
        world,
        "select 1::hugeint << 100 as a, 1.5::decimal(4,1) as b, date '2026-01-15' as c, [1, null] as d,"
        " {'x': 'y'} as e, 'nan'::double as f, interval 1 day as g, '\\xff'::blob as h, true as i",
    )
    assert found == {
        "a": 2.0**100, "b": 1.5, "c": "2026-01-15", "d": "[1,null]", "e": '{"x":"y"}', "f": None,
        "g": "1 day, 0:00:00", "h": "0xff", "i": True,
    }  # fmt: skip


def test_users_and_groups_are_joined(world: World) -> None:
    query = (
        "select u.distinct_id, u.properties ->> '$.age' as age, count(*) as n"
        " from events e join users u using (distinct_id) group by all order by 1"
    )
    assert run(world, query) == [
        {"distinct_id": f"mine{place}", "age": str(20 + place), "n": 8} for place in range(3)
    ]
    assert run(world, "select group_key, group_id from groups") == [
        {"group_key": "Key", "group_id": "mine group"}
    ]


def test_more_profiles_than_can_be_joined_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_events, "PROFILES_LIMIT_BYTES", 100)
    with pytest.raises(RefusedError, match="the project's users are more than"):
        run(world, "select count(*) from users")
    assert run(world, "select count(*) as n from events") == [{"n": 24}]


def test_over_http_each_project_is_asked_by_those_who_read_it(world: World) -> None:
    query = "select properties ->> '$.of' as of, count(*) as n from events group by 1"
    assert rows(ask(world, query)) == [{"of": "mine", "n": 24}]
    assert rows(ask(world, query, STRANGER)) == [{"of": HIDDEN, "n": 24}]
    assert ask(world, query, project_id=world.other.id).status_code == 403
    csv = ask(world, "select event, time from events order by time limit 1", format="csv").text
    assert csv == "event,time\r\nlooked,2026-01-15T12:00:00\r\n"
    more = ask(world, "select a.insert_id from events a, events b")
    assert (len(rows(more)), more.json()["more"], more.headers["x-mixdown-more"]) == (50, True, "true")


def test_ids_are_canonical_and_stand_beside_those_that_were_sent(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data", role="fold", create=True)
    made = World(store)
    made.store_events([event(place, place, "mine") for place in range(9)])
    link = Link(0, made.project.id, "original", "create_alias", "mine1", "mine0")
    append(store.log, appending_events("mine1", links=[link]), now_ms=NOON_MS)
    made.fold_all()
    found = run(made, "select distinct_id, sent_id, count(*) as n from events group by all order by all")
    made.close()
    assert found == [
        {"distinct_id": "mine1", "sent_id": "mine0", "n": 3},
        {"distinct_id": "mine1", "sent_id": "mine1", "n": 3},
        {"distinct_id": "mine2", "sent_id": "mine2", "n": 3},
    ]


# --- what it refuses


def files_of(world: World, project: int) -> list[Path]:
    return sorted((folder_of(world.store) / "events" / str(project)).rglob("*.parquet"))


BEYOND = [
    "select * from read_parquet('{theirs}')",
    "select * from '{theirs}'",
    'select * from "{theirs}"',
    "select * from read_parquet('{mine}')",
    "select * from parquet_scan('{theirs}')",
    "select * from parquet_metadata('{theirs}')",
    "select * from read_csv('/etc/passwd')",
    "select * from read_text('/etc/passwd')",
    "select * from read_blob('/proc/self/environ')",
    "select * from read_json('/proc/self/fd/0')",
    "select * from glob('/*')",
    "select * from 'https://example.com/x.parquet'",
    "select * from sqlite_scan('{folder}/state.db', 'profiles')",
    "attach '{folder}/state.db' as s (type sqlite)",
    "attach '/tmp/x.db' as s",
    "copy events to '/tmp/x.csv'",
    "copy (select 1) to '/tmp/x.csv'",
    "export database '/tmp/x'",
    "import database '/tmp/x'",
    "install httpfs",
    "load httpfs",
    "set memory_limit = '10GB'",
    "reset memory_limit",
    "set global enable_external_access = true",
    "pragma database_list",
    "pragma enable_external_access",
    "call duckdb_settings()",
    "create table t as select 1",
    "create or replace temp view users as select 1",
    "insert into users values ('x', '{{}}')",
    "update users set distinct_id = 'x'",
    "delete from events",
    "drop view events",
    "select * from hot",
    "select * from dead",
    "select * from persons",
    "with hot as (select 1) select * from (with hot as (select 2) select * from hot)",
    "select * from temp.hot",
    "select * from main.events",
    "select * from temp.information_schema.tables",
    "select * from information_schema.tables",
    "select * from duckdb_views()",
    "select * from duckdb_settings()",
    "select * from duckdb_temporary_files()",
    "select * from pragma_table_info('events')",
    "select * from query('select 1')",
    "select * from query_table('hot')",
    "select * from json_execute_serialized_sql('x')",
    "select current_setting('temp_directory')",
    "select getenv('HOME')",
    "select (select count(*) from hot)",
    "select 1 where exists (from 'x.csv')",
    "select [x for x in (select content from read_text('/etc/passwd'))]",
    "with a as (select * from read_text('/etc/passwd')) select * from a",
    "with recursive a as (select 1 union all select * from read_text('/etc/passwd')) select * from a",
    "show tables",
    "describe events",
    "summarize events",
    "pivot events on event using count(*)",
    "from (pivot (select event from events) on event using count(*))",
    "explain select 1",
    "select 1; select 2",
    "select 1; copy events to '/tmp/x.csv'",
    "prepare q as select 1",
    "execute q",
    "begin",
    "checkpoint",
    "vacuum",
    "use temp",
    "",
    ";",
    "-- nothing",
    "select property(event) from events",
    "select property('a', 'b') from events",
    "selec 1",
]


@pytest.mark.parametrize("query", BEYOND)
def test_nothing_but_a_select_from_the_views_is_read(query: str, world: World) -> None:
    text = query.format(
        theirs=files_of(world, world.other.id)[0],
        mine=files_of(world, world.project.id)[0],
        folder=folder_of(world.store),
    )
    with pytest.raises(RefusedError) as refusal:
        Asked(text)
    assert HIDDEN not in str(refusal.value)


def test_behind_the_reading_of_a_query_duckdb_itself_opens_nothing_else(world: World) -> None:
    theirs = files_of(world, world.other.id)[0]
    with opened(world, "select count(*) from events") as asked:
        for text in (
            f"select * from read_parquet('{theirs}')",
            "select * from read_text('/etc/passwd')",
            "copy (select 1) to '/tmp/mixdown-test.csv'",
            f"attach '{folder_of(world.store)}/state.db' as s",
            "install httpfs",
            "load httpfs",
            "set enable_external_access = true",
            "set memory_limit = '10GB'",
            "select * from 'https://example.com/x.parquet'",
        ):
            with pytest.raises(duckdb.Error):
                asked.connection.execute(text).fetchall()
        assert asked.connection.execute("select count(*) from events").fetchall() == [(24,)]


def test_a_name_of_ones_own_opens_no_table_of_the_same_name_elsewhere() -> None:
    query = "select * from (with hot as (select 1) select * from hot), hot"
    with pytest.raises(RefusedError, match='may call nothing "hot"'):
        Asked(query)


def test_a_refusal_says_what_was_wrong(world: World) -> None:
    many = ", ".join(f"property('p{number}')" for number in range(51))
    for query, reason in (
        ("copy events to '/tmp/x.csv'", NOT_THAT),
        ("select * from hot", 'and not from "hot"'),
        ("select * from read_text('/etc/passwd')", "and not from read_text(...)"),
        ("select nothing from events", 'column "nothing" not found'),
        ("select 1; select 2", "send one query at a time"),
        ("select ?", "parameter"),
        (f"select {many} from events", MANY_PROPERTIES),
        ("select getenv('HOME')", "may not use the function getenv"),
    ):
        with pytest.raises(RefusedError) as refusal:
            run(world, query)
        assert reason in str(refusal.value)
    assert NOT_THAT in refused(ask(world, "copy events to '/tmp/x.csv'"))


def test_a_query_past_its_time_is_ended(tmp_path: Path) -> None:
    hasty = World(open_store(tmp_path / "data", role="fold", create=True), sql_timeout_s=3)
    slow = "select count(*) from range(1000000) a, range(1000000) b where sqrt(a.range + b.range) = 0.5"
    assert "time limit" in (said := refused(ask(hasty, slow))) or "ended" in said
    hasty.close()


def test_a_query_past_its_memory_is_ended(world: World) -> None:
    large = "select list(repeat('x', 1000000) || range) from range(100000)"
    said = refused(ask(world, large))
    assert "memory" in said
    assert rows(ask(world, "select 1 as one")) == [{"one": 1}]


def test_a_query_leaves_nothing_behind(world: World) -> None:
    before = sorted(folder_of(world.store).iterdir())
    rows(ask(world, "select count(*) as n from events"))
    assert sorted(folder_of(world.store).iterdir()) == before
