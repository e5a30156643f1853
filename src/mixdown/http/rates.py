"""Optional rate limits per project: which requests are turned away with 429, and for how long.

The settings, the catalog and what a request brings enter; nothing leaves, or a `RateLimitedError`. All
workers of a server share one file of buckets, so that a limit holds over all of them. It never counts a
request that it turns away, and costs one comparison while no limit is set.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import mmap
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from mixdown.model import texts
from mixdown.model.errors import RateLimitedError
from mixdown.settings import Settings
from mixdown.store.catalog_cache import CatalogCache

BURST_S: Final = 10.0
"""A bucket of writes holds so many seconds of its rate: what an idle project may send at once."""
HOUR_S: Final = 3600.0
RETRY_LIMIT_S: Final = 3600
PROJECTS: Final = 65_536
"""Buckets in the file; projects so far apart in number would share one."""
NO_PROJECT: Final = 0
"""Stands for records whose token no project has: the server's own limits apply to all of them together."""

RECORDS: Final = "records"
REQUESTS: Final = "requests"
QUERIES: Final = "queries"
_KINDS: Final = (RECORDS, REQUESTS, QUERIES, "")
_FILE_BYTES: Final = PROJECTS * len(_KINDS) * 8


class Limits(msgspec.Struct, frozen=True):
    """A project's limits in force; 0: none."""

    records_per_s: int
    requests_per_s: int
    queries_per_hour: int

    @property
    def on_writes(self) -> bool:
        """Whether writes are limited at all."""
        return bool(self.records_per_s or self.requests_per_s)


class Buckets:
    """Token buckets, kept as the time at which each is full again: one number for one bucket.

    With a file, all processes that open it share the buckets, one at a time.
    """

    def __init__(self, file: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._fd = -1
        memory: mmap.mmap | bytearray = bytearray(0)
        if file is None:
            memory = bytearray(_FILE_BYTES)
        else:
            self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if os.fstat(self._fd).st_size < _FILE_BYTES:
                os.ftruncate(self._fd, _FILE_BYTES)  # a hole: it takes no more disk than buckets in use
            memory = mmap.mmap(self._fd, _FILE_BYTES)
        self._full_at = memoryview(memory).cast("d")

    def take(self, asked: list[tuple[str, int, float, float]]) -> tuple[str, int, float] | None:
        """Take from all buckets, or from none.

        Args:
            asked: for each bucket its kind and project, the seconds of its rate to take, and how many
                seconds of its rate it holds. What is more than a bucket holds is had of a full one.

        Returns:
            None; or kind and project of the bucket that lacks most, and after how many seconds to ask again.
        """
        with alone(self._fd):
            now = self._clock()
            worst: tuple[str, int, float] | None = None
            taken: list[tuple[int, float]] = []
            for kind, project, cost_s, size_s in asked:
                index = _index(kind, project)
                full_at = max(now, self._full_at[index])
                short_s = full_at + min(cost_s, size_s) - now - size_s
                if short_s > 1e-9 and (worst is None or short_s > worst[2]):
                    worst = (kind, project, short_s)
                taken.append((index, full_at + cost_s))
            if worst is None:
                for index, full_at in taken:
                    self._full_at[index] = full_at
            return worst


@contextlib.contextmanager
def alone(fd: int) -> Iterator[None]:
    """Hold a file of buckets against all other processes; nothing is held where `fd` is less than 0."""
    if fd < 0:
        yield
        return
    fcntl.lockf(fd, fcntl.LOCK_EX)  # held for microseconds, and freed when its holder dies
    try:
        yield
    finally:
        fcntl.lockf(fd, fcntl.LOCK_UN)


def _index(kind: str, project: int) -> int:
    return (project % PROJECTS) * len(_KINDS) + _KINDS.index(kind)


class RateLimits:
    """The limits of all projects, as the settings and the catalog have them now."""

    def __init__(
        self,
        settings: Settings,
        catalog: CatalogCache,
        file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._file = file
        self._clock = clock
        self._buckets: Buckets | None = None
        self._version = -1
        self._limits: dict[int, Limits] = {}
        self._on_writes = False

    @property
    def on_writes(self) -> bool:
        """Whether any project's writes are limited, as of the catalog's last refresh."""
        if self._version != self._catalog.version:
            self._look()
        return self._on_writes

    def admit_write(self, tokens: Mapping[str, int]) -> None:
        """Let a request pass that brings so many records for each token, or none of it.

        Raises `RateLimitedError`.
        """
        records: dict[int, int] = {}
        known = self._catalog.tokens
        for token, count in tokens.items():
            project = known.get(token, NO_PROJECT)
            records[project] = records.get(project, 0) + count
        asked = []
        for project, count in records.items():
            limits = self._of(project)
            if limits.records_per_s:
                asked.append((RECORDS, project, count / limits.records_per_s, BURST_S))
            if limits.requests_per_s:
                asked.append((REQUESTS, project, 1 / limits.requests_per_s, BURST_S))
        short = self._take(asked)
        if short is not None:
            kind, project, short_s = short
            self._catalog.refresh_beside()  # only commits look at it otherwise: there may be none for long
            raise RateLimitedError(
                texts.RATE_LIMITED, retry_after_s=_whole(short_s), limit=kind, project=project
            )

    def admit_query(self, project: int) -> None:
        """Let a query pass. Raises `RateLimitedError`."""
        if self._version != self._catalog.version:
            self._look()
        limit = self._of(project).queries_per_hour
        if not limit:
            return
        short = self._take([(QUERIES, project, HOUR_S / limit, HOUR_S)])
        if short is not None:
            retry_s = _whole(short[2])
            raise RateLimitedError(
                texts.QUERY_RATE_LIMITED.format(project=project, limit=limit, seconds=retry_s),
                retry_after_s=retry_s,
                limit=QUERIES,
                project=project,
            )

    def _of(self, project: int) -> Limits:
        return self._limits.get(project) or self._limits[NO_PROJECT]

    def _take(self, asked: list[tuple[str, int, float, float]]) -> tuple[str, int, float] | None:
        if not asked:
            return None
        if self._buckets is None:
            self._buckets = Buckets(self._file, self._clock)
        return self._buckets.take(asked)

    def _look(self) -> None:
        self._version = self._catalog.version  # before the rows: a change in between is seen next time
        settings = self._settings
        common = (
            settings.rate_limit_records_per_s,
            settings.rate_limit_requests_per_s,
            settings.rate_limit_queries_per_hour,
        )
        self._limits = {NO_PROJECT: Limits(*common)}
        for project in self._catalog.projects.values():
            own = (
                project.rate_limit_records_per_s,
                project.rate_limit_requests_per_s,
                project.rate_limit_queries_per_hour,
            )
            chosen = [given if mine is None else mine for mine, given in zip(own, common, strict=True)]
            self._limits[project.id] = Limits(*chosen)
        self._on_writes = any(limits.on_writes for limits in self._limits.values())


def _whole(seconds: float) -> int:
    """A wait as `Retry-After` gives it: whole seconds, from 1 to an hour."""
    return min(RETRY_LIMIT_S, max(1, math.ceil(seconds)))
