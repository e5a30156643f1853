"""The server under torture: its folder, disk and clock, and everything that can befall its processes.

All of it lies in one temporary folder; on Linux as root the data lies on a small tmpfs of its own, which
`fill_disk` makes too small. `close` ends every process that was started, by its id, and takes the disk off,
however the run ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import apsw
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mixdown.model.errors import StoreError
from mixdown.store.duck import open_events
from mixdown.store.events import FIRST_MS, LAST_MS
from mixdown.store.places import events_place
from mixdown.store.sqlite import SqliteStore, open_store
from tests.durability.faults.control import Control
from tests.durability.faults.disk import power_cut
from tests.durability.faults.mutants import WINDOW
from tests.durability.processes import PYTHONPATH, alive, children, free_port
from tests.serving import Server, launch
from tests.torture.ledger import MARKS, ProfileKey
from tests.torture.records import GROUP_KEY

WORKERS: Final = 2
DISK_MIB: Final = 512
WAIT_S: Final = 60.0
DAY_MS: Final = 86_400_000
STUCK_DRAINS: Final = "drains that were not clean"
RECOGNISED: Final = {
    "mixdown_recognised_requests_total": "requests",
    "mixdown_fold_recognised_retries_total": "records",
}
"""What workers recognise, and what only the fold does, by the server's own metrics."""
EVENTS_BYTES: Final = 256 * 1024 * 1024
_READS: Final = 20
_STRUCK_S: Final = 4.0
_POLL_S: Final = 0.002
_REFUSAL_CHARS: Final = 800


class RefusedToStartError(Exception):
    """The server found its own data folder unusable: `lost` records are gone, by its own account."""

    def __init__(self, text: str, lost: int) -> None:
        super().__init__(text)
        self.lost = lost


class Stage:
    """One server under torture, started again on the same folder after each end."""

    def __init__(self, seed: int, *, mutant: str = "", own_disk: bool = True) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mixdown-torture-"))
        self.data = self.folder / "data"
        self.control = Control(self.folder)
        self.port = free_port()
        self.kills: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.recognised: Counter[str] = Counter()
        self._told: Counter[str] = Counter()
        self.lost_writes = 0
        self._mutant = mutant
        self._chance = random.Random(f"{seed}/stage")
        self._server: Server | None = None
        self._newest_ms = 0
        self._filled = 0
        self.disk = "a tmpfs and below SQLite" if own_disk and self._mount() else "below SQLite"

    # --- the server ---

    @property
    def server(self) -> Server:
        """The running server."""
        assert self._server is not None
        return self._server

    def start(self) -> None:
        """Start, or start again. Raises `RefusedToStartError`."""
        environment = {
            "PYTHONPATH": os.pathsep.join(filter(None, (PYTHONPATH, os.environ.get("PYTHONPATH")))),
            "FAULT_FOLDER": str(self.folder),
            "FAULT_DATA": str(self.data),
            "FAULT_HASTE": "1",
            "FAULT_MUTANT": self._mutant,
            "MIXDOWN_DISK_RESERVE_BYTES": "0",
            "MIXDOWN_DISK_RESERVE_PERCENT": "0",
            "MIXDOWN_LOG_RETENTION_HOURS": "0",
        }
        try:
            self._server = launch(
                self.data, workers=WORKERS, arguments=["--port", str(self.port)], environment=environment
            )
        except pytest.fail.Exception as error:
            said = [line for line in str(error).splitlines() if line.startswith("mixdown: ")]
            text = said[-1] if said else str(error)[-_REFUSAL_CHARS:]
            raise RefusedToStartError(text, lost_positions(self.data)) from None
        self._told.clear()

    def count_recognised(self) -> None:
        """Add what the server has recognised since it was asked last; what a kill takes stays uncounted."""
        try:
            shown = self.server.request("GET", "/metrics").body.decode()
        except (OSError, HTTPException):
            return
        told: Counter[str] = Counter()
        for family in text_string_to_metric_families(shown):
            for sample in family.samples:
                if sample.name in RECOGNISED:
                    told[RECOGNISED[sample.name]] += int(sample.value)
        for name, value in told.items():
            self.recognised[name] += value - self._told[name] if value >= self._told[name] else value
        self._told = told

    def stored(self) -> dict[ProfileKey, dict[str, Any]]:
        """All profiles, once the fold has caught up."""
        deadline = time.monotonic() + WAIT_S
        while self.server.get("/api/mixdown/status").json()["results"]["behind"]:
            assert time.monotonic() < deadline, "the fold did not catch up"
            time.sleep(0.02)
        found: dict[ProfileKey, dict[str, Any]] = {
            ("", name): profile for name, profile in self.server.profiles().items()
        }
        for name, profile in self.server.groups(GROUP_KEY).items():
            found[GROUP_KEY, name] = profile
        return found

    def stored_events(self) -> dict[str, int]:
        """How many events of each mark reads are given, once the events reader has caught up."""
        store = open_store(self.data, role="cli", create=False)
        try:
            deadline = time.monotonic() + WAIT_S
            while events_place(store) < store.log.head():
                assert time.monotonic() < deadline, "the events reader did not catch up"
                time.sleep(0.02)
            for _ in range(_READS):
                with contextlib.suppress(StoreError):  # here files go at once when they are listed no more
                    return self._marks(store)
            return self._marks(store)
        finally:
            store.close()

    def _marks(self, store: SqliteStore) -> dict[str, int]:
        """How many events of each mark a read is given. Raises `StoreError`."""
        parts = store.events.parts(self.server.project_id, FIRST_MS, LAST_MS)
        spill = self.folder / "spill"
        with open_events(parts, memory_limit_bytes=EVENTS_BYTES, threads=1, temp_directory=spill) as table:
            mark = table.value(MARKS)
            rows = table.batches(f"SELECT {mark} ->> '$', count(*) FROM events GROUP BY 1")
            return {name: count for batch in rows for name, count in batch}

    def log_text(self) -> str:
        """All that the server has printed so far."""
        return self.data.with_name("data.log").read_text(errors="replace")

    def workers(self) -> list[int]:
        """Process ids of the workers that live."""
        return children(self.server.pid, "worker")

    def _readers(self) -> list[int]:
        """Process ids of the fold and the events reader, where they live."""
        return [*children(self.server.pid, "fold"), *children(self.server.pid, "events")]

    # --- what befalls it ---

    async def kill(self, role: str, in_flight: Callable[[], int]) -> None:
        """Kill a worker, the fold or the events reader wherever it is, with requests in flight."""
        pid = await self._someone(role, in_flight)
        if pid:
            os.kill(pid, signal.SIGKILL)
            await _until(lambda: not alive(pid))
            self.kills[f"{role}, anywhere"] += 1

    async def kill_in_window(self, role: str) -> None:
        """Kill a process while a mutant says that it is vulnerable."""
        window = self.folder / WINDOW
        await _until(window.exists)
        for pid in children(self.server.pid, role):
            os.kill(pid, signal.SIGKILL)
        window.unlink(missing_ok=True)
        self.kills[f"{role}, anywhere"] += 1

    async def strike(self, role: str, place: str, label: str) -> None:
        """Have a process end itself inside a commit, a checkpoint or a fold transaction."""
        self.control.arm(role, place)
        await _until(lambda: self.control.death(role) is not None, _STRUCK_S)
        self.control.disarm(role)
        death = self.control.death(role)
        if death is None:
            self.events["armed places that nobody came to"] += 1
            return
        assert await _until(lambda: not alive(death.pid)), f"process {death.pid} did not end"
        self.kills[label] += 1

    async def kill_supervisor(self, in_flight: Callable[[], int]) -> None:
        """Kill the supervisor, which takes its children along, and start again."""
        await self._someone("worker", in_flight)
        await asyncio.to_thread(self.server.kill)
        self.kills["supervisor"] += 1
        await asyncio.to_thread(self.start)

    async def cut_power(self, in_flight: Callable[[], int]) -> None:
        """Kill every process at once, lose what was not synced, and start again."""
        await self._someone("worker", in_flight)
        family = [self.server.pid, *self.workers(), *self._readers()]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(self.server.kill)
        assert await _until(lambda: not any(map(alive, family))), "a process outlived the power cut"
        self.kills["power cut, all processes"] += 1
        self.lost_writes += power_cut(self.data, self.folder, self._chance)
        await asyncio.to_thread(self.start)

    async def drain(self) -> None:
        """SIGTERM, and start again."""
        status = await asyncio.to_thread(self.server.stop)
        self.events["drains by SIGTERM" if status == 0 else STUCK_DRAINS] += 1
        await asyncio.to_thread(self.start)

    async def jump(self) -> None:
        """Set the clock ahead of all before, or back by up to three days.

        In all it goes ahead by less than the 7 days for which keys are kept. Ahead is where the log is
        trimmed: its retention is 0 here, and a chunk's time never goes back.
        """
        if self._chance.random() < 0.6:
            self._newest_ms = min(self._newest_ms + self._chance.randint(0, DAY_MS // 3), 6 * DAY_MS)
            clock_ms = self._newest_ms
        else:
            clock_ms = self._newest_ms - self._chance.randint(0, 3 * DAY_MS)
        self.control.set_clock(clock_ms)
        self.events["clock jumps"] += 1

    async def fill_at_checkpoints(self) -> None:
        """For a while every checkpoint meets a full disk, while the WALs still have room."""
        self.control.set_disk_full(full=True, only_at_checkpoints=True)
        await asyncio.sleep(self._chance.uniform(3.2, 4.2))
        self.control.set_disk_full(full=False)
        self.events["full disks (at checkpoints)"] += 1

    async def fill_disk(self, refused: Callable[[], int]) -> None:
        """No file can grow for a second or two; then it can again."""
        before = refused()
        self._filled += 1
        real = self.disk.startswith("a tmpfs") and self._filled % 2 == 1
        if real:
            self._resize(full=True)
        else:
            self.control.set_disk_full(full=True)
        try:
            await _until(lambda: refused() > before + 3, 3.0)
            await asyncio.sleep(self._chance.uniform(0.1, 0.6))
        finally:
            if real:
                self._resize(full=False)
            else:
                self.control.set_disk_full(full=False)
        self.events["full disks (tmpfs)" if real else "full disks (below SQLite)"] += refused() > before

    def close(self) -> None:
        """End the server and everything it left, and remove the folder."""
        if self._server is not None:
            family = [*self.workers(), *self._readers()]
            self.server.stop()
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    if alive(pid):
                        os.kill(pid, signal.SIGKILL)
        self._unmount()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _someone(self, role: str, in_flight: Callable[[], int]) -> int:
        """A process of this role while requests are in flight; 0 where none comes back in time."""
        ready = await _until(lambda: bool(children(self.server.pid, role)) and in_flight() > 0)
        found = children(self.server.pid, role) if ready else []
        return self._chance.choice(found) if found else 0

    # --- the disk ---

    def _mount(self) -> bool:
        """Put a small file system of its own below the data folder, where this is allowed."""
        self.data.mkdir(mode=0o700)
        if os.geteuid() == 0 and shutil.which("mount"):
            size = f"size={DISK_MIB}m,mode=0700"
            command = ["mount", "-t", "tmpfs", "-o", size, "mixdown-torture", str(self.data)]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return True
        self.data.rmdir()
        return False

    def _resize(self, *, full: bool) -> None:
        """Make the disk as small as what is on it, or large again."""
        usage = os.statvfs(self.data)
        used = (usage.f_blocks - usage.f_bfree) * usage.f_frsize
        size = used + self._chance.randint(0, 6) * 4096 if full else DISK_MIB * 2**20
        command = ["mount", "-o", f"remount,size={size}", str(self.data)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode and not full:
            raise OSError(f"the disk cannot be made large again: {ended.stderr}")

    def _unmount(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while os.path.ismount(self.data):
            subprocess.run(["umount", str(self.data)], capture_output=True, check=False)
            if time.monotonic() > deadline:
                subprocess.run(["umount", "--lazy", str(self.data)], capture_output=True, check=False)
                return
            time.sleep(0.05)


def lost_positions(data: Path) -> int:
    """How many records stand between what was folded and what the log still has, in a folder at rest."""
    try:
        state = apsw.Connection(str(data / "state.db"))
        log = apsw.Connection(str(data / "log.db"))
        watermark: Any = state.execute("SELECT position FROM watermarks").get
        tail: Any = log.execute("SELECT coalesce((SELECT min(first) FROM chunks), position) FROM head").get
        head: Any = log.execute("SELECT position FROM head").get
    except apsw.Error:
        return 1
    return max(int(tail) - int(watermark), int(watermark) - int(head), 1)


async def _until(true: Callable[[], bool], limit_s: float = WAIT_S) -> bool:
    """Wait until something is true, for so long at most; whether it is."""
    deadline = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_S)
    return True
