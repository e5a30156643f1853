"""What a process of tests has started ends with it, however that ends: by itself, interrupted, or killed.

Tests end what they start. One that is killed cannot: so a process beside it, this file as a program, reads a
pipe that closes with it, kills what is left then, and removes its folders. It knows processes by descriptors,
not by their numbers, which others may get. Where there are no such descriptors (Linux has them) nothing is
watched.
"""

from __future__ import annotations

import atexit
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

_PATIENCE_MS: Final = 20_000
_STARTING: Final = threading.Lock()
_WATCHING: Final[dict[int, subprocess.Popen[bytes]]] = {}
"""The process beside this one, by the number of this one: what is forked from it has none."""


def end_with_us(
    process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGKILL, folder: Path | None = None
) -> None:
    """Have a process that was just started get this signal when we are gone, and its folder removed."""
    if not hasattr(os, "pidfd_open"):
        return
    pipe = _watcher().stdin
    assert pipe is not None
    with suppress(BrokenPipeError):  # somebody has ended it
        os.write(pipe.fileno(), f"{process.pid} {how:d} {folder or ''}\n".encode())  # at once: it is short


def _watcher() -> subprocess.Popen[bytes]:
    with _STARTING:
        if os.getpid() not in _WATCHING:
            command = [sys.executable, "-I", "-S", __file__]
            quiet = subprocess.DEVNULL
            # a session of its own, or what interrupts us from a terminal would interrupt it
            _WATCHING[os.getpid()] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, cwd="/", start_new_session=True
            )
        return _WATCHING[os.getpid()]


@atexit.register
def _no_longer() -> None:
    watcher = _WATCHING.pop(os.getpid(), None)
    if watcher is not None:
        watcher.communicate(b"\n")  # not only closed: what was forked from us may hold it open still


def _watch() -> None:
    """Be the process beside it: until the pipe closes, or says so, note what there is to be ended."""
    running: dict[int, int] = {}
    folders = []
    while (line := sys.stdin.readline()) and line != "\n":
        number, how, folder = line.rstrip("\n").split(" ", 2)
        for ended in [each for each in running if _has_ended(each, 0)]:
            running.pop(ended)
            os.close(ended)
        if folder:
            folders.append(folder)
        with suppress(ProcessLookupError):
            running[os.pidfd_open(int(number))] = int(how)
    for kill in (False, True):
        for each, signum in running.items():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(each, signal.SIGKILL if kill else signum)
        for each in running:
            _has_ended(each, _PATIENCE_MS)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _has_ended(descriptor: int, within_ms: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(within_ms))


if __name__ == "__main__":
    _watch()
