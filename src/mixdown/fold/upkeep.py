"""What the fold's loop does between two steps, a little at a time: history's upkeep, counts and indexes.

A store enters; nothing leaves. It must take no more of the time than its share while records come in, and
never stop the loop: what fails is told, and tried again.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

import msgspec

from mixdown.store.protocols import Store

LOOK_EVERY_S: Final = 1.0
"""How often it looks for something to do, and tries again what failed."""
COUNTED_AT_ONCE: Final = 1000
COUNTING_SHARE: Final = 10
"""While records come in, one part in so many of the time goes to counting what was never counted."""
DAY_MS: Final = 24 * 3600 * 1000
MANY_SEGMENTS: Final = 512
"""A read of one profile looks into each, at half a millisecond or so."""
BUSY_SHARE: Final = 10
EASY_SHARE: Final = 50
"""While records come in, one part in so many of the time goes to the upkeep, the latter while segments
are few: what is merged beside a load is taken from it, and an idle minute merges as well."""


class HistoryKept(msgspec.Struct, frozen=True):
    """How much history is kept: days (0: none at all), and bytes (0: no bound)."""

    days: int = 90
    limit_bytes: int = 0


class BetweenSteps(ABC):
    """Work in pieces that a loop offers a turn between two steps, with a share of the time under load."""

    def __init__(self, store: Store, failed: Callable[[Exception], None]) -> None:
        self._store = store
        self._failed = failed
        self._due = 0.0

    def go_on(self, *, busy: bool) -> bool:
        """Do a piece, if it is time to; whether there was anything to be done."""
        began = time.monotonic()
        if began < self._due:
            return False
        try:
            more = self._piece()
            ended = time.monotonic()
            share = self._share(ended) if more and busy else 1
        except Exception as error:  # noqa: BLE001 - a full disk, perhaps: the fold comes first
            self._failed(error)
            more, ended = False, time.monotonic()
        if not more:
            self._due = ended + LOOK_EVERY_S
        elif busy:
            self._due = ended + (share - 1) * (ended - began)
        return more

    @abstractmethod
    def _piece(self) -> bool:
        """Do a piece; whether there was anything to be done."""

    @abstractmethod
    def _share(self, now: float) -> int:
        """One part in so many of the time is its share while records come in."""


class Counting(BetweenSteps):
    """Counts and indexes what was stored without, a few profiles at a time, until nothing is left.

    Indexes may be asked for at any time: every second it looks whether one was.
    """

    _counted = False

    def _piece(self) -> bool:
        state = self._store.state
        self._counted = self._counted or not state.count_properties(COUNTED_AT_ONCE)
        return not self._counted or state.build_indexes(COUNTED_AT_ONCE)

    def _share(self, now: float) -> int:
        del now
        return COUNTING_SHARE


class HistoryUpkeep(BetweenSteps):
    """Merges segments of history and drops old ones."""

    def __init__(self, store: Store, kept: HistoryKept, failed: Callable[[Exception], None]) -> None:
        super().__init__(store, failed)
        self._kept = kept
        self._looked = 0.0
        self._many = False

    def _piece(self) -> bool:
        now_ms = time.time_ns() // 1_000_000
        keep_from_ms = now_ms - self._kept.days * DAY_MS if self._kept.days else now_ms + DAY_MS
        return self._store.state.tend_history(keep_from_ms=keep_from_ms, limit_bytes=self._kept.limit_bytes)

    def _share(self, now: float) -> int:
        if now - self._looked >= LOOK_EVERY_S:
            self._looked = now
            self._many = self._store.state.history_reach().segments > MANY_SEGMENTS
        return BUSY_SHARE if self._many else EASY_SHARE


class LookupUpkeep(BetweenSteps):
    """Takes away what lookup tables held before they were replaced."""

    def _piece(self) -> bool:
        return self._store.lookup_tables.tidy(time.time_ns() // 1_000_000)

    def _share(self, now: float) -> int:
        del now
        return EASY_SHARE
