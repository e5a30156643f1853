"""The log on PostgreSQL: partitions, many writers at once, damage, what is told to whom."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import psycopg
import pytest

from mixdown.model.errors import PartedError, SchemaTooNewError, StoreError
from mixdown.store import reading
from mixdown.store.chunk import CHUNK_VERSION, FOR_ALL, FOR_EVENTS, FOR_PROFILES, decode_body
from mixdown.store.places import all_views, first_of, logs_of, partition_at
from mixdown.store.postgres import PostgresStore, open_postgres
from mixdown.store.protocols import Log
from mixdown.store.unmerging import append_unmerge
from tests.store.postgres import Server
from tests.store.support import NOW_MS, append, appending, appending_events, read_all, refusal


@pytest.fixture
def url(postgresql: Server) -> str:
    return postgresql.migrated(partitions=3)


@pytest.fixture
def parted(url: str) -> Iterator[PostgresStore]:
    store = open_postgres(url, role="worker", create=False)
    yield store
    store.close()


def count_chunks(store: PostgresStore) -> int:
    return int(store.database.value("SELECT count(*) FROM mixdown.chunks"))


def test_each_partition_has_positions_and_ids_of_its_own(parted: PostgresStore) -> None:
    views = [parted.partition(number) for number in range(3)]
    for number, view in enumerate(views):
        assert view is parted.partition(number)
        first = first_of(number)
        assert (view.number, view.log.head(), view.log.tail_position()) == (number, first, first)
        appended = append(view.log, appending(f"p{number}", refused=[refusal(index=number)]))
        assert (appended.first, appended.end) == (first, first + 1)
        assert read_all(view.log, first) == [f"p{number}"]
        assert view.log.size_bytes() > 0
        [kept] = view.refusals.listing(None)
        assert (kept.index, partition_at(kept.id), kept.id) == (number, number, view.refusals.newest_id())
    assert parted.refusals.counts()[1][0] == 3


def test_the_whole_has_no_log_of_its_own(parted: PostgresStore) -> None:
    with pytest.raises(StoreError, match="several partitions"):
        parted.log.head()
    with pytest.raises(StoreError, match="several partitions"):
        parted.refusals.newest_id()
    with pytest.raises(StoreError, match="several partitions"):
        parted.refusals.heads(0, limit=1)
    with pytest.raises(StoreError, match="several partitions"):
        parted.refusals.add([refusal()], NOW_MS)


def test_refusals_of_all_partitions_come_newest_first_and_page_by_page(parted: PostgresStore) -> None:
    order = [2, 0, 1, 0, 2, 2, 1]
    for at, number in enumerate(order):
        append(parted.partition(number).log, appending(refused=[refusal(index=at)]), now_ms=NOW_MS + at)
    newest = [each.index for each in parted.refusals.listing(None)]
    assert newest == list(range(len(order)))[::-1]
    found: list[int] = []
    before = None
    while page := parted.refusals.listing(None, before_id=before, limit=2):
        found += [each.index for each in page]
        before = page[-1].id
    assert found == newest
    ids = [each.id for each in parted.refusals.listing(None)]
    assert parted.refusals.remove(ids[:3]) == 3
    assert [each.id for each in parted.refusals.by_ids(ids)] == sorted(ids[3:])
    assert [each.id for each in parted.refusals.listing(None, before_id=ids[2])] == ids[3:]


def test_one_look_tells_of_all_logs_together(parted: PostgresStore) -> None:
    views = all_views(parted)
    assert parted.logs() == logs_of(views)
    for number, view in enumerate(views):
        for at in range(3 * number):
            append(view.log, appending("a", "b"), now_ms=NOW_MS + number * 1000 + at)
    views[2].log.trim(first_of(2) + 4, NOW_MS + 10_000)
    parted.database.run("UPDATE mixdown.chunks SET checksum = 0 WHERE partition = 1")
    views[1].log.read(first_of(1), max_records=100, max_bytes=1 << 20)
    told = parted.logs()
    assert told == logs_of(views)
    assert (told.records, told.dropped, told.damaged) == (18, 4, 3)


def test_one_look_tells_how_far_readers_have_come(parted: PostgresStore) -> None:
    append(parted.partition(1).log, appending("a"))
    append(parted.partition(1).log, appending_events("b"))
    append(parted.partition(2).log, appending_events("c"))
    one, two = first_of(1), first_of(2)
    places = parted.places([2, 1, 0])
    assert [(place.partition, place.head, place.profiles, place.events) for place in places] == [
        (2, two + 1, two + 1, two),
        (1, one + 2, one, one + 1),
        (0, 0, 0, 0),
    ]
    assert [place.events for place in parted.places([2], FOR_PROFILES)] == [two + 1]
    assert [place.profiles for place in parted.places([1], FOR_EVENTS)] == [one + 2]


def followed(log: Log, at: int, stop: threading.Event) -> list[str]:
    """Follow the log as a reader does, until nothing comes any more: what was wrong with what came."""
    faults: list[str] = []
    last_ms = 0
    while True:
        ended = stop.is_set()
        head = log.head()
        got = log.read(at, max_records=7, max_bytes=10**6)
        for each in got:
            if each.first != at or each.time_ms < last_ms:
                faults.append(f"at {at} came {each.first}, at {each.time_ms}")
            at, last_ms = each.end, each.time_ms
        if not got and at < head:
            faults.append(f"the head was {head}, and nothing comes at {at}")
        if ended and not got:
            return faults


def test_positions_become_visible_in_order_none_missing_none_twice(url: str, parted: PostgresStore) -> None:
    """Processes append to the same and to different partitions while others read."""
    writers, chunks = 6, 25
    stores = [open_postgres(url, role="worker", create=False) for _ in range(3)]
    stop = threading.Event()
    faults: list[str] = []

    def write(number: int) -> None:
        store = stores[number % len(stores)]
        for chunk in range(chunks):
            for partition in (0, 1 + number % 2):
                ids = [f"{number}-{chunk}-{each}" for each in range(1 + chunk % 3)]
                append(store.partition(partition).log, appending(*ids), now_ms=NOW_MS + chunk)

    def read(partition: int) -> None:
        faults.extend(followed(parted.partition(partition).log, first_of(partition), stop))

    readers = [threading.Thread(target=read, args=(partition,)) for partition in range(3)]
    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in readers + threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    for thread in readers:
        thread.join()
    assert faults == []
    for partition in range(3):
        log = parted.partition(partition).log
        found = read_all(log, first_of(partition))
        own = [number for number in range(writers) if partition in (0, 1 + number % 2)]
        assert len(found) == log.head() - first_of(partition) == len(set(found))
        for number in own:
            mine = [each for each in found if each.split("-")[0] == str(number)]
            wanted = [f"{number}-{chunk}-{each}" for chunk in range(chunks) for each in range(1 + chunk % 3)]
            assert mine == wanted, "what one sent in turn stands in turn"
    for store in stores:
        store.close()


def test_appends_of_other_processes_wait_for_no_more_than_the_statement(
    url: str, parted: PostgresStore
) -> None:
    """A turn that is held, by a process that is slow or stopped, holds no lock of the database."""
    log = parted.partition(0).log
    other = open_postgres(url, role="worker", create=False)
    with log.turn() as turn:
        turn.append([appending("a")], NOW_MS)
        append(other.partition(0).log, appending("b"))
        turn.append([appending("c")], NOW_MS)
    assert read_all(log) == ["a", "b", "c"]
    other.close()


def test_what_was_prepared_before_another_process_parted_ids_is_not_appended(
    url: str, parted: PostgresStore
) -> None:
    log = parted.partition(1).log
    other = open_postgres(url, role="worker", create=False).partition(1)
    with log.turn() as turn:
        assert turn.parted() == first_of(1)
        append_unmerge(other, 1, "a", now_ms=NOW_MS)
        with pytest.raises(PartedError):
            turn.append([appending("b")], NOW_MS)
    assert read_all(log, first_of(1)) == ["a"], "the unmerge alone"
    with log.turn() as turn:
        assert turn.parted() == first_of(1) + 1
        turn.append([appending("b")], NOW_MS)
        turn.append([appending("c")], NOW_MS)
    assert read_all(log, first_of(1)) == ["a", "b", "c"]
    other.close()


def test_a_chunk_that_was_changed_on_disk_is_set_aside_and_told_once(parted: PostgresStore) -> None:
    view = parted.partition(1)
    log = view.log
    told: list[Sequence[tuple[int, int, str]]] = []
    log.on_damage = told.append  # type: ignore[attr-defined]
    for name in "abc":
        append(log, appending(name, name))
    first = first_of(1)
    parted.database.run(
        "UPDATE mixdown.chunks SET packed = set_byte(packed, 9, (get_byte(packed, 9) + 1) %% 256)"
        " WHERE partition = %s AND first = %s",
        (1, first + 2),
    )
    for _ in range(2):
        assert read_all(log, first) == ["a", "a", "c", "c"]
    reason = "its checksum does not match"
    assert log.damaged() == [(first + 2, 2, reason)]
    assert told == [[(first + 2, 2, reason)]]
    assert log.read(first + 2, max_records=1, max_bytes=1)[0].first == first + 4
    parted.database.run("UPDATE mixdown.chunks SET count = 1 WHERE first = %s", (first + 4,))
    assert read_all(log, first + 4) == []
    assert log.skip_damaged(first + 4) == first + 6


def test_a_body_whose_pages_are_lost_costs_its_chunk_alone(url: str, parted: PostgresStore) -> None:
    log = parted.partition(0).log
    for name in "abcd":  # so many ids that their hashes are stored apart from the row
        append(log, appending(*[f"{name}{number}" for number in range(3000)]))
    with psycopg.connect(url, autocommit=True) as connection:
        (number, toast) = connection.execute(
            "SELECT reltoastrelid, reltoastrelid::regclass::text FROM pg_class"
            " WHERE oid = 'mixdown.chunks'::regclass"
        ).fetchone() or (0, "")
        connection.execute("SET allow_system_table_mods = on")
        # nobody may delete from such a table: so for a moment it is none
        connection.execute("UPDATE pg_class SET relkind = 'r' WHERE oid = %s", (number,))
        ids = connection.execute(f"SELECT DISTINCT chunk_id FROM {toast} ORDER BY 1").fetchall()
        connection.execute(f"DELETE FROM {toast} WHERE chunk_id = %s", ids[2])
        connection.execute("UPDATE pg_class SET relkind = 't' WHERE oid = %s", (number,))
    found = {each[0] for each in read_all(log)}
    assert len(found) == 3
    [(_, count, reason)] = log.damaged()
    assert count == 3000
    assert "damaged" in reason


def test_a_chunk_of_a_later_format_stops_the_reader(parted: PostgresStore) -> None:
    log = parted.partition(0).log
    append(log, appending("a"))
    row = parted.database.row("SELECT kinds, filter, packed FROM mixdown.chunks", binary=True)
    assert row is not None
    from mixdown.store.postgres.rewriting import seal_of

    later = CHUNK_VERSION + 1
    seal = seal_of(1, later, *row)
    parted.database.run("UPDATE mixdown.chunks SET version = %s, checksum = %s", (later, seal))
    with pytest.raises(SchemaTooNewError, match=f"format {later}"):
        log.read(0, max_records=1, max_bytes=1)


def test_a_read_goes_on_past_the_rows_of_one_statement(
    parted: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixdown.store.postgres.log._ROWS_AT_ONCE", 2)
    log = parted.partition(0).log
    for number in range(9):
        append(log, appending(f"p{number}") if number % 3 == 0 else appending_events(f"e{number}"))
    shape = [
        (chunk.first, chunk.end, bool(chunk.body))
        for chunk in log.read(0, max_records=3, max_bytes=10**6, kinds=FOR_PROFILES)
    ]
    assert shape == [(0, 1, True), (1, 3, False), (3, 4, True), (4, 6, False), (6, 7, True)]
    assert len(log.read(0, max_records=100, max_bytes=10**6, kinds=FOR_ALL)) == 9
    assert len(log.read(0, max_records=5, max_bytes=10**6, kinds=FOR_ALL)) == 5
    monkeypatch.setattr(reading, "SKIPPED_AT_ONCE", 3)
    assert len(log.read(0, max_records=100, max_bytes=10**6, kinds=0)) == 1
    assert log.read(0, max_records=100, max_bytes=10**6, kinds=0)[0].end == 3


def test_a_reader_with_limits_of_all_sizes_gets_what_the_model_gives(parted: PostgresStore) -> None:
    from mixdown.store.memory import MemoryStore

    log, model = parted.partition(0).log, MemoryStore().log
    for number in range(30):
        ids = [f"{number}.{each}" for each in range(1 + number * 7 % 5)]
        for each in (log, model):
            append(each, appending_events(*ids) if number % 4 in (1, 2) else appending(*ids))
    for at in (0, 1, 5, 40, log.head()):
        for kinds in (FOR_ALL, FOR_PROFILES, FOR_EVENTS):
            for records, size in ((1, 1), (3, 10**6), (1000, 300), (7, 700), (1000, 10**6)):
                limits = {"max_records": records, "max_bytes": size, "kinds": kinds}
                assert log.read(at, **limits) == model.read(at, **limits), (at, limits)


def test_trimming_and_rewriting_go_on_beside_appends(url: str, parted: PostgresStore) -> None:
    from mixdown.store.chunk import Chunk, encode_filter
    from mixdown.store.privacy import Rewritten
    from tests.store.support import segment

    log = parted.partition(0).log
    other = open_postgres(url, role="worker", create=False)
    stop = threading.Event()

    def appends() -> None:
        while not stop.is_set():
            append(other.partition(0).log, appending("x"), now_ms=NOW_MS)

    thread = threading.Thread(target=appends)
    thread.start()
    try:
        for _ in range(20):
            chunks = log.read(log.tail_position(), max_records=5, max_bytes=10**6)
            rewritten = [
                Rewritten(
                    Chunk(each.first, each.count, each.time_ms, b"[" + segment("y" * 9) + b"]"),
                    encode_filter(["y"]),
                    1,
                )
                for each in chunks
            ]
            assert log.rewrite(rewritten) == len(chunks)
            if chunks:
                log.trim(chunks[-1].first, NOW_MS + 1)
                [found] = [
                    update.id
                    for part in decode_body(log.read(chunks[-1].first, max_records=1, max_bytes=1)[0].body)
                    for update in part.updates
                ]
                assert found == "y" * 9
            time.sleep(0.005)
    finally:
        stop.set()
        thread.join()
    other.close()
    held = sum(len(chunk.body) for chunk in log.read(0, max_records=10**6, max_bytes=10**8))
    assert log.size_bytes() == held
    log.trim(log.head(), NOW_MS + 1)
    assert (log.size_bytes(), count_chunks(parted), log.tail_position()) == (0, 0, log.head())
