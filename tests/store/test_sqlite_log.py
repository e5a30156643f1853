"""The log on disk: damage, other processes, the sync before the reply."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from mixdown.model.errors import SchemaTooNewError
from mixdown.store.chunk import FOR_PROFILES, Chunk, checksum, decode_body, join_segments, pack_body
from mixdown.store.protocols import Append, Log
from mixdown.store.sqlite import SqliteStore, open_store
from tests.store.support import NOW_MS, append, appending, appending_events, read_all, segment
from tests.store.test_sqlite_files import run_sql


def large(profile_id: str) -> Append:
    """An append whose chunk fills pages of its own, with bytes that are found again in the file."""
    noise = random.Random(profile_id).randbytes(100_000).hex()
    return Append(segment(profile_id, noise), 2, b"")


def firsts(chunks: list[Chunk]) -> list[int]:
    return [chunk.first for chunk in chunks]


def read(log: Log, watermark: int = 0) -> list[int]:
    return firsts(log.read(watermark, max_records=1000, max_bytes=10**9))


def flip(path: Path, near: bytes) -> None:
    """Change one byte of the file, in the middle of the bytes `near`."""
    content = bytearray(path.read_bytes())
    at = content.find(near)
    assert at > 0
    content[at + len(near) // 2] ^= 0x01
    path.write_bytes(content)


def middle_of(append_: Append) -> bytes:
    """Bytes from the middle of its chunk's body, as it is stored."""
    _, stored = pack_body(join_segments([append_.segment]))
    return stored[len(stored) // 2 :][:40]


def test_a_chunk_with_a_flipped_byte_is_set_aside_and_its_neighbours_are_read(folder: Path) -> None:
    store = open_store(folder, role="worker", create=False)
    for profile_id in "abcd":
        append(store.log, large(profile_id))
    store.close()
    flip(folder / "log.db", middle_of(large("b")))
    store = open_store(folder, role="worker", create=False)
    assert read(store.log) == [0, 4, 6]
    assert store.log.damaged() == [(2, 2, "its checksum does not match")]
    assert read(store.log, 2) == [4, 6]
    assert store.log.skip_damaged(2) == 4
    assert store.log.head() == 8
    store.close()
    store = open_store(folder, role="fold", create=False)
    assert store.log.damaged() == [(2, 2, "its checksum does not match")], "told after a restart too"
    store.close()


def test_when_only_damaged_chunks_wait_the_reader_can_go_on(folder: Path) -> None:
    store = open_store(folder, role="worker", create=False)
    append(store.log, large("a"))
    append(store.log, large("b"))
    store.close()
    flip(folder / "log.db", middle_of(large("a")))
    flip(folder / "log.db", middle_of(large("b")))
    store = open_store(folder, role="fold", create=False)
    assert read(store.log) == []
    assert store.log.skip_damaged(0) == 4
    append(store.log, appending("c"))
    assert read_all(store.log, 4) == ["c"]
    store.close()


def test_a_chunk_whose_pages_are_broken_costs_no_other_chunk(folder: Path) -> None:
    store = open_store(folder, role="worker", create=False)
    for profile_id in "abcd":
        append(store.log, large(profile_id))
    store.close()
    content = bytearray((folder / "log.db").read_bytes())
    # a page of an overflow chain begins with the number of the next: send it out of the file
    page = content.find(middle_of(large("b"))) // 4096 * 4096
    content[page : page + 4] = b"\x7f\xff\xff\xff"
    (folder / "log.db").write_bytes(content)
    store = open_store(folder, role="worker", create=False)
    assert read(store.log) == [0, 4, 6]
    [(first, count, reason)] = store.log.damaged()
    assert (first, count) == (2, 2)
    assert "pages are damaged" in reason
    store.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE chunks SET count = count + 1",
        "UPDATE chunks SET time_ms = time_ms - 1",
        "UPDATE chunks SET version = 0",
        "UPDATE chunks SET filter = x'00000000'",
        "UPDATE chunks SET body = x''",
        "UPDATE chunks SET for_events = 1",
    ],
)
def test_damage_anywhere_in_a_row_is_noticed(folder: Path, opened: SqliteStore, change: str) -> None:
    append(opened.log, appending("a", "b"))
    run_sql(folder / "log.db", change)
    assert read(opened.log) == []
    assert len(opened.log.damaged()) == 1


def test_a_chunk_of_a_newer_format_stops_the_reader_rather_than_being_lost(
    folder: Path, opened: SqliteStore
) -> None:
    append(opened.log, appending("a"))
    [chunk] = opened.log.read(0, max_records=1, max_bytes=1)
    connection = apsw.Connection(str(folder / "log.db"))
    id_filter = connection.execute("SELECT filter FROM chunks").get
    seal = checksum(chunk.first, chunk.count, chunk.time_ms, 9, id_filter, chunk.body)
    connection.execute("UPDATE chunks SET version = 9, checksum = ?", (seal,)).fetchall()
    connection.close()
    with pytest.raises(SchemaTooNewError, match="position 0 has format 9"):
        read(opened.log)
    assert opened.log.damaged() == []


def test_notes_of_damage_are_bounded(opened: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixdown.store.reading.DAMAGED_KEPT", 3)
    for number in range(5):
        opened.log.set_aside(Chunk(number, 1, NOW_MS, b""), "why")
    assert [first for first, _, _ in opened.log.damaged()] == [2, 3, 4]


def test_stepping_over_chunks_loads_none_of_their_pages(folder: Path, opened: SqliteStore) -> None:
    noise = random.Random(3).randbytes(500_000).hex()
    for _ in range(20):
        append(opened.log, appending_events("a", noise))
    append(opened.log, appending("p"))
    opened.close()
    store = open_store(folder, role="fold", create=False)
    *_, last = store.log.read(0, max_records=10, max_bytes=100, kinds=FOR_PROFILES)
    connection = store.log._file.reader()
    missed = connection.cache_stats(include_entries=False)["misses"]
    store.close()
    assert (last.first, bool(last.body)) == (40, True)
    assert (folder / "log.db").stat().st_size > 2_000 * 4096
    assert missed < 100


def test_a_run_that_is_stepped_over_is_bounded(opened: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixdown.store.reading.SKIPPED_AT_ONCE", 3)
    for _ in range(4):
        append(opened.log, appending_events("a"))
    [run] = opened.log.read(0, max_records=10, max_bytes=100, kinds=FOR_PROFILES)
    assert (run.first, run.end, run.body) == (0, 3, b"")


APPENDS = """
import sys
from pathlib import Path
from mixdown.store.sqlite import open_store
from tests.store.support import append, appending
store = open_store(Path(sys.argv[1]), role="worker", create=False)
sys.stdin.read(1)
for number in range(int(sys.argv[3])):
    appended = append(store.log, appending(f"{sys.argv[2]}{number}", f"{sys.argv[2]}{number}'"))
    print(appended.first, appended.end)
store.close()
"""


def test_processes_append_in_turns(folder: Path, opened: SqliteStore) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", APPENDS, str(folder), name, "60"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "xy"
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("x")
        child.stdin.flush()
    told = [child.communicate(timeout=150)[0].split("\n")[:-1] for child in children]
    spans = sorted(tuple(map(int, line.split())) for lines in told for line in lines)
    assert spans == [(number, number + 2) for number in range(0, 240, 2)], "no position twice, none left out"
    ids = read_all(opened.log)
    assert len(ids) == opened.log.head() == 240
    for name in "xy":
        own = [found for found in ids if found[0] == name]
        assert own == [f"{name}{number}{mark}" for number in range(60) for mark in ("", "'")]


def test_a_reader_sees_a_chunk_as_soon_as_its_turn_ended(folder: Path, opened: SqliteStore) -> None:
    other = open_store(folder, role="worker", create=False)
    for number in range(20):
        append(opened.log, appending(str(number)))
        assert other.log.head() == number + 1
        assert read_all(other.log, number) == [str(number)]
    other.close()


def test_the_folds_reading_keeps_the_wal_short(
    folder: Path, opened: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixdown.store.sqlite.log._CHECKPOINT_AFTER_BYTES", 500_000)
    watermark = 0
    for number in range(100):
        append(opened.log, large(str(number)))
        watermark += len(opened.log.read(watermark, max_records=2, max_bytes=1)) * 2
        if opened.log._checkpoint_under_way is not None:
            opened.log._checkpoint_under_way.result(10)
    assert watermark == 200
    assert (folder / "log.db-wal").stat().st_size < 2_000_000
    assert (folder / "log.db").stat().st_size > 2_500_000


class NotingFile(apsw.VFSFile):
    """A file of SQLite's that notes each sync, once it is done."""

    def __init__(
        self, notes: list[str], base: str, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        self.notes = notes
        super().__init__(base, name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        """Sync, then note it."""
        super().xSync(flags)
        self.notes.append("sync")


class NotingVFS(apsw.VFS):
    """SQLite's usual way to files, with notes of the syncs of `log.db`'s WAL."""

    def __init__(self) -> None:
        self.base = apsw.vfs_names()[0]
        self.notes: list[str] = []
        super().__init__("noting", self.base, makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        """Open a file, noting where it is the log's WAL."""
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is not None and path.endswith("log.db-wal"):
            return NotingFile(self.notes, self.base, name, flags)
        return apsw.VFSFile(self.base, name, flags)


@pytest.fixture
def noting() -> Iterator[NotingVFS]:
    """Files opened meanwhile go through a `NotingVFS`."""
    vfs = NotingVFS()
    yield vfs
    vfs.unregister()


def appends_after_their_sync(folder: Path, vfs: NotingVFS) -> int:
    """Append 30 chunks; how many of the appends returned only after a sync of the WAL."""
    store = open_store(folder, role="worker", create=False)
    synced = 0
    try:
        with store.log.turn() as turn:
            for number in range(30):
                vfs.notes.clear()
                turn.append([appending(str(number))], NOW_MS)
                synced += vfs.notes.count("sync") >= 1
        assert read_all(store.log) == [str(number) for number in range(30)]
    finally:
        store.close()
    return synced


def test_an_append_returns_only_after_the_sync_of_its_own_chunk(noting: NotingVFS, folder: Path) -> None:
    assert appends_after_their_sync(folder, noting) == 30


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_mutant_that_does_not_sync_is_noticed(
    noting: NotingVFS, folder: Path, monkeypatch: pytest.MonkeyPatch, synchronous: str
) -> None:
    from mixdown.store.sqlite import connection

    kind = connection.LOG
    lazy = connection.Kind(kind.name, synchronous, kind.page_size_bytes, kind.cache_bytes)
    monkeypatch.setattr(connection, "LOG", lazy)
    assert appends_after_their_sync(folder, noting) <= 1, "only the header of a new WAL may be synced"


def test_what_is_in_a_chunk_is_what_was_appended(opened: SqliteStore) -> None:
    append(opened.log, appending("a"), appending("b", "c"))
    [chunk] = opened.log.read(0, max_records=10, max_bytes=10**6)
    assert [[update.id for update in part.updates] for part in decode_body(chunk.body)] == [["a"], ["b", "c"]]


@pytest.mark.parametrize("good_after", [False, True])
def test_more_damaged_chunks_in_a_row_than_are_noted_do_not_hold_a_reader(
    folder: Path, opened: SqliteStore, monkeypatch: pytest.MonkeyPatch, good_after: bool
) -> None:
    monkeypatch.setattr("mixdown.store.reading.DAMAGED_KEPT", 5)
    for number in range(23):
        append(opened.log, appending(f"{number}", f"{number}'"))
    run_sql(folder / "log.db", "UPDATE chunks SET checksum = checksum + 1")
    if good_after:
        append(opened.log, appending("good"))
    position, steps, ids = 0, 0, []
    while position < opened.log.head():
        chunks = opened.log.read(position, max_records=1000, max_bytes=10**9)
        position = chunks[-1].end if chunks else opened.log.skip_damaged(position)
        ids += [chunk.first for chunk in chunks]
        steps += 1
        assert steps < 10, "the reader is held"
    assert ids == ([46] if good_after else [])
    assert position == opened.log.head() == (47 if good_after else 46)
    assert len(opened.log.damaged()) == 5, "the notes stay bounded"


def test_a_damaged_count_leads_no_reader_astray(folder: Path, opened: SqliteStore) -> None:
    append(opened.log, appending("a", "b"))
    append(opened.log, appending("c"))
    append(opened.log, appending("d", "e"))
    run_sql(folder / "log.db", "UPDATE chunks SET count = 4611686018427387904 WHERE first IN (0, 3)")
    assert read(opened.log) == [2]
    assert read(opened.log, 3) == []
    assert opened.log.skip_damaged(3) == opened.log.head() == 5
    assert [(first, count) for first, count, _ in opened.log.damaged()] == [(0, 2), (3, 2)]


def test_damage_is_reported_once(folder: Path, opened: SqliteStore) -> None:
    told: list[tuple[int, int, str]] = []
    opened.log.on_damage = told.extend
    append(opened.log, appending("a"))
    append(opened.log, appending("b"))
    run_sql(folder / "log.db", "UPDATE chunks SET checksum = 0 WHERE first = 1")
    for _ in range(3):
        assert read(opened.log) == [0]
    assert told == [(1, 1, "its checksum does not match")]


def test_a_reader_that_has_caught_up_does_not_walk_through_the_log(folder: Path) -> None:
    store = open_store(folder, role="worker", create=False)
    steps: list[int] = []
    for number in range(500):
        append(store.log, Append(segment(f"p{number}"), 1, b""))
    connection = store.log._file.reader()

    def count() -> bool:
        steps.append(1)
        return False

    connection.set_progress_handler(count, 10)
    try:
        assert read(store.log, store.log.head()) == []
        assert read(store.log, 250) == list(range(250, 500))[:1000]
        looking = len(steps)
        assert read(store.log, 499) == [499]
        assert len(steps) - looking < 20
        steps.clear()
        assert read(store.log, 500) == []
        assert len(steps) < 20
    finally:
        connection.set_progress_handler(None)
        store.close()
