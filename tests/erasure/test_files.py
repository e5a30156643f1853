"""The parts of an erasure on the files themselves: each leaves nothing, and is missed when it is left out."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from mixdown.fold import erasure
from mixdown.fold.erasure import Eraser, erase_all
from mixdown.fold.loop import catch_up
from mixdown.store.privacy import PENDING, STARTED, SUCCESS, Deletion, begin
from mixdown.store.sqlite import SqliteStore
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite.folder import make_file
from mixdown.store.sqlite.log import SqliteLog
from mixdown.store.sqlite.rebuild import integrity_faults
from mixdown.store.sqlite.refusals import SqliteRefusals
from mixdown.store.sqlite.sessions import SqliteSessions
from mixdown.store.sqlite.state import SqliteState
from mixdown.store.sqlite.sweeping import sweep, unused
from tests.engine import of_a_folder
from tests.erasure.folders import PEOPLE, ask, fill, markers, now_ms, opened, person, steps, stir, updates
from tests.erasure.raw import found

pytestmark = of_a_folder("its files are read, and its parts taken out")

GONE = [0, *range(3, PEOPLE, 7)]
FIRST_RELEASE = Path(__file__).parents[1] / "data" / "folders" / "0.1.0"
DATABASES = ("log.db", "state.db", "catalog.db", "scratch.db")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("erasure") / "data"
    fill(folder)
    return folder


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled, tmp_path / "data"))


@pytest.fixture
def store(folder: Path) -> Iterator[SqliteStore]:
    made = opened(folder)
    yield made
    made.close()


def left(folder: Path, numbers: list[int] = GONE) -> dict[str, set[str]]:
    return found(folder, {marker for number in numbers for marker in markers(number)})


def test_everything_of_them_goes_and_positions_keys_and_neighbours_stay(
    store: SqliteStore, folder: Path
) -> None:
    stir(store)
    before = updates(store)
    documents = dict(store.state.page(1, "", offset=0, limit=1000))
    assert {f"{name}:{table}" for name, table in _TABLES} <= left(folder).keys()
    job = ask(store, GONE)
    erase_all_folded(store)
    after = updates(store)
    gone = set(map(person, GONE))
    assert [entry for entry in after if entry[1]] == [entry for entry in before if entry[2] not in gone]
    assert [(entry[0], entry[3]) for entry in after][: len(before)] == [
        (entry[0], entry[3]) for entry in before
    ]
    assert len(after) == len(before) + len(job.ids)
    assert len(GONE) < len(job.ids) < 3 * len(GONE), "their devices and aliases go too"
    assert dict(store.state.page(1, "", offset=0, limit=1000)) == {
        profile_id: document for profile_id, document in documents.items() if profile_id not in gone
    }
    done = store.privacy.deletion(1, job.id)
    assert done is not None
    assert (done.status, done.ids, done.count) == (SUCCESS, (), len(GONE))
    assert left(folder) == {}
    assert [integrity_faults(folder / name, whole=True) for name in DATABASES] == [[], [], [], []]
    assert [(folder / f"{name}-wal").stat().st_size for name in ("log.db", "state.db", "scratch.db")] == [
        0
    ] * 3
    held = apsw.Connection(str(folder / "log.db")).execute("SELECT sum(length(body)) FROM chunks").get
    assert store.log.size_bytes() == held


_TABLES = (
    ("log.db", "chunks"),
    ("log.db", "refusals"),
    ("state.db", "profiles"),
    ("state.db", "keys"),
    ("state.db", "history_blocks"),
    ("state.db", "property_values"),
    ("state.db", "property_counts"),
    ("state.db", "identities"),
    ("state.db", "identity_links"),
    ("scratch.db", "id_blocks"),
    ("catalog.db", "cohort_ids"),
)


def erase_all_folded(store: SqliteStore) -> None:
    catch_up(store)
    erase_all(store)


MUTANTS: dict[str, tuple[object, str, Callable[..., object]]] = {
    "chunks are not rewritten": (erasure, "tombstoned", lambda *_: None),
    "the log is not swept": (SqliteLog, "sweep", lambda _: iter(())),
    "the state is not swept": (SqliteState, "sweep", lambda _: iter(())),
    "sessions are not swept": (SqliteSessions, "sweep", lambda _: iter(())),
    "sessions are not rewritten": (SqliteSessions, "forget", lambda *_, **__: iter(())),
    "refusals stay": (SqliteRefusals, "remove", lambda *_: 0),
    "history stays": (SqliteState, "forget_history", lambda *_, **__: 0),
    "outcomes of keys stay": (SqliteState, "redact_keys", lambda *_: None),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_part_that_is_left_out_is_found(
    mutant: str, store: SqliteStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stir(store)
    monkeypatch.setattr(*MUTANTS[mutant])
    ask(store, GONE)
    erase_all_folded(store)
    assert left(folder) != {}


def test_an_erasure_that_dies_after_any_piece_is_finished_by_the_next_process(
    filled: Path, tmp_path: Path
) -> None:
    whole = opened(Path(shutil.copytree(filled, tmp_path / "whole")))
    ask(whole, GONE)
    pieces = max(steps(whole))
    documents = dict(whole.state.page(1, "", offset=0, limit=1000))
    log = updates(whole)
    whole.close()
    assert pieces > 10
    for dies_after in sorted({*range(0, pieces, max(1, pieces // 5)), pieces}):
        folder = Path(shutil.copytree(filled, tmp_path / f"dies-{dies_after}"))
        store = opened(folder)
        job = ask(store, GONE)
        pieces_done = steps(store)
        for _ in range(dies_after):
            next(pieces_done, None)
        _die(store)
        store = opened(folder)
        erase_all_folded(store)
        done = store.privacy.deletion(1, job.id)
        assert done is not None
        assert done.status == SUCCESS
        assert left(folder) == {}, dies_after
        assert updates(store) == log
        assert {key: bare(document) for key, document in store.state.page(1, "", offset=0, limit=1000)} == {
            key: bare(document) for key, document in documents.items()
        }
        store.close()


def bare(document: bytes) -> bytes:
    return document.partition(b'"$last_seen"')[0]


def _die(store: SqliteStore) -> None:
    """Let go of a store without finishing anything: what is committed is all there is."""
    store.close()


def test_a_state_that_lost_what_was_not_on_disk_folds_again_without_them(
    folder: Path, tmp_path: Path
) -> None:
    """A power cut takes the newest of state.db, and the log has nothing of them but tombstones by then."""
    store = opened(folder)
    ask(store, GONE)
    state_before = tmp_path / "state-before.db"
    first = next(iter(steps(store)))
    assert first
    assert store.state.durable_watermark() <= store.log.head()
    for _ in steps(store):
        if any(not project for _, project, _, _ in updates(store)):
            # some record is a tombstone now: from here on a power cut may take only what came after
            assert store.state.durable_watermark() == store.log.head()
    store.state.checkpoint()
    shutil.copyfile(folder / "state.db", state_before)
    with_state = apsw.Connection(str(state_before), flags=apsw.SQLITE_OPEN_READONLY)
    ids = {row[0] for row in with_state.execute("SELECT id FROM profiles")}
    with_state.close()
    assert not ids.intersection(map(person, GONE))
    store.close()


def test_what_comes_after_the_erasure_stays_even_in_the_same_round(store: SqliteStore, folder: Path) -> None:
    from mixdown.ingest.direct import append_raw
    from mixdown.ingest.pipeline import rules_of
    from mixdown.settings import Settings

    first = ask(store, [5])
    again = {"$token": "erasure-token", "$distinct_id": person(5), "$set": {"again": "new-one"}}
    append_raw(store, rules_of(Settings()), "engage", [again], sdk="t")
    second = ask(store, [6])
    erase_all_folded(store)
    for job in (first, second):
        done = store.privacy.deletion(1, job.id)
        assert done is not None
        assert done.status == SUCCESS
    (document,) = store.state.documents([(1, "", person(5))])
    assert document is not None
    assert b"new-one" in document
    assert store.state.documents([(1, "", person(6))]) == [None]
    assert left(folder, [6]) == {}
    assert found(folder, {"per-0005-value", "per-0005-property"}) == {}


def test_a_session_that_is_being_made_is_waited_for(store: SqliteStore) -> None:
    from mixdown.store.protocols import Session

    eraser = Eraser(store)
    making = iter(map(person, range(PEOPLE)))
    seen: list[bool] = []

    def slowly() -> Iterator[str]:
        yield next(making)
        ask(store, [1])
        catch_up(store)
        for _ in range(3):
            eraser.go_on(busy=False)
            eraser._due = 0.0
        (job,) = store.privacy.unfinished()
        seen.append(job.status == STARTED)
        yield from making

    store.sessions.create(Session("t" * 32, 1, "", 0, PEOPLE, now_ms()), slowly())
    assert seen == [True]
    erase_all(store)
    assert store.sessions.page_ids("t" * 32, 0) == [person(number) for number in range(PEOPLE) if number != 1]


def test_a_reader_that_holds_a_snapshot_delays_success_and_nothing_else(
    store: SqliteStore, folder: Path
) -> None:
    reader = apsw.Connection(str(folder / "log.db"), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN").fetchall()
    reader.execute("SELECT count(*) FROM chunks").fetchall()
    job = ask(store, [2])
    catch_up(store)
    eraser = Eraser(store)
    for _ in range(6):
        eraser.go_on(busy=False)
        eraser._due = 0.0
    waiting = store.privacy.deletion(1, job.id)
    assert waiting is not None
    assert waiting.status == STARTED
    assert store.state.documents([(1, "", person(2))]) == [None]
    reader.execute("COMMIT").fetchall()
    reader.close()
    erase_all(store)
    assert left(folder, [2]) == {}


def test_a_damaged_chunk_and_files_set_aside_are_named_in_the_report(
    store: SqliteStore, folder: Path
) -> None:
    import orjson

    other = apsw.Connection(str(folder / "log.db"))
    first = other.execute("SELECT first FROM chunks ORDER BY first LIMIT 1").get
    other.execute("UPDATE chunks SET checksum = checksum + 1 WHERE first = ?", (first,)).fetchall()
    other.close()
    (folder / "state.db.damaged-1").write_bytes(b"old")
    store.log.read(0, max_records=10, max_bytes=10)
    job = ask(store, [2])
    erase_all_folded(store)
    done = store.privacy.deletion(1, job.id)
    assert done is not None
    report = orjson.loads(done.report)
    assert [each["first"] for each in report["damaged_chunks"]] == [first]
    assert report["files"] == ["state.db.damaged-1"]


def test_a_file_from_before_secure_delete_is_compacted_once(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    old = apsw.Connection(str(path))
    old.execute("PRAGMA journal_mode = WAL; CREATE TABLE t (a)").fetchall()
    with old:
        old.executemany("INSERT INTO t VALUES (?)", [(f"old-{n}-marker" * 300,) for n in range(300)])
    old.execute("DELETE FROM t WHERE rowid % 3").fetchall()
    assert b"old-1-marker" in path.read_bytes() + path.with_name("old.db-wal").read_bytes()
    assert all(sweep(path, sqlite.STATE))
    raw = path.read_bytes()
    assert b"old-1-marker" not in raw
    assert b"old-2-marker" in raw
    assert old.pragma("application_id") == sqlite.SWEPT_MARK
    old.close()


def test_sweeping_writes_no_byte_that_is_in_use() -> None:
    page = bytearray(512)
    page[0] = 13
    page[3:5] = (2).to_bytes(2, "big")
    page[5:7] = (400).to_bytes(2, "big")
    page[1:3] = (420).to_bytes(2, "big")
    page[422:424] = (30).to_bytes(2, "big")
    assert unused(bytes(page), 0, 512) == [(12, 400), (424, 450)]
    for broken in ((5, 7, 600), (5, 7, 9), (1, 3, 399), (1, 3, 511)):
        begin, end, number = broken
        other = bytearray(page)
        other[begin:end] = number.to_bytes(2, "big")
        assert unused(bytes(other), 0, 512) == []
    assert unused(bytes(512), 0, 512) == []


def test_the_writer_does_not_write_back_what_was_swept(tmp_path: Path) -> None:
    import random

    path = tmp_path / "busy.db"
    make_file(path)
    writer = sqlite.connect(path, sqlite.STATE)
    writer.execute(f"PRAGMA application_id = {sqlite.SWEPT_MARK}").fetchall()
    writer.execute("CREATE TABLE p (id TEXT PRIMARY KEY, document TEXT)").fetchall()
    chance = random.Random(3)
    for _ in range(20):
        numbers = [chance.randrange(1200) for _ in range(200)]
        rows = [
            (f"key-{number:05d}", f"val-{number:05d} " * chance.choice((20, 50, 60, 90)))
            for number in numbers
        ]
        with writer:
            writer.executemany("INSERT OR REPLACE INTO p VALUES (?, ?)", rows)
    gone = list(range(0, 1500, 2))
    with writer:
        writer.executemany("DELETE FROM p WHERE id = ?", [(f"key-{number:05d}",) for number in gone])
    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def left_of_them() -> list[bytes]:
        raw = path.read_bytes() + path.with_name("busy.db-wal").read_bytes()
        return [each for each in re.findall(rb"(?:key|val)-(\d{5})", raw) if not int(each) % 2]

    assert left_of_them(), "SQLite left nothing: then sweeping is not needed any more"
    assert all(sweep(path, sqlite.STATE))
    assert not left_of_them()
    with writer:
        writer.execute("UPDATE p SET document = document || 'x'").fetchall()
    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert not left_of_them()
    assert writer.execute("PRAGMA integrity_check").get == "ok"
    writer.close()


def test_a_folder_of_the_first_release_is_rid_of_what_it_deleted_before(tmp_path: Path) -> None:
    """Its files were written without `secure_delete`: old versions of rows lie in them."""
    folder = Path(shutil.copytree(FIRST_RELEASE, tmp_path / "data"))
    (folder / "expected.json").unlink()
    store = opened(folder)
    catch_up(store)
    documents = dict(store.state.page(1, "", offset=0, limit=1000))
    assert "u007" in documents
    job = Deletion("j" * 32, 1, "", ("ann", "u007"), 2, PENDING, "tests", "GDPR", now_ms())
    store.privacy.add_deletion(job)
    assert begin(store, job, now_ms=now_ms())
    erase_all_folded(store)
    assert found(folder, ['"ann"', "u007"]) == {}
    assert dict(store.state.page(1, "", offset=0, limit=1000)) == {
        profile_id: document
        for profile_id, document in documents.items()
        if profile_id not in {"ann", "u007"}
    }
    assert [integrity_faults(folder / name, whole=True) for name in DATABASES] == [[], [], [], []]
    store.close()


def test_a_block_of_history_that_cannot_be_read_goes_and_does_not_hold_up_the_erasure(
    store: SqliteStore, folder: Path
) -> None:
    with apsw.Connection(str(folder / "state.db")) as connection:
        connection.execute("UPDATE history_blocks SET data = x'00112233'")
    connection.close()
    job = ask(store, GONE[:1])
    catch_up(store)
    erase_all(store)
    done = store.privacy.deletion(job.project, job.id)
    assert done is not None
    assert done.status == SUCCESS
