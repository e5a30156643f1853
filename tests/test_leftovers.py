"""A process of tests that is ended from outside leaves nothing running: `tests/leftovers.py`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.durability.processes import alive
from tests.leftovers import end_with_us

pytestmark = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="nothing is watched here: only Linux has descriptors of processes"
)

ROOT = Path(__file__).parents[1]
WAIT_S = 60.0
HEAD = "import subprocess, sys, time\nfrom pathlib import Path\nfrom tests.leftovers import end_with_us\n"
ASLEEP = (
    HEAD
    + """
folder = Path(sys.argv[1])
folder.mkdir()
for number in range(3):
    process = subprocess.Popen(["sleep", "1000"])
    end_with_us(process, folder=folder)
    print(process.pid, flush=True)
print(folder, flush=True)
time.sleep(1000)
"""
)
POSTGRESQL = """
import time
from tests import engine
server = engine.postgresql()
print(server.process.pid, server.folder, sep="\\n", flush=True)
time.sleep(1000)
"""


def started(code: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def all_gone(pids: list[int], folder: Path) -> bool:
    deadline = time.monotonic() + WAIT_S
    while any(alive(pid) for pid in pids) or folder.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_what_was_started_ends_with_who_started_it(how: signal.Signals, tmp_path: Path) -> None:
    with started(ASLEEP, str(tmp_path / "folder")) as tests:
        assert tests.stdout is not None
        pids = [int(tests.stdout.readline()) for _ in range(3)]
        folder = Path(tests.stdout.readline().strip())
        assert all(alive(pid) for pid in pids)
        assert folder.exists()
        tests.send_signal(how)
        tests.wait(WAIT_S)
    assert all_gone(pids, folder)


def test_a_postgresql_ends_with_who_started_it() -> None:
    with started(POSTGRESQL) as tests:
        assert tests.stdout is not None
        first = tests.stdout.readline().strip()
        if not first:
            pytest.skip("PostgreSQL is not installed")
        pid, folder = int(first), Path(tests.stdout.readline().strip())
        assert (folder / "data" / "postmaster.pid").exists()
        tests.kill()
        tests.wait(WAIT_S)
    assert all_gone([pid], folder)


def test_what_has_ended_before_is_no_matter() -> None:
    for _ in range(2):
        process = subprocess.Popen(["true"])
        end_with_us(process)
        assert process.wait(WAIT_S) == 0
