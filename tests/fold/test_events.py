"""The events reader: every event once, with its place in the log, whatever comes between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from mixdown.fold.events import EventsReader
from mixdown.fold.loop import catch_up, trim
from mixdown.model.errors import StoreError
from mixdown.model.limits import KEY_WINDOW_MS
from mixdown.store.chunk import FOR_ALL, FOR_EVENTS, Outcome, encode_events, encode_filter
from mixdown.store.events import FIRST_MS, LAST_MS
from mixdown.store.places import events_place, fold_place, slowest_place
from mixdown.store.protocols import Append, Store
from tests.fold.conftest import Way, record
from tests.store.support import NOW_MS, append, appending, appending_events, event

KEY = b"k" * 16


def stored(store: Store, project: int = 1) -> list[dict[str, Any]]:
    """All events of a project as they lie in `store`, in the order of their positions."""
    lines = b"".join(store.events.parts(project, FIRST_MS, LAST_MS).hot)
    found = [orjson.loads(line) for line in lines.splitlines()]
    return sorted(found, key=lambda each: each["position"])


def who(store: Store, project: int = 1) -> list[tuple[int, str]]:
    """(position, distinct_id) of the events of a project."""
    return [(each["position"], each["distinct_id"]) for each in stored(store, project)]


def take(store: Store) -> EventsReader:
    """A new reader, as after a restart, that takes what waits."""
    reader = EventsReader(store)
    while reader.step() is not None:
        pass
    return reader


def raw(events: Sequence[bytes], key: bytes | None = None) -> Append:
    """A request with these events, as bytes."""
    segment = encode_events("track", "test", key, None, [], events)
    return Append(segment, len(events), encode_filter([]), kinds=FOR_ALL if key else FOR_EVENTS)


def test_an_event_gets_its_position_and_its_arrival_and_keeps_its_bytes(way: Way) -> None:
    append(way.store.log, appending("u"), appending_events("a", "b"), now_ms=NOW_MS + 7)
    append(way.store.log, appending_events("c"), now_ms=NOW_MS + 9)
    take(way.store)
    given = event("a").partition(b",")[2].removesuffix(b"]")
    line = way.store.events.parts(1, FIRST_MS, LAST_MS).hot[0].splitlines()[0]
    assert line == b'{"position":1,"arrived":%d,' % (NOW_MS + 7) + given[1:]
    assert who(way.store) == [(1, "a"), (2, "b"), (3, "c")]
    assert [each["arrived"] for each in stored(way.store)] == [NOW_MS + 7, NOW_MS + 7, NOW_MS + 9]


def test_events_go_to_their_projects_and_what_was_erased_to_none(way: Way) -> None:
    mixed = [event("a", project=1), event("b", project=2), b"[0,{}]", event("c", project=1)]
    append(way.store.log, raw(mixed), appending_events("d"))
    take(way.store)
    assert who(way.store, 1) == [(0, "a"), (3, "c"), (4, "d")]
    assert who(way.store, 2) == [(1, "b")]
    assert way.store.events.projects() == [1, 2]


def test_a_batch_tells_the_times_in_it(way: Way) -> None:
    times = (5, -3, 9)
    events = [event("a").replace(b'"time":%d' % NOW_MS, b'"time":%d' % at) for at in times]
    append(way.store.log, raw(events))
    take(way.store)
    parts = way.store.events.parts
    assert [bool(parts(1, *span).hot) for span in ((-9, -3), (-3, -2), (9, 10), (10, 99))] == [
        False,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    "raw_event",
    [
        b'{"event":"a\\",\\"time\\":7,","time":5,"distinct_id":"u","insert_id":"i","properties":{}}',
        b'{"event":"E","time": 5,"distinct_id":"u","insert_id":"i","properties":{"a":"\\",\\"time\\":9"}}',
        b'{"distinct_id":"u","insert_id":"i","properties":{"b":"","time":9,"c":1},"event":"E","time":5}',
        b'{"event":"","time":5,"distinct_id":"u","insert_id":"i","properties":{"b":"","time":9,"c":1}}',
        b'{"event":"E","distinct_id":"","time":5,"insert_id":"i","properties":{}}',
        b'{"time":5,"event":"E","distinct_id":"u","insert_id":"i","properties":{}}',
    ],
    ids=["its words in the name", "a space", "last", "no name", "late", "first"],
)
def test_the_time_is_read_wherever_it_stands(way: Way, raw_event: bytes) -> None:
    append(way.store.log, raw([b"[1,%b]" % raw_event]))
    take(way.store)
    assert way.store.events.parts(1, 5, 6).hot
    assert not way.store.events.parts(1, 6, 99).hot


@pytest.mark.parametrize("between", [b"\n", b"\r\n", b" \r "])
def test_white_space_in_an_event_breaks_no_line(way: Way, between: bytes) -> None:
    append(
        way.store.log, raw([event("a").replace(b'"n":', between + b'"n":' + between)]), appending_events("b")
    )
    take(way.store)
    lines = way.store.events.parts(1, FIRST_MS, LAST_MS).hot[0]
    assert lines.count(b"\n") == 2
    assert b"\r" not in lines
    assert stored(way.store)[0]["properties"]["n"] == 1.0


def test_a_request_sent_again_is_taken_once_whenever_it_comes(way: Way) -> None:
    append(way.store.log, appending_events("a", key=KEY), appending_events("a", key=KEY))
    append(way.store.log, appending_events("a", key=KEY))
    reader = EventsReader(way.store)
    taken = reader.step()
    assert taken is not None
    assert (taken.events, taken.recognised) == (1, 2)
    append(way.store.log, appending_events("a", key=KEY), appending_events("b"))
    take(way.store)
    assert who(way.store) == [(0, "a"), (4, "b")]
    assert way.store.events.known_keys([KEY], since_ms=0) == {KEY: Outcome(1, 1)}


def test_a_key_is_known_for_seven_days_of_chunk_time(way: Way) -> None:
    append(way.store.log, appending_events("a", key=KEY))
    append(way.store.log, appending_events("a", key=KEY), now_ms=NOW_MS + KEY_WINDOW_MS)
    take(way.store)
    append(way.store.log, appending_events("a", key=KEY), now_ms=NOW_MS + KEY_WINDOW_MS + 1)
    take(way.store)
    assert [position for position, _ in who(way.store)] == [0, 2]


def test_keys_of_profiles_are_none_of_the_readers_business(way: Way) -> None:
    way.submit(record(set={"a": 1}), key="k")
    take(way.store)
    assert way.store.events.key_window() == (0, 0)


def test_a_chunk_that_cannot_be_read_is_set_aside_and_its_neighbours_are_taken(way: Way) -> None:
    append(way.store.log, appending_events("a"))
    append(way.store.log, Append(b'["track",5]', 3, b"", kinds=FOR_EVENTS))
    append(way.store.log, appending_events("b"))
    take(way.store)
    assert who(way.store) == [(0, "a"), (4, "b")]
    assert [(first, count) for first, count, _ in way.store.log.damaged()] == [(1, 3)]


def test_a_step_takes_no_more_than_its_limits(way: Way) -> None:
    for each in "abcd":
        append(way.store.log, appending_events(each, each))
    reader = EventsReader(way.store, max_records=4)
    assert [taken.events for taken in iter(reader.step, None)] == [4, 4]
    assert len(stored(way.store)) == 8


def test_where_only_profiles_pass_the_watermark_is_written_now_and_then(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    written: list[int] = []
    write = way.store.events.write

    def noting(what: Any) -> None:
        written.append(what.watermark)
        write(what)

    monkeypatch.setattr(way.store.events, "write", noting)
    reader = EventsReader(way.store, clock=lambda: now[0])
    append(way.store.log, appending("a"))
    assert reader.step() is not None
    for at in (100.4, 100.9):
        now[0] = at
        append(way.store.log, appending("b"))
        reader.step()
    assert written == [1], "once at the start, and not again within a second"
    assert events_place(way.store) == way.store.log.head() == 3, "and yet nobody need wait for it"
    now[0] = 101.1
    assert reader.step() is None
    assert written == [1, 3]
    append(way.store.log, appending_events("e"))
    assert (events_place(way.store), fold_place(way.store)) == (3, 0)
    reader.step()
    assert written == [1, 3, 4], "an event is on disk at once"


@pytest.mark.parametrize("behind_its_commit", [False, True])
def test_a_write_that_fails_is_made_again_and_not_twice(
    way: Way, monkeypatch: pytest.MonkeyPatch, behind_its_commit: bool
) -> None:
    write = way.store.events.write

    def failing(what: Any) -> None:
        monkeypatch.undo()
        if behind_its_commit:
            write(what)
        raise StoreError("the disk is full")

    append(way.store.log, appending_events("a"), appending_events("b", key=KEY))
    reader = EventsReader(way.store)
    monkeypatch.setattr(way.store.events, "write", failing)
    with pytest.raises(StoreError):
        reader.step()
    while reader.step() is not None:
        pass
    assert who(way.store) == [(0, "a"), (1, "b")]


def test_catching_up_takes_events_and_folds_profiles(way: Way) -> None:
    append(way.store.log, appending_events("a"))
    way.submit(record(set={"a": 1}))
    assert slowest_place(way.store) == 0
    assert catch_up(way.store) == 2
    assert slowest_place(way.store) == 2
    assert who(way.store) == [(0, "a")]
    assert way.profile() == {"a": 1}


def test_the_log_is_kept_until_both_readers_have_taken_it(way: Way) -> None:
    append(way.store.log, appending_events("a"))
    way.submit(record(set={"a": 1}))
    way.fold_all()
    trim(way.store, retention_ms=0, now_ms=2**50)
    assert way.store.log.tail_position() == 0, "an event is not taken yet"
    take(way.store).finish()
    trim(way.store, retention_ms=0, now_ms=2**50)
    assert way.store.log.tail_position() == way.store.log.head() == 2
    append(way.store.log, appending_events("b"))
    way.submit(record(set={"b": 1}))
    take(way.store).finish()
    trim(way.store, retention_ms=0, now_ms=2**50)
    assert way.store.log.tail_position() == 2, "a profile is not folded yet"
