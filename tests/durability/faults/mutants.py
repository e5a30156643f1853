"""Guarantees broken on purpose, to show that the tests notice. Each patches the process that it runs in.

keys_unchecked   the fold applies whatever comes, retries too
reply_early      workers answer before the chunk is committed (and commit late)
history_apart    the fold commits what changed before the profiles that it changed in
watermark_apart  the fold commits the watermark before the profiles
trim_early       the log is trimmed up to the watermark, not only up to the durable one
position_kept    the fold stays where it was when a checkpoint failed behind its transaction
unsynced         the log is written without ever being synced
events_twice     the events reader takes in whatever comes, retries too
events_apart     the events reader commits the watermark before the events
files_unsynced   files of events are listed without being put on disk first
files_unlinked   files of events are unlinked before the commit that no longer lists them
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

WINDOW: Final = "window"
"""A file beside the data folder: as long as it is there, a kill meets what the mutant has broken."""
WINDOW_S: Final = 0.5


def state_class() -> Any:
    """The class of what this process keeps profiles in."""
    if os.environ.get("MIXDOWN_DATABASE_URL"):
        return import_module("mixdown.store.postgres.state").PostgresState
    return import_module("mixdown.store.sqlite.state").SqliteState


def keys_unchecked() -> None:
    """The fold knows no key of an earlier transaction."""

    def nothing_known(*_: Any, **__: Any) -> dict[bytes, None]:
        return {}

    state_class().known_keys = nothing_known


def watermark_apart() -> None:
    """A fold transaction becomes two."""
    import msgspec

    from mixdown.store.protocols import FoldResult

    state = state_class()
    written: Any = state.write

    def write_watermark_first(self: Any, result: FoldResult) -> None:
        written(self, FoldResult(result.watermark, [], [], result.now_ms, begin=result.begin))
        written(self, msgspec.structs.replace(result, begin=result.watermark))

    state.write = write_watermark_first


def history_apart() -> None:
    """History has a transaction of its own, before the profiles' and the watermark's."""
    import msgspec

    from mixdown.store.history import HistoryFeed
    from mixdown.store.history_tables import HistoryWriter
    from mixdown.store.protocols import FoldResult
    from mixdown.store.sqlite import connection, state
    from mixdown.store.sqlite.history import SqliteHistory

    written: Any = state.SqliteState.write

    def write_history_first(self: Any, result: FoldResult) -> None:
        profiles = list(result.profiles)
        feed = result.history
        assert feed is not None
        with connection.transaction(self._writer):
            HistoryWriter(SqliteHistory(self._writer), feed).finish()
        written(self, msgspec.structs.replace(result, profiles=profiles, history=HistoryFeed(feed.span)))

    state.SqliteState.write = write_history_first  # type: ignore[method-assign]


def trim_early() -> None:
    """Trimming forgets that the newest fold transactions are not on disk yet, and stay so for long here."""
    from mixdown.fold import loop
    from mixdown.store.protocols import Store
    from mixdown.store.sqlite import state

    def trim(store: Store, *, retention_ms: int, now_ms: int) -> int:
        return store.log.trim(store.state.watermark(), now_ms - retention_ms)

    loop.trim = trim
    state._CHECKPOINT_PAGES = 1_000_000  # type: ignore[misc]


def position_kept() -> None:
    """The fold does not ask how far it is after a write that raised."""
    from mixdown.fold.profiles import ProfileFold

    stepped: Any = ProfileFold.step

    def step_without_asking(self: Any) -> Any:
        assert hasattr(self, "_uncertain")
        self._uncertain = False
        return stepped(self)

    ProfileFold.step = step_without_asking  # type: ignore[method-assign]


def reply_early() -> None:
    """Requests are answered, and only then committed."""
    from mixdown.ingest import commit

    committed: Any = commit.Committer._commit_to

    def reply_then_commit(self: Any, log: Any, batch: Any, partition: int = 0) -> Any:
        commit._settle(batch, None)
        time.sleep(0.02)
        return committed(self, log, batch, partition)

    commit.Committer._commit_to = reply_then_commit  # type: ignore[method-assign]


def unsynced() -> None:
    """SQLite is told not to sync the log."""
    from mixdown.store.sqlite import connection

    connected = connection.connect

    def connect_unsynced(path: Path, kind: connection.Kind, **options: int) -> Any:
        made = connected(path, kind, **options)
        if kind.name == "log":
            connection.rows(made, "PRAGMA synchronous = OFF")
        return made

    connection.connect = connect_unsynced


def events_twice() -> None:
    """The events reader knows no key of an earlier step; nor do workers, which would keep retries from it."""
    events = import_module("mixdown.store.sqlite.events")

    def nothing_known(*_: Any, **__: Any) -> dict[bytes, None]:
        return {}

    events.SqliteEvents.known_keys = nothing_known
    if "worker" in sys.orig_argv:
        keys_unchecked()


def events_apart() -> None:
    """A step of the events reader becomes two transactions."""
    from mixdown.store.events import EventsWrite
    from mixdown.store.sqlite import events

    written: Any = events.SqliteEvents.write

    def write_watermark_first(self: Any, write: EventsWrite) -> None:
        written(self, EventsWrite(write.watermark, (), (), write.now_ms))
        written(self, write)

    events.SqliteEvents.write = write_watermark_first  # type: ignore[method-assign,assignment]


def files_unsynced() -> None:
    """What puts files of events on disk does nothing."""
    writing: Any = import_module("mixdown.store.duck.writing")
    assert hasattr(writing, "sync"), "files are put on disk by another name"
    writing.sync = lambda *_: None


def files_unlinked() -> None:
    """A file goes when it is taken from the list, though that may not be committed."""
    files: Any = import_module("mixdown.store.sqlite.event_files")
    removed: Any = files.remove

    def unlink_first(connection: Any, numbers: Any, now_ms: int | None) -> None:
        data = Path(connection.filename).parent
        for number in (gone := list(numbers)):
            for path in (data / "events").rglob(f"{number}.parquet"):
                path.unlink()
        removed(connection, gone, now_ms)
        if gone and "mixdown.server.child" in sys.orig_argv:
            window = Path(os.environ["FAULT_FOLDER"]) / WINDOW
            window.touch()
            time.sleep(WINDOW_S)
            window.unlink(missing_ok=True)

    files.remove = unlink_first


MUTANTS: Final[dict[str, tuple[str, Callable[[], None]]]] = {
    "keys_unchecked": ("fold", keys_unchecked),
    "watermark_apart": ("fold", watermark_apart),
    "history_apart": ("fold", history_apart),
    "trim_early": ("fold", trim_early),
    "position_kept": ("fold", position_kept),
    "reply_early": ("worker", reply_early),
    "unsynced": ("", unsynced),
    "events_twice": ("", events_twice),
    "events_apart": ("events", events_apart),
    "files_unsynced": ("events", files_unsynced),
    "files_unlinked": ("events", files_unlinked),
}
"""By name: the role of the processes that it breaks ("": all of them), and how."""
