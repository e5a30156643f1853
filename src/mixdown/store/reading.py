"""One read of the log: which chunks fit into its limits, which are stepped over, which are damaged.

Enters: what a store finds, in order. Leaves: chunks. It knows no engine: a store says what it found sound.
"""

from __future__ import annotations

from typing import Final

from mixdown.model.errors import SchemaTooNewError
from mixdown.store.chunk import CHUNK_VERSION, Chunk

DAMAGED_KEPT: Final = 1000
SKIPPED_AT_ONCE: Final = 10_000


class Reading:
    """The chunks taken so far, and those found damaged."""

    def __init__(self, max_records: int, max_bytes: int, kinds: int) -> None:
        self.kinds = kinds
        self._max_records = max_records
        self._max_bytes = max_bytes
        self.chunks: list[Chunk] = []
        self.damaged: list[tuple[int, str]] = []
        self.records = 0
        self.bytes = 0
        self.skipped = 0
        self.skipped_bytes = 0

    def has_room(self, count: int, size: int) -> bool:
        """Whether a chunk fits; the first one does, however large."""
        return not self.records or (
            self.records + count <= self._max_records and self.bytes + size <= self._max_bytes
        )

    def add(self, chunk: Chunk, version: int) -> bool:
        """Take a chunk; whether to go on. Raises `SchemaTooNewError` for a format of later versions."""
        if version > CHUNK_VERSION:
            raise SchemaTooNewError(
                f"the chunk at position {chunk.first} has format {version},"
                f" and this Mixdown reads up to {CHUNK_VERSION}",
                hint="It was written by a newer Mixdown: start that version.",
            )
        self.chunks.append(chunk)
        self.records += chunk.count
        self.bytes += len(chunk.body)
        return self.records < self._max_records and self.bytes < self._max_bytes

    def skip(self, first: int, count: int, time_ms: int, size: int) -> bool:
        """Step over a chunk that is of no interest; whether to go on."""
        last = self.chunks[-1] if self.chunks else None
        if last is not None and not last.body and last.end == first:
            self.chunks[-1] = Chunk(last.first, last.count + count, time_ms, b"", 0)
        else:
            self.chunks.append(Chunk(first, count, time_ms, b"", 0))
        self.skipped += 1
        self.skipped_bytes += size
        return self.skipped < SKIPPED_AT_ONCE

    def set_aside(self, first: int, reason: str) -> bool:
        """Note a chunk that cannot be read; whether to go on, for one reading finds a bounded number."""
        self.damaged.append((first, reason))
        return len(self.damaged) < DAMAGED_KEPT

    def next(self, start: int) -> int:
        """Where to go on after what has been taken so far."""
        ends = [start]
        if self.chunks:
            ends.append(self.chunks[-1].end)
        if self.damaged:
            ends.append(self.damaged[-1][0] + 1)
        return max(ends)
