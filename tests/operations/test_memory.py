"""What the processes of a server give back of their memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from mixdown.server import memory

def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

getattr(memory, sys.argv[1])()
small = [bytes(2000) for _ in range(35_000)] + [b"x" * 300_000 for _ in range(100)]
fence = bytes(2000)  # above them on the heap: what is below it stays without being asked for
held = resident_mib()
del small
freed = resident_mib()
memory.give_back()
print(held, freed, resident_mib())
"""


@pytest.mark.parametrize("held_by", ["give_large_blocks_pages_of_their_own", "keep_blocks_of_statements"])
def test_what_is_free_below_what_is_used_is_given_back(held_by: str) -> None:
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM, held_by], check=True, capture_output=True, text=True
    )
    held, freed, kept = map(float, said.stdout.split())
    assert freed > held - 40
    assert kept < held - 80
