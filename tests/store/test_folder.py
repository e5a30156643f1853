"""The data folder: its lock, its modes, the socket that wakes the fold."""

from __future__ import annotations

import os
import select
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mixdown.model.errors import FolderBusyError, StoreError
from mixdown.store.chunk import FOR_ALL, FOR_EVENTS, FOR_PROFILES
from mixdown.store.sqlite.folder import (
    EVENTS_SOCKET,
    FolderLock,
    WakeReceiver,
    WakeSender,
    make_file,
    make_folder,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_is_made_with_its_parents_and_closed_to_others(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    assert mode(tmp_path / "a" / "b") == 0o700
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)  # whatever the umask
    make_folder(tmp_path / "open")
    assert mode(tmp_path / "open") == 0o700


def test_a_folder_that_others_use_is_not_taken_from_them(tmp_path: Path) -> None:
    shared = tmp_path / "home"
    shared.mkdir()
    shared.chmod(0o755)  # whatever the umask
    (shared / "theirs").touch()
    with pytest.raises(StoreError, match="holds other things"):
        make_folder(shared)
    assert mode(shared) == 0o755
    shared.chmod(0o700)
    make_folder(shared)


@pytest.mark.parametrize("name", ["log.db", "lock", "lost+found", ".snapshot"])
def test_a_folder_of_ours_or_a_fresh_disk_is_closed_to_others(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o755)  # whatever the umask
    (folder / name).touch()
    make_folder(folder)
    assert mode(folder) == 0o700


def test_a_folder_that_cannot_be_made_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be made"):
        make_folder(tmp_path / "file" / "data")
    with pytest.raises(StoreError, match="cannot be made"):
        make_folder(tmp_path / "file")


def test_a_folder_that_cannot_be_written_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()  # so that even root cannot make the file
    with pytest.raises(StoreError, match="cannot be used") as error:
        FolderLock(tmp_path).acquire(0)
    assert "--data-dir" in error.value.hint


def test_a_file_is_made_once_and_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "f"
    assert make_file(path)
    assert mode(path) == 0o600
    path.write_text("kept")
    path.chmod(0o644)
    assert not make_file(path)
    assert (mode(path), path.read_text()) == (0o600, "kept")


def test_the_lock_is_one_servers_and_names_its_holder(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "data")
    assert lock.holder() is None
    with lock.acquire(0):
        assert lock.holder() == os.getpid()
        with pytest.raises(FolderBusyError, match=f"in use by process {os.getpid()}") as busy:
            FolderLock(tmp_path / "data").acquire(0.1)
        assert "--data-dir" in busy.value.hint
    assert lock.holder() is None
    FolderLock(tmp_path / "data").acquire(0).release()


def test_a_lock_that_frees_itself_in_time_is_taken(tmp_path: Path) -> None:
    held = FolderLock(tmp_path / "data").acquire(0)
    os.set_inheritable(held.fd, False)
    code = "import sys, time; time.sleep(0.3)"
    child = subprocess.Popen([sys.executable, "-c", code], pass_fds=[held.fd])
    held.release()
    began = time.monotonic()
    FolderLock(tmp_path / "data").acquire(60).release()
    assert time.monotonic() - began > 0.1, "a child that inherited it held it still"
    assert child.wait() == 0


def test_the_lock_is_free_when_its_holder_was_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from mixdown.store.sqlite.folder import FolderLock\n"
        "held = FolderLock(Path(sys.argv[1])).acquire(0); print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "data")], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    lock = FolderLock(tmp_path / "data")
    assert lock.holder() == child.pid
    with pytest.raises(FolderBusyError, match=f"process {child.pid}"):
        lock.acquire(0)
    child.kill()
    child.wait()
    child.stdout.close()
    lock.acquire(60).release()


@pytest.mark.parametrize("long_name", ["data", "a" * 200])
def test_a_wake_reaches_the_fold(tmp_path: Path, long_name: str) -> None:
    folder = tmp_path / long_name
    make_folder(folder)
    sender = WakeSender(folder)
    sender.wake()  # nobody listens yet: no error
    receiver = WakeReceiver(folder)
    assert receiver.drain() == 0
    assert select.select([receiver.fileno()], [], [], 0)[0] == []
    sender.wake()
    sender.wake()
    assert select.select([receiver.fileno()], [], [], 5)[0] == [receiver.fileno()]
    assert receiver.drain() == 2
    assert select.select([receiver.fileno()], [], [], 0)[0] == []
    assert mode(folder / "wake.sock") == 0o600
    sender.close()
    receiver.close()
    assert not (folder / "wake.sock").exists()


@pytest.mark.parametrize(
    ("kinds", "woken"), [(0, (0, 0)), (FOR_PROFILES, (1, 0)), (FOR_EVENTS, (0, 1)), (FOR_ALL, (1, 1))]
)
def test_a_wake_reaches_those_readers_that_a_chunk_is_for(
    tmp_path: Path, kinds: int, woken: tuple[int, int]
) -> None:
    sender, fold, events = WakeSender(tmp_path), WakeReceiver(tmp_path), WakeReceiver(tmp_path, EVENTS_SOCKET)
    sender.wake(kinds)
    assert (fold.drain(), events.drain()) == woken
    for part in (sender, fold, events):
        part.close()


def test_waking_never_blocks_nor_raises(tmp_path: Path) -> None:
    sender, receiver = WakeSender(tmp_path), WakeReceiver(tmp_path)
    began = time.monotonic()
    for _ in range(10_000):
        sender.wake()
    assert time.monotonic() - began < 30
    assert receiver.drain() > 0
    receiver.close()
    sender.wake()
    (tmp_path / "wake.sock").write_text("no socket")
    sender.wake()
    sender.close()


def test_a_new_fold_takes_over_the_socket_of_one_that_was_killed(tmp_path: Path) -> None:
    sender, old = WakeSender(tmp_path), WakeReceiver(tmp_path)
    new = WakeReceiver(tmp_path)
    sender.wake()
    assert (old.drain(), new.drain()) == (0, 1)
    for part in (sender, old, new):
        part.close()
