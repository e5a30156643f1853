"""Reads of stored events in PostgreSQL, of one partition or of several together.

Enters: the numbers of partitions. Leaves: `Parts`, sizes, files as they are listed. What a read needs of a
partition to be of one moment is one statement, since a cluster has no moment that its nodes share.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, LiteralString

import msgspec

from mixdown.store.chunk import PACKED, PLAIN, pack_body, unpack_body
from mixdown.store.event_listing import Place
from mixdown.store.events import EventFile, EventsSize, Parts, PropertyColumn
from mixdown.store.postgres.connection import Database
from mixdown.store.shelves import Shelf

_COLUMNS: Final = (
    "number, project, day, count, size_bytes, first_ms, last_ms, begin_ms, columns, rest,"
    " (SELECT array_agg(position ORDER BY position) FROM mixdown.event_dead AS d"
    " WHERE d.partition = %(partition)s AND d.file = event_files.number)"
)
FILES: Final = f"SELECT {_COLUMNS} FROM mixdown.event_files WHERE partition = %(partition)s"
"""The beginning of a statement for `files`, whose parameters have names."""
_PARTS: Final = f"""
    SELECT {_COLUMNS}, NULL::bytea FROM mixdown.event_files
    WHERE partition = %(partition)s AND project = %(project)s
    AND last_ms >= %(since_ms)s AND first_ms < %(until_ms)s AND dead < count
    UNION ALL
    SELECT batch, project, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, lines
    FROM mixdown.event_hot WHERE partition = %(partition)s AND project = %(project)s
    AND last_ms >= %(since_ms)s AND first_ms < %(until_ms)s
    UNION ALL
    SELECT position, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    FROM mixdown.watermarks WHERE partition = %(partition)s AND kind = 'events'
"""
_ZSTD: Final = b"\x28\xb5\x2f\xfd"  # no line begins so
_columns: Final = msgspec.json.Decoder(tuple[PropertyColumn, ...])
_names: Final = msgspec.json.Decoder(frozenset[str])


def packed(lines: bytes) -> bytes:
    """Lines as they are kept: compressed, for they go over the network, into the WAL and to replicas."""
    return pack_body(lines)[1]


def unpacked(kept: bytes) -> bytes:
    """The lines again."""
    return unpack_body(PACKED if kept.startswith(_ZSTD) else PLAIN, kept)


def watermark(database: Database, partition: int) -> int:
    """How far a partition's log has been taken."""
    return int(
        database.value(
            "SELECT position FROM mixdown.watermarks WHERE partition = %s AND kind = 'events'", (partition,)
        )
    )


def parts(
    database: Database, shelf: Shelf, partitions: Sequence[int], project: int, since_ms: int, until_ms: int
) -> Parts:
    """What holds a project's events; its watermark is that of the last partition."""
    asked = {"project": project, "since_ms": since_ms, "until_ms": until_ms}
    if len(partitions) == 1:
        rows = database.rows(_PARTS, {**asked, "partition": partitions[0]}, binary=True)
    else:
        with database.pipeline() as connection:
            cursors = [
                connection.execute(_PARTS, {**asked, "partition": partition}, binary=True)
                for partition in partitions
            ]
            rows = [row for cursor in cursors for row in cursor.fetchall()]
    held: list[EventFile] = []
    hot: list[tuple[int, bytes]] = []
    place = 0
    for *row, lines in rows:
        if lines is not None:
            hot.append((row[0], unpacked(lines)))
        elif row[1] is None:
            place = row[0]
        else:
            held.append(_file(row, shelf))
    held.sort(key=lambda file: file.number)
    hot.sort(key=lambda batch: batch[0])
    lines = tuple(batch for _, batch in hot)
    attach = shelf.attach if held else None
    return Parts(project, since_ms, until_ms, place, tuple(held), lines, attach)


def files(
    database: Database, shelf: Shelf, partition: int, rest: LiteralString, **parameters: Any
) -> list[EventFile]:
    """A partition's listed files; `rest` is the end of a statement that begins with `FILES`."""
    rows = database.rows(f"{FILES} {rest}", {"partition": partition, **parameters}, binary=True)
    return [_file(row, shelf) for row in rows]


def _file(row: Sequence[Any], shelf: Shelf) -> EventFile:
    number, project, day, count, size_bytes, first_ms, last_ms, begin_ms, columns, rest, dead = row
    return EventFile(
        number=number,
        project=project,
        path=shelf.path(Place(number, project, day)),
        day=day,
        count=count,
        size_bytes=size_bytes,
        first_ms=first_ms,
        last_ms=last_ms,
        begin_ms=begin_ms,
        columns=_decoded(columns),
        rest=None if rest is None else _names.decode(rest),
        dead=tuple(dead or ()),
    )


@lru_cache(maxsize=512)
def _decoded(columns: str) -> tuple[PropertyColumn, ...]:
    return _columns.decode(columns)


def projects(database: Database, partitions: Sequence[int]) -> list[int]:
    """The projects that have events in these partitions, ascending."""
    of = [*partitions]
    with database.pipeline() as connection:
        found = [
            connection.execute(
                "SELECT DISTINCT project FROM mixdown.event_hot WHERE partition = ANY(%s)", (of,)
            ),
            connection.execute(
                "SELECT DISTINCT project FROM mixdown.event_files WHERE partition = ANY(%s)", (of,)
            ),
        ]
        return sorted({project for cursor in found for (project,) in cursor.fetchall()})


def owed(database: Database, partitions: Sequence[int], project: int) -> int:
    """How many files of a project still hold rows that were hidden for good."""
    of = {"partitions": [*partitions], "project": project}
    with database.pipeline() as connection:
        found = [
            connection.execute(
                "SELECT count(*) FROM mixdown.event_files"
                " WHERE partition = ANY(%(partitions)s) AND project = %(project)s AND erased > 0",
                of,
            ),
            connection.execute(
                "SELECT count(*) FROM mixdown.event_removable"
                " WHERE partition = ANY(%(partitions)s) AND project = %(project)s AND erased",
                of,
            ),
        ]
        return sum(int(count) for cursor in found for (count,) in cursor.fetchall())


def size(database: Database, partitions: Sequence[int], project: int | None) -> EventsSize:
    """How much these partitions hold, of one project or of all."""
    of = {"partitions": [*partitions], "project": project}
    with database.pipeline() as connection:
        found = [
            connection.execute(
                "SELECT coalesce(sum(count), 0)::bigint, coalesce(sum(size_bytes), 0)::bigint"
                " FROM mixdown.event_hot WHERE partition = ANY(%(partitions)s)"
                " AND (%(project)s::bigint IS NULL OR project = %(project)s)",
                of,
            ),
            connection.execute(
                "SELECT count(*), coalesce(sum(count), 0)::bigint, coalesce(sum(size_bytes), 0)::bigint,"
                " count(*) FILTER (WHERE day IS NULL OR erased > 0), coalesce(sum(dead), 0)::bigint"
                " FROM mixdown.event_files WHERE partition = ANY(%(partitions)s)"
                " AND (%(project)s::bigint IS NULL OR project = %(project)s)",
                of,
            ),
            connection.execute(
                "SELECT count(*) FROM mixdown.event_removable WHERE partition = ANY(%(partitions)s)"
                " AND (%(project)s::bigint IS NULL OR project = %(project)s)",
                of,
            ),
        ]
        ((hot,), (listed,), ((removable,),)) = [cursor.fetchall() for cursor in found]
    return EventsSize(
        hot_events=hot[0],
        hot_bytes=hot[1],
        files=listed[0],
        file_events=listed[1],
        file_bytes=listed[2],
        waiting=listed[3],
        removable=removable,
        dead=listed[4],
    )
