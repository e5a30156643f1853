"""History in `state.db`: written with the profiles that it is about, read newest first, merged and dropped.

Enters: an open connection. It begins and ends no transaction, except that a read takes one of its own, and
short: between two segments the fold may merge some, which positions tell and numbers of segments would not.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Final

import apsw

from mixdown.model.errors import CorruptStoreError
from mixdown.store.history import (
    HistoryFeed,
    HistoryReach,
    HistorySize,
    LargeValue,
    ProfileKey,
    digests_of,
    id_of,
    line_since,
    lines_of,
    lines_with,
    pack,
    span_of,
)
from mixdown.store.sqlite import connection as sqlite

READY: Final = 0
MERGING: Final = 1
GOING: Final = 2
_BLOCKS_AT_ONCE: Final = 4
_FEW_BLOCKS: Final = 256
"""A segment of so many is looked through at once for some profiles; in a longer one each is looked for."""
_PLACE: Final = (
    "FROM history_blocks WHERE segment = ? AND project_id = ? AND group_key = ?"
    " AND first_id = ? AND number = ?"
)


class HistoryWriter:
    """Writes what one step of the fold changed, within its transaction."""

    def __init__(self, connection: apsw.Connection, feed: HistoryFeed) -> None:
        self._connection = connection
        self._feed = feed
        self._segment = 0
        self._number = self._bytes = 0

    def write_some(self) -> None:
        """Write the blocks that are full by now."""
        rows = []
        for block in self._feed.blocks():
            if not self._segment:
                self._segment = new_segment(self._connection)
            rows.append(
                (self._segment, block.project, block.group_key, block.first_id, self._number, block.data)
            )
            self._number += 1
            self._bytes += len(block.data)
        if rows:
            self._connection.executemany("INSERT INTO history_blocks VALUES (?, ?, ?, ?, ?, ?)", rows)

    def finish(self) -> None:
        """Write what is left, and make it known. Everything is in the feed."""
        span = self._feed.span
        self.write_some()
        value_bytes = sum(self._keep(value, span.last_ms) for value in self._feed.values())
        if self._segment:
            sqlite.rows(
                self._connection,
                "INSERT INTO history_segments"
                " (segment, state, first_position, last_position, first_ms, last_ms, bytes, value_bytes)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    self._segment,
                    READY,
                    span.first,
                    span.end - 1,
                    span.first_ms,
                    span.last_ms,
                    self._bytes,
                    value_bytes,
                ),
            )
        if sqlite.value(self._connection, "SELECT broken FROM history_reach"):
            sqlite.rows(
                self._connection,
                "UPDATE history_reach SET since_ms = max(since_ms, ?), broken = 0",
                (span.last_ms,),
            )

    def _keep(self, value: LargeValue, now_ms: int) -> int:
        """Keep a value; how many bytes that adds: 0 where it is held already."""
        key = (value.project, value.group_key, value.id, value.digest)
        sqlite.rows(
            self._connection,
            "UPDATE history_values SET last_ms = max(last_ms, ?)"
            " WHERE project_id = ? AND group_key = ? AND id = ? AND digest = ?",
            (now_ms, *key),
        )
        if self._connection.changes():
            return 0
        sqlite.rows(
            self._connection,
            "INSERT INTO history_values VALUES (?, ?, ?, ?, ?, ?)",
            (*key, now_ms, value.data),
        )
        return len(value.data)


def break_off(connection: apsw.Connection) -> None:
    """Profiles were written without history: nothing leads from them back into what there is of it."""
    if not sqlite.value(connection, "SELECT broken FROM history_reach"):
        sqlite.rows(connection, "UPDATE history_reach SET broken = 1")
        sqlite.rows(connection, "UPDATE history_segments SET state = ?", (GOING,))


def new_segment(connection: apsw.Connection) -> int:
    """A number for a segment: above all others, so that its blocks are written behind theirs."""
    return int(
        sqlite.value(
            connection,
            "SELECT 1 + max(coalesce((SELECT max(segment) FROM history_segments), 0),"
            " coalesce((SELECT max(segment) FROM history_blocks), 0))",
        )
    )


def size(connection: apsw.Connection) -> HistorySize:
    """How much there is."""
    blocks = sqlite.value(connection, "SELECT coalesce(sum(bytes), 0) FROM history_segments")
    values = sqlite.value(connection, "SELECT coalesce(sum(length(data)), 0) FROM history_values")
    far = reach(connection)
    return HistorySize(blocks + values, far.segments, far.since_ms)


def reach(connection: apsw.Connection) -> HistoryReach:
    """How far back it goes."""
    segments = sqlite.value(connection, "SELECT count(*) FROM history_segments")
    since_ms, broken = sqlite.value(connection, "SELECT since_ms, broken FROM history_reach")
    return HistoryReach(segments, None if broken else since_ms)


def newest_first(connection: apsw.Connection, key: ProfileKey, below: int, since_ms: int) -> Iterator[bytes]:
    """The lines about a profile whose records stand below a position, newest first.

    Lines that end before `since_ms` are left out where whole segments do. Raises `CorruptStoreError`.
    """
    while True:
        found = _next_segment(connection, key, below, since_ms)
        if found is None:
            return
        first_position, blocks = found
        for data in blocks:
            for line in reversed(lines_with(data, key[2])):
                if span_of(line)[0] < below:
                    yield line
        below = first_position


def _next_segment(
    connection: apsw.Connection, key: ProfileKey, below: int, since_ms: int
) -> tuple[int, list[bytes]] | None:
    """The newest segment below a position: where it begins, and its blocks about a profile, newest first."""
    with sqlite.snapshot(connection):
        segment = sqlite.value(
            connection,
            "SELECT segment, first_position FROM history_segments"
            " WHERE state = ? AND first_position < ? AND last_ms >= ? ORDER BY first_position DESC LIMIT 1",
            (READY, below, since_ms),
        )
        return None if segment is None else (segment[1], blocks_with(connection, segment[0], key))


def blocks_with(connection: apsw.Connection, segment: int, key: ProfileKey) -> list[bytes]:
    """The blocks of a segment that may hold lines of a profile, the last of them first."""
    return [data for _, _, data in _places_with(connection, segment, key)]


def value_apart(connection: apsw.Connection, key: ProfileKey, digest: str) -> bytes:
    """A value that stands apart, compressed. Raises `CorruptStoreError` where it is gone."""
    found = sqlite.value(
        connection,
        "SELECT data FROM history_values WHERE project_id = ? AND group_key = ? AND id = ? AND digest = ?",
        (*key, digest),
    )
    if found is None:
        raise CorruptStoreError("a large value of the history is missing")
    return bytes(found)


def ranged(
    connection: apsw.Connection, pair: tuple[int, str], begin: str, end: str | None, since_ms: int
) -> tuple[dict[str, list[bytes]], str | None]:
    """The lines about ids from `begin` to before `end` (None: all), of segments that reach `since_ms`.

    Within the caller's snapshot. Returns them by id, newest first, and the end of what they are whole for:
    `end`, or less where that is much.
    """
    segments = sqlite.rows(
        connection,
        "SELECT segment FROM history_segments WHERE state = ? AND last_ms >= ? ORDER BY first_position",
        (READY, since_ms),
    )
    at_once = _BLOCKS_AT_ONCE
    while True:
        read = [_blocks_from(connection, number, pair, begin, end, at_once) for (number,) in segments]
        unread = [first_id for _, first_id in read if first_id is not None]
        if not unread or min(unread) > begin:
            break
        at_once *= 2  # the first id alone fills so many
    if unread:
        end = min(unread)
    found: dict[str, list[bytes]] = {}
    for blocks, _ in read:
        for data in blocks:
            for line in lines_of(data):
                profile_id = id_of(line)
                if profile_id >= begin and (end is None or profile_id < end):
                    found.setdefault(profile_id, []).append(line)
    for lines in found.values():
        lines.reverse()
    return found, end


def _blocks_from(
    connection: apsw.Connection,
    segment: int,
    pair: tuple[int, str],
    begin: str,
    end: str | None,
    at_once: int,
) -> tuple[list[bytes], str | None]:
    """Blocks of a segment with ids from `begin` to before `end`, and the first id of what is left unread."""
    before = sqlite.rows(
        connection,
        "SELECT data FROM history_blocks WHERE segment = ? AND project_id = ? AND group_key = ?"
        " AND first_id < ? ORDER BY first_id DESC, number DESC LIMIT 1",
        (segment, *pair, begin),
    )
    rows = sqlite.rows(
        connection,
        "SELECT data, first_id FROM history_blocks WHERE segment = ?1 AND project_id = ?2 AND group_key = ?3"
        " AND first_id >= ?4 AND (?5 IS NULL OR first_id < ?5) ORDER BY first_id, number LIMIT ?6",
        (segment, *pair, begin, end, at_once + 1),
    )
    unread = rows[at_once][1] if len(rows) > at_once else None
    return [data for data, *_ in before + rows[:at_once]], unread


def forget(connection: apsw.Connection, keys: Iterable[ProfileKey], below: int) -> int:
    """Take what stands below a position about these profiles out of the history; how many lines that changes.

    Within the caller's transaction. It looks into each segment, also those that are being merged or about to
    go, and rewrites blocks that hold some of it. That it leaves the disk, the caller sees to.
    """
    changed = 0
    # what is half merged begins anew: it says in the clear how far it came
    sqlite.rows(
        connection, "UPDATE history_segments SET state = ?, done_id = '' WHERE state = ?", (GOING, MERGING)
    )
    segments = [number for (number,) in sqlite.rows(connection, "SELECT segment FROM history_segments")]
    needed: dict[tuple[int, str], dict[str, set[str]]] = defaultdict(dict)
    for project, group_key, profile_id in keys:
        needed[project, group_key][profile_id] = set()
    for pair, digests in needed.items():
        for segment in segments:
            changed += _forget_in(connection, segment, pair, below, digests)
        for profile_id, kept in digests.items():
            _forget_values(connection, (*pair, profile_id), kept)
    return changed


def _forget_values(connection: apsw.Connection, key: ProfileKey, kept: Collection[str]) -> None:
    """Forget the large values of a profile but those with the digests that are `kept`."""
    held = sqlite.rows(
        connection,
        "SELECT digest FROM history_values WHERE project_id = ? AND group_key = ? AND id = ?",
        key,
    )
    connection.executemany(
        "DELETE FROM history_values WHERE project_id = ? AND group_key = ? AND id = ? AND digest = ?",
        [(*key, digest) for (digest,) in held if digest not in kept],
    )


def _forget_in(
    connection: apsw.Connection, segment: int, pair: tuple[int, str], below: int, needed: dict[str, set[str]]
) -> int:
    """Take some profiles' past out of one segment; how many lines changed.

    Each block is unfolded once for all of them. `needed` has their ids, and gets the digests of values that
    what is left of each names.
    """
    changed = 0
    for first_id, number in _places_of(connection, segment, pair, needed):
        place = (segment, *pair, first_id, number)
        data = sqlite.value(connection, f"SELECT data {_PLACE}", place)
        kept: list[bytes] = []
        try:
            lines = lines_of(data)
            changed_here = 0
        except CorruptStoreError:  # whose it is nobody can say any more: it goes, or the erasure never ends
            lines = []
            changed_here = 1
        for line in lines:
            profile_id = id_of(line)
            if profile_id not in needed:
                kept.append(line)
                continue
            left = line_since(line, below)
            changed_here += left != line
            if left is not None:
                kept.append(left)
                needed[profile_id] |= digests_of(left)
        if not changed_here:
            continue
        changed += changed_here
        sqlite.rows(connection, f"DELETE {_PLACE}", place)
        if kept:
            block = pack(*pair, kept)
            sqlite.rows(
                connection,
                "INSERT INTO history_blocks VALUES (?, ?, ?, ?, ?, ?)",
                (segment, *pair, block.first_id, number, block.data),
            )
    return changed


def _places_of(
    connection: apsw.Connection, segment: int, pair: tuple[int, str], ids: Collection[str]
) -> list[tuple[str, int]]:
    """(first id, number) of the blocks of a segment that may hold lines of some profiles."""
    rows = sqlite.rows(
        connection,
        "SELECT first_id, number FROM history_blocks WHERE segment = ? AND project_id = ? AND group_key = ?"
        " ORDER BY first_id, number LIMIT ?",
        (segment, *pair, _FEW_BLOCKS + 1),
    )
    if len(rows) > _FEW_BLOCKS:
        found = {place[:2] for each in ids for place in _places_with(connection, segment, (*pair, each))}
        return sorted(found)
    first_ids = [first_id for first_id, _ in rows]
    wanted: set[int] = set()
    for each in ids:
        # those that begin with the id, and the last one before them
        wanted.update(range(max(0, bisect_left(first_ids, each) - 1), bisect_right(first_ids, each)))
    return [rows[number] for number in sorted(wanted)]


def _places_with(connection: apsw.Connection, segment: int, key: ProfileKey) -> list[tuple[str, int, bytes]]:
    """(first id, number, data) of blocks of a segment that may hold lines of a profile, the last first."""
    where = "FROM history_blocks WHERE segment = ? AND project_id = ? AND group_key = ?"
    same = sqlite.rows(
        connection,
        f"SELECT first_id, number, data {where} AND first_id = ? ORDER BY number DESC",
        (segment, *key),
    )
    before = sqlite.rows(
        connection,
        f"SELECT first_id, number, data {where} AND first_id < ? ORDER BY first_id DESC, number DESC LIMIT 1",
        (segment, *key),
    )
    return same + before
