"""The part that measures competitors: the same requests, by the same generator, on the same disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench import load, records, server
from bench.competitors import databases
from bench.disk import Disk
from bench.options import Options
from bench.parts import SHAPES
from bench.progress import say


@dataclass(frozen=True)
class Competitor:
    """An application and the database that it needs.

    `variants` are numbers of its processes, and of connections for each, that are tried at 50 records a
    request: the best of them is what counts.
    """

    name: str
    module: str
    address: str
    start: Callable[[Path, Disk], AbstractContextManager[str]]
    fill: Callable[[str, int], None]
    variants: tuple[tuple[int, int], ...]


COMPETITORS: Final = (
    Competitor(
        "FastAPI + asyncpg + PostgreSQL, an upsert a record",
        "naive",
        "BENCH_DSN",
        databases.postgres,
        databases.fill_postgres,
        ((1, 16), (2, 8)),
    ),
    Competitor(
        "FastAPI + asyncpg + PostgreSQL, batched",
        "batched",
        "BENCH_DSN",
        databases.postgres,
        databases.fill_postgres,
        ((1, 1), (1, 2), (1, 4)),
    ),
    Competitor(
        "FastAPI + Redis, Lua, appendfsync always",
        "with_redis",
        "BENCH_REDIS",
        databases.redis_server,
        databases.fill_redis,
        ((1, 32), (2, 16)),
    ),
)


def competitors(options: Options, folder: Path, disk: Disk) -> Iterator[dict[str, Any]]:
    """Each competitor at 50 and at 1 record a request, zipf keys; or why it could not be measured."""
    for competitor in COMPETITORS:
        yield _measured(competitor, options, folder, disk)


def _measured(competitor: Competitor, options: Options, folder: Path, disk: Disk) -> dict[str, Any]:
    say(f"{disk.name} disk: {competitor.name}: placing {options.profiles:,} profiles")
    place = Path(tempfile.mkdtemp(dir=folder))
    place.chmod(0o711)
    try:
        with competitor.start(place / "database", disk) as address:
            competitor.fill(address, options.profiles)
            return _best(competitor, options, place, address)
    except databases.MissingError as reason:
        say(f"{competitor.name}: not measured: {reason}")
        return {"name": competitor.name, "missing": str(reason)}
    finally:
        shutil.rmtree(place)


def _best(competitor: Competitor, options: Options, place: Path, address: str) -> dict[str, Any]:
    """Try the variants at 50 records a request, and measure the best of them at 1."""
    tried = []
    for variant in competitor.variants:
        with application(competitor, variant, place, address) as port:
            tried.append({"variant": variant, **_cell(competitor, port, options, *SHAPES[1])})
    best = max(tried, key=lambda cell: cell["records_s"])
    with application(competitor, best["variant"], place, address) as port:
        one = _cell(competitor, port, options, *SHAPES[2])
    return {"name": competitor.name, "cells": [best, {"variant": best["variant"], **one}], "tried": tried}


def _cell(competitor: Competitor, port: int, options: Options, size: int, connections: int) -> dict[str, Any]:
    say(f"{competitor.name}: {size}-record requests")
    pool = records.pool(
        size=size,
        records=options.records // 2 if size > 1 else options.records // 8,
        profiles=options.profiles,
        keys="zipf",
        seed=options.seed,
    )
    sent = load.send(port, pool, connections=connections, seconds=options.seconds)
    return {"records_a_request": size, "connections": connections, **sent.figures()}


@contextlib.contextmanager
def application(
    competitor: Competitor, variant: tuple[int, int], folder: Path, address: str
) -> Iterator[int]:
    """The competitor's application, served by uvicorn on a free port."""
    processes, connections = variant
    ready = folder / "app.port"
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", "bench.competitors.serve", competitor.module, str(processes), str(ready)]
    with (folder / "app.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=os.environ | {competitor.address: address, "BENCH_CONNECTIONS": str(connections)},
            stdout=log,
            stderr=log,
        )
    try:
        server.wait_for(ready, process, folder / "app.log")
        yield int(ready.read_text())
    finally:
        server.end(process)
