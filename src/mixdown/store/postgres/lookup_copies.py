"""Large lookup tables that are asked for often, as copies on this machine: a row in microseconds.

Enters: how to find a row in the database, and how to read all of a content. Leaves: rows. A content never
changes, so a copy is never stale. The copies are files without a name, which end with the process.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

import apsw

COPIED_AFTER: Final = 200
"""So many rows of a content are asked for in the database; at the next, all of it is copied."""
COPIES: Final = 4
"""A copy takes up to about twice the 100 MiB that a table may have."""
_COUNTED: Final = 1000
_WRITTEN_ROWS: Final = 5000


class _Copy:
    """One content in a temporary database."""

    def __init__(self, rows: Iterable[tuple[str, str]]) -> None:
        self._guard = threading.Lock()
        self._connection = apsw.Connection("")  # a file of its own, which is deleted as it is made
        self._connection.execute("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
        self._connection.execute(
            "CREATE TABLE held (key TEXT PRIMARY KEY, cells TEXT NOT NULL) STRICT, WITHOUT ROWID"
        )
        rest: Iterator[tuple[str, str]] = iter(rows)
        while some := list(islice(rest, _WRITTEN_ROWS)):
            with self._connection:
                self._connection.executemany("INSERT INTO held VALUES (?, ?)", some)

    def find(self, key: str) -> str | None:
        """The cells of a key."""
        with self._guard:
            held = self._connection.execute("SELECT cells FROM held WHERE key = ?", (key,))
            found: str | None = held.get
        return found

    def close(self) -> None:
        """Give the disk its room back."""
        with self._guard:
            self._connection.close()


class Copies:
    """The contents that were asked for most, copied once they are asked for often. Any thread may ask."""

    def __init__(
        self, find: Callable[[int, str], str | None], scan: Callable[[int], Iterable[tuple[str, str]]]
    ) -> None:
        self._find = find
        self._scan = scan
        self._guard = threading.Lock()
        self._copying = threading.Lock()
        self._asked: Counter[int] = Counter()
        self._held: OrderedDict[int, _Copy] = OrderedDict()

    def find(self, content: int, key: str) -> str | None:
        """The cells of a key, None where a content has no such row. Raises `StoreError`."""
        with self._guard:
            copy = self._held.get(content)
            if copy is None:
                self._asked[content] += 1
                often = self._asked[content] > COPIED_AFTER
            else:
                self._held.move_to_end(content)
        if copy is None and often:
            copy = self._copied(content)
        if copy is None:
            return self._find(content, key)
        try:
            return copy.find(key)
        except apsw.Error:  # closed just now by a newer one, or its disk is full
            return self._find(content, key)

    def close(self) -> None:
        """Release the copies."""
        with self._guard:
            for copy in self._held.values():
                copy.close()
            self._held.clear()

    def _copied(self, content: int) -> _Copy | None:
        """A copy, made now; None while another thread makes one, or where the disk has no room."""
        if not self._copying.acquire(blocking=False):
            return None
        try:
            copy = _Copy(self._scan(content))
        except apsw.Error:
            with self._guard:
                self._asked[content] = 0  # try again later
            return None
        finally:
            self._copying.release()
        with self._guard:
            self._held[content] = copy
            if len(self._held) > COPIES:
                self._held.popitem(last=False)[1].close()
            if len(self._asked) > _COUNTED:
                self._asked.clear()
        return copy
