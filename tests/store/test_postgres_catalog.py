"""The catalog, jobs and query sessions in PostgreSQL: many nodes at once, and what clients send."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from uuid import uuid4

import pytest

from mixdown.model.errors import CatalogError, LookupTableError
from mixdown.model.lookup_csv import LookupCsv
from mixdown.store import bounds, session_blocks
from mixdown.store import lookup_tables as shared
from mixdown.store.fresh import Fresh
from mixdown.store.lookup_tables import KEPT_UNUSED_MS, LookupTable
from mixdown.store.postgres import PostgresStore, lookup_copies, open_postgres
from mixdown.store.privacy import PENDING, UNFINISHED_LIMIT, Deletion
from mixdown.store.protocols import Account, Cohort, Session
from tests.store.postgres import Server
from tests.store.support import NOW_MS

NODES = 4
LONG = "".join(str(uuid4()) for _ in range(1000))  # 36,000 characters that do not compress to an index entry


@pytest.fixture
def nodes(postgresql: Server) -> Iterator[list[PostgresStore]]:
    """The same store, opened by several processes' worth of connections."""
    url = postgresql.migrated()
    with ExitStack() as opened:
        stores = []
        for _ in range(NODES):
            store = open_postgres(url, role="worker", create=False, pool_size=2)
            opened.callback(store.close)
            stores.append(store)
        yield stores


@pytest.fixture
def store(nodes: list[PostgresStore]) -> PostgresStore:
    return nodes[0]


def a_project(store: PostgresStore, name: str = "one") -> int:
    made = store.catalog.create_project(name, token=name, secret_hash=b"", id_merge="simplified", now_ms=1)
    return made.id


def a_table(store: PostgresStore, project: int, content: bytes) -> LookupTable:
    made = store.lookup_tables.create(LookupTable(str(uuid4()), project, "plans"))
    return store.lookup_tables.replace(project, made.id, LookupCsv([content]), now_ms=7)


def at_once(
    stores: list[PostgresStore], work: Callable[[PostgresStore, int], object], times: int
) -> list[object]:
    """What each of many calls gives or raises, spread over the nodes and begun together."""
    start = threading.Barrier(len(stores) * 2)

    def run(number: int) -> list[object]:
        store, found = stores[number % len(stores)], list[object]()
        start.wait(60)
        for turn in range(times):
            try:
                found.append(work(store, number * times + turn))
            except CatalogError as error:
                found.append(error)
        return found

    with ThreadPoolExecutor(len(stores) * 2) as threads:
        done = [threads.submit(run, number) for number in range(len(stores) * 2)]
        return [each for future in done for each in future.result(60)]


def counted(store: PostgresStore, table: str) -> int:
    count: int = store.database.value(f"SELECT count(*) FROM mixdown.{table}")
    return count


# --- nodes at once


def test_one_of_many_nodes_gets_a_name(nodes: list[PostgresStore]) -> None:
    def create(store: PostgresStore, number: int) -> int:
        made = store.catalog.create_project(
            "same", token=f"t{number}", secret_hash=b"", id_merge="simplified", now_ms=1
        )
        return made.id

    found = at_once(nodes, create, 3)
    refused = [each for each in found if isinstance(each, CatalogError)]
    assert len(refused) == len(found) - 1
    assert {error.message for error in refused} == {"this name is taken by another project"}
    assert len(nodes[0].catalog.projects()) == 1


def test_changes_of_one_account_by_many_nodes_are_all_kept(nodes: list[PostgresStore]) -> None:
    projects = [a_project(nodes[0], f"p{number}") for number in range(24)]
    nodes[0].catalog.create_account(Account("u", b"h" * 32, projects[0], "admin"))
    before = nodes[0].catalog.version()
    found = at_once(
        nodes, lambda store, number: store.catalog.grant_account("u", projects[number], "consumer"), 3
    )
    assert not [each for each in found if isinstance(each, CatalogError)]
    [account] = nodes[1].catalog.accounts()
    assert [project for project, _ in account.grants] == projects
    assert {store.catalog.version() for store in nodes} == {before + len(found)}


def test_nodes_that_change_and_delete_the_same_meet_no_deadlock(nodes: list[PostgresStore]) -> None:
    keep = a_project(nodes[0], "keep")

    def work(store: PostgresStore, number: int) -> None:
        project = a_project(store, f"p{number}")
        cohort = store.cohorts.create(Cohort(project, "c"), [f"{each}" for each in range(20)])
        store.catalog.create_account(Account(f"u{number}", b"h" * 32, project, "admin"))
        store.catalog.grant_account(f"u{number}", keep, "consumer")
        store.cohorts.forget(project, "", ["1", "2"])
        assert len(list(store.cohorts.ids(cohort.id))) == 18
        store.catalog.delete_project(project)

    found = at_once(nodes, work, 4)
    assert found == [None] * len(found)
    assert [each.id for each in nodes[0].catalog.projects()] == [keep]
    assert counted(nodes[0], "cohort_ids") == 0
    assert {account.grants for account in nodes[0].catalog.accounts()} == {((keep, "consumer"),)}


def test_a_bound_holds_for_all_nodes_together(
    nodes: list[PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "COHORTS_PER_PROJECT", 5)
    project = a_project(nodes[0])
    found = at_once(
        nodes, lambda store, number: store.cohorts.create(Cohort(project, f"c{number}", expression="true")), 2
    )
    assert sum(isinstance(each, Cohort) for each in found) == 5
    jobs = at_once(
        nodes,
        lambda store, number: store.privacy.add_deletion(
            Deletion(f"d{number}", project, "", ("a",), 1, PENDING, "me", "GDPR", number)
        ),
        UNFINISHED_LIMIT // len(nodes) // 2 + 2,
    )
    assert len([each for each in jobs if each is None]) == UNFINISHED_LIMIT
    assert len(nodes[1].privacy.unfinished()) == UNFINISHED_LIMIT


def test_a_job_is_claimed_by_one_node(nodes: list[PostgresStore]) -> None:
    job = Deletion("job", 1, "", ("a",), 1, PENDING, "me", "GDPR", 5)
    nodes[0].privacy.add_deletion(job)
    found = at_once(nodes, lambda store, _: store.privacy.claim("job", now_ms=10, stale_ms=0), 2)
    assert sum(map(bool, found)) == 1


def test_a_change_is_seen_by_all_nodes_at_once(nodes: list[PostgresStore]) -> None:
    seen = [store.catalog.version() for store in nodes]
    a_project(nodes[0])
    assert [store.catalog.version() for store in nodes] == [version + 1 for version in seen]


def test_sessions_made_and_dropped_by_many_nodes_leave_no_block_behind(
    nodes: list[PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "SESSIONS_PER_PROJECT", 3)
    monkeypatch.setattr(session_blocks, "BLOCKS_AT_ONCE", 1)

    def work(store: PostgresStore, number: int) -> None:
        store.sessions.create(
            Session(f"s{number}", 1, "", 0, 10, NOW_MS + number), map(str, range(number % 7 * 700))
        )
        for _ in store.sessions.forget(1, "", {"3", "700"}, until_ms=NOW_MS + number, now_ms=NOW_MS):
            break

    at_once(nodes, work, 6)
    nodes[0].sessions.create(Session("last", 1, "", 0, 10, NOW_MS + 10_000), ["a"])
    assert counted(nodes[0], "sessions") <= 4
    orphans = nodes[0].database.value(
        "SELECT count(*) FROM mixdown.session_blocks WHERE session NOT IN (SELECT id FROM mixdown.sessions)"
    )
    assert orphans == 0


def test_a_version_is_never_older_than_the_question() -> None:
    number, asked = 0, 0
    looking, go_on = threading.Event(), threading.Event()

    def look() -> int:
        nonlocal asked
        asked += 1
        seen = number
        looking.set()
        assert go_on.wait(60)
        return seen

    fresh = Fresh(look)
    with ThreadPoolExecutor(9) as threads:
        first = threads.submit(fresh.ask)
        assert looking.wait(60)
        number = 1
        later = [threads.submit(fresh.ask) for _ in range(8)]
        go_on.set()
        assert first.result(20) == 0
        assert [each.result(20) for each in later] == [1] * 8
    assert asked <= 1 + len(later)


def test_who_asks_after_a_look_that_failed_looks_again() -> None:
    answers: Iterator[int | ValueError] = iter([ValueError("gone"), 7])

    def look() -> int:
        found = next(answers)
        if isinstance(found, ValueError):
            raise found
        return found

    fresh = Fresh(look)
    with pytest.raises(ValueError, match="gone"):
        fresh.ask()
    assert fresh.ask() == 7


# --- lookup tables


def test_other_nodes_read_and_change_the_catalog_while_a_table_is_replaced(
    nodes: list[PostgresStore],
) -> None:
    one, other = nodes[:2]
    project = a_project(one)
    made = a_table(one, project, b"k,v\na,1\n")
    in_the_middle, go_on = threading.Event(), threading.Event()

    def pieces() -> Iterator[bytes]:
        yield b"k,v\n" + b"".join(b"%d,2\n" % number for number in range(1000))
        in_the_middle.set()
        assert go_on.wait(60)
        yield b"last,3\n"

    thread = threading.Thread(
        target=lambda: one.lookup_tables.replace(project, made.id, LookupCsv(pieces()), now_ms=9)
    )
    thread.start()
    try:
        assert in_the_middle.wait(60)
        a_project(other, "two")
        assert not other.lookup_tables.tidy(10)
        table = other.lookup_tables.tables(project)("plans")
        assert table is not None
        assert table.cell("a", 1) == "1"
    finally:
        go_on.set()
        thread.join()
    table = other.lookup_tables.tables(project)("plans")
    assert table is not None
    assert (table.cell("a", 1), table.cell("last", 1)) == ("", "3")


def test_a_refused_replacement_leaves_no_row_behind(store: PostgresStore) -> None:
    made = a_table(store, a_project(store), b"k,v,w\na,1,x\n")
    many = b"".join(b"%06d,1,x\n" % number for number in range(9_000))
    with pytest.raises(LookupTableError):
        store.lookup_tables.replace(
            made.project, made.id, LookupCsv([b"k,v,w\n" + many + b"008999,2,y\n"]), now_ms=8
        )
    assert (counted(store, "lookup_contents"), counted(store, "lookup_rows")) == (1, 1)


def test_a_table_that_is_deleted_while_it_is_replaced_leaves_nothing(store: PostgresStore) -> None:
    project = a_project(store)
    made = a_table(store, project, b"k\na\n")

    def pieces() -> Iterator[bytes]:
        yield b"k\nb\n"
        store.lookup_tables.delete(project, made.id)
        yield b"c\n"

    with pytest.raises(CatalogError, match="was not found"):
        store.lookup_tables.replace(project, made.id, LookupCsv(pieces()), now_ms=9)
    assert counted(store, "lookup_contents") == 1


def test_what_no_table_holds_goes_an_hour_later(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixdown.store.postgres.lookup_tables._DROPPED_ROWS", 2)
    made = a_table(store, a_project(store), b"k\na\nb\nc\n")
    store.lookup_tables.replace(made.project, made.id, LookupCsv([b"k\nz\n"]), now_ms=8)
    now_ms = 10_000_000
    assert not store.lookup_tables.tidy(now_ms)
    assert not store.lookup_tables.tidy(now_ms + KEPT_UNUSED_MS - 1)
    assert (counted(store, "lookup_contents"), counted(store, "lookup_rows")) == (2, 4)
    while store.lookup_tables.tidy(now_ms + KEPT_UNUSED_MS):
        pass
    assert (counted(store, "lookup_contents"), counted(store, "lookup_rows")) == (1, 1)
    assert list(store.lookup_tables.rows(store.lookup_tables.listing(made.project)[0])) == [["z"]]


def test_a_large_table_that_is_asked_often_is_read_from_a_copy(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "SMALL_ROWS", 0)
    monkeypatch.setattr(shared, "_CELLS_HELD", 1)
    monkeypatch.setattr(lookup_copies, "COPIED_AFTER", 3)
    project = a_project(store)
    content = "k,v\n" + "".join(f"{number},v{number}é\n" for number in range(300))
    made = a_table(store, project, content.encode())
    table = store.lookup_tables.tables(project)("plans")
    assert table is not None
    assert [table.cell(str(number), 1) for number in range(4)] == [f"v{number}é" for number in range(4)]
    store.database.run("DELETE FROM mixdown.lookup_rows WHERE content = %s", (made.content,))
    asked = [*range(300), 300, 5]
    expected = [f"v{number}é" if number < 300 else "" for number in asked]
    assert [table.cell(str(number), 1) for number in asked] == expected


def test_copies_that_were_not_asked_for_longest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup_copies, "COPIED_AFTER", 0)
    monkeypatch.setattr(lookup_copies, "COPIES", 2)
    scanned: list[int] = []

    def scan(content: int) -> list[tuple[str, str]]:
        scanned.append(content)
        return [("k", f"of {content}")]

    copies = lookup_copies.Copies(lambda _content, _key: "there", scan)
    assert [copies.find(content, "k") for content in (1, 2, 1, 3, 1, 2)] == [
        f"of {content}" for content in (1, 2, 1, 3, 1, 2)
    ]
    assert scanned == [1, 2, 3, 2]
    copies.close()


# --- what clients send


def test_texts_that_the_database_cannot_hold_find_nothing_and_raise_nothing(store: PostgresStore) -> None:
    project = a_project(store)
    made = a_table(store, project, b"k,v\na,1\n")
    for text in ("a\x00b", "\ud800", "a\x00" * 5000):
        assert store.sessions.page_ids(text, 0) == []
        assert store.sessions.get(text, project, now_ms=1) is None
        assert store.privacy.deletion(project, text) is None
        assert store.privacy.retrieval(project, text, now_ms=1) is None
        assert store.dictionary.get(project, text, text) is None
        assert store.lookup_tables.tables(project)(text) is None
        with pytest.raises(CatalogError):
            store.lookup_tables.delete(project, text)
        with pytest.raises(CatalogError):
            store.catalog.delete_account(text)
        found = store.lookup_tables._find_there(made.content, text)
        assert found is None
    cohort = store.cohorts.create(Cohort(project, "c", "a\x00b"), ["x\x00", "x\x00", "y"])
    assert store.cohorts.listing(project)[0].description == "a\ufffdb"
    assert list(store.cohorts.ids(cohort.id)) == ["x\ufffd", "y"]


def test_ids_and_keys_may_be_longer_than_an_index_holds(store: PostgresStore) -> None:
    project = a_project(store)
    cohort = store.cohorts.create(Cohort(project, "long"), [LONG, "a"])
    assert list(store.cohorts.ids(cohort.id)) == sorted([LONG, "a"])
    assert store.cohorts.forget(project, "", [LONG]) == 1
    made = a_table(store, project, f"k,v\n{LONG},1\n".encode())
    assert store.lookup_tables._find_there(made.content, LONG) is not None
    store.sessions.create(Session("s", project, "", 0, 1, NOW_MS), [LONG])
    assert store.sessions.page_ids("s", 0) == [LONG]


def test_pages_that_no_result_set_has_are_empty(store: PostgresStore) -> None:
    store.sessions.create(Session("s", 1, "", 0, 100_000, NOW_MS), ["a"])
    for page in (-(10**30), -1, 1, 2**31 - 1, 2**31, 10**30):
        assert store.sessions.page_ids("s", page) == []
