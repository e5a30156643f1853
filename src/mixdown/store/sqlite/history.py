"""History in `state.db`: its tables, written with the profiles that it is about.

Enters: an open connection. It begins and ends no transaction, except that `segment_below` takes one of its
own, and short.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Sequence
from typing import Final

import apsw

from mixdown.store.history import Block, LargeValue, ProfileKey
from mixdown.store.history_tables import READY, Pair, Place, Segment
from mixdown.store.sqlite import connection as sqlite

_FEW_BLOCKS: Final = 256
"""A segment of so many is looked through at once for some profiles; in a longer one each is looked for."""
_BLOCKS_DROPPED_AT_ONCE: Final = 256
_VALUES_DROPPED_AT_ONCE: Final = 100
_PLACE: Final = (
    "FROM history_blocks WHERE segment = ? AND project_id = ? AND group_key = ?"
    " AND first_id = ? AND number = ?"
)


class SqliteHistory:
    """`HistoryTables` through a connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    # --- segments

    def segments(self) -> list[Segment]:
        return [
            Segment._make((*row[:8], tuple(row[8:])))
            for row in sqlite.rows(
                self._connection,
                "SELECT segment, state, first_position, last_position, first_ms, last_ms, bytes, value_bytes,"
                " done_project, done_key, done_id FROM history_segments ORDER BY first_position DESC",
            )
        ]

    def new_segment(self) -> int:
        return int(
            sqlite.value(
                self._connection,
                "SELECT 1 + max(coalesce((SELECT max(segment) FROM history_segments), 0),"
                " coalesce((SELECT max(segment) FROM history_blocks), 0))",
            )
        )

    def add_segment(self, segment: Segment) -> None:
        sqlite.rows(
            self._connection,
            "INSERT INTO history_segments"
            " (segment, state, first_position, last_position, first_ms, last_ms, bytes, value_bytes)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            segment[:8],
        )

    def change_state(self, numbers: Sequence[int], state: int) -> None:
        self._connection.executemany(
            "UPDATE history_segments SET state = ? WHERE segment = ?", [(state, number) for number in numbers]
        )

    def set_done(self, number: int, place: Place) -> None:
        sqlite.rows(
            self._connection,
            "UPDATE history_segments SET done_project = ?, done_key = ?, done_id = ? WHERE segment = ?",
            (*place, number),
        )

    def finish_merge(self, number: int, value_bytes: int) -> None:
        sqlite.rows(
            self._connection,
            "UPDATE history_segments SET state = ?, value_bytes = ?, bytes ="
            " (SELECT coalesce(sum(length(data)), 0) FROM history_blocks WHERE segment = ?)"
            " WHERE segment = ?",
            (READY, value_bytes, number, number),
        )

    def drop_segment(self, number: int) -> None:
        sqlite.rows(self._connection, "DELETE FROM history_segments WHERE segment = ?", (number,))

    # --- how far back it reaches

    def reach(self) -> tuple[int, bool]:
        since_ms, broken = sqlite.value(self._connection, "SELECT since_ms, broken FROM history_reach")
        return since_ms, bool(broken)

    def set_reach(self, since_ms: int, *, broken: bool) -> None:
        sqlite.rows(
            self._connection, "UPDATE history_reach SET since_ms = ?, broken = ?", (since_ms, int(broken))
        )

    def mend_reach(self, since_ms: int) -> None:
        sqlite.rows(
            self._connection,
            "UPDATE history_reach SET since_ms = max(since_ms, ?), broken = 0 WHERE broken",
            (since_ms,),
        )

    # --- blocks

    def put_blocks(self, segment: int, number: int, blocks: Sequence[Block]) -> None:
        self._connection.executemany(
            "INSERT INTO history_blocks VALUES (?, ?, ?, ?, ?, ?)",
            [
                (segment, block.project, block.group_key, block.first_id, number + place, block.data)
                for place, block in enumerate(blocks)
            ],
        )

    def last_number(self, segment: int) -> int:
        return (
            sqlite.value(
                self._connection, "SELECT max(number) FROM history_blocks WHERE segment = ?", (segment,)
            )
            or 0
        )

    def blocks_with(self, segment: int, key: ProfileKey) -> list[bytes]:
        return [data for _, _, data in self._places_with(segment, key)]

    def blocks_from(
        self, segment: int, pair: Pair, begin: str, end: str | None, at_once: int
    ) -> tuple[list[bytes], str | None]:
        before = sqlite.rows(
            self._connection,
            "SELECT data FROM history_blocks WHERE segment = ? AND project_id = ? AND group_key = ?"
            " AND first_id < ? ORDER BY first_id DESC, number DESC LIMIT 1",
            (segment, *pair, begin),
        )
        rows = sqlite.rows(
            self._connection,
            "SELECT data, first_id FROM history_blocks"
            " WHERE segment = ?1 AND project_id = ?2 AND group_key = ?3"
            " AND first_id >= ?4 AND (?5 IS NULL OR first_id < ?5) ORDER BY first_id, number LIMIT ?6",
            (segment, *pair, begin, end, at_once + 1),
        )
        unread = rows[at_once][1] if len(rows) > at_once else None
        return [data for data, *_ in before + rows[:at_once]], unread

    def blocks_behind(self, segment: int, done: Place) -> Iterator[tuple[Pair, bytes]]:
        at = sqlite.value(
            self._connection,
            "SELECT project_id, group_key, first_id, number FROM history_blocks WHERE segment = ?"
            " AND (project_id, group_key, first_id) <= (?, ?, ?)"
            " ORDER BY project_id DESC, group_key DESC, first_id DESC, number DESC LIMIT 1",
            (segment, *done),
        ) or (0, "", "", -1)
        while True:
            row = sqlite.value(
                self._connection,
                "SELECT project_id, group_key, first_id, number, data FROM history_blocks WHERE segment = ?"
                " AND (project_id, group_key, first_id, number) >= (?, ?, ?, ?)"
                " ORDER BY project_id, group_key, first_id, number LIMIT 1",
                (segment, *at),
            )
            if row is None:
                return
            at = (*row[:3], row[3] + 1)
            yield (row[0], row[1]), row[4]

    def places_of(self, segment: int, pair: Pair, ids: Collection[str]) -> list[tuple[str, int]]:
        rows = sqlite.rows(
            self._connection,
            "SELECT first_id, number FROM history_blocks"
            " WHERE segment = ? AND project_id = ? AND group_key = ? ORDER BY first_id, number LIMIT ?",
            (segment, *pair, _FEW_BLOCKS + 1),
        )
        if len(rows) > _FEW_BLOCKS:
            found = {place[:2] for each in ids for place in self._places_with(segment, (*pair, each))}
            return sorted(found)
        first_ids = [first_id for first_id, _ in rows]
        wanted: set[int] = set()
        for each in ids:
            # those that begin with the id, and the last one before them
            wanted.update(range(max(0, bisect_left(first_ids, each) - 1), bisect_right(first_ids, each)))
        return [rows[number] for number in sorted(wanted)]

    def block_at(self, segment: int, pair: Pair, place: tuple[str, int]) -> bytes:
        data: bytes = sqlite.value(self._connection, f"SELECT data {_PLACE}", (segment, *pair, *place))
        return data

    def replace_block(self, segment: int, pair: Pair, place: tuple[str, int], block: Block | None) -> None:
        sqlite.rows(self._connection, f"DELETE {_PLACE}", (segment, *pair, *place))
        if block is not None:
            self.put_blocks(segment, place[1], [block])

    def drop_blocks(self, segment: int) -> bool:
        rows = sqlite.rows(
            self._connection,
            "SELECT project_id, group_key, first_id, number FROM history_blocks WHERE segment = ?"
            " ORDER BY project_id, group_key, first_id, number LIMIT ?",
            (segment, _BLOCKS_DROPPED_AT_ONCE),
        )
        if rows:
            sqlite.rows(
                self._connection,
                "DELETE FROM history_blocks WHERE segment = ?"
                " AND (project_id, group_key, first_id, number) <= (?, ?, ?, ?)",
                (segment, *rows[-1]),
            )
        return bool(rows)

    def _places_with(self, segment: int, key: ProfileKey) -> list[tuple[str, int, bytes]]:
        """(first id, number, data) of blocks that may hold lines of a profile, the last first."""
        where = "FROM history_blocks WHERE segment = ? AND project_id = ? AND group_key = ?"
        same = sqlite.rows(
            self._connection,
            f"SELECT first_id, number, data {where} AND first_id = ? ORDER BY number DESC",
            (segment, *key),
        )
        before = sqlite.rows(
            self._connection,
            f"SELECT first_id, number, data {where} AND first_id < ?"
            " ORDER BY first_id DESC, number DESC LIMIT 1",
            (segment, *key),
        )
        return same + before

    # --- large values

    def keep_values(self, values: Sequence[LargeValue], last_ms: int) -> int:
        return sum(self._keep(value, last_ms) for value in values)

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

    def value_apart(self, key: ProfileKey, digest: str) -> bytes | None:
        found: bytes | None = sqlite.value(
            self._connection,
            "SELECT data FROM history_values"
            " WHERE project_id = ? AND group_key = ? AND id = ? AND digest = ?",
            (*key, digest),
        )
        return found

    def values_bytes(self) -> int:
        return int(
            sqlite.value(self._connection, "SELECT coalesce(sum(length(data)), 0) FROM history_values")
        )

    def forget_values(self, key: ProfileKey, kept: Collection[str]) -> None:
        held = sqlite.rows(
            self._connection,
            "SELECT digest FROM history_values WHERE project_id = ? AND group_key = ? AND id = ?",
            key,
        )
        self._connection.executemany(
            "DELETE FROM history_values WHERE project_id = ? AND group_key = ? AND id = ? AND digest = ?",
            [(*key, digest) for (digest,) in held if digest not in kept],
        )

    def drop_values(self) -> bool:
        rows = sqlite.rows(
            self._connection,
            "SELECT project_id, group_key, id, digest FROM history_values WHERE last_ms <"
            " (SELECT coalesce(min(first_ms), (SELECT since_ms FROM history_reach)) FROM history_segments)"
            " LIMIT ?",
            (_VALUES_DROPPED_AT_ONCE,),
        )
        self._connection.executemany(
            "DELETE FROM history_values WHERE project_id = ? AND group_key = ? AND id = ? AND digest = ?",
            rows,
        )
        return bool(rows)

    # --- as it is read

    def segment_below(self, key: ProfileKey, below: int, since_ms: int) -> tuple[int, list[bytes]] | None:
        """The newest segment below a position that reaches a time, for `history_tables.newest_first`."""
        with sqlite.snapshot(self._connection):
            segment = sqlite.value(
                self._connection,
                "SELECT segment, first_position FROM history_segments"
                " WHERE state = ? AND first_position < ? AND last_ms >= ?"
                " ORDER BY first_position DESC LIMIT 1",
                (READY, below, since_ms),
            )
            return None if segment is None else (segment[1], self.blocks_with(segment[0], key))
