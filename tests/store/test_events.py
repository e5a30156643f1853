"""Events as they are stored and read: the same for every store, in whatever parts they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from mixdown.model.errors import StoreError
from mixdown.store.chunk import Outcome
from mixdown.store.duck import EventTable, open_events
from mixdown.store.events import FIRST_MS, LAST_MS, Events, EventsSize, EventsWrite, batch_of
from mixdown.store.protocols import Store
from tests.store.support import DAY_MS, NOW_MS, WEEK_MS, key

PROJECT = 3
MIB = 1024 * 1024


@pytest.fixture
def events(store: Store) -> Events:
    return store.events


def event(position: int, **members: Any) -> dict[str, Any]:
    """An event as a line has it."""
    given = {
        "event": "signed up",
        "time": NOW_MS + position,
        "distinct_id": f"user {position}",
        "insert_id": f"i{position}",
        "properties": {},
    } | members
    return {"position": position, "arrived": NOW_MS, **given}


def write(events: Events, *batches: Sequence[Mapping[str, Any]], project: int = PROJECT) -> None:
    """Write batches, each in a transaction of its own."""
    for batch in batches:
        end = batch[-1]["position"] + 1
        events.write(EventsWrite(end, [batch_of(project, batch)], (), NOW_MS))


OpenTable = Callable[..., EventTable]


@pytest.fixture
def open_table(events: Events, tmp_path: Path) -> Iterator[OpenTable]:
    """Open the table of a project's events; closed at the end."""
    tables = []

    def opened(since_ms: int = FIRST_MS, until_ms: int = LAST_MS, project: int = PROJECT) -> EventTable:
        table = open_events(
            events.parts(project, since_ms, until_ms),
            memory_limit_bytes=256 * MIB,
            threads=1,
            temp_directory=tmp_path / "scratch",
        )
        tables.append(table)
        return table

    yield opened
    for table in tables:
        table.close()


def rows(table: EventTable, sql: str, params: Sequence[Any] = ()) -> list[Any]:
    return [row for batch in table.batches(sql, params) for row in batch]


def everything(table: EventTable) -> list[dict[str, Any]]:
    """All events of a table in the form of lines, by position."""
    found = rows(
        table,
        f"SELECT position, arrived, event, epoch_ms(time), distinct_id, insert_id, {table.whole}"
        " FROM events ORDER BY position",
    )
    names = ("position", "arrived", "event", "time", "distinct_id", "insert_id")
    return [dict(zip(names, row, strict=False)) | {"properties": orjson.loads(row[6])} for row in found]


def test_nothing_is_stored_at_first(events: Events, open_table: OpenTable) -> None:
    assert events.watermark() == 0
    assert events.projects() == []
    assert events.size() == EventsSize()
    assert everything(open_table()) == []


def test_events_come_back_as_they_were_written(events: Events, open_table: OpenTable) -> None:
    written = [
        event(0, properties={"plan": "pro", "seats": 3}),
        event(1, event="left", properties={"n": 1.0}),
    ]
    write(events, written[:1], written[1:])
    assert events.watermark() == 2
    assert events.projects() == [PROJECT]
    assert everything(open_table()) == written


def test_a_property_is_json_and_null_where_an_event_does_not_have_it(
    events: Events, open_table: OpenTable
) -> None:
    values = ["pro", "", 1, 1.0, "1", True, None, [1, {"a": None}], {}, 2**63 - 1, 1e300]
    write(events, [event(n, properties={"plan": value}) for n, value in enumerate(values)], [event(99)])
    table = open_table()
    plan = table.value("plan")
    found = [plan for (plan,) in rows(table, f"SELECT {plan} FROM events ORDER BY position")]
    assert found[-1] is None
    assert [repr(orjson.loads(text)) for text in found[:-1]] == [repr(value) for value in values]


def test_only_events_of_the_project_and_the_span_of_time_are_given(
    events: Events, open_table: OpenTable
) -> None:
    write(events, [event(n) for n in range(10)])
    write(events, [event(10)], project=PROJECT + 1)
    table = open_table(NOW_MS + 3, NOW_MS + 6)
    assert [found["position"] for found in everything(table)] == [3, 4, 5]
    assert [found["position"] for found in everything(open_table(project=PROJECT + 1))] == [10]
    assert everything(open_table(project=PROJECT + 2)) == []


def test_of_an_event_that_is_sent_twice_the_last_one_counts(events: Events, open_table: OpenTable) -> None:
    same: dict[str, Any] = {"time": NOW_MS, "distinct_id": "u", "insert_id": "i"}
    others: list[dict[str, Any]] = [
        {"insert_id": "j"},
        {"distinct_id": "v"},
        {"time": NOW_MS + 1},
        {"event": "left"},
    ]
    first = [event(0, **same, properties={"n": 0}), event(1, **same, properties={"n": 1})]
    write(events, first, [event(n + 2, **(same | other)) for n, other in enumerate(others)])
    write(events, [event(9, **same, properties={"n": 9})])
    table = open_table()
    assert [found["position"] for found in everything(table)] == [2, 3, 4, 5, 9]
    n = table.value("n")
    assert rows(table, f"SELECT {n} FROM events WHERE {n} IS NOT NULL") == [("9",)]


def test_keys_are_known_for_their_window(events: Events) -> None:
    outcome = Outcome(2, 1, ((0, "event", "must not be blank"),))
    events.write(EventsWrite(1, [], [(key(1), NOW_MS, outcome), (key(2), NOW_MS + DAY_MS, None)], NOW_MS))
    assert events.known_keys([key(1), key(2), key(3)], since_ms=NOW_MS) == {key(1): outcome, key(2): None}
    assert events.known_keys([key(1), key(2)], since_ms=NOW_MS + 1) == {key(2): None}
    assert events.key_window() == (2, NOW_MS)
    later = NOW_MS + WEEK_MS + 2 * DAY_MS
    events.write(EventsWrite(2, [], [(key(3), later, None)], later))
    assert set(events.known_keys([key(1), key(2), key(3)], since_ms=0)) == {key(3)}


def test_what_an_outcome_quotes_can_be_taken(events: Events) -> None:
    outcome = Outcome(1, 0, ((0, "event", "quotes Ann"),))
    events.write(EventsWrite(1, [], [(key(1), NOW_MS, outcome)], NOW_MS))
    events.redact_keys([key(1)])
    assert "Ann" not in str(events.known_keys([key(1)], since_ms=0))
    assert set(events.known_keys([key(1)], since_ms=0)) == {key(1)}


def test_forgetting_hides_the_events_of_ids_below_a_position(events: Events, open_table: OpenTable) -> None:
    write(events, [event(n, distinct_id="ab"[n % 2]) for n in range(6)], [event(6, distinct_id="a")])
    assert sum(events.forget(PROJECT, {"a", "c"}, below=4)) == 2
    assert [found["position"] for found in everything(open_table())] == [1, 3, 4, 5, 6]
    assert sum(events.forget(PROJECT, {"a", "c"}, below=4)) == 0
    assert sum(events.forget(PROJECT + 1, {"a"}, below=9)) == 0


def test_forgetting_all_events_of_a_batch_leaves_nothing(events: Events, open_table: OpenTable) -> None:
    write(events, [event(0, distinct_id="a")])
    assert sum(events.forget(PROJECT, {"a"}, below=9)) == 1
    assert everything(open_table()) == []
    assert events.size() == EventsSize()


def test_dropping_a_project_leaves_the_others(events: Events, open_table: OpenTable) -> None:
    write(events, [event(0)])
    write(events, [event(1)], project=PROJECT + 1)
    events.drop(PROJECT)
    assert everything(open_table()) == []
    assert events.projects() == [PROJECT + 1]
    assert events.owed(PROJECT) == 0


def test_the_size_is_that_of_a_project_or_of_all(events: Events) -> None:
    write(events, [event(0), event(1)])
    write(events, [event(2)], project=PROJECT + 1)
    assert events.size(PROJECT).hot_events == 2
    assert events.size().hot_events == 3
    assert events.size().hot_bytes > events.size(PROJECT).hot_bytes > 0


def test_closed_events_raise(events: Events) -> None:
    events.close()
    with pytest.raises(StoreError):
        events.watermark()
    with pytest.raises(StoreError):
        write(events, [event(0)])
