"""The log in `log.db`: chunks in order, each on disk before its requests are answered (DESIGN G1, G3).

Enters: encoded segments. Leaves: chunks whose checksum was verified. It never uses a position twice,
never lets a chunk's time go back, and never deletes but by `trim`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final

import apsw

from mixdown.model.errors import CorruptStoreError, StoreError
from mixdown.store import reading
from mixdown.store.chunk import (
    FOR_ALL,
    FOR_EVENTS,
    FOR_PROFILES,
    Chunk,
    checksum,
    join_segments,
    pack_body,
    unpack_body,
)
from mixdown.store.privacy import Rewritten
from mixdown.store.protocols import Append, Appended, kinds_of
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite import rewriting
from mixdown.store.sqlite.refusals import insert_refusals
from mixdown.store.sqlite.rewriting import KINDS
from mixdown.store.sqlite.turns import LogFile

_TRIM_CHUNKS: Final = 1000
_TRIM_BYTES: Final = 32 * 1024 * 1024
_CHECKPOINT_AFTER_BYTES: Final = 16 * 1024 * 1024
# Looks at one chunk. With the condition on its end in the inner SELECT, a reader that has caught up would
# make SQLite walk through the whole log in search of a chunk that is not there.
_BEGINNING: Final = """
    SELECT coalesce((
        SELECT CASE WHEN first + count > ?1 THEN first END
        FROM (SELECT first, count FROM chunks WHERE first <= ?1 ORDER BY first DESC LIMIT 1)
    ), ?1)
"""
# For whom a chunk is, and how long its body, is read without the pages of that (`migrations`).
_WANTED: Final = f"""
    SELECT first, count, time_ms, version, checksum, {KINDS}, length(body),
        CASE WHEN {KINDS} & ?1 THEN filter END, CASE WHEN {KINDS} & ?1 THEN body END
    FROM chunks
"""  # noqa: S608 - our schema


class SqliteTurn:
    """A held turn at the log."""

    def __init__(self, file: LogFile, connection: apsw.Connection) -> None:
        self._file = file
        self._connection = connection

    def append(self, appends: Sequence[Append], now_ms: int) -> Appended:
        connection = self._connection
        count = sum(append.count for append in appends)
        refusals = [refusal for append in appends for refusal in append.refusals]
        with self._file.transaction(connection):
            first, newest_ms = sqlite.value(connection, "SELECT position, time_ms FROM head")
            time_ms = max(now_ms, newest_ms)
            if count:
                _insert_chunk(connection, first, count, time_ms, appends)
            insert_refusals(connection, refusals, time_ms)
        return Appended(first, first + count, time_ms)

    def parted(self) -> int:
        with sqlite.store_errors(self._file.what):
            return int(sqlite.value(self._connection, "SELECT parted FROM head"))


def _insert_chunk(
    connection: apsw.Connection, first: int, count: int, time_ms: int, appends: Sequence[Append]
) -> None:
    version, body = pack_body(join_segments([append.segment for append in appends if append.count]))
    id_filter = b"".join([append.id_filter for append in appends])
    kinds = kinds_of(appends)
    seal = checksum(first, count, time_ms, version, id_filter, body, kinds)
    sqlite.rows(
        connection,
        "INSERT INTO chunks"
        " (first, count, time_ms, version, checksum, filter, body, for_profiles, for_events)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            first,
            count,
            time_ms,
            version,
            seal,
            id_filter,
            body,
            int(bool(kinds & FOR_PROFILES)),
            int(bool(kinds & FOR_EVENTS)),
        ),
    )
    sqlite.rows(
        connection,
        "UPDATE head SET position = ?1, time_ms = ?2, held_bytes = held_bytes + ?3,"
        " parted = CASE WHEN ?4 THEN ?1 ELSE parted END",
        (first + count, time_ms, len(body), any(append.parts for append in appends)),
    )


class SqliteLog:
    """`Log` in `log.db`. With `checkpoints` (the fold's process), reading also keeps the WAL short.

    `on_damage`, when set, is told of damaged chunks that were not known before: (first, count, reason)s.
    """

    on_damage: Callable[[Sequence[tuple[int, int, str]]], None] | None = None

    def __init__(self, file: LogFile, *, checkpoints: bool) -> None:
        self._file = file
        self._checkpoints = checkpoints
        self._read_bytes = 0
        # a thread, because a read that moved 16 MiB itself would hold the fold up for 50 to 90 ms
        self._checkpointer = ThreadPoolExecutor(1, "log-checkpoint")
        self._checkpoint_under_way: Future[None] | None = None
        self._skip = (-1, -1)

    @contextmanager
    def turn(self) -> Iterator[SqliteTurn]:
        with self._file.turn() as connection:
            yield SqliteTurn(self._file, connection)

    def head(self) -> int:
        return int(self._get("SELECT position FROM head"))

    def checked_head(self) -> int:
        """The head, after a look at whether it fits the newest chunk. Raises `CorruptStoreError`."""
        head, end = self._get(
            "SELECT position, coalesce((SELECT first + count FROM chunks ORDER BY first DESC LIMIT 1), 0)"
            " FROM head"
        )
        if end > head:
            raise CorruptStoreError(
                f"{self._file.what} holds chunks up to position {end}, and says that it ends at {head}",
                hint="Restore the data folder from a backup, or mend it: mixdown doctor --repair.",
            )
        return int(head)

    def tail_position(self) -> int:
        return int(self._get("SELECT coalesce((SELECT min(first) FROM chunks), position) FROM head"))

    def size_bytes(self) -> int:
        return int(self._get("SELECT held_bytes FROM head"))

    def time_at(self, position: int) -> int:
        before = self._get(
            "SELECT first + count, time_ms FROM chunks WHERE first <= ? ORDER BY first DESC LIMIT 1",
            (position,),
        )
        if before is not None and before[0] > position:
            return int(before[1])
        after = self._get("SELECT time_ms FROM chunks WHERE first > ? ORDER BY first LIMIT 1", (position,))
        return int(after or 0)

    def newest_ms(self) -> int:
        return int(self._get("SELECT time_ms FROM head"))

    def read(self, watermark: int, *, max_records: int, max_bytes: int, kinds: int = FOR_ALL) -> list[Chunk]:
        reading = _Reading(max_records, max_bytes, kinds)
        connection = self._file.reader()
        with sqlite.store_errors(self._file.what):
            start = sqlite.value(
                connection,
                _BEGINNING,
                (watermark,),
            )
            try:
                self._read_rows(connection, start, reading)
            except apsw.CorruptError:
                # something in these pages is broken: go on row by row, and lose no more than must be
                self._read_row_by_row(connection, reading.next(start), reading)
            damaged = [(first, self._span(connection, first), reason) for first, reason in reading.damaged]
        if damaged:
            self._note_damage(damaged)
            if not reading.chunks:  # notes are bounded, and a longer row of damage must not hold a reader
                self._skip = (watermark, damaged[-1][0] + damaged[-1][1])
        self._keep_wal_short(reading.bytes + reading.skipped_bytes)
        return reading.chunks

    def next_of(self, watermark: int, kinds: int) -> int:
        return int(
            self._get(
                f"SELECT coalesce((SELECT first FROM chunks WHERE first >= ?1 AND {KINDS} & ?2"  # noqa: S608
                " ORDER BY first LIMIT 1), position) FROM head",
                (watermark, kinds),
            )
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
        with sqlite.store_errors(self._file.what):
            connection = self._file.reader()
            return sqlite.rows(connection, "SELECT first, count, reason FROM damaged_chunks ORDER BY first")

    def set_aside(self, chunk: Chunk, reason: str) -> None:
        self._note_damage([(chunk.first, chunk.count, reason)])

    def trim(self, below: int, older_than_ms: int) -> int:
        trimmed = 0
        while step := self._trim_step(below, older_than_ms):
            trimmed += step
            time.sleep(0.001)  # whoever waits for a turn gets it before the next step
        return trimmed

    def holding(
        self, hashes: frozenset[int], *, begin: int, below: int, times_ms: Collection[int] = ()
    ) -> tuple[list[int], int]:
        return rewriting.holding(self._file, hashes, begin=begin, below=below, times_ms=times_ms)

    def rewrite(self, rewritten: Sequence[Rewritten]) -> int:
        return rewriting.rewrite(self._file, rewritten)

    def sweep(self) -> Iterator[bool]:
        """Overwrite what the file and its WAL hold of deleted rows (`sweeping.sweep`)."""
        return rewriting.sweep_log(self._file, self._file.path)

    def checkpoint(self) -> int:
        """Move what the WAL holds into the file, as far as readers allow; blocks nobody. The pages left."""
        with sqlite.store_errors(self._file.what):
            _, pages, moved = sqlite.value(self._file.reader(), "PRAGMA wal_checkpoint(PASSIVE)")
            return int(pages - moved)

    def close(self) -> None:
        self._checkpointer.shutdown()
        self._file.close()

    def _get(self, sql: str, bindings: tuple[int, ...] = ()) -> Any:
        with sqlite.store_errors(self._file.what):
            return sqlite.value(self._file.reader(), sql, bindings)

    def _read_rows(self, connection: apsw.Connection, start: int, reading: _Reading) -> None:
        cursor = connection.execute(
            f"{_WANTED} WHERE first >= ?2 ORDER BY first",
            (reading.kinds, start),
        )
        try:
            for row in cursor:
                if not reading.take(*row):
                    return
        finally:
            cursor.close()  # an open cursor would keep its snapshot and hold up every checkpoint

    def _read_row_by_row(self, connection: apsw.Connection, start: int, reading: _Reading) -> None:
        while True:
            place = sqlite.value(
                connection,
                "SELECT first FROM chunks WHERE first >= ? ORDER BY first LIMIT 1",
                (start,),
            )
            if place is None:
                return
            first = place
            try:
                row = sqlite.value(
                    connection,
                    f"{_WANTED} WHERE first = ?2",
                    (reading.kinds, first),
                )
            except apsw.CorruptError as error:
                if not reading.set_aside(first, f"its pages are damaged: {error}"):
                    return
            else:
                if row is not None and not reading.take(*row):  # None: trimmed meanwhile
                    return
            start = first + 1

    def _span(self, connection: apsw.Connection, first: int) -> int:
        """How many positions a damaged chunk covers: up to the next; its own count may be what is damaged."""
        end = sqlite.value(
            connection,
            "SELECT coalesce((SELECT first FROM chunks WHERE first > ?1 ORDER BY first LIMIT 1),"
            " (SELECT max(position, ?1 + 1) FROM head))",
            (first,),
        )
        return int(end) - first

    def _note_damage(self, found: Sequence[tuple[int, int, str]]) -> None:
        """Keep notes of damaged chunks, the newest of them, and report those that are new."""
        known = {first for first, _, _ in self.damaged()}
        new = [note for note in found if note[0] not in known]
        if not new:
            return
        with self._file.turn() as connection, self._file.transaction(connection):
            connection.executemany("INSERT OR IGNORE INTO damaged_chunks VALUES (?, ?, ?)", new)
            sqlite.rows(
                connection,
                "DELETE FROM damaged_chunks WHERE first <="
                " (SELECT first FROM damaged_chunks ORDER BY first DESC LIMIT 1 OFFSET ?)",
                (reading.DAMAGED_KEPT,),
            )
        if self.on_damage is not None:
            self.on_damage(new)

    def _trim_step(self, below: int, older_than_ms: int) -> int:
        with sqlite.store_errors(self._file.what):
            rows = sqlite.rows(
                self._file.reader(),
                "SELECT first, count, time_ms, length(body) FROM chunks ORDER BY first LIMIT ?",
                (_TRIM_CHUNKS,),
            )
        size = taken = last = 0
        for first, count, time_ms, body_bytes in rows:
            full = taken and size + body_bytes > _TRIM_BYTES
            if full or first + count > below or time_ms >= older_than_ms:
                break
            last = first
            size += body_bytes
            taken += 1
        if taken:
            with self._file.turn() as connection, self._file.transaction(connection):
                size, taken = sqlite.value(
                    connection,
                    "SELECT coalesce(sum(length(body)), 0), count(*) FROM chunks WHERE first <= ?",
                    (last,),
                )
                sqlite.rows(connection, "DELETE FROM chunks WHERE first <= ?", (last,))
                sqlite.rows(connection, "UPDATE head SET held_bytes = held_bytes - ?", (size,))
        return taken

    def _keep_wal_short(self, read_bytes: int) -> None:
        if not self._checkpoints:
            return
        self._read_bytes += read_bytes
        under_way = self._checkpoint_under_way
        if self._read_bytes >= _CHECKPOINT_AFTER_BYTES and (under_way is None or under_way.done()):
            self._read_bytes = 0
            self._checkpoint_under_way = self._checkpointer.submit(self._checkpoint_or_later)

    def _checkpoint_or_later(self) -> None:
        """Checkpoints, as long as each leaves less, so that the WAL can start anew.

        One that fails (a full disk) is tried again once as much has been read anew.
        """
        left = sys.maxsize
        with suppress(StoreError):
            while 0 < (now_left := self.checkpoint()) < left:
                left = now_left


class _Reading(reading.Reading):
    """One `read` of rows of the table."""

    def take(  # noqa: PLR0913, PLR0917 - a row of the table
        self,
        first: int,
        count: int,
        time_ms: int,
        version: int,
        seal: int,
        kinds: int,
        size: int,
        id_filter: bytes | None,
        body: bytes | None,
    ) -> bool:
        """Take a row unless it would break a limit; whether to go on."""
        if body is None or id_filter is None:
            return self.skip(first, count, time_ms, size)
        if not self.has_room(count, 0):
            return False
        if checksum(first, count, time_ms, version, id_filter, body, kinds) != seal:
            return self.set_aside(first, "its checksum does not match")
        try:
            body = unpack_body(version, body)
        except CorruptStoreError as error:
            return self.set_aside(first, error.message)
        if not self.has_room(count, len(body)):
            return False
        return self.add(Chunk(first, count, time_ms, body, kinds), version)
