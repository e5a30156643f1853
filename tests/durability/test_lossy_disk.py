"""The lossy disk itself: what SQLite synced survives a power cut, and what it did not sync goes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.durability.faults.control import Control
from tests.durability.faults.disk import power_cut
from tests.durability.processes import PYTHONPATH, alive
from tests.engine import of_a_folder

pytestmark = of_a_folder("the disk is that of its files")

WRITER = """
import sys, time, apsw
connection = apsw.Connection(sys.argv[1], flags=apsw.SQLITE_OPEN_READWRITE)
connection.set_busy_timeout(20000)
connection.pragma("journal_mode", "wal")
connection.pragma("synchronous", sys.argv[2])
connection.wal_autocheckpoint(40)
for number in range(int(sys.argv[3])):
    connection.execute("INSERT INTO t VALUES (?, ?)", (sys.argv[4], number))
    print(number, flush=True)
connection.close() if sys.argv[5] == "close" else time.sleep(60)
"""


class Disk:
    """A folder with `log.db` on a lossy disk, and processes that write it."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.notes = folder / "notes"
        self.data.mkdir()
        self.notes.mkdir()
        self.file = self.data / "log.db"
        self.control = Control(self.notes)
        self.processes: list[subprocess.Popen[str]] = []
        with apsw.Connection(str(self.file)) as connection:
            connection.execute("CREATE TABLE t (writer TEXT, number INTEGER)")
        connection.close()

    def begin(
        self, synchronous: str, rows: int, *, writer: str = "a", end: str = "wait"
    ) -> subprocess.Popen[str]:
        """Start a process that inserts rows and tells the number of each once it is committed."""
        environment = {
            **os.environ,
            "PYTHONPATH": PYTHONPATH,
            "FAULT_FOLDER": str(self.notes),
            "FAULT_DATA": str(self.data),
        }
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(self.file), synchronous, str(rows), writer, end],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def end(self) -> None:
        """Kill what still runs, and read what nobody read."""
        for process in self.processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def cut(self, seed: int) -> int:
        """Kill the processes and cut the power; how many changes were lost."""
        self.end()
        return power_cut(self.data, self.notes, random.Random(seed))

    def rows(self, writer: str = "a") -> list[int]:
        """What is in the file, which must be sound."""
        connection = apsw.Connection(str(self.file))
        try:
            assert connection.pragma("integrity_check") == "ok"
            found: Any = connection.execute("SELECT number FROM t WHERE writer = ? ORDER BY rowid", (writer,))
            return [number for (number,) in found.fetchall()]
        finally:
            connection.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path)
    yield made
    made.end()


def told(process: subprocess.Popen[str], rows: int) -> list[int]:
    """Wait until a process has told that so many rows are committed."""
    assert process.stdout is not None
    return [int(process.stdout.readline()) for _ in range(rows)]


@pytest.mark.parametrize("seed", range(3))
def test_what_two_processes_synced_survives(disk: Disk, seed: int) -> None:
    first, second = disk.begin("FULL", 90), disk.begin("FULL", 70, writer="b")
    told(first, 90)
    told(second, 70)
    disk.cut(seed)
    assert disk.rows("a") == list(range(90))
    assert disk.rows("b") == list(range(70))


@pytest.mark.parametrize("seed", range(3))
def test_of_what_was_not_synced_a_beginning_survives_and_the_file_is_sound(disk: Disk, seed: int) -> None:
    writer = disk.begin("NORMAL", 95)
    told(writer, 95)
    assert disk.cut(seed) > 0
    rows = disk.rows()
    assert rows == list(range(len(rows)))
    assert 39 <= len(rows) < 95, "the last checkpoint that completed was synced"


def test_a_file_that_is_never_synced_is_empty_after_a_power_cut(disk: Disk) -> None:
    writer = disk.begin("OFF", 30)
    told(writer, 30)
    losing_all = next(seed for seed in range(99) if random.Random(seed).choice("nnbs") == "n")
    assert disk.cut(losing_all) > 0
    assert disk.rows() == []


def test_a_kill_without_a_power_cut_loses_nothing(disk: Disk) -> None:
    writer = disk.begin("OFF", 30)
    told(writer, 30)
    disk.end()
    assert disk.rows() == list(range(30))


@pytest.mark.parametrize("seed", range(2))
def test_a_deleted_wal_that_comes_back_does_no_harm(disk: Disk, seed: int) -> None:
    assert disk.begin("FULL", 10, end="close").wait(90) == 0
    assert not (disk.data / "log.db-wal").exists()
    writer = disk.begin("NORMAL", 3, writer="b")
    told(writer, 3)
    disk.cut(seed)
    assert disk.rows() == list(range(10))


def test_a_full_disk_fails_the_write_and_nothing_else(disk: Disk) -> None:
    writer = disk.begin("FULL", 10_000)
    told(writer, 20)
    disk.control.set_disk_full(full=True)
    assert writer.stdout is not None
    committed = 20 + len(writer.stdout.read().split())  # until it fails and ends
    assert writer.wait(90) == 1
    assert committed < 10_000
    # The write that fails may be the checkpoint's behind a commit: that row is in, and its writer was
    # not told so. No row before it may be missing, and none but that one may be there.
    assert disk.rows() in (list(range(committed)), list(range(committed + 1)))


@pytest.mark.parametrize("place", ["log.db-wal write", "log.db-wal sync", "log.db write"])
def test_a_process_dies_at_the_place_that_was_armed_and_tells(disk: Disk, place: str) -> None:
    writer = disk.begin("FULL", 10_000, writer="worker")
    told(writer, 5)
    disk.control.arm("worker", place)
    assert writer.wait(90) == -9
    death = disk.control.death("worker")
    assert death is not None
    assert (death.pid, death.place) == (writer.pid, place)
    assert not alive(writer.pid)
    assert writer.stdout is not None
    committed = 5 + len(writer.stdout.read().split())
    assert len(disk.rows("worker")) in {committed, committed + 1}


def test_of_two_processes_at_an_armed_place_one_dies(disk: Disk) -> None:
    writers = [disk.begin("FULL", 400, writer="worker", end="close") for _ in range(2)]
    told(writers[0], 1)
    disk.control.arm("worker", "log.db-wal write")
    assert sorted(writer.wait(120) for writer in writers) == [-9, 0]
