"""How many events there are, by name and by day: exact, of those alone that an expression matches.

A question enters as an export asks it; counts leave, as many as there are names and days at most.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from mixdown.model.errors import TooMuchAtOnceError
from mixdown.query.contexts import context_of
from mixdown.query.events.export import ExportQuery, windows_of
from mixdown.query.events.reader import EventReads, OpenEvents
from mixdown.query.events.where import Selection

COUNTS_LIMIT: Final = 1_000_000
BY: Final = {"event": "event", "day": "strftime(time, '%Y-%m-%d')"}
"""What counts may be told apart by, with its SQL."""
Counts = list[tuple[tuple[str, ...], int]]


def count_events(reads: EventReads, query: ExportQuery, by: tuple[str, ...], *, now_ms: int) -> Counts:
    """The events that a query matches, counted by each of `by` (of `BY`), ascending.

    Returns:
        Pairs of what tells them apart, a text for each of `by`, and how many there are; of nothing none.

    Raises:
        TooMuchAtOnceError: there are more than `COUNTS_LIMIT` counts.
        StoreError: events cannot be read.
    """
    found: Counter[tuple[str, ...]] = Counter()
    context = context_of(reads.store, query.project, now_ms=now_ms)
    for window in windows_of(reads, query, now_ms=now_ms):
        with reads.open(query.project, window) as table:
            wanted = Selection(query.selectors, table.columns, reads.state, query.project, context)
            _add(found, table, wanted, [BY[name] for name in by], [*wanted.parameters, *window])
        if len(found) > COUNTS_LIMIT:
            raise TooMuchAtOnceError(f"there are more than {COUNTS_LIMIT} counts", hint="Ask for fewer days.")
    return sorted(found.items())


def _add(
    found: Counter[tuple[str, ...]],
    table: OpenEvents,
    wanted: Selection,
    columns: list[str],
    parameters: list[object],
) -> None:
    source = f"FROM {table.relation} WHERE {wanted.condition} AND {table.within}"
    if wanted.takes_all:
        counted = ", ".join([*columns, "count(*)"])
        grouped = f"GROUP BY {', '.join(columns)}" if columns else ""
        for *key, count in table.rows(f"SELECT {counted} {source} {grouped}", parameters):
            found[tuple(key)] += count
        return
    selected = ", ".join([*columns, *wanted.columns])
    for rows in table.batches(f"SELECT {selected} {source}", parameters):
        matches = wanted.matching([row[len(columns) :] for row in rows])
        found.update(
            tuple(row[: len(columns)]) for row, matched in zip(rows, matches, strict=True) if matched
        )
