"""Floors: the same bytes with no logic at all, so that a figure says how much of the machine is used."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import orjson

from bench import load, server
from bench.disk import Disk
from bench.records import Pool
from mixdown.fold.profiles import GROUP_LIMIT_RECORDS
from mixdown.store.protocols import FoldResult, ProfileKey, State
from mixdown.store.sqlite import open_store

READ_AT_ONCE: Final = 10_000


def decode_and_append(folder: Path, pool: Pool, *, together: int, seconds: float, disk: Disk) -> float:
    """Records/s of: decode bodies, append them to one file, fdatasync; one core.

    `together` bodies share a flush: as many as there are connections, for no server can have more of them
    waiting at a time.
    """
    records = 0
    bodies = pool.bodies()
    path = folder / "floor.log"
    began = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        while time.perf_counter() - began < seconds:
            some = list(islice(bodies, together))
            for body in some:
                orjson.loads(body)
            file.write(b"".join(some))
            disk.linger()
            os.fdatasync(file.fileno())
            records += pool.size * together
    elapsed = time.perf_counter() - began
    path.unlink()
    return records / elapsed


@contextlib.contextmanager
def echoing(folder: Path) -> Iterator[int]:
    """The port of Mixdown's HTTP server around an application that reads a body and answers 1."""
    ready = folder / "echo.port"
    ready.unlink(missing_ok=True)
    with (folder / "echo.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.echo", str(ready)], stdout=output, stderr=output
        )
    try:
        server.wait_for(ready, process, folder / "echo.log")
        yield int(ready.read_text())
    finally:
        server.end(process)


def echo(folder: Path, pool: Pool, *, connections: int, seconds: float) -> load.Load:
    """The same requests to the same HTTP server, which does nothing with them."""
    with echoing(folder) as port:
        return load.send(port, pool, connections=connections, seconds=seconds)


class UpsertFloor:
    """A copy of a server's documents, in a store of its own, to be upserted with no logic.

    They are written through the very path that the fold writes through, in transactions of as many records.
    Each is changed by some bytes first, since a row that keeps its bytes costs no page write.
    """

    def __init__(self, folder: Path, source: State) -> None:
        self._documents: dict[ProfileKey, bytes] = {}
        self._store = open_store(folder / "floor", role="fold", create=True)
        self._turn = 0
        ids = source.ids(server.PROJECT, "")
        while some := list(islice(ids, READ_AT_ONCE)):
            keys = [(server.PROJECT, "", profile_id) for profile_id in some]
            for key, document in zip(keys, source.documents(keys), strict=True):
                if document is not None:
                    self._documents[key] = document
        # in no order, as `server.place` does it: a set of texts has none
        unordered = iter({key[2] for key in self._documents})
        while some := sorted(islice(unordered, server.PLACED_AT_ONCE)):
            rows = [((server.PROJECT, "", name), self._documents[server.PROJECT, "", name]) for name in some]
            self._store.state.write(FoldResult(0, rows, [], 0))
        self._store.state.checkpoint()

    def records_s(self, ids: Sequence[str]) -> tuple[float, float]:
        """Upsert the documents of `ids`, one for each record, grouped as the fold would group them.

        Returns:
            Records/s, and microseconds of processor time a record.
        """
        elapsed = cpu = 0.0
        for start in range(0, len(ids), GROUP_LIMIT_RECORDS):
            self._turn += 1
            ending = b',"turn":%06d}' % self._turn
            some = {(server.PROJECT, "", name) for name in ids[start : start + GROUP_LIMIT_RECORDS]}
            rows = [
                (key, self._documents[key][:-1] + ending) for key in sorted(some & self._documents.keys())
            ]
            began, cpu_began = time.perf_counter(), time.process_time()
            self._store.state.write(FoldResult(0, rows, [], 0))
            elapsed += time.perf_counter() - began
            cpu += time.process_time() - cpu_began
        return len(ids) / elapsed, round(1e6 * cpu / len(ids), 2)

    def close(self) -> None:
        """Close the copy; its folder stays for the owner to remove."""
        self._store.close()
