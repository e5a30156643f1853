"""Events in PostgreSQL where several processes meet: leases that were lost, partitions, folders of others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mixdown.model.errors import LeaseLostError, StoreError
from mixdown.store import event_upkeep
from mixdown.store.events import FIRST_MS, LAST_MS, EventsWrite, batch_of
from mixdown.store.places import PARTITIONS_LIMIT, first_of
from mixdown.store.postgres import events as postgres_events
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.events import PostgresEvents, WholeEvents, check_shelf
from mixdown.store.shelves import FolderShelf
from tests.store.postgres import Server
from tests.store.support import DAY_MS, NOW_MS, key
from tests.store.test_event_files import PROJECT, Event, Held, event, stored, tend, write

SHELF = "events"
PARTITIONS = 4


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_upkeep, "CLOSED_EVENTS", 4)
    monkeypatch.setattr(event_upkeep, "SPLIT_EVENTS", 4)


@pytest.fixture
def database(postgresql: Server) -> Iterator[Database]:
    opened = Database(postgresql.migrated(PARTITIONS))
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / SHELF).mkdir(mode=0o700)
    return tmp_path


def holder(database: Database, folder: Path, partition: int = 0) -> Held:
    """A process that has just taken a partition's lease."""
    fence = database.value(
        "UPDATE mixdown.watermarks SET fence = fence + 1 WHERE partition = %s AND kind = 'events'"
        " RETURNING fence",
        (partition,),
    )
    shelf = FolderShelf(folder / SHELF)
    return Held(folder, PostgresEvents(database, partition, shelf, lambda: int(fence)))


def on_disk(folder: Path) -> set[str]:
    return {str(path) for path in (folder / SHELF).rglob("*.parquet")}


def listed(held: Held) -> set[str]:
    return {file.path for file in held.events.parts(PROJECT, FIRST_MS, LAST_MS).files}


def test_whoever_lost_the_lease_writes_nothing(database: Database, folder: Path) -> None:
    paused = holder(database, folder)
    write(paused, [event(0)])
    other = holder(database, folder)
    before = paused.events.watermark(), paused.events.size()
    with pytest.raises(LeaseLostError):
        paused.events.write(EventsWrite(9, [batch_of(PROJECT, [event(8)])], [(key(1), NOW_MS, None)], NOW_MS))
    with pytest.raises(LeaseLostError):
        paused.events.write(EventsWrite(9, [batch_of(PROJECT, [event(n) for n in range(5)])], [], NOW_MS))
    with pytest.raises(LeaseLostError):
        paused.events.note_forgotten(5)
    with pytest.raises(LeaseLostError):
        list(paused.events.forget(PROJECT, {"user 0"}, below=100))
    assert (other.events.watermark(), other.events.size()) == before
    assert other.events.known_keys([key(1)], since_ms=0) == {}
    assert other.events.forgotten() == 0
    write(other, [event(1)])
    assert stored(other) == [event(0), event(1)]


def test_a_file_of_whoever_lost_the_lease_meanwhile_is_not_listed_and_goes(
    database: Database, folder: Path
) -> None:
    paused = holder(database, folder)
    write(paused, [event(n) for n in range(3)], [event(n) for n in range(3, 6)])
    taken_over: list[Held] = []

    def pause(name: str) -> None:
        if name == "written" and not taken_over:
            taken_over.append(holder(database, folder))

    paused.events.at_step = pause
    with pytest.raises(LeaseLostError):
        paused.events.tend(busy=False, now_ms=NOW_MS)
    (other,) = taken_over
    assert listed(other) == set()
    assert len(on_disk(folder)) == 1, "who lost it does not know whether it is listed"
    tend(other)
    assert on_disk(folder) >= listed(other)
    tend(other, now_ms=NOW_MS + other.events.grace_ms)
    assert on_disk(folder) == listed(other)
    assert stored(other) == [event(n) for n in range(6)]


def test_whoever_lost_the_lease_unlinks_no_file_that_its_heir_is_making(
    database: Database, folder: Path
) -> None:
    paused = holder(database, folder)
    heir = holder(database, folder)
    write(heir, [event(n) for n in range(3)], [event(n) for n in range(3, 6)])
    looked: list[bool] = []

    def look(name: str) -> None:
        if name == "written" and not looked:
            looked.append(True)
            with pytest.raises(LeaseLostError):
                tend(paused)

    heir.events.at_step = look
    tend(heir)
    assert looked
    assert on_disk(folder) >= listed(heir)
    assert stored(heir) == [event(n) for n in range(6)]


def test_a_step_goes_on_only_from_where_it_began(database: Database, folder: Path) -> None:
    held = holder(database, folder)
    held.events.write(EventsWrite(3, [batch_of(PROJECT, [event(n) for n in range(3)])], [], NOW_MS, 0))
    with pytest.raises(StoreError, match="meanwhile"):  # the same again: its commit had come through
        held.events.write(EventsWrite(3, [batch_of(PROJECT, [event(n) for n in range(3)])], [], NOW_MS, 0))
    assert held.events.size().hot_events == 3
    held.events.write(EventsWrite(4, [batch_of(PROJECT, [event(3)])], [], NOW_MS, 3))
    assert stored(held) == [event(n) for n in range(4)]


def spread(database: Database, folder: Path) -> tuple[list[Held], WholeEvents, list[Event]]:
    """A project whose events lie in all partitions, in files and hot."""
    views = [holder(database, folder, partition) for partition in range(PARTITIONS)]
    written = []
    for partition, view in enumerate(views):
        own = [event(first_of(partition) + n, NOW_MS + n, distinct_id=f"u{partition}") for n in range(6)]
        write(view, own[:5], own[5:])
        tend(view)
        written += own
    shelf = FolderShelf(folder / SHELF)
    events = [view.events for view in views if isinstance(view.events, PostgresEvents)]
    return views, WholeEvents(database, shelf, events, lambda _: range(PARTITIONS)), written


def test_a_project_in_all_partitions_is_read_as_one(database: Database, folder: Path) -> None:
    views, whole, written = spread(database, folder)
    held = Held(folder, whole)  # type: ignore[arg-type] # reads alone
    assert stored(held) == written
    assert whole.projects() == [PROJECT]
    size = whole.size(PROJECT)
    assert (size.hot_events, size.file_events) == (PARTITIONS, 5 * PARTITIONS)
    assert len({file.number for file in whole.parts(PROJECT, FIRST_MS, LAST_MS).files}) == PARTITIONS
    assert whole.watermark() == 6 * PARTITIONS
    assert views[1].events.watermark() == first_of(1) + 6
    assert views[1].events.size().hot_events == 1
    with pytest.raises(StoreError, match="partitions"):
        whole.write(EventsWrite(1, [], [], NOW_MS))


def test_forgetting_in_one_partition_leaves_the_others(database: Database, folder: Path) -> None:
    views, whole, written = spread(database, folder)
    assert sum(views[2].events.forget(PROJECT, {"u1", "u2"}, below=first_of(3))) == 6
    assert stored(Held(folder, whole)) == [one for one in written if one["distinct_id"] != "u2"]  # type: ignore[arg-type]
    assert whole.owed(PROJECT) == views[2].events.owed(PROJECT) == 1
    whole.grace_ms = 0
    tend(views[2], now_ms=NOW_MS + 1)
    assert whole.owed(PROJECT) == 0
    assert not any(int(Path(path).stem) % PARTITIONS_LIMIT == 2 for path in on_disk(folder))
    assert on_disk(folder) >= {file.path for file in whole.parts(PROJECT, FIRST_MS, LAST_MS).files}


def test_keys_are_of_a_partition_and_any_process_takes_what_they_quote(
    database: Database, folder: Path
) -> None:
    views, whole, _ = spread(database, folder)
    views[1].events.write(EventsWrite(first_of(1) + 7, [], [(key(1), NOW_MS, None)], NOW_MS))
    assert views[0].events.known_keys([key(1)], since_ms=0) == {}
    assert whole.known_keys([key(1)], since_ms=0) == {key(1): None}
    assert whole.key_window() == (1, NOW_MS)
    stranger = PostgresEvents(database, 1, FolderShelf(folder / SHELF), lambda: -1)
    stranger.redact_keys([key(1)])
    assert set(whole.known_keys([key(1)], since_ms=0)) == {key(1)}


def test_keys_above_their_bound_are_known_no_more(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixdown.store.bounds.KEYS_HELD", 5)
    held = holder(database, folder)
    for n in range(12):
        held.events.write(EventsWrite(n, [], [(key(n), NOW_MS + n, None)], NOW_MS + n))
    assert set(held.events.known_keys([key(n) for n in range(12)], since_ms=0)) == {
        key(n) for n in range(7, 12)
    }
    assert held.events.key_window()[1] == NOW_MS + 7


def test_an_idle_partition_is_left_alone_until_time_may_bring_something(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = holder(database, folder)
    write(held, [event(n) for n in range(6)])
    tend(held)
    asked: list[object] = []
    connection = Database.connection

    def noted(self: Database) -> Any:
        asked.append(self)
        return connection(self)

    monkeypatch.setattr(Database, "connection", noted)
    later_ms = postgres_events.LOOK_AGAIN_MS
    assert not held.events.tend(busy=False, now_ms=NOW_MS + later_ms - 1)
    assert asked == []
    assert not held.events.tend(busy=False, now_ms=NOW_MS + later_ms)
    assert asked
    write(held, [event(n) for n in range(6, 11)])
    assert held.events.tend(busy=False, now_ms=NOW_MS + later_ms), "what was written is looked at"


def test_upkeep_that_comes_back_sees_what_another_did_meanwhile(database: Database, folder: Path) -> None:
    fence = 0
    shelf = FolderShelf(folder / SHELF)
    first = Held(folder, PostgresEvents(database, 0, shelf, lambda: fence))
    write(first, [event(n) for n in range(5)])
    tend(first)
    other = holder(database, folder)
    for start in (5, 10, 15):
        write(other, [event(n) for n in range(start, start + 5)])
        while other.events.size().waiting:
            assert other.events.tend(busy=False, now_ms=NOW_MS + start * DAY_MS)
    fence = database.value(
        "UPDATE mixdown.watermarks SET fence = 2 WHERE partition = 0 AND kind = 'events' RETURNING fence"
    )
    tend(first, now_ms=NOW_MS + 15 * DAY_MS + 1)
    tend(first, now_ms=NOW_MS + 16 * DAY_MS)
    assert first.events.size().files == 1
    assert stored(first) == [event(n) for n in range(20)]


def test_the_folder_of_another_database_is_refused(
    database: Database, postgresql: Server, tmp_path: Path
) -> None:
    shelf = FolderShelf(tmp_path / "shared" / "events")
    check_shelf(database, shelf)
    check_shelf(database, shelf)
    other = Database(postgresql.migrated())
    other.run("UPDATE mixdown.event_home SET mark = 'another'")  # the tests' databases are copies of one
    with pytest.raises(StoreError, match="another"):
        check_shelf(other, shelf)
    other.close()
    held = holder(database, tmp_path)
    (tmp_path / SHELF).mkdir()
    write(held, [event(n) for n in range(6)])
    with pytest.raises(StoreError, match="missing"):  # as where nothing is mounted
        check_shelf(database, FolderShelf(tmp_path / "empty"))
    assert not (tmp_path / "empty").exists()
