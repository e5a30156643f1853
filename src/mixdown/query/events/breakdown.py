"""Events by the values of a property: the most frequent ones, all others together, and the whole.

An open table, a relation of events and a question enter; figures leave, over time or of the whole span. All
counting is SQL: what leaves is bounded by the values asked for and by the buckets, whatever the events hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from mixdown.model.errors import QueryError
from mixdown.query.events.buckets import Buckets
from mixdown.query.events.columns import PERSON_SQL, labels_sql, property_sql
from mixdown.query.events.figures import CELLS_LIMIT, TOO_MANY_CELLS, bounded
from mixdown.query.events.matching import Relation
from mixdown.query.events.reader import OpenEvents
from mixdown.query.files.cells import safe_csv

ABSENT_LABEL: Final = "(not set)"
OTHER_LABEL: Final = "(other)"
TOTAL_LABEL: Final = "total"
"""What tables of text call an absent value, all values that are not named, and all events."""
_WHOLE, _OTHER = -1, 0
_KIND_SQL: Final = (
    "CASE coalesce(json_type(value), 'NULL') WHEN 'VARCHAR' THEN 'string' WHEN 'BOOLEAN' THEN 'boolean' "
    "WHEN 'ARRAY' THEN 'list' WHEN 'OBJECT' THEN 'object' WHEN 'NULL' THEN 'null' ELSE 'number' END"
)
_EVENTS: Final = {
    "general": "count(*)",
    "unique": f"count(DISTINCT {PERSON_SQL})",
    "average": f"count(*) / nullif(count(DISTINCT {PERSON_SQL}), 0)",
}
_SUMS: Final = {
    "general": "sum(n)::BIGINT",
    "unique": f"count(DISTINCT {PERSON_SQL})",
    "average": f"sum(n) / nullif(count(DISTINCT {PERSON_SQL}), 0)",
}


class Line(msgspec.Struct):
    """Figures of one value, of all others, or of all events: for each bucket, and of the whole span.

    `count` is how many events there are, `kind` what most of them have where the value is: "list" where it is
    an element of one. Of all others, `values` says how many values they are.
    """

    figures: list[float]
    total: float = 0
    count: int = 0
    value: str | None = None
    kind: str = ""
    values: int = 0


class Breakdown(msgspec.Struct, frozen=True):
    """What there is in all, by value (the most frequent first), and of all other values (None: of none)."""

    whole: Line
    lines: list[Line]
    other: Line | None


def breakdown(
    table: OpenEvents,
    events: Relation,
    by: str,
    kind: str,
    *,
    limit: int,
    buckets: Buckets | None = None,
) -> Breakdown:
    """Events by a property ("" for none), over time where `buckets` are given.

    An event counts once under each different element of a list, and once under all others, though several of
    its elements may be among them. Raises `QueryError` (400), `StoreError`.
    """
    keys = [] if buckets is None else buckets.keys()
    if (limit + 2) * len(keys) > CELLS_LIMIT:
        raise QueryError(TOO_MANY_CELLS, status=400)
    bucket = "NULL::TIMESTAMP" if buckets is None else buckets.sql("time")
    places: dict[datetime, int] = {}
    if buckets is not None:
        places = {start: place for place, start in enumerate(buckets.starts())}
    if not by:
        sql = (
            f"SELECT bucket, {_EVENTS[kind]}, count(*) FROM (SELECT {bucket} AS bucket, {PERSON_SQL} "
            f"FROM {events.sql}) GROUP BY GROUPING SETS ((bucket), ()) "
            "HAVING grouping(bucket) = 1 OR bucket IS NOT NULL"
        )
        rows = ((_WHOLE, start, *found) for start, *found in table.rows(sql, events.parameters))
        return _assembled(rows, places, {}, 0)
    _name_values(table, events, property_sql(table.columns, by), bucket, kind)
    named = table.rows(
        "SELECT coalesce(label, ''), label, kind FROM named ORDER BY n DESC, label NULLS LAST LIMIT ?",
        [limit],
    )
    labels = dict(enumerate(((label, of_kind) for _, label, of_kind in bounded(named)), 1))
    (different,) = next(iter(table.rows("SELECT count(*) FROM named")))
    return _assembled(_figures(table, kind, limit), places, labels, different - len(labels))


def _name_values(table: OpenEvents, events: Relation, value: str, bucket: str, kind: str) -> None:
    """Make the tables `counted` (events by value), `labelled` (names of values), `named` (how many)."""
    person = "NULL" if kind == "general" else PERSON_SQL
    table.run(f"CREATE TEMP TABLE counted (value JSON, bucket TIMESTAMP, {PERSON_SQL} VARCHAR, n BIGINT)")
    table.run(
        f"INSERT INTO counted SELECT value, bucket, {PERSON_SQL}, count(*) FROM (SELECT {value} AS value, "
        f"{bucket} AS bucket, {person} AS {PERSON_SQL} FROM {events.sql}) GROUP BY ALL",
        events.parameters,
    )
    table.run("CREATE TEMP TABLE labelled (value JSON, label VARCHAR, kind VARCHAR)")
    table.run(
        "INSERT INTO labelled SELECT value, unnest(CASE WHEN len(labels) = 0 THEN [NULL] ELSE labels END), "
        f"{_KIND_SQL} FROM (SELECT value, {labels_sql('value', absent='NULL::VARCHAR')} AS labels "
        "FROM (SELECT DISTINCT value FROM counted))"
    )
    table.run(
        "CREATE TEMP TABLE named AS SELECT label, sum(n)::BIGINT AS n, arg_max(kind, n) AS kind FROM "
        "(SELECT label, kind, sum(n) AS n FROM counted JOIN labelled "
        "ON counted.value IS NOT DISTINCT FROM labelled.value GROUP BY label, kind) GROUP BY label"
    )


def _figures(table: OpenEvents, kind: str, limit: int) -> Iterable[tuple[Any, ...]]:
    """(place of a value from 1, 0 for others, -1 for all; bucket or None; figure; events)."""
    sums, sets = _SUMS[kind], "HAVING grouping(bucket) = 1 OR bucket IS NOT NULL"
    yield from table.rows(
        f"SELECT {_WHOLE}, bucket, {sums}, sum(n)::BIGINT FROM counted "
        f"GROUP BY GROUPING SETS ((bucket), ()) {sets}"
    )
    yield from table.rows(
        "WITH top AS (SELECT label, row_number() OVER (ORDER BY n DESC, label NULLS LAST) AS place "
        "FROM named ORDER BY place LIMIT ?), "
        f"placed AS (SELECT DISTINCT value, coalesce(place, {_OTHER}) AS place FROM labelled "
        "LEFT JOIN top ON labelled.label IS NOT DISTINCT FROM top.label) "
        f"SELECT place, bucket, {sums}, sum(n)::BIGINT FROM counted "
        "JOIN placed ON counted.value IS NOT DISTINCT FROM placed.value "
        f"GROUP BY GROUPING SETS ((place, bucket), (place)) {sets}",
        [limit],
    )


def _assembled(
    rows: Iterable[tuple[Any, ...]],
    places: dict[datetime, int],
    labels: dict[int, tuple[Any, ...]],
    others: int,
) -> Breakdown:
    lines = {
        place: Line([0] * len(places), value=label, kind=kind) for place, (label, kind) in labels.items()
    }
    lines |= {place: Line([0] * len(places)) for place in (_WHOLE, _OTHER)}
    for place, start, figure, count in rows:
        line = lines[place]
        if start is None:
            line.total, line.count = figure or 0, count or 0
        else:
            line.figures[places[start]] = figure
    lines[_OTHER].values = others
    return Breakdown(lines[_WHOLE], [lines[place] for place in labels], lines[_OTHER] if others > 0 else None)


def as_csv(keys: Sequence[str], found: Breakdown, event: str) -> str:
    """A line for each key, a column for each value, the others and the whole: for a spreadsheet."""
    columns = [(ABSENT_LABEL if line.value is None else line.value, line) for line in found.lines]
    if found.other is not None:
        columns.append((OTHER_LABEL, found.other))
    columns.append((TOTAL_LABEL if columns else event or TOTAL_LABEL, found.whole))
    rows = ([key, *(line.figures[place] for _, line in columns)] for place, key in enumerate(keys))
    return safe_csv(["date", *(name for name, _ in columns)], rows)
