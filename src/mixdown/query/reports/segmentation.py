"""Segmentation: how often an event came, by a value, by ranges of a number, and sums of one (query §5.1).

A `Segmentation` enters; a `Series`, or figures by key, leave. All counting is SQL over `report_rows`; what
leaves is bounded as that of `query/events/figures.py` is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

import msgspec

from mixdown.model.expression import Expression
from mixdown.query.events.buckets import Buckets
from mixdown.query.events.evaluating import Relation
from mixdown.query.events.figures import TOTALS, Series, filled, labelled_series
from mixdown.query.events.reader import EventReads
from mixdown.query.events.where import Selector
from mixdown.query.reports.rows import ReportRows, Wanted, report_rows

RANGES_LIMIT: Final = 12
"""The most ranges that `numeric_segmentation` makes."""
_STEPS: Final = (1, 2, 5)
_DIGITS: Final = 14
_EXACT: Final = 2**53


class Segmentation(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of an event: `on` None means all of it together; `group_key` "" counts persons."""

    project: int
    event: str
    where: Expression
    buckets: Buckets
    on: Expression | None = None
    kind: str = "general"
    limit: int = 60
    group_key: str = ""

    def wanted(self) -> Wanted:
        """What it reads. A count of events is one of events, whoever is counted."""
        persons = self.kind != "general"
        return Wanted(
            project=self.project,
            span=self.buckets.span,
            selectors=(Selector(self.where, (self.event,)),),
            values=() if self.on is None else (self.on,),
            group_key=self.group_key if persons else "",
            persons=persons,
        )


def segmentation(reads: EventReads, asked: Segmentation, *, now_ms: int) -> Series:
    """The event, or each of the most frequent values of `on`. Raises `QueryError` (400), `StoreError`."""
    keys = asked.buckets.keys()
    if not keys:
        return Series(keys, {} if asked.on is not None else {asked.event: {}})
    with report_rows(reads, asked.wanted(), now_ms=now_ms) as rows:
        if asked.on is None:
            found = _by_bucket(rows, asked.buckets, TOTALS[asked.kind])
            return filled([asked.event], keys, asked.buckets, ((asked.event, *row) for row in found))
        events = Relation(rows.relation.sql, rows.relation.parameters)
        return labelled_series(
            rows.table, events, "value0", asked.kind, asked.buckets, values=None, limit=asked.limit
        )


def numeric_segmentation(reads: EventReads, asked: Segmentation, *, now_ms: int) -> Series:
    """The event by ranges of `on`, ascending; events whose value is no number are in none.

    Raises `QueryError` (400), `StoreError`.
    """
    keys = asked.buckets.keys()
    if not keys:
        return Series(keys, {})
    with report_rows(reads, asked.wanted(), now_ms=now_ms) as rows:
        sql = f"SELECT min(number0), max(number0) FROM {rows.relation.sql}"
        ((low, high),) = rows.rows(sql, rows.relation.parameters)
        if low is None:
            return Series(keys, {})
        edges = edges_between(low, high)
        bounds = [float(edge) for edge in edges]
        names = [range_name(*pair) for pair in pairwise(edges)]
        inner = bounds[1:-1]
        cases = "".join(f"WHEN number0 < ?::DOUBLE THEN {place} " for place in range(len(inner)))
        place = f"CASE {cases}ELSE {len(inner)} END" if cases else "0"
        found = list(
            rows.rows(
                f"SELECT {place} AS place, {asked.buckets.sql('time')} AS bucket, {TOTALS[asked.kind]} "
                f"FROM {rows.relation.sql} WHERE number0 IS NOT NULL GROUP BY 1, 2",
                [*inner, *rows.relation.parameters],
            )
        )
        there = sorted({row[0] for row in found})
        told = ((names[row[0]], *row[1:]) for row in found)
        return filled([names[each] for each in there], keys, asked.buckets, told)


def sum_of(reads: EventReads, asked: Segmentation, *, now_ms: int) -> dict[str, float]:
    """What the values of `on` are together, by key; what is no number is 0. Raises as `segmentation`."""
    return _figures(reads, asked, "fsum(coalesce(number0, 0))", now_ms)


def average_of(reads: EventReads, asked: Segmentation, *, now_ms: int) -> dict[str, float]:
    """What the values of `on` are on average; 0 where there is no event. Raises as `segmentation`."""
    return _figures(reads, asked, "fsum(coalesce(number0, 0)) / count(*)", now_ms)


def _figures(reads: EventReads, asked: Segmentation, figure: str, now_ms: int) -> dict[str, float]:
    keys = asked.buckets.keys()
    if not keys:
        return {}
    with report_rows(reads, asked.wanted(), now_ms=now_ms) as rows:
        found = (
            (asked.event, start, _plain(value)) for start, value in _by_bucket(rows, asked.buckets, figure)
        )
        return filled([asked.event], keys, asked.buckets, found).values[asked.event]


def _by_bucket(rows: ReportRows, buckets: Buckets, figure: str) -> Iterable[tuple[Any, ...]]:
    sql = f"SELECT {buckets.sql('time')} AS bucket, {figure} FROM {rows.relation.sql} GROUP BY bucket"
    return rows.rows(sql, rows.relation.parameters)


def _plain(value: float) -> float:
    """A figure as JSON has it: a whole one is an integer, one past the range of a double the largest."""
    if not math.isfinite(value):
        return math.copysign(1.7976931348623157e308, value)
    return int(value) if value.is_integer() and abs(value) < _EXACT else value


# --- ranges of numbers


def edges_between(low: float, high: float) -> list[Decimal]:
    """Where ranges begin, and the last ends: round numbers, the first at most `low`, the last above `high`.

    The ranges are of one width, 1, 2 or 5 times a power of ten, and as narrow as `RANGES_LIMIT` allows, and
    as doubles so large lie apart: of two edges that are one double, the range between them would be empty.
    """
    first, last = Decimal(repr(low)), Decimal(repr(high))
    if first == last:
        width = Decimal(1).scaleb(max(0, first.adjusted() - _DIGITS))
    else:
        apart = 2 * Decimal(math.ulp(max(abs(low), abs(high))))
        width = _step(max((last - first) / RANGES_LIMIT, apart))
    while _count(first, last, width) > RANGES_LIMIT:
        width = _step(width * Decimal("1.01"))
    begin = _multiple(first, width)
    return [begin + place * width for place in range(_count(first, last, width) + 1)]


def _step(least: Decimal) -> Decimal:
    """The least step that is no smaller."""
    power = Decimal(1).scaleb(least.adjusted())
    return next(step * power for step in (*_STEPS, 10) if step * power >= least)


def _multiple(value: Decimal, width: Decimal) -> Decimal:
    return (value / width).to_integral_value("ROUND_FLOOR") * width


def _count(first: Decimal, last: Decimal, width: Decimal) -> int:
    return int((_multiple(last, width) - _multiple(first, width)) / width) + 1


def range_name(begin: Decimal, end: Decimal) -> str:
    """A range as Mixpanel calls it: `2,000 - 2,100`, its end excluded."""
    return f"{_number(begin)} - {_number(end)}"


def _number(value: Decimal) -> str:
    text = f"{value:,f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text
