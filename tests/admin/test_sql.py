"""SQL over HTTP sees one project and nothing else, and ends at its limits (DESIGN G6, G7)."""

from __future__ import annotations

import csv
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import httpx
import orjson
import pytest

from mixdown.query.sql_store import StoreGuard
from mixdown.store.memory import MemoryStore
from mixdown.store.protocols import Store
from mixdown.store.sqlite import guarded
from mixdown.store.sqlite.guarded import Guard, RefusedError
from tests.engine import ON_POSTGRES, folder_of, of_a_folder, open_store
from tests.reads.support import (
    OTHER_TOKEN,
    OWNER,
    READER,
    SECRET,
    STRANGER,
    TOKEN,
    World,
    basic,
    group,
    user,
)

SQL = "/api/mixdown/sql"
HIDDEN = "theirs"
"""It stands in everything that the other project has, and in nothing of this one."""


NOT_THAT_TABLE = "no such table" if ON_POSTGRES else "a query reads from"
"""Over PostgreSQL there is nothing but the views."""
REFUSALS = (RefusedError, apsw.Error) if ON_POSTGRES else (RefusedError,)


ENDLESS = "with recursive n(x) as (select 1 union all select x + 1 from n)"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two projects with users, groups and refusals: no query can change them, so one is enough."""
    folder = tmp_path_factory.mktemp("sql") / "data"
    store = open_store(folder, role="worker", create=True)
    made = filled(store, open_store(folder, role="fold", create=False))
    yield made
    made.close()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server whose queries have little time."""
    folder = tmp_path_factory.mktemp("hasty") / "data"
    made = World(open_store(folder, role="fold", create=True), sql_timeout_s=2)
    yield made
    made.close()


def filled(store: Store, fold_store: Store) -> World:
    """A server with users, groups and refusals of two projects in all its tables."""
    made = World(store, fold_store, sql_timeout_s=30, sql_memory_bytes=64 * 1024 * 1024, sql_rows=50)
    for token, name in ((TOKEN, "mine"), (OTHER_TOKEN, HIDDEN)):
        made.send(*[user(f"{name}{place}", token=token, n=place, of=name) for place in range(4)])
        made.send(group(f"Key {name}", f"{name} group", token=token, of=name), endpoint="groups")
        made.send({"$token": token, "$set": {"of": name}}, user("same", token=token, of=name))
    made.fold_all()
    return made


def ask(world: World, query: str, by: str = READER, **fields: Any) -> httpx.Response:
    return world.post(SQL, user=by, json={"query": query, **fields})


def rows(reply: httpx.Response) -> Any:
    assert reply.status_code == 200, reply.text
    return reply.json()["results"]


# --- what it answers


def test_the_views_show_the_project_and_nothing_of_another(world: World) -> None:
    users = rows(ask(world, "select * from users order by distinct_id"))
    assert [each["distinct_id"] for each in users] == ["mine0", "mine1", "mine2", "mine3", "same"]
    assert users[1] == {
        "project_id": world.project.id,
        "distinct_id": "mine1",
        "properties": users[1]["properties"],
        "last_seen": "2026-01-15T12:00:00",
    }
    assert orjson.loads(users[1]["properties"])["n"] == 1
    groups = rows(ask(world, "select group_key, group_id, data_group_id from groups"))
    number = world.store.state.group_keys(world.project.id)["Key mine"]
    assert groups == [{"group_key": "Key mine", "group_id": "mine group", "data_group_id": number}]
    [refusal] = rows(ask(world, "select * from refusals"))
    assert (refusal["message"], refusal["project_id"]) == ("$distinct_id, missing or empty", world.project.id)


def test_each_project_is_asked_by_those_who_read_it(world: World) -> None:
    query = "select count(*) as n, max(distinct_id) as last from users"
    assert rows(ask(world, query, STRANGER)) == [{"n": 5, "last": "theirs3"}]
    assert rows(ask(world, query, OWNER, project_id=world.project.id)) == [{"n": 5, "last": "same"}]
    assert ask(world, query, OWNER).status_code == 400
    secret = {"Authorization": basic(SECRET)}
    assert rows(world.post(SQL, headers=secret, json={"query": query}))[0]["n"] == 5
    assert ask(world, query, project_id=world.other.id).status_code == 403


def test_history_shows_what_changed_in_this_project_alone(world: World) -> None:
    query = "select id, property, operator, old, new, whole from history where of_id = ? and property <> ?"
    asked: dict[str, Any] = {"params": ["mine1", "$last_seen"]}
    made = {"id": "mine1", "operator": "$set", "old": None, "whole": "created"}
    assert rows(ask(world, query + " order by property", **asked)) == [
        {**made, "property": "n", "new": "1"},
        {**made, "property": "of", "new": '"mine"'},
    ]
    every = (
        "select group_concat(distinct id) as ids, group_concat(distinct project_id) as projects from history"
    )
    [found] = rows(ask(world, every))
    assert sorted(found["ids"].split(",")) == ["mine group", "mine0", "mine1", "mine2", "mine3", "same"]
    assert found["projects"] == str(world.project.id)
    theirs = ask(world, "select count(*) as n from history(?, '', 'theirs1')", params=[world.other.id])
    assert rows(theirs) == [{"n": 0}]
    assert rows(ask(world, "select count(*) as n from history where of_id = 'theirs1'")) == [{"n": 0}]
    refused = ask(world, "select * from history, history_blocks")
    assert (refused.status_code, NOT_THAT_TABLE in refused.text) == (400, True)


def test_values_are_parameters_by_place_or_by_name(world: World) -> None:
    place = "select distinct_id from users where properties ->> '$.n' = ? and distinct_id like ?"
    assert rows(ask(world, place, params=[2, "mi%"])) == [{"distinct_id": "mine2"}]
    name = "select :a as a, :b as b, :c as c"
    assert rows(ask(world, name, params={"a": None, "b": "x' or 1=1 --", "c": True})) == [
        {"a": None, "b": "x' or 1=1 --", "c": 1}
    ]


def test_lines_and_csv_have_the_same_rows(world: World) -> None:
    query = "select distinct_id as id, null as none, 'a,\"ä' as text from users order by 1 limit 2"
    lines = ask(world, query, format="ndjson")
    assert lines.headers["content-type"] == "application/x-ndjson"
    found = [orjson.loads(line) for line in lines.content.splitlines()]
    assert found == [{"id": f"mine{place}", "none": None, "text": 'a,"ä'} for place in (0, 1)]
    table = ask(world, query, format="csv")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    assert list(csv.reader(io.StringIO(table.text)))[:2] == [["id", "none", "text"], ["mine0", "", 'a,"ä']]


def test_more_rows_than_an_answer_may_have_are_cut_and_said(world: World) -> None:
    many = "with recursive n(x) as (select 1 union all select x + 1 from n limit 60) select x from n"
    reply = ask(world, many)
    assert (len(rows(reply)), reply.json()["more"], reply.headers["x-mixdown-more"]) == (50, True, "true")
    assert ask(world, many, format="csv").headers["x-mixdown-more"] == "true"
    exact = ask(world, many.replace("60", "50"))
    assert (len(rows(exact)), "more" in exact.json(), "x-mixdown-more" in exact.headers) == (50, False, False)


def test_columns_of_one_name_are_kept_apart_and_blobs_are_shown(world: World) -> None:
    reply = ask(world, "select 1 as a, 2 as a, x'ff00' as b, 9e999 as c")
    assert reply.json()["columns"] == ["a", "a:2", "b", "c"]
    assert rows(reply) == [{"a": 1, "a:2": 2, "b": "0xff00", "c": None}]
    [row] = rows(ask(world, 'select 1 as a, 2 as a, 3 as "a:2", 4 as a'))
    assert list(row.values()) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"query": ""}, "query, missing"),
        ({"query": " "}, "query, missing"),
        ({"query": ["select 1"]}, "query, must be a text"),
        ({"query": "select '" + "ä" * 33_000 + "'"}, "query, must be at most 65536 bytes"),
        ({"query": "select 1", "format": "xml"}, "format, must be one of json, ndjson, csv"),
        ({"query": "select ?", "params": "x"}, "params, must be"),
        ({"query": "select ?", "params": "7"}, "params, must be a list or an object"),
        ({"query": "select ?", "params": [[1]]}, "params, must be a list or an object"),
        ({"query": "select ?", "params": [1] * 1001}, "params, must be a list or an object"),
    ],
)
def test_a_request_that_cannot_be_a_query_is_400(world: World, fields: dict[str, Any], error: str) -> None:
    reply = world.post(SQL, json=fields)
    assert (reply.status_code, error in reply.json()["error"]) == (400, True), reply.text
    assert "retry-after" not in reply.headers


def test_a_store_that_no_other_process_sees_says_so() -> None:
    made = World(MemoryStore())
    reply = ask(made, "select 1")
    assert (reply.status_code, "in its memory alone" in reply.text) == (400, True)
    made.close()


# --- what it refuses


def guarded_run(world: World, query: str, params: Any = ()) -> str:
    """What a query gets, rows or error, as text: in this process, for the many."""
    limits: Any = {"timeout_s": 1, "memory_bytes": 1 << 26}
    if ON_POSTGRES:
        guard: Guard = StoreGuard(world.store, world.project.id, **limits)
    else:
        guard = Guard(folder_of(world.store), world.project.id, **limits)
    try:
        _, found = guard.run(query, params)
        return repr(list(found))
    except REFUSALS as error:
        return f"refused: {error}"
    finally:
        guard.connection.close()


OTHER_TABLES = [
    "select * from profiles",
    "select count(*) from profiles",
    "select 1 from state.profiles",
    "select * from state.users",
    "select count(*) from state.users",
    "select * from state.groups",
    "select count(*) from state.group_keys",
    "select * from log.refusals",
    "select * from log.chunks",
    "select exists (select 1 from log.chunks)",
    "select * from main.users",
    "select * from sqlite_schema",
    "select * from state.sqlite_schema",
    "select * from temp.sqlite_schema",
    "select sql from sqlite_temp_master",
    "select count(*) from sqlite_temp_schema",
    "with users as (select * from state.profiles) select * from users",
    "with groups as (select * from state.profiles) select * from groups",
    "with users(a) as (select document from state.profiles) select a from users, groups",
    "select * from (select * from state.profiles) as users",
    "with recursive u(a) as (select id from state.profiles union all select a from u) select 1 from u",
    "select (select group_concat(document) from state.profiles) from users",
    "select * from users where exists (select 1 from state.profiles p where p.id = 'theirs1')",
    "select * from users union all select project_id, id, document, 1 from state.profiles",
    "select * from users order by (select id from state.profiles limit 1)",
    "select * from dbstat",
    "select count(*) from dbstat",
    "select * from pragma_table_info('users')",
    "select count(*) from pragma_database_list",
    "select * from pragma_function_list",
    "select file from pragma_database_list",
    "select * from sqlite_dbpage",
    "select * from fts5vocab",
    "select * from json_each, pragma_module_list",
]
OTHER_DEEDS = [
    "attach '/etc/passwd' as p",
    "attach ':memory:' as p",
    "detach state",
    "pragma database_list",
    "pragma table_list",
    "pragma hard_heap_limit = 0",
    "pragma state.user_version",
    "insert into users values (1, 'x', '{}', '')",
    "delete from state.profiles",
    "update state.watermarks set position = 0",
    "create table t (a)",
    "create temp table t (a)",
    "create temp view v as select 1",
    "create virtual table temp.v using fts5(a)",
    "create temp trigger t after insert on users begin select 1; end",
    "drop view users",
    "alter table state.profiles rename to p",
    "vacuum into '/tmp/copy.db'",
    "begin",
    "savepoint s",
    "commit",
    "analyze",
    "reindex",
    "select load_extension('/lib/x.so')",
    "select readfile('/etc/passwd')",
    "select writefile('/tmp/x', 'x')",
    "select edit('x')",
    "select fts3_tokenizer('simple')",
    "select rtreecheck('state', 'profiles')",
    "select sqlite_log(1, 'x')",
    "select zeroblob(1000000000)",
    "select randomblob(1000000000)",
    "select 1; select 2",
    "select 1; attach ':memory:' as p",
    "select 1; delete from state.profiles",
    "explain select 1; select * from users",
    "/* nothing */",
    "selec",
    "select 1 \x00 from users",
]


@pytest.mark.parametrize("query", OTHER_TABLES)
def test_no_table_is_read_but_through_the_views(world: World, query: str) -> None:
    said = guarded_run(world, query)
    assert said.startswith("refused: "), said
    assert HIDDEN not in said.removeprefix("refused: ")
    assert str(folder_of(world.store)) not in said


@pytest.mark.parametrize("query", OTHER_DEEDS)
def test_nothing_is_done_but_reading(world: World, query: str) -> None:
    assert guarded_run(world, query).startswith("refused: ")


@pytest.mark.parametrize(
    "query",
    [
        "select * from users",
        "select * from groups",
        "select * from refusals",
        "select u.*, g.*, r.* from users u, groups g, refusals r",
        "select * from users where distinct_id = 'same' or distinct_id like 'theirs%' or last_seen > ''",
        "select * from users a left join users b on a.distinct_id > b.distinct_id",
        "select * from users where rowid > 0",
        "select count(*), group_concat(distinct_id), max(properties) from users",
        "with users as (select * from users) select * from users",
        "select * from json_tree((select json_group_array(properties) from users))",
        "select * from users where project_id <> 1",
        "select * from users where project_id in (1, 2) or 1",
        "explain query plan select * from users",
        "explain select * from users",
    ],
)
def test_whatever_is_asked_of_the_views_nothing_of_another_project_comes(world: World, query: str) -> None:
    assert HIDDEN not in guarded_run(world, query).replace("'theirs%'", "").replace("theirs%", "")


@pytest.mark.parametrize("view", ["users", "groups", "refusals"])
@pytest.mark.parametrize(
    "condition",
    [
        "case when {v} like '%theirs%' then json('no json') else 1 end",
        "{v} = 'x' or case when {v} like '%theirs%' then json('no json') else 1 end",
        "abs(case when {v} like '%theirs%' then -9223372036854775808 else 1 end) = 1",
        "likely(case when {v} like '%theirs%' then json('no json') else 1 end) order by {v} desc",
    ],
)
def test_no_condition_of_a_query_ever_meets_a_row_of_another_project(
    world: World, view: str, condition: str
) -> None:
    """An error that a foreign row would raise shows that there is one: so it must not be looked at."""
    column = {"users": "properties", "groups": "properties", "refusals": "record"}[view]
    said = guarded_run(world, f"select count(*) as n from {view} where {condition.format(v=column)}")
    assert not said.startswith("refused: "), said


@of_a_folder("the plan is that of its tables")
def test_where_the_plan_does_not_search_by_project_nothing_of_the_query_reaches_the_table(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Guard, "_is_searched_by_project", lambda *_: False)
    query = "select distinct_id from users where distinct_id = 'mine1'"
    assert "mine1" in guarded_run(world, query)
    plan = guarded_run(world, f"explain query plan {query}")
    assert "project_id=? AND data_group_id=?)" in plan, "the condition on the id stays outside"


def test_every_function_that_a_query_may_call_is_one_that_sqlite_has() -> None:
    import apsw

    connection = apsw.Connection(":memory:")
    known = {name for (name,) in connection.execute("select name from pragma_function_list")}
    assert guarded.FUNCTIONS - known == set()


# --- limits, in a process of its own


@pytest.mark.parametrize(
    ("query", "error"),
    [
        (
            ENDLESS + " select x, printf('%.*c', 3000, 'a') as y from n order by y, x",
            "bytes of memory",
        ),
        ("select printf('%.*c', 1000000000, 'x')", "too big"),
        ("select replace(printf('%.*c', 9000000, 'x'), 'x', 'xxxxxxxx')", "too big"),
        ("select json_group_array(printf('%.*c', 9000000, 'x')) from users", "too big|memory"),
        ("select " + "(" * 5000 + "1" + ")" * 5000, "Recursion limit"),
        ("select cast(x'ff' as text)", "no valid UTF-8"),
        ("select json_extract('" + "[" * 20_000 + "', '$')", "malformed JSON"),
    ],
)
def test_a_query_ends_at_its_limits_with_a_clear_400(world: World, query: str, error: str) -> None:
    began = time.monotonic()
    reply = ask(world, query)
    assert reply.status_code == 400, reply.text
    assert any(part in reply.json()["error"] for part in error.split("|")), reply.text
    assert "retry-after" not in reply.headers
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_a_query_ends_when_its_time_is_over(hasty: World) -> None:
    reply = ask(hasty, ENDLESS + " select count(*) from n")
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert "time limit" in error or "was ended" in error, "the latter where the machine is slow to start it"
    assert "retry-after" not in reply.headers


@pytest.mark.slow
def test_one_call_that_does_not_look_at_the_time_is_killed(hasty: World) -> None:
    """A search that compares millions with millions never comes back to where SQLite looks at the clock."""
    query = "select instr(printf('%.*c', 8000000, 'a'), printf('%.*cb', 4000000, 'a'))"
    reply = ask(hasty, query)
    assert (reply.status_code, "was ended" in reply.json()["error"]) == (400, True), reply.text
    give_up = time.monotonic() + 120  # a busy machine may take all of the time to start the next
    while (reply := ask(hasty, "select 1 as one")).status_code != 200 and time.monotonic() < give_up:
        pass
    assert rows(reply) == [{"one": 1}]


@of_a_folder("test_sql_store has the same of the other")
def test_the_process_opens_no_file_and_no_socket_and_has_nothing_of_the_server(world: World) -> None:
    """What would be left to a query if SQLite let it through."""
    folder = folder_of(world.store)
    code = f"""
import os, socket, sys
sys.path.insert(0, {str(Path(guarded.__file__).parent)!r})
import guarded
from pathlib import Path
guard = guarded.Guard(Path({str(folder)!r}), 1, timeout_s=5, memory_bytes=1 << 26)
guard.close_in()
for deed in (lambda: open("/etc/passwd"), lambda: socket.socket(), lambda: os.pipe(),
             lambda: guard.connection.execute("attach '/tmp/x.db' as x")):
    try:
        deed()
    except (OSError, guarded.apsw.Error) as error:
        print(type(error).__name__)
    else:
        print("done")
columns, found = guard.run("select count(*) as n from users", ())
print(list(found))
"""
    ended = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.stdout.split() == ["OSError", "OSError", "OSError", "AuthError", "[(5,)]"], ended.stderr


def test_a_query_leaves_no_process_behind_and_inherits_no_descriptor(world: World) -> None:
    before = children()
    with socket.socket() as listening:
        os.set_inheritable(listening.fileno(), True)
        for _ in range(3):
            ask(world, "select 1")
    assert children() == before


def children() -> set[str]:
    """The processes that this one has started and that are still there."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            if fields[1] == str(os.getpid()):
                found.add(status.parent.name)
    return found


def test_many_queries_at_once_wait_their_turn_and_no_more_than_some(world: World) -> None:
    replies = world.at_once(
        *[world.ask(SQL, method="POST", json={"query": "select count(*) as n from users"}) for _ in range(48)]
    )
    assert {reply.status_code for reply in replies} <= {200, 503}
    assert [reply.status_code for reply in replies].count(200) >= 2
    turned_away = [reply for reply in replies if reply.status_code == 503]
    assert turned_away
    assert all("too many SQL queries" in reply.text for reply in turned_away)
    assert all("retry-after" not in reply.headers for reply in turned_away)
