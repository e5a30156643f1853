"""Every figure, line and list of events equals what plain Python makes of all of them.

Events tie in time, repeat (in one batch and across them), and have ids that were linked before or after them;
days, units and zones vary.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixdown.fold.profiles import ProfileFold
from mixdown.model.expression import parse
from mixdown.query.events.activity import ActivityQuery, activity_page
from mixdown.query.events.buckets import UNITS, Buckets, Span, following, span_of_days, span_of_interval
from mixdown.query.events.export import ExportQuery, export_lines
from mixdown.query.events.figures import KINDS, event_series, value_series
from mixdown.query.events.names import event_names, top_events, top_properties, top_values
from mixdown.query.events.reader import EventReads
from mixdown.query.events.where import Selector
from mixdown.store.chunk import Link
from mixdown.store.events import EventsWrite, batch_of
from mixdown.store.memory import MemoryStore
from mixdown.store.places import first_of, profile_key_text, views_of
from mixdown.store.protocols import Store
from tests.engine import ON_POSTGRES, open_store
from tests.reads import event_reference as book
from tests.reads.event_reference import Stored
from tests.store.support import append, appending_events

pytestmark = pytest.mark.slow

PROJECT = 1
MIDNIGHT_MS = 1_768_435_200_000
"""15 January 2026."""
HOUR_MS = 3_600_000
NAMES = ("a", "b", "Ünï \"c'")
PROPERTIES = ("plan", "n", 'o"d d', "/~1", "mp_processing_time_ms")
IDS = ("u1", "u2", "$device:d1", "$device:d2", "alias")
GENERATED = settings(deadline=None, suppress_health_check=list(HealthCheck))
MANY_STORES = 20 if ON_POSTGRES else 60
"""Examples of about a second, each with a store of its own: on PostgreSQL fewer, or each test takes minutes.

There only what reads events, links and profiles out of the store is another; of folders all are tried.
"""

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**63 - 1, -(2**63), 2.0, -0.0, 0.1, 1e-7, 1.5e22, 123456789012345680.0]),
    st.sampled_from(["", "a", "A", "undefined", "2", "true", "é\u2028\"\\'😀", "[]"]),
)
values = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.sampled_from([{}, {"x": [1, None]}, [["a"], []], [{"y": "é"}]]),
)
times = st.one_of(
    st.integers(-2, 50).map(lambda hours: MIDNIGHT_MS + hours * HOUR_MS),
    st.integers(-36 * HOUR_MS, 60 * HOUR_MS).map(lambda ms: MIDNIGHT_MS + ms),
)


@st.composite
def stored(draw: st.DrawFn) -> list[Stored]:
    """Events in the order of their positions."""
    count = draw(st.integers(0, 14))
    return [
        Stored(
            position=position,
            arrived=MIDNIGHT_MS + position,
            event=draw(st.sampled_from(NAMES)),
            time=draw(times),
            distinct_id=draw(st.sampled_from(IDS)),
            insert_id=draw(st.sampled_from(["i1", "i2", f"own{position}"])),
            properties=draw(st.dictionaries(st.sampled_from(PROPERTIES), values, max_size=3)),
        )
        for position in range(count)
    ]


links = st.lists(
    st.tuples(st.sampled_from(["$device:d1", "$device:d2", "alias"]), st.sampled_from(["u1", "u2"])),
    max_size=3,
)


def enlarge(store: Store) -> None:
    """Make the project, and mark it large."""
    made = store.catalog.create_project(
        "large", token="large", secret_hash=b"", id_merge="simplified", now_ms=MIDNIGHT_MS
    )
    assert made.id == PROJECT
    store.catalog.enlarge_project(made.id)


class Kept:
    """Events and links in a store, and who is who by the book.

    What was written up to each of the `closed` cuts is closed into files before the next is written. The
    store has `partitions`; the project is in one of them, or `spread` over all: events then lie where those
    of their sender do, and arrived in the order of partitions.
    """

    def __init__(
        self,
        events: Sequence[Stored],
        cuts: Sequence[int],
        linked: Sequence[tuple[str, str]],
        folder: Path | None = None,
        closed: Sequence[int] = (),
        *,
        partitions: int = 1,
        spread: bool = False,
    ) -> None:
        self.store: Store = (
            MemoryStore(partitions)
            if folder is None
            else open_store(folder, role="fold", create=True, partitions=partitions)
        )
        if spread:
            enlarge(self.store)
        self._spread = spread
        self.owner: dict[str, tuple[str, int]] = {}
        for position, (one, user) in enumerate(linked):
            view = self.view_of(one)
            legacy = one == "alias"
            assert not (legacy and spread), "a large project knows no aliases"
            made = (
                Link(0, PROJECT, "legacy", "create_alias", user, one)
                if legacy
                else Link(0, PROJECT, "simplified", "device", one, user)
            )
            append(view.log, appending_events(user, links=[made]))
            self.owner.setdefault(one, (user, first_of(view.number) + position + 1 if legacy else 0))
        for view in views_of(self.store, PROJECT):
            fold = ProfileFold(view)
            while fold.step() is not None:
                pass
        edges = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
        self.once = book.once_each(self._written(events, edges, closed))
        self.reads = EventReads(self.store, memory_limit_bytes=128 * 1024 * 1024)

    def view_of(self, one: str) -> Store:
        """The store as that partition sees it in which the events of an id lie."""
        key = profile_key_text("", one) if self._spread else None
        return self.store.partition(self.store.partition_of(PROJECT, key))

    @property
    def view(self) -> Store:
        """The store as the project's only partition sees it."""
        assert not self._spread
        return self.view_of("")

    def _written(
        self, events: Sequence[Stored], edges: Sequence[int], closed: Sequence[int]
    ) -> Iterator[Stored]:
        for begin, end in pairwise(edges):
            yield from self._write(events[begin:end], end)
            for days in (2, 4, 6) if end in closed else ():  # closed first, split into days when they are old
                for view in views_of(self.store, PROJECT):
                    while view.events.tend(busy=False, now_ms=MIDNIGHT_MS + days * 24 * HOUR_MS):
                        pass

    def _write(self, events: Sequence[Stored], end: int) -> list[Stored]:
        """The events as they were written: with the positions that they have in their partitions."""
        written: dict[int, list[Stored]] = {}
        for each in events:
            number = self.view_of(each.distinct_id).number
            moved = each._replace(position=first_of(number) + each.position)
            written.setdefault(number, []).append(moved)
        for number, some in written.items():
            batch = batch_of(PROJECT, [each._asdict() for each in some])
            position = first_of(number) + end
            self.store.partition(number).events.write(EventsWrite(position, [batch], (), MIDNIGHT_MS))
        return [each for some in written.values() for each in some]

    def person(self, each: Stored) -> str:
        """Whose an event is."""
        user, since = self.owner.get(each.distinct_id, (each.distinct_id, 0))
        return user if each.position >= since else each.distinct_id

    def within(self, span: Span) -> list[Stored]:
        """Events of a span, each once."""
        return [each for each in self.once if span.since_ms <= each.time < span.until_ms]

    def lines(self, span: Span, where: str = "", **asked: Any) -> list[Any]:
        """What an export gives."""
        query = ExportQuery(project=PROJECT, span=span, selectors=(Selector(parse(where)),), **asked)
        found = b"".join(export_lines(self.reads, query, now_ms=MIDNIGHT_MS))
        assert found.isascii()
        return [json.loads(line) for line in found.splitlines()]


@contextmanager
def kept(
    events: Sequence[Stored],
    cuts: Sequence[int],
    linked: Sequence[tuple[str, str]],
    folder: Path | None = None,
    closed: Sequence[int] = (),
    *,
    partitions: int = 1,
    spread: bool = False,
) -> Iterator[Kept]:
    made = Kept(events, cuts, linked, folder, closed, partitions=partitions, spread=spread)
    try:
        yield made
    finally:
        made.reads.close()
        made.store.close()


spans = st.tuples(st.integers(-1, 1), st.integers(0, 2)).map(
    lambda days: span_of_days(
        date(2026, 1, 15) + timedelta(days=days[0]), date(2026, 1, 15) + timedelta(days=days[0] + days[1])
    )
)


@settings(GENERATED, max_examples=10)
@given(stored(), st.lists(st.integers(1, 13), max_size=3), links, spans, st.sampled_from(KINDS), st.data())
def test_reads_of_events_are_as_by_the_book(
    events: list[Stored],
    cuts: list[int],
    linked: list[tuple[str, str]],
    span: Span,
    kind: str,
    data: st.DataObject,
) -> None:
    with kept(events, cuts, linked) as world:
        check_lines(world, span)
        check_series(world, span, kind, data.draw(st.sampled_from(UNITS)))
        check_lists(world, span, kind)
        check_activity(world, span, data.draw(st.sampled_from(IDS)))


@settings(GENERATED, max_examples=25)
@given(
    stored(),
    st.lists(st.tuples(st.integers(1, 14), st.booleans()), max_size=4),
    links,
    spans,
    st.sampled_from(KINDS),
    st.data(),
)
def test_reads_of_events_in_files_and_beside_them_are_as_by_the_book(
    events: list[Stored],
    cuts: list[tuple[int, bool]],
    linked: list[tuple[str, str]],
    span: Span,
    kind: str,
    data: st.DataObject,
) -> None:
    """An event that was closed into a file is sent again, hot or into another file."""
    places = [cut for cut, _ in cuts]
    closed = [cut for cut, closes in cuts if closes]
    with TemporaryDirectory() as folder, kept(events, places, linked, Path(folder) / "data", closed) as world:
        check_lines(world, span)
        check_series(world, span, kind, data.draw(st.sampled_from(UNITS)))
        check_lists(world, span, kind)
        check_activity(world, span, data.draw(st.sampled_from(IDS)))


def check_lines(world: Kept, span: Span) -> None:
    events = world.within(span)
    assert world.lines(span) == [book.exported(each, world.person(each)) for each in events]
    where = 'properties["plan"] == "a" or properties["distinct_id"] == "u1" and event["$event_name"] != "b"'
    wanted = [
        each
        for each in events
        if each.properties.get("plan") == "a" or (world.person(each) == "u1" and each.event != "b")
    ]
    in_ms = [book.exported(each, world.person(each), in_ms=True) for each in wanted]
    assert world.lines(span, where, time_in_ms=True, limit=100) == in_ms
    assert world.lines(span, where, time_in_ms=True, limit=1) == in_ms[:1]
    bound = MIDNIGHT_MS // 1000 + 3600
    late = f'properties["$time"] > datetime({bound}) and datetime({bound + 80_000}) >= properties["time"]'
    found = [each for each in events if bound < each.time // 1000 <= bound + 80_000]
    assert world.lines(span, late) == [book.exported(each, world.person(each)) for each in found]


def check_series(world: Kept, span: Span, kind: str, unit: str) -> None:
    events = world.within(span)
    buckets = Buckets(unit, span)
    asked = ["b", NAMES[2], "none"]
    with world.reads.open(PROJECT, span) as table:
        found = event_series(table, asked, kind, buckets)
        by_name = {name: [each for each in events if each.event == name] for name in asked}
        assert found.keys == sorted(set(found.keys))
        assert {book.bucket(unit, each.time) for each in events} <= set(found.keys)
        assert found.values == book.series(by_name, found.keys, kind, unit, world.person)

        own = [each for each in events if each.event == "a"]
        for name in ("plan", PROPERTIES[2], "distinct_id"):
            by_label = book.by_label(own, lambda each, name=name: value_of(world, each, name))  # type: ignore[misc]
            ranked = sorted(by_label, key=lambda label: (-len(by_label[label]), label))
            answer = value_series(table, "a", name, kind, buckets, values=None, limit=3)
            assert list(answer.values) == ranked[:3]
            chosen = {label: by_label[label] for label in ranked[:3]}
            assert answer.values == book.series(chosen, found.keys, kind, unit, world.person)
            named = value_series(table, "a", name, kind, buckets, values=["2", "nothing"], limit=10)
            chosen = {label: by_label.get(label, []) for label in ("2", "nothing")}
            assert named.values == book.series(chosen, found.keys, kind, unit, world.person)


def value_of(world: Kept, each: Stored, name: str) -> Any:
    return world.person(each) if name == "distinct_id" else each.properties.get(name)


def check_lists(world: Kept, span: Span, kind: str) -> None:
    events = world.within(span)
    with world.reads.open(PROJECT, span) as table:
        persons = {name: [world.person(each) for each in events if each.event == name] for name in NAMES}
        figures = {name: book.figure(kind, some) for name, some in persons.items() if some}
        ranked = sorted(figures, key=lambda name: (-figures[name], name))
        assert event_names(table, kind, span, 2) == ranked[:2]

        middle = span.since_ms + (span.until_ms - span.since_ms) // 2
        now, before = Span(middle, span.until_ms), Span(span.since_ms, middle)
        top = top_events(table, kind, now, before, 10)
        for row in top["events"]:
            today = [
                world.person(each) for each in events if each.event == row["event"] and each.time >= middle
            ]
            other = [
                world.person(each) for each in events if each.event == row["event"] and each.time < middle
            ]
            new, old = book.figure(kind, today), book.figure(kind, other) if other else 0
            assert row["amount"] == new
            assert row["percent_change"] == (new - old) / max(new, old)
        assert {row["event"] for row in top["events"]} == {e.event for e in events if e.time >= middle}

        own = [each for each in events if each.event == "a"]
        counts = Counter(name for each in own for name in each.properties if name != PROPERTIES[4])
        found = top_properties(table, "a", span, 100)
        assert {name: row["count"] for name, row in found.items() if name in PROPERTIES[:4]} == counts
        assert found.get("$insert_id", {"count": 0}) == {"count": len(own)}

        known = [each for each in own if each.properties.get("plan") not in (None, [])]
        by_label = book.by_label(known, lambda each: each.properties["plan"])
        best = sorted(by_label, key=lambda label: (-len(by_label[label]), label))
        assert top_values(table, "a", "plan", span, 4) == best[:4]


def check_activity(world: Kept, span: Span, one: str) -> None:
    user = world.owner.get(one, (one, 0))[0]
    wanted = [each for each in world.within(span) if world.person(each) == user][::-1]
    found: list[Any] = []
    query = ActivityQuery(project=PROJECT, span=span, ids=(one,), limit=2)
    for _ in range(20):
        page = activity_page(world.reads, query)
        found += [json.loads(line) for line in page.lines]
        if page.following is None:
            break
        query = ActivityQuery(project=PROJECT, span=span, ids=(one,), limit=2, before=page.following)
    for line in found:
        assert line["properties"].pop("$distinct_id") == user
    assert found == [book.exported(each, user) for each in wanted]


# --- days, units and zones

ZONES = ("Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "America/Sao_Paulo", "Pacific/Apia", "UTC")


def zone_of(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError:
        pytest.skip("this machine has no data of time zones")


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize("unit", UNITS)
def test_sql_and_calendar_put_a_time_into_the_same_bucket(name: str, unit: str) -> None:
    """Over years with changes of the clock, on days that begin at one and days that never were."""
    zone = zone_of(name)
    days = (
        (date(2011, 12, 28), date(2012, 1, 3)) if unit == "minute" else (date(2010, 1, 1), date(2012, 12, 31))
    )
    span = span_of_days(*days, zone)
    buckets = Buckets(unit, span, zone)
    step = max((span.until_ms - span.since_ms) // 3000, 1)
    every = [*range(span.since_ms, span.until_ms, step), span.since_ms, span.until_ms - 1]
    moments = "SELECT ms, make_timestamp_ms(ms) AS time FROM (SELECT unnest(?) AS ms)"
    sql = f"SELECT ms, {buckets.sql('time')} FROM ({moments})"
    rows = duckdb.connect().execute(sql, [every]).fetchall()
    keys = buckets.keys()
    for ms, start in rows:
        assert buckets.key(start) == book.bucket(unit, ms, zone)
    assert {buckets.key(start) for _, start in rows} <= set(keys)
    assert keys == sorted(set(keys))
    assert (keys[0], keys[-1]) == (
        book.bucket(unit, span.since_ms, zone),
        book.bucket(unit, span.until_ms - 1, zone),
    )


@pytest.mark.parametrize("name", ZONES)
def test_days_meet_without_gaps_or_overlaps(name: str) -> None:
    zone = zone_of(name)
    day = date(2011, 1, 1)
    for count in range(700):
        one, other = (
            span_of_days(day + timedelta(days=count + each), day + timedelta(days=count + each), zone)
            for each in (0, 1)
        )
        assert one.until_ms == other.since_ms
        assert one.since_ms <= one.until_ms


@pytest.mark.parametrize("unit", UNITS)
def test_where_clocks_go_back_past_midnight_no_event_is_outside_of_the_series(unit: str) -> None:
    """In Newfoundland one minute after midnight became one minute after eleven, the day before."""
    zone = ZoneInfo("America/St_Johns")
    day = date(2010, 11, 7)
    buckets = Buckets(unit, span_of_days(day, day, zone), zone)
    assert buckets.span.until_ms - buckets.span.since_ms == 25 * HOUR_MS
    every = list(range(*buckets.span, 60_000))
    moments = "SELECT make_timestamp_ms(ms) AS time FROM (SELECT unnest(?) AS ms)"
    rows = duckdb.connect().execute(f"SELECT {buckets.sql('time')} FROM ({moments})", [every]).fetchall()
    assert {buckets.key(start) for (start,) in rows} == set(buckets.keys())


def test_an_interval_has_the_current_unit_and_those_before() -> None:
    now_ms = MIDNIGHT_MS + 12 * HOUR_MS + 1
    for unit, count, first in (
        ("minute", 3, "2026-01-15 11:58:00"),
        ("hour", 1, "2026-01-15 12:00:00"),
        ("day", 2, "2026-01-14"),
        ("week", 3, "2025-12-29"),
        ("month", 13, "2025-01-01"),
    ):
        buckets = Buckets(unit, span_of_interval(unit, count, now_ms))
        assert (len(buckets.keys()), buckets.keys()[0]) == (count, first)
        assert buckets.span.until_ms == now_ms + 1
    assert span_of_interval("month", 50_000, now_ms).since_ms == 0
    assert (
        following("month", datetime(2026, 1, 1, tzinfo=UTC), -14).isoformat() == "2024-11-01T00:00:00+00:00"
    )
