"""The upkeep of history in `state.db`: segments merged so that few are left to look into, old ones dropped.

Enters: an open connection within a transaction, and how much may stay. Each call does one small piece, so
that no fold waits long for it. What is half merged is not read; it counts once the segments that it is made
of go.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import apsw

from mixdown.store.history import BLOCK_BYTES, id_of, lines_of, pack
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.history import GOING, MERGING, READY, new_segment

FANOUT: Final = 16
"""So many segments in a row of about one size become one."""
_SIZES: Final = (1 << 14, 1 << 18, 1 << 22, 1 << 26)
"""Sizes of segments, in bytes; longer ones are left alone."""
SPANS_KEPT: Final = 16
"""A merged segment covers at most one part in so many of the time that is kept: it goes as a whole."""
PIECE_BYTES: Final = 1 << 21
"""Lines that are merged in one transaction, before they are compressed."""
_BLOCKS_DROPPED_AT_ONCE: Final = 256
_VALUES_DROPPED_AT_ONCE: Final = 100

_Place = tuple[int, str, str]


class Merge(NamedTuple):
    """A run of segments that become one."""

    segments: list[int]
    first_position: int
    last_position: int
    first_ms: int
    last_ms: int


def retire(connection: apsw.Connection, keep_from_ms: int, limit_bytes: int) -> None:
    """Mark as going what ended before a time, and the oldest of what is above a number of bytes (0: none)."""
    rows = sqlite.rows(
        connection,
        "SELECT segment, last_ms, bytes + value_bytes FROM history_segments WHERE state = ?"
        " ORDER BY first_position DESC",
        (READY,),
    )
    held = 0
    for segment, last_ms, size_bytes in rows:
        held += size_bytes
        if last_ms < keep_from_ms or (limit_bytes and held > limit_bytes):
            sqlite.rows(
                connection, "UPDATE history_segments SET state = ? WHERE segment = ?", (GOING, segment)
            )
            sqlite.rows(connection, "UPDATE history_reach SET since_ms = max(since_ms, ?)", (last_ms,))


def drop_some(connection: apsw.Connection) -> bool:
    """Delete a few blocks of what is going, or values that nothing names any more; whether there were any."""
    segment = sqlite.value(
        connection, "SELECT segment FROM history_segments WHERE state = ? LIMIT 1", (GOING,)
    )
    if segment is None:
        return _drop_values(connection)
    rows = sqlite.rows(
        connection,
        "SELECT project_id, group_key, first_id, number FROM history_blocks WHERE segment = ?"
        " ORDER BY project_id, group_key, first_id, number LIMIT ?",
        (segment, _BLOCKS_DROPPED_AT_ONCE),
    )
    if rows:
        sqlite.rows(
            connection,
            "DELETE FROM history_blocks WHERE segment = ?"
            " AND (project_id, group_key, first_id, number) <= (?, ?, ?, ?)",
            (segment, *rows[-1]),
        )
    else:
        sqlite.rows(connection, "DELETE FROM history_segments WHERE segment = ?", (segment,))
    return True


def _drop_values(connection: apsw.Connection) -> bool:
    """Values that last came or went before anything that is left."""
    rows = sqlite.rows(
        connection,
        "SELECT project_id, group_key, id, digest FROM history_values WHERE last_ms <"
        " (SELECT coalesce(min(first_ms), (SELECT since_ms FROM history_reach)) FROM history_segments)"
        " LIMIT ?",
        (_VALUES_DROPPED_AT_ONCE,),
    )
    for row in rows:
        sqlite.rows(
            connection,
            "DELETE FROM history_values WHERE project_id = ? AND group_key = ? AND id = ? AND digest = ?",
            row,
        )
    return bool(rows)


def merge_some(connection: apsw.Connection, keep_from_ms: int) -> bool:
    """Do a piece of a merge, a new one if need be; whether there was one to do.

    `keep_from_ms` is the time from which on history is kept.
    """
    begun = sqlite.value(
        connection,
        "SELECT segment, first_position, last_position, done_project, done_key, done_id"
        " FROM history_segments WHERE state = ?",
        (MERGING,),
    )
    if begun is None:
        merge = _due(connection, keep_from_ms)
        if merge is None:
            return False
        begun = (_begin(connection, merge), merge.first_position, merge.last_position, 0, "", "")
    target, first_position, last_position, *done = begun
    sources = [
        number
        for (number,) in sqlite.rows(
            connection,
            "SELECT segment FROM history_segments WHERE state = ? AND first_position BETWEEN ? AND ?"
            " ORDER BY first_position",
            (READY, first_position, last_position),
        )
    ]
    if not sources:  # they went meanwhile
        sqlite.rows(connection, "UPDATE history_segments SET state = ? WHERE segment = ?", (GOING, target))
        return True
    if _merge_piece(connection, target, sources, (done[0], done[1], done[2])):
        _finish(connection, target, sources)
    return True


def _due(connection: apsw.Connection, keep_from_ms: int) -> Merge | None:
    """The newest run of `FANOUT` segments none of which is longer than a size, the smallest sizes first.

    None that would cover much of the time that is kept: what is new in it would keep what is old.
    """
    rows = sqlite.rows(
        connection,
        "SELECT segment, first_position, last_position, first_ms, last_ms, bytes FROM history_segments"
        " WHERE state = ? ORDER BY first_position DESC",
        (READY,),
    )
    span_ms = (rows[0][4] - keep_from_ms) // SPANS_KEPT if rows else 0
    for limit in _SIZES:
        run: deque[tuple[int, int, int, int, int, int]] = deque(maxlen=FANOUT)
        for row in rows:
            if row[5] > limit:
                run.clear()
                continue
            run.append(row)
            if len(run) == FANOUT and run[0][4] - row[3] <= span_ms:
                return Merge(
                    [each[0] for each in run],
                    row[1],
                    run[0][2],
                    min(each[3] for each in run),
                    max(each[4] for each in run),
                )
    return None


def _begin(connection: apsw.Connection, merge: Merge) -> int:
    target = new_segment(connection)
    sqlite.rows(
        connection,
        "INSERT INTO history_segments"
        " (segment, state, first_position, last_position, first_ms, last_ms, bytes)"
        " VALUES (?, ?, ?, ?, ?, ?, 0)",
        (target, MERGING, merge.first_position, merge.last_position, merge.first_ms, merge.last_ms),
    )
    return target


def _finish(connection: apsw.Connection, target: int, sources: Sequence[int]) -> None:
    value_bytes = 0
    for source in sources:
        value_bytes += sqlite.value(
            connection, "SELECT value_bytes FROM history_segments WHERE segment = ?", (source,)
        )
        sqlite.rows(connection, "UPDATE history_segments SET state = ? WHERE segment = ?", (GOING, source))
    sqlite.rows(
        connection,
        "UPDATE history_segments SET state = ?, value_bytes = ?, bytes ="
        " (SELECT coalesce(sum(length(data)), 0) FROM history_blocks WHERE segment = ?) WHERE segment = ?",
        (READY, value_bytes, target, target),
    )


def _merge_piece(connection: apsw.Connection, target: int, sources: Sequence[int], done: _Place) -> bool:
    """Merge lines that stand behind `done` into the target, to the end of an id; whether that was all."""
    number = 1 + (
        sqlite.value(connection, "SELECT max(number) FROM history_blocks WHERE segment = ?", (target,)) or 0
    )
    # equal places come in the order of their segments, which is that of time
    merged = heapq.merge(*(_lines_behind(connection, source, done) for source in sources), key=_place_of)
    held: list[bytes] = []
    size = whole = 0
    last = done
    for place, line in merged:
        if place != last:
            if whole >= PIECE_BYTES:
                break
            if held and (size >= BLOCK_BYTES or place[:2] != last[:2]):
                _put(connection, target, number, last, held)
                number, held, size = number + 1, [], 0
        elif size >= BLOCK_BYTES:
            _put(connection, target, number, last, held)
            number, held, size = number + 1, [], 0
        held.append(line)
        size += len(line)
        whole += len(line)
        last = place
    else:
        if held:
            _put(connection, target, number, last, held)
        return True
    _put(connection, target, number, last, held)
    sqlite.rows(
        connection,
        "UPDATE history_segments SET done_project = ?, done_key = ?, done_id = ? WHERE segment = ?",
        (*last, target),
    )
    return False


def _place_of(pair: tuple[_Place, bytes]) -> _Place:
    return pair[0]


def _put(connection: apsw.Connection, target: int, number: int, place: _Place, lines: list[bytes]) -> None:
    block = pack(place[0], place[1], lines)
    sqlite.rows(
        connection,
        "INSERT INTO history_blocks VALUES (?, ?, ?, ?, ?, ?)",
        (target, block.project, block.group_key, block.first_id, number, block.data),
    )


def _lines_behind(connection: apsw.Connection, segment: int, done: _Place) -> Iterator[tuple[_Place, bytes]]:
    """The lines of a segment that stand behind a place, in order, each with its own."""
    at = sqlite.value(
        connection,
        "SELECT project_id, group_key, first_id, number FROM history_blocks WHERE segment = ?"
        " AND (project_id, group_key, first_id) <= (?, ?, ?)"
        " ORDER BY project_id DESC, group_key DESC, first_id DESC, number DESC LIMIT 1",
        (segment, *done),
    ) or (0, "", "", -1)
    while True:
        row = sqlite.value(
            connection,
            "SELECT project_id, group_key, first_id, number, data FROM history_blocks WHERE segment = ?"
            " AND (project_id, group_key, first_id, number) >= (?, ?, ?, ?)"
            " ORDER BY project_id, group_key, first_id, number LIMIT 1",
            (segment, *at),
        )
        if row is None:
            return
        *position, data = row
        at = (*position[:3], position[3] + 1)
        for line in lines_of(data):
            place = (row[0], row[1], id_of(line))
            if place > done:
                yield place, line
