"""How often each event came: day by day, in the last days, and how that differs from the days before.

An open table and a question enter; a list of names leaves, a page at a time, with the sum of all days. Days
are those of a zone. What is compared with what came before stops as early in its last day as it is now, so
that today is not held to a whole day.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta, tzinfo
from typing import Any, Final

import msgspec

from mixdown.model.errors import QueryError
from mixdown.query.events.buckets import Buckets, Span, days_before, local_of, moment_of, span_of_days
from mixdown.query.events.figures import CELLS_LIMIT, TOO_MANY_CELLS
from mixdown.query.events.reader import OpenEvents

WINDOWS: Final = {"today": 1, "week": 7, "month": 30}
"""Names of the last days, today included, and how many these are."""
SORTS: Final = ("total", "name", "last", *WINDOWS, *(f"{name}_change" for name in WINDOWS))
_LONGEST: Final = 2 * max(WINDOWS.values())


class VolumesQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which names are asked for: those that have `search` somewhere, whatever the case."""

    first: date
    last: date
    today: date
    now_ms: int
    zone: tzinfo
    search: str = ""
    sort: str = SORTS[0]
    descending: bool = True
    limit: int
    offset: int = 0


class Volume(msgspec.Struct, frozen=True):
    """A name: events in the span and on each of its days; in each window, and in the days before it."""

    event: str
    total: int
    last_ms: int
    figures: list[int]
    windows: dict[str, tuple[int, int]]


class Volumes(msgspec.Struct, frozen=True):
    """A page of names, how many there are in all, and of all that were found what came on each day."""

    keys: list[str]
    times: list[int]
    names: int
    total: int
    figures: list[int]
    volumes: list[Volume]


def span_of_volumes(query: VolumesQuery) -> Span:
    """The span that must be open for a question: its own, and the days that windows compare."""
    first = min(query.first, days_before(query.today, _LONGEST - 1))
    return span_of_days(first, max(query.last, query.today), query.zone)


def event_volumes(table: OpenEvents, query: VolumesQuery) -> Volumes:
    """The names of events with their volumes. Raises `QueryError` (400), `StoreError`."""
    buckets = Buckets("day", span_of_days(query.first, query.last, query.zone), query.zone)
    keys, starts = buckets.keys(), list(buckets.starts())
    if query.limit * len(keys) > CELLS_LIMIT:
        raise QueryError(TOO_MANY_CELLS, status=400)
    _count(table, query)
    inside = [_start(query.first), _start(query.last)]
    sums = "coalesce(sum(n) FILTER (WHERE day BETWEEN ? AND ?), 0)::BIGINT, max(last_ms)"
    windows, bounds = _windows_sql(query)
    table.run(
        "CREATE TEMP TABLE summed (event VARCHAR, total BIGINT, last_ms BIGINT, "
        + ", ".join(f"in_{name} BIGINT, before_{name} BIGINT" for name in WINDOWS)
        + ")"
    )
    table.run(
        f"INSERT INTO summed SELECT event, {sums}, {windows} FROM counted GROUP BY event",
        [*inside, *bounds],
    )
    found = "FROM summed WHERE contains(lower(event), lower(?))"
    names, total = next(
        iter(table.rows(f"SELECT count(*), coalesce(sum(total), 0)::BIGINT {found}", [query.search]))
    )
    page = [
        tuple(row)
        for row in table.rows(
            f"SELECT * {found} ORDER BY {_order(query)} LIMIT ? OFFSET ?",
            [query.search, query.limit, query.offset],
        )
    ]
    places = {start: place for place, start in enumerate(starts)}
    by_name = {row[0]: [0] * len(keys) for row in page}
    rows = table.rows(
        "SELECT event, day, n FROM counted WHERE event IN (SELECT unnest(?::VARCHAR[])) "
        "AND day BETWEEN ? AND ?",
        [list(by_name), *inside],
    )
    for event, day, count in rows:
        by_name[event][places[day]] = count
    figures = [0] * len(keys)
    whole = table.rows(
        "SELECT day, sum(n)::BIGINT FROM counted WHERE contains(lower(event), lower(?)) "
        "AND day BETWEEN ? AND ? GROUP BY day",
        [query.search, *inside],
    )
    for day, count in whole:
        figures[places[day]] = count
    return Volumes(keys, buckets.times(), names, total, figures, [_volume(row, by_name) for row in page])


def _volume(row: tuple[Any, ...], figures: dict[str, list[int]]) -> Volume:
    event, total, last_ms, *pairs = row
    windows = {name: (pairs[2 * at], pairs[2 * at + 1]) for at, name in enumerate(WINDOWS)}
    return Volume(event, total, last_ms, figures[event], windows)


def _count(table: OpenEvents, query: VolumesQuery) -> None:
    """Make the table `counted`: events of each name and day, how many of them came early in the day.

    `early` counts, on the days that end what a window is compared with, what came before the time of day
    that it is now.
    """
    span = span_of_volumes(query)
    buckets = Buckets("day", span, query.zone)
    early: list[str] = []
    bounds: list[int] = []
    for length in WINDOWS.values():
        day = days_before(query.today, length)
        since_ms, until_ms = span_of_days(day, day, query.zone)
        same_ms = moment_of(local_of(query.now_ms, query.zone) - timedelta(days=length), query.zone)
        early.append("(epoch_ms(time) >= ? AND epoch_ms(time) < ?)")
        bounds += [since_ms, min(max(same_ms, since_ms), until_ms)]
    table.run(
        "CREATE TEMP TABLE counted (event VARCHAR, day TIMESTAMP, n BIGINT, early BIGINT, last_ms BIGINT)"
    )
    table.run(
        f"INSERT INTO counted SELECT event, {buckets.sql('time')} AS day, count(*), "
        f"count(*) FILTER ({' OR '.join(early)}), epoch_ms(max(time)) FROM {table.relation} "
        f"WHERE {table.within} GROUP BY event, day",
        [*bounds, *span],
    )


def _windows_sql(query: VolumesQuery) -> tuple[str, list[Any]]:
    """SQL for the sums of each window and of what it is compared with, and its parameters."""
    parts: list[str] = []
    bounds: list[Any] = []
    for length in WINDOWS.values():
        first = days_before(query.today, length - 1)
        before, until = days_before(query.today, 2 * length - 1), days_before(query.today, length)
        parts.append("coalesce(sum(n) FILTER (WHERE day BETWEEN ? AND ?), 0)::BIGINT")
        bounds += [_start(first), _start(query.today)]
        parts.append(
            "(coalesce(sum(n) FILTER (WHERE day >= ? AND day < ?), 0) "
            "+ coalesce(sum(early) FILTER (WHERE day = ?), 0))::BIGINT"
        )
        bounds += [_start(before), _start(until), _start(until)]
    return ", ".join(parts), bounds


def _start(day: date) -> datetime:
    return datetime(day.year, day.month, day.day)  # noqa: DTZ001 - of local times, which have no zone


def _order(query: VolumesQuery) -> str:
    way = "DESC" if query.descending else "ASC"
    if query.sort == "name":
        return f"event {way}"
    if query.sort.endswith("_change"):
        name = query.sort.removesuffix("_change")
        change = f"(in_{name} - before_{name}) / nullif(greatest(in_{name}, before_{name}), 0)"
        return f"{change} {way} NULLS LAST, total DESC, event"
    column = {"total": "total", "last": "last_ms"}.get(query.sort) or f"in_{query.sort}"
    return f"{column} {way}, event"
