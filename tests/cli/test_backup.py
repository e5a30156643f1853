"""`mixdown backup` and `mixdown restore`: whole or not at all, under load, cut off, on a full disk."""

from __future__ import annotations

import fcntl
import io
import json
import os
import resource
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from mixdown.fold import loop
from mixdown.fold.events import take_all
from mixdown.model.errors import FolderBusyError
from mixdown.store.sqlite import open_store
from mixdown.store.sqlite.backup import write_backup
from mixdown.store.sqlite.folder import BackupLock, BackupWatch, WakeReceiver
from tests.cli.support import Cli, group, user
from tests.engine import of_a_folder
from tests.serving import TOKEN, Server, StartServer, start_server
from tests.store.support import NOW_MS, append, appending

pytestmark = [pytest.mark.slow, of_a_folder("backups are those of its files")]

__all__ = ["start_server"]


def content(cli: Cli) -> dict[str, Any]:
    """All that people can see of a folder, after what waits is folded."""
    found: dict[str, Any] = {
        name: cli.json("sql", f"select * from {name} order by 1, 2, 3, 4") for name in ("users", "groups")
    }
    found["projects"] = cli.json("project", "list")
    found["refusals"] = cli.json("refusals", "list")
    found["places"] = cli.watermark_and_head()
    return found


@pytest.fixture
def filled(shop: Cli) -> Cli:
    """A folder with folded and waiting records of each kind."""
    shop.send(*[user(f"u{number}", n=number, pad="x" * 500) for number in range(200)])
    shop.send(group("Company", "Acme", seats=3), endpoint="groups")
    shop.send({"$token": "shop-token", "$distinct_id": "x", "$set": 5})
    shop("profiles", "get", "u1", "--project", "shop")
    shop.send(user("u1", n=1000), user("late"))
    assert shop.watermark_and_head() == (201, 203)
    return shop


@pytest.fixture
def archive(filled: Cli, tmp_path: Path) -> Path:
    """A backup of it."""
    filled("backup", str(tmp_path / "backup.tar"))
    return tmp_path / "backup.tar"


def unfinished(folder: Path) -> list[str]:
    """What backups have left beside their files."""
    return [path.name for path in folder.iterdir() if "unfinished" in path.name]


@pytest.mark.parametrize("name", ["backup.tar", "backup.tar.gz"])
def test_a_restored_folder_is_as_the_one_that_was_backed_up(filled: Cli, tmp_path: Path, name: str) -> None:
    told = filled.json("backup", str(tmp_path / name))
    assert (told["watermark"], told["head"], told["format"]) == (201, 203, 2)
    assert [member["name"] for member in told["members"]] == ["state.db", "events.db", "catalog.db", "log.db"]
    assert told["size_bytes"] == (tmp_path / name).stat().st_size
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert unfinished(tmp_path) == []
    restored = Cli(tmp_path / "new" / "data")
    assert restored.json("restore", str(tmp_path / name))["head"] == 203
    assert restored.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in restored.folder.glob("*.db")} == {0o600}
    assert restored.watermark_and_head() == (201, 203), "what waited waits again"
    assert content(restored) == content(filled)
    restored.send(user("next"))
    assert restored.watermark_and_head() == (203, 204), "positions go on"
    again = Cli(tmp_path / "again")
    restored("backup", str(tmp_path / "second.tar"))
    again("restore", str(tmp_path / "second.tar"))
    assert content(again) == content(restored)


def test_a_compressed_backup_is_smaller(archive: Path, filled: Cli, tmp_path: Path) -> None:
    filled("backup", str(tmp_path / "small.tgz"))
    assert (tmp_path / "small.tgz").stat().st_size < archive.stat().st_size / 5
    with tarfile.open(archive) as plain, tarfile.open(tmp_path / "small.tgz") as packed:
        names = ["state.db", "events.db", "catalog.db", "log.db", "manifest.json"]
        assert plain.getnames() == packed.getnames() == names


def test_a_backup_goes_through_a_pipe(filled: Cli, tmp_path: Path) -> None:
    taken = subprocess.run(
        filled.command("backup", "-"), env=filled.environment(), capture_output=True, check=True
    )
    assert b"position 203" in taken.stderr
    restored = Cli(tmp_path / "restored")
    subprocess.run(
        restored.command("restore", "-"),
        env=restored.environment(),
        input=taken.stdout,
        capture_output=True,
        check=True,
    )
    assert content(restored) == content(filled)


class Clients:
    """Threads that each count up one profile, one request after the other."""

    def __init__(self, server: Server, count: int) -> None:
        self._server = server
        self.acknowledged = [0] * count
        self.sent = [0] * count
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        while not self._stop.is_set():
            self.sent[number] += 1
            mark = {"$token": TOKEN, "$distinct_id": f"c{number}"}
            records = [{**mark, "$add": {"count": 1}}, {**mark, "$set": {"last": self.sent[number]}}]
            assert self._server.post("/engage?ip=0", records).body == b"1"
            self.acknowledged[number] = self.sent[number]


def keyed(server: Server) -> None:
    """A request with an idempotency key, and a record with an `$insert_id`."""
    mark = {"$token": TOKEN, "$distinct_id": "keyed"}
    assert (
        server.post("/engage", [{**mark, "$add": {"by-request": 1}}], {"Idempotency-Key": "k"}).status == 200
    )
    assert server.post("/engage", [{**mark, "$add": {"by-record": 1}, "$insert_id": "i"}]).body == b"1"


def test_a_backup_under_load_is_an_exact_prefix_and_a_server_goes_on_with_it(
    start_server: StartServer, tmp_path: Path
) -> None:
    first = start_server(workers=2)
    keyed(first)
    with Clients(first, 4) as clients:
        while min(clients.acknowledged) < 5:
            time.sleep(0.01)
        before = list(clients.acknowledged)
        told = first.command("backup", str(tmp_path / "backup.tar"), "--json")
        after = list(clients.sent)
    assert after > before, "nothing was sent meanwhile"
    assert first.stop() == 0
    restored = Cli(tmp_path / "restored")
    restored("restore", str(tmp_path / "backup.tar"))
    second = start_server(restored.folder)
    profiles = second.profiles()
    for number in range(4):
        properties = profiles[f"c{number}"]
        assert properties["count"] == properties["last"], "a record is missing, or was applied twice"
        assert before[number] <= properties["last"] <= after[number]
    keyed(second)
    found = second.profiles()["keyed"]
    assert (found["by-request"], found["by-record"]) == (1, 1)
    with Clients(second, 4) as clients:
        while min(clients.acknowledged) < 5:
            time.sleep(0.01)
    assert second.stop() == 0
    watermark, head = restored.watermark_and_head()
    assert watermark == head == told["head"] + 1 + 2 * sum(clients.acknowledged)
    restored("doctor", env={"MIXDOWN_DISK_RESERVE_BYTES": "0", "MIXDOWN_DISK_RESERVE_PERCENT": "0"})


def test_a_backup_that_is_killed_leaves_no_file_and_holds_nothing(filled: Cli, tmp_path: Path) -> None:
    target = tmp_path / "backup.tar"
    process = subprocess.Popen(
        filled.command("backup", "-"),
        env={**filled.environment(), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    watch = BackupWatch(filled.folder)
    deadline = time.monotonic() + 100
    while not watch.running():  # it waits for its reader, in the middle of the archive
        assert time.monotonic() < deadline
        time.sleep(0.01)
    lines = filled("backup", str(target), code=1).stderr.splitlines()
    assert "another backup" in lines[0]
    process.kill()
    process.communicate()
    assert not watch.running()
    (tmp_path / ".backup.tar.unfinished").mkdir()
    (tmp_path / ".backup.tar.unfinished" / "archive").write_bytes(b"half of it")
    filled("backup", str(target))
    assert tarfile.is_tarfile(target)
    assert ".backup.tar.unfinished" not in unfinished(tmp_path)


def test_a_restore_that_is_killed_leaves_a_folder_that_says_so_and_can_be_begun_anew(
    filled: Cli, archive: Path, tmp_path: Path
) -> None:
    restored = Cli(tmp_path / "restored")
    whole = archive.read_bytes()
    process = subprocess.Popen(
        restored.command("restore", "-"),
        env=restored.environment(),
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    process.stdin.write(whole[: len(whole) * 9 // 10])
    process.stdin.flush()
    deadline = time.monotonic() + 100
    while not (restored.folder / ".restoring" / "catalog.db").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    for command in (("project", "list"), ("backup", str(tmp_path / "none.tar"))):
        lines = restored(*command, code=1).stderr.splitlines()
        assert "has not finished" in lines[0]
        assert "mixdown restore" in lines[1]
    shutil.copy(filled.folder / "state.db", restored.folder / "state.db")  # as if it died at its last step
    restored("restore", str(archive))
    assert content(restored) == content(filled)


def flipped(whole: bytes) -> bytes:
    at = whole.index(b"u199") + 1
    return whole[:at] + b"X" + whole[at + 1 :]


def other_tar(whole: bytes) -> bytes:
    del whole
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../escape"))
    return buffer.getvalue()


def manifest_with(**changes: Any) -> Callable[[bytes], bytes]:
    """The archive with another manifest."""

    def change(whole: bytes) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=io.BytesIO(whole)) as old, tarfile.open(fileobj=buffer, mode="w") as new:
            for entry in old:
                file = old.extractfile(entry)
                assert file is not None
                body = file.read()
                if entry.name == "manifest.json":
                    body = json.dumps(json.loads(body) | changes).encode()
                    entry.size = len(body)
                new.addfile(entry, io.BytesIO(body))
        return buffer.getvalue()

    return change


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (flipped, "does not match its checksum"),
        (lambda whole: whole[: len(whole) // 2], "no whole backup"),
        (lambda whole: whole[: whole.rindex(b"manifest.json") // 512 * 512], "cut off"),
        (lambda whole: b"hello " * len(whole), "no whole backup"),
        (lambda whole: whole[:0], "no whole backup|cut off"),
        (lambda whole: b"\x1f\x8b" + whole, "no whole backup"),
        (other_tar, "no backup of Mixdown"),
        (manifest_with(format=9), "format 9"),
        (manifest_with(schemas={"log": 99}), "log.db in the backup has schema 99"),
        (manifest_with(members=[]), "does not match"),
        (manifest_with(head="x"), "cannot be read"),
    ],
)
def test_an_archive_that_is_not_whole_is_refused_and_leaves_nothing(
    archive: Path, tmp_path: Path, spoil: Callable[[bytes], bytes], words: str
) -> None:
    spoiled = tmp_path / "spoiled.tar"
    spoiled.write_bytes(spoil(archive.read_bytes()))
    restored = Cli(tmp_path / "restored")
    lines = restored("restore", str(spoiled), code=1).stderr.splitlines()
    assert len(lines) == 2
    assert any(word in lines[0] for word in words.split("|")), lines
    assert [path.name for path in restored.folder.iterdir()] == ["lock"]
    assert not (tmp_path / "escape").exists()
    restored("restore", str(archive))


def test_only_an_empty_folder_is_restored_into(filled: Cli, archive: Path, tmp_path: Path) -> None:
    before = content(filled)
    lines = filled("restore", str(archive), code=1).stderr.splitlines()
    assert "is not empty" in lines[0]
    assert "--data-dir" in lines[1]
    assert content(filled) == before
    (tmp_path / "empty").mkdir()
    Cli(tmp_path / "empty")("restore", str(archive))


def test_a_folder_with_nothing_but_locks_is_an_empty_one(archive: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar"
    broken.write_bytes(flipped(archive.read_bytes()))
    cli = Cli(tmp_path / "other")
    cli("restore", str(broken), code=1)
    for name in ("lock", "log.lock", "setup.lock", "backup.lock"):
        (cli.folder / name).touch(0o600)
    cli("restore", str(archive))
    assert cli.watermark_and_head() == (201, 203)


def test_a_file_that_is_there_is_not_written_over_unasked(filled: Cli, archive: Path) -> None:
    before = archive.read_bytes()
    assert "--force" in filled("backup", str(archive), code=1).stderr
    assert archive.read_bytes() == before
    filled.send(user("more", pad="x" * 10_000))
    filled("backup", str(archive), "--force")
    assert archive.read_bytes() != before


@pytest.mark.parametrize(
    ("target", "words"),
    [("{data}/b.tar", "inside the data folder"), ("{tmp}/none/b.tar", "no folder"), ("{tmp}", "is a folder")],
)
def test_a_place_that_cannot_be_is_refused(filled: Cli, tmp_path: Path, target: str, words: str) -> None:
    lines = filled("backup", target.format(data=filled.folder, tmp=tmp_path), code=1).stderr.splitlines()
    assert words in lines[0]
    assert len(lines) == 2


def test_a_folder_without_data_has_no_backup(shop: Cli, tmp_path: Path) -> None:
    for file in shop.folder.glob("catalog.db*"):
        file.unlink()
    assert "catalog.db is missing" in shop("backup", str(tmp_path / "c.tar"), code=1).stderr
    shutil.rmtree(shop.folder)
    assert "no Mixdown data" in shop("backup", str(tmp_path / "c.tar"), code=1).stderr
    assert not (tmp_path / "c.tar").exists()
    assert unfinished(tmp_path) == []


LIMITED_BYTES = 60_000


@pytest.mark.parametrize("name", ["b.tar", "b.tgz"])
def test_a_disk_that_fills_leaves_no_backup(filled: Cli, tmp_path: Path, name: str) -> None:
    """A limit on the size of files stands for the disk: writes fail in the same places."""
    ended = subprocess.run(
        filled.command("backup", str(tmp_path / name)),
        env=filled.environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMITED_BYTES, LIMITED_BYTES)),
    )
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 2, ended.stderr
    assert not (tmp_path / name).exists()
    assert unfinished(tmp_path) == []


def test_a_disk_that_fills_leaves_no_restored_folder(archive: Path, tmp_path: Path) -> None:
    restored = Cli(tmp_path / "restored")
    ended = subprocess.run(
        restored.command("restore", str(archive)),
        env=restored.environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMITED_BYTES, LIMITED_BYTES)),
    )
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 2, ended.stderr
    assert [path.name for path in restored.folder.iterdir()] == ["lock"]


def test_a_disk_without_room_is_refused_before_anything_is_written(
    filled: Cli, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(total=100, used=90, free=10))
    lines = filled("backup", str(tmp_path / "new.tar"), code=1).stderr.splitlines()
    assert "10 bytes are free" in lines[0]
    assert "another disk" in lines[1]
    lines = Cli(tmp_path / "restored")("restore", str(archive), code=1).stderr.splitlines()
    assert "10 are free" in lines[0]


def test_a_folder_whose_files_do_not_fit_together_is_not_backed_up(filled: Cli, tmp_path: Path) -> None:
    import apsw

    connection = apsw.Connection(str(filled.folder / "state.db"))
    connection.execute("UPDATE watermarks SET position = 999").fetchall()
    connection.close()
    lines = filled("backup", str(tmp_path / "b.tar"), code=1).stderr.splitlines()
    assert "not of one time" in lines[0]
    assert "doctor" in lines[1]


@pytest.fixture
def lock(filled: Cli) -> Iterator[BackupLock]:
    """The lock of a backup under way."""
    held = BackupLock(filled.folder)
    yield held
    held.close()


def test_the_log_is_not_trimmed_while_a_backup_copies(
    filled: Cli, lock: BackupLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "TRIM_EVERY_S", 0.0)
    store = open_store(filled.folder, role="fold", create=False)
    wake = WakeReceiver(filled.folder)
    held_until_step = 5

    def run(steps: int) -> int:
        left = iter([False] * steps)
        loop.run_fold(
            store,
            wake,
            stopping=lambda: next(left, True),
            retention_ms=-60_000,
            backups=BackupWatch(filled.folder),
        )
        return store.log.tail_position()

    lock.acquire()
    assert run(held_until_step) == 0
    assert store.state.watermark() == 203, "the fold goes on"
    take_all(store)
    lock.close()
    assert run(held_until_step) == 203
    wake.close()
    store.close()


def test_the_fold_waits_where_a_snapshot_would_make_the_wal_grow_too_far(
    filled: Cli, lock: BackupLock
) -> None:
    filled.send(user("waiting"))
    wal = filled.folder / "state.db-wal"
    store = open_store(filled.folder, role="fold", create=False)
    loop.catch_up(store)
    size = wal.stat().st_size
    assert size > 0
    small, roomy = BackupWatch(filled.folder, wal_bytes=size), BackupWatch(filled.folder, wal_bytes=size + 1)
    assert not small.presses(), "no backup runs"
    lock.acquire()
    assert not small.presses(), "it holds no snapshot of the state"
    lock.say_snapshot(held=True)
    assert small.presses()
    assert not roomy.presses()
    append(store.log, appending("more"), now_ms=NOW_MS)
    wake = WakeReceiver(filled.folder)
    behind = store.log.head() - 1
    left = iter([False] * 3)
    loop.run_fold(
        store, wake, stopping=lambda: next(left, True), retention_ms=10**12, drain_s=0, backups=small
    )
    assert store.state.watermark() == behind
    lock.say_snapshot(held=False)
    left = iter([False] * 3)
    loop.run_fold(
        store, wake, stopping=lambda: next(left, True), retention_ms=10**12, drain_s=0, backups=small
    )
    assert store.state.watermark() == behind + 1
    wake.close()
    store.close()


def test_a_backup_that_begins_while_the_fold_asks_for_one_is_not_taken_for_a_second(
    filled: Cli, lock: BackupLock
) -> None:
    with (filled.folder / "backup.lock").open("rb") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        asked = threading.Timer(0.03, fcntl.flock, (asking, fcntl.LOCK_UN))
        asked.start()
        lock.acquire()
        asked.join()
    assert BackupWatch(filled.folder).running()
    with pytest.raises(FolderBusyError, match="another backup"):
        BackupLock(filled.folder).acquire()


def test_the_wal_of_the_state_starts_anew_once_its_copy_is_done(filled: Cli, tmp_path: Path) -> None:
    """The snapshot is let go before the archive is written: only the copy itself holds the WAL."""
    store = open_store(filled.folder, role="fold", create=False)
    seen: list[str] = []

    def progress(what: str, done: int, total: int) -> None:
        assert 0 <= done <= total
        if what not in seen:
            seen.append(what)
            if what == "packing state.db":
                held = store.state._open_writer()[0].execute("PRAGMA wal_checkpoint(TRUNCATE)").get
                assert held == (0, 0, 0)

    with (tmp_path / "a.tar").open("wb") as out:
        write_backup(filled.folder, out, tmp_path, created="now", progress=progress)
    assert seen == [
        f"{doing} {name}.db"
        for doing, name in (
            ("copying", "state"),
            ("packing", "state"),
            ("copying", "events"),
            ("packing", "events"),
            ("copying", "catalog"),
            ("copying", "log"),
            ("packing", "catalog"),
            ("packing", "log"),
        )
    ]
    store.close()


def a_link_to(elsewhere: Path, workspace: Path) -> None:
    workspace.symlink_to(elsewhere)


def a_file(_: Path, workspace: Path) -> None:
    workspace.write_bytes(b"theirs")


def an_open_folder(_: Path, workspace: Path) -> None:
    workspace.mkdir()
    workspace.chmod(0o777)
    (workspace / "theirs").write_bytes(b"theirs")


@pytest.mark.parametrize("planted", [a_link_to, a_file, an_open_folder])
def test_a_folder_that_others_may_have_planted_is_not_worked_in(
    filled: Cli, tmp_path: Path, planted: Callable[[Path, Path], None]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_bytes(b"precious")
    workspace = tmp_path / ".b.tar.unfinished"
    planted(elsewhere, workspace)
    lines = filled("backup", str(tmp_path / "b.tar"), code=1).stderr.splitlines()
    assert "no folder of this user's alone" in lines[0]
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]
    assert planted is not an_open_folder or (workspace / "theirs").exists()
    assert not (tmp_path / "b.tar").exists()


def test_a_backup_to_a_pipe_works_in_a_closed_folder_that_cannot_be_guessed(
    filled: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, elsewhere = tmp_path / "temporary", tmp_path / "elsewhere"
    temporary.mkdir()
    elsewhere.mkdir()
    (elsewhere / "precious").write_bytes(b"precious")
    seen = []

    def watching(folder: Path, out: Any, workspace: Path, **rest: Any) -> Any:
        guessed = workspace.name == f".mixdown-backup-{os.getpid()}.unfinished"
        seen.append((workspace.parent, workspace.stat().st_mode & 0o777, guessed))
        return write_backup(folder, out, workspace, **rest)

    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr("mixdown.store.sqlite.backup.write_backup", watching)
    (temporary / f".mixdown-backup-{os.getpid()}.unfinished").symlink_to(elsewhere)
    filled("backup", "-")
    assert seen == [(temporary, 0o700, False)]
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]
    assert len(list(temporary.iterdir())) == 1


def test_backups_are_not_for_terminals(filled: Cli) -> None:
    assert "not for a terminal" in filled.on_a_terminal("backup", "-")
    assert os.listdir(filled.folder.parent) == ["data"]  # noqa: PTH208 - names alone
