"""Floors: the same bytes with no logic at all, so that a figure says how much of the machine is used."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import apsw
import orjson


def decode_and_append(folder: Path, bodies: Sequence[bytes], *, size: int, seconds: float) -> float:
    """Records/s of: decode a body, append its bytes to one file, fdatasync; one body at a time, one core."""
    records = 0
    began = time.perf_counter()
    with (folder / "floor.log").open("wb", buffering=0) as file:
        while time.perf_counter() - began < seconds:
            for body in bodies:
                orjson.loads(body)
                file.write(body)
                os.fdatasync(file.fileno())
                records += size
                if time.perf_counter() - began >= seconds:
                    break
    return records / (time.perf_counter() - began)


def upsert(folder: Path, state_file: Path, batches: Iterable[Sequence[str]]) -> float:
    """Documents/s of upserting final documents with no logic: one transaction for each batch of ids.

    The documents are read from a copy of the server's own state, each is changed by a byte (a row
    that keeps its bytes costs no page write), and written by the same statement, page size and
    durability as the fold's.
    """
    path = folder / "floor.db"
    source = apsw.Connection(str(state_file), flags=apsw.SQLITE_OPEN_READONLY)
    target = apsw.Connection(str(path))
    page_size = source.execute("PRAGMA page_size").get
    target.execute(f"PRAGMA page_size={page_size}")
    target.execute("PRAGMA journal_mode=WAL")
    target.execute("PRAGMA synchronous=NORMAL")
    target.execute("PRAGMA wal_autocheckpoint=16000")
    target.execute("PRAGMA cache_size=-131072")
    target.execute("CREATE TABLE doc(id TEXT PRIMARY KEY, doc TEXT) WITHOUT ROWID")
    rows = source.execute("SELECT distinct_id, properties FROM users ORDER BY 1").fetchall()
    stored: dict[str, str] = {str(row[0]): str(row[1]) for row in rows}
    statement = (
        "INSERT INTO doc SELECT value->>0, value->>1 FROM json_each(?) WHERE true "
        "ON CONFLICT DO UPDATE SET doc=excluded.doc"
    )
    with target:
        target.execute(statement, (orjson.dumps(list(stored.items())).decode(),))
    written = 0
    elapsed = 0.0
    for turn, batch in enumerate(batches):
        unique = sorted({number for number in batch if number in stored})
        payload = orjson.dumps(
            [(number, stored[number][:-1] + f',"turn":{turn % 10}}}') for number in unique]
        ).decode()
        began = time.perf_counter()
        with target:
            target.execute(statement, (payload,))
        elapsed += time.perf_counter() - began
        written += len(batch)
    source.close()
    target.close()
    return written / elapsed if elapsed else 0.0
