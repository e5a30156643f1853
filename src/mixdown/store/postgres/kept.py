"""Documents that a process has just written: it need not ask the database for them again.

Enters: what a fold transaction wrote, when it is on disk. Leaves: the same, for the next step of whoever
holds the same lease. Only the holder of a lease writes a partition's profiles, and what it writes on a stale
belief fails with its fence: so these documents are those of the table as long as the holder's writes succeed.
Whoever has lost that certainty drops what it kept. The oldest go first; a process keeps a bounded number of
bytes for all of its partitions together.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

from mixdown.store.protocols import ProfileKey

KEPT_BYTES: Final = 128 * 1024 * 1024
"""So much a process keeps at most, by estimate."""
_ENTRY_BYTES: Final = 400
"""What an entry takes beside its document: its key, its place."""


class Kept:
    """A process's documents, of all partitions that it folds. Any thread may."""

    def __init__(self, limit_bytes: int = KEPT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._guard = threading.Lock()
        # A plain dict looks past all that went before it finds its first.
        self._documents: OrderedDict[tuple[int, ProfileKey], bytes] = OrderedDict()
        self._owners = itertools.count()

    def owner(self) -> OwnKept:
        """A share for one who holds one lease, until the lease is lost."""
        return OwnKept(self, next(self._owners))

    def find(self, owner: int, keys: Sequence[ProfileKey]) -> list[bytes | None]:
        """What is kept of these profiles, in their order; None where it is not."""
        get = self._documents.get
        return [get((owner, key)) for key in keys]

    def put(self, owner: int, profiles: Iterable[tuple[ProfileKey, bytes | None]]) -> None:
        """Keep documents in place of those that were kept; None: the profile is gone."""
        with self._guard:
            documents, pop = self._documents, self._documents.pop
            size = self._bytes
            for key, document in profiles:
                place = owner, key
                before = pop(place, None)
                if before is not None:
                    size -= len(before) + _ENTRY_BYTES
                if document is not None:
                    documents[place] = document
                    size += len(document) + _ENTRY_BYTES
            while size > self._limit_bytes:
                size -= len(documents.popitem(last=False)[1]) + _ENTRY_BYTES
            self._bytes = size

    def drop(self, owner: int) -> None:
        """Forget all that an owner keeps."""
        with self._guard:
            for place in [place for place in self._documents if place[0] == owner]:
                self._bytes -= len(self._documents.pop(place)) + _ENTRY_BYTES


class OwnKept:
    """What one holder of one lease keeps."""

    def __init__(self, kept: Kept, number: int) -> None:
        self._kept = kept
        self._number = number

    def find(self, keys: Sequence[ProfileKey]) -> list[bytes | None]:
        """What is kept of these profiles, in their order; None where it is not."""
        return self._kept.find(self._number, keys)

    def put(self, profiles: Iterable[tuple[ProfileKey, bytes | None]]) -> None:
        """Keep documents in place of those that were kept; None: the profile is gone."""
        self._kept.put(self._number, profiles)

    def drop(self) -> None:
        """Forget all."""
        self._kept.drop(self._number)
