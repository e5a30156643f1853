"""`python -m bench.events`: events into /import, in requests of 2,000 that are gzipped, as clients send them.

What is acknowledged in a second, and sustained until all can be read; beside it the floors of the same bytes:
the HTTP server that does nothing with them, and unpack + decode + append + fsync on one core.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson

from bench import floors, load, machine
from bench import server as servers
from bench.progress import say
from bench.records import TOKEN, Pool

SIZE: Final = 2000
CONNECTIONS: Final = 8
LEVEL: Final = 6
USERS: Final = 50_000
DAYS: Final = 30
READABLE_LIMIT_S: Final = 900.0
_PAGES: Final = ("home", "search", "product", "cart", "checkout", "account", "help", "blog")
_PLANS: Final = ("free", "pro", "team")
_SYSTEMS: Final = (
    ("Mac OS X", "Chrome"),
    ("Windows", "Edge"),
    ("iOS", "Mobile Safari"),
    ("Android", "Chrome"),
)


def event(chance: random.Random, now_s: int) -> str:
    """An event of about 470 bytes of JSON, as a web SDK sends it, with an insert id of its own."""
    drawn = chance.random
    user = int(drawn() ** 2 * USERS)
    system, browser = _SYSTEMS[user % len(_SYSTEMS)]
    page = _PAGES[int(drawn() * len(_PAGES))]
    product = int(drawn() * 5000)
    return (
        f'{{"event":"{page} viewed","properties":{{"time":{now_s - int(drawn() * DAYS * 86_400)},'
        f'"distinct_id":"user-{user:08d}","$insert_id":"{chance.getrandbits(64):016x}",'
        f'"$device_id":"{user * 2_654_435_761:032x}","$user_id":"user-{user:08d}",'
        f'"$os":"{system}","$browser":"{browser}","$browser_version":{100 + user % 40},'
        f'"$current_url":"https://shop.example/{page}/{product}?ref=mail",'
        f'"$screen_height":{600 + user % 800},"$screen_width":{800 + user % 1200},'
        f'"plan":"{_PLANS[user % 3]}","price":{product * 0.25},'
        f'"quantity":{product % 9},"country":"DE","returning":{"true" if user % 2 else "false"},'
        '"mp_lib":"web","$lib_version":"2.83.0"}}'
    )


def request(seed: int, now_s: int) -> bytes:
    """A whole request: `SIZE` events, gzipped."""
    chance = random.Random(seed)
    text = f"[{','.join([event(chance, now_s) for _ in range(SIZE)])}]".encode()
    packer = zlib.compressobj(LEVEL, wbits=31)
    body = packer.compress(text) + packer.flush()
    credentials = base64.b64encode(f"{TOKEN}:".encode()).decode()
    head = (
        "POST /import?strict=1&ip=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Encoding: gzip\r\nAuthorization: Basic {credentials}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def pool(count: int, *, seed: int) -> Pool:
    """A pool of so many events, no two of them alike: made once, and sent once."""
    now_s = int(time.time())
    with ProcessPoolExecutor() as makers:
        made = makers.map(partial(request, now_s=now_s), range(seed, seed + count // SIZE), chunksize=8)
        requests = list(made)
    good = orjson.dumps({"code": 200, "num_records_imported": SIZE, "status": "OK"})
    return Pool(SIZE, requests, good)


def plain_bodies(sent: Pool) -> Iterator[bytes]:
    """The bodies of a pool, as they came over the wire."""
    return (whole.partition(b"\r\n\r\n")[2] for whole in sent.requests)


def decode_and_append(folder: Path, sent: Pool) -> float:
    """Events/s of: unpack a body, decode it, append it to one file, fdatasync for every few; one core."""
    path = folder / "floor.log"
    began = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for number, body in enumerate(plain_bodies(sent), 1):
            text = zlib.decompress(body, 31)
            orjson.loads(text)
            file.write(text)
            if number % CONNECTIONS == 0:
                os.fdatasync(file.fileno())
        os.fdatasync(file.fileno())
    elapsed = time.perf_counter() - began
    path.unlink()
    return len(sent) * SIZE / elapsed


@dataclass(frozen=True)
class _Spent:
    """Processor seconds by role, and bytes written."""

    cpu_s: dict[str, float]
    written: int

    @classmethod
    def now(cls, pids: list[int]) -> _Spent:
        """What these processes have spent so far."""
        return cls(servers.cpu_s(pids), servers.written_bytes(pids))


def measure(running: servers.Server, sent: Pool) -> dict[str, Any]:
    """Send a pool once, and wait until every event can be read."""
    pids = running.pids()
    before = _Spent.now(pids)
    began = time.perf_counter()
    seen = load.send(running.port, sent, connections=CONNECTIONS)
    acknowledged = _Spent.now(pids)
    waited_s = _wait_until_readable(running, began)
    after = _Spent.now(pids)
    events = seen.records
    return {
        "events": events,
        **seen.figures(),
        "sustained_events_s": round(events / waited_s),
        "worker_cpu_us_an_event": _us(before, acknowledged, "worker", events),
        "fold_cpu_us_an_event": _us(before, after, "fold", events),
        "events_reader_cpu_us_an_event": _us(before, after, "events", events),
        "written_bytes_an_event": round((after.written - before.written) / events),
        "request_bytes_an_event": round(sum(map(len, sent.requests)) / events),
    }


def _us(before: _Spent, after: _Spent, role: str, events: int) -> float:
    return round(1e6 * (after.cpu_s.get(role, 0.0) - before.cpu_s.get(role, 0.0)) / events, 2)


def _wait_until_readable(running: servers.Server, began: float) -> float:
    """Until both readers of the log have passed its head; seconds since `began`."""
    store = running.store
    head = store.log.head()
    while time.perf_counter() - began < READABLE_LIMIT_S:
        if min(store.state.watermark(), store.events.watermark()) >= head:
            return time.perf_counter() - began
        time.sleep(0.01)
    raise RuntimeError("the events could not be read in time")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.events", description=__doc__)
    parser.add_argument("--events", type=int, default=3_000_000, help="events to send (3,000,000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to measure: a temporary folder is made in it")
    parser.add_argument("--no-floors", action="store_true", help="the server alone")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="mixdown-bench-", dir=chosen.folder) as name:
        folder = Path(name)
        result: dict[str, Any] = {"machine": machine.facts(folder), "options": {"events": chosen.events}}
        say(f"making {chosen.events:,} events")
        sent = pool(chosen.events, seed=chosen.seed)
        with servers.serving(folder, {}) as running:
            load.send(running.port, replace(pool(4 * SIZE, seed=0)), connections=2)  # warm
            _wait_until_readable(running, time.perf_counter())
            say("sending them")
            result["import"] = measure(running, sent)
        if not chosen.no_floors:
            say("the floors")
            plain = Pool(SIZE, sent.requests)
            echo = floors.echo(folder, plain, connections=CONNECTIONS, seconds=floors_s(result)).figures()
            result["import"]["floor_append_events_s"] = round(decode_and_append(folder, sent))
            result["import"]["floor_echo_events_s"] = echo["records_s"]
    print(json.dumps(result, indent=2))


def floors_s(result: dict[str, Any]) -> float:
    """For how long the floor of the HTTP server is measured."""
    return min(3.0, float(result["import"]["events"] / result["import"]["records_s"]))


if __name__ == "__main__":
    main()
