"""The disk that is measured on: what a flush costs, whether there is room, and 2 ms more for each flush.

Many disks take 0.5 to 5 ms for an fsync where a small virtual one takes a tenth of it. The slower disk is
made by a wait before each flush: for Mixdown by a VFS below SQLite (`bench/slow`), for the databases of
others by a library put before libc's (LD_PRELOAD). Without a C compiler to build that, others are not
measured on the slower disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ADDED_MS: Final = 2.0
_SHIM: Final = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <time.h>
static void linger(void) {
    struct timespec left = {0, MICROSECONDS * 1000L};
    int before = errno;
    while (nanosleep(&left, &left) == -1 && errno == EINTR) {}
    errno = before;
}
int fsync(int fd) {
    static int (*next)(int);
    if (!next) next = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    linger();
    return next(fd);
}
int fdatasync(int fd) {
    static int (*next)(int);
    if (!next) next = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    linger();
    return next(fd);
}
"""


@dataclass(frozen=True)
class Disk:
    """One of the disks: `plain`, or `slow` with `added_ms` more for each flush.

    `server` is what Mixdown's environment needs for it; `others` what other programs' needs, None where it
    cannot be done.
    """

    name: str
    added_ms: float = 0.0
    server: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] | None = field(default_factory=dict)

    def linger(self) -> None:
        """The wait that this process owes before a flush of its own."""
        if self.added_ms:
            time.sleep(self.added_ms / 1000)


PLAIN: Final = Disk("plain")


def disk_of(name: str, folder: Path) -> Disk:
    """The disk `name`: "plain" or "slow"; what slows it is built into `folder`."""
    if name == PLAIN.name:
        return PLAIN
    library = _library(folder)
    slow = str(Path(__file__).parent / "slow")
    path = os.pathsep.join(filter(None, [slow, os.environ.get("PYTHONPATH", "")]))
    return Disk(
        name,
        ADDED_MS,
        {"PYTHONPATH": path, "BENCH_FSYNC_MS": str(ADDED_MS)},
        {"LD_PRELOAD": str(library)} if library else None,
    )


def _library(folder: Path) -> Path | None:
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        return None
    source, library = folder / "flush.c", folder / "flush.so"
    source.write_text(_SHIM.replace("MICROSECONDS", str(int(ADDED_MS * 1000))))
    built = subprocess.run(
        [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"],
        capture_output=True,
        check=False,
    )
    if built.returncode:
        return None
    library.chmod(0o755)
    return library


def flush_ms(folder: Path) -> float:
    """What an fdatasync of 4 KiB costs on the disk of `folder`, in milliseconds: the median of fifty."""
    path = folder / "flush"
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    path.unlink()
    return round(sorted(times)[25] * 1000, 3)


def file_system(folder: Path) -> str:
    """The kind of file system that `folder` is on, "" where it cannot be told."""
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return ""
    mounts = [(fields[1], fields[2]) for fields in map(str.split, lines)]
    within = [mount for mount in mounts if folder.resolve().is_relative_to(mount[0])]
    return max(within, key=lambda mount: len(mount[0]))[1] if within else ""


def refuse_full(folder: Path, needed_bytes: int) -> None:
    """Raise `SystemExit` with what to do where the disk has less room than the run needs."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise SystemExit(
            f"bench: {folder} has {free / 2**30:.1f} GiB free,"
            f" and this run may take {needed_bytes / 2**30:.1f}.\n"
            "Name a folder on a larger disk with --folder, or measure less with --profiles or --sizes."
        )
