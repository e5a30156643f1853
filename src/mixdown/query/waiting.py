"""Read your writes (DESIGN §1.5, G4): a read waits until the log's readers have passed its head.

What enters: a store, a bound in milliseconds, and which readers and ids the answer depends on. What leaves:
how many records it is still behind, 0 nearly always. It must never wait past its bound, nor hold a thread
meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Final, NamedTuple

from mixdown.store.chunk import FOR_EVENTS, FOR_PROFILES
from mixdown.store.places import Place
from mixdown.store.privacy import hashes_of
from mixdown.store.protocols import Store

FIRST_PAUSE_S: Final = 0.0005
LONGEST_PAUSE_S: Final = 0.003
PAUSE_GROWTH: Final = 1.4
_NAMED_LIMIT: Final = 100
"""Of more ids than these, some chunk that waits will hold one: a read of them waits without a look."""
_LOOKED_LIMIT: Final = 100_000
"""How many records that wait are looked through for these ids: of more, the fold is late anyway."""


class Named(NamedTuple):
    """The profiles, by any of their ids, that an answer depends on, and no others."""

    project: int
    ids: Sequence[str]


class _Wanted(NamedTuple):
    """What a read waits for: that the readers of these kinds of chunks come to a head in each partition."""

    heads: Mapping[int, int]
    kinds: int

    def left(self, places: Iterable[Place]) -> int:
        """How many records the readers still have before them; 0: all have passed."""
        return sum(
            max(0, self.heads[place.partition] - _last(place, self.kinds))
            for place in places
            if place.partition in self.heads
        )


class ReaderWatch:
    """Waits for the log's readers on behalf of all reads of one worker: however many wait, one looks.

    Belongs to one event loop; `executor` runs what blocks.
    """

    def __init__(self, store: Store, executor: Executor) -> None:
        self._store = store
        self._executor = executor
        self._waiting: dict[asyncio.Future[None], _Wanted] = {}
        self._looking: asyncio.Task[None] | None = None
        self._pause = FIRST_PAUSE_S

    async def wait(
        self,
        bound_ms: int,
        kinds: int = FOR_PROFILES,
        named: Named | None = None,
        *,
        project: int | None = None,
    ) -> int:
        """Wait until the readers of `kinds` have passed the log's head as it stands now.

        `FOR_PROFILES` is the fold (profiles and identities), `FOR_EVENTS` the reader of events. A reader has
        passed what is of no interest to it; where the answer depends on the profiles `named` alone, it is of
        no interest what holds none of their ids. Of a store with several partitions those of the `project`
        count (None: that of `named`, or else all). Returns 0 as soon as all are there, or how many records
        they still have before them once `bound_ms` have passed (0: looks once and does not wait). Raises
        `StoreError`.
        """
        loop = asyncio.get_running_loop()
        if named is not None:
            project = named.project
        wanted, behind = await loop.run_in_executor(self._executor, self._wanted, kinds, named, project)
        if not behind or bound_ms <= 0:
            return behind
        passed = loop.create_future()
        self._waiting[passed] = wanted
        self._pause = FIRST_PAUSE_S  # whoever came last is most likely served next
        if self._looking is None:
            self._looking = loop.create_task(self._look())
        try:
            await asyncio.wait_for(passed, bound_ms / 1000)
        except TimeoutError:
            places = await loop.run_in_executor(self._executor, self._places, [*wanted.heads], kinds)
            return wanted.left(places)
        finally:
            self._waiting.pop(passed, None)
            if not self._waiting and self._looking is not None:
                self._looking.cancel()
                self._looking = None
        return 0

    async def _look(self) -> None:
        """Look at the watermarks as long as anybody waits, at growing intervals."""
        loop = asyncio.get_running_loop()
        try:
            while True:  # the last read that waited ends it
                await asyncio.sleep(self._pause)
                self._pause = min(self._pause * PAUSE_GROWTH, LONGEST_PAUSE_S)
                kinds = 0
                partitions: set[int] = set()
                for wanted in self._waiting.values():
                    kinds |= wanted.kinds
                    partitions.update(wanted.heads)
                places = await loop.run_in_executor(self._executor, self._places, [*partitions], kinds)
                seen = _Seen({place.partition for place in places}, kinds)
                waiting = [pair for pair in self._waiting.items() if seen.covers(pair[1])]
                self._settle([passed for passed, wanted in waiting if not wanted.left(places)])
        except Exception as error:  # noqa: BLE001 - whatever it is, each read that waits must be told
            self._looking = None
            self._settle(list(self._waiting), error)

    def _settle(self, those: Collection[asyncio.Future[None]], error: Exception | None = None) -> None:
        for passed in those:
            del self._waiting[passed]
            if passed.done():
                continue
            if error is None:
                passed.set_result(None)
            else:
                passed.set_exception(error)

    def _wanted(self, kinds: int, named: Named | None, project: int | None) -> tuple[_Wanted, int]:
        """Where the readers must come to, in partitions where something waits, and how much that is."""
        store = self._store
        partitions = range(store.partition_count) if project is None else store.partitions_of(project)
        places = [place for place in self._places(partitions, kinds) if place.head > _last(place, kinds)]
        if places and named is not None:
            places = self._concerning(named, places, kinds)
        wanted = _Wanted({place.partition: place.head for place in places}, kinds)
        return wanted, wanted.left(places)

    def _concerning(self, named: Named, places: list[Place], kinds: int) -> list[Place]:
        """The partitions where a chunk that waits may hold something of these profiles.

        Their ids are looked up once the places are known: a link that makes them more meanwhile lies behind
        them, and names one of those that are known.
        """
        ids = set(named.ids)
        if len(ids) <= _NAMED_LIMIT and named.project in self._store.state.linked_projects():
            for one in named.ids:
                ids.update(self._store.state.linked(named.project, one, limit=_NAMED_LIMIT + 1))
        if len(ids) > _NAMED_LIMIT:
            return places
        hashes = hashes_of(ids)
        return [place for place in places if self._may_hold(hashes, place, kinds)]

    def _may_hold(self, hashes: frozenset[int], place: Place, kinds: int) -> bool:
        """Whether a chunk that waits in a partition may hold one of these ids."""
        at = _last(place, kinds)
        if place.head - at > _LOOKED_LIMIT:
            return True
        log = self._store.partition(place.partition).log
        while at < place.head:
            found, at = log.holding(hashes, begin=at, below=place.head)
            if found:
                return True
        return False

    def _places(self, partitions: Sequence[int], kinds: int) -> Sequence[Place]:
        """How far these partitions are, and in them the readers of these kinds of chunks."""
        return self._store.places(partitions, kinds)


class _Seen(NamedTuple):
    """What one look was about: who came while it went on is served by the next."""

    partitions: set[int]
    kinds: int

    def covers(self, wanted: _Wanted) -> bool:
        """Whether it tells what a read waits for."""
        return not wanted.kinds & ~self.kinds and self.partitions.issuperset(wanted.heads)


def _last(place: Place, kinds: int) -> int:
    """The place of the one of these readers that is furthest behind."""
    if not kinds & FOR_EVENTS:
        return place.profiles
    return place.slowest if kinds & FOR_PROFILES else place.events
