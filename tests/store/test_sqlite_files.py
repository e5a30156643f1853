"""A data folder of SQLite files: made, migrated, closed to others, refused when it does not fit together."""

from __future__ import annotations

import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from mixdown.model.errors import CorruptStoreError, MixdownError, SchemaTooNewError, StoreError
from mixdown.store.protocols import Session
from mixdown.store.sqlite import SqliteStore, connection, open_store
from tests.store.support import NOW_MS, append, appending, read_all, refusal, user, write

EXTRA = "CREATE TABLE extra (n INTEGER) STRICT; INSERT INTO extra VALUES (1)"
LASTING = ["log.db", "catalog.db", "state.db"]


def run_sql(path: Path, sql: str) -> None:
    """Change a file behind the store's back."""
    database = apsw.Connection(str(path))
    database.execute(sql).fetchall()
    database.close()


def fill(folder: Path) -> None:
    """Keep a little of everything."""
    store = open_store(folder, role="fold", create=True)
    append(store.log, appending("a", "b", refused=[refusal()]))
    write(store.state, [(user("a"), b"{}")], watermark=2)
    store.catalog.create_project("p", token="t", secret_hash=b"s", id_merge="simplified", now_ms=1)
    store.sessions.create(Session("s", 1, "", 1, 10, NOW_MS), ["a"])
    store.close()


def holdings(store: SqliteStore) -> tuple[object, ...]:
    """What `fill` kept, read back."""
    return (
        read_all(store.log),
        len(store.refusals.listing(None)),
        store.state.watermark(),
        store.state.documents([user("a")]),
        [project.name for project in store.catalog.projects()],
        store.sessions.page_ids("s", 0),
    )


FILLED = (["a", "b"], 1, 2, [b"{}"], ["p"], ["a"])


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    for role in ("worker", "fold", "cli"):
        store = open_store(tmp_path / "data", role=role, create=False)
        assert holdings(store) == FILLED
        store.close()


def test_folder_and_files_are_closed_to_others_while_open_and_after(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "data"
    store = open_store(folder, role="fold", create=True)
    append(store.log, appending("a"))
    write(store.state, [(user("a"), b"{}")])
    store.sessions.create(Session("s", 1, "", 1, 10, NOW_MS), ["a"])
    names = {path.name for path in folder.iterdir()}
    assert {
        f"{name}{suffix}" for name in [*LASTING, "scratch.db"] for suffix in ("", "-wal", "-shm")
    } <= names
    for _ in range(2):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {
            path.name: 0o700 if path.is_dir() else 0o600 for path in folder.iterdir()
        }
        store.close()


def test_files_that_were_open_to_others_are_closed_to_them(folder: Path) -> None:
    folder.chmod(0o755)
    for name in LASTING:
        (folder / name).chmod(0o644)
    open_store(folder, role="worker", create=True).close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in LASTING} == {0o600}


def test_a_missing_folder_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no Mixdown data") as error:
        open_store(tmp_path / "none", role="cli", create=False)
    assert "mixdown serve" in error.value.hint
    assert not (tmp_path / "none").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="no Mixdown data"):
        open_store(tmp_path / "empty", role="cli", create=False)
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("name", LASTING)
def test_a_lost_file_is_refused_and_not_made_anew(tmp_path: Path, name: str) -> None:
    fill(tmp_path)
    (tmp_path / name).unlink()
    for create in (False, True):
        with pytest.raises(CorruptStoreError, match=f"{name} is missing") as error:
            open_store(tmp_path, role="worker", create=create)
        assert "backup" in error.value.hint
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize("left", [[], ["log.db"], ["log.db", "catalog.db"]])
def test_a_first_start_that_was_killed_half_way_goes_on(
    tmp_path: Path, new_folder: Path, left: list[str]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in left:
        shutil.copy(new_folder / name, folder / name)
    (folder / "state.db").touch()  # made, and killed before its schema
    fill(folder)
    store = open_store(folder, role="worker", create=False)
    assert holdings(store) == FILLED
    store.close()


@pytest.mark.parametrize("name", LASTING)
def test_a_newer_schema_is_refused_with_what_to_do(folder: Path, name: str) -> None:
    run_sql(folder / name, "PRAGMA user_version = 99")
    with pytest.raises(SchemaTooNewError, match=rf"{name} has schema 99, .* up to \d") as error:
        open_store(folder, role="worker", create=True)
    assert "newer Mixdown" in error.value.hint


@pytest.mark.parametrize("name", LASTING)
def test_a_file_that_is_no_database_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"This is no database at all. " * 400)
    with pytest.raises(CorruptStoreError, match=f"{name} is damaged") as error:
        open_store(folder, role="worker", create=True)
    assert "backup" in error.value.hint


def test_a_state_older_than_what_the_log_still_holds_is_refused(tmp_path: Path) -> None:
    """Else the fold would go on after the gap, and say nothing of the records in it."""
    folder = tmp_path / "data"
    fill(folder)
    store = open_store(folder, role="fold", create=False)
    append(store.log, appending("c"))
    assert store.log.trim(2, NOW_MS + 10_000_000) == 1
    store.close()
    open_store(folder, role="fold", create=False).close()
    run_sql(folder / "state.db", "UPDATE watermarks SET position = 1")
    with pytest.raises(CorruptStoreError, match=r"up to position 1.*log\.db begins at 2") as error:
        open_store(folder, role="worker", create=False)
    assert error.value.hint


def test_a_watermark_above_the_head_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    run_sql(tmp_path / "data" / "state.db", "UPDATE watermarks SET position = 3")
    with pytest.raises(CorruptStoreError, match=r"up to position 3.*log\.db ends at 2") as error:
        open_store(tmp_path / "data", role="worker", create=False)
    assert "doctor --repair" in error.value.hint


def test_a_head_below_its_chunks_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    run_sql(tmp_path / "data" / "state.db", "UPDATE watermarks SET position = 0")
    run_sql(tmp_path / "data" / "log.db", "UPDATE head SET position = 1")
    with pytest.raises(CorruptStoreError, match="chunks up to position 2, and says that it ends at 1"):
        open_store(tmp_path / "data", role="worker", create=False)


def test_a_migration_is_applied_once_and_keeps_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "data")
    known = connection.migrations
    monkeypatch.setattr(connection, "migrations", lambda kind: [*known(kind), (len(known(kind)) + 1, EXTRA)])
    for _ in range(2):
        store = open_store(tmp_path / "data", role="worker", create=False)
        assert holdings(store) == FILLED
        store.close()
    for name in [*LASTING, "scratch.db"]:
        database = apsw.Connection(str(tmp_path / "data" / name))
        assert database.execute("SELECT n FROM extra").get == 1
        database.close()


def test_a_migration_that_fails_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = connection.migrations
    with monkeypatch.context() as patch:
        patch.setattr(
            connection,
            "migrations",
            lambda kind: [*known(kind), (len(known(kind)) + 1, "CREATE TABLE extra (n); SELECT no_such()")],
        )
        with pytest.raises(StoreError, match="no_such"):
            open_store(folder, role="worker", create=False)
    open_store(folder, role="worker", create=False).close()
    database = apsw.Connection(str(folder / "log.db"))
    assert database.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'extra'").get == 0
    database.close()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"garbage" * 1000),
        lambda path: run_sql(path, "PRAGMA user_version = 99"),
        lambda path: path.unlink(),
    ],
    ids=["damaged", "newer", "missing"],
)
def test_a_scratch_file_that_cannot_be_used_is_made_anew(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    fill(tmp_path / "data")
    spoil(tmp_path / "data" / "scratch.db")
    store = open_store(tmp_path / "data", role="worker", create=False)
    assert holdings(store) == (*FILLED[:-1], [])
    store.sessions.create(Session("t", 1, "", 1, 10, NOW_MS), ["b"])
    assert store.sessions.page_ids("t", 0) == ["b"]
    store.close()


OPEN = """
import sys
from pathlib import Path
from mixdown.store.sqlite import open_store
sys.stdin.read(1)
store = open_store(Path(sys.argv[1]), role=sys.argv[2], create=True)
print(store.log.head(), store.state.watermark(), store.catalog.projects())
store.close()
"""


def test_processes_that_open_a_new_folder_at_once_do_not_meet(tmp_path: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(tmp_path / "data"), role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for role in ("cli", "worker", "worker", "fold")
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("x")
        child.stdin.flush()
    answers = [child.communicate(timeout=120) for child in children]
    assert answers == [("0 0 []\n", "")] * 4


def test_a_store_of_readers_refuses_to_fold(folder: Path) -> None:
    store = open_store(folder, role="worker", create=False)
    with pytest.raises(StoreError, match="reading alone"):
        write(store.state, [(user("a"), b"{}")])
    with pytest.raises(StoreError, match="reading alone"):
        store.state.checkpoint()
    store.close()


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MixdownError) as error:
        open_store(tmp_path / "none", role="cli", create=False)
    assert str(error.value).count("\n") == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from mixdown.store.protocols import FoldResult
from mixdown.store.sqlite import open_store
store = open_store(Path(sys.argv[1]), role="fold", create=False)
store.state.write(FoldResult(1, [((1, "", "a"), b'{"n":1}')], [(b"1" * 16, 1000, None)], 1000))
store.state.before_commit = lambda: os.kill(os.getpid(), signal.SIGKILL)
profiles = [((1, "", "a"), None), ((1, "Co", "b"), b"{}")]
store.state.write(FoldResult(2, profiles, [(b"2" * 16, 1000, None)], 1000))
"""


def test_a_fold_that_is_killed_before_its_commit_leaves_nothing_of_it(folder: Path) -> None:
    filler = open_store(folder, role="worker", create=False)
    append(filler.log, appending("a", "b"))
    filler.close()
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    store = open_store(folder, role="fold", create=False)
    assert store.state.watermark() == 1
    assert store.state.documents([user("a"), (1, "Co", "b")]) == [b'{"n":1}', None]
    assert set(store.state.known_keys([b"1" * 16, b"2" * 16], since_ms=0)) == {b"1" * 16}
    assert store.state.group_keys(1) == {}
    write(store.state, [(user("a"), None)], watermark=2)
    assert store.state.watermark() == 2
    store.close()


@pytest.mark.parametrize("name", LASTING)
def test_a_file_that_was_emptied_is_refused_and_not_made_anew(tmp_path: Path, name: str) -> None:
    fill(tmp_path)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(CorruptStoreError, match=f"{name} is empty") as error:
        open_store(tmp_path, role="worker", create=True)
    assert "doctor --repair" in error.value.hint
    assert (tmp_path / name).stat().st_size == 0


@pytest.mark.parametrize("name", LASTING)
def test_a_wal_that_was_lost_is_refused(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "data")
    store = open_store(tmp_path / "data", role="worker", create=False)
    append(store.log, appending("c"))
    killed = tmp_path / "killed"
    shutil.copytree(tmp_path / "data", killed)  # as `kill -9` leaves it
    store.close()
    shutil.copytree(killed, tmp_path / "whole")
    open_store(tmp_path / "whole", role="worker", create=False).close()
    (killed / f"{name}-wal").unlink()
    with pytest.raises(CorruptStoreError, match=f"{name}-wal is missing") as error:
        open_store(killed, role="worker", create=False)
    assert "Put it back" in error.value.hint


def test_a_folder_that_was_closed_in_order_has_no_lost_wal(tmp_path: Path) -> None:
    """SQLite takes the -shm away before the -wal; a kill in between leaves nothing that is refused."""
    fill(tmp_path)
    assert not list(tmp_path.glob("*-shm"))
    for name in LASTING:
        (tmp_path / f"{name}-wal").touch()
    store = open_store(tmp_path, role="worker", create=False)
    assert holdings(store) == FILLED
    store.close()


@pytest.mark.parametrize("name", LASTING)
def test_a_file_that_cannot_be_opened_is_refused_with_what_to_do(folder: Path, name: str) -> None:
    for file in folder.glob(f"{name}*"):
        file.unlink()
    (folder / name).mkdir()
    with pytest.raises(StoreError, match=f"{name} cannot be opened") as error:
        open_store(folder, role="worker", create=True)
    assert "must belong to this user" in error.value.hint


def test_a_file_that_another_program_holds_is_refused_with_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_MS", 1)
    other = apsw.Connection(str(folder / "catalog.db"))
    other.execute("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; PRAGMA user_version = 0").fetchall()
    with pytest.raises(StoreError, match=r"catalog\.db is held by another program") as error:
        open_store(folder, role="worker", create=True)
    assert error.value.hint
    other.close()
