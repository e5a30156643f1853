"""What every engine keeps of stored events: hot batches, and the list of files. One protocol for all.

Enters: what `store.filed_events` and `store.event_upkeep` decide. Leaves: what is there. A `Listing` decides
nothing and touches no file; a file counts from the commit that lists it to the commit that does not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from mixdown.store.chunk import Outcome
from mixdown.store.duck.writing import RECENT, Written, day_name
from mixdown.store.events import EventBatch, EventFile, EventsSize, Parts


class Place(msgspec.Struct, frozen=True):
    """Where a file lies: the number that it alone ever has, its project and its day (None: recent)."""

    number: int
    project: int
    day: int | None

    @property
    def name(self) -> str:
        """Its path, below the folder of events."""
        folder = RECENT if self.day is None else day_name(self.day)
        return f"{self.project}/{folder}/{self.number}.parquet"


class HotBatch(msgspec.Struct, frozen=True):
    """A batch as it is kept hot: its number (in the order of the log), and since when it waits."""

    number: int
    written_ms: int
    batch: EventBatch


class Waiting(msgspec.Struct, frozen=True):
    """A project's recent files together; `of_a_day` sums the events of each file's largest day."""

    project: int
    events: int
    of_a_day: int
    files: int
    oldest_ms: int
    erased: int


class RecentFile(msgspec.Struct, frozen=True):
    """What decides with which others a recent file is split."""

    number: int
    events: int
    largest_day: int


class DayFile(msgspec.Struct, frozen=True):
    """What decides with which others a file of a day is merged: `events` are those that count."""

    number: int
    events: int
    written_ms: int


class Changes(Protocol):
    """One write transaction: all of it is on disk when its block ends, or none."""

    def add(self, place: Place, written: Written, now_ms: int) -> None:
        """List a file that is on disk."""

    def count_as_written(self, number: int, *, like: Sequence[int]) -> None:
        """Let a file count as written when the newest of others was."""

    def remove(self, numbers: Iterable[int], now_ms: int | None) -> None:
        """List files no more; they are unlinked when no read can have them on its list."""

    def move_on(self, files: Iterable[EventFile], begin_ms: int, now_ms: int) -> None:
        """Let recent files begin at a time: what lies before it stands in files of days."""

    def kill(self, rows: Mapping[int, Sequence[int]], *, erased: bool, now_ms: int | None) -> int:
        """Note rows of files as dead; how many were not before. A file of which no row is left goes."""

    def note_removal(self, now_ms: int) -> None:
        """Let the files that were removed without a clock count as removed now."""

    def removed(self, places: Sequence[Place]) -> None:
        """Forget files that were unlinked."""

    def keep_hot(self, batch: EventBatch, written_ms: int, *, number: int | None = None) -> None:
        """Keep a batch hot, behind all others or under a number that is free."""

    def hot(self, number: int) -> EventBatch | None:
        """A hot batch; None where it is gone."""

    def shorten_hot(self, number: int, batch: EventBatch) -> None:
        """Keep less of a hot batch."""

    def drop_hot(self, numbers: Sequence[int]) -> None:
        """Keep hot batches no more."""

    def drop_project(self, project: int) -> None:
        """Keep no hot batch of a project, list no file of it, and let those count as erased."""

    def write_keys(self, keys: Sequence[tuple[bytes, int, Outcome | None]], now_ms: int) -> None:
        """Keep request keys, and drop what has left their window."""

    def move_watermark(self, watermark: int, begin: int | None) -> None:
        """The log is taken up to here, from `begin` on (`EventsWrite.begin`)."""

    def note_forgotten(self, position: int) -> None:
        """Erasures are carried through up to here."""


class Listing(Protocol):
    """Hot batches and files of one partition, as an engine keeps them. Safe to use from many threads."""

    def changes(self) -> AbstractContextManager[Changes]:
        """A write transaction; one at a time."""

    def close(self) -> None:
        """See `Events.close`."""

    def make_ready(self) -> None:
        """Before anything else is done to files: see to what an earlier process left unlisted."""

    def place(self, project: int, day: int | None) -> Place:
        """Where a new file goes: its number was never given to another that was listed."""

    def is_free(self, place: Place, error: Exception) -> bool:
        """Whether a file that was to be listed, and failed with this error, is surely not: it may go."""

    def give_up(self, place: Place) -> None:
        """A file that was to be listed is unlinked. Raises nothing: what is not noted is seen to later."""

    def release(self, place: Place) -> None:
        """Nobody makes this file any more: if it is not listed by now it never will be."""

    def watermark(self) -> int:
        """See `Events.watermark`."""

    def forgotten(self) -> int:
        """See `Events.forgotten`."""

    def known_keys(self, keys: Sequence[bytes], since_ms: int) -> dict[bytes, Outcome | None]:
        """See `Events.known_keys`."""

    def key_window(self) -> tuple[int, int]:
        """See `Events.key_window`."""

    def redact_keys(self, keys: Sequence[bytes]) -> None:
        """See `Events.redact_keys`; from any process."""

    def parts(self, project: int, since_ms: int, until_ms: int) -> Parts:
        """See `Events.parts`."""

    def projects(self) -> list[int]:
        """See `Events.projects`."""

    def owed(self, project: int) -> int:
        """See `Events.owed`."""

    def size(self, project: int | None) -> EventsSize:
        """See `Events.size`."""

    # --- what the upkeep asks

    def unnoted(self) -> bool:
        """Whether files were removed without a clock."""

    def due(self, before_ms: int, erased_before_ms: int, limit: int) -> list[Place]:
        """Files that were listed no more before a time; another where they hold what was erased.

        And those that were never listed, and never will be.
        """

    def to_close(self, events: int, size_bytes: int, before_ms: int) -> int | None:
        """A project with so many hot events or bytes, or with any that wait since before a time."""

    def hot_sizes(self, project: int) -> list[tuple[int, int]]:
        """A project's hot batches, as (number, bytes), oldest first."""

    def hot_lines(self, number: int) -> bytes:
        """The lines of a hot batch."""

    def to_gather(self, below_bytes: int, batches: int) -> int | None:
        """A project with so many hot batches below a size."""

    def small_batches(self, project: int, below_bytes: int, limit: int) -> list[HotBatch]:
        """A project's hot batches below a size, oldest first."""

    def being_split(self) -> list[EventFile]:
        """The recent files of a project that are split in part."""

    def waiting(self) -> list[Waiting]:
        """Recent files by project, the project with the oldest one first."""

    def recent(self, project: int, limit: int) -> list[RecentFile]:
        """A project's oldest recent files."""

    def files(self, numbers: Sequence[int]) -> list[EventFile]:
        """These files, by number, as far as they are listed."""

    def next_file(self, project: int, done: Collection[int]) -> EventFile | None:
        """A project's file with the least number that is not among those done."""

    def overlapping(self, project: int, day: int, first_ms: int, last_ms: int) -> list[EventFile]:
        """Files of a day that may hold events of a span."""

    def to_rewrite(self, share: int, *, busy: bool) -> EventFile | None:
        """A file of a day of which one row in so many is dead, or any is erased; if busy, those alone."""

    def days_of_many(self) -> list[tuple[int, int]]:
        """(project, day) where a day has more than one file."""

    def of_day(self, project: int, day: int) -> list[DayFile]:
        """The files of a day."""

    def before_day(self, day: int, limit: int) -> list[DayFile]:
        """Files of days before one, the oldest day first."""
