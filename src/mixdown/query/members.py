"""Who did what a list of profiles asks for, from page to page.

What is counted of events enters, and the id that a page goes on behind; ids leave, ascending. Counting takes
as long as a report, and a list has many pages: so what a first page counted is kept for those behind it, for
a while and in bounded memory. A first page is counted anew, always; nobody who was erased is told of again.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

import msgspec

from mixdown.query.behaviors import Acted
from mixdown.store.privacy import Erasures
from mixdown.store.protocols import Store

KEPT_S: Final = 60.0
ROOM_BYTES: Final = 16 * 1024 * 1024
"""All lists together take this in a worker, and each a quarter of it."""
_ID_BYTES: Final = 64
"""What an id takes beside its characters, roughly."""
_LIST_BYTES: Final = 16 * 1024
"""What a list takes beside its ids: its question, mostly."""
_AHEAD_S: Final = 0.05
"""What is asked ahead takes at most so long, or as long as counting did."""


class _Kept(msgspec.Struct, frozen=True):
    """Those behind `after`, ascending, as they were counted at `at_s`: all of them, or the first."""

    after: str
    ids: list[str]
    is_whole: bool
    at_s: float
    erasures: Erasures
    size_bytes: int

    def goes_on(self, after: str) -> bool:
        """Whether it has all that come next behind an id."""
        return self.after <= after and (self.is_whole or (bool(self.ids) and after < self.ids[-1]))


class Members:
    """Counts who did something, and keeps some of it; safe to use from many threads."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Any, ...], _Kept] = OrderedDict()

    def ids(self, acted: Acted, after: str) -> Iterator[str]:
        """The ids behind `after`; "" is the first page. Blocks. Raises `QueryError`, `StoreError`."""
        kept = self._find(acted, after) if after else None
        if kept is None:
            yield from self._count(acted, after)
            return
        yield from islice(kept.ids, bisect_right(kept.ids, after), None)
        if not kept.is_whole:
            yield from self._count(acted, kept.ids[-1])

    def _find(self, acted: Acted, after: str) -> _Kept | None:
        question = acted.question
        if question is None:
            return None
        with self._lock:
            kept = self._kept.get(question)
        if kept is None or not kept.goes_on(after) or self._clock() - kept.at_s >= KEPT_S:
            return None
        erasures = self._store.privacy.erasures(acted.project)
        return kept if erasures == kept.erasures and not erasures.under_way else None

    def _count(self, acted: Acted, after: str) -> Iterator[str]:
        """Count, and keep what can be had in little more time; what is behind that follows all the same."""
        question = acted.question
        erasures = self._store.privacy.erasures(acted.project)
        began = self._clock()
        found = (one for one in acted.ids() if one > after)
        ids = list(islice(found, 1))
        counted = self._clock()
        until, size_bytes, is_whole = counted + max(_AHEAD_S, counted - began), _LIST_BYTES, not ids
        while question is not None and not is_whole and size_bytes < ROOM_BYTES // 4:
            one = next(found, None)
            is_whole = one is None
            if one is not None:
                ids.append(one)
                size_bytes += _ID_BYTES + len(one)
            if self._clock() >= until:
                break
        if question is not None:
            self._keep(question, _Kept(after, ids, is_whole, began, erasures, size_bytes))
        yield from ids
        yield from found

    def _keep(self, question: tuple[Any, ...], kept: _Kept) -> None:
        with self._lock:
            self._kept[question] = kept
            self._kept.move_to_end(question)
            room = ROOM_BYTES - sum(each.size_bytes for each in self._kept.values())
            while room < 0:
                _, dropped = self._kept.popitem(last=False)
                room += dropped.size_bytes
