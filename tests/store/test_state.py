"""Profiles and the watermark, as the fold writes and readers read them. For every store."""

from __future__ import annotations

import json
import threading

import orjson
import pytest

from mixdown.store import group_ids
from mixdown.store.group_ids import GROUP_ID_MAX, group_id_of, next_group_id
from mixdown.store.protocols import FoldResult, State
from tests.store.support import user, write


def company(profile_id: str, project: int = 1) -> tuple[int, str, str]:
    return project, "Company", profile_id


def test_a_new_state_is_empty(state: State) -> None:
    assert (state.watermark(), state.durable_watermark(), state.count(1, "")) == (0, 0, 0)
    assert state.documents([user("a"), company("a")]) == [None, None]
    assert state.documents([]) == []
    assert list(state.ids(1, "")) == []
    assert state.page(1, "", offset=0, limit=10) == []
    assert state.group_keys(1) == {}


def test_profiles_and_watermark_are_written_together(state: State) -> None:
    write(state, [(user("a"), b'{"n":1}'), (company("x"), b'{"c":1}')], watermark=7)
    assert state.watermark() == 7
    assert state.documents([user("a"), company("x")]) == [b'{"n":1}', b'{"c":1}']


def test_a_document_comes_back_as_it_was_written(state: State) -> None:
    """But for the order of names, which PostgreSQL does not keep: whole numbers and doubles stay apart."""
    documents = [
        '{"é":"\u20ac 🎉","quote":"\\"","nl":"\\n","deep":{"b":[1,"2",null,true,{}],"a":[]}}',
        '{"n":1e23,"i":-9223372036854775808,"f":0.1,"one":1.0,"int":1,"whole":9007199254740994.0}',
        '{"max":9223372036854775807,"double":9223372036854775807.0,"large":1.7976931348623157e308}',
        '{"hex":"3e4","uuid":"0b5bd3f5-9c6f-4b7e-8f5e-2a1c3d4e5f60","list":[1e16,-1e16,"1e16"]}',
        "{}",
    ]
    write(state, [(user(f"u{number}"), text.encode()) for number, text in enumerate(documents)])
    found = state.documents([user(f"u{number}") for number in range(len(documents))])
    assert [said(document) for document in found] == [said(text.encode()) for text in documents]


def said(document: bytes | None) -> str:
    """What a document says, whatever the order of its names; 1 and 1.0 are two things."""
    assert document is not None
    return json.dumps(orjson.loads(document), sort_keys=True)


def test_writing_again_replaces_and_none_deletes(state: State) -> None:
    write(state, [(user("a"), b"{}"), (user("b"), b"{}"), (company("a"), b'{"c":1}')])
    write(state, [(user("a"), b'{"n":2}'), (user("b"), None), (user("never there"), None)])
    assert state.documents([user("a"), user("b"), company("a")]) == [b'{"n":2}', None, b'{"c":1}']
    assert list(state.ids(1, "")) == ["a"]
    write(state, [(user("b"), b'{"again":1}')])
    assert state.documents([user("b")]) == [b'{"again":1}']


def test_documents_come_in_the_order_asked_duplicates_and_strangers_included(state: State) -> None:
    write(state, [(user("a"), b"1"), (user("b"), b"2"), (company("a"), b"3"), (user("a", 2), b"4")])
    asked = [user("b"), company("a"), user("zz"), user("a", 2), user("b"), (9, "Team", "a"), user("a")]
    assert state.documents(asked) == [b"2", b"3", None, b"4", b"2", None, b"1"]


def test_projects_and_group_keys_are_worlds_of_their_own(state: State) -> None:
    write(
        state, [(user("a", 1), b"1"), (user("a", 2), b"2"), ((1, "Team", "a"), b"3"), (company("a", 2), b"4")]
    )
    assert state.documents([user("a", 1), user("a", 2), (1, "Team", "a"), company("a", 2)]) == [
        b"1",
        b"2",
        b"3",
        b"4",
    ]
    assert state.documents([(2, "Team", "a"), company("a", 1), user("a", 3)]) == [None, None, None]
    assert [state.count(project, "") for project in (1, 2, 3)] == [1, 1, 0]
    assert state.page(2, "", offset=0, limit=9) == [("a", b"2")]
    write(state, [(user("a", 1), None)])
    assert state.documents([user("a", 2), (1, "Team", "a")]) == [b"2", b"3"]


ORDERED = [" ", "0", "10", "9", "A", "Z", "a", "a\n", "aa", "b", "z", "é", "\u20ac", "\ufffd", "\U0001f389"]


def test_ids_and_pages_are_in_the_order_of_code_points(state: State) -> None:
    write(state, [(user(profile_id), b"{}") for profile_id in reversed(ORDERED)])
    assert sorted(ORDERED) == ORDERED
    assert list(state.ids(1, "")) == ORDERED
    assert [profile_id for profile_id, _ in state.page(1, "", offset=0, limit=100)] == ORDERED


def test_pages_put_together_are_all_profiles(state: State) -> None:
    write(state, [(user(f"u{number:03}"), b"%d" % number) for number in range(25)])
    pages = [state.page(1, "", offset=offset, limit=10) for offset in (0, 10, 20, 30)]
    assert [len(page) for page in pages] == [10, 10, 5, 0]
    assert [row for page in pages for row in page] == [(f"u{n:03}", b"%d" % n) for n in range(25)]


def test_profiles_behind_an_id_are_read_in_order_until_there_are_none(state: State) -> None:
    write(state, [(user(name), orjson.dumps(name)) for name in ORDERED])
    write(state, [(company("b"), b'"not a user"'), (user("b", 2), b'"not here"')])
    after, read = "", []
    while found := state.profiles_after(1, "", after=after, limit=4):
        read += found
        after = found[-1][0]
    assert read == [(name, orjson.dumps(name)) for name in ORDERED]
    assert state.profiles_after(1, "", after="aaa", limit=1) == [("b", b'"b"')]
    assert state.profiles_after(1, "Company", after="", limit=9) == [("b", b'"not a user"')]
    assert state.profiles_after(1, "Nothing", after="", limit=9) == []


def test_more_ids_than_are_read_at_once_all_come(state: State) -> None:
    write(state, [(user(f"{number:06}"), b"{}") for number in range(20_001)])
    assert list(state.ids(1, "")) == [f"{number:06}" for number in range(20_001)]
    assert state.count(1, "") == 20_001


def test_thousands_of_profiles_are_read_in_one_call(state: State) -> None:
    write(state, [(user(f"{number:06}"), b"%d" % number) for number in range(5000)])
    asked = [user(f"{number:06}") for number in range(9999, -1, -1)]
    assert state.documents(asked) == [b"%d" % n if n < 5000 else None for n in range(9999, -1, -1)]


def test_ids_that_no_profile_can_have_find_nothing(state: State) -> None:
    write(state, [(user("a"), b"{}")])
    assert state.documents([user("a\0b"), user("\ud800"), user("a\0"), user("")]) == [None] * 4


def test_a_group_key_gets_a_number_that_never_changes(state: State) -> None:
    write(
        state,
        [(company("x"), b"{}"), ((1, "Team", "y"), b"{}"), (company("z", 2), b"{}"), (user("a"), b"{}")],
    )
    named = state.group_keys(1)
    assert set(named) == {"Company", "Team"}
    assert all(0 < number <= GROUP_ID_MAX for number in named.values())
    assert named["Company"] == group_id_of(1, "Company")
    assert state.group_keys(2) == {"Company": group_id_of(2, "Company")}
    assert state.group_keys(3) == {}
    write(state, [(company("x"), None), ((1, "A", "a"), b"{}")])
    assert named.items() <= state.group_keys(1).items()


def test_deleting_in_an_unknown_group_key_names_none(state: State) -> None:
    write(state, [(company("x"), None)])
    assert state.group_keys(1) == {}


def test_two_group_keys_that_hash_alike_stay_apart(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("memory_state", "sqlite.state", "postgres.state"):
        monkeypatch.setattr(f"mixdown.store.{module}.group_id_of", lambda *_: GROUP_ID_MAX)
    write(state, [((1, "A", "x"), b"1"), ((1, "B", "x"), b"2"), ((1, "C", "x"), b"3")])
    assert state.group_keys(1) == {"A": GROUP_ID_MAX, "B": 1, "C": 2}
    assert state.documents([(1, "A", "x"), (1, "B", "x"), (1, "C", "x")]) == [b"1", b"2", b"3"]


def test_group_ids_are_fixed_forever() -> None:
    # stored data depends on these numbers: they may never change
    assert group_id_of(1, "Company") == 8780448533442558
    assert next_group_id(group_ids.GROUP_ID_MAX) == 1


def test_readers_in_other_threads_see_what_was_written(state: State) -> None:
    write(state, [(user("a"), b"1")], watermark=1)
    seen: list[object] = []
    thread = threading.Thread(target=lambda: seen.extend([state.watermark(), state.documents([user("a")])]))
    thread.start()
    thread.join()
    assert seen == [1, [b"1"]]


def test_a_reader_never_sees_half_a_write(state: State) -> None:
    ids = [user(f"{number:03}") for number in range(200)]
    write(state, [(key, b"0") for key in ids])
    torn: list[set[bytes | None]] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen = set(state.documents(ids))
            if len(seen) != 1:
                torn.append(seen)

    thread = threading.Thread(target=watch)
    thread.start()
    for number in range(1, 40):
        state.write(FoldResult(number, [(key, b"%d" % number) for key in ids], [], 0))
    done.set()
    thread.join()
    assert torn == []


def test_a_checkpoint_makes_the_watermark_durable(state: State) -> None:
    write(state, [(user("a"), b"1")], watermark=3)
    assert state.checkpoint() == 3
    assert state.durable_watermark() == 3
    write(state, [], watermark=5)
    assert state.durable_watermark() in (3, 5), "a store that loses nothing may say 5"
    assert state.checkpoint() == 5
