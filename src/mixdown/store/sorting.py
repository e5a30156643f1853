"""Sorting more than memory should hold: what does not fit goes to a file that has no name.

Items come in any order and leave ascending: texts, or pairs of a key's bytes and a text. It must never hold
more than `HELD_LIMIT_BYTES` of them, nor leave a file behind, whatever ends the process.
"""

from __future__ import annotations

import heapq
import struct
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, Generic, TypeVar

import msgspec

from mixdown.store import patience

HELD_LIMIT_BYTES: Final = 48 * 1024 * 1024
FEW_LIMIT: Final = 10_000
"""So many at most does `Few` hold, and as many again while they come."""
_ITEM_OVERHEAD_BYTES: Final = 64
_PAIR_OVERHEAD_BYTES: Final = 160
_BLOCK_ITEMS: Final = 1000
_BLOCK_BYTES: Final = 256 * 1024
_COMPRESSION: Final = 1
_SIZE: Final = struct.Struct(">I")

Keyed = tuple[bytes, str]
_Item = TypeVar("_Item", str, Keyed)


class Sorter(Generic[_Item]):
    """Takes items piece by piece, then gives all of them in order, once; `kind` is the type of an item."""

    def __init__(self, kind: Any, folder: Path | None = None) -> None:
        self._folder = folder
        self._held: list[_Item] = []
        self._held_bytes = 0
        self._runs: list[IO[bytes]] = []
        self._decoder = msgspec.msgpack.Decoder(list[kind])

    def add(self, items: Sequence[_Item]) -> None:
        """Take some items. Raises `OSError` where the disk is full."""
        self._held.extend(items)
        self._held_bytes += _size_bytes(items)
        if self._held_bytes > HELD_LIMIT_BYTES:
            self._spill()

    def __iter__(self) -> Iterator[_Item]:
        self._held.sort()
        if not self._runs:
            return iter(self._held)
        return heapq.merge(*map(self._read, self._runs), self._held)

    def close(self) -> None:
        """Give the files back to the disk."""
        for run in self._runs:
            run.close()

    def _spill(self) -> None:
        self._held.sort()
        run = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - `close` closes it
        self._runs.append(run)
        at = 0
        while block := _block(self._held, at):
            patience.check()
            at += len(block)
            packed = zlib.compress(msgspec.msgpack.encode(block), _COMPRESSION)
            run.write(_SIZE.pack(len(packed)) + packed)
        run.seek(0)
        self._held.clear()
        self._held_bytes = 0

    def _read(self, run: IO[bytes]) -> Iterator[_Item]:
        while head := run.read(_SIZE.size):
            patience.check()
            yield from self._decoder.decode(zlib.decompress(run.read(*_SIZE.unpack(head))))


class Few:
    """The same for the first `most` of them alone: all others are dropped as they come."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: list[Keyed] = []
        self._last: Keyed | None = None

    def add(self, items: Sequence[Keyed]) -> None:
        """Take some items."""
        last = self._last
        self._held.extend(items if last is None else [item for item in items if item < last])
        if len(self._held) >= 2 * self._most:
            self._held.sort()
            del self._held[self._most :]
            self._last = self._held[-1]

    def __iter__(self) -> Iterator[Keyed]:
        self._held.sort()
        return iter(self._held[: self._most])

    def close(self) -> None:
        """There is nothing to give back."""


def _block(items: list[_Item], at: int) -> list[_Item]:
    """The items from a place on, few where they are large: each run has one in memory while they merge."""
    block = items[at : at + _BLOCK_ITEMS]
    while len(block) > 1 and _size_bytes(block) > _BLOCK_BYTES:
        block = block[: len(block) // 2]
    return block


def _size_bytes(items: Sequence[str] | Sequence[Keyed]) -> int:
    """About what items of one kind take in memory."""
    if items and isinstance(items[0], tuple):
        return sum([len(item[0]) + len(item[1]) for item in items]) + _PAIR_OVERHEAD_BYTES * len(items)
    return sum(map(len, items)) + _ITEM_OVERHEAD_BYTES * len(items)
