"""SQL over a store that is no folder of files: the same views and the same guard (DESIGN G6, G7).

What an attacker tries over files is tried here over a store's protocols, whichever store it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from mixdown.cli.output import Failure
from mixdown.cli.sql import Reader
from mixdown.query import sql_rows
from mixdown.query.sql import source_of
from mixdown.query.sql_store import StoreGuard
from mixdown.store.memory import MemoryStore
from mixdown.store.protocols import Store
from mixdown.store.sqlite import open_store as open_folder
from mixdown.store.sqlite.guarded import FUNCTIONS, Guard, RefusedError
from tests.admin.test_sql import HIDDEN, OTHER_DEEDS, OTHER_TABLES, filled
from tests.admin.test_sql import world as over_files
from tests.engine import ON_POSTGRES, database_of, folder_of, variables
from tests.reads.support import World

world = over_files


def run(world: World, query: str, params: Any = (), **options: Any) -> str:
    """What a query gets over the store, rows or error, as text."""
    guard = StoreGuard(world.store, world.project.id, timeout_s=2, memory_bytes=1 << 26, **options)
    return _ran(guard, query, params)


@pytest.fixture(scope="module")
def files(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder with the same."""
    if not ON_POSTGRES:
        yield folder_of(world.store)
        return
    folder = tmp_path_factory.mktemp("files") / "data"
    store = open_folder(folder, role="worker", create=True)
    made = filled(store, open_folder(folder, role="fold", create=False))
    yield folder
    made.close()


def run_over_files(folder: Path, query: str) -> str:
    return _ran(Guard(folder, 1, timeout_s=2, memory_bytes=1 << 26), query, ())


def _ran(guard: Guard, query: str, params: Any) -> str:
    try:
        job = {"query": query, "params": params, "format": "csv", "rows": 1000, "bytes": 1 << 24}
        head, body = guard.answer(job)
        return f"{head} {body.decode()}"
    except RefusedError as error:
        return f"refused: {error}"
    finally:
        guard.connection.close()


@pytest.mark.parametrize(
    "query",
    [
        "select * from users order by distinct_id",
        "select count(*), count(distinct project_id), max(distinct_id), min(properties) from users",
        "select distinct_id, last_seen from users where distinct_id = 'mine2'",
        "select distinct_id from users where distinct_id in ('mine2', 'mine0', 'theirs1', 5) order by 1",
        "select distinct_id from users where distinct_id = 5 or distinct_id is null",
        "select distinct_id from users where distinct_id = null",
        "select count(*) from users where distinct_id collate nocase = 'MINE2'",
        "select distinct_id from users where distinct_id > 'mine1' and properties ->> '$.n' < 3 order by 1",
        "select * from groups",
        "select group_id from groups where group_key = 'Key mine' and group_id = 'mine group'",
        "select group_id from groups where group_key = 'Key theirs'",
        "select u.distinct_id, g.group_id from users u left join groups g on g.group_id > '' order by 1",
        "select a.distinct_id, b.rowid from users a join users b on a.distinct_id > b.distinct_id",
        "select a.distinct_id, b.last_seen from users a join users b using (distinct_id) order by 1, 2",
        "select * from refusals",
        "select count(*) from refusals",
        "with users as (select * from users) select count(*) from users",
        "select each.key, count(*) from users, json_each(properties) as each group by 1 order by 1",
        "select properties ->> '$.n' as n, row_number() over (order by distinct_id) from users order by 1",
        "select distinct_id from users limit 0",
        "select nosuch from users",
        "select * from nosuch",
        "select nosuch(1)",
        "selec",
    ],
)
def test_answers_and_errors_are_those_over_files(world: World, files: Path, query: str) -> None:
    assert run(world, query) == run_over_files(files, query)


@pytest.mark.parametrize("query", OTHER_TABLES)
def test_no_table_is_read_but_through_the_views(world: World, query: str) -> None:
    said = run(world, query)
    assert said.startswith("refused: "), said
    assert HIDDEN not in said.removeprefix("refused: ")


@pytest.mark.parametrize("query", OTHER_DEEDS)
def test_nothing_is_done_but_reading(world: World, query: str) -> None:
    assert run(world, query).startswith("refused: ")


@pytest.mark.parametrize("view", ["users", "groups", "refusals", "history"])
def test_a_condition_meets_no_row_of_another_project(world: World, view: str) -> None:
    guard = StoreGuard(world.store, world.project.id, timeout_s=2, memory_bytes=1 << 26)
    seen: list[Any] = []

    def note(*values: Any) -> int:
        seen.extend(values)
        return 1

    guard.connection.create_scalar_function("abs", note, 1)
    columns, found = guard.run(f"select * from {view}", ())
    assert list(found)
    guard = StoreGuard(world.store, world.project.id, timeout_s=2, memory_bytes=1 << 26)
    guard.connection.create_scalar_function("abs", note, 1)
    for column in columns:
        _, found = guard.run(f'select count(*) from {view} where abs("{column}") = 1', ())
        assert list(found) != [(0,)]
    assert seen
    assert not [each for each in seen if HIDDEN in str(each)]


def test_tables_behind_the_views_hold_nothing_else_for_who_finds_their_names(world: World) -> None:
    guard = StoreGuard(world.store, world.project.id, timeout_s=2, memory_bytes=1 << 26)
    plan = repr(list(guard.run("explain query plan select * from users", ())[1]))
    name = plan.split("main.")[1].split()[0]
    _, found = guard.run(f"select project_id, id from {name}", ())
    assert {project for project, _ in found} == {world.project.id}


def test_what_is_hidden_is_out_of_refusals_before_a_query_meets_them(world: World) -> None:
    hidden = {"hidden": ["mine", "•"]}
    assert "mine" in run(world, "select record from refusals")
    assert "mine" not in run(world, "select record from refusals", **hidden)
    assert run(world, "select count(*) from refusals where record like '%mine%'", **hidden).endswith(
        "\n0\r\n"
    )


def test_rows_of_several_pages_come_once_each(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [run(world, f"select * from {view}") for view in ("users", "refusals")]
    monkeypatch.setattr(sql_rows, "PAGE_PROFILES", 2)
    monkeypatch.setattr(sql_rows, "PAGE_REFUSALS", 1)
    assert [run(world, f"select * from {view}") for view in ("users", "refusals")] == whole


def test_a_profile_that_is_named_is_read_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Iterator[str]:
        raise AssertionError("all profiles were read")

    monkeypatch.setattr(type(world.store.state), "profiles_after", refuse)
    monkeypatch.setattr(type(world.store.state), "ids", refuse)
    assert "mine2" in run(world, "select last_seen, distinct_id from users where distinct_id = ?", ("mine2",))


def test_documents_are_read_where_they_are_wanted_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> list[Any]:
        raise AssertionError("documents were read")

    monkeypatch.setattr(type(world.store.state), "profiles_after", refuse)
    assert run(world, "select count(*) from users where distinct_id > ''").endswith("\n5\r\n")


def test_the_process_opens_no_file_and_no_socket(world: World) -> None:
    """What would be left to a query if SQLite let it through: a connection that was open stays so."""
    folder = folder_of(world.store)
    code = """
import os, select, socket, sys
from mixdown.query.sql_store import StoreGuard
from mixdown.settings import load
from mixdown.store.opening import open_store
from mixdown.store.sqlite import guarded
one, other = socket.socketpair()
store = open_store(load(os.environ, {}), role="worker", create=False)
guard = StoreGuard(store, 1, timeout_s=5, memory_bytes=1 << 26)
print(list(guard.run("select count(*) as n from users", ())[1]))
guard.close_in()
for deed in (lambda: open("/etc/passwd"), lambda: socket.socket(), lambda: os.pipe(), lambda: os.dup(0),
             lambda: guard.connection.execute("attach '/tmp/x.db' as x")):
    try:
        deed()
    except (OSError, guarded.apsw.Error) as error:
        print(type(error).__name__)
    else:
        print("done")
one.send(b"x")
watched = select.poll()
watched.register(other, select.POLLIN)
print(len(watched.poll(1000)), other.recv(1))
"""
    environment = {**os.environ, "MIXDOWN_DATA_DIR": str(folder), **variables(folder)}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    expected = ["[(5,)]", *["OSError"] * 4, "AuthError", "1", "b'x'"]
    assert ended.stdout.split() == expected, ended.stderr


def test_a_store_says_how_another_process_reads_it(world: World) -> None:
    folder = folder_of(world.store)
    if ON_POSTGRES:
        url, shelf = database_of(folder), str(folder / "events")
        database = {"url": url, "password_file": "", "shelf": shelf}
        assert source_of(world.store) == {"database": database}
    else:
        assert source_of(world.store) == {"folder": str(folder)}
    assert source_of(MemoryStore()) is None


def test_no_function_was_added_to_the_list() -> None:
    assert not {name for name in FUNCTIONS if name.startswith(("pg_", "dblink", "lo_", "set_config"))}


def test_the_command_line_sees_over_any_store_what_it_sees_over_files(world: World) -> None:
    projects = [world.project.id, world.other.id]
    views = {
        "users": "project_id, distinct_id",
        "groups": "project_id, group_id",
        "refusals": "id",
        "records": "position",
        "history": "project_id, group_key, id, position, property",
    }
    over = [
        Reader(each, projects, timeout_s=5) for each in (world.store, cast("Store", _Unfiled(world.store)))
    ]
    for view, order in views.items():
        query = f"select * from {view} order by {order}"
        found = [(columns, list(rows)) for columns, rows in (reader.run(query) for reader in over)]
        assert found[0] == found[1]
        assert len(found[0][1]) > 1
    for query in ("delete from users", "attach '/tmp/x.db' as x", "create table t (a)", "drop view users"):
        with pytest.raises(Failure, match="only reads"):
            list(over[1].run(query)[1])
    for reader in over:
        reader.close()


class _Unfiled:
    """A store that does not say that it lies in a folder."""

    def __init__(self, store: Store) -> None:
        self.__dict__.update({name: getattr(store, name) for name in ("state", "refusals", "catalog", "log")})
        self.partition_count = 1

    def partition(self, _number: int) -> Any:
        return self
