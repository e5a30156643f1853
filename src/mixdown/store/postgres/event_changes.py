"""What one transaction does to a partition's events in PostgreSQL: `Changes`, inside a pipeline.

Enters: an open pipeline in which the partition is locked. Leaves: statements, each for one partition, which
are sent together; whoever needs a result waits for one round trip.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from mixdown.model.errors import StoreError
from mixdown.store.chunk import Outcome
from mixdown.store.duck.writing import Written
from mixdown.store.event_listing import Place
from mixdown.store.events import EventBatch, EventFile
from mixdown.store.postgres.connection import Cursor
from mixdown.store.postgres.event_keys import write_keys
from mixdown.store.postgres.event_reads import packed, unpacked
from mixdown.store.postgres.pool import Connection

_ADD: Final = """
    INSERT INTO mixdown.event_files (partition, number, project, day, count, size_bytes, first_ms, last_ms,
        largest_day, written_ms, dead, erased, columns, rest)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 0, 0, %s, %s)
"""
_NO_DRAFT: Final = "DELETE FROM mixdown.event_drafts WHERE partition = %s AND number = ANY(%s)"
_LIKE: Final = """
    UPDATE mixdown.event_files SET written_ms = (
        SELECT max(written_ms) FROM mixdown.event_files
        WHERE partition = %(partition)s AND number = ANY(%(like)s))
    WHERE partition = %(partition)s AND number = %(number)s
"""
_REMOVABLE: Final = """
    INSERT INTO mixdown.event_removable (partition, number, project, day, since_ms, erased)
    SELECT partition, number, project, day, %(since_ms)s::bigint, erased > 0 FROM mixdown.event_files
    WHERE partition = %(partition)s AND number = ANY(%(numbers)s) ORDER BY number
"""
_NOT_DEAD: Final = (
    "DELETE FROM mixdown.event_dead WHERE partition = %(partition)s AND file = ANY(%(numbers)s)"
)
_NOT_LISTED: Final = (
    "DELETE FROM mixdown.event_files WHERE partition = %(partition)s AND number = ANY(%(numbers)s)"
)
_BEGIN: Final = "UPDATE mixdown.event_files SET begin_ms = %s WHERE partition = %s AND number = ANY(%s)"
_DEAD: Final = """
    INSERT INTO mixdown.event_dead (partition, file, position, erased)
    SELECT %(partition)s::int, %(file)s::bigint, killed.position, %(erased)s
    FROM unnest(%(positions)s::bigint[]) AS killed (position)
    ON CONFLICT (partition, file, position) DO UPDATE SET erased = true WHERE excluded.erased
"""
_COUNT_DEAD: Final = """
    UPDATE mixdown.event_files AS changed SET dead = found.dead, erased = found.erased
    FROM mixdown.event_files AS before, (
        SELECT count(*) AS dead, count(*) FILTER (WHERE erased) AS erased FROM mixdown.event_dead
        WHERE partition = %(partition)s AND file = %(file)s) AS found
    WHERE changed.partition = %(partition)s AND changed.number = %(file)s
    AND before.partition = %(partition)s AND before.number = %(file)s
    RETURNING changed.number, changed.count, found.dead, before.dead
"""
_NOTE: Final = "UPDATE mixdown.event_removable SET since_ms = %s WHERE partition = %s AND since_ms IS NULL"
_REMOVED: Final = "DELETE FROM mixdown.event_removable WHERE partition = %s AND number = ANY(%s)"
_KEEP_HOT: Final = """
    INSERT INTO mixdown.event_hot
        (partition, batch, project, count, first_ms, last_ms, written_ms, size_bytes, lines)
    VALUES (%(partition)s, %(number)s, %(project)s, %(count)s, %(first_ms)s, %(last_ms)s, %(written_ms)s,
        %(size_bytes)s, %(lines)s)
"""
# A batch without a number gets the next at once: a cluster looks up nothing within an INSERT.
_UNNUMBERED: Final = -1
_NUMBER: Final = """
    UPDATE mixdown.event_hot SET batch = (
        SELECT greatest(max(batch), 0) + 1 FROM mixdown.event_hot WHERE partition = %(partition)s)
    WHERE partition = %(partition)s AND batch = %(unnumbered)s
"""
_MOVE: Final = """
    UPDATE mixdown.watermarks SET position = %(position)s WHERE partition = %(partition)s AND kind = 'events'
    AND (%(begin)s::bigint IS NULL OR position = %(begin)s)
    RETURNING position
"""
_FORGOTTEN: Final = (
    "UPDATE mixdown.event_readers SET forgotten = greatest(forgotten, %s) WHERE partition = %s"
)


class PostgresChanges:
    """`Changes` of one partition. `check`, at the end, raises where what was to hold did not."""

    def __init__(self, connection: Connection, partition: int) -> None:
        self._connection = connection
        self._partition = partition
        self._moved: Cursor | None = None

    def _run(self, statement: Any, *parameters: Any) -> Cursor:
        return self._connection.execute(statement, parameters)

    def _run_named(self, statement: Any, **parameters: Any) -> Cursor:
        return self._connection.execute(statement, {"partition": self._partition, **parameters})

    def check(self) -> None:
        """Raises `StoreError` where the watermark stands elsewhere than this transaction goes on from."""
        if self._moved is not None and self._moved.fetchone() is None:
            raise StoreError(
                f"the events of partition {self._partition} were taken further meanwhile",
                hint="They are looked at again; nothing else is to be done.",
            )

    def add(self, place: Place, written: Written, now_ms: int) -> None:
        rest = None if written.rest is None else msgspec.json.encode(sorted(written.rest)).decode()
        self._run(
            _ADD,
            self._partition,
            place.number,
            place.project,
            place.day,
            written.count,
            written.size_bytes,
            written.first_ms,
            written.last_ms,
            written.largest_day or written.count,
            now_ms,
            msgspec.json.encode(written.columns).decode(),
            rest,
        )
        self._run(_NO_DRAFT, self._partition, [place.number])

    def count_as_written(self, number: int, *, like: Sequence[int]) -> None:
        self._run_named(_LIKE, number=number, like=[*like])

    def remove(self, numbers: Iterable[int], now_ms: int | None) -> None:
        gone = list(numbers)
        if gone:
            self._run_named(_REMOVABLE, numbers=gone, since_ms=now_ms)
            self._run_named(_NOT_DEAD, numbers=gone)
            self._run_named(_NOT_LISTED, numbers=gone)

    def move_on(self, files: Iterable[EventFile], begin_ms: int, now_ms: int) -> None:
        moved = list(files)
        self.remove([file.number for file in moved if file.last_ms < begin_ms], now_ms)
        later = [file.number for file in moved if file.last_ms >= begin_ms]
        if later:
            self._run(_BEGIN, begin_ms, self._partition, later)

    def kill(self, rows: Mapping[int, Sequence[int]], *, erased: bool, now_ms: int | None) -> int:
        counted = []
        for number, positions in rows.items():
            if positions:
                self._run_named(_DEAD, file=number, positions=[*positions], erased=erased)
                counted.append(self._run_named(_COUNT_DEAD, file=number))
        killed = 0
        for cursor in counted:
            for number, count, dead, before in cursor.fetchall():
                killed += dead - before
                if count == dead:
                    self.remove([number], now_ms)
        return killed

    def note_removal(self, now_ms: int) -> None:
        self._run(_NOTE, now_ms, self._partition)

    def removed(self, places: Sequence[Place]) -> None:
        numbers = [place.number for place in places]
        self._run(_REMOVED, self._partition, numbers)
        self._run(_NO_DRAFT, self._partition, numbers)

    def keep_hot(self, batch: EventBatch, written_ms: int, *, number: int | None = None) -> None:
        self._run_named(
            _KEEP_HOT,
            number=_UNNUMBERED if number is None else number,
            project=batch.project,
            count=batch.count,
            first_ms=batch.first_ms,
            last_ms=batch.last_ms,
            written_ms=written_ms,
            size_bytes=len(batch.lines),
            lines=packed(batch.lines),
        )
        if number is None:
            self._run_named(_NUMBER, unnumbered=_UNNUMBERED)

    def hot(self, number: int) -> EventBatch | None:
        found = self._connection.execute(
            "SELECT project, count, first_ms, last_ms, lines FROM mixdown.event_hot"
            " WHERE partition = %s AND batch = %s",
            (self._partition, number),
            binary=True,
        ).fetchone()
        if found is None:
            return None
        project, count, first_ms, last_ms, lines = found
        return EventBatch(project, count, first_ms, last_ms, unpacked(lines))

    def shorten_hot(self, number: int, batch: EventBatch) -> None:
        self._run(
            "UPDATE mixdown.event_hot SET count = %s, size_bytes = %s, lines = %s"
            " WHERE partition = %s AND batch = %s",
            batch.count,
            len(batch.lines),
            packed(batch.lines),
            self._partition,
            number,
        )

    def drop_hot(self, numbers: Sequence[int]) -> None:
        self._run(
            "DELETE FROM mixdown.event_hot WHERE partition = %s AND batch = ANY(%s)",
            self._partition,
            [*numbers],
        )

    def drop_project(self, project: int) -> None:
        self._run(
            "DELETE FROM mixdown.event_hot WHERE partition = %s AND project = %s", self._partition, project
        )
        found = self._run(
            "UPDATE mixdown.event_files SET erased = count WHERE partition = %s AND project = %s"
            " RETURNING number",
            self._partition,
            project,
        )
        self.remove([number for (number,) in found.fetchall()], None)

    def write_keys(self, keys: Sequence[tuple[bytes, int, Outcome | None]], now_ms: int) -> None:
        if keys:
            write_keys(self._connection, self._partition, keys, now_ms)

    def move_watermark(self, watermark: int, begin: int | None) -> None:
        self._moved = self._run_named(_MOVE, position=watermark, begin=begin)

    def note_forgotten(self, position: int) -> None:
        self._run(_FORGOTTEN, position, self._partition)
