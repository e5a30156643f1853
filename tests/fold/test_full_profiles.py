"""A profile has a limit, so that one of them cannot take the fold's memory (DESIGN G7)."""

from __future__ import annotations

from typing import Any

import pytest

from mixdown.fold import profiles
from mixdown.fold.profiles import ProfileFold
from tests.fold.conftest import Way, record

LIMIT = 20_000
BIG = ["x" * 200] * 30


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that three lists of 6 kB do not reach, and four do."""
    monkeypatch.setattr(profiles, "PROFILE_LIMIT_BYTES", LIMIT)


def fill(way: Way, names: str) -> None:
    way.submit(*[record(set={name: BIG}) for name in names])


def test_a_full_profile_turns_records_away_and_keeps_them_with_the_reason(way: Way) -> None:
    fill(way, "abcd")
    way.submit(record(set={"e": 1}), record(add={"n": 1}), record("u2", set={"e": 1}))
    way.fold_all()
    profile = way.profile()
    assert profile is not None
    assert set(profile) == set("abcd")
    assert way.profile("u2") == {"e": 1}
    kept = way.store.refusals.listing([way.project.id])
    assert [item.message for item in kept] == [profiles._FULL] * 2
    assert all(item.whole for item in kept)


def test_a_full_profile_can_be_emptied_and_takes_records_again(way: Way) -> None:
    fill(way, "abcd")
    way.submit(record(unset=["a", "b"]), record(set={"e": 1}), record(remove={"c": "x" * 200}))
    way.fold_all()
    profile = way.profile()
    assert profile is not None
    assert (set(profile), profile["c"]) == (set("cde"), [])
    way.submit(record(delete=""), record(set={"f": 1}))
    way.fold_all()
    assert way.profile() == {"f": 1}


@pytest.mark.parametrize("records_a_step", [1, 2, 3, 7, 1000])
def test_what_is_turned_away_does_not_depend_on_how_records_are_grouped(
    way: Way, records_a_step: int
) -> None:
    batch: list[dict[str, Any]] = [record(set={name: BIG}) for name in "abcabcdefg"]
    batch += [record(append={"l": "y" * 100}), record(unset=["a"]), record(append={"l": "z"})]
    for one in batch:
        way.submit(one)
    way.fold = ProfileFold(way.store, max_records=records_a_step)
    way.fold_all()
    profile = way.profile()
    assert profile is not None
    assert (set(profile), profile["l"]) == ({"b", "c", "d", "l"}, ["z"])
    assert len(way.store.refusals.listing(None)) == 4
