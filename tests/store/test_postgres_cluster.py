"""What a Citus cluster asks of the store's statements: rules, each with statements that break it.

Every statement that any test of stores sends is held to them too (`tests/conftest.py`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, cast

import psycopg
import pytest
from psycopg.sql import SQL

from mixdown.fold.loop import catch_up
from mixdown.model.errors import LeaseLostError, StoreDownError, StoreError
from mixdown.model.expression import Context, parse
from mixdown.store import event_upkeep
from mixdown.store.chunk import FOR_PROFILES
from mixdown.store.events import FIRST_MS, LAST_MS, EventsWrite, batch_of
from mixdown.store.places import all_views, first_of
from mixdown.store.postgres import PostgresStore, answers, open_postgres
from mixdown.store.postgres.answers import WatchedConnection
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.events import PostgresEvents, WholeEvents
from mixdown.store.postgres.fencing import lease_lost
from mixdown.store.postgres.leases import FOLD, Leases
from mixdown.store.postgres.pool import Connection
from mixdown.store.protocols import Store
from mixdown.store.selection import Selection
from mixdown.store.shelves import FolderShelf
from tests.reads.support import NOON_MS, TOKEN, World, group, user
from tests.store.cluster import CLUSTER, greet_as_citus
from tests.store.coordinator import Coordinator
from tests.store.postgres import Server
from tests.store.support import append, appending, read_all, refusal

PARTITIONS: Final = 3
CONTEXT: Final = Context(NOON_MS // 1000)
OF_INTEGERS = [23, 23, 23]

BROKEN = [
    ("DELETE FROM mixdown.chunks WHERE first < $1", "does not name one partition"),
    ("UPDATE mixdown.heads SET position = 1 WHERE partition = ANY(ARRAY[$1])", "does not name one"),
    (
        (
            "DELETE FROM mixdown.keys WHERE partition = $1"
            " AND bucket IN (SELECT bucket FROM mixdown.key_buckets WHERE partition = $2)"
        ),
        "does not name one partition",
    ),
    (
        (
            "DELETE FROM mixdown.keys AS k WHERE partition = $1"
            " AND bucket IN (SELECT b.bucket FROM mixdown.key_buckets AS b WHERE b.partition = k.partition)"
        ),
        "does not name one partition",
    ),
    ("UPDATE mixdown.heads SET partition = 2 WHERE partition = $1", "moves rows"),
    ("DELETE FROM mixdown.heads USING mixdown.leases AS l WHERE heads.partition = $1", "meet leases"),
    (
        (
            "WITH gone AS (DELETE FROM mixdown.keys WHERE partition = $1 RETURNING key)"
            " SELECT count(*) FROM gone"
        ),
        "writes within WITH",
    ),
    (
        (
            "INSERT INTO mixdown.uncounted VALUES ($1, 1, '',"
            " (SELECT max(counted_to) FROM mixdown.uncounted WHERE partition = $1))"
        ),
        "among the values",
    ),
    ("WITH a AS (SELECT 1) INSERT INTO mixdown.history_reach SELECT $1::int, 1, true", "begins with WITH"),
    ("INSERT INTO mixdown.history_reach VALUES (1, 1, true), (1, 2, true)", "several rows of VALUES"),
    ("INSERT INTO mixdown.history_reach VALUES (length('a' || $1::text), 1, true)", "no constant"),
    ("INSERT INTO mixdown.history_reach SELECT $1::int2, 1, true", "no int"),
    ("INSERT INTO mixdown.history_reach SELECT unnest(ARRAY[$1]), 1, true", "no constant"),
    (
        (
            "INSERT INTO mixdown.history_reach SELECT $1::int, position, true FROM mixdown.heads"
            " WHERE partition = $1"
        ),
        "goes through the coordinator",
    ),
    (
        (
            "INSERT INTO mixdown.history_reach VALUES ($1, 1, true)"
            " ON CONFLICT (partition) DO UPDATE SET partition = excluded.partition"
        ),
        "moves rows",
    ),
    ("INSERT INTO mixdown.history_reach VALUES ($1, 1, true) ON CONFLICT DO NOTHING", "names no partition"),
    (
        (
            "INSERT INTO mixdown.history_reach VALUES ($1, 1, true) ON CONFLICT (partition)"
            " DO UPDATE SET since_ms = extract(epoch FROM now())"
        ),
        "ON CONFLICT calls",
    ),
    ("UPDATE mixdown.heads SET time_ms = random() WHERE partition = $1", "volatile"),
    ("DELETE FROM mixdown.heads WHERE partition = $1 AND time_ms < random()", "volatile"),
    ("UPDATE mixdown.heads SET time_ms = 1 WHERE partition = $1 RETURNING now()", "RETURNING calls"),
    (
        "UPDATE mixdown.heads SET time_ms = coalesce(extract(epoch FROM now()), 1) WHERE partition = $1",
        "CASE or coalesce",
    ),
    (
        "DELETE FROM mixdown.heads WHERE partition = $1 AND to_char(time_ms, '9') = '1'",
        "stable function is given a column",
    ),
    (
        "SELECT position FROM mixdown.heads WHERE partition = ANY(ARRAY[$1]) FOR UPDATE",
        "locks rows of several",
    ),
    ("SELECT xmax FROM mixdown.heads WHERE partition = $1", "column of the system"),
    ("SELECT h.position FROM mixdown.heads AS h, mixdown.layout", "meet layout"),
    ("SELECT h.position FROM mixdown.heads AS h, pg_class", "which is the coordinator's"),
    (
        (
            "WITH RECURSIVE n (p) AS (SELECT partition FROM mixdown.heads UNION ALL SELECT p + 1 FROM n"
            " WHERE p < 9) SELECT * FROM n"
        ),
        "recursive over several",
    ),
    ("SELECT count(*) FROM mixdown.heads GROUP BY ROLLUP (time_ms)", "by sets"),
    ("SELECT EXISTS (SELECT 1 FROM mixdown.profiles)", "fetched as a whole"),
    ("SELECT 1 FROM mixdown.heads WHERE EXISTS (SELECT FROM mixdown.chunks)", "chooses no column"),
    (
        (
            "SELECT count(*) FROM (SELECT first FROM mixdown.chunks WHERE partition = $1 UNION ALL"
            " (SELECT first FROM mixdown.chunks WHERE partition = $2 ORDER BY first LIMIT 9)) AS ahead"
        ),
        "LIMIT over several partitions",
    ),
    ("SELECT count(*) FROM (SELECT first FROM mixdown.chunks LIMIT 9) AS few", "LIMIT over several"),
    (
        "SELECT sum(position), (SELECT count(*) FROM mixdown.chunks) FROM mixdown.heads",
        "looks up beside it",
    ),
    (
        (
            "SELECT own.p, (SELECT count(*) FROM mixdown.chunks AS c WHERE c.partition = own.p)"
            " FROM unnest(ARRAY[1, 2]) AS own (p)"
        ),
        "outside of all partitions",
    ),
    (
        "SELECT (SELECT count(*) FROM mixdown.chunks AS c WHERE c.first = h.parted) FROM mixdown.heads AS h",
        "looks into other partitions",
    ),
    (
        (
            "SELECT r.since_ms FROM unnest(ARRAY[1]) AS own (p)"
            " LEFT JOIN mixdown.history_reach AS r ON r.partition = own.p"
        ),
        "joined outside",
    ),
    (
        "SELECT 1 FROM mixdown.heads AS h JOIN mixdown.chunks AS c ON c.first = h.position",
        "other columns than the partition",
    ),
    (
        "SELECT 1 FROM mixdown.heads AS h LEFT JOIN mixdown.chunks AS c ON c.first = h.position",
        "other columns than the partition",
    ),
    ("DECLARE lots CURSOR FOR SELECT ctid FROM mixdown.heads", "column of the system"),
    ("SELECT nothing FROM mixdown.heads", "not understood"),
]

SOUND = [
    (
        "DELETE FROM mixdown.keys WHERE partition = $1 AND bucket IN"
        " (SELECT bucket FROM mixdown.key_buckets WHERE partition = $1 ORDER BY bucket LIMIT 1)"
    ),
    (
        "DELETE FROM mixdown.keys AS k USING mixdown.key_buckets AS b"
        " WHERE k.partition = b.partition AND b.partition = $1 AND k.bucket = b.bucket"
    ),
    (
        "INSERT INTO mixdown.history_reach SELECT $1::int, unnest(ARRAY[1, 2]), true"
        " ON CONFLICT (partition) DO UPDATE SET since_ms = excluded.since_ms"
    ),
    (
        "INSERT INTO mixdown.history_reach SELECT partition, position, true FROM mixdown.heads"
        " WHERE partition = $1"
    ),
    "UPDATE mixdown.heads SET position = greatest(position, $2) WHERE partition = $1 RETURNING position",
    "SELECT position FROM mixdown.heads WHERE partition = $1 FOR UPDATE",
    (
        "WITH RECURSIVE n (p) AS (SELECT first FROM mixdown.chunks WHERE partition = $1 UNION ALL"
        " SELECT p + 1 FROM n WHERE p < 9) SELECT * FROM n"
    ),
    "SELECT (SELECT max(first) FROM mixdown.chunks WHERE partition = $1)",
    (
        "SELECT h.position, (SELECT c.first FROM mixdown.chunks AS c WHERE c.partition = h.partition"
        " ORDER BY c.first LIMIT 1) FROM mixdown.heads AS h"
    ),
    "SELECT 1 FROM mixdown.heads AS h LEFT JOIN mixdown.chunks AS c ON c.partition = h.partition",
    "SELECT now()",
    "UPDATE mixdown.leases SET expires_at = clock_timestamp()",
]


@pytest.fixture(scope="module")
def coordinator(postgresql: Server) -> Iterator[Coordinator]:
    postgresql.copy(postgresql.template(2), "coordinator")
    with psycopg.connect(postgresql.url("coordinator"), autocommit=True) as own:
        yield Coordinator(own)


@pytest.mark.parametrize(("statement", "words"), BROKEN)
def test_a_statement_that_a_cluster_would_not_take_is_found(
    coordinator: Coordinator, statement: str, words: str
) -> None:
    faults = coordinator.faults(statement.encode(), OF_INTEGERS, {1: 1, 2: 2})
    assert any(words in fault for fault in faults), faults


@pytest.mark.parametrize("statement", SOUND)
def test_a_statement_that_a_cluster_takes_is_not(coordinator: Coordinator, statement: str) -> None:
    assert coordinator.faults(statement.encode(), OF_INTEGERS, {1: 1, 2: 1}) == []


def test_which_partitions_are_meant_is_told_by_values(coordinator: Coordinator) -> None:
    twice = (
        b"DELETE FROM mixdown.keys WHERE partition = $1"
        b" AND bucket IN (SELECT bucket FROM mixdown.key_buckets WHERE partition = $2)"
    )
    assert coordinator.faults(twice, OF_INTEGERS, {1: 7, 2: 7}) == []
    assert coordinator.faults(twice, OF_INTEGERS, {1: 7, 2: 8}) != []


def test_what_functions_of_the_schema_run_is_taken_too(coordinator: Coordinator) -> None:
    refused = [
        {"place": place, "project": project, "endpoint": "engage", "record_index": place, "field": "",
         "message": "m", "record": "{}", "whole": False, "sdk": "", "request_key": "00ff", "size_bytes": 9}
        for place, project in ((1, 0), (2, 0), (3, 7), (4, 7))
    ]  # fmt: skip
    trees = coordinator.trees_of(
        "SELECT * FROM mixdown.append(1, 2, 3, NULL, true, 1, 1, 1, 1, '', '',"
        f" '{json.dumps(refused)}', 1, 9, 1, 9)"
    )
    trees += coordinator.trees_of(
        "SELECT * FROM mixdown.append(1, 2, 3, 77, true, 1, 1, 1, 1, '', '', NULL, 1, 9, 1, 9)"
    )
    written = {tree["commandType"] for tree in trees}
    assert {"2", "3", "4"} <= written, "an append that is over the bounds inserts, updates and deletes"
    assert [fault for tree in trees for fault in coordinator.faults_of(tree)] == []


def test_a_lost_lease_is_known_by_what_a_node_says_of_its_shard(postgresql: Server) -> None:
    with psycopg.connect(postgresql.migrated(), autocommit=True) as own:
        own.execute("ALTER TABLE mixdown.watermarks RENAME TO watermarks_102033")
        with pytest.raises(psycopg.errors.NotNullViolation) as raised:
            own.execute("UPDATE mixdown.watermarks_102033 SET position = NULL")
    of_a_shard = raised.value
    passed_on = psycopg.errors.NotNullViolation(str(of_a_shard))
    assert passed_on.diag.table_name is None, "a coordinator passes on the sentence alone"
    assert isinstance(lease_lost(of_a_shard, 3), LeaseLostError)
    assert isinstance(lease_lost(passed_on, 3), LeaseLostError)
    assert lease_lost(psycopg.errors.NotNullViolation('of relation "chunks_7"'), 3) is None


@pytest.fixture
def as_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores take the server for the coordinator of a cluster."""
    greet_as_citus(monkeypatch, "13.0.1")


ASKED: Final = (
    "SELECT current_setting('citus.propagate_set_commands', true), current_setting('lock_timeout'),"
    " current_setting('idle_in_transaction_session_timeout')"
)


def test_one_postgresql_is_no_cluster(postgresql: Server) -> None:
    own = Database(postgresql.migrated())
    own.run("SELECT 1")
    assert not own.is_cluster
    own.close()


@pytest.mark.parametrize("version", ["10.2.9", "11.0.8", "11.1.7"])
def test_nodes_that_read_no_moment_are_refused(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    greet_as_citus(monkeypatch, version)
    old = Database(postgresql.migrated())
    with pytest.raises(StoreError, match=f"a cluster of Citus {version}: Mixdown needs 11.2"):
        old.run("SELECT 1")
    old.close()


@pytest.mark.parametrize("version", ["11.2.0", "12.1.6", "13.0.1", "13.3devel"])
def test_newer_ones_are_taken(postgresql: Server, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    greet_as_citus(monkeypatch, version)
    new = Database(postgresql.migrated())
    assert (new.value("SELECT 1"), new.is_cluster) == (1, True)
    new.close()


@pytest.mark.usefixtures("as_a_cluster")
def test_nodes_of_a_cluster_are_told_the_limits_of_locks(postgresql: Server) -> None:
    spread = Database(postgresql.migrated())
    with spread.transaction() as cursor:
        in_transaction = cursor.execute(ASKED.encode()).fetchone()
    with spread.pipeline() as piped:
        in_pipeline = piped.execute(ASKED.encode()).fetchone()
    of_one = spread.write(SQL(ASKED))
    assert in_transaction == in_pipeline == of_one == ("local", "5s", "10s")
    assert spread.is_cluster
    spread.close()


@pytest.mark.usefixtures("as_a_cluster")
def test_an_append_and_refusals_tell_nodes_the_limits_too(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_postgres(postgresql.migrated(), role="fold", create=False)
    written: list[str] = []
    pipeline = store.database.pipeline

    @contextmanager
    def noted() -> Iterator[Connection]:
        with pipeline() as piped:
            written.append("transaction")
            yield piped

    monkeypatch.setattr(store.database, "pipeline", noted)
    append(store.log, appending("a", refused=[refusal()]))
    store.refusals.add([refusal()], NOON_MS)
    assert len(written) == 2
    assert read_all(store.log, 0) == ["a"]
    store.close()


@pytest.mark.usefixtures("as_a_cluster")
def test_each_setting_of_a_transaction_is_a_text_of_its_own(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coordinator sends the text that a setting came in to its nodes, as it is."""
    sent: list[str] = []
    execute = WatchedConnection.execute

    def noted(self: WatchedConnection, query: Any, *rest: Any, **options: Any) -> Any:
        sent.append(query if isinstance(query, str) else query.as_string())
        return execute(self, query, *rest, **options)

    spread = Database(postgresql.migrated())
    spread.run("SELECT 1")
    monkeypatch.setattr(WatchedConnection, "execute", noted)
    for opened in (spread.transaction(), spread.pipeline()):
        with opened as held:
            held.execute("SELECT 2")
    assert sum("SET LOCAL" in text for text in sent) == 10
    assert not [text for text in sent if ";" in text]
    spread.close()


@pytest.mark.usefixtures("as_a_cluster")
@pytest.mark.parametrize("way", ["transaction", "pipeline"])
def test_nodes_of_a_cluster_are_told_to_have_a_commit_on_disk(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Their default may be to lose it. What the coordinator alone is to do is said before they are told."""
    sent: list[str] = []
    execute = WatchedConnection.execute

    def noted(self: WatchedConnection, query: Any, *rest: Any, **options: Any) -> Any:
        sent.append(query if isinstance(query, str) else query.as_string())
        return execute(self, query, *rest, **options)

    spread = Database(postgresql.migrated())
    spread.run("SELECT 1")
    monkeypatch.setattr(WatchedConnection, "execute", noted)
    with getattr(spread, way)() as held:
        held.execute("SELECT 1").fetchone()
    hear, tell, disk = (
        next(place for place, text in enumerate(sent) if name in text)
        for name in ("client_min_messages", "propagate_set_commands", "synchronous_commit = on")
    )
    assert hear < tell < disk
    spread.close()


AT_COMMIT: Final = """
    CREATE TABLE written (number int);
    CREATE FUNCTION says() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE {level} 'es wird nicht gewartet' USING ERRCODE = '01000'; RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER says AFTER INSERT ON written DEFERRABLE INITIALLY {when}
    FOR EACH ROW EXECUTE FUNCTION says();
"""


@pytest.mark.usefixtures("as_a_cluster")
@pytest.mark.parametrize("way", ["transaction", "pipeline"])
@pytest.mark.parametrize(
    ("level", "when", "counts"), [("DEBUG", "DEFERRED", False), ("WARNING", "IMMEDIATE", True)]
)
def test_a_commit_that_a_node_warns_of_does_not_count(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch, way: str, level: str, when: str, *, counts: bool
) -> None:
    """Its standby did not confirm it. What it warns of in a statement, of its collations say, is no fault."""
    url = postgresql.empty()
    with psycopg.connect(url, autocommit=True) as own:
        own.execute(AT_COMMIT.format(level=level, when=when).encode())
    monkeypatch.setattr(answers, "_PASSES_ON", "exec_stmt_raise")  # what passes it on here
    spread = Database(url)
    spread.run("SELECT 1")
    with (
        nullcontext() if counts else pytest.raises(StoreDownError, match="standby"),
        getattr(spread, way)() as held,
    ):
        held.execute("INSERT INTO written VALUES (1)")
    assert spread.value("SELECT count(*) FROM written") == 1
    spread.close()


@pytest.mark.usefixtures("as_a_cluster")
def test_whoever_is_silent_within_a_pipeline_is_ended_on_a_cluster_too(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the coordinator is a node itself, it takes an open pipeline for work, and ends nothing."""
    url = postgresql.straight(postgresql.migrated())
    stopped, other = (open_postgres(url, role="fold", create=False) for _ in range(2))
    reading = open_postgres(url, role="worker", create=False)
    leases = Leases(other.database, other.fences, FOLD, "one", partitions=1)
    monkeypatch.setattr("mixdown.store.postgres.leases.SILENT_S", 0.2)
    with pytest.raises(StoreError), stopped.database.pipeline() as held:  # noqa: PT012 - it is ended meanwhile
        held.execute("SELECT 1 FROM mixdown.watermarks FOR UPDATE").fetchone()
        with reading.database.pipeline() as asking:
            asking.execute("SELECT 1").fetchone()
            began = time.monotonic()
            while leases.tend() != {0: 1}:
                assert time.monotonic() - began < 60
                time.sleep(0.05)
            assert asking.execute("SELECT 2").fetchone() == (2,), "of others nothing is ended"
        held.execute("SELECT 1").fetchone()
    for store in (stopped, other, reading):
        store.close()


@pytest.fixture(params=["postgres", *CLUSTER])
def spread(request: pytest.FixtureRequest) -> Iterator[World]:
    """A server whose project is large, on several partitions."""
    if request.param == "cluster":
        url = request.getfixturevalue("cluster").emptied(PARTITIONS)
    else:
        url = request.getfixturevalue("postgresql").migrated(PARTITIONS)
    store = open_postgres(url, role="fold", create=False)
    made = World(cast("Store", store), read_wait_ms=0)
    store.catalog.enlarge_project(made.project.id)
    made.services.catalog.refresh()
    yield made
    made.close()


def test_profiles_of_all_partitions_are_asked_together(spread: World) -> None:
    store, project = spread.store, spread.project.id
    ids = [f"u{place:03}" for place in range(60)]
    spread.send(*[user(each, n=place, plan="abc"[place % 3]) for place, each in enumerate(ids)])
    spread.send(group("Company", "Acme", size=3), endpoint="groups")
    spread.send({"$token": TOKEN, "$set": {"of": "nobody"}}, user("u000", long="x" * 20_000))
    for view in all_views(store):
        catch_up(view)
        view.state.count_properties(1000)
    state = store.state
    assert (state.count(project, ""), list(state.ids(project, ""))) == (60, ids)
    assert [each for each, _ in state.page(project, "", offset=20, limit=5)] == ids[20:25]
    assert [each for each, _ in state.profiles_after(project, "", after="u009", limit=5)] == ids[10:15]
    assert state.id_after(project, "", "u010", 5) == "u015"
    assert state.documents([(project, "", each) for each in ids[:30]]).count(None) == 0
    assert state.property_counts(project, "", limit=10).counts["plan"] == {"string": 60}
    assert state.group_keys(project).keys() == {"Company"}
    for where, found in (
        ('properties["plan"] == "a"', 20),
        ('properties["plan"] in ["a", "b"] and properties["n"] < 30', 20),
        ('"b" in properties["plan"] or not defined(properties["n"])', 20),
    ):
        assert spread.page(where=where)["total"] == found, where
    state.add_property_index(project, "", "plan")
    for view in all_views(store):
        while view.state.build_indexes(1000):
            pass
    assert [(each.complete, each.profiles) for each in state.property_indexes(project)] == [(True, 60)]
    assert spread.page(where='properties["plan"] == "c"')["total"] == 20
    looked = state.look(project, "", Selection(context=CONTEXT), after="u030", limit=7, rows=20)
    assert [each for each, _ in looked.profiles] == ids[31:38]
    counted = Selection(context=CONTEXT, where=(parse('properties["n"] >= 50'),))
    assert state.tally(project, "", [counted, Selection(context=CONTEXT)]) == [10, 60]


def test_what_changed_and_what_was_refused_in_all_partitions_is_told(spread: World) -> None:
    store, project = spread.store, spread.project.id
    spread.send(*[user(f"u{place:03}", n=place) for place in range(40)])
    for record in (user("u001", long="x" * 20_000), user("u001", long=""), user("u001", long="x" * 20_000)):
        for view in all_views(store):
            catch_up(view)
        spread.send({"$token": TOKEN, "$set": {"of": "nobody"}}, record)
    for view in all_views(store):
        catch_up(view)
        while view.state.tend_history(keep_from_ms=0, limit_bytes=0):
            pass
    state = store.state
    reach, size = state.history_reach(), state.history_size()
    assert (reach.since_ms, size.since_ms) == (0, 0)
    assert reach.segments == size.segments >= PARTITIONS
    ranged = state.history_between(project, "", "u000", None, since_ms=0)
    assert (len(ranged.documents), len(ranged.changes)) == (40, 40)
    changes = list(state.history((project, "", "u001"), below=2**62))
    assert len(changes) == 4, "a large value that came twice is kept once"
    refused = store.refusals.listing([project])
    assert store.refusals.by_ids([each.id for each in refused]) == sorted(refused, key=lambda each: each.id)
    assert [each.count for each in store.refusals.reasons([project])] == [3]
    assert store.refusals.remove([each.id for each in refused]) == 3
    assert store.refusals.counts() == {}
    logs = store.logs()
    assert (logs.records, logs.dropped, logs.damaged) == (43, 0, 0)
    assert sum(view.log.trim(view.log.head(), 2**60) for view in all_views(store)) >= PARTITIONS
    assert store.logs().dropped == 43
    assert [place.slowest for place in store.places(range(PARTITIONS), FOR_PROFILES)] == [
        view.log.head() for view in all_views(store)
    ]


def test_events_of_all_partitions_are_asked_together(
    spread: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_upkeep, "CLOSED_EVENTS", 4)
    store, project = cast("PostgresStore", spread.store), spread.project.id
    for view in store._views:
        view.events = PostgresEvents(store.database, view.number, FolderShelf(tmp_path), lambda: 0)
    whole = WholeEvents(
        store.database, FolderShelf(tmp_path), [view.events for view in store._views], store.partitions_of
    )
    for number, view in enumerate(store._views):
        for step in range(3):
            batch = batch_of(project, [_event(number, step, place) for place in range(1 + 4 * (step == 2))])
            key = (bytes([number, step] * 8), NOON_MS, None)
            view.events.write(EventsWrite(view.events.watermark(), [batch], [key], NOON_MS))
    assert whole.projects() == [project]
    assert (whole.size().hot_events, whole.size(project).file_events) == (2 * PARTITIONS, 5 * PARTITIONS)
    parts = whole.parts(project, FIRST_MS, LAST_MS)
    assert (len(parts.files), len(parts.hot)) == (PARTITIONS, 2 * PARTITIONS)
    for number, view in enumerate(store._views):
        view.events.note_forgotten(first_of(number) + 1)
        assert sum(view.events.forget(project, [f"u{number}"], below=first_of(number) + 1000)) == 7
        assert whole.owed(project), "files of which rows are hidden for good are to be written anew"
        while view.events.tend(busy=False, now_ms=NOON_MS):
            pass
    assert whole.size(project).hot_events == 0
    assert len(whole.known_keys([bytes([n, 1] * 8) for n in range(9)], since_ms=0)) == PARTITIONS
    assert whole.key_window() == (3 * PARTITIONS, NOON_MS)
    whole.redact_keys([bytes([0, 1] * 8)])
    whole.drop(project)
    assert whole.size(project).hot_events == 0


def _event(number: int, step: int, place: int) -> dict[str, Any]:
    return {
        "position": first_of(number) + 10 * step + place,
        "arrived": NOON_MS,
        "event": "bought",
        "time": NOON_MS + place,
        "distinct_id": f"u{number}",
        "insert_id": f"{number} {step} {place}",
        "properties": {},
    }
