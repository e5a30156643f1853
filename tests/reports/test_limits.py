"""What a report may not take: days, steps, figures, memory, depth; and what it answers at its limits.

Each bound is met from both sides: what is just within it is answered rightly, what is beyond is refused by
name, before events are read where that can be told. Real servers, with time and crowds, are `test_load.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from itertools import pairwise, product
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import orjson
import pytest

from mixdown.model.expression import parse
from mixdown.query.events.buckets import Buckets, span_of_days
from mixdown.query.events.reader import EventReads
from mixdown.query.reports import funnels, retention
from mixdown.query.reports.funnels import STEPS_LIMIT, FunnelQuery, Order, Reached, Step
from mixdown.query.reports.retention import INTERVALS_LIMIT, UNIT_MS, RetentionQuery
from mixdown.store.events import EventsWrite, batch_of
from mixdown.store.memory import MemoryStore
from tests.reads.event_reference import Stored
from tests.reads.support import DAY_MS, NOON_MS, World, shared_world
from tests.reads.test_events_by_the_book import HOUR_MS, PROJECT, kept
from tests.reports import journeys
from tests.reports.journeys import Seen
from tests.reports.test_journey_mutants import mutant
from tests.reports.test_journeys import place_in, selector

MIB = 1024 * 1024
TWO_DAYS = {"from_date": "2026-01-14", "to_date": "2026-01-15"}
CENTURY = {"from_date": "1970-01-01", "to_date": "2069-12-31"}
REPORTS = (
    "segmentation",
    "segmentation/numeric",
    "segmentation/sum",
    "segmentation/average",
    "retention",
    "retention/addiction",
    "arb_funnels",
    "funnels",
    "funnels/list",
    "insights",
    "events",
    "events/properties",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server with a hundred events of as many values, which no test changes."""
    made = shared_world(tmp_path_factory.mktemp("limits") / "data")
    made.store_events(
        [
            {
                "position": number,
                "arrived": NOON_MS,
                "event": "a",
                "time": NOON_MS + number,
                "distinct_id": f"u{number % 7}",
                "insert_id": str(number),
                "properties": {"v": f"v{number:03}", "n": number, "few": number % 3},
            }
            for number in range(100)
        ]
    )
    yield made
    made.close()


def good(reply: httpx.Response) -> Any:
    assert reply.status_code == 200, reply.text
    return reply.json()


def refused(reply: httpx.Response) -> str:
    assert reply.status_code == 400, reply.text
    assert "retry-after" not in reply.headers
    return str(reply.json()["error"])


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test where events are read."""

    def opened(*_: Any, **__: Any) -> Any:
        raise AssertionError("events were read")

    monkeypatch.setattr(EventReads, "open", opened)


# --- what is refused before events are read


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("segmentation?event=a&unit=minute", "unit, this range of days has more than 50000 units"),
        ("segmentation?event=a&unit=hour", "unit, this range of days has more than 50000 units"),
        ("segmentation/sum?event=a&on=n&unit=minute&interval=2", "unit, this range of days has more than"),
        ("events?event=a&unit=minute", "unit, this range of days has more than 50000 units"),
        ("events/properties?event=a&name=v&unit=hour", "unit, this range of days has more than 50000 units"),
        ("retention?born_event=a&interval_count=366", "this answer would have more than 1000000 figures"),
        ("retention?born_event=a&interval_count=367", "interval_count, must be an integer from 1 to 366"),
    ],
)
def test_a_century_is_more_than_a_report_may_answer(world: World, target: str, text: str) -> None:
    path, _, query = target.partition("?")
    asked = {**CENTURY, **dict(httpx.QueryParams(query))}
    assert text in refused(world.get(f"/api/query/{path}", params=asked))


VALUED = (
    "retention?born_event=a",
    'arb_funnels?steps=["a","a"]',
    "retention/addiction?addiction_unit=hour",
)


@pytest.mark.parametrize("target", [*VALUED, "events/properties?event=a&name=n"])
def test_a_century_by_many_values_is_more_than_a_report_may_answer(world: World, target: str) -> None:
    path, _, query = target.partition("?")
    asked = {**CENTURY, "on": "n", "limit": 10_000, **dict(httpx.QueryParams(query))}
    text = "this answer would have more than 1000000 figures"
    assert text in refused(world.get(f"/api/query/{path}", params=asked))


@pytest.mark.parametrize(
    "target", [*VALUED, "retention?born_event=a&interval_count=89", "events/properties?event=a&name=few"]
)
def test_what_a_report_may_answer_goes_by_the_values_that_there_are(world: World, target: str) -> None:
    path, _, query = target.partition("?")
    days = {"from_date": "2025-06-01", "to_date": "2026-01-15", "limit": 10_000}
    answer = good(
        world.get(f"/api/query/{path}", params={**days, "on": "few", **dict(httpx.QueryParams(query))})
    )
    told = orjson.dumps(answer)
    assert all(b'"%d":' % value in told for value in range(3))


@pytest.mark.parametrize(
    ("target", "count"),
    [
        ("segmentation?event=a&unit=minute&interval=50000", 1052),
        ("segmentation?event=a&unit=month&interval=50000", 1),
        ("segmentation?event=a&unit=month", 1200),
    ],
)
def test_a_century_in_few_figures_is_answered(world: World, target: str, count: int) -> None:
    path, _, query = target.partition("?")
    asked = {**CENTURY, **dict(httpx.QueryParams(query))}
    data = good(world.get(f"/api/query/{path}", params=asked))["data"]
    assert len(data["series"]) == count
    assert sum(data["values"]["a"].values()) == 100


@pytest.mark.parametrize("target", [*VALUED, "segmentation?event=a", "segmentation/numeric?event=a"])
def test_days_past_all_time_have_no_figures(world: World, target: str) -> None:
    path, _, query = target.partition("?")
    days = {"from_date": "9999-12-01", "to_date": "9999-12-31", "on": "n"}
    answer = good(world.get(f"/api/query/{path}", params={**days, **dict(httpx.QueryParams(query))}))
    assert b"2200" not in orjson.dumps(answer)


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("count", [STEPS_LIMIT + 1, 1000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_funnel_of_a_thousand_steps_is_refused(world: World, count: int) -> None:
    for steps in (["a"] * count, [{"event": "a", "where": "true"}] * count):
        asked = {**TWO_DAYS, "steps": orjson.dumps(steps).decode()}
        assert "steps, must be a list of 1 to 20" in refused(world.post("/api/query/arb_funnels", data=asked))


DEEP: dict[str, str] = {
    "brackets": "(" * 50_000 + "true" + ")" * 50_000,
    "nots": "not " * 50_000 + "true",
    "signs": "-" * 100_000 + "1 < 2",
    "calls": "string(" * 20_000 + "1" + ")" * 20_000,
    "quantifiers": 'any(x, list(properties["n"]), ' * 2000 + "true" + ")" * 2000,
    "lists": "1 in " + "[" * 50_000 + "]" * 50_000,
    "unfinished": 'properties["n"' * 5000,
    "alternating": "".join(f'(properties["n"] == {n} or (true and ' for n in range(200))
    + "true"
    + "))" * 200,
    "properties": " or ".join(f'properties["n{n}"] == 1' for n in range(1001)),
    "sums": "+".join(['properties["n"]'] * 252),
    "length": f'properties["n"] == "{"x" * 262_144}"',
}
"""Expressions that are deeper, longer or of more parts than one may be."""


@pytest.mark.slow
@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("name", DEEP)
def test_expressions_of_great_depth_are_refused_by_name(world: World, name: str) -> None:
    text = DEEP[name]
    for given, told in (
        ({"steps": '["a"]', "where": text}, "where, "),
        ({"steps": '["a"]', "on": text}, ""),
        ({"steps": orjson.dumps(["a", {"event": "a", "where": text}]).decode()}, "steps, where of step 2, "),
    ):
        error = refused(world.post("/api/query/arb_funnels", data={**TWO_DAYS, **given}))
        assert error.startswith(told)
        assert "position" in error or "at most" in error, error
        assert len(error) < 1000, "it quotes what was sent"


# --- rates


def test_reports_count_as_queries_and_are_turned_away_by_their_limit() -> None:
    """As Mixpanel says it: its clients look for these words (contract query §1.5)."""
    limited = World(MemoryStore(), rate_limit_queries_per_hour=len(REPORTS))
    try:
        for _ in range(2):
            told = [
                limited.get(f"{prefix}/{name}", params=TWO_DAYS)
                for prefix, name in zip(("/api/query", "/api/2.0") * 6, REPORTS, strict=True)
            ]
            limits = [reply.status_code == 429 for reply in told]
            assert limits == [limits[0]] * len(REPORTS)
        for reply in told:
            assert reply.status_code == 429, reply.text
            assert reply.json()["error"].startswith(
                f"Query rate limit exceeded for project_id: {limited.project.id}"
            )
            assert 1 <= int(reply.headers["retry-after"]) <= 3600
    finally:
        limited.close()


# --- memory


def test_a_report_that_takes_too_much_memory_leaves_the_server_to_others() -> None:
    """Half a MiB in each of a day's values is more than there is room for; the day before has little."""
    small = World(MemoryStore(), event_read_memory_bytes=72 * MIB)
    try:
        for number, (days, text) in enumerate([(0, "x" * (MIB // 2)), (1, "x")]):
            small.store_events(
                [
                    {
                        "position": 100 * number + place,
                        "arrived": NOON_MS,
                        "event": "a",
                        "time": NOON_MS - days * DAY_MS,
                        "distinct_id": "u",
                        "insert_id": str(place),
                        "properties": {"v": f"{place}{text}"},
                    }
                    for place in range(24)
                ]
            )
        asked = {"event": "a", "on": "v"}
        for _ in range(2):
            wide = {**asked, "from_date": "2026-01-15", "to_date": "2026-01-15"}
            error = refused(small.get("/api/query/segmentation", params=wide))
            assert error.startswith("this read of events takes more memory than it may: ask for fewer days")
            narrow = {**asked, "from_date": "2026-01-14", "to_date": "2026-01-14"}
            answer = good(small.get("/api/query/segmentation", params=narrow))
            assert answer["legend_size"] == 24
    finally:
        small.close()


# --- values


def test_of_many_values_as_many_are_told_as_are_asked_for(world: World) -> None:
    asked = {**TWO_DAYS, "event": "a", "on": "v"}
    for limit in ("", "1", "99", "1000000"):
        data = good(world.get("/api/query/segmentation", params={**asked, "limit": limit}))["data"]
        count = min(int(limit or 60), 100)
        assert list(data["values"]) == [f"v{number:03}" for number in range(count)], (
            "those of one count by name"
        )
    error = refused(world.get("/api/query/segmentation", params={**asked, "limit": "0"}))
    assert error.startswith("limit, must be an integer from 1")


# --- a person whose every event is every step


def crowded(count: int, gap_ms: int) -> EventReads:
    """A store in which one person did the same again and again, some at the same time as the one before."""
    store = MemoryStore()
    events = [
        {
            "position": number,
            "arrived": NOON_MS,
            "event": "a",
            "time": NOON_MS + number // 2 * 2 * gap_ms,
            "distinct_id": "ann",
            "insert_id": str(number),
            "properties": {"v": number % 3},
        }
        for number in range(count)
    ]
    store.events.write(EventsWrite(count, [batch_of(PROJECT, events)], (), NOON_MS))
    return EventReads(store, memory_limit_bytes=128 * MIB)


def crowded_is_right(module: Any, count: int, order: Order, steps: int) -> bool:
    """Pairs of events a second apart: an attempt reaches step k with the k-th event after its first.

    In any order the event that begins an attempt is of all steps itself.
    """
    reads = crowded(count, 500)
    day = date(2026, 1, 15)
    span = span_of_days(day, day + timedelta(days=2))
    query = FunnelQuery(
        project=PROJECT,
        steps=tuple(Step(selector(("a", "")), "a") for _ in range(steps)),
        window_ms=3 * 24 * HOUR_MS,
        buckets=Buckets("month", span),
        order=order,
    )
    (found,) = module.funnel(reads, query, now_ms=NOON_MS).overall
    by_value = module.funnel(
        reads, FunnelQuery(**{**_fields(query), "on": parse('properties["v"]')}), now_ms=NOON_MS
    )
    reads.close()
    starts = [step // 2 * 1000 if order == "loose" else 0 for step in range(steps)]  # of the first event
    second = [(step + 1) // 2 * 1000 if order == "loose" else 0 for step in range(steps)]
    wanted, others = (
        Reached((1,) * steps, (0, *(after - before for before, after in pairwise(times))), tuple(times))
        for times in (starts, second)
    )
    values = {label: rows[0] for label, rows in by_value.segments.items()}
    return bool(
        found == wanted and by_value.overall == [wanted] and values == {"0": wanted, "1": others, "2": wanted}
    )


def _fields(query: FunnelQuery) -> dict[str, Any]:
    return {name: getattr(query, name) for name in query.__struct_fields__}


def test_a_person_whose_every_event_is_every_step_goes_through_once() -> None:
    assert crowded_is_right(funnels, 600, "loose", 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "steps", "order"),
    [(100_000, 3, "loose"), (100_000, 3, "any"), (2000, STEPS_LIMIT, "loose"), (2000, STEPS_LIMIT, "any")],
)
def test_a_hundred_thousand_events_that_are_all_of_all_steps_take_bounded_memory(
    count: int, steps: int, order: Order
) -> None:
    assert crowded_is_right(funnels, count, order, steps)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        ("GROUP BY {by}, n) GROUP BY", "GROUP BY {by}, n, number) GROUP BY"),
        ("lag(passed{later}) OVER ()", "passed{later}"),
    ],
    ids=["each attempt counts", "an event is two steps"],
)
def test_a_fault_that_a_crowd_meets_is_noticed(fault: tuple[str, str]) -> None:
    assert not crowded_is_right(mutant(funnels, *fault), 600, "loose", 3)


# --- retention at its extremes


CHANGES = (
    ("America/New_York", date(2026, 3, 8)),
    ("Europe/Berlin", date(2026, 10, 25)),
    ("America/St_Johns", date(2026, 11, 1)),
    ("America/Havana", date(2026, 3, 8)),  # midnight never comes
    ("Australia/Lord_Howe", date(2026, 4, 5)),  # by half an hour
)
"""Days on which the clocks of a zone are put forward or back."""


def around(day: date, zone: ZoneInfo) -> list[Stored]:
    """Events of a few persons about a change of the clock, and as far from it as intervals reach."""
    chance = random.Random(f"{day} {zone}")
    midnight_ms = span_of_days(day, day, zone).since_ms
    found = []
    for position in range(60):
        near = chance.randrange(-50, 80) * HOUR_MS // 2
        far = chance.choice([0, 0, 0, 7, 30, 365, 366, 30 * 366]) * 24 * HOUR_MS
        at = midnight_ms + near + far + chance.choice([-1, 0, 0, 1])
        found.append(
            Stored(position, NOON_MS, chance.choice("ab"), at, f"u{position % 4}", f"i{position}", {})
        )
    return found


def retention_is_right(module: Any, name: str, day: date, asked: Callable[[Any], bool]) -> bool:
    """Whether the product says what plain Python does, of all questions that `asked` lets pass."""
    zone = ZoneInfo(name)
    events = around(day, zone)
    with kept(events, [20], [], partitions=4) as world:
        for each in product(("day", "week", "month"), (1, 2), (1, 2, 63, INTERVALS_LIMIT), (0, 1), (0, 1)):
            unit, every, count, compounded, unbounded = each
            if not asked(each):
                continue
            span = span_of_days(day - timedelta(days=3), day + timedelta(days=3), zone)
            buckets = Buckets(unit, span, zone, every)
            told: dict[str, Any] = {
                "interval_ms": every * UNIT_MS[unit],
                "intervals": count + 1,
                "compounded": bool(compounded),
                "unbounded": bool(unbounded),
            }
            query = RetentionQuery(
                project=PROJECT,
                born=selector(("a", "")),
                returning=selector((None, "")),
                buckets=buckets,
                **told,
            )
            rows = module.retention(world.reads, query, now_ms=NOON_MS)
            seen = [
                Seen(one.time, one.position, one.distinct_id, (one.event == "a", True)) for one in world.once
            ]
            place = place_in(buckets, zone, day - timedelta(days=3))
            expected = journeys.retention(seen, place=place, **told)
            found = {at: (row.first, row.counts) for at, row in enumerate(rows.values()) if row.first}
            if found != expected:
                return False
    return True


def test_retention_over_a_change_of_the_clock_is_as_by_the_book() -> None:
    one = ("day", 1, INTERVALS_LIMIT, 1, 0)
    assert retention_is_right(retention, *CHANGES[0], lambda each: each == one)


@pytest.mark.slow
@pytest.mark.parametrize(("zone", "day"), CHANGES)
def test_retention_at_its_extremes_is_as_by_the_book(zone: str, day: date) -> None:
    chance = random.Random(f"{day} {zone}")
    assert retention_is_right(retention, zone, day, lambda _: chance.random() < 0.1)


RETENTION_FAULTS = (
    ("later_ms = query.intervals", "later_ms = 0 * query.intervals"),
    ("divmod(interval, _BITS)", "(0, interval % _BITS)"),
    ("return f\"count(*) FILTER ({' OR '.join([", "return f\"count(*) FILTER ({' AND '.join(["),
    (
        'place_sql(query.buckets, ms_sql("time"))',
        'place_sql(query.buckets._replace(every=1), ms_sql("time"))',
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("fault", RETENTION_FAULTS)
def test_a_fault_at_the_extremes_of_retention_is_noticed(fault: tuple[str, str]) -> None:
    made = mutant(retention, *fault)
    assert not retention_is_right(made, *CHANGES[0], lambda each: each[2] == 63 and each[3])
