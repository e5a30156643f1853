"""Indexes on properties: they never change an answer, however profiles and indexes come and go."""

from __future__ import annotations

import random
from array import array
from typing import Any

import orjson
import pytest

from mixdown.model.errors import CatalogError
from mixdown.model.expression import Context, matches, parse
from mixdown.store.bounds import INDEXES_PER_PROJECT
from mixdown.store.protocols import ProfileKey, State
from mixdown.store.selection import Selection
from mixdown.store.sqlite import SqliteStore, indexes, open_store
from tests.store.support import user, write

CONTEXT = Context(now_s=1_773_187_200)
LONG = "x" * 100
VALUES: tuple[Any, ...] = (
    *("pro", "free", "Pro", "", "5", LONG, LONG + "y", "é", "\U0001f389"),
    *(0, 5, 5.0, -1.5, 2**62, 2**62 + 1, 1e300, True, False, None, [], ["pro"], {"a": 1}),
)
CONDITIONS = (
    *('properties["v"] == "pro"', '"free" == properties["v"]', 'user["v"] == ""', 'properties["v"] == 5'),
    *('properties["v"] == 4611686018427387905', 'properties["v"] == true', 'properties["v"] == null'),
    *('properties["v"] == undefined', 'properties["v"] != "pro"', 'not properties["v"] == "pro"'),
    *('properties["v"] in ["pro", 5, true]', 'properties["v"] in ["pro", null]', '"r" in properties["v"]'),
    *(
        'properties["v"] in "professional"',
        'properties["v"] > 1',
        'properties["v"] <= 5',
        '1 < properties["v"]',
    ),
    *('properties["v"] >= "pro"', 'properties["v"] < "q"', f'properties["v"] == "{LONG}"'),
    *(f'properties["v"] > "{LONG}"', f'properties["v"] <= "{LONG}"', 'properties["v"] > false'),
    *(
        'properties["v"] == "pro" or properties["w"] == 1',
        'properties["v"] == "pro" and properties["w"] == 1',
    ),
    *('properties["w"] == 1 and properties["v"] in [5, "free"]', 'number(properties["v"]) == 5', "true"),
    *('properties["v"] == properties["w"]', 'properties["v"] == NOW', 'properties["v"] == "none of them"'),
    *('properties["v"] == datetime(5)', 'properties["v"] == "pro" and false', 'properties["v"]'),
)


@pytest.fixture(autouse=True)
def however_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use an index also where reading everything would be quicker."""
    monkeypatch.setattr(indexes, "MOST_SHARE", 0.25)


def build(state: State) -> None:
    while state.build_indexes(7):
        pass


def found(state: State, where: str, group_key: str = "", project: int = 1) -> list[str]:
    return list(state.matching(project, group_key, Selection(context=CONTEXT, where=(parse(where),))))


def drawn(source: random.Random) -> dict[str, Any]:
    properties = {"w": source.choice((1, 2))}
    return properties if source.random() < 0.2 else {**properties, "v": source.choice(VALUES)}


def expected(profiles: dict[str, dict[str, Any]], where: str) -> list[str]:
    return sorted(name for name, held in profiles.items() if matches(parse(where), held, name, CONTEXT))


@pytest.mark.parametrize("seed", range(3))
def test_answers_are_the_same_before_while_and_after_an_index_is_built(state: State, seed: int) -> None:
    source = random.Random(seed)
    profiles = {f"u{n:02}": drawn(source) for n in range(60)}
    write(state, [(user(name), orjson.dumps(held)) for name, held in profiles.items()])
    state.add_property_index(1, "", "v")
    for turn in range(8):
        if turn < 4:
            state.build_indexes(20)
        changed = [*source.sample(sorted(profiles), 10), f"new{turn}"]
        rows: list[tuple[ProfileKey, bytes | None]] = []
        for name in changed:
            if source.random() < 0.3:
                profiles.pop(name, None)
                rows.append((user(name), None))
            else:
                profiles[name] = drawn(source)
                rows.append((user(name), orjson.dumps(profiles[name])))
        write(state, rows)
        for where in CONDITIONS:
            assert found(state, where) == expected(profiles, where), where


def test_an_index_is_really_used(opened: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    state = opened.state
    rows = [(user(f"u{n:03}"), orjson.dumps({"v": n % 50, "t": f"t{n}"})) for n in range(500)]
    write(state, rows)
    for name in ("v", "t"):
        state.add_property_index(1, "", name)
    build(state)
    monkeypatch.setattr(indexes, "MOST_SHARE", 4)
    narrow = indexes.narrow
    given: list[int | None] = []

    def watched(*arguments: Any) -> array[int] | None:
        rowids = narrow(*arguments)
        given.append(None if rowids is None else len(rowids))
        return rowids

    monkeypatch.setattr(state._scanner, "_narrow", watched)
    for where, rowids in (
        ('properties["v"] == 7', 10),
        ('properties["v"] == 7 and properties["t"] == "t7"', 1),
        ('properties["v"] in [7, 8]', 20),
        ('properties["v"] > 45', 50),  # 45 as well, which the filter then leaves out
        ('properties["v"] > 10', None),
        ('properties["v"] != 7', None),
        ('properties["v"] == 7 or properties["t"] == "t7"', None),
        ('properties["v"] == 777', 0),
    ):
        assert found(state, where) == found(state, f"({where}) == true")
        assert given[-2:] == [rowids, None], where


def test_another_kind_and_another_project_are_left_alone(state: State) -> None:
    write(state, [(user("a"), b'{"v":1}'), (user("a", 2), b'{"v":1}'), ((1, "Company", "x"), b'{"v":1}')])
    state.add_property_index(1, "Company", "v")
    build(state)
    write(state, [(user("b"), b'{"v":1}'), (user("b", 2), b'{"v":1}'), ((1, "Company", "y"), b'{"v":1}')])
    assert found(state, 'properties["v"] == 1', "Company") == ["x", "y"]
    assert found(state, 'properties["v"] == 1') == ["a", "b"]
    assert found(state, 'properties["v"] == 1', project=2) == ["a", "b"]


def test_definitions_are_listed_and_bounded_and_go(state: State) -> None:
    write(state, [((1, "Company", "x"), b'{"v":1}')])
    made = state.add_property_index(1, "Company", "v")
    assert state.property_indexes(1) == [made]
    with pytest.raises(CatalogError, match="already"):
        state.add_property_index(1, "Company", "v")
    with pytest.raises(CatalogError, match="group key"):
        state.add_property_index(1, "Team", "v")
    build(state)
    assert [(index.name, index.group_key, index.complete) for index in state.property_indexes(1)] == [
        ("v", "Company", True)
    ]
    state.drop_property_index(1, "Company", "v")
    with pytest.raises(CatalogError, match="no index"):
        state.drop_property_index(1, "Company", "v")
    assert state.property_indexes(1) == []
    build(state)
    for number in range(INDEXES_PER_PROJECT):
        state.add_property_index(1, "", f"p{number}")
    with pytest.raises(CatalogError, match="at most"):
        state.add_property_index(1, "", "more")
    assert state.property_indexes(2) == []


def test_an_index_outlives_a_restart_and_may_be_asked_for_by_another_process(opened: SqliteStore) -> None:
    write(opened.state, [(user(f"u{n}"), b'{"v":%d}' % n) for n in range(30)])
    other = open_store(opened.folder, role="cli", create=False)
    other.state.add_property_index(1, "", "v")
    assert opened.state.build_indexes(10)
    opened.close()
    again = open_store(opened.folder, role="fold", create=False)
    try:
        build(again.state)
        assert found(other.state, 'properties["v"] == 17') == ["u17"]
        [index] = other.state.property_indexes(1)
        assert (index.complete, index.profiles) == (True, 30)
        other.state.drop_property_index(1, "", "v")
        build(again.state)
        assert found(other.state, 'properties["v"] == 17') == ["u17"]
    finally:
        other.close()
        again.close()
