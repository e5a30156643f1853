"""Lookup tables: rows that a replacement puts in the place of others, all or none. For every store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from uuid import uuid4

import apsw
import pytest

from mixdown.model.errors import CatalogError, LookupTableError
from mixdown.model.lookup_csv import LookupCsv
from mixdown.store import lookup_tables as shared
from mixdown.store import sorting
from mixdown.store.lookup_tables import KEPT_UNUSED_MS, LookupTable, LookupTables
from mixdown.store.protocols import Store
from mixdown.store.sqlite import SqliteStore

PLANS = b"plan,price,label\nfree,0,Free\npro,12.5,Pro\n"


@pytest.fixture
def project(store: Store) -> int:
    return a_project(store, "one")


@pytest.fixture
def tables(store: Store) -> LookupTables:
    return store.lookup_tables


def a_project(store: Store, name: str) -> int:
    made = store.catalog.create_project(name, token=name, secret_hash=b"", id_merge="simplified", now_ms=1)
    return made.id


def a_table(tables: LookupTables, project: int, name: str = "plans", content: bytes = b"") -> LookupTable:
    made = tables.create(LookupTable(str(uuid4()), project, name, created_ms=5))
    return filled(tables, made, content) if content else made


def filled(tables: LookupTables, table: LookupTable, content: bytes, now_ms: int = 7) -> LookupTable:
    return tables.replace(table.project, table.id, LookupCsv([content]), now_ms=now_ms)


def test_a_new_table_is_empty_and_listed_by_name(tables: LookupTables, project: int) -> None:
    made = [a_table(tables, project, name) for name in ("plans", "Accounts")]
    assert tables.listing(project) == made[::-1]
    assert made[0].columns == ()
    assert list(tables.rows(made[0])) == []
    assert tables.listing(project + 1) == []


def test_a_table_holds_what_it_was_last_replaced_with(tables: LookupTables, project: int) -> None:
    made = a_table(tables, project, content=PLANS)
    assert made.columns == ("plan", "price", "label")
    assert (made.rows, made.size_bytes, made.created_ms, made.replaced_ms) == (2, len(PLANS), 5, 7)
    assert list(tables.rows(made)) == [["free", "0", "Free"], ["pro", "12.5", "Pro"]]
    again = filled(tables, made, b"plan,seats\nteam,5\n", now_ms=9)
    assert tables.listing(project) == [again]
    assert (again.columns, again.rows, again.replaced_ms) == (("plan", "seats"), 1, 9)
    assert list(tables.rows(again)) == [["team", "5"]]


def test_rows_come_in_the_order_in_which_they_were_sent(tables: LookupTables, project: int) -> None:
    keys = ["b", "a", "é", "B", " b", "\U0001f389", "10", "9"]
    made = a_table(tables, project, content=("k\n" + "\n".join(keys) + "\n").encode())
    assert [row[0] for row in tables.rows(made)] == keys


def test_a_cell_is_found_by_key_and_column_and_is_empty_where_there_is_no_row(
    tables: LookupTables, project: int
) -> None:
    a_table(tables, project, content=PLANS)
    opened = tables.tables(project)("plans")
    assert opened is not None
    assert [opened.cell("pro", column) for column in range(3)] == ["pro", "12.5", "Pro"]
    assert opened.cell("Pro", 1) == ""
    assert sorted(opened.keys() or ()) == ["free", "pro"]
    assert tables.tables(project)("Plans") is None


def test_an_opened_table_stays_as_it_was_when_it_is_replaced(tables: LookupTables, project: int) -> None:
    made = a_table(tables, project, content=PLANS)
    before = tables.tables(project)("plans")
    filled(tables, made, b"plan,price\npro,99\n")
    after = tables.tables(project)("plans")
    assert before is not None
    assert after is not None
    assert (before.cell("pro", 1), after.cell("pro", 1)) == ("12.5", "99")


@pytest.mark.parametrize("most", [0, 10_000])
def test_large_and_small_tables_answer_alike(
    tables: LookupTables, project: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "SMALL_ROWS", most)
    monkeypatch.setattr(shared, "_CELLS_HELD", 3)
    a_table(tables, project, content=b"k,v\n" + b"".join(b"%d,v%d\n" % (n, n) for n in range(500)))
    opened = tables.tables(project)("plans")
    assert opened is not None
    assert (opened.keys() is None) is (most == 0)
    for _ in range(2):
        for number in (499, 0, 250, 500, 7):
            assert opened.cell(str(number), 1) == (f"v{number}" if number < 500 else "")


@pytest.mark.parametrize(
    ("content", "failed"),
    [
        (b"k,v\na,1\na,2\n", [(2, "invalid row: row indexes 1 and 2 have the same primary key")]),
        (b"k,v\na,1\nb\n", [(2, "invalid row: wrong number of fields")]),
        (
            b"k,v\na,1\n ,2\nb\na,3\na,4\n",
            [
                (2, "primary key is required and cannot be blank"),
                (3, "invalid row: wrong number of fields"),
                (4, "invalid row: row indexes 1 and 4 have the same primary key"),
                (5, "invalid row: row indexes 1 and 5 have the same primary key"),
            ],
        ),
        (b"k\n" + b"x\n" * 30, None),
        (b"k,v\n" + b"x\n" * 30, None),
    ],
)
def test_one_bad_row_refuses_all_and_what_was_there_stays(
    tables: LookupTables, project: int, content: bytes, failed: list[tuple[int, str]] | None
) -> None:
    made = a_table(tables, project, content=PLANS)
    with pytest.raises(LookupTableError) as caught:
        filled(tables, made, content)
    assert len(caught.value.failed) == 10 if failed is None else list(caught.value.failed) == failed
    assert tables.listing(project) == [made]
    assert [row[0] for row in tables.rows(made)] == ["free", "pro"]


def test_replacements_are_counted_by_project(tables: LookupTables, store: Store, project: int) -> None:
    made = a_table(tables, project)
    other = a_table(tables, a_project(store, "two"))
    for now_ms in (100, 200, 300):
        filled(tables, made, PLANS, now_ms)
    filled(tables, other, PLANS, 250)
    with pytest.raises(LookupTableError):
        filled(tables, made, b"k\n\x00\xff\n", 400)
    assert tables.replacements(project, since_ms=150) == (2, 200)
    assert tables.replacements(project, since_ms=301) == (0, 0)


def test_names_are_taken_and_projects_and_tables_must_exist(
    tables: LookupTables, store: Store, project: int
) -> None:
    made = a_table(tables, project)
    a_table(tables, a_project(store, "two"))  # the same name in another project
    with pytest.raises(CatalogError, match="this name is taken by another lookup table"):
        a_table(tables, project)
    with pytest.raises(CatalogError, match="there is no project 99"):
        a_table(tables, 99)
    for wrong in ((project + 1, made.id), (project, str(uuid4()))):
        with pytest.raises(CatalogError, match=f"Lookup table with id '{wrong[1]}' was not found"):
            tables.delete(*wrong)
        with pytest.raises(CatalogError, match="was not found"):
            tables.replace(*wrong, LookupCsv([PLANS]), now_ms=1)


def test_a_project_has_so_many_tables_at_most(
    tables: LookupTables, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "TABLES_PER_PROJECT", 2)
    a_table(tables, project, "one")
    a_table(tables, project, "two")
    with pytest.raises(CatalogError, match="a project has at most 2 lookup tables"):
        a_table(tables, project, "three")


def test_tables_go_with_their_project(tables: LookupTables, store: Store, project: int) -> None:
    a_table(tables, project, content=PLANS)
    store.catalog.delete_project(project)
    assert tables.listing(project) == []
    assert tables.tables(project)("plans") is None


def test_what_does_not_fit_in_memory_is_sorted_all_the_same(
    tables: LookupTables, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorting, "HELD_LIMIT_BYTES", 100_000)
    keys = [f"{number * 7919 % 20_000:05}" for number in range(20_000)]
    made = a_table(tables, project, content=("k\n" + "\n".join(keys) + "\n").encode())
    assert made.rows == 20_000
    assert [row[0] for row in tables.rows(made)] == keys
    with pytest.raises(LookupTableError, match="row indexes 1 and 20001"):
        filled(tables, made, ("k\n" + "\n".join([*keys, keys[0]]) + "\n").encode())


# --- in a folder


@pytest.fixture
def catalog(opened: SqliteStore) -> Iterator[apsw.Connection]:
    with closing(apsw.Connection(str(opened.folder / "catalog.db"))) as connection:
        yield connection


def stored(catalog: apsw.Connection) -> tuple[int, int]:
    """How many contents and rows there are."""
    contents, rows = catalog.execute(
        "SELECT (SELECT count(*) FROM lookup_contents), (SELECT count(*) FROM lookup_rows)"
    ).get
    return contents, rows


def test_a_refused_replacement_leaves_no_row_behind(opened: SqliteStore, catalog: apsw.Connection) -> None:
    project = a_project(opened, "one")
    made = a_table(opened.lookup_tables, project, content=PLANS)
    many = b"".join(b"%06d,1,x\n" % number for number in range(9_000))
    with pytest.raises(LookupTableError):
        filled(opened.lookup_tables, made, b"k,v,w\n" + many + b"008999,2,y\n")
    assert stored(catalog) == (1, 2)


def test_what_no_table_holds_goes_an_hour_later(opened: SqliteStore, catalog: apsw.Connection) -> None:
    tables = opened.lookup_tables
    made = a_table(tables, a_project(opened, "one"), content=PLANS)
    filled(tables, made, b"k\na\n")
    catalog.execute(
        "INSERT INTO lookup_contents (unused_since_ms) VALUES (0)"
    )  # as a killed upload leaves it
    now_ms = 10_000_000
    assert not tables.tidy(now_ms)
    assert not tables.tidy(now_ms + KEPT_UNUSED_MS - 1)
    assert stored(catalog) == (3, 3)
    while tables.tidy(now_ms + KEPT_UNUSED_MS):
        pass
    tables.tidy(now_ms + KEPT_UNUSED_MS)
    assert stored(catalog) == (1, 1)
    assert [row[0] for row in tables.rows(tables.listing(made.project)[0])] == ["a"]


def test_other_changes_of_the_catalog_go_on_while_a_table_is_replaced(opened: SqliteStore) -> None:
    project = a_project(opened, "one")
    made = a_table(opened.lookup_tables, project)
    in_the_middle, go_on = threading.Event(), threading.Event()

    def pieces() -> Iterator[bytes]:
        yield b"k\n" + b"".join(b"%d\n" % number for number in range(1000))
        in_the_middle.set()
        assert go_on.wait(60)
        yield b"last\n"

    def replace() -> None:
        opened.lookup_tables.replace(project, made.id, LookupCsv(pieces()), now_ms=1)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        assert in_the_middle.wait(60)
        a_project(opened, "two")
        assert not opened.lookup_tables.tidy(1)  # does not wait either
        assert opened.lookup_tables.listing(project)[0].rows == 0
    finally:
        go_on.set()
        thread.join()
    assert opened.lookup_tables.listing(project)[0].rows == 1001
