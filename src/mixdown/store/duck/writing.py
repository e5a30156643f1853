"""Parquet files of events: written from hot batches, split into days, merged.

Enters: hot batches or listed files. Leaves: files, on disk with their folders when a function returns, and
what there is to say of them in a listing. Nothing here lists, and nothing removes a file: that is the
store's, in transactions of its own.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mixdown.store.duck.lines import SELECTED, lines_as_source
from mixdown.store.duck.merging import merged
from mixdown.store.duck.shredding import BASE, listed, rest_names, shredded
from mixdown.store.duck.sql import FILE_COLUMN, as_allowed, identifier, literal, parquet
from mixdown.store.duck.table import KEY, at_time, store_errors
from mixdown.store.events import Attach, EventFile, PropertyColumn

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DAY_MS: Final = 24 * 3600 * 1000
RECENT: Final = "recent"
SCRATCH: Final = ".scratch"
_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700
_BASE: Final = ", ".join(BASE)
_FILE: Final = identifier(FILE_COLUMN)
# Sorted by time in small groups, so that a day can be taken out of a file of many days.
FORM: Final = "FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2"
_RECENT_FORM: Final = "compression_level 1, row_group_size 2048"
# A day is sorted by person: in groups of this size, a read of one person unfolds a few and passes the rest.
# Groups of 122,880 rows take 2 to 5 % less room, and four times as long for one person.
DAY_FORM: Final = "row_group_size 16384"


class Written(msgspec.Struct, frozen=True):
    """What a listing says of a file that was written.

    `largest_day` tells how many of its events lie in the day that has most of them (0: all).
    """

    count: int
    size_bytes: int
    first_ms: int
    last_ms: int
    columns: tuple[PropertyColumn, ...] = ()
    rest: frozenset[str] | None = None
    largest_day: int = 0


class Split(msgspec.Struct, frozen=True):
    """What came of a split: the file (None: nothing was left), and rows of other files that are now dead."""

    written: Written | None
    dead: dict[int, tuple[int, ...]]


def day_name(day: int) -> str:
    """A UTC day (days since 1970) as its folder is called."""
    try:
        return (date(1970, 1, 1) + timedelta(days=day)).isoformat()
    except OverflowError:
        return f"day {day}"


@contextmanager
def workshop(
    folder: Path,
    *,
    memory_limit_bytes: int,
    threads: int,
    scratch: Path | None = None,
    attach: Attach | None = None,
    readable: Sequence[str] = (),
) -> Iterator[DuckDBPyConnection]:
    """A connection that reads and writes files in `folder` alone, in bounded memory.

    What does not fit in memory goes to `scratch` for as long (None: into a folder within `folder`). It reads
    what `attach` brings as well, below the addresses `readable`.
    """
    import duckdb  # noqa: PLC0415 - tens of MiB, for those who write events

    scratch = scratch or folder / SCRATCH
    scratch.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    with store_errors(), TemporaryDirectory(dir=scratch) as own:  # two may not share one
        connection = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": f"{memory_limit_bytes // 1024}KiB",
                "threads": threads,
                "temp_directory": own,
                "preserve_insertion_order": False,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
        try:
            connection.execute("SET enable_progress_bar = false")
            if attach is not None:
                attach(connection)
            # what hot batches are read from has no name but this
            allowed = as_allowed([str(folder), "/proc/self/fd", *readable])
            connection.execute("SET allowed_directories = ?", [allowed])
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            yield connection
        finally:
            connection.close()


def write_recent(connection: DuckDBPyConnection, batches: Sequence[bytes], path: Path) -> Written:
    """Write hot batches to a recent file."""
    with lines_as_source(batches) as source:
        rows = f"SELECT {SELECTED} FROM {source}"
        rows = f"SELECT {_BASE}, properties::VARCHAR AS properties FROM ({rows}) ORDER BY time, position"
        count, size, _ = _copy(connection, rows, path, _RECENT_FORM)
    first_ms, last_ms = _times(connection, path)
    ((largest_day,),) = connection.execute(
        "SELECT max(events) FROM (SELECT count(*) AS events"
        f" FROM {_parquet(path)} GROUP BY epoch_ms(time) // {DAY_MS})"
    ).fetchall()
    return Written(count, size, first_ms, last_ms, largest_day=int(largest_day or 0))


def next_time(connection: DuckDBPyConnection, sources: Sequence[EventFile]) -> int | None:
    """The least time of the rows that are still to be split."""
    ((found,),) = connection.execute(
        f"SELECT epoch_ms(min(time)) FROM ({_of(sources, 'time')})",
    ).fetchall()
    return None if found is None else int(found)


def split(
    connection: DuckDBPyConnection,
    sources: Sequence[EventFile],
    day: int,
    stored: Sequence[EventFile],
    path: Path,
) -> Split:
    """Write the rows of one day of recent files to a file of that day.

    `stored` are the files of the day that are there. Of an event that is stored twice the one with the
    highest position stays: what is older is left out, or told as dead.
    """
    until = at_time((day + 1) * DAY_MS)
    _dead_rows(connection, (*sources, *stored))
    rows = _of(sources, f"{_BASE}, properties")
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE incoming AS"
        f" SELECT * FROM ({rows}) ANTI JOIN dead USING (position) WHERE time < {until}"
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE older AS SELECT position FROM incoming"
        f" QUALIFY row_number() OVER (PARTITION BY {KEY} ORDER BY position DESC) > 1"
    )
    dead = _stored_again(connection, stored) if stored else {}
    connection.execute("DELETE FROM incoming WHERE position IN (SELECT position FROM older)")
    select, chosen = shredded(connection, "incoming")
    written = None
    if connection.execute("SELECT count(*) FROM incoming").fetchall() != [(0,)]:
        count, size, counts = _copy(connection, f"{select} ORDER BY distinct_id, time", path, DAY_FORM)
        first_ms, last_ms = _times(connection, path)
        rest = rest_names(connection, _parquet(path)) if counts["rest"] else frozenset()
        written = Written(count, size, first_ms, last_ms, listed(chosen, counts), rest)
    return Split(written, dead)


def merge(connection: DuckDBPyConnection, files: Sequence[EventFile], path: Path) -> Written | None:
    """Write files of a day as one, without their dead rows; None where nothing is left."""
    _dead_rows(connection, files)
    select, chosen, rest = merged(files)
    count, size, counts = _copy(connection, f"{select} ORDER BY distinct_id, time", path, DAY_FORM)
    if not count:
        path.unlink()
        return None
    first_ms, last_ms = _times(connection, path)
    return Written(
        count, size, first_ms, last_ms, listed(chosen, counts), rest if counts["rest"] else frozenset()
    )


def positions_of(
    connection: DuckDBPyConnection, file: EventFile, ids: Collection[str], below: int
) -> tuple[list[int], list[int]]:
    """The positions below `below` of a file's rows with these distinct_ids.

    First of rows that count, then of those that have moved on (`EventFile.begin_ms`) and still lie there.
    """
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE ids AS SELECT unnest(?::VARCHAR[]) AS distinct_id", [[*ids]]
    )
    moved = "false" if file.begin_ms is None else f"time < {at_time(file.begin_ms)}"
    found = connection.execute(
        f"SELECT position, {moved} FROM {parquet([file.path])} SEMI JOIN ids USING (distinct_id)"
        " WHERE position < ? ORDER BY position",
        [below],
    ).fetchall()
    return [position for position, gone in found if not gone], [position for position, gone in found if gone]


def _stored_again(connection: DuckDBPyConnection, stored: Sequence[EventFile]) -> dict[int, tuple[int, ...]]:
    """Compare `incoming` with what is stored: rows of files that are dead now; into `older` what is older."""
    numbers = {file.path: file.number for file in stored}
    ((first_ms, last_ms),) = connection.execute(
        "SELECT epoch_ms(min(time)), epoch_ms(max(time)) FROM incoming"
    ).fetchall()
    if first_ms is None:
        return {}
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE held AS"
        f" SELECT {KEY}, position, {_FILE} FROM {parquet(numbers, named=True)}"
        f" ANTI JOIN dead USING (position) SEMI JOIN incoming USING ({KEY})"
        f" WHERE time >= {at_time(first_ms)} AND time <= {at_time(last_ms)}"
    )
    connection.execute(
        f"INSERT INTO older SELECT incoming.position FROM incoming JOIN held USING ({KEY})"
        " WHERE incoming.position < held.position"
    )
    found = connection.execute(
        f"SELECT {_FILE}, list(DISTINCT held.position ORDER BY held.position)"
        f" FROM held JOIN incoming USING ({KEY}) WHERE held.position < incoming.position GROUP BY {_FILE}"
    ).fetchall()
    return {numbers[path]: tuple(positions) for path, positions in found}


def _dead_rows(connection: DuckDBPyConnection, files: Sequence[EventFile]) -> None:
    """Make the table `dead` of what the listing says is dead in these files."""
    connection.execute("CREATE OR REPLACE TEMP TABLE dead (position BIGINT)")
    dead = [position for file in files for position in file.dead]
    if dead:
        connection.execute("INSERT INTO dead SELECT unnest(?::BIGINT[])", [dead])


def _of(files: Sequence[EventFile], columns: str) -> str:
    """SQL of the rows of recent files that have not moved on."""
    groups: dict[int | None, list[str]] = {}
    for file in files:
        groups.setdefault(file.begin_ms, []).append(file.path)
    selects = [
        f"SELECT {columns} FROM {parquet(paths)}"
        + ("" if begin_ms is None else f" WHERE time >= {at_time(begin_ms)}")
        for begin_ms, paths in groups.items()
    ]
    return " UNION ALL ".join(selects)


def _copy(
    connection: DuckDBPyConnection, select: str, path: Path, form: str
) -> tuple[int, int, dict[str, int]]:
    """Write rows to a file, on disk when it returns: how many rows, bytes, and values of each column."""
    _make(path)
    connection.execute(
        f"COPY ({select}) TO {literal(str(path))} ({FORM}, {form}, USE_TMP_FILE false, RETURN_STATS true)"
    )
    (told,) = connection.fetchall()
    sync(path)
    columns: dict[str, Any] = told[4] or {}
    counts = {
        name: int(of_column["num_values"]) - int(of_column["null_count"])
        for name, of_column in columns.items()
    }
    return int(told[1]), int(told[2]), _Counts((_unquoted(name), count) for name, count in counts.items())


class _Counts(dict[str, int]):
    """Columns that statistics say nothing of hold nothing."""

    def __missing__(self, name: str) -> int:
        return 0


def _unquoted(name: str) -> str:
    """A column's name as statistics quote it."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _make(path: Path) -> None:
    """Make an empty file that nobody else may read, and its folders."""
    path.parent.parent.mkdir(mode=_FOLDER_MODE, exist_ok=True)
    path.parent.mkdir(mode=_FOLDER_MODE, exist_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _FILE_MODE))


def sync(path: Path) -> None:
    """Put a file on disk, and the entries of the folders that lead to it."""
    for each in (path, path.parent, path.parent.parent, path.parent.parent.parent):
        fd = os.open(each, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _times(connection: DuckDBPyConnection, path: Path) -> tuple[int, int]:
    ((first_ms, last_ms),) = connection.execute(
        f"SELECT epoch_ms(min(time)), epoch_ms(max(time)) FROM {_parquet(path)}"
    ).fetchall()
    return (0, -1) if first_ms is None else (int(first_ms), int(last_ms))


def _parquet(path: Path) -> str:
    return parquet([str(path)])
