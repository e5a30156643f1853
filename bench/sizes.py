"""`python -m bench.sizes`: what a profile, an update and a key take of a PostgreSQL, in bytes on its disk.

A database of its own is started, filled with the sample's users (each many times, under ids of their own) and
sent updates, by the ways that records take: log, fold, history. Counted are bytes of tables, indexes and
write-ahead log: figures that do not depend on what else the machine does. Reckonings in docs/scaling.md begin
with them, and with what a processor folds of one profile and of many.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

import orjson

from bench import records
from bench.competitors.databases import postgres
from bench.disk import PLAIN
from bench.progress import say
from bench.report import RESULTS, ROOT
from bench.skew import PAGE, published
from mixdown.fold.profiles import ProfileFold
from mixdown.ingest.direct import append_raw
from mixdown.ingest.geo import open_geo
from mixdown.ingest.prepare import Rules
from mixdown.model.limits import Limits
from mixdown.store.memory import MemoryStore
from mixdown.store.places import all_views
from mixdown.store.postgres import PostgresStore, open_postgres
from mixdown.store.protocols import Store

NAME: Final = "sizes"
SAMPLE: Final = ROOT / "tests" / "data" / "sample" / "users.ndjson.gz"
PARTITIONS: Final = 8
PROFILES: Final = 100_000
UPDATES: Final = 200_000
REQUEST: Final = 2000
TABLES: Final = {
    "profiles": ("profiles",),
    "log": ("chunks",),
    "history": ("history_blocks", "history_values", "history_segments"),
    "keys": ("keys",),
    "counts": ("property_counts",),
}
PHASES: Final = ("first on its page", "after a checkpoint", "later", "with keys")
COLUMNS: Final = ("record", "log", "log_wal", "fold_wal", "history", "key")
_AT_ONCE: Final = 20_000
_SIZE: Final = """
    SELECT sum(pg_total_relation_size(('mixdown.' || name)::regclass))::bigint
    FROM unnest(%s::text[]) AS name
"""
_INDEXES: Final = "SELECT pg_indexes_size('mixdown.profiles')"
_PAGES: Final = "SELECT pg_relation_size('mixdown.profiles') / 8192"
_LSN: Final = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
_HOT: Final = (
    "SELECT sum(n_tup_upd)::bigint, sum(n_tup_hot_upd)::bigint"
    " FROM pg_stat_user_tables WHERE schemaname = 'mixdown' AND relname = 'profiles'"
)
_DOCUMENT: Final = "SELECT avg(octet_length(document::text))::float8 FROM mixdown.profiles"
_TOLD_S: Final = 11.0
"""So long a connection may keep its counts to itself."""


class Measured:
    """A store, and what it has taken of its database since the last look."""

    def __init__(self, store: PostgresStore) -> None:
        self.store = store
        made = store.catalog.create_project(
            "bench", token=records.TOKEN, secret_hash=b"", id_merge="simplified", now_ms=0
        )
        store.catalog.enlarge_project(made.id)
        self._rules = Rules(Limits(), open_geo(""))
        self._views = all_views(cast("Store", store))
        self._folds = [ProfileFold(view) for view in self._views]

    def send(self, some: Sequence[Any]) -> int:
        """Append records, a request at a time; bytes of write-ahead log."""
        began = self.lsn()
        for at in range(0, len(some), REQUEST):
            request = list(some[at : at + REQUEST])
            outcome = append_raw(cast("Store", self.store), self._rules, "engage", request, sdk="bench")
            assert outcome.good == len(request), outcome
        return self.lsn() - began

    def fold(self) -> tuple[int, int]:
        """Fold what waits; records, and bytes of write-ahead log."""
        began, folded = self.lsn(), 0
        for fold in self._folds:
            while (step := fold.step()) is not None:
                folded += step.records
        return folded, self.lsn() - began

    def tend(self) -> int:
        """Merge what there is of history; bytes of write-ahead log."""
        began = self.lsn()
        for view in self._views:
            while view.state.tend_history(keep_from_ms=0, limit_bytes=0):
                pass
        return self.lsn() - began

    def lsn(self) -> int:
        """Bytes of write-ahead log that were ever written."""
        return int(self.store.database.value(_LSN))

    def size(self, of: str) -> int:
        """Bytes of tables with their indexes."""
        return int(self.store.database.value(_SIZE, (list(TABLES[of]),)))

    def hot(self) -> tuple[int, int]:
        """How often a profile was written anew, and how often on its page."""
        time.sleep(_TOLD_S)
        updated, on_page = self.store.database.row(_HOT) or (0, 0)
        return int(updated), int(on_page)

    def run(self, statement: str) -> None:
        """A statement of upkeep."""
        with self.store.database.connection() as connection:
            connection.execute(statement.encode())


def users(count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Ids and properties: the sample's, round and round, under ids of their own."""
    with gzip.open(SAMPLE, "rb") as file:
        sample = [orjson.loads(line) for line in file]
    for number in range(count):
        user = sample[number % len(sample)]
        yield f"{user['$distinct_id'][:-8]}{number:08x}", user["$properties"]


def updates(ids: Sequence[str], count: int, *, keyed: bool, source: random.Random) -> list[dict[str, Any]]:
    """The benchmark's records, of profiles that come as they may."""
    made = []
    for turn in range(count):
        serial = turn if keyed else -1
        record = orjson.loads(records.record(turn, turn, serial=serial))
        record["$distinct_id"] = source.choice(ids)
        made.append(record)
    return made


def measure(store: PostgresStore, profiles: int, count: int) -> dict[str, Any]:
    """All figures."""
    measured, source = Measured(store), random.Random(1)
    say(f"placing {profiles:,} profiles")
    ids, documents, some = [], 0, []
    for user, properties in users(profiles):
        ids.append(user)
        documents += len(orjson.dumps(properties))
        some.append({"$token": records.TOKEN, "$distinct_id": user, "$set": properties, "$ip": "0"})
        if len(some) == _AT_ONCE or len(ids) == profiles:
            measured.send(some)
            measured.fold()
            some = []
    measured.run("VACUUM (FREEZE, ANALYZE)")
    placed = {
        "document_bytes": documents / profiles,
        "row_bytes": measured.size("profiles") / profiles,
        "index_bytes": int(store.database.value(_INDEXES)) / profiles,
        "of_a_page": profiles / int(store.database.value(_PAGES)),
        "history_bytes": measured.size("history") / profiles,
    }
    result: dict[str, Any] = {"profiles": profiles, "updates": count, "a profile": placed}
    first, _, later, keyed = PHASES
    for name in PHASES:
        some_of = profiles // 50 if name == first else count
        say(f"{some_of:,} updates, {name}")
        if name != later:
            measured.run("CHECKPOINT")
        result[name] = _updated(measured, updates(ids, some_of, keyed=name == keyed, source=source))
    result["a profile"]["row_bytes_updated"] = measured.size("profiles") / profiles
    result["a profile"]["document_bytes_updated"] = float(store.database.value(_DOCUMENT))
    say("updates of one profile, of many")
    result["a second of a processor"] = {
        "records_of_one_profile": in_memory(ids[:1], count // 4),
        "records_of_many": in_memory(ids, count // 4),
    }
    return result


def in_memory(ids: Sequence[str], count: int) -> int:
    """Records that a fold takes in a second of its processor, where reading and writing cost nothing."""
    store = MemoryStore()
    store.catalog.create_project(
        "bench", token=records.TOKEN, secret_hash=b"", id_merge="simplified", now_ms=0
    )
    some = updates(ids, count, keyed=False, source=random.Random(2))
    for at in range(0, count, REQUEST):
        append_raw(store, Rules(Limits(), open_geo("")), "engage", some[at : at + REQUEST], sdk="bench")
    fold = ProfileFold(store)
    began, folded = time.process_time(), 0
    while (step := fold.step()) is not None:
        folded += step.records
    assert folded == count
    return round(count / (time.process_time() - began))


def _updated(measured: Measured, some: list[dict[str, Any]]) -> dict[str, float]:
    """What updates take, each."""
    count = len(some)
    before, hot_before = {of: measured.size(of) for of in TABLES}, measured.hot()
    appended = measured.send(some)
    log = measured.size("log") - before["log"]
    folded, wal = measured.fold()
    assert folded == count, (folded, count)
    merging, hot = measured.tend(), measured.hot()
    measured.run("VACUUM")
    return {
        "hot_share": (hot[1] - hot_before[1]) / (hot[0] - hot_before[0]),
        "record_bytes": sum(len(orjson.dumps(each)) for each in some) / count,
        "log_bytes": log / count,
        "log_wal_bytes": appended / count,
        "fold_wal_bytes": wal / count,
        "history_wal_bytes": merging / count,
        "history_bytes": (measured.size("history") - before["history"]) / count,
        "key_bytes": (measured.size("keys") - before["keys"]) / count,
    }


def markdown(result: dict[str, Any]) -> str:
    """A table, for people."""
    one, folded = result["a profile"], result["a second of a processor"]
    later_bytes = f"{one['document_bytes_updated']:.0f}"
    lines = [
        f"| {result['profiles']:,} profiles of {one['document_bytes']:.0f} bytes as JSON | bytes each |",
        "| --- | ---: |",
        f"| row and index, just placed | {one['row_bytes']:,.0f} |",
        f"| of these the index | {one['index_bytes']:,.0f} |",
        f"| after the updates below: {later_bytes} bytes as JSON | {one['row_bytes_updated']:,.0f} |",
        "",
        "| updates | bytes as JSON | in the log | WAL of the log | WAL of the fold | history | key | HOT |",
        "| --- |" + " ---: |" * 7,
    ]
    for name in PHASES:
        found = result[name]
        shown = " | ".join(f"{found[f'{column}_bytes']:,.0f}" for column in COLUMNS)
        lines.append(f"| {name} | {shown} | {found['hot_share']:.0%} |")
    lines += [
        "",
        "| in memory, without a database | records a second of a processor |",
        "| --- | ---: |",
        f"| of many profiles | {folded['records_of_many']:,} |",
        f"| of one | {folded['records_of_one_profile']:,} |",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and keep the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.sizes", description=__doc__)
    parser.add_argument("--profiles", type=int, default=PROFILES)
    parser.add_argument("--updates", type=int, default=UPDATES)
    parser.add_argument("--print", action="store_true", dest="only", help="keep nothing")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="mixdown-bench-") as name:
        Path(name).chmod(0o755)  # its data is in it, and another user's
        with postgres(Path(name) / "postgres", PLAIN) as url:
            store = open_postgres(url, role="fold", create=True, partitions=PARTITIONS)
            try:
                result = _rounded(measure(store, chosen.profiles, chosen.updates))
            finally:
                store.close()
    print(json.dumps(result, indent=2))
    if not chosen.only:
        (RESULTS / f"{NAME}.json").write_text(json.dumps(result, indent=2) + "\n")
        PAGE.write_text(published(PAGE.read_text(), markdown(result), NAME))


def _rounded(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: _rounded(each) for name, each in found.items()}
    return round(found, 3 if found < 1 else 1) if isinstance(found, float) else found


if __name__ == "__main__":
    main()
