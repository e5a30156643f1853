"""Facts about the machine that a figure was measured on."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import apsw

from mixdown import __version__


def facts(folder: Path) -> dict[str, Any]:
    """Processor, memory, kernel, versions, and what an fsync costs on the disk of `folder` (milliseconds)."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "mixdown": __version__,
        "fdatasync_ms": round(_fdatasync_ms(folder), 3),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _fdatasync_ms(folder: Path) -> float:
    path = folder / "sync"
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    path.unlink()
    return sorted(times)[25] * 1000
