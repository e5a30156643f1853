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
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, Generic, TypeVar

import msgspec

from mixdown.store import patience

HELD_LIMIT_BYTES: Final = 48 * 1024 * 1024
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
        rest = iter(self._held)
        while block := _block(rest):
            patience.check()
            packed = zlib.compress(msgspec.msgpack.encode(block), _COMPRESSION)
            run.write(_SIZE.pack(len(packed)) + packed)
        run.seek(0)
        self._held.clear()
        self._held_bytes = 0

    def _read(self, run: IO[bytes]) -> Iterator[_Item]:
        while head := run.read(_SIZE.size):
            patience.check()
            yield from self._decoder.decode(zlib.decompress(run.read(*_SIZE.unpack(head))))


def _block(items: Iterator[_Item]) -> list[_Item]:
    """The next items, few where they are large: of each run a block is in memory while runs are merged."""
    block: list[_Item] = []
    size = 0
    for item in islice(items, _BLOCK_ITEMS):
        block.append(item)
        size += _size_bytes([item])
        if size > _BLOCK_BYTES:
            break
    return block


def _size_bytes(items: Sequence[str] | Sequence[Keyed]) -> int:
    """About what items of one kind take in memory."""
    if items and isinstance(items[0], tuple):
        return sum([len(item[0]) + len(item[1]) for item in items]) + _PAIR_OVERHEAD_BYTES * len(items)
    return sum(map(len, items)) + _ITEM_OVERHEAD_BYTES * len(items)
