"""What all repairs are made of: how they are told, and how they open, make and set aside files.

Enters: a folder whose lock the caller holds. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import msgspec

from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.rebuild import set_aside


class Repair(msgspec.Struct, frozen=True):
    """One thing that is wrong. `action` says what `make` would do; without `make` it is what people must do.

    `lost` says what is gone, "" where nothing is.
    """

    check: str
    problem: str
    action: str
    lost: str = ""
    make: Callable[[], None] | None = None


def new_file(folder: Path, kind: sqlite.Kind) -> None:
    """Make a new, empty file; what bytes there are under its name, or in a -wal of it, are set aside."""
    path = folder / kind.file_name
    if remains(path):
        set_aside(path)
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    sqlite.prepare(path, kind)


def remains(path: Path) -> bool:
    """Whether a file or its -wal holds anything that a person may want to look at."""
    both = (path, path.with_name(path.name + "-wal"))
    return any(one.exists() and one.stat().st_size > 0 for one in both)


def tail_and_head(log: apsw.Connection) -> tuple[int, int]:
    """Where the log begins and ends."""
    tail, head = sqlite.value(
        log, "SELECT coalesce((SELECT min(first) FROM chunks), position), position FROM head"
    )
    return tail, head


@contextmanager
def reading(folder: Path, kind: sqlite.Kind) -> Iterator[apsw.Connection]:
    """A connection that changes nothing."""
    path = folder / kind.file_name
    with (
        sqlite.store_errors(str(path)),
        closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection,
    ):
        connection.set_busy_timeout(sqlite.BUSY_TIMEOUT_MS)
        yield connection


@contextmanager
def writing(folder: Path, kind: sqlite.Kind) -> Iterator[apsw.Connection]:
    """A transaction that is on disk when it ends, whatever the file's own durability."""
    path = folder / kind.file_name
    with sqlite.store_errors(str(path)), closing(sqlite.connect(path, kind)) as connection:
        sqlite.rows(connection, "PRAGMA synchronous = FULL")
        with sqlite.transaction(connection):
            yield connection
