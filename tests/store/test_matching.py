"""Profiles chosen by a `Selection`: filters, search, order, counts. For every store, which must all agree."""

from __future__ import annotations

import json
import random
import shutil
import time
import tracemalloc
from array import array
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from mixdown.model.errors import ReadTimeoutError
from mixdown.model.expression import Context, parse
from mixdown.model.expression_running import build
from mixdown.store import patience, sorting
from mixdown.store.memory import MemoryStore
from mixdown.store.protocols import State
from mixdown.store.selection import Selection, value_bytes
from mixdown.store.sorting import Keyed, Sorter
from mixdown.store.sqlite import SqliteStore, open_store, scanning
from mixdown.store.sqlite.expressions import compile_filter
from tests.store.support import user, write

CONTEXT = Context(now_s=1_773_187_200)
PEOPLE: dict[str, dict[str, Any]] = {
    "ada": {"plan": "pro", "age": 36, "tags": ["red", {"deep": "Blue"}], "$email": "Ada@Example.com"},
    "bob": {"plan": "free", "age": 17, "active": False},
    "cyd": {"plan": "", "age": "36", "nick": None, "city": "ÅLESUND"},
    "dan": {"age": 36.0, "note": 'say "hi" \\ /', "active": True},
    "eve\n": {"age": 2**62 + 1, "plan": "pro"},
    "Fay": {"age": 2**62, "plan": "pro", "tags": []},
    "\U0001f389": {"age": -1.5, "plan": "Pro", "kelvin": "\u212a"},
    "none": {},
}


def select(where: str = "", **options: Any) -> Selection:
    expressions = (parse(where),) if where else ()
    sort_key = options.pop("sort_key", "")
    return Selection(
        context=CONTEXT, where=expressions, sort_key=parse(sort_key) if sort_key else None, **options
    )


def put(state: State, people: dict[str, dict[str, Any]], project: int = 1, group_key: str = "") -> None:
    rows = [
        (
            (project, group_key, name),
            json.dumps(properties, ensure_ascii=False, separators=(",", ":")).encode(),
        )
        for name, properties in people.items()
    ]
    write(state, rows)


@pytest.fixture
def people(state: State) -> State:
    put(state, PEOPLE)
    put(state, {"other": {"plan": "pro"}}, project=2)
    put(state, {"acme": {"plan": "pro", "age": 3}}, group_key="Company")
    return state


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ('properties["plan"] == "pro"', ["Fay", "ada", "eve\n"]),
        ('properties["plan"] == "pro" and properties["age"] > 100', ["Fay", "eve\n"]),
        ('properties["age"] == 36', ["ada", "dan"]),
        ('properties["age"] > 4611686018427387904', ["eve\n"]),
        ('not defined(properties["plan"])', ["dan", "none"]),
        ('properties["nick"] == null', ["cyd"]),
        ('"red" in properties["tags"]', ["ada"]),
        ('"hi" in properties["note"]', ["dan"]),
        ('properties["$distinct_id"] == "bob"', ["bob"]),
        ('has_prefix(properties["city"], "å")', ["cyd"]),
        ("true", sorted(PEOPLE)),
        ("false", []),
    ],
)
def test_a_filter_chooses_profiles_in_the_order_of_their_ids(
    people: State, where: str, found: list[str]
) -> None:
    assert list(people.matching(1, "", select(where))) == found
    assert people.tally(1, "", [select(where), select("true"), select(where)]) == [
        len(found),
        len(PEOPLE),
        len(found),
    ]


def test_several_filters_all_hold(people: State) -> None:
    both = Selection(
        context=CONTEXT,
        where=(parse('properties["plan"] == "pro"'), parse('properties["age"] < 100')),
        search="ADA",
    )
    assert list(people.matching(1, "", both)) == ["ada"]


def test_projects_and_kinds_are_apart(people: State) -> None:
    pro = select('properties["plan"] == "pro"')
    assert list(people.matching(2, "", pro)) == ["other"]
    assert list(people.matching(1, "Company", pro)) == ["acme"]
    assert list(people.matching(1, "Team", pro)) == []
    assert people.tally(1, "Team", [pro]) == [0]
    assert people.tally(3, "", []) == []


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("ada", ["ada"]),
        ("EXAMPLE.com", ["ada"]),
        ("blue", ["ada"]),
        ("å", ["cyd"]),
        ("ålesund", ["cyd"]),
        ("k", ["\U0001f389"]),
        ('"HI"', ["dan"]),
        ("\\", ["dan"]),
        ("/", ["dan"]),
        ("\n", ["eve\n"]),
        ("plan", []),
        ("36", ["cyd"]),
        ("fAy", ["Fay"]),
    ],
)
def test_a_search_looks_in_ids_and_texts_in_any_case(people: State, search: str, found: list[str]) -> None:
    assert list(people.matching(1, "", select(search=search))) == found
    assert people.tally(1, "", [select(search=search)]) == [len(found)]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (
            {"sort_key": 'properties["age"]'},
            ["\U0001f389", "bob", "ada", "dan", "Fay", "eve\n", "cyd", "none"],
        ),
        (
            {"sort_key": 'properties["age"]', "descending": True},
            ["cyd", "eve\n", "Fay", "ada", "dan", "bob", "\U0001f389", "none"],
        ),
        (
            {"sort_key": 'properties["plan"]'},
            ["cyd", "\U0001f389", "bob", "Fay", "ada", "eve\n", "dan", "none"],
        ),
        (
            {"sort_key": 'properties["plan"]', "descending": True},
            ["Fay", "ada", "eve\n", "bob", "\U0001f389", "cyd", "dan", "none"],
        ),
        ({"sort_key": 'properties["nick"]'}, sorted(PEOPLE)),
        ({"sort_key": 'properties["$distinct_id"]', "descending": True}, sorted(PEOPLE, reverse=True)),
        (
            {"sort_key": '-properties["age"]', "where": 'properties["age"] < 100'},
            ["ada", "dan", "bob", "\U0001f389"],
        ),
        (
            {"sort_key": 'properties["age"]', "search": "pro", "descending": True},
            ["eve\n", "Fay", "ada", "\U0001f389"],
        ),
    ],
)
def test_rows_are_sorted_by_a_value_and_what_has_none_comes_last(
    people: State, options: dict[str, Any], found: list[str]
) -> None:
    assert list(people.matching(1, "", select(**options))) == found


@pytest.mark.parametrize("most", [1, 2, 3, 7, 8, 9, 20_000])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort_key", ["", 'properties["age"]', 'string(properties["plan"])'])
def test_the_first_few_are_those_of_all(people: State, most: int, descending: bool, sort_key: str) -> None:
    options: dict[str, Any] = {"sort_key": sort_key, "descending": descending}
    whole = list(people.matching(1, "", select(**options)))
    few = people.matching(1, "", select(most=most, **options))
    assert list(islice(few, most)) == whole[:most]


def test_values_sort_by_kind_then_by_value_in_both_directions() -> None:
    ordered = [
        False, True, -1e308, -(2**63), -2.5, -1, -0.5, 0, 5e-324, 0.5, 1, 2**53, 2**53 + 1, 2**62, 2**62 + 1,
        2**63 - 1, 1e300, "", "A", "AA", "a", "a\n", "é", "\uffff", "\U0001f389", [1], [], {"a": 1},
    ]  # fmt: skip
    shuffled = random.Random(7).sample(ordered, len(ordered))
    up = sorted(shuffled, key=lambda value: value_bytes(value, descending=False))
    down = sorted(shuffled, key=lambda value: value_bytes(value, descending=True))
    assert repr(up) == repr(ordered)
    assert repr(down) == repr(ordered[::-1])
    for descending in (False, True):
        assert value_bytes(1, descending=descending) == value_bytes(1.0, descending=descending)
        assert value_bytes(0.0, descending=descending) == value_bytes(-0.0, descending=descending)
        nothing = value_bytes(None, descending=descending)
        assert all(value_bytes(value, descending=descending) < nothing for value in ordered)


def fill(state: State) -> None:
    """7,000 profiles in an order that is not that of their ids, and some of other kinds."""
    chance = random.Random(1)
    numbers = chance.sample(range(100_000), 7_000)
    profiles = {
        f"u{number:05}": {"n": number, "plan": chance.choice(["pro", "free", 7]), "é": number % 10}
        for number in numbers
    }
    put(state, profiles)
    put(state, {f"u{number}": {"n": 5} for number in range(300)}, project=2)
    put(state, {f"g{number}": {"n": number} for number in range(300)}, group_key="Company")


@pytest.fixture(scope="module")
def many(
    new_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[SqliteStore, MemoryStore]]:
    """Many profiles in both stores, to be read alone."""
    folder = shutil.copytree(new_folder, tmp_path_factory.mktemp("many") / "data")
    sqlite, memory = open_store(Path(folder), role="fold", create=False), MemoryStore()
    for store in (sqlite, memory):
        fill(store.state)
    yield sqlite, memory
    sqlite.close()
    memory.close()


SELECTIONS = [
    select('properties["plan"] == "pro" and properties["n"] > 50000'),
    select('properties["n"] < 100'),
    select('string(properties["n"]) == "77"'),
    select('properties["é"] == 3', search="77"),
    select('"pro" in properties["plan"]', sort_key='properties["n"]', descending=True),
    select('properties["n"] > 90000', sort_key='properties["é"]'),
    select(sort_key='properties["plan"] + "x"'),
]


@pytest.mark.parametrize("selection", SELECTIONS)
def test_what_sqlite_finds_in_pieces_is_what_memory_finds(
    many: tuple[SqliteStore, MemoryStore], selection: Selection, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite, memory = many
    wanted = list(memory.state.matching(1, "", selection))
    assert list(sqlite.state.matching(1, "", selection)) == wanted
    monkeypatch.setattr(scanning, "_FEW_SAMPLES", scanning._SAMPLES + 1)  # all of it by rowids
    assert list(sqlite.state.matching(1, "", selection)) == wanted
    assert sqlite.state.tally(1, "", SELECTIONS) == memory.state.tally(1, "", SELECTIONS)
    for project, group_key in ((2, ""), (1, "Company")):
        assert list(sqlite.state.matching(project, group_key, selection)) == list(
            memory.state.matching(project, group_key, selection)
        )


def test_pieces_that_are_too_large_are_read_in_parts(
    opened: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "PIECE_LIMIT_BYTES", 4000)
    put(opened.state, {f"u{number:03}": {"n": number, "pad": "x" * (number * 20)} for number in range(300)})
    selection = select(sort_key='-properties["n"]')
    assert list(opened.state.matching(1, "", selection)) == [f"u{number:03}" for number in range(299, -1, -1)]


def test_a_read_that_takes_too_long_ends(many: tuple[SqliteStore, MemoryStore]) -> None:
    state = many[0].state
    with patience.until(time.monotonic() + 0.002, 0.002), pytest.raises(ReadTimeoutError):
        state.tally(1, "", SELECTIONS * 20)


def test_a_long_read_holds_no_snapshot(opened: SqliteStore) -> None:
    """A checkpoint completes while a result is being read."""
    state = opened.state
    fill(state)
    found = state.matching(1, "", SELECTIONS[6])
    next(found)
    write(state, [(user("later"), b'{"n":1}')], watermark=5)
    assert state.checkpoint() == 5
    assert len(list(found)) == 6_999


def test_an_index_narrows_what_is_read(
    many: tuple[SqliteStore, MemoryStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seam for indexes: candidates may be too many, and what they leave out is not looked at."""
    sqlite, memory = many
    selection = select('properties["n"] < 100')
    wanted = list(memory.state.matching(1, "", selection))
    asked: list[Any] = []

    def narrow(connection: Any, project: int, group_id: int, where: Any, context: Context) -> Any:
        asked.append((project, group_id, [each.text for each in where], context))
        return array(
            "q", [row[0] for row in connection.execute("SELECT rowid FROM profiles WHERE id < 'u5'")]
        )

    monkeypatch.setattr(sqlite.state._scanner, "_narrow", narrow)
    assert list(sqlite.state.matching(1, "", selection)) == wanted
    assert asked == [(1, 0, ['properties["n"] < 100'], CONTEXT)]


def test_many_long_filters_are_counted(state: State) -> None:
    put(state, {f"u{number}": {"n": number} for number in range(10)})
    listed = ", ".join(map(str, range(5, 21)))
    long = " or ".join([f'properties["n"] in [{listed}]'] * 230)
    selections = [select(f'properties["n"] == {number} or {long}') for number in range(10)]
    assert state.tally(1, "", selections) == [6] * 5 + [5] * 5


def test_what_stands_deep_in_an_expression_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []

    def noting(node: Any, slots: int, context: Context) -> Any:
        built.append(node)
        return build(node, slots, context)

    monkeypatch.setattr("mixdown.store.filters.build", noting)
    wide = " or ".join(f'properties["n"] == {number}' for number in range(100))
    compile_filter(parse("boolean(" * 40 + wide + ")" * 40), CONTEXT)
    assert 100 <= len(built) <= 200


def test_a_sorter_of_large_items_holds_few_of_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorting, "HELD_LIMIT_BYTES", 4 * 1024 * 1024)
    pairs = [(b"%04d" % (number * 7919 % 10007) + b"x" * 100_000, str(number)) for number in range(200)]
    with closing(Sorter[Keyed](Keyed, tmp_path)) as sorter:
        for pair in pairs:
            sorter.add([pair])
        tracemalloc.start()
        try:
            assert [key[:4] for key, _ in sorter] == sorted(key[:4] for key, _ in pairs)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(sorter._runs) >= 4
    assert most < 6 * 1024 * 1024


def test_a_sorter_gives_all_in_order_whatever_memory_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorting, "HELD_LIMIT_BYTES", 20_000)
    texts = [f"{number * 7919 % 10007:05}é" for number in range(10_000)]
    with closing(Sorter[str](str, tmp_path)) as sorter:
        for start in range(0, len(texts), 100):
            sorter.add(texts[start : start + 100])
        assert len(sorter._runs) > 10
        assert list(sorter) == sorted(texts)
    pairs = [(text.encode() * 2, text) for text in texts]
    with closing(Sorter[Keyed](Keyed, tmp_path)) as keyed:
        keyed.add(pairs[:5000])
        keyed.add(pairs[5000:])
        assert list(keyed) == sorted(pairs)
    assert list(tmp_path.iterdir()) == [], "its files have no names"
