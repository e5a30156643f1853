"""Opening the store that the settings name: a data folder, or a PostgreSQL.

Settings and the role of the process enter; an open store leaves. The one place that knows both engines; what
belongs to one of them is loaded when it is asked for.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol, cast

from mixdown.model.errors import SettingsError
from mixdown.settings import Settings
from mixdown.store.places import all_views
from mixdown.store.protocols import Store

Role = Literal["worker", "fold", "events", "cli"]
Damage = Callable[[Sequence[tuple[int, int, str]]], None]

_URL_LIMIT_BYTES: Final = 8192
IDLE_POLL_S: Final = 0.5
"""So rarely who reads the log looks for more on a cluster, while nothing comes."""
_POOLS: Final[dict[Role, int]] = {"worker": 24, "fold": 10, "events": 6, "cli": 4}
"""Connections at most: a worker has lanes and threads that read, each with one in hand; a fold takes two for
each of four partitions, and two for what it does between their steps."""


def open_store(settings: Settings, *, role: Role, create: bool) -> Store:
    """Open the store; with `create`, make what is missing. Raises `StoreError` and `SettingsError`."""
    if settings.on_postgres:
        return _postgres(settings, role, create=create)
    from mixdown.store.sqlite import open_store as open_folder  # noqa: PLC0415 - the other engine's process

    return open_folder(settings.data_dir, role=role, create=create)


def database_url(settings: Settings) -> str:
    """The URL of the database, from wherever it was given. Raises `SettingsError`."""
    if settings.database_url:
        return settings.database_url
    try:
        with Path(settings.database_url_file).open(encoding="utf-8") as file:
            url = file.read(_URL_LIMIT_BYTES).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"database_url_file cannot be read: {error}", hint="it names a text file that this user may read"
        ) from error
    if not url:
        raise SettingsError(f"{settings.database_url_file} is empty: it is to hold the database's URL")
    return url


def _postgres(settings: Settings, role: Role, *, create: bool) -> Store:
    from mixdown.store.postgres import open_postgres  # noqa: PLC0415 - embedded servers need none of it
    from mixdown.store.shelves import shelf_of  # noqa: PLC0415 - nor, mostly, of DuckDB

    own = settings.data_dir / "events"
    shelf = None
    if settings.events_url or role != "cli" or own.is_dir():  # commands may run where no node does
        shelf = shelf_of(settings.events_url or str(own), settings.data_dir)
    opened = open_postgres(
        database_url(settings),
        role=role,
        create=create,
        pool_size=_POOLS[role],
        password_file=settings.database_password_file,
        shelf=shelf,
    )
    return cast("Store", opened)


def hear_of_damage(store: Store, tell: Damage) -> None:
    """Have damaged chunks told that were not known before."""
    for view in all_views(store):
        log: Any = view.log
        log.on_damage = tell


def read_for_at_most(store: Store, longest_read_ms: int) -> None:
    """Keep files of events that are listed no more for as long as reads may take."""
    events: Any = store.events
    events.longest_read_ms = longest_read_ms
    events.grace_ms = max(events.grace_ms, longest_read_ms)


def keep_events_for(store: Store, days: int, on_expiry: Callable[[int, str], None]) -> None:
    """Have the upkeep of events drop days that ended so many days ago; 0 keeps all. See `FiledEvents`."""
    events: Any = store.events
    events.keep_for(days, on_expiry)


def holding_of(store: Store, kind: Literal["fold", "events"], name: str) -> Holding | None:
    """What says which partitions this process reads; None where it reads all, alone."""
    whole: Any = store
    if not hasattr(whole, "fences"):
        return None
    from mixdown.store.postgres.leases import Leases  # noqa: PLC0415 - embedded servers need none of it

    holder = f"{socket.gethostname()} {name} {os.getpid()} {os.urandom(6).hex()}"
    return Leases(whole.database, whole.fences, kind, holder, partitions=store.partition_count)


def idle_poll_s_of(store: Store) -> float:
    """How rarely who reads the log may look while nothing comes, in seconds; 0 where looks are cheap."""
    whole: Any = store
    return IDLE_POLL_S if hasattr(whole, "fences") and whole.database.is_cluster else 0.0


class Holding(Protocol):
    """Which partitions a process reads (`fold.held.Holding`)."""

    def tend(self) -> Collection[int]:
        """Renew, make room for others, take what is free; the partitions held. Raises `StoreError`."""

    def leave(self) -> None:
        """Give all up at once. Raises `StoreError`."""
