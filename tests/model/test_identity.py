"""The three modes of identity: tables for what each verb does, and a naive reference for any sequence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixdown.model import identity, texts
from mixdown.model.identity import Identities, IdentityLink, Member, canonical_of, is_anonymous, resolved
from tests.model.identity_reference import Reference

A1 = "0b5bd3f5-9c6f-4b7e-8f5e-2a1c3d4e5f60"
A2 = "$device:1c6ce406-ad70-4c8f-9a6f-3b2d4e5f6071"
BROWSER = "$device:18c1b2a3d4e5f6-0a1b2c3d4e5f67-1e525637-1fa400-18c1b2a3d4e5f6"

Link = tuple[str, str, str]


def after(mode: str, *links: Link) -> tuple[Identities, list[str]]:
    """A project in which these were asked for, and why each failed."""
    known = Identities()
    return known, [
        known.link(mode, verb, one, other, position, 1000 + position)
        for position, (verb, one, other) in enumerate(links)
    ]


def identify(user: str, anonymous: str) -> Link:
    return "identify", user, anonymous


def alias(distinct_id: str, name: str) -> Link:
    return "create_alias", distinct_id, name


def merge(one: str, other: str) -> Link:
    return "merge", one, other


def device(name: str, user: str) -> Link:
    return "device", f"$device:{name}", user


ROWS: list[tuple[str, str, list[Link], dict[str, str], str]] = [
    ("identify links an anonymous id", "original", [identify("u1", A1)], {A1: "u1", "u1": "u1"}, ""),
    ("with the prefix of devices too", "original", [identify("u1", A2)], {A2: "u1"}, ""),
    ("and as browsers made them", "original", [identify("u1", BROWSER)], {BROWSER: "u1"}, ""),
    (
        "an id of another shape stays",
        "original",
        [identify("u1", "not-a-uuid")],
        {"not-a-uuid": "not-a-uuid"},
        texts.LINK_NOT_ANONYMOUS,
    ),
    (
        "the first user keeps it",
        "original",
        [identify("u1", A1), identify("u2", A1)],
        {A1: "u1", "u2": "u2"},
        texts.LINK_ALREADY_MERGED,
    ),
    ("again is no failure", "original", [identify("u1", A1), identify("u1", A1)], {A1: "u1"}, ""),
    ("itself is no failure", "original", [identify("u1", "u1")], {"u1": "u1"}, ""),
    ("a user has many", "original", [identify("u1", A1), identify("u1", A2)], {A1: "u1", A2: "u1"}, ""),
    (
        "a known user is not anonymous",
        "original",
        [identify(A1, A2), identify("u1", A1)],
        {A1: A1, A2: A1},
        texts.LINK_ALREADY_MERGED,
    ),
    ("an empty id", "original", [identify("u1", "")], {}, texts.LINK_EMPTY),
    ("an alias", "original", [alias("u1", "a1")], {"a1": "u1"}, ""),
    (
        "aliases of an alias",
        "original",
        [alias("u1", "a1"), alias("a1", "a2"), alias("a2", "a3")],
        {"a3": "u1", "a2": "u1"},
        "",
    ),
    ("many aliases", "original", [alias("u1", "a1"), alias("u1", "a2")], {"a1": "u1", "a2": "u1"}, ""),
    (
        "an alias is given once",
        "original",
        [alias("u1", "a1"), alias("u2", "a1")],
        {"a1": "u1", "u2": "u2"},
        texts.LINK_ALIAS_TAKEN,
    ),
    (
        "also where ids were one before",
        "original",
        [merge("u1", "a1"), alias("u1", "a1"), alias("u2", "a1")],
        {"a1": "u1", "u2": "u2"},
        texts.LINK_ALIAS_TAKEN,
    ),
    ("an alias of a device is the user", "original", [alias(A2, "u1")], {A2: "u1"}, ""),
    ("merge", "original", [merge("u1", "u2")], {"u2": "u1", "u1": "u1"}, ""),
    (
        "merge joins clusters, the oldest user stays",
        "original",
        [identify("u2", A1), identify("u1", A2), merge("u1", "u2")],
        {"u1": "u2", A1: "u2", A2: "u2"},
        "",
    ),
    (
        "devices alone: the oldest",
        "original",
        [merge("$device:b", "$device:a")],
        {"$device:a": "$device:b"},
        "",
    ),
    (
        "then a user comes",
        "original",
        [merge("$device:b", "$device:a"), merge("$device:a", "u1")],
        {"$device:a": "u1", "$device:b": "u1"},
        "",
    ),
    ("a device and its user", "simplified", [device("D", "u1")], {"$device:D": "u1", "u1": "u1"}, ""),
    ("again", "simplified", [device("D", "u1"), device("D", "u1")], {"$device:D": "u1"}, ""),
    (
        "the first user wins",
        "simplified",
        [device("D", "u1"), device("D", "u2")],
        {"$device:D": "u1", "u2": "u2"},
        texts.LINK_FIRST_USER,
    ),
    (
        "many devices",
        "simplified",
        [device("D", "u1"), device("E", "u1")],
        {"$device:D": "u1", "$device:E": "u1"},
        "",
    ),
    (
        "no device is a user",
        "simplified",
        [device("D", "$device:E")],
        {"$device:D": "$device:D"},
        texts.LINK_DEVICE_AS_USER,
    ),
    (
        "verbs do nothing",
        "simplified",
        [identify("u1", A1), alias("u1", "a"), merge("u1", "u2")],
        {A1: A1, "a": "a", "u2": "u2"},
        "",
    ),
    ("nor what nobody knows", "new", [alias("u1", "a")], {"a": "a"}, ""),
    ("nor a verb that nobody knows", "original", [("split", "u1", "a")], {"a": "a"}, ""),
    ("pairs do nothing", "original", [device("D", "u1")], {"$device:D": "$device:D"}, ""),
    ("an old alias", "legacy", [alias("u1", "a1")], {"a1": "u1"}, ""),
    ("is one hop", "legacy", [alias("u1", "a1"), alias("a1", "a2")], {"a1": "u1", "a2": "a1"}, ""),
    (
        "and given once",
        "legacy",
        [alias("u1", "a1"), alias("u2", "a1")],
        {"a1": "u1"},
        texts.LINK_ALIAS_TAKEN,
    ),
    ("again is no failure there", "legacy", [alias("u1", "a1"), alias("u1", "a1")], {"a1": "u1"}, ""),
    ("identify is inert", "legacy", [identify("u1", A1), merge("u1", "u2")], {A1: A1, "u2": "u2"}, ""),
]


@pytest.mark.parametrize(("name", "mode", "links", "canonical", "why"), ROWS, ids=[row[0] for row in ROWS])
def test_what_verbs_do(name: str, mode: str, links: list[Link], canonical: dict[str, str], why: str) -> None:
    del name
    known, failed = after(mode, *links)
    assert {each: known.canonical(each) for each in canonical} == canonical
    assert failed == [""] * (len(links) - 1) + [why]


def test_an_alias_of_legacy_mode_counts_from_the_record_after_it() -> None:
    known, _ = after("legacy", alias("u9", "a9"), alias("u1", "a1"))
    assert dict(known.changed())["a1"] == Member("a1", "u1", since=2)


def test_a_cluster_holds_500_ids_and_no_more() -> None:
    known, failed = after("original", *[alias("u1", f"a{number}") for number in range(500)])
    assert failed[:499] == [""] * 499
    assert failed[499] == texts.LINK_CLUSTER_FULL.format(limit=500)
    assert known.canonical("a498") == "u1"
    assert known.canonical("a499") == "a499"
    assert known.link("original", "merge", "u1", "x", 600, 0)
    assert not known.link("original", "merge", "x", "y", 601, 0)


def test_two_clusters_that_are_too_large_together_stay_apart() -> None:
    halves = [alias(user, f"{user}-{number}") for user in ("u1", "u2") for number in range(250)]
    known, failed = after("original", *halves, merge("u1", "u2"))
    assert failed[-1] == texts.LINK_CLUSTER_FULL.format(limit=500)
    assert known.canonical("u2") == "u2"


def test_a_full_cluster_is_walked_once_however_often_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    walked: list[str] = []
    walk = identity.reached

    def reached(start: str, by_id: identity.ByID) -> identity.Cluster:
        walked.append(start)
        return walk(start, by_id)

    known = Identities()
    for number in range(1, 500):
        known.link("original", "create_alias", "u1", f"a{number}", number, 0)
    monkeypatch.setattr(identity, "reached", reached)
    for number in range(500, 600):
        assert known.link("original", "create_alias", "a7", f"a{number}", number, 0)
    assert [start for start in walked if start == "a7"] == ["a7"]
    assert known.unmerge("a9", 600, 0) == 1
    assert known.link("original", "create_alias", "u1", "a600", 601, 0) == "", "there is room again"


def test_devices_of_a_user_have_no_limit() -> None:
    known, failed = after("simplified", *[device(str(number), "u1") for number in range(600)])
    assert set(failed) == {""}
    assert known.canonical("$device:599") == "u1"


def test_unmerging_an_id_undoes_the_links_that_name_it_and_frees_it() -> None:
    known, _ = after("original", alias("u1", "a1"), alias("a1", "a2"), identify("u1", A1))
    assert known.unmerge("a1", 9, 2000) == 2
    assert [known.canonical(each) for each in ("a1", "a2", A1)] == ["a1", "a2", "u1"]
    assert known.link("original", "create_alias", "u2", "a1", 10, 2001) == ""
    assert known.canonical("a1") == "u2"
    assert [link.undone_position for link in known.made.values()] == [9, 9, -1, -1]


def test_unmerging_a_user_frees_all_devices_and_the_next_event_links_again() -> None:
    known, _ = after("simplified", device("D", "u1"), device("E", "u1"), device("D", "u2"))
    assert known.unmerge("u1", 9, 2000) == 2
    assert known.canonical("$device:D") == "$device:D"
    assert known.link("simplified", "device", "$device:D", "u2", 10, 2001) == ""
    assert known.canonical("$device:D") == "u2"


def test_unmerging_what_is_linked_to_nothing_does_nothing() -> None:
    known, _ = after("original", alias("u1", "a1"))
    assert known.unmerge("u2", 9, 2000) == 0
    assert known.canonical("a1") == "u1"


def test_forgetting_leaves_no_trace_of_an_id() -> None:
    known, _ = after("original", alias("u1", "a1"), alias("u1", "a2"))
    known.unmerge("a1", 5, 0)
    known.forget("a1")
    assert {name for link in known.made.values() for name in (link.one, link.other)} == {"u1", "a2"}
    assert dict(known.changed()) == {"a1": None, "a2": Member("a2", "u1")}
    assert list(known.forgotten) == ["a1"]


def test_links_tell_the_canonical_id_at_any_time() -> None:
    links = [
        IdentityLink(1, 100, "original", "merge", "u2", "u3", 9, 900),
        IdentityLink(2, 200, "original", "merge", "u1", "u2"),
    ]
    at = {
        time_ms: resolved("u3", [each for each in links if each.was_in_force(time_ms)])
        for time_ms in (99, 100, 200, 899, 900)
    }
    assert at == {99: "u3", 100: "u2", 200: "u2", 899: "u2", 900: "u3"}


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (A1, True),
        (A1.upper(), True),
        (A2, True),
        (BROWSER, True),
        ("$device:$device:" + A1, False),
        ("0b5bd3f59c6f4b7e8f5e2a1c3d4e5f60", False),
        (A1 + "\n", False),
        (A1 + "-1", False),
        ("g" + A1[1:], False),
        ("", False),
    ],
)
def test_anonymous_ids_are_five_groups_of_hex_digits(text: str, is_one: bool) -> None:
    assert is_anonymous(text) == is_one


# --- against the reference

IDS = ["u1", "u2", "u3", "a1", A1, A1[::-1], A2, "$device:D", "$device:E", ""]
VERBS = ["device", "identify", "create_alias", "merge"]
MODES = ["simplified", "original", "legacy"]


def ask(modes: list[str]) -> Any:
    links = st.tuples(
        st.sampled_from(modes), st.sampled_from(VERBS), st.sampled_from(IDS), st.sampled_from(IDS)
    )
    return links | st.tuples(st.just("unmerge"), st.just(""), st.sampled_from(IDS[:-1]), st.just(""))


SEQUENCES = st.one_of(
    *(st.lists(ask([mode]), max_size=25) for mode in MODES), st.lists(ask(MODES), max_size=25)
)


def check_sequence(sequence: list[tuple[str, str, str, str]], limit: int) -> None:
    """The product and the reference agree after each of these."""
    known, naive = Identities(), Reference(limit)
    for position, (mode, verb, one, other) in enumerate(sequence):
        if mode == "unmerge":
            known.unmerge(one, position, position)
            naive.unmerge(one)
        else:
            is_bare = verb == "device" and not one.startswith("$device:")
            first = f"$device:{one}" if is_bare else one
            failed = known.link(mode, verb, first, other, position, position)
            assert bool(failed) != naive.link(mode, verb, first, other, position), (position, failed)
        ids = [*IDS, *(f"$device:{each}" for each in IDS)]
        assert {each: known.canonical(each) for each in ids} == {each: naive.canonical(each) for each in ids}
        members = {each: member for each, member in known.changed() if member is not None}
        assert {each: member.since for each, member in members.items() if member.since} == {
            alias: since for alias, (_, since) in naive.aliases.items()
        }
        in_force = [link for link in known.made.values() if link.in_force]
        for each in ids:  # the links alone tell the same
            assert resolved(each, in_force) == naive.canonical(each)


@given(sequence=SEQUENCES, limit=st.sampled_from([3, 500]), crowd=st.sampled_from([1, 16]))
@settings(max_examples=150, deadline=None)
def test_any_sequence_of_verbs_gives_what_the_naive_reference_gives(
    sequence: list[tuple[str, str, str, str]], limit: int, crowd: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "CLUSTER_LIMIT", limit)
        patch.setattr(identity, "_CROWDED_FROM_IDS", crowd)
        check_sequence(sequence, limit)


def _by_newest(links: Any) -> tuple[str, bool]:
    return canonical_of(
        [IdentityLink(-each.position, 0, each.mode, each.verb, each.one, each.other) for each in links]
    )


MUTANTS: dict[str, tuple[Any, str, Any]] = {
    "any id is anonymous": (identity, "is_anonymous", lambda _text: True),
    "the newest user is canonical": (identity, "canonical_of", _by_newest),
    "one id more in a cluster": (identity, "CLUSTER_LIMIT", 501),
    "the last user wins": (Identities, "_linked", property(lambda _self: set(), lambda _self, _value: None)),
    "aliases are given again": (Identities, "_mapped_to", lambda _self, _alias: None),
    "unmerging parts nothing": (Identities, "_part", lambda _self, _one, _gone: None),
    "aliases hop on": (
        Identities,
        "canonical",
        lambda self, one: one if one not in self._aliases else self.canonical(self._aliases[one].canonical),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_checks_above_catch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, attribute, fault = MUTANTS[name]
    monkeypatch.setattr(where, attribute, fault, raising=False)
    with pytest.raises(AssertionError):
        check_all()


def check_all() -> None:
    for row in ROWS:
        test_what_verbs_do(*row)
    test_a_cluster_holds_500_ids_and_no_more()
    test_unmerging_an_id_undoes_the_links_that_name_it_and_frees_it()
