"""A reply comes after the fsync of its own chunk, as a noting file system shows (DESIGN G1)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
import pytest

from mixdown.ingest import commit
from mixdown.ingest.pipeline import Ingest
from mixdown.ingest.prepare import Submission
from mixdown.settings import Settings
from mixdown.store.catalog_cache import CatalogCache
from mixdown.store.sqlite import connection as sqlite_connection
from mixdown.store.sqlite.store import open_store
from tests.engine import of_a_folder

pytestmark = of_a_folder("its files note what is done to them")

Note = tuple[str, bytes]
BASE = "unix"


class NotingFile(apsw.VFSFile):
    """A file that notes writes and syncs of the log's WAL."""

    def __init__(self, notes: list[Note], lock: threading.Lock, *arguments: Any) -> None:
        self.notes = notes
        self.lock = lock
        super().__init__(*arguments)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        """Write, and note the bytes."""
        super().xWrite(data, offset)
        with self.lock:
            self.notes.append(("write", bytes(data)))

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        """Sync, and note that it is done."""
        super().xSync(flags)
        with self.lock:
            self.notes.append(("sync", b""))


class NotingVfs(apsw.VFS):
    """The default file system, but for the log's WAL, which is a `NotingFile`."""

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.lock = threading.Lock()
        super().__init__("noting", BASE, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        """Open a file; notes only what happens to `log.db-wal`."""
        text = name if isinstance(name, str) or name is None else name.filename()
        if text is not None and text.endswith("log.db-wal"):
            return NotingFile(self.notes, self.lock, BASE, name, flags)
        return apsw.VFSFile(BASE, name, flags)

    def note(self, sort: str, data: bytes) -> None:
        """Note something that the test itself saw."""
        with self.lock:
            self.notes.append((sort, data))


@pytest.fixture
def noting() -> Iterator[NotingVfs]:
    """Every database that opens meanwhile goes through a `NotingVfs`."""
    vfs = NotingVfs()
    yield vfs
    vfs.unregister()


def record(endpoint: str, marker: str) -> tuple[str, dict[str, Any]]:
    """An update or an event that carries a marker, twice: one of them may lie across two pages of the WAL."""
    if endpoint == "track":
        return endpoint, {"event": "E", "properties": {"token": "TOK", "distinct_id": marker, "a": marker}}
    return endpoint, {"$token": "TOK", "$distinct_id": marker, "$set": {"a": marker}}


def replies_before_their_sync(
    vfs: NotingVfs, folder: Path, requests: int = 120, endpoint: str = "engage"
) -> list[bytes]:
    """Send many small requests at once; the markers of those answered before their chunk was synced."""
    store = open_store(folder, role="worker", create=True)
    store.catalog.create_project("p", token="TOK", secret_hash=b"s" * 32, id_merge="simplified", now_ms=0)
    executor = ThreadPoolExecutor(1)
    settings = Settings(disk_reserve_bytes=0, disk_reserve_percent=0)
    ingest = Ingest.open(settings, store, CatalogCache(store.catalog), executor=executor)

    async def send(number: int) -> None:
        marker = f"marker-{number:04}-"
        path, raw = record(endpoint, marker)
        await asyncio.sleep(number / 10_000)
        outcome = await ingest.submit(Submission(path, [raw], ip_flag=False))
        assert outcome.good == 1
        vfs.note("reply", marker.encode())

    async def send_all() -> None:
        await asyncio.gather(*[send(number) for number in range(requests)])

    asyncio.run(send_all())
    ingest.close()
    executor.shutdown()
    store.close()
    return _early(vfs.notes)


def _early(notes: list[Note]) -> list[bytes]:
    early = []
    for at, (sort, marker) in enumerate(notes):
        if sort != "reply":
            continue
        written = [n for n in range(at) if notes[n][0] == "write" and marker in notes[n][1]]
        if not written or not any(notes[n][0] == "sync" for n in range(written[0] + 1, at)):
            early.append(marker)
    assert sum(sort == "reply" for sort, _ in notes) > 0
    return early


@pytest.mark.parametrize("endpoint", ["engage", "track"])
def test_each_reply_comes_after_the_fsync_of_its_own_chunk(
    noting: NotingVfs, tmp_path: Path, endpoint: str
) -> None:
    assert replies_before_their_sync(noting, tmp_path / "data", endpoint=endpoint) == []


def test_mutant_without_the_fsync_is_noticed(
    noting: NotingVfs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = sqlite_connection.LOG
    lazy = type(kind)(kind.name, "NORMAL", kind.page_size_bytes, kind.cache_bytes)
    for module in ("log", "turns", "store", "refusals"):
        target = f"mixdown.store.sqlite.{module}.LOG"
        monkeypatch.setattr(target, lazy, raising=False)
    monkeypatch.setattr(sqlite_connection, "LOG", lazy)
    assert len(replies_before_their_sync(noting, tmp_path / "data")) > 60


@pytest.mark.parametrize("endpoint", ["engage", "track"])
def test_mutant_that_replies_before_the_commit_is_noticed(
    noting: NotingVfs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    committed: Any = commit.Committer._commit

    def reply_first(self: Any, batch: Any) -> None:
        commit._settle(batch, None)
        threading.Event().wait(0.05)  # so long a busy machine may take to run the event loop
        committed(self, batch)

    monkeypatch.setattr(commit.Committer, "_commit", reply_first)
    assert len(replies_before_their_sync(noting, tmp_path / "data", endpoint=endpoint)) > 60
