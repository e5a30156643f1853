"""The events reader is killed at every step that it takes, and begins again: each event is stored once.

A kill is an exception between two steps, after which the store is opened anew, as a new process would: what
was committed is there, what was not is not, and files that nobody lists are left behind.
"""

from __future__ import annotations

import os
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mixdown.fold.events import EventsReader
from mixdown.model.errors import StoreError
from mixdown.store import event_upkeep
from mixdown.store.chunk import FOR_ALL, encode_events, encode_filter
from mixdown.store.duck import open_events, writing
from mixdown.store.events import FIRST_MS, LAST_MS
from mixdown.store.protocols import Append
from mixdown.store.sqlite import event_files, open_store
from mixdown.store.sqlite.events import SqliteEvents
from tests.durability.faults.mutants import MUTANTS
from tests.engine import of_a_folder
from tests.store.support import NOW_MS, append, event, key

pytestmark = [pytest.mark.slow, of_a_folder("tests/store/test_event_files has the same of the other")]

REQUESTS = 16
HOUR_MS = 3_600_000
YEAR_MS = 366 * 24 * HOUR_MS
MEMORY_BYTES = 2**28


class KilledError(Exception):
    """What ends a process at a step."""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few events make a file, few files a split, and files are unlinked at once."""
    for name, value in (
        ("CLOSED_EVENTS", 8),
        ("SPLIT_EVENTS", 8),
        ("MERGED_FILES", 2),
        ("QUIET_MS", 0),
    ):
        monkeypatch.setattr(event_upkeep, name, value)
    monkeypatch.setattr(SqliteEvents, "grace_ms", 0)


def request(number: int, times_sent: int = 0) -> tuple[Append, list[str]]:
    """A request of one to eleven events without insert ids of their own, and whose they are.

    The server gives each a fresh one whenever it comes: only the request's key tells that it came before.
    """
    ids = [f"e{number}-{part}" for part in range(1 + number * 5 % 11)]
    fresh = b'"insert_id":"%d-%d-%%d"' % (number, times_sent)
    events = [event(each).replace(b'"insert_id":"i"', fresh % at) for at, each in enumerate(ids)]
    segment = encode_events("track", "t", key(number), None, [], events)
    return Append(segment, len(ids), encode_filter(ids), kinds=FOR_ALL), ids


def fill(folder: Path) -> Counter[str]:
    """A log of requests, two of three sent again, at once or later; what must be stored, once each."""
    store = open_store(folder, role="events", create=True)
    expected: Counter[str] = Counter()
    for number in range(REQUESTS):
        first, ids = request(number)
        expected.update(ids)
        again = [request(number, 1)[0]] if number % 3 == 0 else []
        append(store.log, first, *again, now_ms=NOW_MS + number)
        if number % 3 == 1 and number > 6:
            append(store.log, request(number - 6, 2)[0], now_ms=NOW_MS + number)
    store.close()
    return expected


def run_until_killed(folder: Path, step: int) -> bool:
    """Take in and tend as the process does, and die at a step; whether it came to its end instead."""
    store = open_store(folder, role="events", create=False)
    left = iter(range(step - 1))

    def die(_: str = "") -> None:
        if next(left, None) is None:
            raise KilledError

    store.events.at_step = die
    store.events.before_commit = die
    try:
        reader = EventsReader(store, max_records=30)
        for now_ms in count(NOW_MS + step * YEAR_MS, HOUR_MS):  # the clock never goes back
            taken = reader.step()
            if not store.events.tend(busy=False, now_ms=now_ms) and taken is None:
                return True
    except KilledError:
        return False
    finally:
        store.close()
    raise AssertionError


def kill_everywhere(folder: Path) -> int:
    """Kill at the first step, then at the second, and so on, on one folder; how many kills there were."""
    return next(step for step in count(1) if run_until_killed(folder, step)) - 1


def stored(folder: Path) -> Counter[str]:
    """How often each event is stored, by whose it is."""
    store = open_store(folder, role="cli", create=False)
    try:
        parts = store.events.parts(1, FIRST_MS, LAST_MS)
        spill = folder / "spill"
        with open_events(parts, memory_limit_bytes=MEMORY_BYTES, threads=1, temp_directory=spill) as table:
            rows = table.batches("SELECT distinct_id, count(*) FROM events GROUP BY 1")
            return Counter({name: held for batch in rows for name, held in batch})
    finally:
        store.close()


def test_an_event_is_stored_once_wherever_the_reader_is_killed(tmp_path: Path) -> None:
    expected = fill(tmp_path / "data")
    assert kill_everywhere(tmp_path / "data") > 8
    assert stored(tmp_path / "data") == expected
    store = open_store(tmp_path / "data", role="cli", create=False)
    size = store.events.size()
    assert size.files > 0
    assert size.removable == 0
    on_disk = list((tmp_path / "data" / "events").rglob("*.parquet"))
    assert len(on_disk) == size.files, "nothing that no list names is left"
    store.close()


@pytest.mark.parametrize("mutant", ["events_twice", "events_apart", "files_unlinked"])
def test_a_broken_guarantee_does_not_survive_the_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    for target, name in ((SqliteEvents, "known_keys"), (SqliteEvents, "write"), (event_files, "remove")):
        monkeypatch.setattr(target, name, getattr(target, name))  # so that each is put back
    expected = fill(tmp_path / "data")
    MUTANTS[mutant][1]()
    try:
        kill_everywhere(tmp_path / "data")
        assert stored(tmp_path / "data") != expected
    except StoreError:
        return  # a file that is listed is gone


def unsynced_when_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Take everything in; the files that a commit listed before they and their folders were on disk."""
    fill(folder)
    synced: set[str] = set()
    sync: Any = writing.sync

    def noting(path: Path) -> None:
        sync(path)
        synced.add(path.name)

    monkeypatch.setattr(writing, "sync", noting)
    store = open_store(folder, role="events", create=False)
    early: set[str] = set()

    def look() -> None:
        assert store.events.listing._writer is not None
        listed = store.events.listing._writer.execute("SELECT number FROM files").fetchall()
        early.update({f"{number}.parquet" for (number,) in listed} - synced)

    store.events.before_commit = look
    reader = EventsReader(store, max_records=30)
    while reader.step() is not None or store.events.tend(busy=False, now_ms=NOW_MS):
        pass
    assert store.events.size().files > 0
    store.close()
    return early


def test_a_file_is_on_disk_before_a_commit_lists_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsyncs: list[int] = []
    monkeypatch.setattr(os, "fsync", fsyncs.append)
    assert unsynced_when_listed(tmp_path / "data", monkeypatch) == set()
    assert len(fsyncs) > 8, "it does ask the system for it"


def test_mutant_that_lists_a_file_first_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy: Any = writing._copy

    def copy_without_sync(*arguments: Any, **options: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(writing, "sync", lambda _: None)
            return copy(*arguments, **options)

    monkeypatch.setattr(writing, "_copy", copy_without_sync)
    assert unsynced_when_listed(tmp_path / "data", monkeypatch) != set()


@pytest.mark.parametrize("full_at", [1, pytest.param(3, marks=pytest.mark.slow), 4])
def test_a_disk_that_is_full_while_files_are_written_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: int
) -> None:
    """A file that cannot be written fails its step or piece; once there is room, it is made again."""
    folder = tmp_path / "data"
    expected = fill(folder)
    store = open_store(folder, role="events", create=False)
    sync: Any = writing.sync
    written = 0

    def full(path: Path) -> None:
        nonlocal written
        written += 1
        if written >= full_at:
            raise OSError(28, "No space left on device")
        sync(path)

    monkeypatch.setattr(writing, "sync", full)
    reader = EventsReader(store, max_records=30)
    faults = 0
    for _ in range(12):
        try:
            while reader.step() is not None or store.events.tend(busy=False, now_ms=NOW_MS):
                pass
        except (OSError, StoreError):
            faults += 1
    assert faults > 0
    monkeypatch.setattr(writing, "sync", sync)
    while reader.step() is not None or store.events.tend(busy=False, now_ms=NOW_MS):
        pass
    store.close()
    assert stored(folder) == expected
