"""Every figure of funnels, retention and addiction equals what plain Python makes of all events.

Events tie in time, repeat, leave gaps, and have ids that were linked before or after them; steps overlap;
zones, units, windows and orders vary; persons or groups are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixdown.model.errors import TooMuchAtOnceError
from mixdown.model.expression import parse
from mixdown.query.events.buckets import Buckets, span_of_days
from mixdown.query.events.reader import EventReads
from mixdown.query.events.where import Selector
from mixdown.query.reports import periods
from mixdown.query.reports import retention as retention_module
from mixdown.query.reports.addiction import AddictionQuery, addiction
from mixdown.query.reports.funnels import FunnelQuery, Order, Reached, Step, funnel
from mixdown.query.reports.retention import RetentionQuery, retention
from mixdown.query.reports.rows import ReportRows
from mixdown.store.events import EventsWrite, batch_of
from mixdown.store.memory import MemoryStore
from mixdown.store.places import first_of
from tests.engine import ON_POSTGRES
from tests.reads import event_reference as book
from tests.reads.event_reference import Stored
from tests.reads.test_events_by_the_book import (
    GENERATED,
    HOUR_MS,
    IDS,
    MANY_STORES,
    MIDNIGHT_MS,
    PROJECT,
    Kept,
    kept,
    links,
)
from tests.reports import journeys
from tests.reports.journeys import Seen

FIRST = date(2026, 1, 14)
DAY_MS = 24 * HOUR_MS
ZONES = [ZoneInfo(name) for name in ("UTC", "America/New_York", "Asia/Kolkata")]
NAMES = ("a", "b", "c")
VALUES = [None, "x", "y", 2, True, ["x", "y"], ["x", None], [], {"k": 1}, "$overall"]

times = st.one_of(
    st.integers(-30, 110).map(lambda hours: MIDNIGHT_MS + hours * HOUR_MS),
    st.sampled_from([0, 1, 999, 1000, DAY_MS - 1, DAY_MS, 2 * DAY_MS]).map(lambda ms: MIDNIGHT_MS + ms),
)
Choice = tuple[str | None, str]
"""Name of an event (None: any), and an expression."""
choices = st.tuples(
    st.sampled_from([*NAMES, None]),
    st.sampled_from(["", 'properties["v"] == "x"', 'defined(properties["v"])', 'distinct_id != "u1"']).map(
        lambda text: text.replace("distinct_id", 'properties["distinct_id"]')
    ),
)


@st.composite
def stored(draw: st.DrawFn) -> list[Stored]:
    """Events in the order of their positions."""
    count = draw(st.integers(0, 24))
    found = []
    for position in range(count):
        properties: dict[str, Any] = {}
        value = draw(st.sampled_from(["", *VALUES]))
        if value != "":
            properties["v"] = value
        company = draw(st.sampled_from([None, "acme", ["acme", "zed"], "", "acme"]))
        if company is not None:
            properties["company"] = company
        found.append(
            Stored(
                position=position,
                arrived=MIDNIGHT_MS + position,
                event=draw(st.sampled_from(NAMES)),
                time=draw(times),
                distinct_id=draw(st.sampled_from(IDS[:4])),
                insert_id=draw(st.sampled_from(["i1", f"own{position}", f"own{position}"])),
                properties=properties,
            )
        )
    return found


def is_one(world: Kept, each: Stored, choice: Choice) -> bool:
    """Whether an event is one of a choice, said in Python."""
    name, where = choice
    if name is not None and each.event != name:
        return False
    value = each.properties.get("v")
    if where.startswith("defined"):
        return value is not None
    if where.startswith('properties["v"]'):
        return bool(value == "x")
    return not where or world.person(each) != "u1"


def seen(world: Kept, asked: Sequence[Choice], group_key: str) -> list[Seen]:
    """The events as they are counted."""
    found = []
    for each in world.once:
        matches = tuple(is_one(world, each, choice) for choice in asked)
        if not any(matches):
            continue
        who = {world.person(each)}
        if group_key:
            groups = each.properties.get(group_key)
            who = set(groups if isinstance(groups, list) else [groups]) - {None, ""}
        labels = frozenset(book.labels(each.properties.get("v")))
        found += [Seen(each.time, each.position, one, matches, labels) for one in who]
    return found


def selector(choice: Choice) -> Selector:
    name, where = choice
    return Selector(parse(where), None if name is None else (name,))


def buckets_of(unit: str, every: int, days: int, zone: ZoneInfo) -> Buckets:
    return Buckets(unit, span_of_days(FIRST, FIRST + timedelta(days=days), zone), zone, every)


def place_in(buckets: Buckets, zone: ZoneInfo, first: date = FIRST) -> Callable[[int], int | None]:
    span = buckets.span

    def place(ms: int) -> int | None:
        if not span.since_ms <= ms < span.until_ms:
            return None
        return journeys.period(buckets.unit, buckets.every, first, ms, zone)

    return place


def figures(reached: Sequence[Reached]) -> dict[int, list[tuple[int, int, int]]]:
    return {
        place: list(zip(each.counts, each.from_before_ms, each.from_start_ms, strict=True))
        for place, each in enumerate(reached)
        if each.counts[0]
    }


def check_funnel(world: Kept, draw: Callable[[Any], Any]) -> None:
    asked = draw(st.lists(choices, min_size=1, max_size=4))
    zone, group_key = draw(st.sampled_from(ZONES)), draw(st.sampled_from(["", "", "company"]))
    buckets = buckets_of(
        draw(st.sampled_from(["day", "week", "month"])),
        draw(st.integers(1, 3)),
        draw(st.integers(0, 4)),
        zone,
    )
    window_ms = draw(st.sampled_from([0, 1, 1000, 3 * HOUR_MS, DAY_MS, 3 * DAY_MS]))
    order, limit = draw(st.sampled_from(["loose", "loose", "any"])), draw(st.sampled_from([2, 255]))
    query = FunnelQuery(
        project=PROJECT,
        steps=tuple(Step(selector(choice), "") for choice in asked),
        window_ms=window_ms,
        buckets=buckets,
        order=order,
        on=draw(st.sampled_from([None, parse('properties["v"]')])),
        limit=limit,
        group_key=group_key,
    )
    found = funnel(world.reads, query, now_ms=MIDNIGHT_MS)
    events = seen(world, asked, group_key)
    told: dict[str, Any] = {
        "steps": len(asked),
        "window_ms": window_ms,
        "order": order,
        "place": place_in(buckets, zone),
    }
    assert figures(found.overall) == journeys.funnel(events, **told)
    labels = {label for each in events for label in each.labels} if query.on is not None else set()
    expected = {label: journeys.funnel(events, label=label, **told) for label in labels}
    begun = {label: begun_by(events, label, told) for label in labels if expected[label]}
    wanted = sorted(begun, key=lambda label: (-begun[label], label))[:limit]
    assert list(found.segments) == wanted
    assert {label: figures(rows) for label, rows in found.segments.items()} == {
        label: expected[label] for label in wanted
    }


def begun_by(events: Sequence[Seen], label: str, told: dict[str, Any]) -> int:
    """How many began at all with a value."""
    return len(
        {
            each.who
            for each in events
            if label in each.labels
            and told["place"](each.time) is not None
            and (told["order"] == "any" or each.matches[0])
        }
    )


def check_retention(world: Kept, draw: Callable[[Any], Any]) -> None:
    asked = [draw(choices), draw(choices)]
    zone, group_key = draw(st.sampled_from(ZONES)), draw(st.sampled_from(["", "", "company"]))
    buckets = buckets_of(
        draw(st.sampled_from(["day", "week", "month"])),
        draw(st.integers(1, 2)),
        draw(st.integers(0, 4)),
        zone,
    )
    told: dict[str, Any] = {
        "interval_ms": draw(st.sampled_from([1000, HOUR_MS, 2 * HOUR_MS, DAY_MS])),
        "intervals": draw(st.sampled_from([1, 2, 5, 70])),
        "compounded": draw(st.booleans()),
        "unbounded": draw(st.booleans()),
    }
    on = draw(st.sampled_from([None, parse('properties["v"]')]))
    limit = draw(st.sampled_from([1, 2, 255]))
    query = RetentionQuery(
        project=PROJECT,
        born=selector(asked[0]),
        returning=selector(asked[1]),
        buckets=buckets,
        on=on,
        limit=limit,
        group_key=group_key,
        **told,
    )
    found = retention(world.reads, query, now_ms=MIDNIGHT_MS)
    events, place = seen(world, asked, group_key), place_in(buckets, zone)
    expected = journeys.retention(events, place=place, **told)
    rows = {place: row for place, row in enumerate(found.values()) if row.first}
    assert {place: (row.first, row.counts) for place, row in rows.items()} == expected
    labels = {label for each in events for label in each.labels} if on is not None else set()
    by_label = {label: journeys.retention(events, place=place, label=label, **told) for label in labels}
    back = {label: returned(events, place=place, label=label, **told) for label in labels}
    wanted = sorted((label for label in labels if back[label]), key=lambda label: (-back[label], label))
    for at, row in rows.items():
        assert row.segments == {label: by_label[label][at][1] for label in wanted[:limit]}
        assert list(row.segments) == wanted[:limit]


def returned(events: Sequence[Seen], **told: Any) -> int:
    """How many returned at all."""
    each = (journeys.retention(own, **told) for own in journeys.by_person(events).values())
    return sum(any(any(counts) for _, counts in found.values()) for found in each)


def check_addiction(world: Kept, draw: Callable[[Any], Any]) -> None:
    choice = draw(choices)
    zone, group_key = draw(st.sampled_from(ZONES)), draw(st.sampled_from(["", "", "company"]))
    unit, part = draw(st.sampled_from(["day", "week", "month"])), draw(st.sampled_from(["hour", "day"]))
    span = span_of_days(FIRST, FIRST + timedelta(days=draw(st.integers(0, 4))), zone)
    on = draw(st.sampled_from([None, parse('properties["v"]')]))
    limit = draw(st.sampled_from([1, 2, 255]))
    query = AddictionQuery(
        project=PROJECT,
        selector=selector(choice),
        buckets=Buckets(unit, span, zone),
        part=part,
        on=on,
        limit=limit,
        group_key=group_key,
    )
    found = addiction(world.reads, query, now_ms=MIDNIGHT_MS)
    events = [each for each in seen(world, [choice], group_key) if span.since_ms <= each.time < span.until_ms]
    people: dict[str, set[str]] = {}
    for each in events if on is not None else ():
        for value in each.labels:
            people.setdefault(value, set()).add(each.who)
    labels = sorted(people, key=lambda value: (-len(people[value]), value))[:limit]
    assert list(found.segments) == labels
    for label in (None, *labels):
        expected = journeys.addiction(events, unit=unit, part=part, zone=zone, label=label)
        told = found.overall if label is None else found.segments[label]
        for key, counts in told.items():
            there = expected.get(date.fromisoformat(key), {})
            assert counts == [
                sum(times >= least for times in there.values()) for least in range(1, len(counts) + 1)
            ]
        assert {key for key, counts in told.items() if counts[0]} == {str(start) for start in expected}


CLOCKS = (
    ("Europe/Berlin", date(2026, 3, 29)),  # from 2:00 to 3:00
    ("Europe/Berlin", date(2026, 10, 25)),  # from 3:00 to 2:00, an hour that comes twice
    ("America/Havana", date(2026, 11, 1)),  # from 1:00 to midnight
    ("Australia/Lord_Howe", date(2026, 4, 5)),  # by half an hour
)


@pytest.mark.parametrize(("name", "day"), CLOCKS)
@pytest.mark.parametrize("unit", ["day", "week"])
def test_an_hour_that_comes_twice_counts_once(name: str, day: date, unit: str) -> None:
    zone = ZoneInfo(name)
    span = span_of_days(day, day, zone)
    halves = range(span.since_ms, span.until_ms, HOUR_MS // 2)
    events = [
        Stored(at, MIDNIGHT_MS, "a", ms, ["ann", "bob"][at % 2], f"own{at}", {})
        for at, ms in enumerate(each for half in halves for each in (half, half + 1))
    ]
    with kept(events, [], []) as world:
        query = AddictionQuery(
            project=PROJECT,
            selector=selector(("a", "")),
            buckets=Buckets(unit, span, zone),
            part="hour",
        )
        (counts,) = addiction(world.reads, query, now_ms=MIDNIGHT_MS).overall.values()
        all_seen = seen(world, [("a", "")], "")
    ((_, there),) = journeys.addiction(all_seen, unit=unit, part="hour", zone=zone).items()
    assert set(there) == {"ann", "bob"}
    size = 24 if unit == "day" else 7 * 24
    assert counts == [sum(times >= least for times in there.values()) for least in range(1, size + 1)]


CHECKS = {"funnel": check_funnel, "retention": check_retention, "addiction": check_addiction}


Layout = dict[str, Any]
layouts = st.sampled_from(
    [{"partitions": 1}, {"partitions": 4}, {"partitions": 4, "spread": True}]  # alone, beside others, large
)


def simplified(linked: Sequence[tuple[str, str]], layout: Layout) -> list[tuple[str, str]]:
    """The links that there may be."""
    return [link for link in linked if not layout.get("spread") or link[0] != "alias"]


@pytest.mark.parametrize("name", CHECKS)
@settings(GENERATED, max_examples=4)
@given(stored(), st.lists(st.integers(1, 20), max_size=2), links, layouts, st.data())
def test_figures_are_as_by_the_book(
    name: str,
    events: list[Stored],
    cuts: list[int],
    linked: list[tuple[str, str]],
    layout: Layout,
    data: st.DataObject,
) -> None:
    with kept(events, cuts, simplified(linked, layout), **layout) as world:
        for _ in range(3):
            CHECKS[name](world, data.draw)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["funnel", "retention"])
@settings(GENERATED, max_examples=10)
@given(stored(), st.lists(st.integers(1, 20), max_size=2), links, st.data())
def test_figures_of_numbers_too_long_for_64_bits_are_as_by_the_book(
    name: str, events: list[Stored], cuts: list[int], linked: list[tuple[str, str]], data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch, kept(events, cuts, linked) as world:
        patch.setattr(periods, "NUMBER_BITS", 0)
        for _ in range(3):
            CHECKS[name](world, data.draw)


@pytest.mark.parametrize("order", ["loose", "any"])
def test_a_funnel_whose_lists_take_too_much_memory_sorts_instead(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = [0, 1, 2, 30, 31, 32]
    events = [
        Stored(at, MIDNIGHT_MS, NAMES[at % 2], MIDNIGHT_MS + hour * HOUR_MS, IDS[at % 3], f"own{at}", {})
        for at, hour in enumerate(hours * 4)
    ]
    query = FunnelQuery(
        project=PROJECT,
        steps=tuple(Step(selector((name, "")), "") for name in NAMES[:2]),
        window_ms=2 * DAY_MS,
        buckets=Buckets("day", span_of_days(FIRST, FIRST + timedelta(days=3))),
        order=order,
    )
    run, refused = ReportRows.run, []

    def without_lists(rows: ReportRows, sql: str, parameters: Sequence[Any] = ()) -> None:
        if "list(" in sql:
            refused.append(sql)
            raise TooMuchAtOnceError("there is no room")
        run(rows, sql, parameters)

    with kept(events, [7], []) as world:
        gathered = funnel(world.reads, query, now_ms=MIDNIGHT_MS)
        monkeypatch.setattr(ReportRows, "run", without_lists)
        assert funnel(world.reads, query, now_ms=MIDNIGHT_MS) == gathered
    assert refused
    assert any(reached.counts[1] for reached in gathered.overall)


def test_places_do_not_ascend_where_clocks_go_back_past_midnight() -> None:
    st_johns, new_york = ZoneInfo("America/St_Johns"), ZoneInfo("America/New_York")
    back = span_of_days(date(2010, 11, 5), date(2010, 11, 9), st_johns)  # from 00:01 of the 7th to 23:01
    assert not periods.ascends(Buckets("day", back, st_johns))
    assert not periods.ascends(Buckets("hour", back, st_johns))
    autumn = span_of_days(date(2026, 10, 30), date(2026, 11, 3), new_york)
    assert periods.ascends(Buckets("day", autumn, new_york))
    assert periods.ascends(Buckets("day", autumn))


def test_a_beginning_at_noon_meets_both_events_of_a_later_day_in_intervals_of_their_own() -> None:
    noons = [12, 54, 66]  # of the first day, and six hours before and after that of the third
    events = [
        Stored(number, MIDNIGHT_MS, "a", MIDNIGHT_MS + hours * HOUR_MS, "ann", f"own{number}", {})
        for number, hours in enumerate(noons)
    ]
    with kept(events, [], []) as world:
        query = RetentionQuery(
            project=PROJECT,
            born=selector(("a", "")),
            returning=selector(("a", "")),
            buckets=Buckets("month", span_of_days(FIRST, FIRST + timedelta(days=9))),
            interval_ms=DAY_MS,
            intervals=4,
            compounded=True,
        )
        (row,) = retention(world.reads, query, now_ms=MIDNIGHT_MS).values()
    assert (row.first, row.counts) == (1, [0, 1, 1, 0])


def test_a_value_that_nobody_returned_with_is_not_told() -> None:
    events = [
        Stored(hours, MIDNIGHT_MS, event, MIDNIGHT_MS + hours * HOUR_MS, "ann", f"own{hours}", {"v": value})
        for hours, event, value in [
            (0, "b", "before"),
            (1, "a", "of a"),
            (2, "b", "after"),
            (99, "b", "late"),
        ]
    ]
    with kept(events, [], []) as world:
        query = RetentionQuery(
            project=PROJECT,
            born=selector(("a", "")),
            returning=selector(("b", "")),
            buckets=Buckets("month", span_of_days(FIRST, FIRST + timedelta(days=9))),
            interval_ms=DAY_MS,
            intervals=2,
            on=parse('properties["v"]'),
        )
        (row,) = retention(world.reads, query, now_ms=MIDNIGHT_MS).values()
    assert (row.first, row.counts, row.segments) == (1, [1, 0], {"after": [1, 0]})


OLD = 2**43
ARRIVALS = {
    "a new log": (range(4), "BIGINT"),
    "an old log": (range(OLD, OLD + 4), "BIGINT"),
    "a partition": (range(first_of(3), first_of(3) + 4), "BIGINT"),
    "an old partition": ([first_of(7) + OLD + 2**20 * place for place in range(4)], "BIGINT"),
    "a partition that events were copied to": ([2, 3, first_of(5), first_of(5) + 1], "BIGINT"),
    "all partitions": ([first_of(100 * place) + OLD - place for place in range(4)], "BIGINT"),
    "a log of very long ago and of now": ([0, 1, OLD, OLD + 1], "HUGEINT"),
}
"""Where four events stand in a log, and the type of the numbers that tell their order."""


@pytest.mark.parametrize("name", ARRIVALS)
def test_of_what_happens_at_one_time_the_later_is_a_return(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions, kind = ARRIVALS[name]
    kinds = []

    def integer_of(bits: int) -> str:
        kinds.append(periods.integer_of(bits))
        return kinds[-1]

    monkeypatch.setattr(retention_module, "integer_of", integer_of)
    store = MemoryStore()
    events = [
        Stored(position, MIDNIGHT_MS, event, MIDNIGHT_MS, who, "i", {})._asdict()
        for position, event, who in zip(positions, "abba", ["ann", "ann", "bob", "bob"], strict=True)
    ]
    end = positions[-1] + 1
    store.events.write(EventsWrite(end, [batch_of(PROJECT, events)], (), MIDNIGHT_MS))
    reads = EventReads(store, memory_limit_bytes=128 * 1024 * 1024)
    query = RetentionQuery(
        project=PROJECT,
        born=selector(("a", "")),
        returning=selector(("b", "")),
        buckets=Buckets("month", span_of_days(FIRST, FIRST + timedelta(days=30))),
        interval_ms=DAY_MS,
        intervals=30,
    )
    (row,) = [row for row in retention(reads, query, now_ms=MIDNIGHT_MS).values() if row.first]
    reads.close()
    assert (row.first, row.counts[0], kinds) == (2, 1, [kind])


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
@settings(GENERATED, max_examples=MANY_STORES)
@given(stored(), st.lists(st.integers(1, 20), max_size=2), links, layouts, st.data())
def test_figures_of_files_and_what_is_beside_them_are_as_by_the_book(
    name: str,
    events: list[Stored],
    cuts: list[int],
    linked: list[tuple[str, str]],
    layout: Layout,
    data: st.DataObject,
) -> None:
    layout = layout if ON_POSTGRES else {}
    with TemporaryDirectory() as folder:
        closed = [cut for cut in cuts if data.draw(st.booleans())]
        own = simplified(linked, layout)
        with kept(events, cuts, own, Path(folder) / "data", closed, **layout) as world:
            for _ in range(4):
                CHECKS[name](world, data.draw)
