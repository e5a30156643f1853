"""What events there are: their names, the top ones of today, their properties, and the values of these.

An open table of events enters; lists and counts leave, in the shapes of contract query §5.1, the most
frequent first. Names that are equally frequent stand in the order of code points.
"""

from __future__ import annotations

from typing import Any, Final

from mixdown.query.events.buckets import Span
from mixdown.query.events.columns import (
    EXPORTED,
    labels_sql,
    property_sql,
)
from mixdown.query.events.figures import TOTALS, bounded
from mixdown.query.events.reader import OpenEvents

_ANY: Final = "event IS NOT NULL"
_HAS_LABELS: Final = "value IS NOT NULL AND json_type(value) <> 'NULL' AND CAST(value AS VARCHAR) <> '[]'"


def event_names(table: OpenEvents, kind: str, span: Span, limit: int) -> list[str]:
    """The names of events in a span, those with the highest figures of a kind first."""
    return [name for name, _ in _figures(table, kind, span, limit)]


def top_events(table: OpenEvents, kind: str, today: Span, yesterday: Span, limit: int) -> dict[str, Any]:
    """The events of today with their figures, and how these differ from yesterday's: from -1 to 1.

    (today - yesterday) / the larger of the two, so that 1 means that there were none yesterday.
    """
    found = _figures(table, kind, today, limit)
    before = dict(_figures(table, kind, yesterday, limit, [name for name, _ in found]))
    return {
        "events": [
            {"event": name, "amount": amount, "percent_change": _change(amount, before.get(name, 0))}
            for name, amount in found
        ],
        "type": kind,
    }


def _change(now: float, before: float) -> float:
    return (now - before) / max(now, before) if now or before else 0.0


def _figures(
    table: OpenEvents, kind: str, span: Span, limit: int, names: list[str] | None = None
) -> list[tuple[str, float]]:
    """The highest figures, of these names where they are given."""
    named = "" if names is None else " AND event IN (SELECT unnest(?::VARCHAR[]))"
    sql = (
        f"SELECT event, {TOTALS[kind]} AS figure FROM {table.relation} WHERE {table.within}{named} "
        "GROUP BY event ORDER BY figure DESC, event LIMIT ?"
    )
    rows = table.rows(sql, [*span, *([] if names is None else [names]), limit])
    return [(name, figure) for name, figure in rows]


def newest_ms(table: OpenEvents, event: str | None) -> int | None:
    """The time of the newest event, of a name where one is given; None where there is none."""
    condition, parameters = _named(event)
    rows = table.rows(f"SELECT epoch_ms(max(time)) FROM {table.relation} WHERE {condition}", parameters)
    newest: int | None = next(iter(rows))[0]
    return newest


def top_properties(table: OpenEvents, event: str | None, span: Span, limit: int) -> dict[str, Any]:
    """In how many events of a span each property stands; last those that the server gives to each event."""
    condition, parameters = _named(event)
    sql = (
        "SELECT name, count(*) AS figure FROM "
        f"(SELECT unnest(json_keys({table.columns.whole})) AS name FROM {table.relation} "
        f"WHERE {condition} AND {table.within}) GROUP BY name ORDER BY figure DESC, name LIMIT ?"
    )
    counted = f"SELECT count(*) FROM {table.relation} WHERE {condition} AND {table.within}"
    total = next(iter(table.rows(counted, [*parameters, *span])))[0]
    rows = table.rows(sql, [*parameters, *span, limit])
    found = {name: {"count": count} for name, count in rows if name not in EXPORTED}
    for name in EXPORTED:
        if total and len(found) < limit:
            found[name] = {"count": total}
    return found


def top_values(table: OpenEvents, event: str | None, name: str, span: Span, limit: int) -> list[str]:
    """The most frequent values of a property in the events of a span, as text; of lists their elements."""
    condition, parameters = _named(event)
    sql = (
        f"WITH counted AS (SELECT {property_sql(table.columns, name)} AS value, count(*) AS n "
        f"FROM {table.relation} WHERE {condition} AND {table.within} GROUP BY value) "
        f"SELECT label, sum(n) AS figure FROM (SELECT unnest({labels_sql('value')}) AS label, n FROM counted "
        f"WHERE {_HAS_LABELS}) GROUP BY label "
        "ORDER BY figure DESC, label LIMIT ?"
    )
    return [label for label, _ in bounded(table.rows(sql, [*parameters, *span, limit]))]


def _named(event: str | None) -> tuple[str, list[Any]]:
    return (_ANY, []) if event is None else ("event = ?", [event])
