"""Read your writes (DESIGN §1.5, G4): a read waits until the log's readers have passed its head.

What enters: a store, a bound in milliseconds, and which readers and ids the answer depends on. What leaves:
how many records it is still behind, 0 nearly always. It must never wait past its bound, nor hold a thread
meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from typing import Final, NamedTuple

from mixdown.store.chunk import FOR_ALL, FOR_EVENTS, FOR_PROFILES
from mixdown.store.privacy import hashes_of
from mixdown.store.protocols import Store

FIRST_PAUSE_S: Final = 0.0005
LONGEST_PAUSE_S: Final = 0.003
PAUSE_GROWTH: Final = 1.4
_READERS: Final = (FOR_PROFILES, FOR_EVENTS)
_NAMED_LIMIT: Final = 100
"""Of more ids than these, some chunk that waits will hold one: a read of them waits without a look."""
_LOOKED_LIMIT: Final = 100_000
"""How many records that wait are looked through for these ids: of more, the fold is late anyway."""


class Named(NamedTuple):
    """The profiles, by any of their ids, that an answer depends on, and no others."""

    project: int
    ids: Sequence[str]


class _Wanted(NamedTuple):
    """What a read waits for: that the readers of these kinds of chunks come to a position."""

    head: int
    kinds: int


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

    async def wait(self, bound_ms: int, kinds: int = FOR_PROFILES, named: Named | None = None) -> int:
        """Wait until the readers of `kinds` have passed the log's head as it stands now.

        `FOR_PROFILES` is the fold (profiles and identities), `FOR_EVENTS` the reader of events. A reader has
        passed what is of no interest to it; where the answer depends on the profiles `named` alone, it is of
        no interest what holds none of their ids. Returns 0 as soon as all are there, or how many records the
        last of them still has before it once `bound_ms` have passed (0: looks once and does not wait).
        Raises `StoreError`.
        """
        loop = asyncio.get_running_loop()
        head, places = await loop.run_in_executor(self._executor, self._head_and_places, kinds, named)
        place = _last(places, kinds)
        if place >= head or bound_ms <= 0:
            return max(0, head - place)
        passed = loop.create_future()
        self._waiting[passed] = _Wanted(head, kinds)
        self._pause = FIRST_PAUSE_S  # whoever came last is most likely served next
        if self._looking is None:
            self._looking = loop.create_task(self._look())
        try:
            await asyncio.wait_for(passed, bound_ms / 1000)
        except TimeoutError:
            places = await loop.run_in_executor(self._executor, self._places, kinds)
            return max(0, head - _last(places, kinds))
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
                kinds = FOR_ALL if len({each.kinds for each in self._waiting.values()}) > 1 else 0
                kinds = kinds or next(iter(self._waiting.values())).kinds
                places = await loop.run_in_executor(self._executor, self._places, kinds)
                waiting = list(self._waiting.items())
                self._settle([passed for passed, wanted in waiting if _has_passed(places, wanted)])
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

    def _head_and_places(self, kinds: int, named: Named | None) -> tuple[int, Mapping[int, int]]:
        """The log's head, and how far readers are, in this order; at the head where none of `named` waits."""
        head = self._store.log.head()
        places = self._places(kinds)
        place = _last(places, kinds)
        if named is not None and place < head and not self._may_concern(named, place, head):
            return head, dict.fromkeys(places, head)
        return head, places

    def _may_concern(self, named: Named, place: int, head: int) -> bool:
        """Whether a chunk between these positions may hold something of these profiles.

        Their ids are looked up once `place` is known: a link that makes them more meanwhile lies behind it,
        and names one of those that are known.
        """
        if head - place > _LOOKED_LIMIT:
            return True
        ids = set(named.ids)
        if len(ids) <= _NAMED_LIMIT and named.project in self._store.state.linked_projects():
            for one in named.ids:
                ids.update(self._store.state.linked(named.project, one, limit=_NAMED_LIMIT + 1))
        if len(ids) > _NAMED_LIMIT:
            return True
        hashes = hashes_of(ids)
        while place < head:
            found, place = self._store.log.holding(hashes, begin=place, below=head)
            if found:
                return True
        return False

    def _places(self, kinds: int) -> Mapping[int, int]:
        """How far the reader of each of these kinds has come."""
        found = {}
        for kind in _READERS:
            if kinds & kind:
                events = kind == FOR_EVENTS
                watermark = self._store.events.watermark() if events else self._store.state.watermark()
                found[kind] = self._store.log.next_of(watermark, kind)
        return found


def _last(places: Mapping[int, int], kinds: int) -> int:
    """The place of the one of these readers that is furthest behind."""
    return min(place for kind, place in places.items() if kinds & kind)


def _has_passed(places: Mapping[int, int], wanted: _Wanted) -> bool:
    """Whether all readers that a read waits for have come so far; not known of one that was not looked at."""
    asked = [kind for kind in _READERS if wanted.kinds & kind]
    return all(kind in places and places[kind] >= wanted.head for kind in asked)
