"""A Mixdown server of its own, on a folder of its own: started, watched from outside, ended by its pid.

What it costs is read from /proc, so it counts every process of the server and nothing else.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from bench.records import TOKEN, profile_id, profile_json, scattered
from mixdown.store.chunk import FOR_PROFILES
from mixdown.store.protocols import FoldResult, Store
from mixdown.store.sqlite import open_store

SECRET: Final = "bench-secret-of-thirty-two-characters"
PROJECT: Final = 1
START_LIMIT_S: Final = 60.0
STOP_LIMIT_S: Final = 120.0
CATCH_UP_LIMIT_S: Final = 900.0
PLACED_AT_ONCE: Final = 100_000
STOP_TRIES: Final = 10
IDLE_S: Final = 0.3
WRITE_LIMIT_S: Final = 10.0
_LOOK_EVERY_S: Final = 0.01
_ROLES: Final = ("worker", "fold", "events")


@dataclass(frozen=True)
class Server:
    """A running `mixdown serve`; `store` looks at the same files from outside."""

    port: int
    pid: int
    data: Path
    store: Store
    database_pid: int = 0
    """Of the database server that it keeps its data in, if there is one."""

    def behind(self) -> int:
        """How many records wait to be folded."""
        if self.store.partition_count == 1:
            return self.store.log.head() - self.store.state.watermark()
        places = self.store.places(range(self.store.partition_count), FOR_PROFILES)
        return sum(place.head - place.profiles for place in places)

    def wait_until_folded(self) -> float:
        """Wait until the fold has caught up; seconds waited."""
        began = time.perf_counter()
        while time.perf_counter() - began < CATCH_UP_LIMIT_S:
            if not self.behind():
                return time.perf_counter() - began
            time.sleep(_LOOK_EVERY_S)
        raise RuntimeError("the fold did not catch up")

    def pids(self) -> list[int]:
        """Every process of the server, and of its database."""
        return family(self.pid) + (family(self.database_pid) if self.database_pid else [])

    @contextlib.contextmanager
    def fold_stopped(self) -> Iterator[None]:
        """Hold the fold's process still, so that a backlog can gather.

        Not in the middle of a checkpoint, where it would hold what writers need: it is stopped when it has
        been idle for a moment, and goes on again for another where writes are not answered then.
        """
        folds = [pid for pid in self.pids() if b"\0fold\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert folds, "the server has no fold process"
        for _ in range(STOP_TRIES):
            self._await_idle(folds)
            _signal(folds, signal.SIGSTOP)
            if self._writes():
                break
            _signal(folds, signal.SIGCONT)
        else:
            raise RuntimeError("the server does not take writes while its fold is stopped")
        try:
            yield
        finally:
            _signal(folds, signal.SIGCONT)

    def _await_idle(self, pids: list[int]) -> None:
        began = time.perf_counter()
        spent = -1.0
        while spent != (spent := sum(cpu_s(pids).values())) or self.behind():
            if time.perf_counter() - began > CATCH_UP_LIMIT_S:
                raise RuntimeError("the fold does not come to rest")
            time.sleep(IDLE_S)

    def _writes(self) -> bool:
        """Whether a write is answered."""
        body = f'[{{"$token":"{TOKEN}","$distinct_id":"probe-000","$ip":0,"$set":{{"stopped":1}}}}]'
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WRITE_LIMIT_S)
        try:
            connection.request("POST", "/engage", body, {"Content-Type": "application/json"})
            return connection.getresponse().read() == b"1"
        except TimeoutError:
            return False
        finally:
            connection.close()


def _signal(pids: list[int], signum: int) -> None:
    for pid in pids:
        os.kill(pid, signum)


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def _living(pids: list[int]) -> list[int]:
    """Those that have not ended: a database begins and ends processes of its own (vacuum) as it pleases."""
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def memory_mib(pids: list[int]) -> float:
    """The memory of the processes together, pages that they share counted once (PSS)."""
    total = 0
    for pid in _living(pids):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return round(total / 1024, 1)


def cpu_s(pids: list[int]) -> dict[str, float]:
    """Processor time that the processes have taken, by what they do (`_ROLES`, or "other")."""
    spent = dict.fromkeys((*_ROLES, "database", "other"), 0.0)
    for pid in _living(pids):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        role = next((role for role in _ROLES if role.encode() in words), "other")
        if b"postgres" in words[0]:
            role = "database"
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        spent[role] += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return spent


def written_bytes(pids: list[int]) -> int:
    """What the processes have had written to the disk."""
    total = 0
    for pid in _living(pids):
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            if line.startswith("write_bytes:"):
                total += int(line.split()[1])
    return total


@contextlib.contextmanager
def serving(
    folder: Path,
    extra: Mapping[str, str],
    *,
    arguments: Sequence[str] = (),
    opened: Callable[[Path], Store] | None = None,
    database_pid: int = 0,
) -> Iterator[Server]:
    """A server on a free port with its data in `folder`/data; `extra` is added to its environment.

    `opened` opens its store from outside, where that is not the data folder but a database.
    """
    environment = os.environ | {
        "MIXDOWN_TOKEN": TOKEN,
        "MIXDOWN_SECRET": SECRET,
        "MIXDOWN_DISK_RESERVE_BYTES": "0",
        "MIXDOWN_DISK_RESERVE_PERCENT": "0",
        **extra,
    }
    data = folder / "data"
    command = [sys.executable, "-m", "mixdown", "serve", "--port", "0", "--data-dir", str(data), *arguments]
    with (folder / "serve.log").open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        wait_for(data / "server.json", process, folder / "serve.log")
        port = int(json.loads((data / "server.json").read_text())["address"].rsplit(":", 1)[1])
        store = opened(data) if opened is not None else open_store(data, role="cli", create=False)
        try:
            yield Server(port, process.pid, data, store, database_pid)
        except Exception:
            print((folder / "serve.log").read_text()[-4000:], file=sys.stderr)
            raise
        finally:
            store.close()
    finally:
        end(process)


def wait_for(file: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a program has written `file`. Raises `RuntimeError` with what it said instead."""
    began = time.perf_counter()
    while not file.exists():
        if process.poll() is not None or time.perf_counter() - began > START_LIMIT_S:
            raise RuntimeError(f"{process.args!r} did not start: {log.read_text()}")
        time.sleep(0.02)


def end(process: subprocess.Popen[bytes], signum: int = signal.SIGTERM) -> None:
    """End a program that we started, by its own pid."""
    if process.poll() is None:
        process.send_signal(signum)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def place(data: Path, start: int, end: int) -> None:
    """Put the profiles `start` to `end - 1` into a store that no server has open.

    They go through the fold's own writing path and in no order, as they would have come in: sorted by id
    within each transaction alone. A store filled in the order of ids would flatter whatever comes after.
    """
    store = open_store(data, role="fold", create=True)
    try:
        place_into(store, scattered(start, end))
    finally:
        store.close()


def place_into(store: Store, numbers: Iterable[int]) -> None:
    """The same of a store, which has one partition or is the view of one."""
    watermark = store.state.watermark()
    some = iter(numbers)
    while together := sorted(islice(some, PLACED_AT_ONCE)):
        rows = (((PROJECT, "", profile_id(number)), profile_json(number).encode()) for number in together)
        store.state.write(FoldResult(watermark, rows, [], 0))
    store.state.checkpoint()
