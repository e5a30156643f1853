"""Events in store, for every engine that keeps them as hot batches and files.

Enters: `EventsWrite`s, from one process. Leaves: `Parts`, for any thread of any process. Every commit is on
disk when it returns, so the log may be trimmed up to this watermark; files are on disk before the commit that
lists them. What an engine keeps is behind `Listing`, where files lie behind `Shelf`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack

from mixdown.store import event_upkeep as upkeep
from mixdown.store.chunk import Outcome
from mixdown.store.duck import writing
from mixdown.store.event_listing import Changes, Listing, Place
from mixdown.store.event_upkeep import Upkeep
from mixdown.store.events import GRACE_MS, EventBatch, EventFile, EventsSize, EventsWrite, Parts
from mixdown.store.memory_events import without
from mixdown.store.shelves import Shelf


class FiledEvents:
    """`Events` over a listing and a shelf. Any process may open them; one alone may write.

    `before_commit`, when set, is called inside each write transaction just before its COMMIT, and `at_step`
    with a name between the steps of what happens to files: fault tests put their faults there. No file is
    unlinked while a read of `longest_read_ms` may have it on its list, unless `grace_ms` is less.
    """

    before_commit: Callable[[], None] | None = None
    at_step: Callable[[str], None] | None = None
    grace_ms = GRACE_MS
    longest_read_ms = 0

    def __init__(self, listing: Listing, shelf: Shelf) -> None:
        self.listing = listing
        self._turn = threading.RLock()  # what changes files and hot batches that are there
        self._upkeep = Upkeep(self, listing, shelf)
        self.keep_for(0)

    def watermark(self) -> int:
        return self.listing.watermark()

    def known_keys(self, keys: Sequence[bytes], *, since_ms: int) -> dict[bytes, Outcome | None]:
        return self.listing.known_keys(keys, since_ms)

    def key_window(self) -> tuple[int, int]:
        return self.listing.key_window()

    def redact_keys(self, keys: Sequence[bytes]) -> None:
        self.listing.redact_keys(keys)

    def write(self, written: EventsWrite) -> None:
        large = {
            place: batch
            for place, batch in enumerate(written.batches)
            if batch.count >= upkeep.CLOSED_EVENTS or len(batch.lines) >= upkeep.CLOSED_BYTES
        }
        with ExitStack() as stack:
            recent = [self._write_recent(stack, batch) for batch in large.values()]
            if recent:
                self.step("written")
            with self.listing.changes() as changes:
                for place, file in recent:
                    changes.add(place, file, written.now_ms)
                for number, batch in enumerate(written.batches):
                    if batch.count and number not in large:
                        changes.keep_hot(batch, written.now_ms)
                changes.write_keys(written.keys, written.now_ms)
                changes.move_watermark(written.watermark, written.begin)

    def _write_recent(self, stack: ExitStack, batch: EventBatch) -> tuple[Place, writing.Written]:
        new = stack.enter_context(self._upkeep.new_file(batch.project, None))
        written = self._upkeep.write(
            lambda workshop: writing.write_recent(workshop, [batch.lines], new.draft)
        )
        new.keep()
        return new.place, written

    def tend(self, *, busy: bool, now_ms: int) -> bool:
        with self._turn:
            self.listing.make_ready()
            return self._upkeep.piece(busy=busy, now_ms=now_ms)

    def parts(self, project: int, since_ms: int, until_ms: int) -> Parts:
        return self.listing.parts(project, since_ms, until_ms)

    def projects(self) -> list[int]:
        return self.listing.projects()

    def forget(self, project: int, ids: Collection[str], *, below: int) -> Iterator[int]:
        for number, _ in self.listing.hot_sizes(project):
            with self._turn, self.listing.changes() as changes:
                hidden = _forget_hot(changes, number, ids, below)
            yield hidden
        done: set[int] = set()
        while True:  # what is split or merged meanwhile comes again under another number
            with self._turn:
                file = self.listing.next_file(project, done)
                if file is None:
                    return
                done.add(file.number)
                hidden = self._forget_in(file, ids, below)
            yield hidden

    def _forget_in(self, file: EventFile, ids: Collection[str], below: int) -> int:
        counting, moved = self._upkeep.write(
            lambda workshop: writing.positions_of(workshop, file, ids, below)
        )
        if not counting and not moved:
            return 0
        with self.listing.changes() as changes:
            hidden = changes.kill({file.number: counting}, erased=True, now_ms=None)
            changes.kill({file.number: moved}, erased=True, now_ms=None)
            return hidden

    def forgotten(self) -> int:
        return self.listing.forgotten()

    def note_forgotten(self, position: int) -> None:
        with self.listing.changes() as changes:
            changes.note_forgotten(position)

    def drop(self, project: int) -> None:
        with self._turn, self.listing.changes() as changes:
            changes.drop_project(project)

    def owed(self, project: int) -> int:
        return self.listing.owed(project)

    def size(self, project: int | None = None) -> EventsSize:
        return self.listing.size(project)

    def close(self) -> None:
        self.listing.close()

    def step(self, name: str) -> None:
        """Between two steps of what happens to files."""
        if self.at_step is not None:
            self.at_step(name)

    def keep_for(self, days: int, on_expiry: Callable[[int, str], None] | None = None) -> None:
        """Drop days of UTC that ended over so many days ago, each as a whole; 0 keeps all.

        `on_expiry` is told how many events went, and the first day that is kept, as its name.
        """
        self.keep_days, self._on_expiry = days, on_expiry

    def expired(self, events: int, first_day: str) -> None:
        """Days before one were dropped, with so many events."""
        if self._on_expiry is not None:
            self._on_expiry(events, first_day)

    def committing(self) -> None:
        """Just before a COMMIT, inside its transaction."""
        if self.before_commit is not None:
            self.before_commit()


def _forget_hot(changes: Changes, number: int, ids: Collection[str], below: int) -> int:
    """Take events of these ids out of a hot batch; how many there were."""
    batch = changes.hot(number)
    if batch is None:  # it was closed meanwhile
        return 0
    kept, hidden = without(batch, ids, below)
    if not kept.count:
        changes.drop_hot([number])
    elif hidden:
        changes.shorten_hot(number, kept)
    return hidden
