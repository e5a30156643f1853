# ruff: noqa: INP001 - found by its name on PYTHONPATH, never imported from a package
"""Put first on PYTHONPATH of a server that is to look lived in: its clock is off by what a file says.

EXPLORER_CLOCK names the file: nanoseconds to add, as eight bytes.
"""

import mmap
import os
import struct
import time
from pathlib import Path

_file = Path(os.environ["EXPLORER_CLOCK"])
with _file.open("rb") as opened:
    _offset = mmap.mmap(opened.fileno(), 8, prot=mmap.PROT_READ)
_true_ns = time.time_ns


def _time_ns() -> int:
    return int(_true_ns() + struct.unpack_from("<q", _offset)[0])


time.time_ns = _time_ns
time.time = lambda: _time_ns() / 1e9
