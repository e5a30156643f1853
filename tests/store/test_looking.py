"""`State.look`: profiles in the order of their ids, a bounded number at a time. For every store alike."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from mixdown.store.protocols import State
from mixdown.store.selection import Looked
from mixdown.store.sqlite import SqliteStore, looking
from mixdown.store.sqlite import documents as stored
from tests.store.test_matching import PEOPLE, put, select


@pytest.fixture
def people(state: State) -> State:
    put(state, PEOPLE)
    put(state, {"other": {"plan": "pro"}}, project=2)
    put(state, {"acme": {"plan": "pro", "age": 3}}, group_key="Company")
    return state


def pages(
    state: State, where: str = "", *, limit: int, rows: int, **options: Any
) -> Iterator[tuple[list[str], Looked]]:
    """Page after page until there are no more."""
    after: str | None = ""
    for _ in range(10_000):
        assert after is not None
        found = state.look(1, "", select(where, **options), after=after, limit=limit, rows=rows)
        yield [profile_id for profile_id, _ in found.profiles], found
        after = found.last
        if after is None:
            return
    raise AssertionError("it never ends")


@pytest.mark.parametrize(
    ("where", "search"),
    [
        ("", ""),
        ('properties["plan"] == "pro"', ""),
        ('number(properties["age"]) >= 36', ""),
        ("", "red"),
        ("", "ålesund"),
        ('properties["plan"] == "pro"', "ada"),
        ("false", ""),
    ],
)
def test_pages_hold_what_is_wanted_once_in_the_order_of_ids(people: State, where: str, search: str) -> None:
    wanted = list(people.matching(1, "", select(where, search=search)))
    for limit, rows in product((1, 2, 3, 100), (1, 2, 5, 100)):
        found: list[str] = []
        for ids, looked in pages(people, where, limit=limit, rows=rows, search=search):
            found += ids
            assert len(ids) <= limit
            assert looked.looked_at <= rows
        assert found == wanted, (limit, rows)


def test_a_page_ends_at_its_limit_and_says_where(people: State) -> None:
    first = people.look(1, "", select(), after="", limit=2, rows=100)
    assert [name for name, _ in first.profiles] == sorted(PEOPLE)[:2]
    assert (first.looked_at, first.last) == (2, sorted(PEOPLE)[1])
    none_wanted = people.look(1, "", select("false"), after="", limit=2, rows=3)
    assert none_wanted == Looked([], 3, sorted(PEOPLE)[2])
    sparse = people.look(1, "", select('properties["plan"] == "pro"'), after="", limit=2, rows=100)
    assert (sparse.looked_at, sparse.last) == (2, "ada")  # Fay, ada


def test_the_end_is_told_with_the_last_profile(people: State) -> None:
    count = len(PEOPLE)
    for rows in (count, count + 1):
        assert people.look(1, "", select(), after="", limit=count, rows=rows).last is None
        assert people.look(1, "", select("false"), after="", limit=5, rows=rows) == Looked([], count, None)
    assert people.look(1, "", select(), after=max(PEOPLE), limit=5, rows=5) == Looked([], 0, None)


def test_kinds_and_projects_are_apart_and_an_order_changes_nothing(people: State) -> None:
    descending = select(sort_key='properties["age"]', descending=True)
    assert people.look(1, "", descending, after="", limit=99, rows=99) == people.look(
        1, "", select(), after="", limit=99, rows=99
    )
    groups = people.look(1, "Company", select(), after="", limit=9, rows=9)
    assert [name for name, _ in groups.profiles] == ["acme"]
    assert people.look(1, "Team", select(), after="", limit=9, rows=9) == Looked([], 0, None)
    assert people.look(3, "", select(), after="", limit=9, rows=9) == Looked([], 0, None)


def test_many_pages_of_many_profiles_lose_and_repeat_none(state: State) -> None:
    chance = random.Random(4)
    ids = [f"u{number:06}" for number in chance.sample(range(10**6), 3000)]
    put(state, {name: {"n": int(name[1:]) % 7} for name in ids})
    wanted = sorted(name for name in ids if int(name[1:]) % 7 == 3)
    for limit, rows in ((50, 100), (7, 1000), (1000, 64)):
        found = [
            each for page, _ in pages(state, 'properties["n"] == 3', limit=limit, rows=rows) for each in page
        ]
        assert found == wanted


def test_a_long_stretch_is_looked_through_in_parts_with_the_same_pages(
    opened: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = opened.state
    put(state, {f"u{number:04}": {"n": number % 7, "text": "x" * number} for number in range(400)})
    where = 'properties["n"] in [3, 4]'
    for limit, rows in ((1, 90), (5, 100), (60, 399), (500, 400), (500, 1000)):
        whole = list(pages(state, where, limit=limit, rows=rows))
        with monkeypatch.context() as patch:
            patch.setattr(looking, "SPLIT_FROM_ROWS", 2)
            assert list(pages(state, where, limit=limit, rows=rows)) == whole
            patch.setattr(stored, "FOUND_LIMIT_BYTES", 1500)
            few = list(pages(state, where, limit=limit, rows=rows))
        ids = [each for some, _ in whole for each in some]
        assert [each for some, _ in few for each in some] == ids
        assert max(len(some) for some, _ in few) <= max(len(some) for some, _ in whole)


def test_large_profiles_come_few_at_a_time(opened: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(opened.state, {f"u{number}": {"text": "x" * 1000} for number in range(9)})
    monkeypatch.setattr(stored, "FOUND_LIMIT_BYTES", 2500)
    sizes = [len(ids) for ids, _ in pages(opened.state, limit=5, rows=100)]
    assert sizes == [3, 3, 3]
    assert sum(len(ids) for ids, _ in pages(opened.state, "true", limit=5, rows=100)) == 9


@pytest.mark.parametrize("candidates", [0, 10, 5000])
def test_an_index_on_a_property_changes_no_page(
    opened: SqliteStore, monkeypatch: pytest.MonkeyPatch, candidates: int
) -> None:
    state = opened.state
    put(state, {f"u{number:04}": {"n": number % 50, "m": number % 3} for number in range(500)})
    where = 'properties["n"] == 7 and number(properties["m"]) == 1'
    before = [ids for ids, _ in pages(state, where, limit=2, rows=10_000) if ids]
    state.add_property_index(1, "", "n")
    while state.build_indexes(100):
        pass
    monkeypatch.setattr(looking, "CANDIDATES_LIMIT", candidates)
    looked = list(pages(state, where, limit=2, rows=10_000))
    assert [ids for ids, _ in looked if ids] == before
    assert before
    if candidates == 5000:
        assert looked[0][1].looked_at == 10
    assert [ids for ids, _ in pages(state, 'properties["n"] == 99', limit=2, rows=10)] == [[]]
