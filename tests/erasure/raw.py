"""What is left of people in a data folder: every byte of every file, and all that is packed inside them.

A folder and markers enter; where which marker was found leaves. It reads files as a thief of the disk would,
and opens the databases besides, for what lies in them compressed: blocks of sessions, and any other blob.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apsw
import psycopg
import zstandard
from psycopg import sql
from psycopg.types.json import set_json_loads
from psycopg.types.string import TextLoader

from tests import engine

PLACES = (
    {"chunks", "profiles", "refusals", "session_blocks"}
    if engine.ON_POSTGRES
    else {"log.db:chunks", "state.db:profiles", "log.db:refusals", "scratch.db:id_blocks"}
)
"""Where people are while a session lists them, and a record about them was refused."""
KEPT, LOGGED = ("profiles", "chunks") if engine.ON_POSTGRES else ("state.db", "log.db")
"""Where profiles are, and where records."""

_ZSTD = b"\x28\xb5\x2f\xfd"


def found(folder: Path, markers: Iterable[str]) -> dict[str, set[str]]:
    """By place (a file, or a table's column), the markers that it holds."""
    wanted = [(marker, marker.encode()) for marker in markers]
    places: dict[str, set[str]] = {}
    for place, content in contents(folder):
        here = {marker for marker, encoded in wanted if encoded in content}
        if here:
            places.setdefault(place, set()).update(here)
    return places


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file as it is, and every blob and text of every database, unpacked where it is packed.

    On PostgreSQL the database is that of the folder.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            yield path.name, content
            for unpacked in _deflated_in(content):
                yield path.name, unpacked
    for path in sorted(folder.glob("*.db")):
        yield from _of_database(path)
    if engine.ON_POSTGRES:
        yield from _of_postgres(engine.database_of(folder))


def _deflated_in(content: bytes) -> Iterator[bytes]:
    """What lies compressed anywhere in a file, rows that are deleted included: as much as can be unpacked."""
    for header in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", content):
        try:
            yield zlib.decompressobj().decompress(content[header.start() : header.start() + 2**16])
        except zlib.error:
            continue
    for magic in re.finditer(re.escape(_ZSTD), content):
        try:
            reader = zstandard.ZstdDecompressor().decompressobj()
            yield reader.decompress(content[magic.start() : magic.start() + 2**20])
        except zstandard.ZstdError:
            continue


def _of_database(path: Path) -> Iterator[tuple[str, bytes]]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(5000)
        for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            for row in connection.execute(f'SELECT * FROM "{table}"').fetchall():
                for value in row:
                    for content in _unpacked(value):
                        yield f"{path.name}:{table}", content
    finally:
        connection.close()


def _of_postgres(url: str) -> Iterator[tuple[str, bytes]]:
    """Every row that a query can see: what deleted rows leave in its files, VACUUM gives to others."""
    with psycopg.connect(url) as connection:
        set_json_loads(lambda text: text, connection)  # documents as they are
        connection.adapters.register_loader("timestamptz", TextLoader)  # free leases expire at -infinity
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'mixdown'"
        ).fetchall()
        for (table,) in tables:
            rows = connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier("mixdown", table)))
            for row in rows:
                for value in row:
                    for content in _unpacked(value):
                        yield table, content


def _unpacked(value: Any) -> Iterator[bytes]:
    if isinstance(value, list):
        for each in value:
            yield from _unpacked(each)
    elif isinstance(value, str):
        yield value.encode()
    elif isinstance(value, bytes):
        yield value
        for unpack in (zlib.decompress, gzip.decompress, _zstd):
            try:
                yield unpack(value)
            except (OSError, EOFError, ValueError, zlib.error):
                continue


def _zstd(value: bytes) -> bytes:
    try:
        return zstandard.ZstdDecompressor().decompress(value, max_output_size=1 << 28)
    except zstandard.ZstdError as error:
        raise ValueError from error
