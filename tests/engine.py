"""Which engine the tests' servers and in-process workers keep their data in: a folder, or a PostgreSQL.

The variable `MIXDOWN_TEST_STORES` (a list with commas) says which stores are tried. Tests of a store run on
each of them; whatever starts a server, or opens a store as a worker, runs on PostgreSQL where the list names
it and not `sqlite`: `make test-postgres`. Each process of tests then has one PostgreSQL of its own, started
when it is first wanted, and each data folder a database, copied from one that is migrated already.
"""

from __future__ import annotations

import atexit
import fcntl
import itertools
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psycopg
import pytest

from mixdown.fold.erasure import erase_all
from mixdown.fold.loop import catch_up
from mixdown.settings import Settings
from mixdown.store import opening
from mixdown.store.memory import MemoryStore
from mixdown.store.opening import Role
from mixdown.store.protocols import Store
from mixdown.store.sqlite.folder import FolderLock
from tests.store.postgres import Server, postgres_server

STORES: Final = ("memory", "sqlite", "postgres")
TRIED: Final = os.environ.get("MIXDOWN_TEST_STORES", "memory,sqlite").split(",")
assert set(TRIED) <= set(STORES), f"MIXDOWN_TEST_STORES names a store that there is not: {TRIED}"

ON_POSTGRES: Final = "postgres" in TRIED and "sqlite" not in TRIED
"""Whether servers and workers keep their data in PostgreSQL."""

ENGINE: Final = "postgres" if ON_POSTGRES else "sqlite"
"""The engine of servers and workers."""

IN_PROCESS: Final = ("postgres",) if ON_POSTGRES else ("memory", "sqlite")
"""The stores on which workers in the tests' own process are tried."""

PARTITIONS: Final = 4
"""Of a server's database: several, so that a project is in one and what reads all meets others."""

_FOLD_EVERY_S: Final = 0.02

_ENDING: Final = ExitStack()
_RUNNING: Final[list[Server]] = []
_DATABASES: Final[dict[Path, str]] = {}
_FOLDING: Final[dict[Path, threading.Lock]] = {}
_NUMBERS: Final = itertools.count()
# The process that imported this: one that it forks drops no database.
_PARENT_PID: Final = os.getpid()


def of_a_folder(why: str) -> pytest.MarkDecorator:
    """Marks tests whose subject is the embedded store: they have nothing to try on PostgreSQL."""
    return pytest.mark.skipif(ON_POSTGRES, reason=f"of the embedded store alone: {why}")


def postgresql() -> Server:
    """The PostgreSQL of this process of tests; skips the test where it is not installed."""
    if not _RUNNING:
        _RUNNING.append(_ENDING.enter_context(postgres_server()))
    return _RUNNING[0]


def is_running() -> bool:
    """Whether a test of this process has wanted it."""
    return bool(_RUNNING)


def end() -> None:
    """End the PostgreSQL, if one was started; nothing of it is kept."""
    _RUNNING.clear()
    _DATABASES.clear()
    _ENDING.close()


atexit.register(end)


def database_of(folder: Path, *, partitions: int = PARTITIONS) -> str:
    """The URL of the database that belongs to a data folder; a new one for a folder not named before."""
    folder = folder.absolute()
    if folder not in _DATABASES:
        server = postgresql()
        _drop_orphans(server)
        _DATABASES[folder] = server.copy(server.template(partitions), _new_name())
    return _DATABASES[folder]


def undivided(folder: Path) -> Path:
    """A new data folder whose database has one partition, so that ids are counted from 1 as in a folder."""
    if ON_POSTGRES:
        database_of(folder, partitions=1)
    return folder


def variables(folder: Path) -> dict[str, str]:
    """The variables that have `mixdown` keep in PostgreSQL what belongs to a data folder; else none."""
    return {"MIXDOWN_DATABASE_URL": database_of(folder)} if ON_POSTGRES else {}


def forget(folder: Path) -> None:
    """Give back the room of the databases of all data folders in a folder."""
    folder = folder.absolute()
    for known in [each for each in _DATABASES if each == folder or folder in each.parents]:
        postgresql().drop(_DATABASES.pop(known))


def copied(source: Path, folder: Path) -> Path:
    """A data folder with all that another has; nobody may have that one open."""
    shutil.copytree(source, folder)
    if ON_POSTGRES:
        server = postgresql()
        name = str(psycopg.conninfo.conninfo_to_dict(database_of(source))["dbname"])
        _DATABASES[folder.absolute()] = server.copy(name, _new_name())
    return folder


def open_store(folder: Path, *, role: Role, create: bool, partitions: int = 1) -> Store:
    """Open the store that belongs to a data folder, as a process of a server does.

    In PostgreSQL it is there already, with so many partitions unless a server has made it.
    """
    settings = Settings(data_dir=folder)
    if ON_POSTGRES:
        settings = Settings(data_dir=folder, database_url=database_of(folder, partitions=partitions))
        create = False
    return opening.open_store(settings, role=role, create=create)


def plain_store() -> Store:
    """The quickest store of the engine, empty: in memory, or a database of its own."""
    if not ON_POSTGRES:
        return MemoryStore()
    folder = Path(_ENDING.enter_context(TemporaryDirectory(prefix="mixdown-plain-")))
    settings = Settings(data_dir=folder, database_url=postgresql().migrated())
    return opening.open_store(settings, role="fold", create=False)


def folder_of(store: Store) -> Path:
    """The data folder that a store opened by `open_store` belongs to."""
    opened: Any = store
    if not ON_POSTGRES:
        return Path(opened.folder)
    url = opened.opened_by["url"]
    return next(folder for folder, known in _DATABASES.items() if known == url)


@contextmanager
def node_beside(folder: Path) -> Iterator[None]:
    """Fold and erase what waits in the database of a data folder, as a node beside the commands would.

    Where they work on a folder, commands do so themselves: there nothing is done here.
    """
    if not ON_POSTGRES:
        yield
        return
    store = open_store(folder, role="fold", create=True)
    ending = threading.Event()

    folding_now = _FOLDING[folder.absolute()] = threading.Lock()

    def go_on() -> None:
        while not ending.wait(_FOLD_EVERY_S):
            with folding_now:
                catch_up(store)
                erase_all(store)

    with ThreadPoolExecutor(1) as executor:
        folding = executor.submit(go_on)
        try:
            yield
        finally:
            ending.set()
            folding.result()
            store.close()


@contextmanager
def nobody_folds(folder: Path) -> Iterator[None]:
    """Keep commands, or the node beside them, from folding."""
    with _FOLDING[folder.absolute()] if ON_POSTGRES else FolderLock(folder).acquire(0):
        yield


@contextmanager
def nothing_appended(folder: Path) -> Iterator[None]:
    """Hold the turn at the log of a server: until this ends it commits nothing, and replies to nobody."""
    if ON_POSTGRES:
        with psycopg.connect(database_of(folder)) as connection:
            connection.execute("SELECT FROM mixdown.heads FOR UPDATE")
            yield
        return
    with (folder / "log.lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _new_name() -> str:
    """A name for a database, which no process has given that this one has forked."""
    return f"folder{next(_NUMBERS)}_{os.getpid()}"


def _drop_orphans(server: Server) -> None:
    """Drop the databases of folders that pytest has removed: a thousand would take minutes at the end.

    A process that a test forked knows those of its parent, and leaves them to it.
    """
    if os.getpid() != _PARENT_PID:
        return
    for folder in [each for each in _DATABASES if not each.parent.exists()]:
        server.drop(_DATABASES.pop(folder))
