"""The raw export: a project's events as lines, in the order of time and then of arrival (contract query §4).

An `ExportQuery` enters; pieces of ASCII leave, in bounded memory: a window of time is read after the other,
each opened anew, so that a slow reader holds no file for longer than a window takes. What is stored meanwhile
may be in or not. An empty piece says that the export is at work and has nothing yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from mixdown.model.errors import TooMuchAtOnceError
from mixdown.model.expression import Context
from mixdown.query.contexts import context_of
from mixdown.query.events.buckets import Span
from mixdown.query.events.lines import ascii_lines, line_sql, mended
from mixdown.query.events.reader import EventReads, OpenEvents
from mixdown.query.events.where import Selection, Selector, names_sql, narrowed

WINDOW_EVENTS: Final = 200_000
"""Events that are sorted at once, but for an hour that has more."""
LINES_AT_ONCE: Final = 200
PIECE_BYTES: Final = 128 * 1024
_BATCHES_A_PIECE: Final = 100
_HOUR_MS: Final = 3_600_000


class ExportQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What an export asks for: what any of the selectors matches; `limit` 0 means no bound."""

    project: int
    span: Span
    selectors: tuple[Selector, ...]
    limit: int = 0
    time_in_ms: bool = False


def export_lines(reads: EventReads, query: ExportQuery, *, now_ms: int) -> Iterator[bytes]:
    """The lines of an export, some at a time; b"" now and then. Raises `StoreError`."""
    return in_pieces(map(ascii_lines, matching_lines(reads, query, now_ms=now_ms)))


def in_pieces(batches: Iterable[bytes]) -> Iterator[bytes]:
    """Small batches joined to pieces of some size; b"" where many batches give none."""
    held: list[bytes] = []
    size = looked_at = 0
    for batch in batches:
        held.append(batch)
        size += len(batch)
        looked_at += 1
        if size >= PIECE_BYTES or looked_at >= _BATCHES_A_PIECE:
            yield b"".join(held)
            held, size, looked_at = [], 0, 0
    if size:
        yield b"".join(held)


def matching_lines(reads: EventReads, query: ExportQuery, *, now_ms: int) -> Iterator[list[str]]:
    """The lines of an export as texts; [] now and then. Raises `StoreError`."""
    left = query.limit
    span = _narrowed(reads, query, now_ms)
    if span.since_ms >= span.until_ms:
        return
    with reads.open(query.project, span, persons=False) as table:
        windows = _windows(table, query, span)
        if len(windows) == 1:  # most exports are small: they need no second look at the files
            reads.add_persons(table, query.project)
            begun, context = False, context_of(reads.store, query.project, now_ms=now_ms)
            try:
                for lines in _lines_of(reads, table, query, windows[0], context, left):
                    begun = True
                    yield lines
            except TooMuchAtOnceError:
                if begun:
                    raise
            else:
                return
    for window in windows:
        yield []
        for lines in lines_of_window(reads, query, window, now_ms=now_ms, left=left):
            yield lines
            if query.limit:
                left -= len(lines)
        if query.limit and left <= 0:
            return


def windows_of(reads: EventReads, query: ExportQuery, *, now_ms: int) -> list[Span]:
    """The stretches of time that an export reads, in order: what begins within one is in no other."""
    span = _narrowed(reads, query, now_ms)
    if span.since_ms >= span.until_ms:
        return []
    with reads.open(query.project, span, persons=False) as table:
        return _windows(table, query, span)


def lines_of_window(
    reads: EventReads, query: ExportQuery, window: Span, *, now_ms: int, left: int = 0
) -> Iterator[list[str]]:
    """The lines of one stretch, in order; at most `left` of them where the query has a limit.

    A stretch whose events are too large to be sorted at once is read in halves. Raises `StoreError`.
    """
    begun, context = False, context_of(reads.store, query.project, now_ms=now_ms)
    try:
        with reads.open(query.project, window) as table:
            for lines in _lines_of(reads, table, query, window, context, left):
                begun = True
                yield lines
    except TooMuchAtOnceError:
        middle = (window.since_ms + window.until_ms) // 2
        if begun or middle == window.since_ms:
            raise
    else:
        return
    for half in (Span(window.since_ms, middle), Span(middle, window.until_ms)):
        for lines in lines_of_window(reads, query, half, now_ms=now_ms, left=left):
            yield lines
            if query.limit:
                left -= len(lines)
        if query.limit and left <= 0:
            return


def _narrowed(reads: EventReads, query: ExportQuery, now_ms: int) -> Span:
    """The span outside of which nothing can match."""
    if len(query.selectors) != 1:
        return query.span
    context = context_of(reads.store, query.project, now_ms=now_ms)
    return narrowed(query.selectors[0].where, query.span, context)


def _windows(table: OpenEvents, query: ExportQuery, span: Span) -> list[Span]:
    """Stretches of a span that hold events, each about `WINDOW_EVENTS` of them, in order."""
    condition, parameters = names_sql(query.selectors)
    sql = (
        f"SELECT epoch_ms(time) // {_HOUR_MS} AS hour, count(*) FROM events WHERE {condition} "
        "GROUP BY hour ORDER BY hour"
    )
    hours = list(table.rows(sql, parameters))
    found: list[Span] = []
    held = 0
    for hour, count in hours:
        begin, end = max(hour * _HOUR_MS, span.since_ms), min((hour + 1) * _HOUR_MS, span.until_ms)
        if found and held + count <= WINDOW_EVENTS:
            found[-1] = Span(found[-1].since_ms, end)
            held += count
        else:
            found.append(Span(begin, end))
            held = count
    return found


def _lines_of(
    reads: EventReads, table: OpenEvents, query: ExportQuery, window: Span, context: Context, left: int
) -> Iterator[list[str]]:
    """The lines of a window, at most `left` of them where the query has a limit."""
    line, suspect = line_sql(table.columns, time_in_ms=query.time_in_ms)
    wanted = Selection(query.selectors, table.columns, reads.state, query.project, context)
    sql = (
        f"SELECT {', '.join([line, suspect, *wanted.columns])} FROM {table.relation} "
        f"WHERE {wanted.condition} AND {table.within} ORDER BY time, position"
    )
    parameters = [*wanted.parameters, *window]
    if query.limit and wanted.takes_all:
        sql, parameters = f"{sql} LIMIT ?", [*parameters, left]
    for rows in table.batches(sql, parameters, rows=LINES_AT_ONCE):
        kept = rows
        if not wanted.takes_all:
            matches = wanted.matching([row[2:] for row in rows])
            kept = [row for row, matched in zip(rows, matches, strict=True) if matched]
        if query.limit:
            kept = kept[:left]
            left -= len(kept)
        yield [mended(row[0]) if row[1] else row[0] for row in kept]
        if query.limit and left <= 0:
            return
