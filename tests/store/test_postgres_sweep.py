"""What is over leaves the tables of a PostgreSQL store: rows that nobody asks for must not pile up there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mixdown.fold.loop import catch_up, trim
from mixdown.model.limits import KEY_WINDOW_MS
from mixdown.store import bounds
from mixdown.store.events import EventsWrite
from mixdown.store.places import all_views, first_of
from mixdown.store.postgres import PostgresStore, history, open_postgres
from mixdown.store.postgres.tables import DISTRIBUTED, PLAIN
from mixdown.store.protocols import FoldResult
from tests.store.postgres import Server
from tests.store.support import DAY_MS, NOW_MS, append, appending, appending_events, key

PARTITIONS = 3


@pytest.fixture
def store(postgresql: Server) -> Iterator[PostgresStore]:
    opened = open_postgres(postgresql.migrated(PARTITIONS), role="fold", create=False)
    yield opened
    opened.close()


def rows_of(store: PostgresStore, table: str) -> int:
    assert table in DISTRIBUTED + PLAIN
    return int(store.database.value(f"SELECT count(*) FROM mixdown.{table}"))


def test_chunks_that_both_readers_have_taken_go_with_the_retention(store: PostgresStore) -> None:
    for number, made in enumerate((appending("a"), appending_events("b"), appending("c"))):
        for at in range(20):
            append(store.partition(number).log, made, now_ms=NOW_MS + at * DAY_MS)
    now_ms = NOW_MS + 30 * DAY_MS
    assert [trim(view, retention_ms=DAY_MS, now_ms=now_ms) for view in all_views(store)] == [0, 0, 0]
    catch_up(store)
    assert rows_of(store, "chunks") == 60
    kept_ms = 15 * DAY_MS + 1
    assert [trim(view, retention_ms=kept_ms, now_ms=now_ms) for view in all_views(store)] == [15] * 3
    assert rows_of(store, "chunks") == 15
    for view in all_views(store):
        assert trim(view, retention_ms=0, now_ms=now_ms) == 5
        assert view.log.size_bytes() == 0
    assert rows_of(store, "chunks") == 0


def test_keys_of_retries_are_deleted_when_their_window_is_over(store: PostgresStore) -> None:
    view = store.partition(1)
    begin = at = first_of(1)
    browser = [b"%012d" % number for number in range(50)]
    assert len(browser[0]) == bounds.CALL_KEY_BYTES
    for day in range(3):
        of_day = [(key(day * 100 + number), NOW_MS + day * DAY_MS, None) for number in range(100)]
        of_calls = [(each, NOW_MS + day * DAY_MS, None) for each in browser]
        view.state.write(FoldResult(at + 1, [], [*of_day, *of_calls], NOW_MS + day * DAY_MS, begin=at))
        events = [(key(900 + day * 100 + number), NOW_MS + day * DAY_MS, None) for number in range(100)]
        view.events.write(EventsWrite(at + 1, [], [*events, *of_calls], NOW_MS + day * DAY_MS))
        at += 1
    assert rows_of(store, "event_keys") == 350, "a browser's key that came again counts once"
    late_ms = NOW_MS + DAY_MS + KEY_WINDOW_MS + 1
    for step in range(10):  # a bucket goes at a step, whether or not it brings keys
        view.state.write(FoldResult(at + step + 1, [], [], late_ms, begin=at + step))
    assert (rows_of(store, "keys"), rows_of(store, "key_buckets")) == (100, 1)
    assert view.state.key_window() == (100, NOW_MS + 2 * DAY_MS)
    view.events.write(EventsWrite(at + 1, [], [(key(5000), late_ms, None)], late_ms))
    assert rows_of(store, "event_keys") == 101
    assert at > begin


def test_the_bound_of_the_history_is_one_of_all_partitions_together(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "LOOK_EVERY_S", 0.0)
    unmerged = 1 << 26  # in units of this, long segments are left alone
    held = {0: 5, 1: 7, 2: 40}
    for number, segments in held.items():
        store.database.run(
            "INSERT INTO mixdown.history_segments (partition, segment, state, first_position,"
            " last_position, first_ms, last_ms, bytes, value_bytes)"
            " SELECT %s, n, 0, %s + n, %s + n, n, n, 9 * %s, %s FROM generate_series(1, %s) AS n",
            (number, first_of(number), first_of(number), unmerged, unmerged, segments),
        )

    def left(limit: int) -> list[int]:
        for _ in range(20):
            for view in all_views(store):
                while view.state.tend_history(keep_from_ms=0, limit_bytes=limit * unmerged):
                    pass
        counts: dict[int, int] = dict(
            store.database.rows(
                "SELECT partition, (sum(bytes + value_bytes) / %s)::int FROM mixdown.history_segments"
                " GROUP BY partition",
                (unmerged,),
            )
        )
        return [counts.get(number, 0) for number in range(PARTITIONS)]

    assert left(0) == left(1000) == [50, 70, 400]
    assert left(300) == [50, 70, 180]
    assert rows_of(store, "history_segments") == 30


def test_rows_that_change_with_every_step_stay_on_their_pages(store: PostgresStore) -> None:
    """As far as no older transaction still sees them, and without a vacuum: the tests' server has none."""
    view = store.partition(1)
    tables = ("heads", "watermarks", "event_readers", "property_counts", "key_buckets")
    at = first_of(1)

    def sizes() -> list[int]:
        return [
            int(store.database.value(f"SELECT pg_total_relation_size('mixdown.{table}')")) for table in tables
        ]

    def step(number: int) -> None:
        append(view.log, appending("a"), now_ms=NOW_MS + number)
        kinds = ("integer", "string", "boolean")
        changes = [(1, "", f"property {place}", kind, 1) for place in range(40) for kind in kinds]
        entries = [(key(number), NOW_MS, None)]
        view.state.write(
            FoldResult(
                at + number + 1, [], entries, NOW_MS, property_changes=lambda: changes, begin=at + number
            )
        )
        view.events.write(EventsWrite(at + number + 1, [], entries, NOW_MS))

    for number in range(20):
        step(number)
    before = sizes()
    for number in range(20, 320):
        step(number)
    assert sizes() == before, dict(zip(tables, zip(before, sizes(), strict=True), strict=True))
