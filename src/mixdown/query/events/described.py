"""What a data dictionary tells of events: how many there are of each name, and which properties they have.

An open table of events enters; names with counts, times and samples leave, the most frequent first.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from mixdown.query.events.buckets import Span
from mixdown.query.events.reader import OpenEvents

SAMPLED_EVENTS: Final = 300
NEWEST_LIMIT_CHARS: Final = 16_384
"""Larger events give no example: one is held for each property."""
DAY_MS: Final = 24 * 3600 * 1000
_ANY: Final = "event IS NOT NULL"


class Figure(NamedTuple):
    """How often a name occurs, and when first and last (ms); `first_ms` None where only a part was read.

    `newest` holds the properties of the newest event that is not large, where that was asked for.
    """

    name: str
    times: int
    first_ms: int | None
    last_ms: int
    newest: str | None = None


def event_figures(table: OpenEvents, limit: int) -> list[Figure]:
    """The events of an open table by name."""
    sql = (
        f"SELECT event, count(*) AS n, epoch_ms(min(time)), epoch_ms(max(time)) FROM {table.relation} "
        f"WHERE {_ANY} GROUP BY event ORDER BY n DESC, event LIMIT ?"
    )
    return [Figure(*row) for row in table.rows(sql, [limit])]


def days_with(table: OpenEvents, event: str | None, span: Span, events: int) -> int:
    """How many of the last days of a span hold so many events at most; one at least."""
    condition, parameters = _of(event)
    sql = (
        f"SELECT (? - epoch_ms(time)) // {DAY_MS} AS ago, count(*) FROM {table.relation} "
        f"WHERE {condition} AND {table.within} GROUP BY ago ORDER BY ago"
    )
    sum_so_far = 0
    for ago, count in table.rows(sql, [span.until_ms - 1, *parameters, *span]):
        sum_so_far += count
        if sum_so_far > events:
            return max(1, int(ago))
    return max(1, (span.until_ms - span.since_ms) // DAY_MS)


def property_figures(table: OpenEvents, event: str | None, span: Span, limit: int) -> list[Figure]:
    """The properties of the events of a span: in how many each stands, and the newest of them."""
    condition, parameters = _of(event)
    whole = f"CAST({table.columns.whole} AS VARCHAR)"
    sql = (
        "SELECT name, count(*) AS n, NULL, epoch_ms(max(time)), "
        f"arg_max(CASE WHEN length(whole) <= {NEWEST_LIMIT_CHARS} THEN whole END, time) FROM "
        f"(SELECT unnest(json_keys(whole)) AS name, time, whole FROM (SELECT time, {whole} AS whole "
        f"FROM {table.relation} WHERE {condition} AND {table.within})) "
        "GROUP BY name ORDER BY n DESC, name LIMIT ?"
    )
    return [Figure(*row) for row in table.rows(sql, [*parameters, *span, limit])]


def sampled_properties(table: OpenEvents, event: str | None, span: Span) -> list[dict[str, Any]]:
    """The properties of some events of a span."""
    condition, parameters = _of(event)
    sql = (
        f"SELECT CAST({table.columns.whole} AS VARCHAR) FROM {table.relation} "
        f"WHERE {condition} AND {table.within} LIMIT {SAMPLED_EVENTS}"
    )
    return [orjson.loads(text) for (text,) in table.rows(sql, [*parameters, *span])]


def _of(event: str | None) -> tuple[str, list[Any]]:
    return (_ANY, []) if event is None else ("event = ?", [event])
