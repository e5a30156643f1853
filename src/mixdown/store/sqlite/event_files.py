"""The list of Parquet files in `events.db`: which files count, which of their rows do not, which may go.

Enters: what `store.duck.writing` says of files. Leaves: `EventFile`s. The functions run inside the caller's
transaction; a file counts from the commit that lists it to the commit that does not.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from mixdown.store.duck.writing import Written
from mixdown.store.event_listing import Place
from mixdown.store.events import EventFile, EventsSize, PropertyColumn
from mixdown.store.sqlite import connection as sqlite

EVENTS_FOLDER: Final = "events"
"""The folder of Parquet files in the data folder."""
_SELECT: Final = (
    "SELECT number, project, day, count, size_bytes, first_ms, last_ms, begin_ms, columns, rest FROM files "
)
_columns: Final = msgspec.json.Decoder(tuple[PropertyColumn, ...])
_names: Final = msgspec.json.Decoder(frozenset[str])


def integers(values: Iterable[int]) -> Any:
    """Integers as one parameter, for `carray(?)`; there must be one at least."""
    return apsw.carray(array("q", values))


def listed(
    connection: apsw.Connection, events: Path, where: str, bindings: sqlite.Bindings
) -> list[EventFile]:
    """Listed files, with their dead rows, by their numbers."""
    rows = sqlite.rows(connection, f"{_SELECT} WHERE {where} ORDER BY number", bindings)
    dead = _dead(connection, [row[0] for row in rows])
    return [_file(row, events, dead.get(row[0], ())) for row in rows]


def _dead(connection: apsw.Connection, numbers: Sequence[int]) -> dict[int, tuple[int, ...]]:
    if not numbers:
        return {}
    found: dict[int, list[int]] = {}
    for number, position in sqlite.rows(
        connection,
        "SELECT d.file, d.position FROM carray(?) AS asked CROSS JOIN dead AS d ON d.file = asked.value",
        (integers(numbers),),
    ):
        found.setdefault(number, []).append(position)
    return {number: tuple(positions) for number, positions in found.items()}


def _file(row: Sequence[Any], events: Path, dead: tuple[int, ...]) -> EventFile:
    number, project, day, count, size_bytes, first_ms, last_ms, begin_ms, columns, rest = row
    return EventFile(
        number=number,
        project=project,
        path=str(events / Place(number, project, day).name),
        day=day,
        count=count,
        size_bytes=size_bytes,
        first_ms=first_ms,
        last_ms=last_ms,
        begin_ms=begin_ms,
        columns=_decoded(columns),
        rest=None if rest is None else _names.decode(rest),
        dead=dead,
    )


@lru_cache(maxsize=512)
def _decoded(columns: str) -> tuple[PropertyColumn, ...]:
    return _columns.decode(columns)


def add(connection: apsw.Connection, place: Place, written: Written, now_ms: int) -> None:
    """List a file that is on disk."""
    rest = None if written.rest is None else msgspec.json.encode(sorted(written.rest)).decode()
    sqlite.rows(
        connection,
        "INSERT INTO files (number, project, day, count, size_bytes, first_ms, last_ms, largest_day,"
        " written_ms, columns, rest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            place.number,
            place.project,
            place.day,
            written.count,
            written.size_bytes,
            written.first_ms,
            written.last_ms,
            written.largest_day or written.count,
            now_ms,
            msgspec.json.encode(written.columns).decode(),
            rest,
        ),
    )
    sqlite.rows(connection, "UPDATE reader SET next_file = max(next_file, ?)", (place.number + 1,))


def remove(connection: apsw.Connection, numbers: Iterable[int], now_ms: int | None) -> None:
    """List files no more; they are unlinked when no read can have them on its list."""
    for number in numbers:
        sqlite.rows(
            connection,
            "INSERT INTO removable SELECT number, project, day, ?, erased > 0 FROM files WHERE number = ?",
            (now_ms, number),
        )
        sqlite.rows(connection, "DELETE FROM files WHERE number = ?", (number,))


def move_on(connection: apsw.Connection, files: Iterable[EventFile], begin_ms: int, now_ms: int) -> None:
    """Let recent files begin at a time: what lies before it stands in files of days."""
    for file in files:
        if file.last_ms < begin_ms:
            remove(connection, [file.number], now_ms)
        else:
            sqlite.rows(connection, "UPDATE files SET begin_ms = ? WHERE number = ?", (begin_ms, file.number))


def kill(
    connection: apsw.Connection, rows: Mapping[int, Sequence[int]], *, erased: bool, now_ms: int | None
) -> int:
    """Note rows of files as dead; how many were not before. A file of which no row is left goes."""
    killed = 0
    for number, positions in rows.items():
        if not positions:
            continue
        before = sqlite.value(connection, "SELECT count(*) FROM dead WHERE file = ?", (number,))
        connection.executemany(
            "INSERT INTO dead VALUES (?1, ?2, ?3)"
            " ON CONFLICT (file, position) DO UPDATE SET erased = 1 WHERE excluded.erased",
            [(number, position, erased) for position in positions],
        )
        dead, gone = sqlite.value(
            connection, "SELECT count(*), sum(erased) FROM dead WHERE file = ?", (number,)
        )
        count = sqlite.value(
            connection,
            "UPDATE files SET dead = ?, erased = ? WHERE number = ? RETURNING count",
            (dead, gone, number),
        )
        killed += dead - before
        if count == dead:
            remove(connection, [number], now_ms)
    return killed


def due_for_removal(
    connection: apsw.Connection, before_ms: int, erased_before_ms: int, limit: int
) -> list[Place]:
    """Files that were listed no more before a time; another where they hold what was erased."""
    found = sqlite.rows(
        connection,
        "SELECT number, project, day FROM removable WHERE since_ms <= iif(erased, ?, ?)"
        " ORDER BY number LIMIT ?",
        (erased_before_ms, before_ms, limit),
    )
    return [Place(*row) for row in found]


def note_removal(connection: apsw.Connection, now_ms: int) -> None:
    """Let the files that were removed without a clock count as removed now."""
    sqlite.rows(connection, "UPDATE removable SET since_ms = ? WHERE since_ms IS NULL", (now_ms,))


def removed(connection: apsw.Connection, places: Iterable[Place]) -> None:
    """Forget files that were unlinked."""
    connection.executemany("DELETE FROM removable WHERE number = ?", [(place.number,) for place in places])


def known(connection: apsw.Connection) -> set[int]:
    """The numbers of all files that lie on disk by right."""
    found = sqlite.rows(connection, "SELECT number FROM files UNION ALL SELECT number FROM removable")
    return {number for (number,) in found}


def remove_strays(events: Path, known_numbers: Collection[int]) -> int:
    """Unlink what a process left that died before it listed it; how many files."""
    strays = 0
    for path in sorted(events.rglob("*"), reverse=True):  # a folder comes behind what is in it
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif not _is_known(path, known_numbers):
            path.unlink(missing_ok=True)
            strays += 1
    return strays


def _is_known(path: Path, known_numbers: Collection[int]) -> bool:
    return path.suffix == ".parquet" and path.stem.isdecimal() and int(path.stem) in known_numbers


def size(connection: apsw.Connection, project: int | None) -> EventsSize:
    """How much is stored."""
    of = "WHERE ?1 IS NULL OR project = ?1"
    hot = sqlite.value(
        connection,
        f"SELECT coalesce(sum(count), 0), coalesce(sum(length(lines)), 0) FROM hot {of}",  # noqa: S608
        (project,),
    )
    files = sqlite.value(
        connection,
        "SELECT count(*), coalesce(sum(count), 0), coalesce(sum(size_bytes), 0),"  # noqa: S608
        f" count(*) FILTER (WHERE day IS NULL OR erased > 0), coalesce(sum(dead), 0) FROM files {of}",
        (project,),
    )
    removable = sqlite.value(connection, f"SELECT count(*) FROM removable {of}", (project,))  # noqa: S608
    return EventsSize(
        hot_events=hot[0],
        hot_bytes=hot[1],
        files=files[0],
        file_events=files[1],
        file_bytes=files[2],
        waiting=files[3],
        removable=removable,
        dead=files[4],
    )
