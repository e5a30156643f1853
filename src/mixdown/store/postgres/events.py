"""Events in PostgreSQL: hot batches and the list of files in tables, files where every node reads them.

Enters: a database, a shelf, and for each partition the fence of its lease. Leaves: `Events`, of one partition
or of the whole store. What one process may write is of one partition; the whole is there to be read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, NoReturn

from mixdown.model.errors import StoreError
from mixdown.store.chunk import Outcome
from mixdown.store.events import GRACE_MS, EventsSize, EventsWrite, Parts
from mixdown.store.filed_events import FiledEvents
from mixdown.store.places import first_of
from mixdown.store.postgres import event_keys
from mixdown.store.postgres import event_reads as reads
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.event_listing import PostgresListing
from mixdown.store.shelves import NoShelf, Shelf

LOOK_AGAIN_MS: Final = 60_000
"""Where nothing was written and nothing was to do, the upkeep looks so often for what time alone brings."""


class PostgresEvents(FiledEvents):
    """`Events` of one partition. `fence` gives the fence of this process's lease on it, or raises."""

    listing: PostgresListing

    def __init__(self, database: Database, partition: int, shelf: Shelf, fence: Callable[[], int]) -> None:
        listing = PostgresListing(database, partition, shelf, fence=fence, committing=self.committing)
        super().__init__(listing, shelf)
        self._looked_ms: int | None = None
        self._fence = fence
        self._tended_under: int | None = None

    def tend(self, *, busy: bool, now_ms: int) -> bool:
        """See `Events.tend`. A store has many partitions, and most have nothing to do: no statement tells."""
        fence = self._fence()
        if fence != self._tended_under:
            self._tended_under = fence
            self._looked_ms = None
            self._upkeep.begin_anew()
        idle = self._looked_ms is not None and 0 <= now_ms - self._looked_ms < LOOK_AGAIN_MS
        if idle and not self.listing.changed:
            return False
        self.listing.changed = False
        done = super().tend(busy=busy, now_ms=now_ms)
        self._looked_ms = None if done or busy else now_ms
        return done


class WholeEvents:
    """`Events` of all partitions of a store with several: what can be said of all of them together."""

    def __init__(
        self,
        database: Database,
        shelf: Shelf,
        views: Sequence[PostgresEvents],
        partitions_of: Callable[[int], Sequence[int]],
    ) -> None:
        self._database = database
        self._shelf = shelf
        self._views = views
        self._partitions_of = partitions_of
        self._all = range(len(views))
        self._grace_ms = GRACE_MS
        self._longest_read_ms = 0

    @property
    def grace_ms(self) -> int:
        """See `Events`: that of all partitions."""
        return self._grace_ms

    @grace_ms.setter
    def grace_ms(self, value: int) -> None:
        self._grace_ms = value
        for view in self._views:
            view.grace_ms = value

    @property
    def longest_read_ms(self) -> int:
        """See `FiledEvents`: that of all partitions."""
        return self._longest_read_ms

    @longest_read_ms.setter
    def longest_read_ms(self, value: int) -> None:
        self._longest_read_ms = value
        for view in self._views:
            view.longest_read_ms = value

    def keep_for(self, days: int, on_expiry: Callable[[int, str], None]) -> None:
        """Let all partitions drop days that are older: see `FiledEvents`."""
        for view in self._views:
            view.keep_for(days, on_expiry)

    def watermark(self) -> int:
        """A number that grows whenever any partition's watermark does."""
        found = self._database.rows(
            "SELECT partition, position FROM mixdown.watermarks WHERE kind = 'events'"
        )
        return sum(position - first_of(partition) for partition, position in found)

    def known_keys(self, keys: Sequence[bytes], *, since_ms: int) -> dict[bytes, Outcome | None]:
        return event_keys.find_keys(self._database, self._all, keys, since_ms)

    def key_window(self) -> tuple[int, int]:
        return event_keys.key_window(self._database, self._all)

    def redact_keys(self, keys: Sequence[bytes]) -> None:
        for view in self._views:
            view.redact_keys(keys)

    def parts(self, project: int, since_ms: int, until_ms: int) -> Parts:
        of = self._partitions_of(project)
        return reads.parts(self._database, self._shelf, of, project, since_ms, until_ms)

    def projects(self) -> list[int]:
        return reads.projects(self._database, self._all)

    def drop(self, project: int) -> None:
        for view in self._views:
            view.drop(project)

    def owed(self, project: int) -> int:
        return reads.owed(self._database, self._all, project)

    def size(self, project: int | None = None) -> EventsSize:
        return reads.size(self._database, self._all, project)

    def write(self, written: EventsWrite) -> None:
        del written
        _refuse("write")

    def tend(self, *, busy: bool, now_ms: int) -> bool:
        del busy, now_ms
        _refuse("tend")

    def forget(self, project: int, ids: Collection[str], *, below: int) -> Iterator[int]:
        del project, ids, below
        _refuse("forget")

    def forgotten(self) -> int:
        _refuse("forgotten")

    def note_forgotten(self, position: int) -> None:
        del position
        _refuse("note_forgotten")

    def close(self) -> None:
        """Refuse further use."""
        for view in self._views:
            view.close()


def check_shelf(database: Database, shelf: Shelf) -> None:
    """See that these are the files of this database, by a mark that both have; made at the first start.

    Raises `StoreError` where they are not: on a machine, say, where nothing is mounted at the folder.
    """
    if isinstance(shelf, NoShelf):
        return
    known = str(database.value("SELECT mark FROM mixdown.event_home"))
    found = shelf.mark()
    if not found and database.value("SELECT 1 FROM mixdown.event_files LIMIT 1") is None:
        shelf.put_mark(known)
    elif found != known:
        raise StoreError(
            "events_url does not name the place of this database's files of events:"
            + (" it holds those of another" if found else " what marks it is missing there"),
            hint="Mount the folder that the other nodes have, or correct events_url.",
        )


def _refuse(what: str) -> NoReturn:
    raise StoreError(f"events.{what}: this store has several partitions, and it is asked of one of them")
