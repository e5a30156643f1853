"""The log: order, positions, times, limits, trimming. For every store."""

from __future__ import annotations

import threading

import pytest

from mixdown.model.errors import StoreError
from mixdown.store.chunk import FOR_ALL, FOR_EVENTS, FOR_PROFILES, Chunk, Link
from mixdown.store.protocols import Log, Refusals, Store
from mixdown.store.sqlite import log as sqlite_log
from mixdown.store.unmerging import append_unmerge
from tests.store.support import NOW_MS, append, appending, appending_events, read_all, refusal, segment


def test_a_new_log_is_empty_and_starts_at_zero(log: Log) -> None:
    assert (log.head(), log.tail_position(), log.size_bytes()) == (0, 0, 0)
    assert log.read(0, max_records=10, max_bytes=10) == []
    assert log.damaged() == []


def test_what_is_appended_is_read_back_in_order_with_positions_and_time(log: Log) -> None:
    first = append(log, appending("a", "b"), appending("c"), now_ms=NOW_MS)
    second = append(log, appending("d"), now_ms=NOW_MS + 5)
    assert (first.first, first.end, first.time_ms) == (0, 3, NOW_MS)
    assert (second.first, second.end, second.time_ms) == (3, 4, NOW_MS + 5)
    assert read_all(log) == ["a", "b", "c", "d"]
    chunks = log.read(0, max_records=100, max_bytes=10**6)
    assert [(chunk.first, chunk.count, chunk.end, chunk.time_ms) for chunk in chunks] == [
        (0, 3, 3, NOW_MS),
        (3, 1, 4, NOW_MS + 5),
    ]
    assert log.head() == 4


def test_several_appends_of_one_turn_are_chunks_of_their_own(log: Log) -> None:
    with log.turn() as turn:
        assert turn.append([appending("a")], NOW_MS).end == 1
        assert turn.append([appending("b")], NOW_MS).end == 2
    assert read_all(log) == ["a", "b"]


def test_chunk_time_never_goes_back(log: Log) -> None:
    append(log, appending("a"), now_ms=NOW_MS)
    assert append(log, appending("b"), now_ms=NOW_MS - 1000).time_ms == NOW_MS
    log.trim(2, NOW_MS + 1)
    assert append(log, appending("c"), now_ms=NOW_MS - 5).time_ms == NOW_MS, "not even when the log is empty"


def test_the_time_at_a_position_is_that_of_its_chunk_or_of_the_next_one_held(log: Log) -> None:
    assert (log.time_at(0), log.newest_ms()) == (0, 0)
    append(log, appending("a", "b"), now_ms=NOW_MS)
    append(log, appending("c"), now_ms=NOW_MS + 5)
    assert [log.time_at(position) for position in range(4)] == [NOW_MS, NOW_MS, NOW_MS + 5, 0]
    log.trim(2, NOW_MS + 1)
    assert log.time_at(0) == NOW_MS + 5
    assert log.newest_ms() == NOW_MS + 5


def test_refusals_alone_make_no_chunk_and_take_no_position(log: Log, refusals: Refusals) -> None:
    appended = append(log, appending(refused=[refusal()]), now_ms=NOW_MS)
    assert (appended.first, appended.end) == (0, 0)
    assert log.head() == 0
    assert log.read(0, max_records=10, max_bytes=1000) == []
    assert [kept.time_ms for kept in refusals.listing(None)] == [NOW_MS]


def test_a_wholly_refused_request_adds_nothing_to_the_chunk_of_its_neighbours(log: Log) -> None:
    append(log, appending("a"), appending(refused=[refusal()]), appending("b"))
    assert read_all(log) == ["a", "b"]
    assert log.head() == 2


def test_reading_from_a_watermark_leaves_out_what_is_before_it(log: Log) -> None:
    for profile_id in "abc":
        append(log, appending(profile_id))
    assert read_all(log, 1) == ["b", "c"]
    assert read_all(log, 3) == []


def test_a_watermark_within_a_chunk_gets_the_whole_chunk(log: Log) -> None:
    append(log, appending("a", "b", "c"))
    assert [chunk.first for chunk in log.read(1, max_records=10, max_bytes=10**6)] == [0]


@pytest.mark.parametrize(
    ("max_records", "max_bytes", "chunks"),
    [(1, 1, 1), (2, 10**6, 1), (4, 10**6, 2), (5, 10**6, 2), (6, 10**6, 3), (100, 10**6, 4)],
)
def test_a_read_stops_at_its_limits_but_gives_one_chunk_at_least(
    log: Log, max_records: int, max_bytes: int, chunks: int
) -> None:
    for _ in range(4):
        append(log, appending("a", "b"))
    assert len(log.read(0, max_records=max_records, max_bytes=max_bytes)) == chunks


def test_a_read_stops_at_its_bytes(log: Log) -> None:
    for _ in range(3):
        append(log, appending("a"))
    size = len(segment("a")) + 2
    assert len(log.read(0, max_records=100, max_bytes=2 * size)) == 2
    assert len(log.read(0, max_records=100, max_bytes=2 * size - 1)) == 1


def shape(chunks: list[Chunk]) -> list[tuple[int, int, bool]]:
    return [(chunk.first, chunk.end, bool(chunk.body)) for chunk in chunks]


def test_a_reader_gets_the_bodies_of_its_kinds_and_steps_over_the_rest(log: Log) -> None:
    link = Link(0, 1, "simplified", "device", "D", "u")
    append(log, appending_events("a", "b"))
    append(log, appending_events("c"), now_ms=NOW_MS + 1)
    append(log, appending("p"), now_ms=NOW_MS + 2)
    append(log, appending_events("d", links=[link]), now_ms=NOW_MS + 3)
    append(log, appending("q"), appending_events("e"), now_ms=NOW_MS + 4)
    append(log, appending_events("f", key=b"k" * 16), now_ms=NOW_MS + 5)
    append(log, appending_events("g"), now_ms=NOW_MS + 6)

    def read(kinds: int, watermark: int = 0) -> list[Chunk]:
        return log.read(watermark, max_records=100, max_bytes=10**6, kinds=kinds)

    assert shape(read(FOR_ALL)) == [
        (0, 2, True), (2, 3, True), (3, 4, True), (4, 5, True), (5, 7, True), (7, 8, True), (8, 9, True),
    ]  # fmt: skip
    assert shape(read(FOR_PROFILES)) == [
        (0, 3, False), (3, 4, True), (4, 5, True), (5, 7, True), (7, 8, True), (8, 9, False),
    ]  # fmt: skip
    assert shape(read(FOR_EVENTS)) == [
        (0, 2, True), (2, 3, True), (3, 4, False), (4, 5, True), (5, 7, True), (7, 8, True), (8, 9, True),
    ]  # fmt: skip
    assert shape(read(FOR_PROFILES, 8)) == [(8, 9, False)]
    assert [chunk.time_ms for chunk in read(FOR_PROFILES)][:2] == [NOW_MS + 1, NOW_MS + 2]
    assert [chunk.kinds for chunk in read(FOR_ALL)] == [2, 2, 1, 3, 3, 3, 2]
    assert read(FOR_ALL) == log.read(0, max_records=100, max_bytes=10**6)


def test_what_is_stepped_over_counts_for_no_limit(log: Log) -> None:
    for name in "ab":
        append(log, appending_events(name, name, name))
        append(log, appending(name))
    read = log.read(0, max_records=2, max_bytes=10**6, kinds=FOR_PROFILES)
    assert shape(read) == [(0, 3, False), (3, 4, True), (4, 7, False), (7, 8, True)]
    assert shape(log.read(0, max_records=1, max_bytes=1, kinds=FOR_PROFILES)) == [(0, 3, False), (3, 4, True)]


def test_a_reader_has_come_up_to_the_next_chunk_that_is_for_it(log: Log) -> None:
    assert log.next_of(0, FOR_ALL) == 0
    append(log, appending("a"))
    append(log, appending_events("b"))
    append(log, appending("c", "d"))
    assert [log.next_of(at, FOR_PROFILES) for at in (0, 1, 2, 4)] == [0, 2, 2, 4]
    assert [log.next_of(at, FOR_EVENTS) for at in (0, 1, 2, 4)] == [1, 1, 4, 4]
    assert [log.next_of(at, FOR_ALL) for at in (0, 1, 2, 4)] == [0, 1, 2, 4]


def test_trimming_drops_what_is_both_folded_and_old(log: Log) -> None:
    for number, profile_id in enumerate("abcd"):
        append(log, appending(profile_id), now_ms=NOW_MS + number)
    assert log.trim(2, NOW_MS) == 0, "none is older"
    assert log.trim(0, NOW_MS + 100) == 0, "none is folded"
    assert log.trim(2, NOW_MS + 100) == 2
    assert log.tail_position() == 2
    assert log.trim(4, NOW_MS + 3) == 1
    assert read_all(log) == ["d"]


def test_trimming_keeps_a_chunk_that_is_folded_in_part(log: Log) -> None:
    append(log, appending("a", "b"))
    assert log.trim(1, NOW_MS + 1) == 0


def test_positions_are_never_used_again_not_even_when_all_is_trimmed(log: Log) -> None:
    append(log, appending("a", "b"))
    assert log.trim(2, NOW_MS + 1) == 1
    assert (log.head(), log.tail_position(), log.size_bytes()) == (2, 2, 0)
    assert append(log, appending("c")).first == 2
    assert log.tail_position() == 2


def test_trimming_takes_as_many_steps_as_it_needs(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_log, "_TRIM_CHUNKS", 7)
    with log.turn() as turn:
        for _ in range(40):
            turn.append([appending("a")], NOW_MS)
    assert log.trim(35, NOW_MS + 1) == 35
    assert log.tail_position() == 35
    assert log.size_bytes() == sum(len(chunk.body) for chunk in log.read(0, max_records=99, max_bytes=10**7))


def test_the_size_counts_the_bodies_held(log: Log) -> None:
    append(log, appending("a"))
    append(log, appending("b"))
    bodies = [len(chunk.body) for chunk in log.read(0, max_records=10, max_bytes=10**6)]
    assert log.size_bytes() == sum(bodies)
    log.trim(1, NOW_MS + 1)
    assert log.size_bytes() == bodies[1]


def test_chunks_set_aside_are_told_and_skipped(log: Log) -> None:
    for profile_id in "abc":
        append(log, appending(profile_id, "x"))
    chunks = log.read(0, max_records=100, max_bytes=10**6)
    log.set_aside(chunks[1], "broken")
    log.set_aside(chunks[1], "told again")
    assert log.damaged() == [(2, 2, "broken")]
    assert log.skip_damaged(2) == 4
    assert log.skip_damaged(0) == 0
    log.set_aside(chunks[2], "broken too")
    assert log.skip_damaged(2) == 6


def test_a_failed_append_leaves_nothing_behind(log: Log, refusals: Refusals) -> None:
    append(log, appending("a"))
    broken = appending("b", refused=[refusal(), refusal(record=5)])  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        append(log, broken)
    assert (log.head(), read_all(log), refusals.listing(None)) == (1, ["a"], [])
    assert append(log, appending("c")).first == 1


def test_threads_append_in_turns(log: Log) -> None:
    def run(name: str) -> None:
        for number in range(20):
            append(log, appending(f"{name}{number}"))

    threads = [threading.Thread(target=run, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = read_all(log)
    assert len(ids) == log.head() == 60
    for name in "xyz":
        assert [found for found in ids if found[0] == name] == [f"{name}{number}" for number in range(20)]


def test_nobody_else_appends_while_a_turn_is_held(log: Log) -> None:
    done = threading.Event()

    def intrude() -> None:
        append(log, appending("intruder"))
        done.set()

    with log.turn() as turn:
        thread = threading.Thread(target=intrude)
        thread.start()
        turn.append([appending("a")], NOW_MS)
        assert not done.wait(0.05)
        turn.append([appending("b")], NOW_MS)
    thread.join()
    assert read_all(log) == ["a", "b", "intruder"]


def test_a_turn_ends_when_its_block_raises(log: Log) -> None:
    with pytest.raises(RuntimeError), log.turn():
        raise RuntimeError
    assert append(log, appending("a")).first == 0


def test_a_closed_store_raises_on_use(store: Store) -> None:
    store.close()
    with pytest.raises(StoreError):
        store.log.head()
    with pytest.raises(StoreError):
        append(store.log, appending("a"))
    with pytest.raises(StoreError):
        store.refusals.listing(None)
    with pytest.raises(StoreError):
        store.state.watermark()
    with pytest.raises(StoreError):
        store.catalog.projects()
    with pytest.raises(StoreError):
        store.catalog.version()
    with pytest.raises(StoreError):
        store.sessions.page_ids("s", 0)
    store.close()


def test_a_turn_tells_where_ids_were_parted_last(store: Store) -> None:
    log = store.partition(store.partition_of(1)).log

    def parted() -> int:
        with log.turn() as turn:
            return turn.parted()

    append(log, appending("a"))
    assert parted() == 0
    append_unmerge(store, 1, "a", now_ms=2)
    append(log, appending("b"))
    assert parted() == 2
