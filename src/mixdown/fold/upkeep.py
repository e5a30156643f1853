"""The upkeep of history between steps of the fold: segments merged, old ones dropped, a little at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec

from mixdown.store.protocols import Store

LOOK_EVERY_S: Final = 1.0
"""How often it looks for something to do while records are folded."""
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


class HistoryUpkeep:
    """Calls `State.tend_history` when it is time to."""

    def __init__(self, store: Store, kept: HistoryKept, failed: Callable[[Exception], None]) -> None:
        self._store = store
        self._kept = kept
        self._failed = failed
        self._due = self._counted = 0.0
        self._many = False

    def go_on(self, *, busy: bool) -> bool:
        """Do a piece, if it is time to; whether there is more to do at once."""
        began = time.monotonic()
        if began < self._due:
            return False
        try:
            now_ms = time.time_ns() // 1_000_000
            keep_from_ms = now_ms - self._kept.days * DAY_MS if self._kept.days else now_ms + DAY_MS
            more = self._store.state.tend_history(
                keep_from_ms=keep_from_ms, limit_bytes=self._kept.limit_bytes
            )
        except Exception as error:  # noqa: BLE001 - a full disk, perhaps: the fold comes first
            self._failed(error)
            more = False
        ended = time.monotonic()
        if not more:
            self._due = ended + LOOK_EVERY_S
        elif busy:
            self._due = ended + (self._share(ended) - 1) * (ended - began)
        return more

    def _share(self, now: float) -> int:
        if now - self._counted >= LOOK_EVERY_S:
            self._counted = now
            self._many = self._store.state.history_reach().segments > MANY_SEGMENTS
        return BUSY_SHARE if self._many else EASY_SHARE
