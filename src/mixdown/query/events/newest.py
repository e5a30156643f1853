"""The newest events of a project, of some names, or of those that a filter matches; a page at a time.

A question enters; a page of lines leaves, newest first, and the place where the next begins. Time is gone
through backwards, in stretches that grow, so that a page costs as much as lies near its place, not as much as
there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from mixdown.query.contexts import context_of
from mixdown.query.events.activity import Page, Place, page_of
from mixdown.query.events.buckets import Span
from mixdown.query.events.lines import line_sql, mended
from mixdown.query.events.matching import Relation, matching_events, reads_persons
from mixdown.query.events.reader import EventReads, OpenEvents
from mixdown.query.events.where import Selector

_DAY_MS: Final = 24 * 3600 * 1000
_STRETCHES_DAYS: Final = (1, 8, 64, 512)
_ROWS_AT_ONCE: Final = 200


class NewestQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are asked for: those before a place, where one is given."""

    project: int
    span: Span
    selector: Selector
    before: Place | None = None
    limit: int


def newest_page(reads: EventReads, query: NewestQuery, *, now_ms: int) -> Page:
    """One page; it ends early where its events are large. Raises `StoreError`."""
    return page_of(_found(reads, query, now_ms), query.limit)


def _found(reads: EventReads, query: NewestQuery, now_ms: int) -> Iterator[tuple[str, Place]]:
    left = query.limit + 1
    for stretch in stretches(query.span, query.before, now_ms):
        for found in _in_stretch(reads, query, stretch, left, now_ms):
            left -= 1
            yield found
        if left <= 0:
            return


def stretches(span: Span, before: Place | None, now_ms: int) -> list[Span]:
    """A span in parts, the last first, each longer than the one before it."""
    until_ms = span.until_ms if before is None else min(span.until_ms, before.time_ms + 1)
    begin_ms = min(until_ms, now_ms)
    found = []
    for days in _STRETCHES_DAYS:
        since_ms = max(span.since_ms, begin_ms - days * _DAY_MS)
        if since_ms < until_ms:
            found.append(Span(since_ms, until_ms))
            until_ms = since_ms
    if span.since_ms < until_ms:
        found.append(Span(span.since_ms, until_ms))
    return found


def _in_stretch(
    reads: EventReads, query: NewestQuery, stretch: Span, left: int, now_ms: int
) -> Iterator[tuple[str, Place]]:
    parts = reads.store.events.parts(query.project, *stretch)
    if not parts.files and not parts.hot:
        return
    of_persons = reads_persons(query.selector)
    with reads.open(query.project, stretch, persons=of_persons) as table:
        context = context_of(reads.store, query.project, now_ms=now_ms)
        relation = matching_events(
            table, query.selector, stretch, state=reads.state, project=query.project, context=context
        )
        places, ids = _places(table, relation, query.before, left)
        if not places:
            return
        if not of_persons:
            reads.add_persons(table, query.project, ids)
        yield from _lines(table, places)


def _places(
    table: OpenEvents, relation: Relation, before: Place | None, left: int
) -> tuple[list[Place], list[str]]:
    """Where the newest events stand, and the ids that they have: no line is made of any other."""
    condition, parameters = "true", list(relation.parameters)
    if before is not None:
        condition = "(epoch_ms(time) < ? OR position < ?)"
        parameters += [before.time_ms, before.position]
    rows = table.rows(
        f"SELECT epoch_ms(time), position, distinct_id FROM {relation.sql} WHERE {condition} "
        "ORDER BY time DESC, position DESC LIMIT ?",
        [*parameters, left],
    )
    found = list(rows)
    return [Place(row[0], row[1]) for row in found], list(dict.fromkeys(row[2] for row in found))


def _lines(table: OpenEvents, places: list[Place]) -> Iterator[tuple[str, Place]]:
    line, suspect = line_sql(table.columns, both_ids=True)
    sql = (
        f"SELECT {line}, {suspect}, epoch_ms(time), position FROM {table.relation} "
        f"WHERE {table.within} AND position IN (SELECT unnest(?::BIGINT[])) ORDER BY time DESC, position DESC"
    )
    within = [places[-1].time_ms, places[0].time_ms + 1]
    positions = [place.position for place in places]
    for rows in table.batches(sql, [*within, positions], rows=_ROWS_AT_ONCE):
        for text, doubtful, time_ms, position in rows:
            yield mended(text) if doubtful else text, Place(time_ms, position)
