"""Files in an object store as DuckDB reads them: by ranges, and each file's end once.

Enters: a way to fetch a range of bytes. Leaves: a file system for DuckDB connections. It writes nothing and
lists nothing. A file never changes once it is there, so what was fetched stays true.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from fsspec import AbstractFileSystem

Fetch = Callable[[str, int, int], bytes]
"""The bytes of an object (by its address) from one place up to another."""
Sizes = Callable[[str], int]

TAIL_BYTES: Final = 128 * 1024
"""The end of a Parquet file says what lies where: so much of it is fetched at first, and kept."""
TAILS_HELD: Final = 256
LEAST_BYTES: Final = 256 * 1024
"""A request costs as long as so many bytes take: no read fetches less."""
_ESCAPED: Final = re.compile(r"\[([*?\[])\]")
_NEVER: Final = datetime(2000, 1, 1, tzinfo=UTC)


class Tails:
    """Sizes and ends of the files that were read last. Safe to use from many threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held: OrderedDict[str, tuple[int, bytes]] = OrderedDict()

    def get(self, address: str) -> tuple[int, bytes] | None:
        """(size, the last bytes) of a file; None where it was not read lately."""
        with self._guard:
            found = self._held.get(address)
            if found is not None:
                self._held.move_to_end(address)
            return found

    def put(self, address: str, size: int, tail: bytes) -> None:
        """Keep what was fetched."""
        with self._guard:
            self._held[address] = size, tail
            self._held.move_to_end(address)
            while len(self._held) > TAILS_HELD:
                self._held.popitem(last=False)


class RemoteFile:
    """An open file, as DuckDB uses it: `seek`, then `read`."""

    def __init__(self, address: str, size: int, tail: bytes, fetch: Fetch) -> None:
        self._address = address
        self._size = size
        self._tail = tail
        self._fetch = fetch
        self._at = 0
        self._held_from = 0
        self._held = b""

    def seek(self, place: int, whence: int = 0) -> int:
        """Go on from a place."""
        self._at = place + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def read(self, count: int = -1) -> bytes:
        """The next so many bytes, fewer at the end."""
        begin = self._at
        end = self._size if count < 0 else min(self._size, begin + count)
        if begin >= end:
            return b""
        tail_from = self._size - len(self._tail)
        if begin >= tail_from:
            found = self._tail[begin - tail_from : end - tail_from]
        else:
            if not self._held_from <= begin <= end <= self._held_from + len(self._held):
                self._held = self._fetch(self._address, begin, min(self._size, max(end, begin + LEAST_BYTES)))
                self._held_from = begin
            found = self._held[begin - self._held_from : end - self._held_from]
        self._at = end
        return found

    def close(self) -> None:
        """Let go of what is held."""
        self._held = b""


class RemoteFiles(AbstractFileSystem):  # type: ignore[misc] # fsspec has no types
    """The files of one object store, by addresses such as `s3://bucket/3/2026-11-20/512.parquet`."""

    cachable = False

    def __init__(self, protocol: str, sizes: Sizes, fetch: Fetch, tails: Tails) -> None:
        super().__init__()
        self.protocol = protocol
        self._sizes = sizes
        self._fetch = fetch
        self._tails = tails

    def unstrip_protocol(self, name: str) -> str:
        """An address as it is."""
        return name

    def glob(self, path: str, **_: Any) -> list[str]:
        """The one file that a pattern stands for: `store.duck.sql.parquet` makes patterns of one alone."""
        return [path]

    def open(self, path: str, mode: str = "rb", **_: Any) -> RemoteFile:
        """A file, for reading."""
        if mode != "rb":
            raise PermissionError(f"{path} is there to be read")
        address = _address(path)
        size, tail = self._end_of(address)
        return RemoteFile(address, size, tail, self._fetch)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """What there is to say of a file."""
        return {"name": path, "size": self._end_of(_address(path))[0], "type": "file"}

    def modified(self, path: str) -> datetime:
        """Never: a file is written once."""
        del path
        return _NEVER

    def _end_of(self, address: str) -> tuple[int, bytes]:
        known = self._tails.get(address)
        if known is None:
            size = self._sizes(address)
            known = size, self._fetch(address, max(0, size - TAIL_BYTES), size) if size else b""
            self._tails.put(address, *known)
        return known


def _address(path: str) -> str:
    """The address that a pattern of one file stands for."""
    return _ESCAPED.sub(r"\1", path)
