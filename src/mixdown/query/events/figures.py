"""Figures over time: how often events came, overall or by the values of a property (contract query §5.1).

An open table of events and a question enter; a `Series` leaves, every key of it filled. All counting is SQL:
what leaves is bounded by `CELLS_LIMIT` and `LABELS_LIMIT_CHARS`, whatever the events hold.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from mixdown.model.errors import QueryError
from mixdown.query.events.buckets import Buckets
from mixdown.query.events.columns import PERSON_SQL, labels_sql, property_sql
from mixdown.query.events.evaluating import Relation
from mixdown.query.events.reader import OpenEvents

KINDS: Final = ("general", "unique", "average")
"""How often, by how many persons, and how often by each of them on average."""
LABELS_LIMIT_CHARS: Final = 16 * 1024 * 1024
LABELS_TOO_LONG: Final = (
    f"limit, these values have more than {LABELS_LIMIT_CHARS} characters together: ask for fewer of them"
)
CELLS_LIMIT: Final = 1_000_000
TOO_MANY_CELLS: Final = (
    f"this answer would have more than {CELLS_LIMIT} figures: ask for fewer days, events or values, or for a "
    "longer unit"
)
TOTALS: Final = {
    "general": "count(*)",
    "unique": f"count(DISTINCT {PERSON_SQL})",
    "average": f"count(*) / count(DISTINCT {PERSON_SQL})",
}
_SUMS: Final = {
    "general": "sum(n)::BIGINT",
    "unique": f"count(DISTINCT {PERSON_SQL})",
    "average": f"sum(n) / count(DISTINCT {PERSON_SQL})",
}


class Series(msgspec.Struct, frozen=True):
    """The keys of a series, ascending, and under each name a figure for each key."""

    keys: list[str]
    values: dict[str, dict[str, float]]

    def answer(self) -> dict[str, Any]:
        """As the endpoints answer it."""
        return {"data": {"series": self.keys, "values": self.values}, "legend_size": len(self.values)}

    def csv(self) -> str:
        """A line for each key, a column for each name."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["date", *self.values])
        writer.writerows([key, *(found[key] for found in self.values.values())] for key in self.keys)
        return text.getvalue()


def event_series(table: OpenEvents, events: Sequence[str], kind: str, buckets: Buckets) -> Series:
    """How often each of these events came in each bucket. Raises `QueryError` (400), `StoreError`."""
    keys = buckets.keys()
    names = list(dict.fromkeys(events))
    _refuse_too_many(names, keys)
    sql = (
        f"SELECT event, {buckets.sql('time')} AS bucket, {TOTALS[kind]} FROM {table.relation} "
        f"WHERE event IN ({_marks(names)}) AND {table.within} GROUP BY event, bucket"
    )
    found = table.rows(sql, [*names, *buckets.span]) if keys and names else ()
    return filled(names, keys, buckets, found)


def value_series(
    table: OpenEvents,
    event: str,
    name: str,
    kind: str,
    buckets: Buckets,
    *,
    values: Sequence[str] | None,
    limit: int,
) -> Series:
    """How often an event came with each value of a property: those of `values`, or the most frequent ones.

    Raises `QueryError` (400), `StoreError`.
    """
    _refuse_too_many(values[:limit] if values is not None else (), buckets.keys())
    events = Relation(
        f"(SELECT * FROM {table.relation} WHERE event = ? AND {table.within})", (event, *buckets.span)
    )
    return labelled_series(
        table, events, property_sql(table.columns, name), kind, buckets, values=values, limit=limit
    )


def labelled_series(
    table: OpenEvents,
    events: Relation,
    value: str,
    kind: str,
    buckets: Buckets,
    *,
    values: Sequence[str] | None,
    limit: int,
) -> Series:
    """How often events came with each name of a JSON value of theirs (SQL), as `value_series` has it.

    Values are grouped as they are stored first, and named after that: once for each different one.
    Raises `QueryError` (400), `StoreError`.
    """
    keys = buckets.keys()
    wanted = None if values is None else list(dict.fromkeys(values))[:limit]
    if not keys or wanted == []:
        return Series(keys, {})
    _refuse_too_many(wanted or (), keys)
    by_person = "" if kind == "general" else f", {PERSON_SQL}"
    table.run(
        f"CREATE OR REPLACE TEMP TABLE counted (value JSON, bucket TIMESTAMP, n BIGINT, {PERSON_SQL} VARCHAR)"
    )
    table.run(
        f"INSERT INTO counted BY NAME SELECT {value} AS value, {buckets.sql('time')} AS bucket, "
        f"count(*) AS n{by_person} FROM {events.sql} GROUP BY ALL",
        events.parameters,
    )
    table.run(
        f"CREATE OR REPLACE TEMP TABLE labelled AS SELECT value, unnest({labels_sql('value')}) AS label FROM "
        "(SELECT DISTINCT value FROM counted)"
    )
    joined = "counted JOIN labelled ON counted.value IS NOT DISTINCT FROM labelled.value"
    if wanted is None:
        sql = f"SELECT label, sum(n) AS n FROM {joined} GROUP BY label ORDER BY n DESC, label LIMIT ?"
        wanted = [label for label, _ in bounded(table.rows(sql, [limit]))]
        _refuse_too_many(wanted, keys)
    rows = table.rows(
        f"SELECT label, bucket, {_SUMS[kind]} FROM {joined} "
        "WHERE label IN (SELECT unnest(?::VARCHAR[])) GROUP BY label, bucket",
        [wanted],
    )
    return filled(wanted, keys, buckets, rows)


def bounded(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Rows that begin with a label, each label kept once. Raises `QueryError` (400): too long together."""
    known: dict[str, str] = {}
    size = 0
    for label, *rest in rows:
        if label not in known:
            known[label] = label
            size += len(label)
            if size > LABELS_LIMIT_CHARS:
                raise QueryError(LABELS_TOO_LONG, status=400)
        yield known[label], *rest


def _marks(items: Sequence[object]) -> str:
    return ", ".join("?" * len(items))


def _refuse_too_many(names: Sequence[object], keys: Sequence[str]) -> None:
    if len(names) * len(keys) > CELLS_LIMIT:
        raise QueryError(TOO_MANY_CELLS, status=400)


def filled(
    names: Iterable[str], keys: Sequence[str], buckets: Buckets, rows: Iterable[tuple[Any, ...]]
) -> Series:
    """A series of rows of (name, start of a bucket, figure); zeros where there is none."""
    found: Mapping[str, dict[str, float]] = {name: dict.fromkeys(keys, 0) for name in names}
    texts: dict[datetime, str] = {}
    for name, start, figure in rows:
        if start not in texts:
            texts[start] = buckets.key(start)
        found[name][texts[start]] = figure
    return Series(list(keys), dict(found))
