"""One partition of the log: chunks in order, each on disk before its requests are answered (DESIGN G1, G3).

Enters: encoded segments. Leaves: chunks whose checksum was verified. It never uses a position twice, never
lets a chunk's time go back, and never deletes but by `trim`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, LiteralString

from psycopg import sql

from mixdown.model.errors import CorruptStoreError, PartedError, StoreError
from mixdown.store import reading
from mixdown.store.chunk import FOR_ALL, Chunk, join_segments, pack_body, unpack_body
from mixdown.store.postgres import rewriting
from mixdown.store.postgres.connection import Cursor, Database, Row
from mixdown.store.postgres.refusals import BOUNDS_SQL, refused_json
from mixdown.store.privacy import Rewritten
from mixdown.store.protocols import Append, Appended, kinds_of

APPEND: Final = f"SELECT first, time_ms, parted FROM mixdown.append({'%s, ' * 11} %s::json, {BOUNDS_SQL})"
_TRIM_CHUNKS: Final = 1000
_TRIM_BYTES: Final = 32 * 1024 * 1024
_ROWS_AT_ONCE: Final = 500
_MOST_ROWS_AT_ONCE: Final = 8000
# Looks at one chunk: the one within which a position stands.
_BEGINNING: Final = """
    SELECT coalesce((
        SELECT CASE WHEN first + count > %(start)s THEN first END
        FROM mixdown.chunks WHERE partition = %(partition)s AND first <= %(start)s ORDER BY first DESC LIMIT 1
    ), %(start)s)
"""
# Sums decide, before a body is looked at, how many rows there is room for; the first that is wanted comes.
_FROM_START: Final = """
    SELECT first, count, time_ms, version, checksum, kinds, body_bytes,
        CASE WHEN wanted THEN filter END, CASE WHEN wanted THEN packed END
    FROM (
        SELECT *,
            sum(CASE WHEN wanted THEN count ELSE 0 END) OVER so_far AS records,
            sum(CASE WHEN wanted THEN body_bytes ELSE 0 END) OVER so_far AS bytes
        FROM (
            SELECT *, kinds & %(kinds)s <> 0 AS wanted FROM mixdown.chunks
            WHERE partition = %(partition)s AND first >= %(start)s ORDER BY first LIMIT %(rows)s
        ) AS ahead
        WINDOW so_far AS (ORDER BY first)
    ) AS summed
    WHERE CASE
        WHEN wanted THEN records <= %(records)s AND bytes <= %(bytes)s OR %(nothing_yet)s AND records = count
        ELSE records < %(records)s AND bytes < %(bytes)s
    END
    ORDER BY first
"""
_WANTED: Final = _FROM_START.replace("first >= %(start)s", f"first >= ({_BEGINNING})")
_ONE: Final = """
    SELECT first, count, time_ms, version, checksum, kinds, body_bytes,
        CASE WHEN kinds & %(kinds)s <> 0 THEN filter END, CASE WHEN kinds & %(kinds)s <> 0 THEN packed END
    FROM mixdown.chunks WHERE partition = %(partition)s AND first = %(first)s
"""


class PostgresTurn:
    """A held turn at a partition: no other thread of this process appends to it, other processes may.

    So what `parted` told is looked at again within the append itself.
    """

    def __init__(self, log: PostgresLog) -> None:
        self._log = log
        self._parted_at: int | None = None

    def append(self, appends: Sequence[Append], now_ms: int) -> Appended:
        """Append all in one round trip. Raises `PartedError` where `parted` tells another place now."""
        asked = self._asked(appends, now_ms)
        return self._appended(self._log.database.write(APPEND, asked), asked[1])

    def append_in(self, cursor: Cursor, appends: Sequence[Append], now_ms: int) -> Appended:
        """The same within a transaction of the caller's, with whose end it counts."""
        asked = self._asked(appends, now_ms)
        return self._appended(cursor.execute(APPEND, asked).fetchone(), asked[1])

    def _asked(self, appends: Sequence[Append], now_ms: int) -> tuple[Any, ...]:
        count = sum(append.count for append in appends)
        parts = any(append.parts for append in appends)
        packed = self._log.packed(appends, count)
        return self._log.partition, count, now_ms, self._parted_at, parts, *packed

    def _appended(self, row: Row | None, count: int) -> Appended:
        assert row is not None
        first, time_ms, parted = row
        self._log.last_parted = parted
        if first is None:
            raise PartedError("ids were parted while this was prepared: it is to be prepared anew")
        if self._parted_at is not None:
            self._parted_at = parted
        return Appended(first, first + count, time_ms)

    def parted(self) -> int:
        if self._log.last_parted is None:
            self._log.last_parted = int(self._log.of_head("parted"))
        self._parted_at = self._log.last_parted
        return self._parted_at


class PostgresLog:
    """`Log` of one partition.

    `on_damage`, when set, is told of damaged chunks that were not known before: (first, count, reason)s.
    """

    on_damage: Callable[[Sequence[tuple[int, int, str]]], None] | None = None

    def __init__(self, database: Database, partition: int) -> None:
        self.database = database
        self.partition = partition
        self.last_parted: int | None = None
        self._turns = threading.RLock()
        self._skip = (-1, -1)

    @contextmanager
    def turn(self) -> Iterator[PostgresTurn]:
        with self._turns:
            yield PostgresTurn(self)

    def packed(self, appends: Sequence[Append], count: int) -> tuple[Any, ...]:
        """Of a chunk: format, kinds, checksum, its body's bytes, filter, packed body; refusals."""
        refusals = refused_json([refusal for append in appends for refusal in append.refusals])
        if not count:
            return 0, 0, 0, 0, b"", b"", refusals
        body = join_segments([append.segment for append in appends if append.count])
        id_filter = b"".join([append.id_filter for append in appends])
        kinds = kinds_of(appends)
        version, packed = pack_body(body)
        seal = rewriting.seal_of(count, version, kinds, id_filter, packed)
        return version, kinds, seal, len(body), id_filter, packed, refusals

    def head(self) -> int:
        return int(self.of_head("position"))

    def of_head(self, column: str) -> Any:
        """A column of the partition's head. Raises `StoreError` where there is no such partition."""
        found = self.database.value(
            sql.SQL("SELECT {} FROM mixdown.heads WHERE partition = %s").format(sql.Identifier(column)),
            (self.partition,),
        )
        if found is None:
            raise StoreError(f"{self.database.what} has no partition {self.partition}")
        return found

    def tail_position(self) -> int:
        return self._position(
            "SELECT coalesce("
            " (SELECT first FROM mixdown.chunks WHERE partition = %(partition)s ORDER BY first LIMIT 1),"
            " (SELECT position FROM mixdown.heads WHERE partition = %(partition)s))"
        )

    def size_bytes(self) -> int:
        return int(self.of_head("held_bytes"))

    def time_at(self, position: int) -> int:
        found = self.database.value(
            "SELECT coalesce("
            " (SELECT CASE WHEN first + count > %(at)s THEN time_ms END FROM mixdown.chunks"
            "  WHERE partition = %(partition)s AND first <= %(at)s ORDER BY first DESC LIMIT 1),"
            " (SELECT time_ms FROM mixdown.chunks"
            "  WHERE partition = %(partition)s AND first > %(at)s ORDER BY first LIMIT 1), 0)",
            {"partition": self.partition, "at": position},
        )
        return int(found)

    def newest_ms(self) -> int:
        return int(self.of_head("time_ms"))

    def read(self, watermark: int, *, max_records: int, max_bytes: int, kinds: int = FOR_ALL) -> list[Chunk]:
        read = reading.Reading(max_records, max_bytes, kinds)
        try:
            self._read_rows(watermark, read, max_records, max_bytes)
        except CorruptStoreError:
            # something in these pages is broken: go on row by row, and lose no more than must be
            begin = self._position(_BEGINNING, start=watermark)
            self._read_row_by_row(read.next(begin), read)
        damaged = [(first, self._span(first), reason) for first, reason in read.damaged]
        if damaged:
            self._note_damage(damaged)
            if not read.chunks:  # notes are bounded, and a longer row of damage must not hold a reader
                self._skip = (watermark, damaged[-1][0] + damaged[-1][1])
        return read.chunks

    def next_of(self, watermark: int, kinds: int) -> int:
        return self._position(
            "SELECT coalesce("
            " (SELECT first FROM mixdown.chunks WHERE partition = %(partition)s AND first >= %(at)s"
            "  AND kinds & %(kinds)s <> 0 ORDER BY first LIMIT 1),"
            " (SELECT position FROM mixdown.heads WHERE partition = %(partition)s))",
            at=watermark,
            kinds=kinds,
        )

    def skip_damaged(self, watermark: int) -> int:
        if self._skip[0] == watermark:
            return self._skip[1]
        position = watermark
        for first, count, _ in self.damaged():
            if first == position:
                position += count
        return position

    def damaged(self) -> list[tuple[int, int, str]]:
        found = self.database.rows(
            "SELECT first, count, reason FROM mixdown.damaged_chunks WHERE partition = %s ORDER BY first",
            (self.partition,),
        )
        return [(first, count, reason) for first, count, reason in found]

    def set_aside(self, chunk: Chunk, reason: str) -> None:
        self._note_damage([(chunk.first, chunk.count, reason)])

    def trim(self, below: int, older_than_ms: int) -> int:
        trimmed = 0
        while step := self._trim_step(below, older_than_ms):
            trimmed += step
        return trimmed

    def holding(
        self, hashes: frozenset[int], *, begin: int, below: int, times_ms: Collection[int] = ()
    ) -> tuple[list[int], int]:
        return rewriting.holding(
            self.database, self.partition, hashes, begin=begin, below=below, times_ms=times_ms
        )

    def rewrite(self, rewritten: Sequence[Rewritten]) -> int:
        return rewriting.rewrite(self.database, self.partition, rewritten)

    def close(self) -> None:
        """Nothing: the database is closed by who opened it."""

    def _position(self, statement: LiteralString, **parameters: int) -> int:
        found = self.database.value(statement, {"partition": self.partition, **parameters})
        if found is None:
            raise StoreError(f"{self.database.what} has no partition {self.partition}")
        return int(found)

    def _read_rows(self, start: int, read: reading.Reading, max_records: int, max_bytes: int) -> None:
        statement, rows_at_once, damaged = _WANTED, _ROWS_AT_ONCE, 0
        while True:
            rows = self.database.rows(
                statement,
                {
                    "partition": self.partition,
                    "kinds": read.kinds,
                    "start": start,
                    "rows": rows_at_once,
                    "records": max_records - read.records,
                    "bytes": max_bytes - read.bytes,
                    "nothing_yet": not read.records,
                },
                binary=True,
            )
            for row in rows:
                if not _take(read, row):
                    return
            known, damaged = damaged, len(read.damaged)
            if len(rows) < rows_at_once and damaged == known:  # what is damaged took room from others
                return
            statement, start = _FROM_START, rows[-1][0] + 1
            rows_at_once = min(2 * rows_at_once, _MOST_ROWS_AT_ONCE)

    def _read_row_by_row(self, start: int, read: reading.Reading) -> None:
        while True:
            first = self.database.value(
                "SELECT first FROM mixdown.chunks WHERE partition = %s AND first >= %s"
                " ORDER BY first LIMIT 1",
                (self.partition, start),
            )
            if first is None:
                return
            try:
                row = self.database.row(
                    _ONE, {"partition": self.partition, "first": first, "kinds": read.kinds}, binary=True
                )
            except CorruptStoreError as error:
                if not read.set_aside(first, f"its pages are damaged: {error.message}"):
                    return
            else:
                if row is not None and not _take(read, row):  # None: trimmed meanwhile
                    return
            start = first + 1

    def _span(self, first: int) -> int:
        """How many positions a damaged chunk covers: up to the next; its own count may be what is damaged."""
        end = self._position(
            "SELECT coalesce("
            " (SELECT first FROM mixdown.chunks WHERE partition = %(partition)s AND first > %(first)s"
            "  ORDER BY first LIMIT 1),"
            " (SELECT greatest(position, %(first)s + 1) FROM mixdown.heads"
            "  WHERE partition = %(partition)s))",
            first=first,
        )
        return end - first

    def _note_damage(self, found: Sequence[tuple[int, int, str]]) -> None:
        """Keep notes of damaged chunks, the newest of them, and report those that are new."""
        known = {first for first, _, _ in self.damaged()}
        new = [note for note in found if note[0] not in known]
        if not new:
            return
        with self.database.pipeline() as connection:
            connection.cursor().executemany(
                "INSERT INTO mixdown.damaged_chunks (partition, first, count, reason) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (partition, first) DO NOTHING",
                [(self.partition, *note) for note in new],
            )
            connection.execute(
                "DELETE FROM mixdown.damaged_chunks WHERE partition = %(partition)s AND first <="
                " (SELECT first FROM mixdown.damaged_chunks WHERE partition = %(partition)s"
                " ORDER BY first DESC LIMIT 1 OFFSET %(kept)s)",
                {"partition": self.partition, "kept": reading.DAMAGED_KEPT},
            )
        if self.on_damage is not None:
            self.on_damage(new)

    def _trim_step(self, below: int, older_than_ms: int) -> int:
        rows = self.database.rows(
            "SELECT first, count, time_ms, octet_length(packed) FROM mixdown.chunks"
            " WHERE partition = %s ORDER BY first LIMIT %s",
            (self.partition, _TRIM_CHUNKS),
        )
        size = taken = last = 0
        for first, count, time_ms, packed_bytes in rows:
            full = taken and size + packed_bytes > _TRIM_BYTES
            if full or first + count > below or time_ms >= older_than_ms:
                break
            last = first
            size += packed_bytes
            taken += 1
        if not taken:
            return 0
        with self.database.transaction() as cursor:
            cursor.execute(
                "DELETE FROM mixdown.chunks WHERE partition = %s AND first <= %s"
                " RETURNING octet_length(packed)",
                (self.partition, last),
            )
            sizes = [size for (size,) in cursor.fetchall()]
            cursor.execute(
                "UPDATE mixdown.heads SET held_bytes = held_bytes - %s WHERE partition = %s",
                (sum(sizes), self.partition),
            )
        return len(sizes)


def _take(read: reading.Reading, row: Row) -> bool:
    """Take a row unless it would break a limit; whether to go on."""
    first, count, time_ms, version, seal, kinds, body_bytes, id_filter, packed = row
    if packed is None or id_filter is None:
        return read.skip(first, count, time_ms, body_bytes)
    if not read.has_room(count, body_bytes):
        return False
    if rewriting.seal_of(count, version, kinds, id_filter, packed) != seal:
        return read.set_aside(first, "its checksum does not match")
    try:
        body = unpack_body(version, packed)
    except CorruptStoreError as error:
        return read.set_aside(first, error.message)
    return read.add(Chunk(first, count, time_ms, body, kinds), version)
