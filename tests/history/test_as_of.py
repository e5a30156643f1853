"""Back in time: profiles as they stood are those that a fold of the records until then makes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixdown.fold.profiles import ProfileFold
from mixdown.query.history import all_as_of, as_of, entry_view, restoring
from mixdown.store.memory import MemoryStore
from mixdown.store.protocols import Store
from tests import engine
from tests.fold.conftest import NOON_MS, Way, record
from tests.history.support import entries

NAMES = st.sampled_from(["a", "b", "list", "object"])
LONG = ["x" * 200] * 50
"""A value that stands apart. A text would be cut."""
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.integers(0, 3),
    st.sampled_from(["", "x", LONG, 1.5, None, True]),
    st.lists(st.integers(0, 3), max_size=4),
    st.dictionaries(st.sampled_from(["k", "l"]), st.integers(0, 2), max_size=2),
)
ITEMS = st.one_of(st.integers(0, 3), st.just({"k": 1}), st.just(LONG))
OPERATIONS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.fixed_dictionaries({"set": st.dictionaries(NAMES, VALUES, max_size=3)}),
    st.fixed_dictionaries({"set_once": st.dictionaries(NAMES, VALUES, max_size=3)}),
    st.fixed_dictionaries({"add": st.dictionaries(NAMES, st.integers(-2, 2), min_size=1, max_size=2)}),
    st.fixed_dictionaries({"append": st.dictionaries(NAMES, ITEMS, min_size=1, max_size=2)}),
    st.fixed_dictionaries(
        {"union": st.dictionaries(NAMES, st.lists(ITEMS, max_size=3), min_size=1, max_size=2)}
    ),
    st.fixed_dictionaries({"remove": st.dictionaries(NAMES, ITEMS, min_size=1, max_size=2)}),
    st.fixed_dictionaries(
        {
            "merge": st.dictionaries(
                NAMES, st.dictionaries(st.sampled_from(["k", "l"]), st.integers(0, 2)), max_size=2
            )
        }
    ),
    st.fixed_dictionaries({"unset": st.lists(NAMES, min_size=1, max_size=2)}),
    st.just({"delete": ""}),
)


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    operations = draw(OPERATIONS)
    if draw(st.integers(0, 3)) == 0:
        operations = {**draw(OPERATIONS), **operations}
    extras: list[dict[str, Any]] = [{}, {}, {"ignore_time": True}, {"time": 1_700_000_000}]
    extra = draw(st.sampled_from(extras))
    return record(draw(st.sampled_from(["u1", "u1", 'u"2'])), **operations, **extra)


Run = list[tuple[dict[str, Any], int, bool]]
RUNS = st.lists(st.tuples(records(), st.integers(0, 3), st.booleans()), min_size=1, max_size=14)
"""Records, how many seconds before the next, and whether a step of the fold ends after it."""


@contextmanager
def a_way(*, kept: bool) -> Iterator[Way]:
    """A way of records through a store in memory, or one that is kept in a folder or a database."""
    with tempfile.TemporaryDirectory() as folder:
        store: Store = MemoryStore()
        if kept:
            store = engine.open_store(Path(folder) / "data", role="fold", create=True)
        way = Way(store)
        try:
            yield way
        finally:
            way.close()
            engine.forget(Path(folder))


def documents(store: Store) -> dict[str, Any]:
    return {
        profile_id: orjson.loads(store.state.documents([(1, "", profile_id)])[0] or b"null")
        for profile_id in ("u1", 'u"2')
    }


def fold_of(run: list[tuple[dict[str, Any], int]], until: int) -> dict[str, Any]:
    """Profiles after the records that came by a time, each folded by itself and without history."""
    with a_way(kept=False) as way:
        way.fold = ProfileFold(way.store, history=False)
        for one, at_ms in run:
            if at_ms <= until:
                way.now_ms = at_ms
                way.submit(one)
                way.fold_all()
        return documents(way.store)


def play(
    way: Way, run: list[tuple[dict[str, Any], int, bool]], *, merge: bool = False
) -> list[tuple[Any, int]]:
    """Send and fold a run; its records with their times."""
    sent = []
    for one, pause, ends in run:
        sent.append((one, way.now_ms))
        way.submit(one)
        if ends:
            way.fold_all()
        way.now_ms += pause * 1000
    way.fold_all()
    while merge and way.store.state.tend_history(keep_from_ms=0, limit_bytes=0):
        pass
    return sent


def check_as_of(run: Run, at: int, *, kept: bool) -> None:
    """That profiles as of a time are what the records until then make, named, exported, and undone."""
    with a_way(kept=kept) as way:
        sent = play(way, run, merge=at % 2 == 0)
        until = min(NOON_MS + at * 1000, way.now_ms)
        expected = fold_of(sent, until)
        for profile_id, document in expected.items():
            assert as_of(way.store.state, (1, "", profile_id), until) == document
        there = {profile_id: document for profile_id, document in expected.items() if document is not None}
        assert dict(all_as_of(way.store, 1, "", until)) == there
        check_history(way)
        for profile_id, document in documents(way.store).items():
            operators = restoring(document, expected[profile_id])
            if operators:
                bare = {name.removeprefix("$"): value for name, value in operators.items()}
                way.submit(record(profile_id, ignore_time=True, **bare))
        way.fold_all()
        assert documents(way.store) == expected, "undone, it stands as it stood"


def check_history(way: Way) -> None:
    """That entries of a property follow from one another, and end in what stands."""
    for profile_id, document in documents(way.store).items():
        after = {name: value for name, value in (document or {}).items() if name != "$last_seen"}
        shown = [
            entry
            for entry in map(entry_view, entries(way.store, profile_id, limit=1000))
            if entry["property"]
        ]
        for entry in shown:
            name = entry["property"]
            assert after.get(name, "gone") == entry.get("new", "gone")
            after.pop(name, None)
            if "old" in entry:
                after[name] = entry["old"]
        assert after == {}


many = settings(deadline=None, suppress_health_check=list(HealthCheck))


@settings(many, max_examples=40)
@given(run=RUNS, at=st.integers(0, 45))
def test_a_profile_as_of_a_time_is_the_fold_of_what_had_come_by_then(run: Run, at: int) -> None:
    check_as_of(run, at, kept=False)


@settings(many, max_examples=6)
@given(run=RUNS, at=st.integers(0, 45))
def test_a_profile_as_of_a_time_in_a_kept_store_is_the_fold_of_what_had_come(run: Run, at: int) -> None:
    check_as_of(run, at, kept=True)


@pytest.mark.slow
@pytest.mark.parametrize("kept", [False, True], ids=["in memory", "kept"])
def test_many_profiles_as_of_a_time_are_the_fold_of_what_had_come_by_then(*, kept: bool) -> None:
    @settings(many, max_examples=300)
    @given(run=RUNS, at=st.integers(0, 45))
    def check(run: Run, at: int) -> None:
        check_as_of(run, at, kept=kept)

    check()
