"""The gate before ingestion: it slows writers down, then turns them away, before anything fills up.

DESIGN G7: from 80 % of the backlog limit replies are held back up to one second; past the limit, or
when the disk runs short, writes get 503 with Retry-After while the log's readers go on. What waits for the
reader that is further behind counts, in all partitions together.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from mixdown.model import texts
from mixdown.model.errors import NodeDownError, OverloadedError
from mixdown.store.protocols import Store

SLOW_FROM: Final = 0.8
HOLD_BACK_LIMIT_S: Final = 1.0


class GateLimits(msgspec.Struct, frozen=True):
    """Where the gate slows and closes; 0 switches a limit off."""

    backlog_records: int
    backlog_bytes: int
    disk_reserve_bytes: int
    disk_reserve_percent: int


class Gate:
    """Remembers the last look at backlog and disk; `look` is cheap but blocks, `check` never does."""

    def __init__(self, store: Store, folder: Path | None, limits: GateLimits) -> None:
        self._store = store
        self._partitions = range(store.partition_count)
        self._folder = folder
        self._limits = limits
        self._fill = 0.0
        self._reason = ""

    def look(self) -> None:
        """Measure backlog and free disk.

        While a node of a cluster is down it cannot be told what waits: the last look stands, and what lies on
        other nodes is taken on.
        """
        fill = self._fill
        with suppress(NodeDownError):
            fill = self._backlog()
        reason = ""
        if fill >= 1.0:
            reason = texts.OVERLOADED_BACKLOG
        elif self._short_of_disk():
            reason = texts.OVERLOADED_DISK
        self._fill = fill
        self._reason = reason  # in one step: requests are checked while this looks

    def _backlog(self) -> float:
        """What waits, as a part of what may."""
        limits = self._limits
        behind = 0
        size = 0.0
        for place in self._store.places(self._partitions):
            waiting = place.head - place.slowest
            behind += waiting
            if limits.backlog_bytes and waiting > 0:
                log = self._store.partition(place.partition).log
                held = max(1, place.head - log.tail_position())
                size += log.size_bytes() * (waiting / held)
        fill = behind / limits.backlog_records if limits.backlog_records else 0.0
        if limits.backlog_bytes:
            fill = max(fill, size / limits.backlog_bytes)
        return fill

    def _short_of_disk(self) -> bool:
        if self._folder is None:
            return False
        disk = os.statvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize
        whole = disk.f_blocks * disk.f_frsize
        limits = self._limits
        return free < max(limits.disk_reserve_bytes, whole * limits.disk_reserve_percent // 100)

    @property
    def reason(self) -> str:
        """Why writes are turned away now; "" while they are not."""
        return self._reason

    def check(self) -> float:
        """Seconds to hold a reply back. Raises `OverloadedError` while the gate is closed."""
        if self._reason:
            raise OverloadedError(self._reason, retry_after_s=5)
        if self._fill <= SLOW_FROM:
            return 0.0
        return HOLD_BACK_LIMIT_S * min(1.0, (self._fill - SLOW_FROM) / (1.0 - SLOW_FROM))
