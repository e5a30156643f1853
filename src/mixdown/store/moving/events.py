"""Stored events of a data folder's copy, brought into the database and to where its files lie.

Enters: the copied `events.db` and the files that it lists. Leaves: hot batches, files and what is dead in
them. Files are taken as they are, under numbers of their partition; their rows keep their positions, which
lie below all that the database gives out.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import apsw

from mixdown.model.errors import CorruptStoreError, StoreError
from mixdown.store.bounds import CALL_KEY_BYTES
from mixdown.store.event_listing import Place
from mixdown.store.moving.rows import Row, StateTables, Table, Told, copy_table
from mixdown.store.places import PARTITIONS_LIMIT
from mixdown.store.postgres.event_reads import packed
from mixdown.store.postgres.filling import Bytea, Steps, copy_rows
from mixdown.store.shelves import FolderShelf, NoShelf, Shelf
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.event_files import EVENTS_FOLDER
from mixdown.store.sqlite.folder import sync_folder

_FILES: Final = (
    "SELECT number, project, day, count, size_bytes, first_ms, last_ms, begin_ms, largest_day, written_ms,"
    " dead, erased, columns, rest FROM files WHERE number > ? ORDER BY number"
)
_FILE_COLUMNS: Final = (
    "partition, number, project, day, count, size_bytes, first_ms, last_ms, begin_ms, largest_day,"
    " written_ms, dead, erased, columns, rest"
)
_READERS: Final = """
    UPDATE mixdown.event_readers SET next_file = greatest(next_file, %(next)s),
        keys = (SELECT count(*) FROM mixdown.event_keys
            WHERE partition = %(home)s AND length(key) <> %(calls)s),
        call_keys = (SELECT count(*) FROM mixdown.event_keys
            WHERE partition = %(home)s AND length(key) = %(calls)s)
    WHERE partition = %(home)s
"""
# A key may have come again in a later bucket: the newest counts.
_NEWEST_KEYS: Final = (
    "SELECT key, max(time_ms), outcome FROM keys WHERE {behind} AND bucket IN"
    " (SELECT bucket FROM key_buckets WHERE NOT dropped) GROUP BY key ORDER BY key"
)


def refuse_without_shelf(source: apsw.Connection, shelf: Shelf) -> None:
    """Raises `StoreError` where there are files of events, and nobody said where they are to lie."""
    if isinstance(shelf, NoShelf) and sqlite.value(source, "SELECT count(*) FROM files"):
        raise StoreError(
            "there are files of events, and it is not said where they are to lie",
            hint="Name a folder that every node will mount, or s3://bucket/prefix: --events-url.",
        )


def copy_events(
    source: apsw.Connection, folder: Path, shelf: Shelf, steps: Steps, tables: StateTables, told: Told
) -> None:
    """Copy what is not there yet. `folder` holds the copy. Raises `StoreError`."""
    copy_table(source, steps, _hot(tables), told)
    for home in tables.homes:
        copy_table(source, steps, _keys(tables, home), told)
    _copy_files(source, folder, shelf, steps, tables, told)
    if steps.is_done("event_readers"):
        return
    next_file = sqlite.value(source, "SELECT next_file FROM reader")
    with steps.writing("event_readers", [], 0, done=True) as cursor:
        for home in range(steps.partitions):
            cursor.execute(_READERS, {"next": next_file, "home": home, "calls": CALL_KEY_BYTES})


def _hot(tables: StateTables) -> Table:
    def rows_of(row: Row) -> Iterator[Row]:
        batch, project, count, first_ms, last_ms, written_ms, lines = row
        times = first_ms, last_ms, written_ms
        yield tables.home(project), batch, project, count, *times, len(lines), Bytea(packed(lines))

    return Table(
        step="event_hot",
        what="batches of events",
        select="SELECT batch, project, count, first_ms, last_ms, written_ms, lines FROM hot"
        " WHERE {behind} ORDER BY batch",
        key=("batch",),
        count="SELECT count(*) FROM hot",
        target="event_hot",
        columns="partition, batch, project, count, first_ms, last_ms, written_ms, size_bytes, lines",
        rows_of=rows_of,
        size_of=lambda row: 64 + len(row[6]),
    )


def _keys(tables: StateTables, home: int) -> Table:
    return Table(
        step=f"event_keys {home}",
        what="request keys of events",
        select=_NEWEST_KEYS,
        key=("key",),
        count="SELECT coalesce(sum(keys), 0) FROM key_buckets WHERE NOT dropped",
        target="event_keys",
        columns="partition, key, time_ms, outcome",
        rows_of=lambda row: [(home, Bytea(row[0]), row[1], tables.told(row[2]))],
        size_of=lambda _row: 64,
    )


def _copy_files(
    source: apsw.Connection, folder: Path, shelf: Shelf, steps: Steps, tables: StateTables, told: Told
) -> None:
    if steps.is_done("event_files"):
        return
    place, done = steps.place("event_files")
    total = int(sqlite.value(source, "SELECT coalesce(sum(count), 0) FROM files"))
    for row in sqlite.rows(source, _FILES, tuple(place) or (0,)):
        number, project, day, count, *rest = row
        home = tables.home(project)
        target = Place(number * PARTITIONS_LIMIT + home, project, day)
        _put(shelf, target, folder / EVENTS_FOLDER / Place(number, project, day).name)
        dead = sqlite.rows(source, "SELECT position, erased FROM dead WHERE file = ?", (number,))
        done += count
        with steps.writing("event_files", [number], done) as cursor:
            listed = (home, target.number, project, day, count, *rest)
            copy_rows(cursor, "event_files", _FILE_COLUMNS, [listed])
            gone: Sequence[Row] = [(home, target.number, position, bool(erased)) for position, erased in dead]
            copy_rows(cursor, "event_dead", "partition, file, position, erased", gone)
        told("events in files", done, total)
    with steps.writing("event_files", [], done, done=True):
        pass


def _put(shelf: Shelf, place: Place, path: Path) -> None:
    """Put a file where it belongs; what an attempt before this left there is replaced."""
    draft = shelf.draft(place)
    try:
        draft.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        with path.open("rb") as file, draft.open("xb") as copy:
            draft.chmod(0o600)
            shutil.copyfileobj(file, copy, 1024 * 1024)
            copy.flush()
            os.fsync(copy.fileno())
    except FileNotFoundError as error:
        raise CorruptStoreError(f"{path} is listed and missing") from error
    except OSError as error:
        raise StoreError(f"{draft} cannot be written: {error.strerror}") from error
    if isinstance(shelf, FolderShelf):
        for above in (draft.parent, draft.parent.parent, shelf.folder):
            sync_folder(above)
    shelf.keep(place, draft)
