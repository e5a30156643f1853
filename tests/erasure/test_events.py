"""Erasing people takes their events, those of every id that is linked with theirs, and nobody else's."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from mixdown.fold.erasure import Eraser, erase_all
from mixdown.fold.events_erasure import EventsEraser
from mixdown.fold.loop import catch_up
from mixdown.model.identity import DEVICE, SIMPLIFIED
from mixdown.query.person import person_file
from mixdown.store import event_upkeep
from mixdown.store.chunk import FOR_ALL, FOR_EVENTS, Link, decode_whole, encode_events, encode_filter
from mixdown.store.events import FIRST_MS, LAST_MS
from mixdown.store.memory import MemoryStore
from mixdown.store.privacy import PENDING, STARTED, SUCCESS, Deletion, begin
from mixdown.store.protocols import Append, Store
from tests.engine import IN_PROCESS, of_a_folder, open_store
from tests.store.support import NOW_MS, append, event

KEY = b"k" * 16


@pytest.fixture(params=IN_PROCESS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store of each engine with the project 1."""
    opened: Store
    if request.param == "memory":
        opened = MemoryStore()
    else:
        opened = open_store(tmp_path / "data", role="fold", create=True)
    opened.catalog.create_project("p", token="T", secret_hash=b"", id_merge=SIMPLIFIED, now_ms=NOW_MS)
    yield opened
    opened.close()


def send(store: Store, *ids: str, project: int = 1, user: str = "", key: bytes | None = None) -> None:
    """A request with an event of each id; with `user`, the first of them is a device of that user."""
    links = [Link(0, project, SIMPLIFIED, DEVICE, ids[0], user)] if user else []
    segment = encode_events("track", "t", key, None, links, [event(each, project=project) for each in ids])
    named = [*ids, user] if user else ids
    kinds = FOR_ALL if links or key else FOR_EVENTS
    append(store.log, Append(segment, len(ids), encode_filter(named), kinds=kinds))


def ask(store: Store, *ids: str, project: int = 1) -> Deletion:
    """A deletion that stands in the log."""
    job = Deletion(secrets.token_hex(16), project, "", ids, len(ids), PENDING, "t", "GDPR", NOW_MS)
    store.privacy.add_deletion(job)
    assert begin(store, job, now_ms=NOW_MS)
    found = store.privacy.deletion(project, job.id)
    assert found is not None
    return found


def shown(store: Store, project: int = 1) -> list[str]:
    """The distinct_ids of the events that reads are given, by position."""
    lines = b"".join(store.events.parts(project, FIRST_MS, LAST_MS).hot).splitlines()
    events = sorted((orjson.loads(line) for line in lines), key=lambda each: each["position"])
    return [each["distinct_id"] for each in events]


def logged(store: Store) -> list[tuple[int, int]]:
    """(position, project) of all events that stand in the log."""
    found = []
    for chunk in store.log.read(0, max_records=10**6, max_bytes=10**9):
        position = chunk.first
        for segment in decode_whole(chunk.body):
            position += len(segment.updates)
            for project, _ in segment.events:
                found.append((position, project))
                position += 1
    return found


def test_all_that_is_linked_with_a_person_goes_and_nobody_else(store: Store) -> None:
    send(store, "$device:d", user="ada")
    send(store, "ada", "bob", "$device:e", key=KEY)
    send(store, "ada", project=2)
    catch_up(store)
    job = ask(store, "ada")
    assert (sorted(job.ids), job.count) == (["$device:d", "ada"], 1)
    send(store, "ada", "bob")
    catch_up(store)
    erase_all(store)
    assert shown(store) == ["bob", "$device:e", "ada", "bob"], "what came behind the erasure is new"
    assert shown(store, 2) == ["ada"], "another project's ada is somebody else"
    assert logged(store) == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (7, 1), (8, 1)]
    assert store.state.linked(1, "$device:d") == ["$device:d"]
    finished = store.privacy.deletion(1, job.id)
    assert finished is not None
    assert (finished.status, finished.ids) == (SUCCESS, ())


def test_nothing_of_them_is_left_in_the_log_but_their_places(store: Store) -> None:
    send(store, "$device:d", user="ada")
    send(store, "ada", "bob", key=KEY)
    catch_up(store)
    ask(store, "$device:d")
    catch_up(store)
    erase_all(store)
    chunks = store.log.read(0, max_records=10**6, max_bytes=10**9)
    assert not [chunk for chunk in chunks if b"ada" in chunk.body or b"$device" in chunk.body]
    assert [link for chunk in chunks for each in decode_whole(chunk.body) for link in each.links] == []
    send(store, "ada", "bob", key=KEY)
    catch_up(store)
    assert shown(store) == ["bob"], "the request's key is still known, and brings nobody back"


def test_events_are_hidden_before_anything_is_rewritten(store: Store) -> None:
    send(store, "ada", "bob")
    catch_up(store)
    job = ask(store, "ada")
    eraser = EventsEraser(store)
    assert eraser.go_on() is None, "neither reader has come to the erasure"
    catch_up(store)
    hidden = eraser.go_on()
    assert hidden is not None
    assert (hidden.jobs, hidden.events) == (1, 1)
    assert shown(store) == ["bob"]
    assert logged(store) == [(0, 1), (1, 1)]
    assert eraser.go_on() is None, "it is done"
    assert store.events.forgotten() == job.end_in(0)


def test_a_job_is_done_only_when_its_events_are_gone(store: Store) -> None:
    send(store, "ada")
    catch_up(store)
    job = ask(store, "ada")
    catch_up(store)
    eraser = Eraser(store)
    for _ in range(20):
        eraser.go_on(busy=False)
        eraser._due = 0.0
    waiting = store.privacy.deletion(1, job.id)
    assert waiting is not None
    assert (waiting.status, waiting.ids) == (STARTED, ("ada",))
    assert EventsEraser(store).go_on() is not None
    for _ in range(20):
        eraser.go_on(busy=False)
        eraser._due = 0.0
    finished = store.privacy.deletion(1, job.id)
    assert finished is not None
    assert finished.status == SUCCESS


def test_a_link_that_is_not_folded_yet_counts_when_the_fold_begins_the_job(store: Store) -> None:
    send(store, "$device:d", user="ada")
    job = Deletion("j", 1, "", ("ada",), 1, PENDING, "t", "GDPR", NOW_MS)
    store.privacy.add_deletion(job)
    erase_all_with_fold(store)
    assert shown(store) == []
    assert store.state.linked(1, "$device:d") == ["$device:d"]


def test_the_file_of_a_person_has_the_events_of_all_their_ids(store: Store) -> None:
    send(store, "$device:d", user="ada")
    send(store, "ada", "bob")
    catch_up(store)
    project = store.catalog.projects()[0]
    told = orjson.loads(b"".join(person_file(store, project, "", ["ada"], now_ms=NOW_MS)))
    assert told["ids"] == ["ada", "$device:d"]
    assert told["events"] == [
        {
            "event": "E",
            "time": NOW_MS,
            "distinct_id": each,
            "insert_id": "i",
            "arrived": "2024-10-04T00:00:00",
            "properties": {"$city": "Bern", "n": 1.0},
        }
        for each in ("$device:d", "ada")
    ]


def erase_all_with_fold(store: Store) -> None:
    """As a server does: the fold folds between the pieces of erasing."""
    eraser, events = Eraser(store), EventsEraser(store)
    eraser.go_on(busy=False)
    assert store.log.head() == 1, "the job has not begun: the fold is behind"
    for _ in range(30):
        catch_up(store)
        events.go_on()
        eraser._due = 0.0
        eraser.go_on(busy=False)
    assert store.privacy.unfinished() == []


# --- events in files


def filled(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """210 events of 30 people in files of days, in recent files and hot, each with a value of its own."""
    monkeypatch.setattr(event_upkeep, "CLOSED_EVENTS", 40)
    monkeypatch.setattr(event_upkeep, "SPLIT_EVENTS", 60)
    for part in range(4):
        for person in range(30 if part < 3 else 15):
            secret = f"per-{person:02d}-value-{part}".encode()
            events = [
                event(f"per-{person:02d}-id")
                .replace(b'"Bern"', b'"%b"' % secret)
                .replace(b'"time":%d' % NOW_MS, b'"time":%d' % (NOW_MS + day * 86_400_000))
                for day in range(2)
            ]
            events = [each.replace(b'"insert_id":"i"', b'"insert_id":"i-%d"' % part) for each in events]
            segment = encode_events("track", "t", None, None, [], events)
            append(store.log, Append(segment, 2, encode_filter([f"per-{person:02d}-id"]), kinds=FOR_EVENTS))
        catch_up(store)
        if part < 3:
            while store.events.tend(busy=False, now_ms=NOW_MS + part * 3_600_000):
                pass


def all_bytes(folder: Path) -> bytes:
    """All that lies in a data folder, with what its Parquet files hold once they are decoded."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.append(path.read_bytes())
            if path.suffix == ".parquet":
                with duckdb.connect() as connection:
                    rows = connection.read_parquet(str(path)).fetchall()
                found.append(repr(rows).encode())
    return b"\n".join(found)


@of_a_folder("its files are read")
def test_no_byte_of_them_is_left_in_files_hot_batches_or_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    store = open_store(folder, role="fold", create=True)
    store.catalog.create_project("p", token="T", secret_hash=b"", id_merge=SIMPLIFIED, now_ms=NOW_MS)
    filled(store, monkeypatch)
    size = store.events.size()
    assert size.files > 2
    assert size.hot_events > 0
    assert size.hot_events + size.file_events == 210
    before = all_bytes(folder)
    gone = [f"per-{person:02d}-id" for person in (3, 7, 29)]
    assert all(each.encode() in before for each in gone)
    ask(store, *gone)
    catch_up(store)
    erase_all(store)
    after = all_bytes(folder)
    assert [each for each in (b"per-03", b"per-07", b"per-29") if each in after] == []
    assert b"per-04-value-0" in after
    size = store.events.size()
    assert size.hot_events + size.file_events - size.dead == 188
    assert store.events.owed(1) == 0
    store.close()


@of_a_folder("its files are read")
def test_a_kill_between_any_two_steps_leaves_nothing_that_the_next_does_not_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception):
        """What ends the process at a step."""

    folder = tmp_path / "data"
    store = open_store(folder, role="fold", create=True)
    store.catalog.create_project("p", token="T", secret_hash=b"", id_merge=SIMPLIFIED, now_ms=NOW_MS)
    filled(store, monkeypatch)
    ask(store, "per-03-id")
    catch_up(store)
    store.close()
    kills = 0
    for step in count():
        store = open_store(folder, role="fold", create=False)
        left = iter(range(step))

        def die(_: str = "", left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise KilledError

        events: Any = store.events
        events.at_step = die
        events.before_commit = die
        try:
            erase_all(store)
        except KilledError:
            kills += 1
            continue
        finally:
            store.close()
        break
    assert kills > 5
    assert b"per-03" not in all_bytes(folder)
    store = open_store(folder, role="fold", create=False)
    size = store.events.size()
    assert size.hot_events + size.file_events - size.dead == 202
    store.close()
