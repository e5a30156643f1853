"""The data folder as commands use it: opened whether or not a server runs on it.

Enters: settings. Leaves: an open store, projects by id or name, and the certainty that what was acknowledged
before the command is folded. A command holds the folder's lock only while it folds, and only where no server
does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mixdown.cli.flags import settings_from
from mixdown.cli.output import Failure, note
from mixdown.model.errors import CatalogError, FolderBusyError
from mixdown.settings import Settings

if TYPE_CHECKING:
    from mixdown.query.events.reader import EventReads
    from mixdown.store.protocols import ProfileKey, Project, Store
    from mixdown.store.sqlite.folder import FolderLock, HeldFolder

POLL_S: Final = 0.01


@contextmanager
def reading_events(settings: Settings, store: Store) -> Iterator[EventReads]:
    """Where events are read, in the memory that a read of the server's has."""
    from mixdown.query.events.reader import EventReads

    reads = EventReads(store, memory_limit_bytes=settings.event_read_memory_bytes)
    try:
        yield reads
    finally:
        reads.close()


@contextmanager
def opened(data_dir: str | None, *, create: bool = False) -> Iterator[tuple[Settings, Store]]:
    """The settings and the store that they name. Raises `StoreError` where there is none to open.

    `create=True` makes a folder that is missing, and says so.
    """
    from mixdown.store.opening import open_store

    settings = settings_from({"data_dir": data_dir})
    if create and not settings.on_postgres and not is_data_folder(settings.data_dir):
        note(f"making a new data folder: {settings.data_dir}")
    store = open_store(settings, role="cli", create=create)
    try:
        yield settings, store
    finally:
        store.close()


def of_folder_alone(settings: Settings, what: str, instead: str) -> None:
    """What works on the files of a data folder. Raises `Failure` where data is in PostgreSQL."""
    if settings.on_postgres:
        raise Failure(f"{what} works on a data folder, and the data is in PostgreSQL", hint=instead)


def is_data_folder(folder: Path) -> bool:
    """Whether a server or a command has made its files there."""
    return any((folder / name).is_file() for name in ("log.db", "catalog.db", "state.db"))


def find_project(store: Store, ref: str) -> Project:
    """The project with this id or this name. Raises `CatalogError`."""
    projects = store.catalog.projects()
    for project in projects:
        if str(project.id) == ref:
            return project
    for project in projects:
        if project.name == ref:
            return project
    known = ", ".join(f"{project.id} ({project.name})" for project in projects[:10])
    more = ", …" if len(projects) > 10 else ""
    raise CatalogError(
        f"there is no project {ref!r}",
        hint=f"Projects here: {known}{more}" if known else "There are no projects yet.",
    )


def wake_fold(settings: Settings) -> None:
    """Tell a running server's fold that the log has grown."""
    from mixdown.store.sqlite.folder import WakeSender

    if settings.on_postgres and not settings.data_dir.is_dir():
        return  # no node is here: theirs look by themselves
    sender = WakeSender(settings.data_dir, settings.fold_workers)
    sender.wake()
    sender.close()


def settle(settings: Settings, store: Store) -> int:
    """See to it that both readers have taken what is in the log; how many records are missing (DESIGN G4).

    Waits for a running server up to `read_wait_ms`; where none runs on a data folder, does it in this
    process.
    """
    from mixdown.store.sqlite.folder import FolderLock

    heads = {place.partition: place.head for place in store.places(range(store.partition_count))}

    def behind() -> int:
        places = store.places(list(heads))
        return sum(max(0, heads[place.partition] - place.slowest) for place in places)

    deadline = time.monotonic() + settings.read_wait_ms / 1000
    lock = None if settings.on_postgres else FolderLock(settings.data_dir)
    while missing := behind():
        held = _held(lock)
        if held is not None:
            with held:
                _fold_here(settings)
            return behind()
        if time.monotonic() >= deadline:
            return missing
        time.sleep(POLL_S)
    return 0


def fold_where_nobody_does(settings: Settings) -> None:
    """Fold what waits in a data folder, if no server runs on it."""
    from mixdown.store.sqlite.folder import FolderLock

    held = _held(FolderLock(settings.data_dir))
    if held is not None:
        with held:
            _fold_here(settings)


def _held(lock: FolderLock | None) -> HeldFolder | None:
    """The folder's lock, if this process can have it; None where somebody else folds."""
    try:
        return None if lock is None else lock.acquire(0)
    except FolderBusyError:
        return None


def _fold_here(settings: Settings) -> None:
    from mixdown.fold.loop import catch_up
    from mixdown.store.sqlite import open_store

    store = open_store(settings.data_dir, role="fold", create=False)
    try:
        catch_up(store, history=settings.history_retention_days > 0)
    finally:
        store.close()


def profile_key(
    store: Store, project: Project, group_key: str, profile_id: str, *, ignore_alias: bool
) -> ProfileKey:
    """The profile that an id means: that of the person whose it is, as reads over HTTP have it."""
    from mixdown.query.identities import owners

    if not ignore_alias:
        (profile_id,) = owners(store.state, project.id, group_key, [profile_id])
    return project.id, group_key, profile_id


def settle_and_tell(settings: Settings, store: Store) -> None:
    """`settle`, with a word on stderr when the answer will be behind."""
    behind = settle(settings, store)
    if behind:
        note(f"the fold is {behind} records behind: what follows may be older than what was sent last")


def running_server(folder: Path) -> dict[str, Any] | None:
    """What a running server wrote about itself ("pid", "address", "version"), or None where none runs.

    A server that holds the folder but is not ready yet gives its "pid" alone.
    """
    from mixdown.store.sqlite.folder import FolderLock

    holder = FolderLock(folder).holder()
    if holder is None:
        return None
    try:
        told = json.loads((folder / "server.json").read_bytes())
    except (OSError, ValueError):
        return {"pid": holder}
    return told if isinstance(told, dict) and told.get("pid") == holder else {"pid": holder}
