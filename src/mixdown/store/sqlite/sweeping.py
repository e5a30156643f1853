"""Sweeping a database: no byte of what was deleted stays in the file or its WAL.

Enters: a file whose connections all have `secure_delete` on. Leaves: the same file, with zeros wherever no
row is. `secure_delete` overwrites what is freed, but not the copies that SQLite leaves in the unused middle
of a page when it spreads rows anew over its neighbours. Those are overwritten here, in the file itself:
while the WAL is empty and nobody may write, the file holds the newest version of every page, and a page's
own header says which of its bytes are in use. No byte in use is ever written.

It goes a slice at a time and holds the file's writers up for a moment each. A change of nothing at the end of
a slice makes every other connection forget its pages, so that none writes an old copy of one back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Final

import apsw

from mixdown.store.sqlite import connection as sqlite

SLICE_S: Final = 0.05
LONGEST_SLICE_S: Final = 1.0
"""A slice takes twice as long as the WAL took to be emptied for it: else, under load, that would be all."""
_READER_WAIT_MS: Final = 200
_BLOCK_PAGES: Final = 64
_HEADER_BYTES: Final = 100
_LEAVES: Final = frozenset({10, 13})
_BRANCHES: Final = frozenset({2, 5})

Truncate = Callable[[apsw.Connection], bool]


def truncate_wal(connection: apsw.Connection) -> bool:
    """Move all of the WAL into the file and cut it to nothing, waiting for readers a little; True if done."""
    connection.set_busy_timeout(_READER_WAIT_MS)
    try:
        busy, pages, moved = sqlite.value(connection, "PRAGMA wal_checkpoint(TRUNCATE)")
    except apsw.BusyError:
        return False
    finally:
        connection.set_busy_timeout(sqlite.BUSY_TIMEOUT_MS)
    return not busy and pages <= 0 and moved <= 0


def sweep(
    path: Path,
    kind: sqlite.Kind,
    *,
    turn: Callable[[], AbstractContextManager[object]] = nullcontext,
    truncate: Truncate = truncate_wal,
) -> Iterator[bool]:
    """Sweep a file, a slice at each step; ends when the file is clean and its WAL empty.

    Gives True after a slice that got on, and False after one that a reader's snapshot or another writer held
    up: then wait a little before the next. `turn` keeps other writers away by their own lock; `truncate`
    empties the WAL where somebody keeps count of its pages. Raises `StoreError`.
    """
    what = str(path)
    with sqlite.store_errors(what), turn(), closing(sqlite.connect(path, kind)) as connection:
        if int(connection.pragma("application_id")) != sqlite.SWEPT_MARK:
            _compact(connection)
    page = 0
    while page >= 0:
        with sqlite.store_errors(what), turn():
            after = _slice(path, kind, page, truncate)
        yield after is not None
        page = page if after is None else after
    while True:
        with sqlite.store_errors(what), turn(), closing(sqlite.connect(path, kind)) as connection:
            done = truncate(connection)
        if done:
            return
        yield False


def _compact(connection: apsw.Connection) -> None:
    """Write the whole file anew, once: earlier versions wrote it without overwriting what they deleted."""
    sqlite.rows(connection, "PRAGMA temp_store = FILE")  # it may be larger than the memory
    sqlite.rows(connection, "VACUUM")
    sqlite.rows(connection, f"PRAGMA application_id = {sqlite.SWEPT_MARK}")


def _slice(path: Path, kind: sqlite.Kind, page: int, truncate: Truncate) -> int | None:
    """Sweep pages from `page` on for a while; the next page, -1 past the last, None if it was held up."""
    with closing(sqlite.connect(path, kind)) as connection:  # a new one: it remembers no page
        began = time.monotonic()
        if not truncate(connection):
            return None
        slice_s = min(max(SLICE_S, 2 * (time.monotonic() - began)), LONGEST_SLICE_S)
        connection.set_busy_timeout(_READER_WAIT_MS)
        try:
            sqlite.rows(connection, "BEGIN IMMEDIATE")
        except apsw.BusyError:
            return None
        try:
            if path.with_name(path.name + "-wal").stat().st_size:
                return None  # somebody wrote in between
            after = _overwrite(path, page, slice_s)
            version = int(connection.pragma("user_version"))
            sqlite.rows(connection, f"PRAGMA user_version = {version}")
            sqlite.rows(connection, "COMMIT")
        finally:
            if connection.in_transaction:
                sqlite.rows(connection, "ROLLBACK")
        return after


def _overwrite(path: Path, page: int, slice_s: float) -> int:
    """Overwrite what is unused in pages from `page` on, for so long; the next page, -1 past the last."""
    deadline = time.monotonic() + slice_s
    # through SQLite's own files: to close another descriptor of the file would drop its locks
    flags = apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READWRITE
    file = apsw.VFSFile("", str(path), [flags, 0])
    try:
        header = file.xRead(_HEADER_BYTES, 0)
        page_bytes = int.from_bytes(header[16:18], "big")
        page_bytes = 65536 if page_bytes == 1 else page_bytes
        usable = page_bytes - header[20]
        pages = file.xFileSize() // page_bytes
        changed = False
        while page < pages and time.monotonic() < deadline:
            count = min(_BLOCK_PAGES, pages - page)
            block = file.xRead(count * page_bytes, page * page_bytes)
            for at in range(count):
                content = block[at * page_bytes : (at + 1) * page_bytes]
                begin = 0 if page + at else _HEADER_BYTES
                for start, end in unused(content, begin, usable):
                    if content.count(0, start, end) < end - start:
                        file.xWrite(bytes(end - start), (page + at) * page_bytes + start)
                        changed = True
            page += count
        if changed:
            file.xSync(apsw.SQLITE_SYNC_FULL)
    finally:
        file.xClose()
    return page if page < pages else -1


def unused(page: bytes, begin: int, usable: int) -> list[tuple[int, int]]:
    """The stretches of a b-tree page in which no cell lies: the gap before the cells, and the free blocks.

    `begin` is where the page's header stands. Nothing where the page is of another sort (SQLite overwrites
    those whole), or is not what a page should be.
    """
    kind = page[begin]
    if kind in _LEAVES:
        header = 8
    elif kind in _BRANCHES:
        header = 12
    else:
        return []
    cells = int.from_bytes(page[begin + 3 : begin + 5], "big")
    content = int.from_bytes(page[begin + 5 : begin + 7], "big") or 65536
    gap = begin + header + 2 * cells
    if not gap <= content <= usable:
        return []
    found = [(gap, content)]
    block = int.from_bytes(page[begin + 1 : begin + 3], "big")
    last = content
    while block:
        size = int.from_bytes(page[block + 2 : block + 4], "big")
        if block < last or size < 4 or block + size > usable:
            return []
        found.append((block + 4, block + size))
        last = block + size
        block = int.from_bytes(page[block : block + 2], "big")
    return found
