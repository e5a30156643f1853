"""State on disk: checkpoints, readers that stay, views for other tools, other processes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from mixdown.model.errors import CorruptStoreError, StoreError, TooMuchAtOnceError
from mixdown.store import bounds
from mixdown.store.batches import documents_in_batches
from mixdown.store.chunk import Outcome
from mixdown.store.protocols import FoldResult, ProfileKey, Session
from mixdown.store.sqlite import SqliteStore, documents, open_store, state
from mixdown.store.sqlite import connection as sqlite_connection
from mixdown.store.sqlite.checkpoints import Checkpoints
from mixdown.store.sqlite.sessions import SqliteSessions
from tests.store.support import DAY_MS, NOW_MS, WEEK_MS, append, appending, key, user, write

MIB = 1024 * 1024


def fold(store: SqliteStore, number: int, profiles: int = 300) -> None:
    """Write about 300 kB of profiles that differ each time."""
    text = b'{"n":%d,"pad":"%s"}' % (number, b"x" * 1000)
    store.state.write(FoldResult(number, [(user(f"{n:05}"), text) for n in range(profiles)], [], NOW_MS))


def eventually(holds: Callable[[], bool], within_s: float = 60.0) -> bool:
    """Whether something comes true in time."""
    until = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


@pytest.fixture(autouse=True)
def records(folder: Path) -> None:
    """A log that the watermarks of these tests stay within."""
    store = open_store(folder, role="worker", create=False)
    append(store.log, appending(*map(str, range(200))))
    store.close()


@pytest.fixture
def short_wal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints after every 250 pages (1 MB) rather than 4,000; the steps of these tests are small."""
    monkeypatch.setattr(state, "_CHECKPOINT_PAGES", 250 * state._SMALL_CHECKPOINT_SHARE)


def test_checkpoints_are_smaller_beside_small_steps(
    opened: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    paces: list[int] = []
    assert opened.state._checkpoints is not None
    monkeypatch.setattr(opened.state._checkpoints, "committed", lambda *given: paces.append(given[-1].pages))
    fold(opened, 1)
    many = [(user(f"{n:05}"), b"{}") for n in range(state._SMALL_STEP_PROFILES)]
    opened.state.write(FoldResult(2, many, [], 0))
    assert paces[0] * state._SMALL_CHECKPOINT_SHARE == paces[1] == state._CHECKPOINT_PAGES


@pytest.mark.usefixtures("short_wal")
def test_the_wal_does_not_grow_while_readers_are_busy(folder: Path, opened: SqliteStore) -> None:
    done = threading.Event()
    reads = [0, 0, 0]

    def read(place: int) -> None:
        reader = open_store(folder, role="worker", create=False)
        while not done.is_set():
            reads[place] += len(reader.state.page(1, "", offset=0, limit=300)) > 0
            reader.state.documents([user(f"{n:05}") for n in range(300)])
        reader.close()

    threads = [threading.Thread(target=read, args=(place,)) for place in range(3)]
    for thread in threads:
        thread.start()
    largest = 0
    for number in range(1, 120):
        fold(opened, number)
        largest = max(largest, (folder / "state.db-wal").stat().st_size)
    done.set()
    for thread in threads:
        thread.join()
    assert min(reads) > 10
    assert largest < 12 * MIB, "120 writes of 300 kB and more went through it"
    assert opened.state.durable_watermark() > 0


@pytest.mark.usefixtures("short_wal")
def test_a_reader_that_stays_holds_the_wal_but_not_the_writes(
    folder: Path, opened: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold(opened, 1)
    assert opened.state.checkpoint() == 1
    stayer = apsw.Connection(str(folder / "state.db"))
    rows = iter(stayer.execute("SELECT id, document FROM profiles"))
    next(rows)
    tries: list[object] = []
    assert opened.state._checkpoints is not None
    run = opened.state._checkpoints.run

    def counted(connection: apsw.Connection, *, mode: str = "PASSIVE") -> int:
        tries.append(connection)
        return run(connection, mode=mode)

    monkeypatch.setattr(opened.state._checkpoints, "run", counted)
    for number in range(2, 42):
        fold(opened, number)
    assert 0 < len(tries) < 40, "it is not tried at every write"
    assert opened.state.durable_watermark() == 1, "the watermark is not on disk while the reader stays"
    assert (folder / "state.db-wal").stat().st_size > 4 * MIB
    stayer.close()
    assert opened.state.checkpoint() == 41
    fold(opened, 42)
    fold(opened, 43)
    assert opened.state._wal_pages < 400, "the WAL was started anew"


def test_the_durable_watermark_is_that_of_the_last_complete_checkpoint(
    folder: Path, opened: SqliteStore
) -> None:
    other = open_store(folder, role="cli", create=False)
    fold(opened, 1)
    assert opened.state.durable_watermark() == 0
    assert opened.state.checkpoint() == 1
    fold(opened, 2)
    assert opened.state.watermark() == 2
    assert opened.state.durable_watermark() == 1
    assert other.state.durable_watermark() == 1, "any process can ask"
    other.close()


def test_a_durable_watermark_survives_a_restart(folder: Path) -> None:
    store = open_store(folder, role="fold", create=False)
    fold(store, 7)
    store.state.checkpoint()
    fold(store, 8)
    store.close()
    store = open_store(folder, role="fold", create=False)
    assert store.state.durable_watermark() == 7
    fold(store, 9)
    assert store.state.durable_watermark() == 7, "a write may not claim more than it knows"
    store.close()


def test_checkpoints_come_by_themselves_as_time_goes_by(
    opened: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold(opened, 1)
    monkeypatch.setattr(state, "_CHECKPOINT_EVERY_S", 0.0)
    fold(opened, 2)
    assert eventually(lambda: opened.state.durable_watermark() == 2)


class Held:
    """A checkpoint that waits until it is let go."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self._run = checkpoints.run

    def run(self, connection: apsw.Connection, *, mode: str = "PASSIVE") -> int:
        """Wait, then do what was asked."""
        self.begun.set()
        assert self.go.wait(60)
        return self._run(connection, mode=mode)


@pytest.mark.usefixtures("short_wal")
def test_a_write_does_not_wait_for_the_checkpoint_beside_it(
    opened: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = opened.state._checkpoints
    assert checkpoints is not None
    held = Held(checkpoints)
    monkeypatch.setattr(checkpoints, "run", held.run)
    number = 1
    while not held.begun.is_set():
        fold(opened, number)
        number += 1
        assert number < 100
    for more in range(number, number + 3):
        fold(opened, more)
    assert opened.state.watermark() == number + 2
    assert opened.state.durable_watermark() == 0
    held.go.set()
    assert eventually(lambda: opened.state.durable_watermark() > 0)
    opened.close()


def test_a_checkpoint_claims_no_more_than_was_committed_when_it_began(
    opened: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = opened.state._checkpoints
    assert checkpoints is not None
    fold(opened, 1)
    connection = apsw.Connection(str(opened.folder / "state.db"))
    pragma = sqlite_connection.value

    def commit_meanwhile(*arguments: Any) -> Any:
        found = pragma(*arguments)
        with monkeypatch.context() as patched:
            patched.setattr(sqlite_connection, "value", pragma)
            fold(opened, 2)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(sqlite_connection, "value", commit_meanwhile)
        checkpoints.run(connection)
    assert opened.state.watermark() == 2
    assert opened.state.durable_watermark() == 1
    connection.close()


@pytest.mark.usefixtures("short_wal")
def test_a_checkpoint_that_fails_beside_the_writes_is_tried_again(
    opened: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = opened.state._checkpoints
    assert checkpoints is not None
    run = checkpoints.run
    tries: list[object] = []

    def fail(connection: apsw.Connection, *, mode: str = "PASSIVE") -> int:
        tries.append((connection, mode))
        raise apsw.FullError("no disk left")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "run", fail)
        number = 1
        while not tries:
            fold(opened, number)
            number += 1
            assert number < 100
    monkeypatch.setattr(checkpoints, "run", run)
    for more in range(number, number + 10):
        fold(opened, more)
    assert eventually(lambda: opened.state.durable_watermark() >= number)


def test_closing_ends_the_thread_that_checkpoints(
    opened: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "_CHECKPOINT_EVERY_S", 0.0)
    fold(opened, 1)
    assert opened.state._checkpoints is not None
    thread = opened.state._checkpoints._thread
    assert thread is not None
    opened.close()
    assert not thread.is_alive()


def test_inside_a_write_documents_are_read_as_they_stand_in_it(opened: SqliteStore) -> None:
    """By the thread that writes; other threads see what was committed."""
    write(opened.state, [(user("a"), b"1"), (user("b"), b"2"), ((1, "Co", "g"), b"3")], watermark=1)
    asked = [user("a"), user("b"), user("new"), (1, "Co", "g"), (1, "No", "g")]
    seen: list[object] = []

    def changed() -> Iterator[tuple[ProfileKey, bytes | None]]:
        seen.append(opened.state.documents(asked))
        yield user("a"), b"10"
        yield user("b"), None
        yield user("new"), b"20"
        yield (1, "Co", "g"), b"30"
        yield (1, "No", "g"), b"40"
        other = threading.Thread(target=lambda: seen.append(opened.state.documents(asked)))
        other.start()
        other.join()

    opened.state.write(FoldResult(2, changed(), [], NOW_MS))
    assert seen == [[b"1", b"2", None, b"3", None]] * 2
    assert opened.state.documents(asked) == [b"10", None, b"20", b"30", b"40"]


def test_documents_that_hold_newlines_are_read_too(opened: SqliteStore) -> None:
    write(opened.state, [(user("a"), b'{"a":\n1}'), (user("b"), b"2"), (user("c"), b"")], watermark=1)
    asked = [user("b"), user("no"), user("a"), user("c"), user("a")]
    expected = [b"2", None, b'{"a":\n1}', b"", b'{"a":\n1}']
    assert opened.state.documents(asked) == expected


def test_more_than_may_be_held_is_not_read_at_once(
    opened: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = {user(name): name.encode() * 90_000 for name in "abcd"} | {(1, "Co", "g"): b"g" * 90_000}
    write(opened.state, list(large.items()), watermark=1)
    monkeypatch.setattr(documents, "FOUND_LIMIT_BYTES", 100_000)
    for asked in ([user("a"), user("b")], [user("a"), user("no"), user("a")]):
        with pytest.raises(TooMuchAtOnceError):
            opened.state.documents(asked)
    monkeypatch.setattr(documents, "FOUND_LIMIT_BYTES", 80_000)
    assert opened.state.documents([user("a")]) == [b"a" * 90_000], "one is always read"
    with pytest.raises(TooMuchAtOnceError):
        opened.state.documents([user("a"), (1, "Co", "g")])
    assert [name for name, _ in opened.state.page(1, "", offset=1, limit=3)] == ["b"]
    read = documents_in_batches(opened.state.documents, list(large), first=16, most=16, roomy_bytes=10**6)
    assert [(list(keys), found) for keys, found in read] == [([key], [large[key]]) for key in large]


def test_a_row_that_is_gone_before_it_is_replaced_is_noticed(opened: SqliteStore) -> None:
    write(opened.state, [(user("a"), b"1")], watermark=1)

    def changed() -> Iterator[tuple[ProfileKey, bytes | None]]:
        opened.state.documents([user("a")])
        apsw_writer = opened.state._writer
        assert apsw_writer is not None
        apsw_writer.execute("DELETE FROM profiles")
        yield user("a"), b"2"

    with pytest.raises(CorruptStoreError):
        opened.state.write(FoldResult(2, changed(), [], NOW_MS))
    assert opened.state.documents([user("a")]) == [b"1"]
    assert opened.state.watermark() == 1


def test_views_show_users_and_groups_to_other_tools(folder: Path, opened: SqliteStore) -> None:
    document = b'{"$name":"Ann","$last_seen":"2026-01-02T03:04:05"}'
    write(opened.state, [(user("ann"), document), ((2, "Company", "Acme"), document), (user("bob"), b"{}")])
    connection = apsw.Connection(str(folder / "state.db"), flags=apsw.SQLITE_OPEN_READONLY)
    text = document.decode()
    assert connection.execute("SELECT * FROM users ORDER BY distinct_id").fetchall() == [
        (1, "ann", text, "2026-01-02T03:04:05"),
        (1, "bob", "{}", None),
    ]
    assert connection.execute("SELECT * FROM groups").fetchall() == [
        (2, "Company", opened.state.group_keys(2)["Company"], "Acme", text, "2026-01-02T03:04:05")
    ]
    columns = [name for name, *_ in connection.execute("SELECT * FROM users LIMIT 1").get_description()]
    assert columns == ["project_id", "distinct_id", "properties", "last_seen"]
    names = connection.execute("SELECT properties ->> '$.\"$name\"' FROM users WHERE distinct_id = 'ann'").get
    assert names == "Ann"
    connection.close()


def test_an_iteration_over_ids_holds_no_snapshot(opened: SqliteStore) -> None:
    write(opened.state, [(user(f"{number:06}"), b"{}") for number in range(15_000)], watermark=1)
    ids: Iterator[str] = opened.state.ids(1, "")
    assert next(ids) == "000000"
    write(opened.state, [(user("000001"), b'{"n":1}')], watermark=2)
    assert opened.state.checkpoint() == 2
    assert len(list(ids)) == 14_999


def test_the_rows_of_dropped_keys_are_deleted_a_few_at_a_time(
    folder: Path, opened: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixdown.store.sqlite.keys._DELETED_AT_ONCE", 100)
    write(opened.state, keys=[(key(number), NOW_MS, None) for number in range(1000)])
    connection = apsw.Connection(str(folder / "state.db"))

    def rows() -> int:
        return int(connection.execute("SELECT count(*) FROM keys").get)

    later = NOW_MS + WEEK_MS + DAY_MS
    left = []
    for _ in range(11):
        write(opened.state, now_ms=later)
        left.append(rows())
        assert opened.state.known_keys([key(1)], since_ms=0) == {}
        assert opened.state.key_window() == (0, 0)
    assert left == [900, 800, 700, 600, 500, 400, 300, 200, 100, 0, 0]
    assert connection.execute("SELECT count(*) FROM key_buckets").get == 0
    connection.close()


def test_young_keys_move_into_one_bucket_and_are_known_all_the_while(
    folder: Path, opened: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "KEYS_PER_BUCKET", 4000)
    monkeypatch.setattr("mixdown.store.sqlite.keys._MOVED_AT_ONCE", 60)
    outcome = Outcome(2, 1, ((0, "$set", "no"),))
    scattered = [key(number * 7919 % 3001) for number in range(3000)]
    outcomes = {name: outcome if at % 7 == 0 else None for at, name in enumerate(scattered)}
    for at in range(0, 3000, 20):
        some = scattered[at : at + 20]
        write(opened.state, keys=[(name, NOW_MS + at, outcomes[name]) for name in some], now_ms=NOW_MS + at)
        assert opened.state.known_keys(scattered[: at + 20], since_ms=0) == {
            name: outcomes[name] for name in scattered[: at + 20]
        }
    connection = apsw.Connection(str(folder / "state.db"))
    counted = connection.execute("SELECT bucket, keys FROM key_buckets ORDER BY bucket").fetchall()
    held: list[Any] = connection.execute(
        "SELECT bucket, count(*) FROM keys GROUP BY bucket ORDER BY bucket"
    ).fetchall()
    connection.close()
    assert counted == held
    assert len(held) <= 3, "an old bucket, one that moves, a young one"
    assert max(keys for _, keys in held) > 2000
    assert opened.state.key_window() == (3000, NOW_MS)


def test_a_key_that_moves_onto_an_older_one_takes_its_place(
    opened: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "KEYS_PER_BUCKET", 80)
    first, second = Outcome(1, 1), Outcome(5, 5)
    write(opened.state, keys=[(key(number), NOW_MS, first) for number in range(10)])
    for number in range(10):
        write(opened.state, keys=[(key(number), NOW_MS + 1, second)], now_ms=NOW_MS + 1)
    write(opened.state, keys=[(key(99), NOW_MS + 2, None)], now_ms=NOW_MS + 2)
    names = [key(number) for number in range(10)]
    assert opened.state.known_keys(names, since_ms=NOW_MS + 1) == dict.fromkeys(names, second)


def test_the_bound_on_keys_is_the_designs() -> None:
    assert bounds.KEYS_HELD == 50_000_000
    assert bounds.KEYS_PER_BUCKET * 8 <= bounds.KEYS_HELD


COUNT = """
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1000000)
SELECT count(*) FROM numbers
"""


def test_closing_does_not_wait_for_nor_break_a_read_under_way(folder: Path) -> None:
    store = open_store(folder, role="worker", create=False)
    begun, answers = threading.Event(), []

    def report() -> bool:
        begun.set()
        return False

    def count_to_a_million() -> None:
        connection = store.state._readers.get()
        connection.set_progress_handler(report, 1000)
        answers.append(connection.execute(COUNT).get)

    thread = threading.Thread(target=count_to_a_million)
    thread.start()
    begun.wait()
    store.close()
    thread.join()
    assert answers == [1_000_000]


READS = """
import sys
from pathlib import Path
from mixdown.store.sqlite import open_store
store = open_store(Path(sys.argv[1]), role="worker", create=False)
for line in sys.stdin:
    print(store.state.watermark(), store.state.documents([(1, "", "a"), (1, "Co", "g")]), flush=True)
"""


def test_another_process_reads_what_the_fold_wrote_last(folder: Path, opened: SqliteStore) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", READS, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    for number in range(1, 20):
        write(
            opened.state, [(user("a"), b"%d" % number), ((1, "Co", "g"), b"-%d" % number)], watermark=number
        )
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == f"{number} [b'{number}', b'-{number}']\n"
    child.communicate(timeout=120)


def test_a_change_of_the_catalog_is_seen_by_every_process(folder: Path, opened: SqliteStore) -> None:
    other = open_store(folder, role="worker", create=False)
    before = other.catalog.version()
    assert opened.catalog.version() == before
    opened.catalog.set_fact("f", b"1")
    assert (other.catalog.version(), other.catalog.fact("f")) == (before, b"1")
    made = opened.catalog.create_project("p", token="t", secret_hash=b"", id_merge="simplified", now_ms=0)
    after = other.catalog.version()
    assert after > before
    assert opened.catalog.version() == after
    assert other.catalog.projects() == [made]
    other.catalog.delete_project(made.id)
    assert opened.catalog.version() > after
    other.close()


def test_sessions_are_shared_between_processes(folder: Path, opened: SqliteStore) -> None:
    other = open_store(folder, role="worker", create=False)
    opened.sessions.create(Session("s", 1, "", 2, 1, NOW_MS), ["a", "b"])
    assert other.sessions.page_ids("s", 1) == ["b"]
    other.close()


def test_a_scratch_file_that_is_damaged_while_open_is_made_anew_for_all(folder: Path) -> None:
    one, other = SqliteSessions(folder), SqliteSessions(folder)
    one.create(Session("s", 1, "", 1, 1, NOW_MS), ["a"])
    assert other.page_ids("s", 0) == ["a"]
    one.close()
    other.close()
    one, other = SqliteSessions(folder), SqliteSessions(folder)
    content = bytearray((folder / "scratch.db").read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    (folder / "scratch.db").write_bytes(content)
    assert one.page_ids("s", 0) == []
    one.create(Session("t", 1, "", 1, 1, NOW_MS), ["b"])
    assert other.page_ids("t", 0) == ["b"]
    one.close()
    other.close()


def test_sessions_that_were_never_finished_go_with_their_blocks(
    folder: Path, opened: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixdown.store.session_blocks.BLOCKS_AT_ONCE", 1)

    def broken() -> Iterator[str]:
        yield from map(str, range(3000))
        raise RuntimeError

    def dead(*_: object, **__: object) -> None:
        raise StoreError("the process is gone")

    connection = apsw.Connection(str(folder / "scratch.db"))
    with pytest.raises(RuntimeError):
        opened.sessions.create(Session("r", 1, "", 9, 1, NOW_MS), broken())
    assert connection.execute("SELECT count(*) FROM id_blocks").get == 0
    with monkeypatch.context() as patch:
        patch.setattr("mixdown.store.sqlite.sessions._drop", dead)
        with pytest.raises(RuntimeError):
            opened.sessions.create(Session("s", 1, "", 9, 1, NOW_MS), broken())
    assert connection.execute("SELECT count(*) FROM id_blocks").get == 3
    opened.sessions.create(Session("t", 2, "", 0, 1, NOW_MS + 2 * 3600 * 1000), [])
    assert connection.execute("SELECT count(*) FROM id_blocks").get == 0
    connection.close()
