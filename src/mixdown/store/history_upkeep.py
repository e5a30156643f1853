"""The upkeep of history: segments merged so that few are left to look into, old ones dropped.

Enters: an engine's tables within a transaction, and how much may stay. Each call does one small piece, so
that no fold waits long for it. What is half merged is not read; it counts once the segments that it is made
of go.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from mixdown.store.history import BLOCK_BYTES, Block, id_of, lines_of, pack
from mixdown.store.history_tables import (
    GOING,
    MERGING,
    NOWHERE,
    READY,
    HistoryTables,
    Place,
    Segment,
)

FANOUT: Final = 16
"""So many segments in a row of about one size become one."""
_SIZES: Final = (1 << 14, 1 << 18, 1 << 22, 1 << 26)
"""Sizes of segments, in bytes; longer ones are left alone."""
SPANS_KEPT: Final = 16
"""A merged segment covers at most one part in so many of the time that is kept: it goes as a whole."""
PIECE_BYTES: Final = 1 << 21
"""Lines that are merged in one transaction, before they are compressed."""


def tend(tables: HistoryTables, keep_from_ms: int, limit_bytes: int) -> bool:
    """Retire what is too old or too much, and do one piece of what there is to do; whether there was any."""
    segments = _retired(tables, tables.segments(), keep_from_ms, limit_bytes)
    return _merge_some(tables, segments, keep_from_ms) or _drop_some(tables, segments)


def _retired(
    tables: HistoryTables, segments: Sequence[Segment], keep_from_ms: int, limit_bytes: int
) -> list[Segment]:
    """The segments, when what ended before a time is going, and the oldest of too many bytes (0: any)."""
    held = 0
    kept: list[Segment] = []
    gone: list[Segment] = []
    for segment in segments:
        if segment.state == READY:
            held += segment.size_bytes + segment.value_bytes
            if segment.last_ms < keep_from_ms or (limit_bytes and held > limit_bytes):
                gone.append(segment)
                kept.append(segment._replace(state=GOING))
                continue
        kept.append(segment)
    if gone:
        tables.change_state([segment.number for segment in gone], GOING)
        since_ms, broken = tables.reach()
        tables.set_reach(max(since_ms, *(segment.last_ms for segment in gone)), broken=broken)
    return kept


def _drop_some(tables: HistoryTables, segments: Sequence[Segment]) -> bool:
    """Delete a few blocks of what is going, or values that nothing names any more; whether there were any."""
    going = next((segment.number for segment in segments if segment.state == GOING), None)
    if going is None:
        return tables.drop_values()
    if not tables.drop_blocks(going):
        tables.drop_segment(going)
    return True


def _merge_some(tables: HistoryTables, segments: Sequence[Segment], keep_from_ms: int) -> bool:
    """Do a piece of a merge, a new one if need be; whether there was one to do.

    `keep_from_ms` is the time from which on history is kept.
    """
    ready = [segment for segment in segments if segment.state == READY]
    target = next((segment for segment in segments if segment.state == MERGING), None)
    if target is None:
        run = _due(ready, keep_from_ms)
        if run is None:
            return False
        target = _begun(tables, run)
    sources = [
        segment
        for segment in reversed(ready)
        if target.first_position <= segment.first_position <= target.last_position
    ]
    if not sources:  # they went meanwhile
        tables.change_state([target.number], GOING)
    elif _merge_piece(tables, target, sources):
        tables.change_state([source.number for source in sources], GOING)
        tables.finish_merge(target.number, sum(source.value_bytes for source in sources))
    return True


def _due(ready: Sequence[Segment], keep_from_ms: int) -> list[Segment] | None:
    """The newest run of `FANOUT` segments none of which is longer than a size, the smallest sizes first.

    None that would cover much of the time that is kept: what is new in it would keep what is old.
    """
    span_ms = (ready[0].last_ms - keep_from_ms) // SPANS_KEPT if ready else 0
    for limit in _SIZES:
        run: deque[Segment] = deque(maxlen=FANOUT)
        for segment in ready:
            if segment.size_bytes > limit:
                run.clear()
                continue
            run.append(segment)
            if len(run) == FANOUT and run[0].last_ms - segment.first_ms <= span_ms:
                return list(run)
    return None


def _begun(tables: HistoryTables, run: Sequence[Segment]) -> Segment:
    """A segment that a run, newest first, is to become."""
    target = Segment(
        tables.new_segment(),
        MERGING,
        run[-1].first_position,
        run[0].last_position,
        min(each.first_ms for each in run),
        max(each.last_ms for each in run),
        0,
        0,
    )
    tables.add_segment(target)
    return target


def _merge_piece(tables: HistoryTables, target: Segment, sources: Sequence[Segment]) -> bool:
    """Merge lines that stand behind `target.done` into it, to the end of an id; whether that was all."""
    done = target.done
    # equal places come in the order of their segments, which is that of time
    merged = heapq.merge(*(_lines_behind(tables, source.number, done) for source in sources), key=_place_of)
    blocks: list[Block] = []
    held: list[bytes] = []
    size = whole = 0
    last = done
    ended = True
    for place, line in merged:
        if place != last and whole >= PIECE_BYTES:
            ended = False
            break
        if held and (size >= BLOCK_BYTES or place[:2] != last[:2]):
            blocks.append(pack(last[0], last[1], held))
            held, size = [], 0
        held.append(line)
        size += len(line)
        whole += len(line)
        last = place
    if held:
        blocks.append(pack(last[0], last[1], held))
    if blocks:
        number = 1 if done == NOWHERE else 1 + tables.last_number(target.number)
        tables.put_blocks(target.number, number, blocks)
    if not ended:
        tables.set_done(target.number, last)
    return ended


def _place_of(pair: tuple[Place, bytes]) -> Place:
    return pair[0]


def _lines_behind(tables: HistoryTables, segment: int, done: Place) -> Iterator[tuple[Place, bytes]]:
    """The lines of a segment that stand behind a place, in order, each with its own."""
    for pair, data in tables.blocks_behind(segment, done):
        for line in lines_of(data):
            place = (*pair, id_of(line))
            if place > done:
                yield place, line
