"""Which properties events have: in how many of them each stands, and of what kind its values are.

An open table, a name and a span enter; a list leaves, the most frequent first. Names that are equally
frequent stand in the order of code points.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mixdown.query.events.buckets import Span
from mixdown.query.events.columns import EXPORTED
from mixdown.query.events.reader import OpenEvents

PROPERTIES_LIMIT: Final = 2000
_AT: Final = "CAST(make_timestamp_ms({}) AS TIMESTAMP_MS)"


class Property(msgspec.Struct, frozen=True):
    """A property: in how many events it stands, and in how many of them as each kind of value."""

    name: str
    count: int
    kinds: dict[str, int]


class Properties(msgspec.Struct, frozen=True):
    """How many events were looked at, how many properties these have, and the most frequent of them."""

    events: int
    names: int
    properties: list[Property]


def event_properties(table: OpenEvents, event: str | None, span: Span, limit: int) -> Properties:
    """The properties of an event, or of all, in a span. Raises `StoreError`."""
    since, until = _AT.format("$1"), _AT.format("$2")
    condition = f"time >= {since} AND time < {until}" + ("" if event is None else " AND event = $3")
    parameters = [*span, *([] if event is None else [event])]
    counted = f"SELECT count(*) FROM {table.relation} WHERE {condition}"
    (events,) = next(iter(table.rows(counted, parameters)))
    hidden = ", ".join(f"'{name}'" for name in EXPORTED)
    table.run("CREATE TEMP TABLE present (name VARCHAR, kind VARCHAR, n BIGINT)")
    table.run(
        f"INSERT INTO present SELECT name, kind, sum(n) FROM ({table.columns.members_sql(condition)}) "
        f"WHERE n > 0 AND name NOT IN ({hidden}) GROUP BY name, kind",
        parameters,
    )
    (names,) = next(iter(table.rows("SELECT count(DISTINCT name) FROM present")))
    rows = table.rows(
        "SELECT name, sum(n)::BIGINT AS total, map_from_entries(list((kind, n) ORDER BY n DESC, kind)) "
        "FROM present GROUP BY name ORDER BY total DESC, name LIMIT ?",
        [limit],
    )
    return Properties(events, names, [Property(name, count, dict(kinds)) for name, count, kinds in rows])
