"""Events on their way through files: hot, recent, files of days, merged. They stay what they were.

The reference is a dict by (event, distinct_id, time, insert_id): the last one written counts.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixdown.store import event_upkeep
from mixdown.store.duck import open_events
from mixdown.store.events import FIRST_MS, LAST_MS, EventsWrite, batch_of
from mixdown.store.filed_events import FiledEvents
from mixdown.store.postgres import events as postgres_events
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.events import PostgresEvents
from mixdown.store.shelves import FolderShelf
from mixdown.store.sqlite.event_files import EVENTS_FOLDER
from mixdown.store.sqlite.events import SqliteEvents
from tests.engine import TRIED
from tests.store.postgres import Server
from tests.store.support import DAY_MS, NOW_MS

PROJECT = 7
MIB = 1024 * 1024
DAY = NOW_MS // DAY_MS
Event = dict[str, Any]


class Held(NamedTuple):
    """Events whose files lie in a folder."""

    folder: Path
    events: FiledEvents


class Home:
    """Where events are kept: what was closed, or what died, is opened again as a new process would."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder = folder
        self._database = Database(url) if url else None
        (folder / EVENTS_FOLDER).mkdir(mode=0o700, exist_ok=True)

    def open(self) -> Held:
        """The events, opened by whoever may write now."""
        if self._database is None:
            return Held(self.folder, SqliteEvents(self.folder))
        fence = self._database.value(
            "UPDATE mixdown.watermarks SET fence = fence + 1 WHERE partition = 0 AND kind = 'events'"
            " RETURNING fence"
        )
        shelf = FolderShelf(self.folder / EVENTS_FOLDER)
        return Held(self.folder, PostgresEvents(self._database, 0, shelf, lambda: int(fence)))

    def close(self) -> None:
        """Give back what is open."""
        if self._database is not None:
            self._database.close()


@pytest.fixture(scope="module", params=[each for each in TRIED if each != "memory"])
def new_home(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Home]]:
    """Makes homes in which nothing was kept yet."""
    homes = []
    server: Server | None = None
    if request.param == "postgres":
        server = request.getfixturevalue("postgresql")
    new_folder: Path = request.getfixturevalue("new_folder")

    def made() -> Home:
        folder = tmp_path_factory.mktemp("events") / "data"
        if server is None:
            home = Home(Path(shutil.copytree(new_folder, folder)))
        else:
            folder.mkdir()
            home = Home(folder, server.migrated())
        homes.append(home)
        return home

    yield made
    for home in homes:
        home.close()


@pytest.fixture
def home(new_home: Callable[[], Home]) -> Home:
    return new_home()


@pytest.fixture
def opened(home: Home) -> Iterator[Held]:
    held = home.open()
    yield held
    held.events.close()


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a few events, so that a few events go through all forms."""
    for name, value in {
        "CLOSED_EVENTS": 4,
        "SPLIT_EVENTS": 4,
        "SPLIT_EVENTS_LIMIT": 6,
        "MERGED_EVENTS": 1000,
        "MERGED_FILES": 2,
    }.items():
        monkeypatch.setattr(event_upkeep, name, value)
    monkeypatch.setattr(postgres_events, "LOOK_AGAIN_MS", 0)


def event(position: int, time_ms: int | None = None, **members: Any) -> Event:
    """An event as a line has it."""
    given = {
        "event": "seen",
        "time": NOW_MS + position if time_ms is None else time_ms,
        "distinct_id": f"user {position % 5}",
        "insert_id": f"i{position}",
        "properties": {"n": position},
    } | members
    return {"position": position, "arrived": NOW_MS, **given}


def write(store: Held, *batches: Sequence[Mapping[str, Any]], project: int = PROJECT) -> None:
    for batch in batches:
        end = batch[-1]["position"] + 1
        store.events.write(EventsWrite(end, [batch_of(project, batch)], (), NOW_MS))


def stored(
    store: Held, since_ms: int = FIRST_MS, until_ms: int = LAST_MS, *, names: Sequence[str] = ()
) -> list[Event]:
    """All events of the project by position; what `names` have is compared with the whole."""
    parts = store.events.parts(PROJECT, since_ms, until_ms)
    with open_events(
        parts, memory_limit_bytes=256 * MIB, threads=1, temp_directory=store.folder / "scratch"
    ) as table:
        columns = ["position", "arrived", "event", "epoch_ms(time)", "distinct_id", "insert_id", table.whole]
        columns += [table.value(name) for name in names]
        found = []
        for batch in table.batches(f"SELECT {', '.join(columns)} FROM events ORDER BY position"):
            for position, arrived, kind, time_ms, distinct_id, insert_id, whole, *values in batch:
                properties = orjson.loads(whole)
                for name, value in zip(names, values, strict=True):
                    assert (value is None) == (name not in properties)
                    if value is not None:
                        assert exact(orjson.loads(value)) == exact(properties[name])
                found.append(
                    {
                        "position": position,
                        "arrived": arrived,
                        "event": kind,
                        "time": time_ms,
                        "distinct_id": distinct_id,
                        "insert_id": insert_id,
                        "properties": properties,
                    }
                )
        return found


def exact(value: Any) -> Any:
    """A value that is equal only to one with the same JSON types all through."""
    if isinstance(value, dict):
        return {name: exact(held) for name, held in value.items()}
    if isinstance(value, list):
        return [exact(held) for held in value]
    return (type(value).__name__, repr(value))


def expected(written: Sequence[Event]) -> list[Event]:
    """What of all that was written counts."""
    last = {(one["event"], one["distinct_id"], one["time"], one["insert_id"]): one for one in written}
    return sorted(last.values(), key=lambda one: one["position"])


def tend(store: Held, *, now_ms: int = NOW_MS, busy: bool = False, limit: int = 1000) -> int:
    """Tend until nothing is left to do; how many pieces."""
    for pieces in range(limit):
        if not store.events.tend(busy=busy, now_ms=now_ms):
            return pieces
    raise AssertionError("it never ends")


def forms(store: Held) -> tuple[int, int, int]:
    """How many hot events, recent files and files of days there are."""
    parts = store.events.parts(PROJECT, FIRST_MS, LAST_MS)
    recent = sum(file.day is None for file in parts.files)
    return store.events.size(PROJECT).hot_events, recent, len(parts.files) - recent


def on_disk(store: Held) -> set[str]:
    root = store.folder / EVENTS_FOLDER
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_events_go_from_hot_to_recent_to_days(opened: Held) -> None:
    written = [event(n, NOW_MS + (n % 3) * DAY_MS) for n in range(9)]
    write(opened, written[:3])
    assert forms(opened) == (3, 0, 0)
    write(opened, written[3:6])
    assert opened.events.tend(busy=True, now_ms=NOW_MS)
    assert forms(opened) == (0, 1, 0)
    write(opened, written[6:8], written[8:])
    assert stored(opened) == written
    tend(opened)
    assert forms(opened) == (3, 0, 3)
    assert stored(opened, names=["n", "m"]) == written
    tend(opened, now_ms=NOW_MS + 2 * DAY_MS)
    assert forms(opened) == (0, 1, 3)
    tend(opened, now_ms=NOW_MS + 3 * DAY_MS)
    assert forms(opened) == (0, 0, 3)
    assert stored(opened) == written


def test_many_events_at_once_go_straight_into_a_file(opened: Held) -> None:
    written = [event(n) for n in range(5)]
    opened.events.write(EventsWrite(5, [batch_of(PROJECT, written), batch_of(8, written[:1])], (), NOW_MS))
    assert forms(opened) == (0, 1, 0)
    assert opened.events.size(8).hot_events == 1
    assert opened.events.watermark() == 5
    assert stored(opened) == written


def test_a_span_of_time_is_read_from_all_forms(opened: Held) -> None:
    written = [event(n, NOW_MS + n * DAY_MS // 4) for n in range(20)]
    for start in range(0, 20, 5):
        write(opened, written[start : start + 5])
        for _ in range(start // 2):
            opened.events.tend(busy=False, now_ms=NOW_MS)
        since_ms, until_ms = NOW_MS + 3 * DAY_MS // 4, NOW_MS + 17 * DAY_MS // 4
        wanted = [one for one in written[: start + 5] if since_ms <= one["time"] < until_ms]
        assert stored(opened, since_ms, until_ms) == wanted


def test_a_span_may_end_with_a_file_or_a_millisecond_before(opened: Held) -> None:
    written = [event(position) for position in range(6)]
    write(opened, written)
    for _ in range(2):
        for since_ms, until_ms in [(0, 5), (0, 6), (1, 6), (1, 5)]:
            found = stored(opened, NOW_MS + since_ms, NOW_MS + until_ms)
            assert found == written[since_ms:until_ms]
        tend(opened)


def test_files_of_a_day_are_merged_and_the_old_ones_go_after_a_grace(opened: Held) -> None:
    written = [event(n) for n in range(20)]
    for start in range(0, 20, 5):
        write(opened, written[start : start + 5])
        opened.events.tend(busy=False, now_ms=NOW_MS)
    tend(opened)
    tend(opened, now_ms=NOW_MS + DAY_MS // 2)
    assert forms(opened)[1:] == (0, 1)
    assert stored(opened) == written
    last = NOW_MS + DAY_MS
    tend(opened, now_ms=last)
    assert opened.events.size().removable == 0
    (file,) = opened.events.parts(PROJECT, FIRST_MS, LAST_MS).files
    assert on_disk(opened) == {str(Path(file.path).relative_to(opened.folder / EVENTS_FOLDER))}


def test_a_file_stays_for_reads_that_have_it_on_their_list(opened: Held) -> None:
    written = [event(n) for n in range(6)]
    write(opened, written)
    parts = opened.events.parts(PROJECT, FIRST_MS, LAST_MS)
    tend(opened)
    assert forms(opened) == (0, 0, 1)
    assert all(Path(file.path).exists() for file in parts.files)
    tend(opened, now_ms=NOW_MS + opened.events.grace_ms - 1)
    assert all(Path(file.path).exists() for file in parts.files)
    tend(opened, now_ms=NOW_MS + opened.events.grace_ms)
    assert not any(Path(file.path).exists() for file in parts.files)


def test_a_file_of_somebody_erased_stays_as_long_as_a_read_may_take(opened: Held) -> None:
    opened.events.longest_read_ms = 600_000
    write(opened, [event(n) for n in range(6)])
    tend(opened)
    parts = opened.events.parts(PROJECT, FIRST_MS, LAST_MS)
    list(opened.events.forget(PROJECT, {"user 1"}, below=100))
    tend(opened, now_ms=NOW_MS + 1)
    tend(opened, now_ms=NOW_MS + 600_000)
    assert all(Path(file.path).exists() for file in parts.files)
    tend(opened, now_ms=NOW_MS + 600_001)
    assert not any(Path(file.path).exists() for file in parts.files)


def test_an_event_that_is_sent_again_replaces_the_one_in_a_file_of_its_day(opened: Held) -> None:
    written = [event(n) for n in range(8)]
    write(opened, written)
    tend(opened)
    again = [event(n + 10, NOW_MS + n, insert_id=f"i{n}", distinct_id=f"user {n % 5}") for n in range(6)]
    write(opened, again)
    assert stored(opened) == expected(written + again)
    tend(opened)
    assert stored(opened) == expected(written + again)
    assert opened.events.size().file_events - opened.events.size().dead == 8


def test_an_older_copy_that_is_closed_later_does_not_come_back(opened: Held) -> None:
    older = [event(0)]
    write(opened, older)  # hot
    newer = [event(n + 10, NOW_MS + n, insert_id=f"i{n}", distinct_id=f"user {n}") for n in range(6)]
    write(opened, newer)  # straight into a file, and split before the older one is closed
    while forms(opened) != (1, 0, 1):
        assert opened.events.tend(busy=False, now_ms=NOW_MS)
    assert stored(opened) == newer
    tend(opened, now_ms=NOW_MS + 2 * DAY_MS)
    assert forms(opened)[0] == 0
    assert stored(opened) == newer


@pytest.mark.parametrize("tended", [0, 1, 2, 100])
def test_forgetting_reaches_every_form_and_then_the_disk(opened: Held, tended: int) -> None:
    written = [event(n, NOW_MS + (n % 2) * DAY_MS) for n in range(14)]
    write(opened, written[:7], written[7:11])
    for _ in range(tended):
        opened.events.tend(busy=False, now_ms=NOW_MS)
    write(opened, written[11:])
    gone = [one for one in written if one["distinct_id"] == "user 3" and one["position"] < 13]
    assert sum(opened.events.forget(PROJECT, {"user 3", "nobody"}, below=13)) == len(gone)
    kept = [one for one in written if one not in gone]
    assert stored(opened) == kept
    assert sum(opened.events.forget(PROJECT, {"user 3"}, below=13)) == 0
    assert opened.events.owed(PROJECT)
    later = NOW_MS + 2 * DAY_MS
    tend(opened, now_ms=later)
    tend(opened, now_ms=later + DAY_MS)
    assert opened.events.owed(PROJECT) == 0
    assert stored(opened) == kept
    opened.events.grace_ms = 0


def test_forgetting_an_id_takes_copies_that_were_hidden_before(opened: Held) -> None:
    for positions in (range(5), range(10, 15)):
        copies = [event(n, NOW_MS, insert_id="i", distinct_id="ann") for n in positions]
        others = [event(n + 100, NOW_MS, distinct_id="bob", insert_id=f"b{n}") for n in positions]
        write(opened, sorted([*copies, *others], key=lambda one: int(one["position"])))
        opened.events.tend(busy=False, now_ms=NOW_MS)
    tend(opened)
    list(opened.events.forget(PROJECT, {"ann"}, below=1000))
    tend(opened, now_ms=NOW_MS + 1)
    tend(opened, now_ms=NOW_MS + DAY_MS)
    left = b"".join((opened.folder / EVENTS_FOLDER / name).read_bytes() for name in on_disk(opened))
    assert b"bob" in left
    assert b"ann" not in left


def test_whoever_is_forgotten_leaves_the_disk_though_events_never_cease(opened: Held) -> None:
    write(opened, [event(n, distinct_id="ann" if n == 3 else "bob") for n in range(8)])
    tend(opened)
    list(opened.events.forget(PROJECT, {"ann"}, below=1000))
    for later_ms in (1, DAY_MS, DAY_MS + 1):
        while opened.events.tend(busy=True, now_ms=NOW_MS + later_ms):
            pass
    left = b"".join((opened.folder / EVENTS_FOLDER / name).read_bytes() for name in on_disk(opened))
    assert b"bob" in left
    assert b"ann" not in left
    assert opened.events.owed(PROJECT) == 0


def test_dropping_a_project_takes_its_files(opened: Held) -> None:
    write(opened, [event(n) for n in range(8)])
    write(opened, [event(n + 8) for n in range(8)], project=8)
    tend(opened)
    opened.events.drop(PROJECT)
    assert stored(opened) == []
    assert opened.events.projects() == [8]
    assert opened.events.owed(PROJECT)
    tend(opened)
    tend(opened, now_ms=NOW_MS + opened.events.grace_ms)
    assert opened.events.owed(PROJECT) == 0
    assert not any(name.startswith(f"{PROJECT}/") for name in on_disk(opened))


def test_small_batches_are_gathered(opened: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_upkeep, "CLOSED_EVENTS", 1000)
    monkeypatch.setattr(event_upkeep, "GATHERED_BATCHES", 8)
    written = [event(n) for n in range(20)]
    write(opened, *([one] for one in written))
    assert len(opened.events.parts(PROJECT, FIRST_MS, LAST_MS).hot) == 20
    assert tend(opened) == 1
    assert len(opened.events.parts(PROJECT, FIRST_MS, LAST_MS).hot) == 1
    assert stored(opened) == written
    assert opened.events.size().hot_events == 20


def test_files_are_closed_to_others(opened: Held) -> None:
    write(opened, [event(n) for n in range(8)])
    tend(opened)
    root = opened.folder / EVENTS_FOLDER
    for path in root.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_file_and_its_folders_are_flushed_before_the_commit_that_lists_it(
    opened: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: set[int] = set()
    flush = os.fsync

    def noted(fd: int) -> None:
        flush(fd)
        flushed.add(os.fstat(fd).st_ino)

    commits = []

    def flushed_by_now() -> None:
        root = opened.folder / EVENTS_FOLDER
        files = [path for path in root.rglob("*.parquet") if path.stat().st_size]
        for path in files:
            assert {each.stat().st_ino for each in (path, path.parent, path.parent.parent, root)} <= flushed
        commits.append(len(files))

    monkeypatch.setattr(os, "fsync", noted)
    opened.events.before_commit = flushed_by_now
    write(opened, [event(n) for n in range(8)], [event(n + 8) for n in range(2)])
    tend(opened)
    tend(opened, now_ms=NOW_MS + 2 * DAY_MS)
    assert max(commits) >= 2


@pytest.mark.slow
def test_one_thread_tends_and_one_reads_while_another_writes(opened: Held) -> None:
    written = [event(n, NOW_MS + (n % 2) * DAY_MS, insert_id=f"i{n % 40}") for n in range(60)]
    ended = threading.Event()

    def tend_on() -> int:
        pieces = 0
        while not ended.is_set() or pieces < 3:
            pieces += opened.events.tend(busy=False, now_ms=NOW_MS)
        return pieces

    def read_on() -> None:
        while not ended.is_set():
            found = stored(opened)
            end = found[-1]["position"] + 1 if found else 0
            assert found == expected(written[:end])

    with ThreadPoolExecutor(2) as pool:
        others: list[Future[Any]] = [pool.submit(tend_on), pool.submit(read_on)]
        try:
            for start in range(0, 60, 5):
                write(opened, written[start : start + 5])
        finally:
            ended.set()
        for other in others:
            other.result()
    tend(opened)
    assert stored(opened) == expected(written)


def test_a_property_may_be_of_another_kind_in_each_file(opened: Held) -> None:
    values: list[Any] = ["", 2**60, 1.5, True, [1], None, "x"]
    written = [
        event(4 * n + place, NOW_MS + n * DAY_MS, properties={"p": value})
        for n, value in enumerate(values)
        for place in range(4)
    ]
    for start in range(0, len(written), 4):
        write(opened, written[start : start + 4])
    tend(opened)
    tend(opened, now_ms=NOW_MS + DAY_MS)
    assert forms(opened) == (0, 0, len(values))
    assert exact(stored(opened, names=["p"])) == exact(written)
    assert exact(stored(opened)) == exact(written)


def test_names_that_sql_and_files_use_themselves_are_names_like_others(opened: Held) -> None:
    names = [name for name in [*ODD_NAMES, *LONG_NAMES] if name.lower() != "plan"]
    written = [event(n, properties=dict.fromkeys(names, f"value {n}")) for n in range(4)]
    write(opened, written)
    tend(opened)
    tend(opened, now_ms=NOW_MS + DAY_MS)
    assert forms(opened) == (0, 0, 1)
    assert stored(opened, names=names) == written


# --- values

ODD_NAMES = [
    *(
        "plan",
        "Plan",
        "PLAN",
        "event",
        "time",
        "rest",
        "position",
        "properties",
        "(names)",
        "(apart)",
        "(one)",
        "VARCHAR",
        "JSON",
    ),
    *("__proto__", "a.b", "a/b", "a~b", 'q"q', "it's", "$x", "*", "0", "é", "É", "name", "names", "n", "\\"),
]
LONG_NAMES = ["", " ", "\n", "plan (integer)", "plan (property)", "property 0", "x" * 10_000]
ODD_NUMBERS = [1.0, -0.0, 1e16, 2.0**53, 2**53 + 1, -(2**53) - 1, 1e300, 5e-324]
names = st.one_of(
    st.sampled_from([*ODD_NAMES, *LONG_NAMES]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-3, 3),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        [1.0, -0.0, 1e16, 2.0**53, 2**53 + 1, -(2**53) - 1, 1e300, 5e-324, "1", "", "true", "null", "[]"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=6,
)
events_of_few_ids: st.SearchStrategy[Event] = st.builds(
    dict,
    event=st.sampled_from(["a", "b", "é\n"]),
    time=st.sampled_from([NOW_MS, NOW_MS + 1, NOW_MS + DAY_MS, NOW_MS - 400 * DAY_MS, 0, 4_102_444_800_000]),
    distinct_id=st.sampled_from(["u", "", "x" * 10_000]),
    insert_id=st.sampled_from(["1", "2"]),
    properties=st.dictionaries(names, values, max_size=6),
)


ANY_BATCHES = given(
    batches=st.lists(st.lists(events_of_few_ids, min_size=1, max_size=7), min_size=1, max_size=6),
    tended=st.lists(st.integers(0, 4), min_size=6, max_size=6),
)
CHECKS = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@settings(max_examples=6, deadline=None, suppress_health_check=CHECKS)
@ANY_BATCHES
def test_any_events_come_back_equal_from_every_form(
    new_home: Callable[[], Home], batches: list[list[Event]], tended: list[int]
) -> None:
    check_forms(new_home(), batches, tended)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # names and ids of 10 kB
@settings(max_examples=100, deadline=None, suppress_health_check=CHECKS)
@ANY_BATCHES
def test_very_many_events_come_back_equal_from_every_form(
    new_home: Callable[[], Home], batches: list[list[Event]], tended: list[int]
) -> None:
    check_forms(new_home(), batches, tended)


def check_forms(home: Home, batches: list[list[Event]], tended: list[int]) -> None:
    store = home.open()
    try:
        written: list[Event] = []
        for batch, pieces in zip(batches, tended, strict=False):
            first = len(written)
            placed = [{"position": first + n, "arrived": NOW_MS, **one} for n, one in enumerate(batch)]
            written += placed
            write(store, placed)
            for _ in range(pieces):
                store.events.tend(busy=False, now_ms=NOW_MS)
            assert exact(stored(store)) == exact(expected(written))
        asked = sorted({name for one in written for name in one["properties"]})
        for hours in (0, 30, 60):
            tend(store, now_ms=NOW_MS + hours * DAY_MS // 24)
            assert exact(stored(store, names=asked)) == exact(expected(written))
        assert store.events.size().hot_events == 0
    finally:
        store.events.close()
        home.close()
        shutil.rmtree(home.folder)
