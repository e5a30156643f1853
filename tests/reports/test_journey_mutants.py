"""The comparison with plain Python catches faults: each deliberate fault below must make it fail."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from mixdown.model.expression import parse
from mixdown.query.events.buckets import Buckets, span_of_days
from mixdown.query.reports import addiction, funnels, periods, retention, sequences
from mixdown.query.reports.addiction import AddictionQuery
from mixdown.query.reports.funnels import FunnelQuery, Step
from mixdown.query.reports.retention import RetentionQuery
from tests.reads.event_reference import Stored
from tests.reads.test_events_by_the_book import HOUR_MS, IDS, MIDNIGHT_MS, PROJECT, Kept, kept
from tests.reports import journeys
from tests.reports.test_journeys import (
    FIRST,
    NAMES,
    VALUES,
    figures,
    place_in,
    seen,
    selector,
)

pytestmark = pytest.mark.slow

ZONE = ZoneInfo("America/New_York")
CASES = 12


def events() -> list[Stored]:
    """Many events of few persons: close together, at the same time, of several values and companies."""
    chance = random.Random(8)
    found = []
    for position in range(160):
        properties: dict[str, Any] = {"company": chance.choice(["acme", ["acme", "zed"], "zed"])}
        if chance.random() < 0.8:
            properties["v"] = chance.choice(VALUES)
        time = MIDNIGHT_MS + chance.choice([0, 0, 1, 1000]) + chance.randrange(-20, 90) * HOUR_MS
        found.append(
            Stored(
                position,
                MIDNIGHT_MS + position,
                chance.choice(NAMES),
                time,
                chance.choice(IDS[:4]),
                f"own{position}",
                properties,
            )
        )
    return found


@pytest.fixture(scope="module")
def world() -> Iterator[Kept]:
    with kept(events(), [40, 90], [("$device:d1", "u1")]) as made:
        yield made


def mutant(module: ModuleType, old: str, new: str) -> Any:
    """A module with something else in its source."""
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    assert old in source, old
    made = ModuleType(module.__name__)
    exec(compile(source.replace(old, new), f"a mutant of {module.__file__}", "exec"), made.__dict__)  # noqa: S102 - our own source
    return made


def buckets_of(unit: str, every: int) -> Buckets:
    return Buckets(unit, span_of_days(FIRST, FIRST + timedelta(days=3), ZONE), ZONE, every)


def funnels_are_right(world: Kept, module: Any) -> bool:
    chance = random.Random(3)
    for number in range(CASES):
        asked = [(chance.choice(NAMES), "") for _ in range(2 + number % 3)]
        order, group_key = ("any" if number % 4 == 3 else "loose"), ("company" if number % 5 == 4 else "")
        buckets = buckets_of(*[("day", 1), ("day", 2), ("week", 1)][number % 3])
        window_ms = [0, 3 * HOUR_MS, 24 * HOUR_MS, 60 * HOUR_MS][number % 4]
        query = FunnelQuery(
            project=PROJECT,
            steps=tuple(Step(selector(choice), "") for choice in asked),
            window_ms=window_ms,
            buckets=buckets,
            order="any" if order == "any" else "loose",
            on=None if number in (1, 2, 3, 5, 8, 9, 11) else parse('properties["v"]'),
            group_key=group_key,
        )
        told: dict[str, Any] = {
            "steps": len(asked),
            "window_ms": window_ms,
            "order": order,
            "place": place_in(buckets, ZONE),
        }
        found, all_seen = module.funnel(world.reads, query, now_ms=MIDNIGHT_MS), seen(world, asked, group_key)
        if figures(found.overall) != journeys.funnel(all_seen, **told):
            return False
        for label, rows in found.segments.items():
            if figures(rows) != journeys.funnel(all_seen, label=label, **told):
                return False
    return True


def retention_is_right(world: Kept, module: Any) -> bool:
    chance = random.Random(4)
    for number in range(CASES):
        rare = "" if number % 4 else 'properties["v"] == "x"'  # so that not all begin on the first day
        asked = [(chance.choice(NAMES), rare), (chance.choice([*NAMES, None]), "")]
        buckets = buckets_of(*[("day", 1), ("day", 2), ("week", 1)][number % 3])
        told: dict[str, Any] = {
            "interval_ms": [HOUR_MS, 24 * HOUR_MS][number % 2],
            "intervals": [3, 80][number % 2 ^ 1],
            "compounded": number % 4 > 1,
            "unbounded": number % 3 == 1,
        }
        query = RetentionQuery(
            project=PROJECT,
            born=selector(asked[0]),
            returning=selector(asked[1]),
            buckets=buckets,
            on=parse('properties["v"]') if number % 2 else None,
            **told,
        )
        found = module.retention(world.reads, query, now_ms=MIDNIGHT_MS)
        expected = journeys.retention(seen(world, asked, ""), place=place_in(buckets, ZONE), **told)
        if {at: (row.first, row.counts) for at, row in enumerate(found.values()) if row.first} != expected:
            return False
    return True


def addiction_is_right(world: Kept, module: Any) -> bool:
    for unit, part in (("day", "hour"), ("week", "day"), ("week", "hour"), ("month", "day")):
        span = span_of_days(FIRST, FIRST + timedelta(days=3), ZONE)
        query = AddictionQuery(
            project=PROJECT, selector=selector((None, "")), buckets=Buckets(unit, span, ZONE), part=part
        )
        found = module.addiction(world.reads, query, now_ms=MIDNIGHT_MS)
        own = [each for each in seen(world, [(None, "")], "") if span.since_ms <= each.time < span.until_ms]
        expected = journeys.addiction(own, unit=unit, part=part, zone=ZONE)
        for key, counts in found.overall.items():
            there = expected.get(date.fromisoformat(key), {}).values()
            if counts != [sum(times >= least for times in there) for least in range(1, len(counts) + 1)]:
                return False
    return True


CHECKS = {funnels: funnels_are_right, retention: retention_is_right, addiction: addiction_is_right}


@pytest.mark.parametrize("module", CHECKS, ids=lambda module: module.__name__)
def test_what_is_right_passes(world: Kept, module: ModuleType) -> None:
    assert CHECKS[module](world, module)


MUTANTS = {
    "time of arrival is forgotten where all is sorted": (
        sequences,
        "k DESC, position DESC",
        "k DESC, position",
    ),
    "time of arrival is forgotten in lists": (sequences, "| ({arrival} <<", "| ((0 * {arrival}) <<"),
    "lists are the other way round": (sequences, "list_reverse(", "("),
    "the first of a share is in none": (sequences, "rowid >= {first}", "rowid > {first}"),
    "the last share is all": (funnels, "one + int(more or 0)", "int(more or 0)"),
    "the window is open at its end": (funnels, "- k <= {query.window_ms:d}", "- k < {query.window_ms:d}"),
    "the window begins with the step before": (
        funnels,
        "next{step} - k <=",
        "next{step} - {'next' + str(step - 1) if step > 1 else 'k'} <=",
    ),
    "steps after the span are not seen": (funnels, "span.until_ms + query.window_ms", "span.until_ms"),
    "attempts begin after the span where all is sorted": (
        sequences,
        'f"time < {at_time(span.until_ms)}"',
        '"true"',
    ),
    "attempts of lists begin after the span": (
        sequences,
        'f"ms < {span.until_ms - span.since_ms:d}"',
        '"true"',
    ),
    "the last attempt counts": (funnels, "+ number AS rank", "- number AS rank"),
    "the first attempt counts, however far it got": (
        funnels,
        "(reached::BIGINT << {_RANK_BITS}) + number AS rank",
        "number AS rank",
    ),
    "attempts count, not persons": (
        funnels,
        "GROUP BY {by}, n) GROUP BY",
        "GROUP BY {by}, n, number) GROUP BY",
    ),
    "persons share what they did where all is sorted": (sequences, "((n::{kind} <<", "((0 * n::{kind} <<"),
    "persons of lists share what they did": (sequences, "(({count} - n)::", "((0 * n)::"),
    "a name is that of one step": (sequences, "bits.get(name, 0) | 1 << step", "1 << step"),
    "an event serves two steps": (funnels, "lag(passed{later}) OVER ()", "passed{later}"),
    "steps are always apart": (funnels, "return None not in names and", "return None not in names or"),
    "persons are too close to each other": (
        sequences,
        "window_ms + 2).bit_length()",
        "window_ms + 2).bit_length() // 4",
    ),
    "any order is one order": (
        funnels,
        'if query.order == "loose":',
        "if query.order:",
    ),
    "times are sorted the other way": (funnels, "'ASC', 'NULLS LAST'", "'DESC', 'NULLS LAST'"),
    "a stretch goes on with the next person": (funnels, "n * {len(query.buckets.keys())} + place", "place"),
    "the best of a stretch is the last": (funnels, "WHEN begins THEN -1 END IGNORE NULLS", "ELSE -1 END"),
    "values are those of the event after": (
        funnels,
        "SELECT *, k >> {found.bits} AS n FROM",
        "SELECT * REPLACE (lag(value) OVER () AS value), k >> {found.bits} AS n FROM",
    ),
    "groups are forgotten": (funnels, "        group_key=query.group_key,\n", ""),
    "stretches are one day": (periods, "* buckets.every:d}", ":d}"),
    "a beginning is a return": (
        retention,
        "seen.arrival > births.arrival",
        "seen.arrival >= births.arrival",
    ),
    "arrival counts wherever times differ": (
        retention,
        "(seen.us - births.us) + (seen",
        "(seen.us - births.us) * (seen",
    ),
    "arrival is not heard": (retention, "(seen.arrival > births.arrival)::BIGINT", "0"),
    "the last beginning counts": (retention, "min({moments.sql}", "max({moments.sql}"),
    "all begin in the first stretch": (
        retention,
        "SELECT *, {place_sql(query.buckets, 'ms')} AS",
        "SELECT *, 0 AS",
    ),
    "returns after the span are not seen": (retention, "span.until_ms + later_ms", "span.until_ms"),
    "the second number of bits is the first": (retention, "divmod(interval, _BITS)", "(0, interval % _BITS)"),
    "unbounded is not": (retention, "if not query.unbounded:", "if True:"),
    "unbounded forgets later numbers": (
        retention,
        "range(number + 1, -(-query",
        "range(number + 9, -(-query",
    ),
    "compounded begins once": (retention, "    if query.compounded:", "    if False:"),
    "intervals are a millisecond too long": (
        retention,
        "interval_us = query.interval_ms * 1000",
        "interval_us = query.interval_ms * 1000 + 1000",
    ),
    "exactly, not at least": (addiction, "list(accumulate(reversed(exact)))[::-1]", "exact"),
    "hours are those of UTC": (
        addiction,
        "Buckets(query.part, query.buckets.span, query.buckets.zone)",
        "Buckets(query.part, query.buckets.span)",
    ),
    "the parts past the first number are lost": (
        addiction,
        "for number in _numbers(query))\n    whole",
        "for number in [0])\n    whole",
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_fault_is_caught(world: Kept, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, old, new = MUTANTS[name]
    made = mutant(module, old, new)
    if module is periods:
        monkeypatch.setattr(sequences, "place_sql", made.place_sql)
        made, module = funnels, funnels
    if module is sequences:
        monkeypatch.setattr(funnels, "sequences", made.sequences)
        made, module = funnels, funnels
    try:
        is_right = CHECKS[module](world, made)
    except Exception:  # noqa: BLE001 - whatever it raises, it is caught
        is_right = False
    assert not is_right
