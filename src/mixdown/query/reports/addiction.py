"""How often people come: in how many hours or days of a day, week or month they did something.

An `AddictionQuery` enters; for each stretch the persons, or groups, that were there in at least one hour (or
day), in at least two, and so on, leave (contract query §5.1). Hours and days are those of the project's zone;
the hour that comes twice when clocks go back counts once.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import datetime
from itertools import accumulate
from typing import Final

import msgspec

from mixdown.model.expression import Expression
from mixdown.query.events.buckets import Buckets
from mixdown.query.events.columns import labels_sql
from mixdown.query.events.figures import bounded
from mixdown.query.events.reader import EventReads
from mixdown.query.events.where import Selector
from mixdown.query.reports.periods import refuse_too_many_cells
from mixdown.query.reports.rows import ReportRows, Wanted, report_rows

UNITS: Final = ("day", "week", "month")
PART_UNITS: Final = ("hour", "day")
_HOURS: Final = 24
_DAYS: Final = {"day": 1, "week": 7}
_DAYS_OF_MONTH: Final = 31
_BITS: Final = 62


class AddictionQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Events of `selector` in the stretches of `buckets`, by hour or day (`part`).

    With `on`, also by the values that events have of it: at most `limit` values, those of most persons.
    """

    project: int
    selector: Selector
    buckets: Buckets
    part: str
    on: Expression | None = None
    limit: int = 255
    group_key: str = ""


class Addiction(msgspec.Struct, frozen=True):
    """For each stretch how many were there in at least one part of it, two, ...; overall and by value."""

    overall: dict[str, list[int]]
    segments: dict[str, dict[str, list[int]]]


def addiction(reads: EventReads, query: AddictionQuery, *, now_ms: int) -> Addiction:
    """How often people came. Blocks. Raises `QueryError` (400), `StoreError`."""
    keys = query.buckets.keys()
    starts = list(query.buckets.starts())
    sizes = [_parts(query, start) for start in starts]
    refuse_too_many_cells(sum(sizes))
    wanted = Wanted(
        project=query.project,
        span=query.buckets.span,
        selectors=(query.selector,),
        values=() if query.on is None else (query.on,),
        group_key=query.group_key,
    )
    places = {start: place for place, start in enumerate(starts)}
    with report_rows(reads, wanted, now_ms=now_ms) as rows:
        _find_presence(rows, query)
        overall = [[0] * size for size in sizes]
        for start, times, count in rows.rows(_counts_sql(query, "presence", "start")):
            overall[places[start]][times - 1] = count
        named: dict[str, list[list[int]]] = {}
        if query.on is not None:
            _name_values(rows, query)
            labels = [label for (label,) in bounded(rows.rows("SELECT label FROM told ORDER BY number"))]
            refuse_too_many_cells((1 + len(labels)) * sum(sizes))
            named = {label: [[0] * size for size in sizes] for label in labels}
            few = "(SELECT * FROM labelled SEMI JOIN told USING (label))"
            for label, start, times, count in rows.rows(_counts_sql(query, few, "label, start")):
                named[label][places[start]][times - 1] = count
    return Addiction(_told(keys, overall), {label: _told(keys, figures) for label, figures in named.items()})


def _parts(query: AddictionQuery, start: datetime) -> int:
    """How many parts a stretch has by the calendar."""
    unit = query.buckets.unit
    days = _DAYS.get(unit) or monthrange(start.year, start.month)[1]
    return days * (_HOURS if query.part == "hour" else 1)


def _find_presence(rows: ReportRows, query: AddictionQuery) -> None:
    """Make the table `presence`: person, start, value, and the parts in which there was an event as bits."""
    start = query.buckets.sql("time")
    part = Buckets(query.part, query.buckets.span, query.buckets.zone).sql("time")
    value = "value0 AS value" if query.on is not None else "NULL::JSON AS value"
    at = f"date_diff('{query.part}', start, part)"
    most = (_DAYS.get(query.buckets.unit) or _DAYS_OF_MONTH) * (_HOURS if query.part == "hour" else 1)
    bits = [
        f"bit_or(CASE WHEN {at} BETWEEN {low} AND {low + _BITS - 1} THEN 1::BIGINT << ({at} - {low})::BIGINT "
        f"ELSE 0 END) AS bits{number}"
        for number, low in enumerate(range(0, most, _BITS))
    ]
    rows.run(
        f"CREATE TEMP TABLE presence AS SELECT person, start, value, {', '.join(bits)} FROM "
        f"(SELECT person, {start} AS start, greatest({start}, {part}) AS part, {value} "
        f"FROM {rows.relation.sql}) GROUP BY person, start, value",
        rows.relation.parameters,
    )


def _numbers(query: AddictionQuery) -> range:
    most = (_DAYS.get(query.buckets.unit) or _DAYS_OF_MONTH) * (_HOURS if query.part == "hour" else 1)
    return range(-(-most // _BITS))


def _counts_sql(query: AddictionQuery, source: str, by: str) -> str:
    """SQL of how many were there in how many parts, by some columns."""
    together = ", ".join(f"bit_or(bits{number}) AS bits{number}" for number in _numbers(query))
    times = " + ".join(f"bit_count(bits{number})::BIGINT" for number in _numbers(query))
    whole = (
        f"(SELECT {by}, {together} FROM {source} GROUP BY {by}, person)" if query.on is not None else source
    )
    return f"SELECT {by}, {times} AS times, count(*) FROM {whole} GROUP BY {by}, times"


def _name_values(rows: ReportRows, query: AddictionQuery) -> None:
    """Make the tables `labelled`, presence by the name of a value, and `told`, the names of most persons."""
    rows.run(
        "CREATE TEMP TABLE named AS SELECT value, unnest(labels) AS label FROM "
        f"(SELECT value, {labels_sql('value')} AS labels FROM (SELECT DISTINCT value FROM presence))"
    )
    rows.run(
        "CREATE TEMP TABLE labelled AS SELECT label, presence.* FROM presence "
        "JOIN named ON named.value IS NOT DISTINCT FROM presence.value"
    )
    rows.run(
        "CREATE TEMP TABLE told AS SELECT label, row_number() OVER (ORDER BY persons DESC, label) AS number "
        "FROM (SELECT label, count(DISTINCT person) AS persons FROM labelled GROUP BY label) "
        "ORDER BY persons DESC, label LIMIT ?",
        [query.limit],
    )


def _told(keys: list[str], figures: list[list[int]]) -> dict[str, list[int]]:
    """How many were there in at least so many parts, from how many were there in exactly so many."""
    return {key: list(accumulate(reversed(exact)))[::-1] for key, exact in zip(keys, figures, strict=True)}
