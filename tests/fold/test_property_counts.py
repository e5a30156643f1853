"""Counts of properties: the fold's differences end where counting every document anew would end."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import orjson
import pytest

from mixdown.fold import profiles
from mixdown.fold.profiles import ProfileFold
from mixdown.model.kinds import kind_of
from mixdown.model.operators import apply_operations
from mixdown.store.protocols import FoldResult
from tests.fold.conftest import Way, record

Counts = dict[str, dict[str, int]]
NAMES = ("a", "b", "list", "when")
VALUES = (1, 2.5, "text", True, None, {"k": 1}, ["x"], "2026-01-15T12:00:00", "2026-01-15T12:00:0?")


def counted(way: Way, group_key: str = "") -> Counts:
    found = way.store.state.property_counts(way.project.id, group_key, limit=100)
    assert found.complete
    return found.counts


def recounted(way: Way, group_key: str = "") -> Counts:
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for _, document in way.store.state.page(way.project.id, group_key, offset=0, limit=10_000):
        for name, value in orjson.loads(document).items():
            counts[name][kind_of(value)] += 1
    return {name: dict(kinds) for name, kinds in counts.items()}


def drawn(source: random.Random, profiles: int = 12) -> dict[str, Any]:
    """A record of any operator on one of a few profiles."""
    name, value = source.choice(NAMES), source.choice(VALUES)
    operator, payload = source.choice(
        [
            ("set", {name: value, source.choice(NAMES): source.choice(VALUES)}),
            ("set_once", {name: value}),
            ("add", {name: 1}),
            ("append", {name: value}),
            ("union", {name: [value]}),
            ("remove", {name: value}),
            ("unset", [name]),
            ("merge", {name: value}),
            ("delete", ""),
        ]
    )
    return record(f"u{source.randrange(profiles):02}", **{operator: payload})


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("overlapped", [False, True])
def test_counts_follow_every_operator(
    way: Way, seed: int, overlapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if overlapped:
        monkeypatch.setattr(profiles, "OVERLAP_FROM_PROFILES", 1)
    source = random.Random(seed)
    for _ in range(8):
        way.submit(*[drawn(source) for _ in range(source.randrange(1, 40))])
        way.fold_all()
        assert counted(way) == recounted(way)
    assert recounted(way)


@pytest.mark.parametrize("value", VALUES)
def test_a_merge_into_nothing_counts_what_it_stores(way: Way, value: Any) -> None:
    way.submit(record(set={"other": 1}))
    way.fold_all()
    way.submit(record(merge={"a": value}))
    way.fold_all()
    assert counted(way) == recounted(way)
    assert counted(way)["a"] == {kind_of(value): 1}


def test_groups_are_counted_by_their_key(way: Way) -> None:
    for key, name in (("Company", "size"), ("Team", "wins")):
        way.submit(
            {"$token": "TOK", "$group_key": key, "$group_id": "x", "$set": {name: 1}}, endpoint="groups"
        )
    way.fold_all()
    assert counted(way, "Company") == {"size": {"number": 1}, "$last_seen": {"datetime": 1}}
    assert counted(way, "Team") == {"wins": {"number": 1}, "$last_seen": {"datetime": 1}}
    assert counted(way) == counted(way, "none of them") == {}


def test_a_property_that_nobody_holds_any_more_goes(way: Way) -> None:
    way.submit(record(set={"n": 1}))
    way.fold_all()
    way.submit(record(unset=["n"]))
    way.fold_all()
    assert counted(way) == {"$last_seen": {"datetime": 1}}


def test_the_most_frequent_properties_come_first_and_the_rest_is_cut(way: Way) -> None:
    way.submit(*[record(f"u{n}", set={"every": 1, **({"some": 1} if n else {})}) for n in range(3)])
    way.submit(record("u0", set={"rare": 1}))
    way.fold_all()
    found = way.store.state.property_counts(way.project.id, "", limit=3).counts
    assert list(found) == ["$last_seen", "every", "some"]


def test_a_record_that_cannot_be_applied_counts_nothing(way: Way) -> None:
    def apply(doc: Any, operations: Any, **options: Any) -> Any:
        if any("bad" in payload for _, payload in operations):
            raise RuntimeError
        return apply_operations(doc, operations, **options)

    way.fold = ProfileFold(way.store, apply=apply)
    way.submit(record(set={"a": 1}), record(set={"bad": 1}), record(set={"a": "text"}))
    way.fold_all()
    assert counted(way) == recounted(way) == {"a": {"string": 1}, "$last_seen": {"datetime": 1}}


def test_what_a_failed_transaction_would_have_counted_is_counted_once(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    way.submit(record(set={"a": 1}))

    def failing(result: FoldResult) -> None:
        list(result.profiles)
        raise OSError("no space")

    monkeypatch.setattr(way.store.state, "write", failing)
    with pytest.raises(OSError, match="no space"):
        way.fold.step()
    monkeypatch.undo()
    way.fold_all()
    assert counted(way) == recounted(way) != {}


@pytest.mark.parametrize("seed", range(4))
def test_profiles_stored_without_counting_are_counted_while_the_fold_goes_on(way: Way, seed: int) -> None:
    source = random.Random(seed)
    rows = [
        ((way.project.id, key, f"u{n:02}"), orjson.dumps({source.choice(NAMES): source.choice(VALUES)}))
        for key in ("", "Company")
        for n in range(30)
    ]
    state = way.store.state
    state.write(FoldResult(state.watermark(), rows, [], 0))
    pieces = 0
    while state.count_properties(source.randrange(1, 9)):
        pieces += 1
        way.submit(*[drawn(source, profiles=40) for _ in range(5)])
        way.submit(
            {"$token": "TOK", "$group_key": "Company", "$group_id": f"u{pieces:02}", "$unset": ["a", "b"]},
            {"$token": "TOK", "$group_key": "Team", "$group_id": "x", "$set": {f"n{pieces}": 1}},
            endpoint="groups",
        )
        way.fold_all()
    way.submit(*[drawn(source, profiles=40) for _ in range(20)])
    way.fold_all()
    for key in ("", "Company", "Team"):
        assert counted(way, key) == recounted(way, key)


def test_counting_says_that_it_is_not_complete(way: Way) -> None:
    state = way.store.state
    rows = [((way.project.id, "", f"u{n}"), b'{"n":1}') for n in range(3)]
    state.write(FoldResult(0, rows, [], 0))
    if not state.uncounted():
        return  # a store that counts when asked has nothing to catch up with
    assert state.property_counts(way.project.id, "", limit=9).complete is False
    assert state.count_properties(2) == 2
    half = state.property_counts(way.project.id, "", limit=9)
    assert (half.counts, half.complete) == ({"n": {"number": 2}}, False)
    assert [state.count_properties(2), state.count_properties(2)] == [1, 0]
    assert counted(way) == {"n": {"number": 3}}
