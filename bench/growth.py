"""Growth: the fold, reads, memory and bytes written as one store holds more and more profiles."""

from __future__ import annotations

import base64
import http.client
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from bench import parts, server
from bench.disk import Disk
from bench.load import waits_ms
from bench.options import Options
from bench.progress import say
from bench.records import profile_id

PAGE_SIZE: Final = 1000
READS: Final = {"by id": 300, "first page": 10, "next page": 50}
READS_LIMIT_S: Final = 20.0
_HEADERS: Final = {
    "Authorization": "Basic " + base64.b64encode(f"{server.SECRET}:".encode()).decode(),
    "X-Mixdown-Wait": "0",
}


def growth(options: Options, folder: Path, disks: list[Disk]) -> Iterator[tuple[Disk, dict[str, Any]]]:
    """For each number of profiles and each disk: what the store of that size does."""
    placed = 0
    for size in options.growth:
        say(f"growth: placing profiles up to {size:,}")
        began = time.perf_counter()
        server.place(folder / "data", placed, size)
        placed_s = round((size - placed) / (time.perf_counter() - began))
        placed = size
        for disk in disks:
            say(f"growth: {size:,} profiles, {disk.name} disk")
            yield (
                disk,
                {
                    "profiles": size,
                    "placed_s": placed_s,
                    **_cell(replace(options, profiles=size), folder, disk),
                },
            )


def _cell(options: Options, folder: Path, disk: Disk) -> dict[str, Any]:
    with server.serving(folder, disk.server) as running:
        bench = parts.Bench(options, folder, disk, running)
        folds, memory = {}, []
        for keys in options.keys:
            folds[keys], _ = parts.folded(bench, keys)
            memory.append(server.memory_mib(running.pids()))
        reads = _reads(running.port, options)
        memory.append(server.memory_mib(running.pids()))
        return {
            "fold": folds,
            "reads": reads,
            "memory_mib": max(memory),
            "state_mib": round((running.data / "state.db").stat().st_size / 2**20, 1),
        }


def _reads(port: int, options: Options) -> dict[str, dict[str, float]]:
    """Times of reads: one profile, a first page (a new session, which lists all ids), and further pages."""
    source = random.Random(options.seed)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    sessions = []

    def by_id(turn: int) -> None:
        del turn
        name = profile_id(source.randrange(options.profiles))
        found = _get(connection, distinct_id=name)["results"]
        if [row["$distinct_id"] for row in found] != [name]:
            raise RuntimeError(f"a read of {name} found {found}")

    def first_page(turn: int) -> None:
        # a page size of its own, for the server gives the session that it has where it can
        answer = _get(connection, page_size=PAGE_SIZE - turn)
        sessions.append((answer["session_id"], PAGE_SIZE - turn, answer["total"] // (PAGE_SIZE - turn)))

    def next_page(turn: int) -> None:
        session, size, pages = sessions[turn % len(sessions)]
        page = source.randrange(1, max(2, pages))
        rows = _get(connection, session_id=session, page=page, page_size=size)["results"]
        if pages > 1 and len(rows) != size:
            raise RuntimeError(f"page {page} has {len(rows)} rows instead of {size}")

    try:
        kinds = {"by id": by_id, "first page": first_page, "next page": next_page}
        return {name: _timed(read, READS[name]) for name, read in kinds.items()}
    finally:
        connection.close()


def _timed(read: Callable[[int], None], times: int) -> dict[str, float]:
    taken: list[float] = []
    began = time.perf_counter()
    for turn in range(times):
        start = time.perf_counter()
        read(turn)
        taken.append(time.perf_counter() - start)
        if time.perf_counter() - began > READS_LIMIT_S:
            break
    ordered = sorted(taken)
    return {
        "reads": len(ordered),
        **waits_ms(ordered),
    }


def _get(connection: http.client.HTTPConnection, **query: Any) -> dict[str, Any]:
    connection.request("GET", f"/api/query/engage?{urlencode(query)}", headers=_HEADERS)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != http.client.OK:
        raise RuntimeError(f"a read answered {answer.status}: {body[:300]!r}")
    found: dict[str, Any] = json.loads(body)
    return found
