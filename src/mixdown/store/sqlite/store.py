"""Opening a data folder: its files made, migrated and checked against each other.

Enters: the folder and the role of the process. Leaves: a `SqliteStore`. A folder whose files do not
fit together is refused with what to do about it, never repaired by guessing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from mixdown.model.errors import CorruptStoreError, StoreError
from mixdown.store.chunk import FOR_ALL
from mixdown.store.places import End, Logs, Place, all_views, ends_of, logs_of, places_of
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.catalog import SqliteCatalog
from mixdown.store.sqlite.cohorts import SqliteCohorts
from mixdown.store.sqlite.dictionary import SqliteDictionary
from mixdown.store.sqlite.event_files import EVENTS_FOLDER
from mixdown.store.sqlite.events import SqliteEvents
from mixdown.store.sqlite.folder import (
    FOLDER_MODE,
    RESTORING,
    make_folder,
    setting_up,
    sync_folder,
    unfinished_restore,
)
from mixdown.store.sqlite.log import SqliteLog
from mixdown.store.sqlite.lookup_tables import SqliteLookupTables
from mixdown.store.sqlite.privacy import SqlitePrivacyJobs
from mixdown.store.sqlite.refusals import SqliteRefusals
from mixdown.store.sqlite.reports import SqliteAnnotations, SqliteReports
from mixdown.store.sqlite.sessions import SqliteSessions
from mixdown.store.sqlite.state import SqliteState
from mixdown.store.sqlite.sweeping import sweep
from mixdown.store.sqlite.turns import LogFile

Role = Literal["worker", "fold", "events", "cli"]

_LASTING: Final = (sqlite.LOG, sqlite.CATALOG, sqlite.STATE)
# What is true of a file in which nothing was ever kept.
_UNUSED: Final = {
    "log": "SELECT (SELECT position FROM head) = 0 AND NOT EXISTS (SELECT 1 FROM refusals)",
    "catalog": "SELECT NOT EXISTS (SELECT 1 FROM projects) AND NOT EXISTS (SELECT 1 FROM accounts)"
    " AND NOT EXISTS (SELECT 1 FROM facts)",
    "state": "SELECT max(position) = 0 FROM watermarks",
}


class SqliteStore:
    """`Store` in a data folder. One for a process; its parts may be used from any thread."""

    def __init__(self, folder: Path, role: Role) -> None:
        self.folder = folder
        file = LogFile(folder)
        self.log = SqliteLog(file, checkpoints=role == "fold")
        self.refusals = SqliteRefusals(file)
        self.state = SqliteState(folder, writes=role == "fold")
        self.catalog = SqliteCatalog(folder)
        self.cohorts = SqliteCohorts(self.catalog)
        self.lookup_tables = SqliteLookupTables(folder, self.catalog)
        self.dictionary = SqliteDictionary(self.catalog)
        self.reports = SqliteReports(self.catalog)
        self.annotations = SqliteAnnotations(self.catalog)
        self.sessions = SqliteSessions(folder)
        self.privacy = SqlitePrivacyJobs(folder)
        self.events = SqliteEvents(folder)

    @property
    def partition_count(self) -> int:
        return 1

    @property
    def number(self) -> int:
        return 0

    def partition_of(self, project: int, key: str | None = None) -> int:
        del project, key
        return 0

    def partitions_of(self, project: int) -> Sequence[int]:
        del project
        return (0,)

    def partition(self, number: int) -> SqliteStore:
        if number:
            raise StoreError(f"there is no partition {number}: a data folder has one")
        return self

    def places(self, partitions: Sequence[int], kinds: int = FOR_ALL) -> Sequence[Place]:
        return places_of([self.partition(number) for number in partitions], kinds)

    def logs(self) -> Logs:
        return logs_of(all_views(self))

    def ends(self, partitions: Sequence[int]) -> Mapping[int, End]:
        return ends_of([self.partition(number) for number in partitions])

    def sweep(self) -> Iterator[bool]:
        yield from self.state.sweep()
        yield from self.sessions.sweep()
        yield from sweep(self.folder / sqlite.CATALOG.file_name, sqlite.CATALOG)
        yield from sweep(self.folder / sqlite.EVENTS.file_name, sqlite.EVENTS)
        yield from self.log.sweep()

    def leftovers(self) -> list[str]:
        return sorted(
            path.name for path in self.folder.iterdir() if ".damaged-" in path.name or ".rebuilt" in path.name
        )

    def close(self) -> None:
        self.events.close()
        self.privacy.close()
        self.sessions.close()
        self.state.close()
        self.log.close()
        self.lookup_tables.close()
        self.catalog.close()


def open_store(folder: Path, *, role: Role, create: bool) -> SqliteStore:
    """Open the store in `folder`; with `create`, make the folder and its files where there are none.

    `role` is what the process does: only `fold` writes profiles and keeps the WALs short, and only `events`,
    or a `fold` where no server runs, writes events. Several processes may open a folder at the same time.
    Raises `StoreError` where the folder is missing and `create` is false, `CorruptStoreError` where a file is
    missing or damaged, or a watermark does not fit the log, and `SchemaTooNewError`.
    """
    if create:
        make_folder(folder)
    elif not any((folder / name).exists() for name in (RESTORING, *(kind.file_name for kind in _LASTING))):
        raise StoreError(
            f"there is no Mixdown data in {folder}",
            hint="Name the folder with --data-dir or MIXDOWN_DATA_DIR; `mixdown serve` makes a new one.",
        )
    try:
        with setting_up(folder):
            _refuse_unfinished(folder)
            _refuse_lost_wal(folder)
            _refuse_missing(folder)
            for kind in _LASTING:
                sqlite.prepare(folder / kind.file_name, kind)
            _prepare_events(folder)
    except OSError as error:
        raise StoreError(
            f"the data folder {folder} cannot be used: {error}",
            hint="It must be on a local disk and writable by this user.",
        ) from error
    store = SqliteStore(folder, role)
    try:
        _compare(store)
    except BaseException:
        store.close()
        raise
    return store


def _refuse_unfinished(folder: Path) -> None:
    """A restore that was cut off leaves a folder that may look whole."""
    if (folder / RESTORING).exists():
        raise unfinished_restore(folder)


def _refuse_missing(folder: Path) -> None:
    """A file may be missing only where none was ever used: else it was lost, and a new one would hide it.

    A file without a schema counts as missing: a server that was killed at its first start leaves one, and so
    does whoever truncates a file.
    """
    present = [kind for kind in _LASTING if (folder / kind.file_name).exists()]
    blank = [kind for kind in present if _schema(folder, kind) == 0]
    missing = [kind for kind in _LASTING if kind not in present or kind in blank]
    held = [kind for kind in present if kind not in blank]
    if not missing or all(_unused(folder, kind) for kind in held):
        return
    names = ", ".join(f"{kind.file_name} is {'empty' if kind in blank else 'missing'}" for kind in missing)
    raise CorruptStoreError(
        f"{names} in the data folder {folder}, which has been in use",
        hint="Restore the folder from a backup, or see what can be rebuilt: mixdown doctor --repair.",
    )


def _prepare_events(folder: Path) -> None:
    """Make `events.db` and its folder of files, or bring them up to date.

    Folders of releases before events have neither. The folder of files is made last: where it is, there was
    an `events.db`.
    """
    path = folder / sqlite.EVENTS.file_name
    files = folder / EVENTS_FOLDER
    lost = "empty" if path.exists() and _schema(folder, sqlite.EVENTS) == 0 else "missing"
    if files.exists() and (lost == "empty" or not path.exists()):
        raise CorruptStoreError(
            f"{path.name} is {lost} in the data folder {folder}, and it lists what lies in {EVENTS_FOLDER}/",
            hint="Restore the folder from a backup, or see what can be rebuilt: mixdown doctor --repair.",
        )
    sqlite.prepare(path, sqlite.EVENTS)
    if not files.exists():
        files.mkdir(mode=FOLDER_MODE)
        sync_folder(folder)


def _refuse_lost_wal(folder: Path) -> None:
    """SQLite makes a file's -wal before its -shm and removes it after: an -shm alone says that it was lost.

    What was written last, and acknowledged, stood in it.
    """
    for kind in (*_LASTING, sqlite.EVENTS):
        path = folder / kind.file_name
        if wal_lost(path):
            raise CorruptStoreError(
                f"{path.name}-wal is missing from the data folder {folder}: it held what was written last",
                hint="Put it back; or restore the folder from a backup, or go on without it:"
                " mixdown doctor --repair.",
            )


def wal_lost(path: Path) -> bool:
    """Whether a database's -wal was taken away while it was in use."""
    wal, index = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    return path.exists() and index.exists() and not wal.exists() and index.exists()


def _schema(folder: Path, kind: sqlite.Kind) -> int:
    path = folder / kind.file_name
    if path.stat().st_size == 0:
        return 0  # and stays as it is: to open it would write a header
    with sqlite.store_errors(str(path)):
        connection = sqlite.connect(path, kind)
        try:
            return int(connection.pragma("user_version"))
        finally:
            connection.close()


def _unused(folder: Path, kind: sqlite.Kind) -> bool:
    path = folder / kind.file_name
    with sqlite.store_errors(str(path)):
        connection = sqlite.connect(path, kind)
        try:
            return bool(sqlite.value(connection, _UNUSED[kind.name]))
        finally:
            connection.close()


def _compare(store: SqliteStore) -> None:
    """See that the state has folded nothing that the log never held, and misses nothing that it dropped."""
    tail = store.log.tail_position()  # in this order: all three may grow meanwhile
    watermarks = {"state.db": store.state.watermark(), "events.db": store.events.begin(tail)}
    head = store.log.checked_head()
    for name, watermark in watermarks.items():
        if watermark > head:
            raise CorruptStoreError(
                f"{name} in {store.folder} has taken the log up to position {watermark},"
                f" and log.db ends at {head}: the two are not of one time",
                hint="Restore the folder from a backup, or go on from what there is:"
                " mixdown doctor --repair.",
            )
        if watermark < tail:
            raise CorruptStoreError(
                f"{name} in {store.folder} has taken the log up to position {watermark},"
                f" and log.db begins at {tail}: what lies between is gone",
                hint="Restore the folder from a backup, or go on without it: mixdown doctor --repair.",
            )
