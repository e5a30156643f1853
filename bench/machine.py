"""Facts about the machine and the programs that a figure was measured with."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import apsw

from bench.disk import file_system, flush_ms
from mixdown import __version__

PACKAGES: Final = (
    "uvicorn",
    "uvloop",
    "httptools",
    "msgspec",
    "orjson",
    "apsw",
    "asyncpg",
    "fastapi",
    "redis",
)


def facts(folder: Path) -> dict[str, Any]:
    """Processor, memory, kernel, versions, load, and what a flush costs on the disk of `folder`."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "file_system": file_system(folder),
        "fdatasync_ms": flush_ms(folder),
        "load_before": round(os.getloadavg()[0], 2),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "mixdown": __version__,
        "commit": _commit(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    """The revision that was measured, "" outside a clone."""
    root = Path(__file__).parent.parent
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude", "*"],  # noqa: S607 - git is on the path
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip()
