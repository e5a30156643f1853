"""One partition's events in PostgreSQL as a `Listing`: hot batches, request keys, the list of files.

Enters: changes, from the process that holds the partition's lease. Leaves: what is there, for any thread of
any process on any machine. Each change locks the partition's row of `watermarks` under the lease's fence in
its own transaction: whoever lost the lease meanwhile, however long it was paused, changes nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, LiteralString

from mixdown.model.errors import LeaseLostError, StoreError
from mixdown.store.chunk import Outcome
from mixdown.store.event_listing import DayFile, HotBatch, Place, RecentFile, Waiting
from mixdown.store.events import EventBatch, EventFile, EventsSize, Parts
from mixdown.store.places import PARTITIONS_LIMIT
from mixdown.store.postgres import event_reads as reads
from mixdown.store.postgres.connection import Database, Parameters, Statement
from mixdown.store.postgres.event_changes import PostgresChanges
from mixdown.store.postgres.event_keys import find_keys, key_window, redact_outcomes
from mixdown.store.postgres.event_reads import unpacked
from mixdown.store.shelves import Shelf

_LOCK: Final = """
    SELECT position FROM mixdown.watermarks
    WHERE partition = %s AND kind = 'events' AND fence = %s FOR UPDATE
"""
_NEXT: Final = """
    UPDATE mixdown.event_readers SET next_file = next_file + 1 WHERE partition = %s RETURNING next_file - 1
"""
_DRAFT: Final = """
    INSERT INTO mixdown.event_drafts (partition, number, project, day, fence) VALUES (%s, %s, %s, %s, %s)
"""
_KNOWN: Final = """
    SELECT 1 FROM mixdown.event_files WHERE partition = %(partition)s AND number = %(number)s
    UNION ALL SELECT 1 FROM mixdown.event_removable WHERE partition = %(partition)s AND number = %(number)s
"""
# Files that nobody may read any more; and those that were begun, and that nobody makes any more: under an
# older fence, or under this one and not among those that are in hand.
_DUE: Final = """
    (SELECT number, project, day FROM mixdown.event_removable WHERE partition = %(partition)s
     AND since_ms <= CASE WHEN erased THEN %(erased_before)s::bigint ELSE %(before)s::bigint END
     ORDER BY number LIMIT %(limit)s)
    UNION ALL
    (SELECT number, project, day FROM mixdown.event_drafts WHERE partition = %(partition)s
     AND fence <= %(fence)s AND number <> ALL(%(in_hand)s::bigint[]) ORDER BY number LIMIT %(limit)s)
"""


class PostgresListing:
    """`Listing` of one partition. `fence` gives the fence of the lease that this process holds, or raises.

    `committing` is called inside each write transaction, before its COMMIT.
    """

    def __init__(
        self,
        database: Database,
        partition: int,
        shelf: Shelf,
        *,
        fence: Callable[[], int],
        committing: Callable[[], None],
    ) -> None:
        self.partition = partition
        self.changed = True
        """Whether anything was changed here since somebody last set this to false."""
        self._opened: Database | None = database
        self._shelf = shelf
        self._fence = fence
        self._committing = committing
        self._guard = threading.Lock()
        self._in_hand: set[int] = set()

    @contextmanager
    def changes(self) -> Iterator[PostgresChanges]:
        with self._writing() as changes:
            yield changes
            self._committing()

    @contextmanager
    def _writing(self) -> Iterator[PostgresChanges]:
        """A transaction in which nobody else writes this partition's events; sent in one go, mostly."""
        fence = self._fence()
        with self._guard, self._database.pipeline() as connection:
            self.changed = True
            locked = connection.execute(_LOCK, (self.partition, fence))
            changes = PostgresChanges(connection, self.partition)
            yield changes
            if locked.fetchone() is None:
                raise LeaseLostError(f"another process takes the events of partition {self.partition} now")
            changes.check()

    @property
    def _database(self) -> Database:
        if self._opened is None:
            raise StoreError(f"the events of partition {self.partition} were closed")
        return self._opened

    def close(self) -> None:
        """Refuse further use."""
        self._opened = None

    # --- numbers of files

    def make_ready(self) -> None:
        """Nothing: what an earlier process left is told by `due`."""

    def place(self, project: int, day: int | None) -> Place:
        fence = self._fence()
        with self._guard, self._database.pipeline() as connection:
            locked = connection.execute(_LOCK, (self.partition, fence))
            found = connection.execute(_NEXT, (self.partition,)).fetchone()
            if locked.fetchone() is None or found is None:
                raise LeaseLostError(f"another process takes the events of partition {self.partition} now")
            # a partition's files are counted, and end in its number: no two partitions give one twice
            number = int(found[0]) * PARTITIONS_LIMIT + self.partition
            self._in_hand.add(number)
            connection.execute(_DRAFT, (self.partition, number, project, day, fence))
        return Place(number, project, day)

    def is_free(self, place: Place, error: Exception) -> bool:
        """As `Listing` says. The lock waits for a commit of ours whose end we did not hear of."""
        del error
        try:
            fence = self._fence()
            with self._guard, self._database.pipeline() as connection:
                locked = connection.execute(_LOCK, (self.partition, fence))
                known = connection.execute(_KNOWN, {"partition": self.partition, "number": place.number})
                return known.fetchone() is None and locked.fetchone() is not None
        except StoreError:
            return False  # whoever comes next finds it among the drafts, or listed

    def give_up(self, place: Place) -> None:
        with suppress(StoreError), self._writing() as changes:
            changes.removed([place])

    def release(self, place: Place) -> None:
        self._in_hand.discard(place.number)
        self.changed = True

    # --- what is there

    def _rows(self, sql: Statement, parameters: Parameters) -> list[tuple[Any, ...]]:
        return self._database.rows(sql, parameters, binary=True)

    def _first(self, sql: Statement, parameters: Parameters) -> int | None:
        found = self._database.value(sql, parameters)
        return None if found is None else int(found)

    def watermark(self) -> int:
        return reads.watermark(self._database, self.partition)

    def forgotten(self) -> int:
        return int(
            self._database.value(
                "SELECT forgotten FROM mixdown.event_readers WHERE partition = %s", (self.partition,)
            )
        )

    def known_keys(self, keys: Sequence[bytes], since_ms: int) -> dict[bytes, Outcome | None]:
        return find_keys(self._database, [self.partition], keys, since_ms)

    def key_window(self) -> tuple[int, int]:
        return key_window(self._database, [self.partition])

    def redact_keys(self, keys: Sequence[bytes]) -> None:
        redact_outcomes(self._database, self.partition, keys)

    def parts(self, project: int, since_ms: int, until_ms: int) -> Parts:
        return reads.parts(self._database, self._shelf, [self.partition], project, since_ms, until_ms)

    def projects(self) -> list[int]:
        return reads.projects(self._database, [self.partition])

    def owed(self, project: int) -> int:
        return reads.owed(self._database, [self.partition], project)

    def size(self, project: int | None) -> EventsSize:
        return reads.size(self._database, [self.partition], project)

    # --- what the upkeep asks

    def unnoted(self) -> bool:
        return bool(
            self._rows(
                "SELECT 1 FROM mixdown.event_removable WHERE partition = %s AND since_ms IS NULL LIMIT 1",
                (self.partition,),
            )
        )

    def due(self, before_ms: int, erased_before_ms: int, limit: int) -> list[Place]:
        found = self._rows(
            _DUE,
            {
                "partition": self.partition,
                "before": before_ms,
                "erased_before": erased_before_ms,
                "limit": limit,
                "fence": self._fence(),
                "in_hand": [*self._in_hand],
            },
        )
        return [Place(*row) for row in found]

    def to_close(self, events: int, size_bytes: int, before_ms: int) -> int | None:
        return self._first(
            "SELECT project FROM mixdown.event_hot WHERE partition = %s GROUP BY project"
            " HAVING sum(count) >= %s OR sum(size_bytes) >= %s OR min(written_ms) <= %s LIMIT 1",
            (self.partition, events, size_bytes, before_ms),
        )

    def hot_sizes(self, project: int) -> list[tuple[int, int]]:
        found = self._rows(
            "SELECT batch, size_bytes FROM mixdown.event_hot WHERE partition = %s AND project = %s"
            " ORDER BY batch",
            (self.partition, project),
        )
        return [(number, size) for number, size in found]

    def hot_lines(self, number: int) -> bytes:
        ((packed,),) = self._rows(
            "SELECT lines FROM mixdown.event_hot WHERE partition = %s AND batch = %s",
            (self.partition, number),
        )
        return unpacked(packed)

    def to_gather(self, below_bytes: int, batches: int) -> int | None:
        return self._first(
            "SELECT project FROM mixdown.event_hot WHERE partition = %s AND size_bytes < %s"
            " GROUP BY project HAVING count(*) >= %s LIMIT 1",
            (self.partition, below_bytes, batches),
        )

    def small_batches(self, project: int, below_bytes: int, limit: int) -> list[HotBatch]:
        found = self._rows(
            "SELECT batch, written_ms, count, first_ms, last_ms, lines FROM mixdown.event_hot"
            " WHERE partition = %s AND project = %s AND size_bytes < %s ORDER BY batch LIMIT %s",
            (self.partition, project, below_bytes, limit),
        )
        return [
            HotBatch(number, written_ms, EventBatch(project, count, first_ms, last_ms, unpacked(packed)))
            for number, written_ms, count, first_ms, last_ms, packed in found
        ]

    def _files(self, rest: LiteralString, **parameters: Any) -> list[EventFile]:
        return reads.files(self._database, self._shelf, self.partition, rest, **parameters)

    def being_split(self) -> list[EventFile]:
        project = self._first(
            "SELECT project FROM mixdown.event_files"
            " WHERE partition = %s AND day IS NULL AND begin_ms IS NOT NULL LIMIT 1",
            (self.partition,),
        )
        if project is None:
            return []
        return self._files(
            "AND project = %(project)s AND day IS NULL AND begin_ms IS NOT NULL ORDER BY number",
            project=project,
        )

    def waiting(self) -> list[Waiting]:
        found = self._rows(
            "SELECT project, sum(count)::bigint, sum(largest_day)::bigint, count(*), min(written_ms),"
            " sum(erased)::bigint FROM mixdown.event_files WHERE partition = %s AND day IS NULL"
            " GROUP BY project ORDER BY min(number)",
            (self.partition,),
        )
        return [Waiting(*row) for row in found]

    def recent(self, project: int, limit: int) -> list[RecentFile]:
        found = self._rows(
            "SELECT number, count, largest_day FROM mixdown.event_files"
            " WHERE partition = %s AND project = %s AND day IS NULL ORDER BY number LIMIT %s",
            (self.partition, project, limit),
        )
        return [RecentFile(*row) for row in found]

    def files(self, numbers: Sequence[int]) -> list[EventFile]:
        return self._files("AND number = ANY(%(numbers)s) ORDER BY number", numbers=[*numbers])

    def next_file(self, project: int, done: Collection[int]) -> EventFile | None:
        found = self._files(
            "AND project = %(project)s AND number <> ALL(%(done)s::bigint[]) ORDER BY number LIMIT 1",
            project=project,
            done=[*done],
        )
        return found[0] if found else None

    def overlapping(self, project: int, day: int, first_ms: int, last_ms: int) -> list[EventFile]:
        return self._files(
            "AND project = %(project)s AND day = %(day)s"
            " AND first_ms <= %(last_ms)s AND last_ms >= %(first_ms)s ORDER BY number",
            project=project,
            day=day,
            first_ms=first_ms,
            last_ms=last_ms,
        )

    def to_rewrite(self, share: int, *, busy: bool) -> EventFile | None:
        found = self._files(
            "AND day IS NOT NULL AND dead > 0"
            " AND (erased > 0 OR (dead * %(share)s > count AND NOT %(busy)s)) ORDER BY number LIMIT 1",
            share=share,
            busy=busy,
        )
        return found[0] if found else None

    def days_of_many(self) -> list[tuple[int, int]]:
        found = self._rows(
            "SELECT project, day FROM mixdown.event_files WHERE partition = %s AND day IS NOT NULL"
            " GROUP BY project, day HAVING count(*) > 1",
            (self.partition,),
        )
        return [(project, day) for project, day in found]

    def of_day(self, project: int, day: int) -> list[DayFile]:
        found = self._rows(
            "SELECT number, count - dead, written_ms FROM mixdown.event_files"
            " WHERE partition = %s AND project = %s AND day = %s",
            (self.partition, project, day),
        )
        return [DayFile(*row) for row in found]

    def before_day(self, day: int, limit: int) -> list[DayFile]:
        found = self._rows(
            "SELECT number, count - dead, written_ms FROM mixdown.event_files"
            " WHERE partition = %s AND day < %s ORDER BY day, number LIMIT %s",
            (self.partition, day, limit),
        )
        return [DayFile(*row) for row in found]
