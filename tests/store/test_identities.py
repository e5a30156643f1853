"""Links of identities, as the fold writes and readers read them. For every store."""

from __future__ import annotations

import pytest

from mixdown.model.identity import Identities, Member
from mixdown.store import identities
from mixdown.store.identities import known_of, members_by, writes_of
from mixdown.store.protocols import FoldResult, State
from tests.store.support import NOW_MS

MANY = 12_000
UUID = "0b5bd3f5-9c6f-4b7e-8f5e-2a1c3d4e5f60"


def asked(state: State, project: int = 1, *ids: str) -> Identities:
    """What a store knows of these ids, ready for more links."""
    return known_of(state, project, ids, joining=[(one, one) for one in ids], parting=ids)


def write(state: State, known: Identities, project: int = 1) -> None:
    """Write what changed."""
    state.write(FoldResult(state.watermark(), (), (), NOW_MS, identities=[writes_of(project, known)]))


def link(state: State, mode: str, *links: tuple[str, str, str], project: int = 1, first: int = 0) -> None:
    """Ask for links, in one transaction."""
    known = asked(state, project, *{each for _, one, other in links for each in (one, other)})
    for position, (verb, one, other) in enumerate(links, first):
        assert known.link(mode, verb, one, other, position, NOW_MS + position) == ""
    write(state, known, project)


def test_a_new_state_knows_nobody(state: State) -> None:
    assert state.linked_projects() == frozenset()
    assert state.canonical(1, ["a", "b"]) == {"a": "a", "b": "b"}
    assert state.canonical(1, []) == {}
    assert state.members(1, ["a"]) == []
    assert list(state.all_members(1)) == []
    assert state.linked(1, "a") == ["a"]
    assert state.links(1, ["a"], limit=10) == []
    assert state.named(1, ["a"]) == set()


def test_linked_ids_have_one_canonical_id(state: State) -> None:
    link(state, "original", ("create_alias", "u1", "a1"), ("create_alias", "a1", "a2"))
    assert state.canonical(1, ["a2", "u1", "a1", "x", "a2"]) == {"a2": "u1", "u1": "u1", "a1": "u1", "x": "x"}
    assert sorted(state.members(1, ["a2", "u1", "a1"])) == [Member("a1", "u1"), Member("a2", "u1")]
    assert [state.linked(1, each) for each in ("u1", "a2")] == [["u1", "a1", "a2"], ["u1", "a2", "a1"]]
    assert state.named(1, ["u1", "a2", "x"]) == {"u1", "a2"}
    assert [(each.verb, each.one, each.other) for each in state.links(1, ["a2"], limit=10)] == [
        ("create_alias", "u1", "a1"),
        ("create_alias", "a1", "a2"),
    ]


def test_links_keep_where_and_when_they_came(state: State) -> None:
    link(state, "simplified", ("device", "$device:D", "u1"), first=7)
    (made,) = state.links(1, ["u1"], limit=10)
    assert (made.position, made.time_ms, made.mode, made.verb) == (7, NOW_MS + 7, "simplified", "device")
    assert made.in_force


def test_projects_are_worlds_of_their_own(state: State) -> None:
    link(state, "original", ("merge", "u1", "u2"), project=2)
    link(state, "original", ("merge", "u2", "u1"), project=9)
    assert [state.canonical(project, ["u2"])["u2"] for project in (1, 2, 9)] == ["u2", "u1", "u2"]
    assert state.linked_projects() == {2, 9}
    assert state.links(1, ["u1"], limit=10) == []


def test_a_later_step_goes_on_from_what_is_known(state: State) -> None:
    link(state, "original", ("merge", "u1", "u2"))
    link(state, "original", ("merge", "u3", "u4"), first=10)
    link(state, "original", ("merge", "u4", "u2"), first=20)
    assert set(state.canonical(1, ["u1", "u2", "u3", "u4"]).values()) == {"u1"}
    assert state.linked(1, "u4")[0] == "u1"


def test_what_was_undone_is_history_and_links_nobody(state: State) -> None:
    link(state, "original", ("merge", "u1", "u2"), ("merge", "u2", "u3"))
    known = asked(state, 1, "u2")
    assert known.unmerge("u2", 50, NOW_MS + 50) == 2
    write(state, known)
    assert state.canonical(1, ["u2", "u3"]) == {"u2": "u2", "u3": "u3"}
    assert state.links(1, ["u2"], limit=10) == []
    assert state.named(1, ["u1", "u2"]) == set()
    undone = state.links(1, ["u3"], limit=10, undone=True)
    assert [(each.other, each.undone_position, each.undone_ms) for each in undone] == [
        ("u2", 50, NOW_MS + 50),
        ("u3", 50, NOW_MS + 50),
    ]


def test_a_forgotten_id_leaves_no_row(state: State) -> None:
    link(state, "original", ("merge", "u1", "u2"), ("merge", "u2", "u3"))
    known = asked(state, 1, "u2")
    known.unmerge("u2", 50, NOW_MS)
    write(state, known)
    known = asked(state, 1, "u2")
    known.forget("u2")
    write(state, known)
    assert state.links(1, ["u1", "u2", "u3"], limit=10, undone=True) == []


def test_forgetting_a_user_of_more_devices_than_are_looked_at_frees_them_all(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    link(state, "simplified", *[("device", f"$device:{number}", "u1") for number in range(9)])
    monkeypatch.setattr(identities, "LINKS_LIMIT", 3)
    known = known_of(state, 1, ["u1"], parting=["u1"])
    known.forget("u1")
    write(state, known)
    assert state.canonical(1, ["$device:0", "$device:8"]) == {
        "$device:0": "$device:0",
        "$device:8": "$device:8",
    }


def test_an_alias_of_legacy_mode_is_one_hop_to_the_canonical_id_of_its_distinct_id(state: State) -> None:
    link(state, "legacy", ("create_alias", "u1", "a1"), ("create_alias", "a1", "a2"), first=4)
    assert state.canonical(1, ["a1", "a2"]) == {"a1": "u1", "a2": "a1"}
    assert state.members(1, ["a1"]) == [Member("a1", "u1", since=5)]
    assert state.named(1, ["u1", "a1"]) == set()
    assert (state.linked(1, "a1"), state.linked(1, "u1")) == (["u1", "a1"], ["u1", "a1"])
    link(state, "original", ("create_alias", "u9", "u8"), ("merge", "u9", "u1"), first=10)
    assert state.canonical(1, ["a1", "u1"]) == {"a1": "u9", "u1": "u9"}
    found = [Member("a1", "u9", 5), Member("a2", "a1", 6), Member("u1", "u9"), Member("u8", "u9")]
    assert list(state.all_members(1)) == [found]
    assert sorted(state.resolved(1, ["u8", "a1", "a2", "u1", "u9", "x"])) == found


def test_members_follow_from_the_links_alone(state: State) -> None:
    link(state, "original", ("merge", "u1", "u2"), ("create_alias", "u3", "u2"), ("identify", "u9", UUID))
    link(state, "legacy", ("create_alias", "u1", "old"), first=10)
    link(state, "simplified", ("device", "$device:D", "u2"), first=20)
    links = state.links(1, ["u1", "u9", "old"], limit=100)
    members = [state.members(1, [link.one, link.other]) for link in links]
    assert sorted(members_by(links)) == sorted({each for some in members for each in some})


def test_a_walk_along_links_has_a_limit_and_takes_the_nearest_first(state: State) -> None:
    link(state, "original", *[("create_alias", f"a{number}", f"a{number + 1}") for number in range(50)])
    assert len(state.links(1, ["a0"], limit=1000)) == 50
    some = [each.one for each in state.links(1, ["a0"], limit=6)]
    assert some == [f"a{number}" for number in range(len(some))]
    assert 2 <= len(some) <= 6


def test_thousands_are_written_and_read_at_once(state: State) -> None:
    known = Identities()
    for number in range(MANY):
        known.link("simplified", "device", f"$device:{number}", f"u{number % 7}", number, NOW_MS)
    write(state, known)
    found = state.canonical(1, [f"$device:{number}" for number in range(MANY)])
    assert found == {f"$device:{number}": f"u{number % 7}" for number in range(MANY)}
    pages = list(state.all_members(1))
    members = [member for page in pages for member in page]
    assert [member.id for member in members] == sorted(found)
    assert len(state.linked(1, "u3", limit=20)) == 20


@pytest.mark.parametrize(
    "name", ["a\n", "é", "\U0001f389", "'; DROP TABLE identities; --", '"', "x" * 10_000]
)
def test_ids_are_compared_as_they_are(state: State, name: str) -> None:
    link(state, "original", ("merge", "u1", name))
    assert state.canonical(1, [name, name.upper() + "?"])[name] == "u1"
    assert state.linked(1, name) == ["u1", name]


def test_no_lone_surrogate_is_found(state: State) -> None:
    assert state.canonical(1, ["\ud800"]) == {"\ud800": "\ud800"}
