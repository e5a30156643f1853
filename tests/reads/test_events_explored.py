"""Mixdown's own reads of events equal what plain Python makes of all of them, and say what was asked wrongly.

Events tie in time, repeat, have ids that were linked before or after them, and lie in files, beside them or
in both; zones, filters and properties vary.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import date, datetime, timedelta, tzinfo
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixdown.model.expression import parse
from mixdown.query.contexts import context_of
from mixdown.query.events import persons
from mixdown.query.events.activity import Place
from mixdown.query.events.breakdown import Line, breakdown
from mixdown.query.events.buckets import UNITS, Buckets, Span, span_of_days
from mixdown.query.events.figures import KINDS
from mixdown.query.events.matching import matching_events
from mixdown.query.events.newest import NewestQuery, newest_page, stretches
from mixdown.query.events.properties import event_properties
from mixdown.query.events.volumes import WINDOWS, VolumesQuery, event_volumes, span_of_volumes
from mixdown.query.events.where import Selector
from tests.reads import event_reference as book
from tests.reads.event_reference import Stored
from tests.reads.support import NOON_MS
from tests.reads.test_events_by_the_book import (
    GENERATED,
    HOUR_MS,
    MIDNIGHT_MS,
    NAMES,
    PROJECT,
    PROPERTIES,
    Kept,
    kept,
    links,
    spans,
    stored,
    value_of,
)

FILTERS = (
    "",
    'properties["plan"] == "a"',
    'not defined(properties["plan"]) or properties["n"] > 1',
    'properties["distinct_id"] == "u1" and event["$event_name"] != "b"',
    'user["level"] == 2',
    "1 == 2",
    "1 == 1",
)
zones = st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns"]).map(ZoneInfo)


@settings(GENERATED, max_examples=8)
@given(stored(), st.lists(st.integers(1, 13), max_size=3), links, spans, zones, st.data())
def test_reads_of_the_explorer_are_as_by_the_book(
    events: list[Stored],
    cuts: list[int],
    linked: list[tuple[str, str]],
    span: Span,
    zone: tzinfo,
    data: st.DataObject,
) -> None:
    with kept(events, cuts, linked) as world:
        check(world, span, zone, data)


@pytest.mark.slow
@settings(GENERATED, max_examples=25)
@given(
    stored(),
    st.lists(st.tuples(st.integers(1, 14), st.booleans()), max_size=4),
    links,
    spans,
    zones,
    st.data(),
)
def test_reads_of_the_explorer_in_files_are_as_by_the_book(
    events: list[Stored],
    cuts: list[tuple[int, bool]],
    linked: list[tuple[str, str]],
    span: Span,
    zone: tzinfo,
    data: st.DataObject,
) -> None:
    places = [cut for cut, _ in cuts]
    closed = [cut for cut, closes in cuts if closes]
    with TemporaryDirectory() as folder, kept(events, places, linked, Path(folder) / "data", closed) as world:
        check(world, span, zone, data)


def check(world: Kept, span: Span, zone: tzinfo, data: st.DataObject) -> None:
    where = data.draw(st.sampled_from(FILTERS))
    names = data.draw(st.sampled_from([None, ("a",), ("b", NAMES[2]), ("none",)]))
    selector = Selector(parse(where), names)
    check_breakdown(world, span, zone, selector, data)
    check_newest(world, span, selector)
    check_properties(world, span, "a" if names else None)
    check_volumes(world, zone, data.draw(st.sampled_from(["", "A", 'ü"', "Ü"])))


def matched(world: Kept, span: Span, selector: Selector) -> list[Stored]:
    """The events of a span that a selector matches, by the book."""
    where = selector.where.text
    found = []
    for each in world.within(span):
        plan, n = each.properties.get("plan"), each.properties.get("n", "")
        matches = {
            "": True,
            FILTERS[1]: plan == "a",
            FILTERS[2]: plan is None or (isinstance(n, (int, float)) and type(n) is not bool and n > 1),
            FILTERS[3]: world.person(each) == "u1" and each.event != "b",
            "1 == 1": True,
        }.get(where, False)
        if matches and (selector.events is None or each.event in selector.events):
            found.append(each)
    return found


def names_of(value: Any) -> set[str | None]:
    """What a value is counted under; None where there is none."""
    if value is None:
        return {None}
    if type(value) is list:
        return {book.label(item) for item in value if item is not None} or {None}
    return {book.label(value)}


def check_breakdown(world: Kept, span: Span, zone: tzinfo, selector: Selector, data: st.DataObject) -> None:
    kind, unit = data.draw(st.sampled_from(KINDS)), data.draw(st.sampled_from(UNITS))
    by = data.draw(st.sampled_from(["", "plan", "n", PROPERTIES[2], "distinct_id", "$event_name"]))
    limit = data.draw(st.integers(1, 3))
    buckets = data.draw(st.sampled_from([None, Buckets(unit, span, zone)]))
    with world.reads.open(PROJECT, span) as table:
        context = context_of(world.store, PROJECT, now_ms=MIDNIGHT_MS)
        relation = matching_events(
            table, selector, span, state=world.store.state, project=PROJECT, context=context
        )
        found = breakdown(table, relation, by, kind, limit=limit, buckets=buckets)
    events = matched(world, span, selector)
    keys = [] if buckets is None else buckets.keys()

    def figures(some: list[Stored]) -> list[float]:
        parts: list[list[str]] = [
            [world.person(each) for each in some if book.bucket(unit, each.time, zone) == key] for key in keys
        ]
        return [book.figure(kind, part) if part else 0 for part in parts]

    def same(line: Line, some: list[Stored]) -> None:
        assert line.count == len(some)
        assert line.total == (book.figure(kind, [world.person(each) for each in some]) if some else 0)
        if buckets is not None and not shifts_at_midnight(span, zone):
            assert line.figures == figures(some)

    same(found.whole, events)
    if not by:
        assert (found.lines, found.other) == ([], None)
        return

    def own(each: Stored) -> Any:
        return each.event if by == "$event_name" else value_of(world, each, by)

    counts = Counter(name for each in events for name in names_of(own(each)))
    ranked = sorted(counts, key=lambda name: (-counts[name], name is None, name or ""))
    assert [line.value for line in found.lines] == ranked[:limit]
    for line in found.lines:
        same(line, [each for each in events if line.value in names_of(own(each))])
    rest = set(ranked[limit:])
    if not rest:
        assert found.other is None
        return
    assert found.other is not None
    assert found.other.values == len(rest)
    same(found.other, [each for each in events if names_of(own(each)) & rest])


def shifts_at_midnight(span: Span, zone: tzinfo) -> bool:
    """Whether a bucket may begin in the middle of a local day: none does on these days but the first."""
    return book.bucket("day", span.since_ms, zone) != book.bucket("day", span.since_ms + HOUR_MS, zone)


def check_newest(world: Kept, span: Span, selector: Selector) -> None:
    wanted = matched(world, span, selector)[::-1]
    found: list[Any] = []
    query = NewestQuery(project=PROJECT, span=span, selector=selector, limit=2)
    for _ in range(20):
        page = newest_page(world.reads, query, now_ms=MIDNIGHT_MS + 20 * HOUR_MS)
        found += [json.loads(line) for line in page.lines]
        assert len(page.lines) <= 2
        if page.following is None:
            break
        query = NewestQuery(project=PROJECT, span=span, selector=selector, before=page.following, limit=2)
    for line, each in zip(found, wanted, strict=True):
        person = world.person(each)
        assert line["properties"].pop("$distinct_id") == person
        assert line == book.exported(each, person)


def check_properties(world: Kept, span: Span, event: str | None) -> None:
    events = [each for each in world.within(span) if event in (None, each.event)]
    with world.reads.open(PROJECT, span, persons=False) as table:
        found = event_properties(table, event, span, 100)
    words = {str: "string", bool: "boolean", int: "number", float: "number", list: "list", dict: "object"}
    counts = Counter(
        (name, words.get(type(value), "null"))
        for each in events
        for name, value in each.properties.items()
        if name != "mp_processing_time_ms"
    )
    names = Counter(name for each in events for name in each.properties if name != "mp_processing_time_ms")
    assert found.events == len(events)
    assert found.names == len(names)
    assert {(one.name, kind): n for one in found.properties for kind, n in one.kinds.items()} == counts
    assert [one.name for one in found.properties] == sorted(names, key=lambda name: (-names[name], name))


def check_volumes(world: Kept, zone: tzinfo, search: str) -> None:
    now_ms = MIDNIGHT_MS + 31 * HOUR_MS
    today = date.fromisoformat(book.bucket("day", now_ms, zone))
    query = VolumesQuery(
        first=today - timedelta(days=1), last=today, today=today, now_ms=now_ms, zone=zone,
        search=search, limit=2,
    )  # fmt: skip
    span = span_of_volumes(query)
    with world.reads.open(PROJECT, span, persons=False) as table:
        found = event_volumes(table, query)
    events = [each for each in world.within(span) if search.lower() in each.event.lower()]
    in_range = span_of_days(query.first, query.last, zone)
    totals = Counter({each.event: 0 for each in events})
    totals.update(each.event for each in events if in_range.since_ms <= each.time < in_range.until_ms)
    assert (found.names, found.total) == (len(totals), sum(totals.values()))
    ranked = sorted(totals, key=lambda name: (-totals[name], name))
    assert [volume.event for volume in found.volumes] == ranked[:2]
    days = [book.bucket("day", each.time, zone) for each in events]
    assert found.figures == [days.count(key) for key in found.keys]
    for volume in found.volumes:
        own = [each for each in events if each.event == volume.event]
        assert volume.last_ms == max(each.time for each in own)
        assert volume.total == totals[volume.event]
        assert volume.windows == {
            name: (windowed(own, today, 0, length, zone), before(own, today, length, now_ms, zone))
            for name, length in WINDOWS.items()
        }


def windowed(events: list[Stored], today: date, ago: int, length: int, zone: tzinfo) -> int:
    days = {(today - timedelta(days=ago + each)).isoformat() for each in range(length)}
    return sum(book.bucket("day", each.time, zone) in days for each in events)


def before(events: list[Stored], today: date, length: int, now_ms: int, zone: tzinfo) -> int:
    """What came in as many days before, on the last of them before the time of day that it is now."""
    last = (today - timedelta(days=length)).isoformat()
    of_last = [each for each in events if book.bucket("day", each.time, zone) == last]
    clock = datetime.fromtimestamp(now_ms / 1000, zone).time()
    early = sum(datetime.fromtimestamp(each.time / 1000, zone).time() < clock for each in of_last)
    return windowed(events, today, length, length, zone) - len(of_last) + early


@pytest.mark.parametrize("before_ms", [None, NOON_MS - 100 * 24 * HOUR_MS])
def test_the_stretches_of_the_newest_events_are_their_span_without_gaps(before_ms: int | None) -> None:
    span = Span(0, NOON_MS + 10 * 24 * HOUR_MS)
    place = None if before_ms is None else Place(before_ms, 5)
    found = stretches(span, place, NOON_MS)
    assert found[0].until_ms == (span.until_ms if before_ms is None else before_ms + 1)
    assert found[-1].since_ms == 0
    assert all(later.since_ms == earlier.until_ms for later, earlier in pairwise(found))
    assert len(found) <= 5


@pytest.mark.parametrize("at_once", [1, 4, 1000])
def test_who_is_who_is_the_same_whichever_way_it_is_looked_up(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """All members of a project are taken where they are fewer than the events, else those that occur."""
    events = [
        Stored(n, MIDNIGHT_MS, "a", MIDNIGHT_MS + n, f"$device:d{n % 6}", f"i{n}", {}) for n in range(12)
    ]
    linked = [(f"$device:d{n}", f"u{n % 2}") for n in range(8)]
    span = Span(MIDNIGHT_MS, MIDNIGHT_MS + HOUR_MS)
    for most in (0, 7, 300_000):
        monkeypatch.setattr(persons, "IDS_AT_ONCE", at_once)
        monkeypatch.setattr(persons, "MEMBERS_LIMIT", most)
        with kept(events, [], linked) as world, world.reads.open(PROJECT, span) as table:
            rows = table.rows(f"SELECT position, person FROM {table.relation} ORDER BY position")
            assert [person for _, person in rows] == [world.person(each) for each in events]
