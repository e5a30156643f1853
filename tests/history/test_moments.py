"""When a profile changed, and when each of its properties last did."""

from __future__ import annotations

import pytest

from mixdown.query import moments
from mixdown.query.moments import moments_of
from tests.fold.conftest import Way, record
from tests.history.support import U1, entries, step


def test_moments_are_the_times_at_which_something_changed_newest_first(way: Way) -> None:
    first = step(way, record(set={"plan": "free", "n": 1}))
    step(way, record(set={"plan": "free"}))
    last = step(way, record(set={"plan": "pro"}), record(add={"n": 1}))
    found = moments_of(way.store.state, U1)
    assert [(one.time_ms, one.changes, one.whole) for one in found.moments] == [
        (last, 2, ""),
        (first, 2, "created"),
    ]
    assert not found.more


def test_each_property_that_stands_has_its_last_change_and_no_other(way: Way) -> None:
    first = step(way, record(set={"plan": "free", "n": 1, "gone": True}))
    second = step(way, record(append={"list": 1}, unset=["gone"]))
    found = moments_of(way.store.state, U1).changed
    told = {name: (one.time_ms, one.operator) for name, one in found.items() if name != "$last_seen"}
    assert told == {"plan": (first, "$set"), "n": (first, "$set"), "list": (second, "$append")}


def test_a_profile_that_was_deleted_and_came_again_tells_both(way: Way) -> None:
    step(way, record(set={"plan": "free"}))
    step(way, record(delete=""))
    step(way, record(set={"plan": "pro"}))
    found = moments_of(way.store.state, U1)
    assert [one.whole for one in found.moments] == ["created", "deleted", "created"]


def test_a_walk_that_has_looked_at_enough_says_where_it_ended(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    step(way, record(set={"old": 1}))
    times = [step(way, record(set={"new": number})) for number in range(5)]
    monkeypatch.setattr(moments, "LOOKS_LIMIT", 14)
    found = moments_of(way.store.state, U1)
    assert found.more
    assert set(found.changed) == {"new"}
    assert found.before_ms in times
    assert found.moments[-1].time_ms > found.before_ms


def test_no_more_moments_are_told_than_the_limit_and_the_last_changes_all_the_same(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = step(way, record(set={"old": 1}))
    for number in range(5):
        step(way, record(set={"new": number}))
    monkeypatch.setattr(moments, "MOMENTS_LIMIT", 3)
    found = moments_of(way.store.state, U1)
    assert len(found.moments) == 3
    assert found.more
    assert found.changed["old"].time_ms == first


def test_a_page_of_history_takes_operators_apart(way: Way) -> None:
    step(way, record(set={"n": 1, "plan": "free"}))
    step(way, record(add={"n": 1}))
    assert [one.new for one in entries(way.store, operators=["$add"])] == [2]
    assert [one.property for one in entries(way.store, operators=["$set"], names=["plan"])] == ["plan"]
