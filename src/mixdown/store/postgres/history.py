"""History in PostgreSQL: its tables, written with the profiles that it is about.

Enters: an open connection, in the caller's transaction, and a partition. What is asked while a pipeline
runs waits for what was sent before: writes alone do not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final, LiteralString

from mixdown.store.history import Block, LargeValue, ProfileKey
from mixdown.store.history_tables import READY, Pair, Place, Segment
from mixdown.store.postgres.connection import Cursor, Database, Row
from mixdown.store.postgres.ids import ByteaArray, TextArray, cut, key_for_write, key_of
from mixdown.store.postgres.pool import Connection

_BLOCKS_DROPPED_AT_ONCE: Final = 256
_VALUES_DROPPED_AT_ONCE: Final = 100
_BLOCKS_READ_AT_ONCE: Final = 8
LOOK_EVERY_S: Final = 60.0

_SEGMENTS: Final = """
    SELECT segment, state, first_position, last_position, first_ms, last_ms, bytes, value_bytes,
        done_project, done_key, done_id
    FROM mixdown.history_segments WHERE partition = %s ORDER BY first_position DESC
"""
_NEW_SEGMENT: Final = """
    SELECT 1 + greatest(
        coalesce((SELECT max(segment) FROM mixdown.history_segments WHERE partition = %s), 0),
        coalesce((SELECT max(segment) FROM mixdown.history_blocks WHERE partition = %s), 0))
"""
_ADD_SEGMENT: Final = """
    INSERT INTO mixdown.history_segments (partition, segment, state, first_position, last_position,
        first_ms, last_ms, bytes, value_bytes)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_CHANGE_STATE: Final = """
    UPDATE mixdown.history_segments SET state = %s WHERE partition = %s AND segment = ANY(%s)
"""
_SET_DONE: Final = """
    UPDATE mixdown.history_segments SET done_project = %s, done_key = %s, done_id = %s
    WHERE partition = %s AND segment = %s
"""
_FINISH: Final = """
    UPDATE mixdown.history_segments SET state = %s, value_bytes = %s, bytes = (
        SELECT coalesce(sum(octet_length(data)), 0) FROM mixdown.history_blocks
        WHERE partition = %s AND segment = %s)
    WHERE partition = %s AND segment = %s
"""
_DROP_SEGMENT: Final = "DELETE FROM mixdown.history_segments WHERE partition = %s AND segment = %s"
_REACH: Final = "SELECT since_ms, broken FROM mixdown.history_reach WHERE partition = %s"
_REACHES: Final = """
    SELECT partition, count(*), 0::bigint, NULL::boolean FROM mixdown.history_segments
    WHERE partition = ANY(%(partitions)s) GROUP BY partition
    UNION ALL
    SELECT partition, 0, since_ms, broken FROM mixdown.history_reach WHERE partition = ANY(%(partitions)s)
"""
_SIZES: Final = """
    SELECT partition, sum(bytes + value_bytes)::bigint FROM mixdown.history_segments
    WHERE state = %s GROUP BY partition
"""
_SET_REACH: Final = """
    INSERT INTO mixdown.history_reach (partition, since_ms, broken) VALUES (%s, %s, %s)
    ON CONFLICT (partition) DO UPDATE SET since_ms = excluded.since_ms, broken = excluded.broken
"""
_MEND_REACH: Final = """
    UPDATE mixdown.history_reach SET since_ms = greatest(since_ms, %s), broken = false
    WHERE partition = %s AND broken
"""
_PUT_BLOCKS: Final = """
    INSERT INTO mixdown.history_blocks (partition, segment, project_id, group_key, first_id, number, data)
    SELECT %s::int, %s::bigint, unnest(%s::bigint[]), unnest(%s::text[]), unnest(%s::text[]),
        unnest(%s::bigint[]), unnest(%s::bytea[])
"""
_LAST_NUMBER: Final = """
    SELECT coalesce(max(number), 0) FROM mixdown.history_blocks WHERE partition = %s AND segment = %s
"""
_OF_PAIR: Final = "partition = %s AND segment = %s AND project_id = %s AND group_key = %s"
# those that begin with the id, and the last one before them
_WITH: Final = f"""
    (SELECT first_id, number, data FROM mixdown.history_blocks WHERE {_OF_PAIR} AND first_id = %s
    ORDER BY number DESC)
    UNION ALL
    (SELECT first_id, number, data FROM mixdown.history_blocks WHERE {_OF_PAIR} AND first_id < %s
    ORDER BY first_id DESC, number DESC LIMIT 1)
"""
_FROM: Final = f"""
    (SELECT first_id, number, data FROM mixdown.history_blocks WHERE {_OF_PAIR} AND first_id < %s
    ORDER BY first_id DESC, number DESC LIMIT 1)
    UNION ALL
    (SELECT first_id, number, data FROM mixdown.history_blocks
    WHERE {_OF_PAIR} AND first_id >= %s AND (%s::text IS NULL OR first_id < %s)
    ORDER BY first_id, number LIMIT %s)
"""
_PLACES: Final = f"""
    SELECT DISTINCT held.first_id, held.number FROM unnest(%s::text[]) AS asked (id), LATERAL (
        (SELECT first_id, number FROM mixdown.history_blocks WHERE {_OF_PAIR} AND first_id = asked.id)
        UNION ALL
        (SELECT first_id, number FROM mixdown.history_blocks WHERE {_OF_PAIR} AND first_id < asked.id
        ORDER BY first_id DESC, number DESC LIMIT 1)
    ) AS held ORDER BY 1, 2
"""
_BEFORE: Final = """
    SELECT project_id, group_key, first_id, number FROM mixdown.history_blocks
    WHERE partition = %s AND segment = %s AND (project_id, group_key, first_id) < (%s, %s, %s)
    ORDER BY project_id DESC, group_key DESC, first_id DESC, number DESC LIMIT 1
"""
_BEHIND: Final = """
    SELECT project_id, group_key, first_id, number, data FROM mixdown.history_blocks
    WHERE partition = %s AND segment = %s AND (project_id, group_key, first_id, number) >= (%s, %s, %s, %s)
    ORDER BY project_id, group_key, first_id, number LIMIT %s
"""
_AT: Final = f"{_OF_PAIR} AND first_id = %s AND number = %s"
_BLOCK_AT: Final = f"SELECT data FROM mixdown.history_blocks WHERE {_AT}"
_DROP_BLOCK: Final = f"DELETE FROM mixdown.history_blocks WHERE {_AT}"
_DROP_BLOCKS: Final = """
    DELETE FROM mixdown.history_blocks WHERE partition = %s AND segment = %s
    AND (project_id, group_key, first_id, number) IN (
        SELECT project_id, group_key, first_id, number FROM mixdown.history_blocks
        WHERE partition = %s AND segment = %s
        ORDER BY project_id, group_key, first_id, number LIMIT %s
    )
"""
_OF_PROFILE: Final = "partition = %s AND project_id = %s AND group_key = %s AND id = %s"
# Whether it is new is told by its row; a cluster tells nothing of versions of rows (xmax).
_KEEP_VALUE: Final = """
    INSERT INTO mixdown.history_values (partition, project_id, group_key, id, digest, last_ms, data)
    VALUES (%s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (partition, project_id, group_key, id, digest) DO NOTHING RETURNING octet_length(data)
"""
_CAME_AGAIN: Final = f"""
    UPDATE mixdown.history_values SET last_ms = %s WHERE {_OF_PROFILE} AND digest = %s AND last_ms < %s
"""
_VALUE: Final = f"SELECT data FROM mixdown.history_values WHERE {_OF_PROFILE} AND digest = %s"
_VALUES_BYTES: Final = """
    SELECT coalesce(sum(octet_length(data)), 0)::bigint FROM mixdown.history_values WHERE partition = %s
"""
_FORGET_VALUES: Final = f"""
    DELETE FROM mixdown.history_values WHERE {_OF_PROFILE} AND digest <> ALL(%s::text[])
"""
_OLD_VALUES: Final = """
    SELECT project_id, group_key, id, digest FROM mixdown.history_values
    WHERE partition = %s AND last_ms < coalesce(
        (SELECT min(first_ms) FROM mixdown.history_segments WHERE partition = %s),
        (SELECT since_ms FROM mixdown.history_reach WHERE partition = %s), 0)
    LIMIT %s
"""
_DROP_VALUES: Final = f"""
    DELETE FROM mixdown.history_values
    WHERE partition = %s AND (project_id, group_key, id, digest) IN ({_OLD_VALUES})
"""
_BELOW: Final = """
    SELECT segment, first_position FROM mixdown.history_segments
    WHERE partition = %s AND state = %s AND first_position < %s AND last_ms >= %s
    ORDER BY first_position DESC LIMIT 1
"""
_BLOCKS_BELOW: Final = f"""
    WITH found AS MATERIALIZED ({_BELOW})
    SELECT found.first_position, held.data FROM found LEFT JOIN LATERAL (
        (SELECT 0 AS rank, number, data FROM mixdown.history_blocks
        WHERE partition = %s AND segment = found.segment AND project_id = %s AND group_key = %s
        AND first_id = %s)
        UNION ALL
        (SELECT 1 AS rank, number, data FROM mixdown.history_blocks
        WHERE partition = %s AND segment = found.segment AND project_id = %s AND group_key = %s
        AND first_id < %s ORDER BY first_id DESC, number DESC LIMIT 1)
    ) AS held ON true ORDER BY held.rank, held.number DESC
"""


class Numbers:
    """The number of the next segment, known to the one process that writes, so that no step asks for it."""

    next: int | None = None


class PostgresHistory:
    """`HistoryTables` of one partition, through a connection."""

    def __init__(
        self,
        connection: Connection,
        partition: int,
        numbers: Numbers | None = None,
        *,
        before_writing: Callable[[], None] | None = None,
    ) -> None:
        """`before_writing` is called before what writes first: what only reads needs no lease."""
        self._connection = connection
        self._partition = partition
        self._numbers = numbers or Numbers()
        self._before_writing = before_writing

    def _rows(self, statement: LiteralString, *parameters: Any) -> list[Row]:
        return self._connection.execute(statement, parameters, binary=True).fetchall()

    def _run(self, statement: LiteralString, *parameters: Any) -> Cursor:
        if self._before_writing is not None:
            self._before_writing()
            self._before_writing = None
        return self._connection.execute(statement, parameters)

    # --- segments

    def segments(self) -> list[Segment]:
        return [Segment._make((*row[:8], tuple(row[8:]))) for row in self._rows(_SEGMENTS, self._partition)]

    def new_segment(self) -> int:
        if self._numbers.next is None:
            self._numbers.next = int(self._rows(_NEW_SEGMENT, self._partition, self._partition)[0][0])
        self._numbers.next += 1
        return self._numbers.next - 1

    def add_segment(self, segment: Segment) -> None:
        self._run(_ADD_SEGMENT, self._partition, *segment[:8])

    def change_state(self, numbers: Sequence[int], state: int) -> None:
        self._run(_CHANGE_STATE, state, self._partition, list(numbers))

    def set_done(self, number: int, place: Place) -> None:
        self._run(_SET_DONE, *place, self._partition, number)

    def finish_merge(self, number: int, value_bytes: int) -> None:
        place = (self._partition, number)
        self._run(_FINISH, READY, value_bytes, *place, *place)

    def drop_segment(self, number: int) -> None:
        self._run(_DROP_SEGMENT, self._partition, number)

    # --- how far back it reaches

    def reach(self) -> tuple[int, bool]:
        rows = self._rows(_REACH, self._partition)
        return (rows[0][0], rows[0][1]) if rows else (0, False)

    def set_reach(self, since_ms: int, *, broken: bool) -> None:
        self._run(_SET_REACH, self._partition, since_ms, broken)

    def mend_reach(self, since_ms: int) -> None:
        self._run(_MEND_REACH, since_ms, self._partition)

    # --- blocks

    def put_blocks(self, segment: int, number: int, blocks: Sequence[Block]) -> None:
        self._run(
            _PUT_BLOCKS,
            self._partition,
            segment,
            [block.project for block in blocks],
            TextArray.of_texts(block.group_key for block in blocks),
            TextArray.of_texts(cut(block.first_id) for block in blocks),
            list(range(number, number + len(blocks))),
            ByteaArray.of([block.data for block in blocks]),
        )

    def last_number(self, segment: int) -> int:
        return int(self._rows(_LAST_NUMBER, self._partition, segment)[0][0])

    def blocks_with(self, segment: int, key: ProfileKey) -> list[bytes]:
        place = (self._partition, segment, key[0], key[1], cut(key[2]))
        return [data for _, _, data in self._rows(_WITH, *place, *place)]

    def blocks_from(
        self, segment: int, pair: Pair, begin: str, end: str | None, at_once: int
    ) -> tuple[list[bytes], str | None]:
        place = (self._partition, segment, *pair, cut(begin))
        rows = self._rows(_FROM, *place, *place, end, end, at_once + 2)
        limit = at_once + (1 if rows and rows[0][0] < cut(begin) else 0)
        unread = rows[limit][0] if len(rows) > limit else None
        return [data for _, _, data in rows[:limit]], unread

    def blocks_behind(self, segment: int, done: Place) -> Iterator[tuple[Pair, bytes]]:
        place = (self._partition, segment)
        before = self._rows(_BEFORE, *place, done[0], done[1], cut(done[2]))
        at = before[0] if before else (0, "", "", -1)
        while True:
            rows = self._rows(_BEHIND, *place, *at, _BLOCKS_READ_AT_ONCE)
            for project, group_key, _, _, data in rows:
                yield (project, group_key), data
            if len(rows) < _BLOCKS_READ_AT_ONCE:
                return
            at = (*rows[-1][:3], rows[-1][3] + 1)

    def places_of(self, segment: int, pair: Pair, ids: Collection[str]) -> list[tuple[str, int]]:
        place = (self._partition, segment, *pair)
        asked = TextArray.of_texts(sorted({cut(each) for each in ids if key_of(each) is not None}))
        return [(first_id, number) for first_id, number in self._rows(_PLACES, asked, *place, *place)]

    def block_at(self, segment: int, pair: Pair, place: tuple[str, int]) -> bytes:
        data: bytes = self._rows(_BLOCK_AT, self._partition, segment, *pair, *place)[0][0]
        return data

    def replace_block(self, segment: int, pair: Pair, place: tuple[str, int], block: Block | None) -> None:
        self._run(_DROP_BLOCK, self._partition, segment, *pair, *place)
        if block is not None:
            self.put_blocks(segment, place[1], [block])

    def drop_blocks(self, segment: int) -> bool:
        place = (self._partition, segment)
        return self._run(_DROP_BLOCKS, *place, *place, _BLOCKS_DROPPED_AT_ONCE).rowcount > 0

    # --- large values

    def keep_values(self, values: Sequence[LargeValue], last_ms: int) -> int:
        kept = []
        for value in {(each.project, each.group_key, each.id, each.digest): each for each in values}.values():
            key = (value.project, value.group_key, key_for_write(value.id), value.digest)
            kept.append(self._run(_KEEP_VALUE, self._partition, *key, last_ms, value.data))
            self._run(_CAME_AGAIN, last_ms, self._partition, *key, last_ms)
        return sum(row[0] for each in kept if (row := each.fetchone()) is not None)

    def value_apart(self, key: ProfileKey, digest: str) -> bytes | None:
        rows = self._rows(_VALUE, self._partition, key[0], key[1], key_for_write(key[2]), digest)
        return rows[0][0] if rows else None

    def values_bytes(self) -> int:
        return int(self._rows(_VALUES_BYTES, self._partition)[0][0])

    def forget_values(self, key: ProfileKey, kept: Collection[str]) -> None:
        stored = key_of(key[2])
        if stored is not None:
            self._run(_FORGET_VALUES, self._partition, key[0], key[1], stored, sorted(kept))

    def drop_values(self) -> bool:
        where = (self._partition,) * 3
        if not self._rows(_OLD_VALUES, *where, 1):
            return False
        return self._run(_DROP_VALUES, self._partition, *where, _VALUES_DROPPED_AT_ONCE).rowcount > 0


class Shares:
    """How many bytes of history each partition may keep, of those that all of them together may.

    Known as of the last minute, for all partitions that a process folds.
    """

    def __init__(self, database: Database, count: int) -> None:
        self._database = database
        self._count = count
        self._looked_s: float | None = None
        self._sizes: dict[int, int] = {}

    def of(self, partition: int, limit_bytes: int) -> int:
        """The bound of a partition: the same share of it goes from each that has more than its part."""
        if not limit_bytes or self._count == 1:
            return limit_bytes
        now_s = time.monotonic()
        if self._looked_s is None or now_s - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now_s
            self._sizes = dict(self._database.rows(_SIZES, (READY,)))
        total = sum(self._sizes.values())
        if total <= limit_bytes:
            return limit_bytes
        return max(1, limit_bytes // self._count, self._sizes.get(partition, 0) * limit_bytes // total)


def segment_below(
    database: Database, partition: int, key: ProfileKey, below: int, since_ms: int
) -> tuple[int, list[bytes]] | None:
    """The newest segment below a position that reaches a time, for `history_tables.newest_first`."""
    place = (partition, key[0], key[1], cut(key[2]))
    rows = database.rows(_BLOCKS_BELOW, (partition, READY, below, since_ms, *place, *place), binary=True)
    return (rows[0][0], [data for _, data in rows if data is not None]) if rows else None


def reach(database: Database, partitions: Sequence[int]) -> list[tuple[int, int | None]]:
    """Of each partition: how many segments there are, and since when it is whole (ms; None: none is kept)."""
    segments: dict[int, int] = {}
    since: dict[int, int | None] = {}
    for partition, count, since_ms, broken in database.rows(_REACHES, {"partitions": list(partitions)}):
        if broken is None:
            segments[partition] = count
        else:
            since[partition] = None if broken else since_ms
    return [(segments.get(partition, 0), since.get(partition, 0)) for partition in partitions]
