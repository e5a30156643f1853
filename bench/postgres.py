"""`python -m bench.postgres`: Mixdown on a PostgreSQL of its own on this machine, and on one far away.

One database whose project is in one partition: what is acknowledged and sustained, and the fold alone beside
its floors. Then another, whose project is spread over two partitions: one and two fold workers, near the
database and with a proxy between that makes a round trip 5 ms longer; and what two sustain over HTTP.
Everything is flushed (`synchronous_commit=on`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import psycopg

from bench import machine, parts, postgres_floors, records, report
from bench import server as servers
from bench.competitors import databases
from bench.disk import PLAIN, refuse_full
from bench.options import KEYS, Options
from bench.progress import say
from mixdown.server.first_start import ensure_access
from mixdown.settings import load
from mixdown.store.places import profile_key_text
from mixdown.store.postgres import open_postgres
from mixdown.store.protocols import Store

PARTS: Final = ("ack", "fold", "workers", "node")
DELAYS_MS: Final = (0.0, 5.0)
WORKERS: Final = (1, 2)
SPREAD_PARTITIONS: Final = 2
SPREAD_SHARE: Final = 5
"""The spread project has so many times fewer profiles."""
_ONE, _SPREAD = "bench_one", "bench_spread"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print tables, and keep the result where asked to."""
    chosen = _options(arguments)
    with contextlib.ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="mixdown-bench-", dir=chosen.folder))
        )
        folder.chmod(0o711)  # PostgreSQL runs as another user, in a folder of its own below this one
        options = Options(profiles=chosen.profiles, seconds=chosen.seconds, records=chosen.records)
        refuse_full(folder, 4 * options.needed_bytes())
        result: dict[str, Any] = report.kept("postgres") or {} if chosen.add else {}
        result |= {
            "machine": machine.facts(folder) | {"databases": databases.versions()},
            "options": {"profiles": chosen.profiles, "seconds": chosen.seconds, "records": chosen.records},
        }
        data = chosen.data or folder / "postgres"
        dsn, pid = stack.enter_context(databases.postgres_server(data, PLAIN))
        place = Place(folder, dsn, pid, options)
        for part in chosen.only.split(","):
            result |= {part: _MEASURES[part](place)}
            if chosen.save:
                report.save_postgres(chosen.save, result)
    print(report.postgres(result))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.postgres", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="a comma list of " + ", ".join(PARTS))
    parser.add_argument("--profiles", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each load (5)")
    parser.add_argument("--records", type=int, default=500_000, help="distinct records of a load (500,000)")
    parser.add_argument("--folder", type=Path, help="where to measure: a temporary folder is made in it")
    parser.add_argument("--data", type=Path, help="keep the database here, and find its profiles there again")
    parser.add_argument("--add", action="store_true", help="put the parts to those that are kept")
    parser.add_argument(
        "--save", nargs="?", const="postgres", default="", metavar="NAME", help="keep the results"
    )
    chosen = parser.parse_args(arguments)
    for part in chosen.only.split(","):
        if part not in PARTS:
            parser.error(f"{part} is none of {', '.join(PARTS)}")
    return chosen


class Place:
    """The database server of a run, and what is measured in it."""

    def __init__(self, folder: Path, dsn: str, pid: int, options: Options) -> None:
        self.folder = folder
        self.options = options
        self.pid = pid
        self._dsn = dsn

    def url(self, database: str) -> str:
        """Where a database of it is."""
        return self._dsn.replace("/postgres?", f"/{database}?")

    def socket(self) -> str:
        """The socket that it listens on."""
        return f"{self._dsn.partition('?host=')[2]}/.s.PGSQL.5432"

    def make(self, database: str, partitions: int, fill: Callable[[Store], None]) -> str:
        """A database with profiles in place, made and filled unless it is there; its URL."""
        url = self.url(database)
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone():
                return url
            connection.execute(f"CREATE DATABASE {database}")
        store = cast("Store", open_postgres(url, role="fold", create=True, partitions=partitions))
        try:
            settings = load({"MIXDOWN_TOKEN": records.TOKEN, "MIXDOWN_SECRET": servers.SECRET}, {})
            ensure_access(store.catalog, settings, now_ms=1)
            fill(store)
            for number in range(partitions):
                while store.partition(number).state.count_properties(1000):
                    pass
        finally:
            store.close()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")
        return url

    @contextlib.contextmanager
    def serving(self, url: str, *, seen_as: str = "", workers: int = 1) -> Iterator[parts.Bench]:
        """A node on the database, which it reaches by `seen_as`."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            folder = Path(name)
            extra = {"MIXDOWN_DATABASE_URL": seen_as or url}
            opened = partial(_opened, url)
            arguments = ["--fold-workers", str(workers)]
            with servers.serving(
                folder, extra, arguments=arguments, opened=opened, database_pid=self.pid
            ) as running:
                yield parts.Bench(self.options, folder, PLAIN, running)


def _opened(url: str, data: Path) -> Store:
    del data
    return cast("Store", open_postgres(url, role="cli", create=False))


# --- one partition


def _one(place: Place) -> str:
    def fill(store: Store) -> None:
        say(f"placing {place.options.profiles:,} profiles")
        view = store.partition(store.partition_of(servers.PROJECT))
        servers.place_into(view, records.scattered(0, place.options.profiles))

    return place.make(_ONE, 1, fill)


def _acknowledged(place: Place) -> dict[str, Any]:
    with place.serving(_one(place)) as bench:
        return {
            keys: parts.acknowledged(bench, keys, parts.SHAPES if keys == KEYS[0] else parts.SHAPES[:1])
            for keys in KEYS
        }


def _fold(place: Place) -> dict[str, Any]:
    url = _one(place)
    with place.serving(url) as bench:
        return {keys: _fold_alone(bench, url, keys) for keys in KEYS}


def _fold_alone(bench: parts.Bench, url: str, keys: str) -> dict[str, Any]:
    figures, sent = parts.folded(bench, keys)
    ids = [row["$distinct_id"] for request in sent for row in records.parsed(request)]
    say(f"{keys}: COPY of the same rows")
    copy = postgres_floors.copied(url, bench.server.store, ids)
    say(f"{keys}: the same rows read and put in place")
    put, read_put = postgres_floors.in_place(url, ids)
    say(f"{keys}: a plain read-modify-write")
    plain = postgres_floors.plain(url, sent)
    return {
        **figures,
        "profiles": len(set(ids)),
        "floor_copy_records_s": round(copy),
        "of_copy": round(figures["records_s"] / copy, 3),
        "floor_put_records_s": round(put),
        "of_put": round(figures["records_s"] / put, 3),
        "floor_read_put_records_s": round(read_put),
        "of_read_put": round(figures["records_s"] / read_put, 3),
        "floor_plain_records_s": round(plain),
        "of_plain": round(figures["records_s"] / plain, 3),
    }


# --- two partitions, near and far


def _spread(place: Place) -> str:
    count = place.options.profiles // SPREAD_SHARE

    def fill(store: Store) -> None:
        say(f"placing {count:,} profiles in {SPREAD_PARTITIONS} partitions")
        store.catalog.enlarge_project(servers.PROJECT)
        of: dict[int, list[int]] = {number: [] for number in range(SPREAD_PARTITIONS)}
        for number in records.scattered(0, count):
            key = profile_key_text("", records.profile_id(number))
            of[store.partition_of(servers.PROJECT, key)].append(number)
        for partition, numbers in of.items():
            servers.place_into(store.partition(partition), numbers)

    return place.make(_SPREAD, SPREAD_PARTITIONS, fill)


def _workers(place: Place) -> list[dict[str, Any]]:
    url, own = _spread(place), _own(place)
    cells = []
    for delay_ms in DELAYS_MS:
        with _away(place, delay_ms) as seen_as:
            for workers in WORKERS:
                say(f"{workers} fold workers, {delay_ms:g} ms away")
                with place.serving(url, seen_as=seen_as, workers=workers) as bench:
                    bench.options = own
                    figures = parts.folded(bench, KEYS[1])[0]
                cells.append({"delay_ms": delay_ms, "workers": workers, **figures})
    return cells


def _own(place: Place) -> Options:
    """What is sent to the spread project."""
    options = place.options
    return Options(
        profiles=options.profiles // SPREAD_SHARE, seconds=options.seconds, records=options.records // 2
    )


def _node(place: Place) -> dict[str, Any]:
    with place.serving(_spread(place), workers=WORKERS[-1]) as bench:
        bench.options = _own(place)
        return {keys: parts.acknowledged(bench, keys, parts.SHAPES[:1]) for keys in KEYS}


@contextlib.contextmanager
def _away(place: Place, delay_ms: float) -> Iterator[str]:
    """A URL by which the spread database is so far away."""
    if not delay_ms:
        yield place.url(_SPREAD)
        return
    ready = place.folder / "proxy.port"
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", "bench.delay", place.socket(), str(delay_ms), str(ready)]
    log = place.folder / "proxy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=dict(os.environ), stdout=output, stderr=output)
    try:
        servers.wait_for(ready, process, log)
        yield f"postgresql://bench@127.0.0.1:{ready.read_text()}/{_SPREAD}?sslmode=disable"
    finally:
        servers.end(process)


_MEASURES: Final[dict[str, Callable[[Place], Any]]] = {
    "ack": _acknowledged,
    "fold": _fold,
    "workers": _workers,
    "node": _node,
}


def _end(signum: int, frame: object) -> None:
    """End as after Ctrl-C: servers ended, folders removed."""
    del frame
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    main()
