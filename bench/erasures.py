"""`python -m bench.erasures`: how long people take to be erased among a million, quiet and under load.

One server with placed profiles and a log full of records about them. Each erasure is asked for as the command
line does; timed are the end of its reads, and the end of the job, when no file holds them any more.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench import load, machine, records
from bench import server as servers
from bench.progress import say
from mixdown.store.privacy import PENDING, SUCCESS, Deletion, begin

PEOPLE: Final = (1, 100, 2000)
LOAD_RECORDS_S: Final = 20_000.0
REQUEST_RECORDS: Final = 50
LIMIT_S: Final = 900.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.erasures", description=__doc__)
    parser.add_argument("--profiles", type=int, default=1_000_000)
    parser.add_argument("--records", type=int, default=400_000, help="records in the log (400,000)")
    parser.add_argument("--folder", type=Path, help="where to measure: a temporary folder is made in it")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="mixdown-bench-", dir=chosen.folder) as name:
        folder = Path(name)
        result: dict[str, Any] = {
            "machine": machine.facts(folder),
            "options": {"profiles": chosen.profiles, "records": chosen.records},
        }
        say(f"placing {chosen.profiles:,} profiles")
        servers.place(folder / "data", 0, chosen.profiles)
        with servers.serving(folder, {}) as running:
            measure(running, chosen.profiles, chosen.records, result)
    print(json.dumps(result, indent=2))


def measure(running: servers.Server, profiles: int, count: int, result: dict[str, Any]) -> None:
    """Measure into `result`."""
    pool = records.pool(size=REQUEST_RECORDS, records=count, profiles=profiles, keys="uniform", seed=5)
    say(f"filling the log with {count:,} records")
    load.send(running.port, pool, connections=16, requests=count // REQUEST_RECORDS)
    running.wait_until_folded()
    chance = random.Random(9)
    result["quiet"] = {people: erase(running, profiles, people, chance) for people in PEOPLE}
    stop = threading.Event()
    sending = threading.Thread(
        target=lambda: load.send(
            running.port, pool, connections=4, seconds=LIMIT_S, records_s=LOAD_RECORDS_S, stop=stop.is_set
        )
    )
    sending.start()
    try:
        result["loaded"] = {people: erase(running, profiles, people, chance) for people in PEOPLE}
    finally:
        stop.set()
        sending.join()


def erase(running: servers.Server, profiles: int, people: int, chance: random.Random) -> dict[str, Any]:
    """Erase so many of the people; how long that took, and what it was."""
    ids = tuple(records.profile_id(number) for number in chance.sample(range(profiles), people))
    say(f"erasing {people:,}")
    store, at_ms = running.store, time.time_ns() // 1_000_000
    job = Deletion(
        secrets.token_hex(16), servers.PROJECT, "", ids, people, PENDING, "bench", "GDPR", at_ms, at_ms
    )
    began = time.perf_counter()
    store.privacy.add_deletion(job)
    begin(store, job, now_ms=at_ms)
    position = store.log.head()
    while store.state.watermark() < position:
        time.sleep(0.002)
    unread_s = time.perf_counter() - began
    while time.perf_counter() - began < LIMIT_S:
        known = store.privacy.deletion(servers.PROJECT, job.id)
        if known is not None and known.status == SUCCESS:
            report = json.loads(known.report)
            return {
                "unread_s": round(unread_s, 3),
                "erased_s": round(time.perf_counter() - began, 2),
                "records": report["records"],
                "chunks": report["chunks"],
            }
        time.sleep(0.02)
    raise RuntimeError("an erasure did not end")


if __name__ == "__main__":
    main()
