"""Files of events in a bucket: written, read by ranges, merged and removed as in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

import obstore
import polars as pl
import pytest
from obstore.store import S3Store

from mixdown.model.errors import SettingsError, StoreError
from mixdown.store import event_upkeep
from mixdown.store.event_listing import Place
from mixdown.store.events import FIRST_MS, LAST_MS
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.events import PostgresEvents, check_shelf
from mixdown.store.s3 import S3Shelf
from mixdown.store.shelves import MARK, shelf_of
from tests.store.postgres import Server
from tests.store.s3 import Objects, object_store
from tests.store.support import DAY_MS, NOW_MS
from tests.store.test_event_files import PROJECT, Event, Held, event, expected, forms, stored, tend, write

REAL: Final = "MIXDOWN_TEST_S3_URL"
"""The variable that names a bucket, or a prefix in one, of a real store."""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"CLOSED_EVENTS": 4, "SPLIT_EVENTS": 4, "MERGED_FILES": 2}.items():
        monkeypatch.setattr(event_upkeep, name, value)


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    with object_store() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def database(postgresql: Server) -> Iterator[Database]:
    opened = Database(postgresql.migrated())
    yield opened
    opened.close()


def held_in(url: str, database: Database, scratch: Path) -> Held:
    shelf = shelf_of(url, scratch)
    check_shelf(database, shelf)
    return Held(scratch, PostgresEvents(database, 0, shelf, lambda: 0))


@pytest.fixture
def held(objects: Objects, database: Database, tmp_path: Path) -> Held:
    del objects
    return held_in("s3://bucket/mixdown/events", database, tmp_path)


def go_through_all_forms(held: Held) -> list[Event]:
    """Events in files of several days, merged, some hot; some of them sent again."""
    written = [event(n, NOW_MS + (n % 3) * DAY_MS, properties={"n": n, "plan": "pro"}) for n in range(30)]
    for start in range(0, 30, 10):
        write(held, written[start : start + 10])
        assert stored(held) == expected(written[: start + 10])
        tend(held)
        assert stored(held, names=["n", "plan"]) == expected(written[: start + 10])
    ids = [{"insert_id": f"i{n}", "distinct_id": f"user {n % 5}"} for n in range(3)]
    again = [event(n + 100, NOW_MS + n * DAY_MS, **ids[n]) for n in range(3)]
    write(held, again)
    assert stored(held) == expected(written + again)
    tend(held, now_ms=NOW_MS + DAY_MS)
    assert stored(held) == expected(written + again)
    return written + again


def test_events_go_through_all_forms_in_a_bucket(held: Held, objects: Objects) -> None:
    written = go_through_all_forms(held)
    tend(held, now_ms=NOW_MS + 2 * DAY_MS)
    tend(held, now_ms=NOW_MS + 3 * DAY_MS)
    files = held.events.parts(PROJECT, FIRST_MS, LAST_MS).files
    assert len(files) == 3
    names = {file.path.removeprefix("s3:/") for file in files}
    assert set(objects.held) == {"/bucket/mixdown/events/mixdown-events"} | names
    assert stored(held, NOW_MS + DAY_MS, NOW_MS + 2 * DAY_MS) == [
        one for one in expected(written) if NOW_MS + DAY_MS <= one["time"] < NOW_MS + 2 * DAY_MS
    ]
    assert list(held.folder.rglob("*.parquet")) == [], "nothing is left on this machine"


def test_a_read_asks_for_each_file_once_and_then_for_what_it_needs(held: Held, objects: Objects) -> None:
    write(held, [event(n) for n in range(8)])
    objects.asked.clear()
    assert len(stored(held)) == 8
    assert [method for method, _, _ in objects.asked] == ["HEAD", "GET"]
    objects.asked.clear()
    assert len(stored(held)) == 8
    assert objects.asked == [], "a small file is known by its end"


def test_whoever_is_forgotten_leaves_the_bucket(held: Held, objects: Objects, tmp_path: Path) -> None:
    go_through_all_forms(held)
    list(held.events.forget(PROJECT, {"user 3"}, below=1000))
    assert all(one["distinct_id"] != "user 3" for one in stored(held))
    for days in (4, 5, 6):
        tend(held, now_ms=NOW_MS + days * DAY_MS)
    assert held.events.owed(PROJECT) == 0
    assert ids_in(objects, tmp_path) == {f"user {n}" for n in (0, 1, 2, 4)}


def ids_in(objects: Objects, folder: Path) -> set[str]:
    """Whose rows there are in all files of a store, listed or not."""
    found: set[str] = set()
    for name, content in objects.held.items():
        if name.endswith(".parquet"):
            (folder / "object").write_bytes(content)
            found.update(pl.read_parquet(folder / "object")["distinct_id"])
    return found


def test_a_bucket_that_takes_nothing_loses_nothing(held: Held, objects: Objects) -> None:
    write(held, [event(n) for n in range(3)], [event(n) for n in range(3, 6)])
    objects.failing = True
    for _ in range(2):
        with pytest.raises(StoreError, match="cannot be used"):
            tend(held)
    assert stored(held) == [event(n) for n in range(6)]
    assert list(held.folder.rglob("*.parquet")) == []
    objects.failing = False
    tend(held)
    assert stored(held) == [event(n) for n in range(6)]
    assert forms(held)[0] == 0


@pytest.mark.parametrize("url", ["s3://", "s3://user:word@bucket", "gs://bucket", "s3://bucket?x=1"])
def test_an_address_that_is_no_bucket_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="s3://bucket"):
        S3Shelf(url, tmp_path)


@pytest.fixture(params=["here", "real"])
def bucket(request: pytest.FixtureRequest) -> Iterator[str]:
    """A place in a bucket that is a test's alone, and is empty again afterwards."""
    if request.param == "here":
        objects = request.getfixturevalue("objects")
        yield "s3://bucket/below"
        assert objects.held == {}, "whatever a test has put there goes"
        return
    if REAL not in os.environ:
        pytest.skip(f"{REAL} names no bucket")
    yield f"{os.environ[REAL].rstrip('/')}/{uuid4()}"


def test_a_bucket_holds_events_and_lets_them_go(
    bucket: str, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put: set[str] = set()
    keep = S3Shelf.keep

    def noted(shelf: S3Shelf, place: Place, draft: Path) -> None:
        put.add(shelf.path(place))
        keep(shelf, place, draft)

    monkeypatch.setattr(S3Shelf, "keep", noted)
    held = held_in(bucket, database, tmp_path)
    try:
        go_through_all_forms(held)
        list(held.events.forget(PROJECT, {"user 3"}, below=1000))
        for days in (4, 5, 6):
            tend(held, now_ms=NOW_MS + days * DAY_MS)
        assert all(one["distinct_id"] != "user 3" for one in stored(held))
        left = {file.path for file in held.events.parts(PROJECT, FIRST_MS, LAST_MS).files}
        assert left < put
        assert {path for path in put if is_there(bucket, path)} == left
    finally:
        for path in (*put, f"{bucket}/{MARK}"):
            with suppress(FileNotFoundError):
                obstore.delete(store_of(bucket), name_in(bucket, path))


def store_of(bucket: str) -> S3Store:
    """The client that the store has, at the same place."""
    return S3Store.from_url(bucket, client_options={"allow_http": True})


def name_in(bucket: str, path: str) -> str:
    return path.removeprefix(f"{bucket}/")


def is_there(bucket: str, path: str) -> bool:
    try:
        obstore.head(store_of(bucket), name_in(bucket, path))
    except FileNotFoundError:
        return False
    return True
