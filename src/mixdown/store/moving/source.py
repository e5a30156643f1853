"""A data folder that is being copied: held, then closed to writes, then marked as moved.

Enters: a folder, used by a server or not. Leaves: triggers in its databases, and a marker file beside them.
A server that runs knows nothing of it: SQLite asks the triggers within each write. So from the commit on
that closes the log, no record is acknowledged any more, by whatever process. Nothing here changes data.

Deletions of people are held off meanwhile (until a day, lest a copy that was given up holds them for ever):
one that was carried through would be missing from what was copied before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Literal

import apsw
import msgspec

from mixdown.model.errors import CorruptStoreError, StoreError
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.folder import FILE_MODE, FileLock, sync_folder

MARKER: Final = "moving.json"
HOLD_S: Final = 24 * 3600
"""So long deletions wait for a copy that says nothing: as long as the log is kept by default."""
WAIT_FOR_DELETIONS_S: Final = 60.0
_POLL_S: Final = 0.2
_LOCK: Final = "moving.lock"
_PREFIX: Final = "moving_"
_UNDONE: Final = "mixdown db copy --undo"
_CLOSED: Final = f"{sqlite.MOVING}: the data is moving to PostgreSQL, or has moved"
# What changes rows that are copied at the end. The fold goes on: it tidies up.
_CATALOG_TABLES: Final = (
    "projects", "accounts", "account_projects", "version", "facts", "cohorts", "cohort_ids", "deletions",
    "retrievals", "lookup_tables", "dictionary", "ended_sessions", "reports", "annotations",
    "annotation_tags", "annotations_tagged",
)  # fmt: skip
CLOSING: Final = {
    sqlite.CATALOG: (
        *((table, verb) for table in _CATALOG_TABLES for verb in ("INSERT", "UPDATE", "DELETE")),
        ("lookup_contents", "INSERT"),
        ("lookup_rows", "INSERT"),
        ("lookup_replacements", "INSERT"),
    ),
    sqlite.STATE: (("property_indexes", "INSERT"), ("property_indexes", "UPDATE OF dropped")),
    sqlite.LOG: (("chunks", "INSERT"),),
}

State = Literal["copying", "closed", "moved"]


class Marker(msgspec.Struct, frozen=True):
    """What a folder says of its copy: which it is, how far, where to (without credentials), since when."""

    copy: str
    state: State
    to: str
    began_ms: int


def marker_of(folder: Path) -> Marker | None:
    """The folder's marker; None where it is not being copied. Raises `CorruptStoreError`."""
    try:
        text = (folder / MARKER).read_bytes()
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(text, type=Marker)
    except msgspec.MsgspecError as error:
        raise CorruptStoreError(
            f"{folder / MARKER} cannot be read: {error}", hint=f"`{_UNDONE} --from {folder}` takes it away."
        ) from error


def put_marker(folder: Path, marker: Marker) -> None:
    """Mark the folder; on disk when it returns."""
    draft = folder / f"{MARKER}.new"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    with open(fd, "wb") as file:  # noqa: PTH123 - of a descriptor
        file.write(msgspec.json.encode(marker))
        file.flush()
        os.fsync(file.fileno())
    draft.rename(folder / MARKER)
    sync_folder(folder)


def refuse_moved(folder: Path) -> None:
    """Raises `StoreError` where what is in the folder has moved, or is about to: nobody is to serve it."""
    marker = marker_of(folder)
    if marker is None or marker.state == "copying":
        return
    what = "has moved" if marker.state == "moved" else "is moving"
    raise StoreError(
        f"the data of {folder} {what} to {marker.to}: this folder takes no more records",
        hint=f"Serve that database. To have the folder take records again: {_UNDONE} --from {folder}.",
    )


@contextmanager
def one_copier(folder: Path) -> Iterator[None]:
    """Nobody else copies this folder meanwhile. Raises `StoreError` where somebody does."""
    with closing(FileLock(folder / _LOCK)) as lock:
        if not lock.try_acquire():
            raise StoreError(f"another process copies {folder}", hint="Wait until it has ended.")
        yield


def hold_deletions(folder: Path, *, since_ms: int) -> None:
    """Have no deletion of a person begin from now on. Raises `StoreError` where one has since `since_ms`."""
    until_s = int(time.time()) + HOLD_S
    with _changing(folder, sqlite.CATALOG) as catalog:
        begun = sqlite.value(catalog, "SELECT count(*) FROM deletions WHERE claimed_ms >= ?", (since_ms,))
        if begun:
            raise StoreError(
                f"people were erased from {folder} since this copy of it began, and are in the copy",
                hint=f"Begin anew, in another database: {_UNDONE} --from {folder}, then copy again.",
            )
        _drop_triggers(catalog, f"{_PREFIX}hold")
        sqlite.rows(
            catalog,
            f"CREATE TRIGGER {_PREFIX}hold BEFORE UPDATE OF status ON deletions"
            " WHEN OLD.status IN ('PENDING', 'STAGING') AND NEW.status = 'STAGING'"
            f" AND CAST(strftime('%s', 'now') AS INTEGER) < {until_s:d}"
            " BEGIN SELECT RAISE(IGNORE); END",
        )


def wait_for_deletions(folder: Path) -> None:
    """Wait until those that began before are done. Raises `StoreError` where they are not, in a minute."""
    until = time.monotonic() + WAIT_FOR_DELETIONS_S
    while True:
        with _opened(folder, sqlite.CATALOG) as catalog:
            begun = sqlite.value(
                catalog, "SELECT count(*) FROM deletions WHERE status IN ('STAGING', 'STARTED')"
            )
        if not begun:
            return
        if time.monotonic() >= until:
            raise StoreError(
                f"{begun} deletions of people are under way in {folder}",
                hint="Let a server run on it until they are done, then copy.",
            )
        time.sleep(_POLL_S)


def close_to_writes(folder: Path) -> int:
    """Have the folder take no more; the position at which its log ends, for good.

    The catalog first: who changes it is told so, not lost. A turn at the log ends before it is closed, so
    what was acknowledged stands in it.
    """
    for kind, closing_ones in CLOSING.items():
        lock = FileLock(folder / "log.lock")
        try:
            if kind is sqlite.LOG:
                lock.acquire()
            with _changing(folder, kind) as connection:
                _drop_triggers(connection, f"{_PREFIX}closed_%")
                for number, (table, verb) in enumerate(closing_ones):
                    _close(connection, f"{_PREFIX}closed_{number}", table, verb)
        finally:
            lock.close()
    with _opened(folder, sqlite.LOG) as log:
        return int(sqlite.value(log, "SELECT position FROM head"))


def close_to_refusals(folder: Path) -> None:
    """Have it keep no more refusals: once its fold, which makes some, has come to the end of its log."""
    with _changing(folder, sqlite.LOG) as log:
        _drop_triggers(log, f"{_PREFIX}refusals")
        _close(log, f"{_PREFIX}refusals", "refusals", "INSERT")


def _close(connection: apsw.Connection, trigger: str, table: str, verb: str) -> None:
    sqlite.rows(
        connection,
        f"CREATE TRIGGER {trigger} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, '{_CLOSED}'); END",
    )


def open_again(folder: Path) -> bool:
    """Take all of it back: the folder takes records as ever; whether there was anything."""
    found = False
    for kind in CLOSING:
        if (folder / kind.file_name).exists():
            with _changing(folder, kind) as connection:
                found |= _drop_triggers(connection, f"{_PREFIX}%")
    if (folder / MARKER).exists():
        (folder / MARKER).unlink()
        sync_folder(folder)
        found = True
    return found


def _drop_triggers(connection: apsw.Connection, like: str) -> bool:
    names = sqlite.rows(
        connection, "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE ?", (like,)
    )
    for (name,) in names:
        sqlite.rows(connection, f'DROP TRIGGER "{name}"')
    return bool(names)


@contextmanager
def _opened(folder: Path, kind: sqlite.Kind) -> Iterator[apsw.Connection]:
    path = folder / kind.file_name
    with sqlite.store_errors(str(path)), closing(sqlite.connect(path, kind)) as connection:
        yield connection


@contextmanager
def _changing(folder: Path, kind: sqlite.Kind) -> Iterator[apsw.Connection]:
    with _opened(folder, kind) as connection, sqlite.transaction(connection):
        yield connection
