"""Opening one of the folder's SQLite files: modes, pragmas, migrations, connections for threads.

Enters: a path and how durable the file must be. Leaves: `apsw` connections that are ready for use.
It knows no table. Whoever runs a SELECT must exhaust it: an open cursor keeps its snapshot, and then
no checkpoint completes and the WAL grows without end.
"""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from mixdown.model.errors import CorruptStoreError, SchemaTooNewError, StoreDownError, StoreError
from mixdown.store import patience
from mixdown.store.sqlite.folder import make_file

# A safety net: what waits for another writer waits at a file lock, which neither sleeps nor polls.
BUSY_TIMEOUT_MS: Final = 10_000
WAL_SIZE_LIMIT_BYTES: Final = 256 * 1024 * 1024
_STATEMENTS_KEPT: Final = 128
# A millisecond or so of SQLite's work, between looks at the time of a read that has a deadline.
_STEPS_BETWEEN_LOOKS: Final = 20_000
SWEPT_MARK: Final = 0x6D697864
"""`application_id` of a file that was never written without `secure_delete` (`store.sqlite.sweeping`)."""
MOVING: Final = "this folder takes no more records"
"""What a write raises where the folder was closed to writes (`store.moving.source`)."""
_MIGRATION_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


Bindings = tuple[Any, ...]


class Kind(msgspec.Struct, frozen=True):
    """One kind of file: its name (and that of its migrations' folder), durability and page size."""

    name: str
    synchronous: str
    page_size_bytes: int
    cache_bytes: int

    @property
    def file_name(self) -> str:
        """The file's name in the data folder."""
        return f"{self.name}.db"


LOG: Final = Kind("log", "FULL", 4096, 8 * 1024 * 1024)
CATALOG: Final = Kind("catalog", "FULL", 4096, 2 * 1024 * 1024)
# 4096: 16 us a folded 600-byte profile against 24 with 8192 (1 M profiles, uniform; it writes whole pages)
STATE: Final = Kind("state", "NORMAL", 4096, 8 * 1024 * 1024)
EVENTS: Final = Kind("events", "FULL", 4096, 8 * 1024 * 1024)
SCRATCH: Final = Kind("scratch", "OFF", 4096, 2 * 1024 * 1024)


def rows(connection: apsw.Connection, sql: str, bindings: Bindings = ()) -> list[Any]:
    """Run a statement to its end; its rows as tuples."""
    return connection.execute(sql, bindings).fetchall()


def value(connection: apsw.Connection, sql: str, bindings: Bindings = ()) -> Any:
    """Run a statement to its end; its one row (the value itself, if it has one column), or None."""
    return connection.execute(sql, bindings).get


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Turn what SQLite raises about a file into `StoreError`s that say which file and what to do."""
    try:
        yield
    except apsw.InterruptError as error:
        raise patience.timeout() from error
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise CorruptStoreError(
            f"{what} is damaged: {error}",
            hint="Stop the server, keep a copy of the data folder, and see what `mixdown doctor` finds;"
            " or restore the folder from a backup.",
        ) from error
    except apsw.FullError as error:
        raise StoreError(f"{what} cannot grow: {error}", hint="Free some disk space.") from error
    except (apsw.CantOpenError, apsw.PermissionsError, apsw.AuthError, apsw.ReadOnlyError) as error:
        raise StoreError(
            f"{what} cannot be opened or written: {error}",
            hint="The data folder and all in it must belong to this user, on a disk that can be written.",
        ) from error
    except apsw.IOError as error:
        raise StoreError(
            f"{what}: {error}", hint="The disk has failed or is full: see what the system's log says of it."
        ) from error
    except apsw.BusyError as error:
        raise StoreError(
            f"{what} is held by another program: {error}", hint="Close what has it open, and try again."
        ) from error
    except apsw.Error as error:
        if MOVING in str(error):
            raise StoreDownError(str(error), hint="Ask the server that serves it now.") from error
        raise StoreError(f"{what}: {error}", hint="`mixdown doctor` looks for the cause.") from error


def connect(path: Path, kind: Kind, *, cache_bytes: int = 0) -> apsw.Connection:
    """A connection with the kind's pragmas; the file must exist (`make_file`)."""
    connection = apsw.Connection(
        str(path),
        flags=apsw.SQLITE_OPEN_READWRITE,
        statementcachesize=_STATEMENTS_KEPT,
    )
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        cache_kib = (cache_bytes or kind.cache_bytes) // 1024
        for pragma in (
            f"page_size = {kind.page_size_bytes}",
            "journal_mode = WAL",
            f"synchronous = {kind.synchronous}",
            "fullfsync = 1",
            "checkpoint_fullfsync = 1",
            "foreign_keys = 1",
            "trusted_schema = 0",
            f"cache_size = -{cache_kib}",
            f"journal_size_limit = {WAL_SIZE_LIMIT_BYTES}",
            "temp_store = MEMORY",
            # what is deleted is overwritten, so that an erasure need not rewrite whole files (`sweeping`)
            "secure_delete = ON",
        ):
            rows(connection, f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def migrations(kind: Kind) -> list[tuple[int, str]]:
    """The kind's numbered migrations as (number, SQL), in order from 1 without gaps."""
    found = []
    for entry in resources.files("mixdown.store.sqlite").joinpath("migrations", kind.name).iterdir():
        match = _MIGRATION_NAME.fullmatch(entry.name)
        if match:
            found.append((int(match[1]), entry.read_text("utf-8")))
    found.sort()
    assert [number for number, _ in found] == list(range(1, len(found) + 1))
    return found


def prepare(path: Path, kind: Kind) -> None:
    """Make the file if it is missing and bring its schema up to date.

    Call it under `folder.setting_up`. Raises `SchemaTooNewError` when a newer Mixdown wrote the
    file, `CorruptStoreError` when it is no database.
    """
    make_file(path)
    with store_errors(str(path)):
        connection = connect(path, kind)
        try:
            migrate(connection, path, migrations(kind))
        finally:
            connection.close()


def migrate(connection: apsw.Connection, path: Path, steps: list[tuple[int, str]]) -> None:
    """Take the steps that the file has not taken yet. Raises `SchemaTooNewError`."""
    version = int(connection.pragma("user_version"))
    if version > len(steps):
        raise SchemaTooNewError(
            f"{path} has schema {version}, and this Mixdown knows schemas up to {len(steps)}",
            hint="It was written by a newer Mixdown: start that version, or use another data folder.",
        )
    for number, sql in steps[version:]:
        # a migration and its number are one transaction: a crash leaves the schema before or after it
        rows(connection, "BEGIN IMMEDIATE")
        try:
            rows(connection, sql)
            if not version:
                rows(connection, f"PRAGMA application_id = {SWEPT_MARK}")
            rows(connection, f"PRAGMA user_version = {number}")
            rows(connection, "COMMIT")
        except BaseException:
            rows(connection, "ROLLBACK")
            raise


class ThreadConnections:
    """A connection for each thread that asks; all of them closed together.

    A thread's connection is closed when the thread is gone.
    """

    def __init__(self, path: Path, kind: Kind, *, cache_bytes: int = 0) -> None:
        self._open: Callable[[], apsw.Connection] = lambda: connect(path, kind, cache_bytes=cache_bytes)
        self._what = str(path)
        self._local = threading.local()
        self._all: weakref.WeakSet[Any] = weakref.WeakSet()
        self._guard = threading.Lock()
        self._closed = False

    def get(self) -> apsw.Connection:
        """This thread's connection. Raises `StoreError` after `close`."""
        if self._closed:
            raise StoreError(f"{self._what} was closed")
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            with store_errors(self._what):
                connection = self._open()
            with self._guard:
                self._all.add(connection)
            self._local.connection = connection
        if not getattr(self._local, "bounded", False) and patience.is_bounded():
            connection.set_progress_handler(patience.is_over, _STEPS_BETWEEN_LOOKS)
            self._local.bounded = True
        return connection

    def close(self) -> None:
        """Close the connections of all threads; one that is busy closes when its thread ends."""
        self._closed = True
        with self._guard:
            for connection in list(self._all):
                with suppress(apsw.ThreadingViolationError):
                    connection.close()


@contextmanager
def snapshot(connection: apsw.Connection) -> Iterator[None]:
    """A read transaction, so that all is of one moment: to be short, for the sake of checkpoints."""
    rows(connection, "BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            rows(connection, "COMMIT")


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """A write transaction: committed at the end, rolled back when the block raises."""
    rows(connection, "BEGIN IMMEDIATE")
    try:
        yield
        rows(connection, "COMMIT")
    except BaseException:
        if connection.in_transaction:
            rows(connection, "ROLLBACK")
        raise
