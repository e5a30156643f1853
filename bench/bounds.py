"""`make bounds`: how much memory a server takes, and how long a normal client waits while others mean ill.

Four measurements, each bounded and on loopback: memory with many profiles stored, with a backlog (while
it grows and while the fold digests it), with idle connections; then the times of a normal client, alone
and beside slow senders, idle connections and gzip bombs.

What counts as memory is the sum of PSS over the server's processes (`/proc/PID/smaps_rollup`): pages of
their own in full, shared ones by their share, mapped files included. The page cache of files that are
read, not mapped, belongs to the kernel, and it gives it back when it is needed.
"""

from __future__ import annotations

import argparse
import base64
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import orjson

from bench import hostile, machine
from bench.proc import Watch, family, settled
from bench.records import TOKEN
from bench.server import SECRET, Server, serving
from mixdown.ingest.geo import open_geo
from mixdown.ingest.prepare import Rules, Submission, prepare
from mixdown.model.limits import Limits
from mixdown.store.protocols import Append, FoldResult, ProfileKey
from mixdown.store.sqlite import open_store

RESULTS: Final = Path(__file__).parent / "results"
AIM_MB: Final = 400
AIM_TIMES: Final = 3.0
DIGEST_LIMIT_S: Final = 300.0
AT_ONCE: Final = 100_000
CHUNK_RECORDS: Final = 50_000
RATES: Final = {1: 120.0, 50: 30.0}
"""A normal client: requests/s by records of a request."""
DISK_FACTOR: Final = 1000
"""Bytes of disk that a profile or a record of the backlog may take here, roughly and at most."""


def _fold_pid(server: Server) -> int:
    """The fold's process."""
    return next(pid for pid, role in family(server.pid).items() if role == "fold")


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


# --- many profiles


def _document(number: int) -> bytes:
    """A profile of about 600 bytes."""
    return (
        b'{"$name":"Person %d","$email":"person.%d@example.com","$last_seen":"2026-01-15T12:00:00",'
        b'"plan":"amber","logins":%d,"score":%d.25,"tags":["amber","delta"],"bio":"Lorem ipsum dolor sit '
        b'amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore et dolore.",'
        b'"address":{"city":"Berlin","zip":"%05d","lines":["1 Main Street"]},"company":"company %d",'
        b'"referrer":"https://example.com/some/landing/page?campaign=autumn","device":"Mozilla/5.0 (X11)",'
        b'"created":"2026-01-15T12:00:00","note":"this is here so that a profile has a usual size"}'
    ) % (number, number, number % 1000, number, number % 100_000, number % 5000)


def fill(folder: Path, profiles: int) -> None:
    """Write profiles into `state.db` through the store's own writing path."""
    store = open_store(folder / "data", role="fold", create=False)
    try:
        for start in range(0, profiles, AT_ONCE):
            rows: Iterator[tuple[ProfileKey, bytes]] = (
                ((1, "", f"user-{number:08d}"), _document(number))
                for number in range(start, min(start + AT_ONCE, profiles))
            )
            store.state.write(FoldResult(0, rows, [], 0))
        store.state.checkpoint()
    finally:
        store.close()


def read_profiles(port: int, *, pages: int) -> dict[str, float]:
    """Read as an export would: a first page of all profiles, then more pages; seconds of each kind."""
    times: dict[str, float] = {}
    session = ""
    for page in range(pages):
        began = time.perf_counter()
        query = f"page={page}&page_size=1000" + (f"&session_id={session}" if session else "")
        answer = orjson.loads(_get(port, f"/api/query/engage?{query}"))
        session = answer["session_id"]
        name = "first_page_s" if page == 0 else "page_s"
        times[name] = round(max(times.get(name, 0.0), time.perf_counter() - began), 3)
    began = time.perf_counter()
    _get(port, "/api/mixdown/status")
    times["status_s"] = round(time.perf_counter() - began, 3)
    return times


def _get(port: int, target: str) -> bytes:
    credentials = base64.b64encode(f"{SECRET}:".encode()).decode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{target}", headers={"Authorization": f"Basic {credentials}"}
    )
    with urllib.request.urlopen(request, timeout=120) as reply:  # noqa: S310 - always http on loopback
        body: bytes = reply.read()
        return body


def memory_with_profiles(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Memory with profiles stored: at rest, while updates come to all of them, and while they are read."""
    with serving(folder, {}):
        pass  # makes the folder and its project
    _say(f"storing {options.profiles:,} profiles …")
    began = time.perf_counter()
    fill(folder, options.profiles)
    result: dict[str, Any] = {
        "profiles": options.profiles,
        "stored_in_s": round(time.perf_counter() - began, 1),
        "state_db_mb": round((folder / "data" / "state.db").stat().st_size / 1e6),
    }
    with serving(folder, {}) as server:
        result["at_rest"] = settled(server.pid, seconds=2)
        _say("updates to all of them …")
        with Watch(server.pid) as watch:
            result["updates"] = load(server.port, options.seconds, profiles=options.profiles)
        result["while_updated"] = watch.report()
        _say("reads …")
        with Watch(server.pid) as watch:
            readers = [threading.Thread(target=read_profiles, args=(server.port,), kwargs={"pages": 20})]
            readers[0].start()
            result["reads"] = read_profiles(server.port, pages=40)
            readers[0].join()
        result["while_read"] = watch.report()
        result["after"] = settled(server.pid, seconds=5)
    return result


def load(
    port: int, seconds: float, *, profiles: int, size: int = 500, connections: int = 4
) -> dict[str, Any]:
    """Send requests of `size` records on random profiles as fast as they are answered."""
    source = random.Random(1)
    requests = [
        hostile.post(
            orjson.dumps(
                [
                    {
                        "$token": TOKEN,
                        "$distinct_id": f"user-{source.randrange(profiles):08d}",
                        "$set": {"plan": "birch", "last_page": f"/page/{source.randrange(1 << 30)}"},
                        "$add": {"logins": 1},
                    }
                    for _ in range(size)
                ]
            )
        )
        for _ in range(200)
    ]
    ends = time.perf_counter() + seconds
    counts = [0] * connections

    def sender(number: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
            turn = number * 50
            while time.perf_counter() < ends:
                sock.sendall(requests[turn % len(requests)])
                turn += 1
                if hostile.reply_of(sock).endswith(b"\r\n\r\n1"):
                    counts[number] += 1

    threads = [threading.Thread(target=sender, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"records": sum(counts) * size, "records_s": round(sum(counts) * size / seconds)}


# --- a backlog


def _segments(profiles: int) -> list[Append]:
    """The requests of one chunk: 50,000 records of mixed operators, as a worker encodes them."""
    source = random.Random(2)
    rules = Rules(Limits(), open_geo(""))
    appends = []
    for _ in range(CHUNK_RECORDS // 500):
        records = [
            {
                "$token": TOKEN,
                "$distinct_id": f"user-{source.randrange(profiles):08d}",
                "$set": {"plan": "birch", "last_page": f"/page/{source.randrange(1 << 30)}", "active": True},
                "$add": {"logins": 1, "pages": 3},
                "$union": {"tags": ["amber", "birch"]},
            }
            for _ in range(500)
        ]
        append = prepare(Submission("engage", records), {TOKEN: 1}, rules).append
        assert append is not None
        appends.append(append)
    return appends


def memory_with_backlog(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Memory while a stopped fold leaves a backlog, while more comes over HTTP, and while it is digested."""
    limits = {
        "MIXDOWN_BACKLOG_LIMIT_RECORDS": str(3 * options.backlog),
        "MIXDOWN_BACKLOG_LIMIT_BYTES": str(3 * options.backlog * DISK_FACTOR),
    }
    result: dict[str, Any] = {"records": options.backlog}
    with serving(folder, limits) as server:
        fold = _fold_pid(server)
        os.kill(fold, signal.SIGSTOP)
        store = open_store(server.data, role="cli", create=False)
        try:
            _say(f"a backlog of {options.backlog:,} records …")
            with Watch(server.pid) as watch:
                for _ in range(0, options.backlog, CHUNK_RECORDS):
                    with store.log.turn() as turn:
                        turn.append(_segments_of(options), time.time_ns() // 1_000_000)
            result["while_it_grew"] = watch.report()
            with Watch(server.pid) as watch:
                result["http_beside_it"] = load(server.port, min(10.0, options.seconds), profiles=100_000)
            result["while_more_came_over_http"] = watch.report()
            result["log_db_mb"] = round((server.data / "log.db").stat().st_size / 1e6)
            behind = store.log.head() - store.state.watermark()
            _say(f"the fold digests {behind:,} records …")
            began = time.perf_counter()
            with Watch(server.pid) as watch:
                os.kill(fold, signal.SIGCONT)
                while time.perf_counter() - began < DIGEST_LIMIT_S:
                    left = store.log.head() - store.state.watermark()
                    if left <= 0:
                        break
                    time.sleep(0.25)
            took = time.perf_counter() - began
            result["while_it_was_digested"] = watch.report()
            result["digested"] = {"records": behind - max(0, left), "left": max(0, left), "s": round(took, 1)}
        finally:
            os.kill(fold, signal.SIGCONT)
            store.close()
    return result


_segment_cache: list[Append] = []


def _segments_of(options: argparse.Namespace) -> list[Append]:
    if not _segment_cache:
        _segment_cache.extend(_segments(min(options.profiles, 1_000_000)))
    return _segment_cache


# --- connections, and clients that mean ill


def memory_with_connections(server: Server, options: argparse.Namespace) -> dict[str, Any]:
    """Memory with idle connections open."""
    before = settled(server.pid)
    with hostile.beside(hostile.idle, server.port, options.connections) as reports:
        after = settled(server.pid, seconds=2)
    bytes_each = (after["pss_mb"] - before["pss_mb"]) * 1e6 / max(1, options.connections)
    return {
        "connections": options.connections,
        "still_open": reports[0],
        "without": before,
        "with": after,
        "bytes_a_connection": round(bytes_each),
    }


def times_of_a_normal_client(server: Server, options: argparse.Namespace) -> dict[str, Any]:
    """What a normal client waits, alone and beside each kind of trouble, and beside all of them at once."""
    kinds = {
        "idle": (hostile.idle, options.connections - 500),
        "slow": (hostile.slow, options.slow),
        "bombs": (hostile.bombs, options.bombs),
    }
    cells: dict[str, Any] = {}
    for name, troubles in {
        "quiet": [],
        **{kind: [kind] for kind in kinds},
        "all at once": list(kinds),
        "quiet again": [],
    }.items():
        if name in options.without:
            continue
        _say(f"a normal client, {name} …")
        with Watch(server.pid) as watch, ExitStack() as stack:
            reports = {
                trouble: stack.enter_context(
                    hostile.beside(kinds[trouble][0], server.port, kinds[trouble][1])
                )
                for trouble in troubles
            }
            waited = hostile.normal(server.port, TOKEN, options.seconds, RATES)
        cells[name] = waited.figures() | {"memory": watch.report()}
        cells[name] |= {trouble: report[0] for trouble, report in reports.items()}
        time.sleep(1)
    quiet = {
        size: min(cells[name][size]["p99_ms"] for name in cells if name.startswith("quiet"))
        for size in map(str, RATES)
    }
    for name, cell in cells.items():
        if not name.startswith("quiet"):
            cell["p99_times_quiet"] = {
                size: round(cell[size]["p99_ms"] / max(p99, 0.01), 2) for size, p99 in quiet.items()
            }
    return cells


# --- the whole


def _rows(result: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(what, figure, whether the aim is met)."""

    def memory(name: str, report: dict[str, Any]) -> tuple[str, str, str]:
        met = "yes" if report["pss_mb"] < AIM_MB else "no"
        return name, f"{report['pss_mb']:,} MB (RSS {report['rss_mb']:,})", met

    if cell := result.get("profiles"):
        stored = f"{cell['profiles']:,} profiles ({cell['state_db_mb']:,} MB on disk)"
        yield memory(f"{stored}, at rest", cell["at_rest"])
        yield memory(f"the same, {cell['updates']['records_s']:,} updates/s to all", cell["while_updated"])
        yield memory("the same, while two exports read them", cell["while_read"])
    if cell := result.get("backlog"):
        stored = f"a backlog of {cell['records']:,} records ({cell['log_db_mb']:,} MB on disk)"
        yield memory(f"{stored}, while it grew", cell["while_it_grew"])
        rate = cell["http_beside_it"]["records_s"]
        yield memory(f"the same, {rate:,} records/s more over HTTP", cell["while_more_came_over_http"])
        digested = f"{cell['digested']['records']:,} in {cell['digested']['s']:g} s"
        yield memory(f"the same, while the fold digests it ({digested})", cell["while_it_was_digested"])
    if cell := result.get("connections"):
        each = f"{cell['bytes_a_connection']:,} bytes each"
        yield memory(f"{cell['connections']:,} idle connections ({each})", cell["with"])
    for name, cell in result.get("times", {}).items():
        times = ", ".join(f"{size} records: p99 {cell[size]['p99_ms']:g} ms" for size in map(str, RATES))
        ratios = cell.get("p99_times_quiet")
        if ratios is None:
            yield f"normal client, {name}", times, ""
        else:
            worst = max(ratios.values())
            yield (
                f"normal client, {name}",
                f"{times} ({worst:g} times)",
                "yes" if worst <= AIM_TIMES else "no",
            )
            yield memory(f"memory, {name}", cell["memory"])


def table(result: dict[str, Any]) -> str:
    """The result as a Markdown table."""
    lines = ["| Measured | Figure | Within its aim |", "| --- | --- | --- |"]
    lines += ["| " + " | ".join(row) + " |" for row in _rows(result)]
    aims = f"Aims: memory (sum of PSS) under {AIM_MB} MB; p99 within {AIM_TIMES:g} times the quiet one."
    return "\n".join([*lines, "", aims])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bounds ARGS=…", description=__doc__)
    parser.add_argument("--only", choices=("profiles", "backlog", "connections", "times"), action="append")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each load (default 15)")
    parser.add_argument("--profiles", type=int, default=5_000_000)
    parser.add_argument("--backlog", type=int, default=10_000_000)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--slow", type=int, default=100)
    parser.add_argument("--bombs", type=int, default=2, help="connections that send gzip bombs")
    parser.add_argument("--without", nargs="*", default=(), help="leave out: slow, idle, bombs, all at once")
    parser.add_argument("--folder", type=Path, default=None, help="where the data goes meanwhile")
    parser.add_argument("--save", action="store_true", help="write the result into bench/results/")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = _options()
    parts = options.only or ["profiles", "backlog", "connections", "times"]
    with tempfile.TemporaryDirectory(prefix="mixdown-bounds-", dir=options.folder) as name:
        folder = Path(name)
        disk = os.statvfs(folder)
        free, needed = disk.f_bavail * disk.f_frsize, DISK_FACTOR * max(options.profiles, options.backlog)
        if free < 2 * needed:
            sys.exit(f"{needed * 2 / 1e9:.0f} GB of free disk are needed, and there are {free / 1e9:.0f}")
        result: dict[str, Any] = {"machine": machine.facts(folder), "nice": os.nice(0)}
        for part, measure in (("profiles", memory_with_profiles), ("backlog", memory_with_backlog)):
            if part in parts:
                with tempfile.TemporaryDirectory(dir=folder) as own:
                    result[part] = measure(Path(own), options)
        if {"connections", "times"} & set(parts):
            with serving(folder, {"MIXDOWN_CONNECTION_LIMIT": str(options.connections)}) as server:
                if "connections" in parts:
                    _say(f"{options.connections:,} idle connections …")
                    result["connections"] = memory_with_connections(server, options)
                if "times" in parts:
                    result["times"] = times_of_a_normal_client(server, options)
    print(table(result))
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "bounds.json").write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2) + b"\n")
        (RESULTS / "bounds.md").write_text(table(result) + "\n")
    else:
        print(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode(), file=sys.stderr)


if __name__ == "__main__":
    main()
