"""Environments of their own for clients whose dependencies are heavy or clash with ours.

The name of a client enters, with its pinned packages in `python/NAME.txt`; the folder of its programs leaves.
An environment is made once for a machine, below the user's cache, and used again while the pins are the same.
It is a reason to skip that the package index cannot be reached; whatever else goes wrong fails the test.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PINS = Path(__file__).parent / "python"
INSTALL_TIMEOUT_S = 600
_UNREACHABLE = re.compile(
    r"failed to fetch|error sending request|dns error|connection refused|network is unreachable|timed out"
    r"|could not connect|no route to host|os error 11[01]",
    re.IGNORECASE,
)


def client_programs(name: str, python: str = "") -> Path:
    """The folder with the programs of a client, Python among them, installed on first use.

    `python` is the version that the client wants, where not every one will do. Skips without that version
    or without an index; fails where the packages cannot be installed.
    """
    pins = PINS / f"{name}.txt"
    version = python or f"{sys.version_info.major}.{sys.version_info.minor}"
    mark = hashlib.sha256(pins.read_bytes() + version.encode()).hexdigest()[:16]
    folder = _cache() / f"{name}-{mark}"
    programs = folder / "bin"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as turn:  # several test runs at once take turns
        fcntl.flock(turn, fcntl.LOCK_EX)
        if (folder / ".complete").exists():
            return programs
        shutil.rmtree(folder, ignore_errors=True)
        made = _uv("venv", "--quiet", "--no-python-downloads", "--python", version, str(folder))
        if made.returncode and python:
            pytest.skip(f"{name} wants Python {version}, which is not installed here")
        assert made.returncode == 0, made.stderr
        filled = _uv("pip", "sync", "--quiet", "--python", str(programs / "python"), str(pins))
        if filled.returncode and _UNREACHABLE.search(filled.stderr):
            pytest.skip(f"the package index cannot be reached for {name}: {filled.stderr.strip()[-300:]}")
        assert filled.returncode == 0, f"{name} cannot be installed:\n{filled.stderr}"
        (folder / ".complete").touch()
        return programs


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mixdown-tests"


def _uv(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "uv", *arguments],
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )
