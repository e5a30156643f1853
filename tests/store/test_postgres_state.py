"""What a state in PostgreSQL alone has to say: late writers, ids of any length, partitions, views."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from mixdown.model.errors import LeaseLostError, StoreError
from mixdown.model.expression import Context, parse
from mixdown.store.places import first_of, profile_key_text
from mixdown.store.postgres import PostgresStore, looking, open_postgres
from mixdown.store.postgres.documents import all_for_jsonb, bytes_for_jsonb
from mixdown.store.postgres.ids import KEY_BYTES, key_for_write, key_of, keys_of
from mixdown.store.postgres.leases import FOLD
from mixdown.store.protocols import FoldResult, ProfileKey, State
from mixdown.store.selection import Selection
from tests.store.postgres import Server
from tests.store.support import NOW_MS, user

CONTEXT = Context(now_s=1_773_187_200)
PARTITIONS = 3


def fold(state: State, begin: int, end: int, *profiles: tuple[ProfileKey, bytes | None]) -> None:
    """Write one step."""
    state.write(FoldResult(end, sorted(profiles), (), NOW_MS, begin=begin))


def test_a_step_that_was_folded_from_another_place_writes_nothing(postgres_store: PostgresStore) -> None:
    """As when a commit, of which nobody heard, came to pass after all."""
    state = postgres_store.state
    fold(state, 0, 5, (user("a"), b'{"n":1}'))
    with pytest.raises(LeaseLostError, match="partition 0"):
        fold(state, 0, 6, (user("a"), b'{"n":2}'), (user("b"), b"{}"))
    assert (state.watermark(), list(state.ids(1, ""))) == (5, ["a"])
    assert state.documents([user("a")]) == [b'{"n":1}']
    fold(state, 5, 6, (user("a"), b'{"n":2}'))
    assert state.documents([user("a")]) == [b'{"n":2}']


def test_a_process_that_lost_its_lease_writes_nothing(postgres_store: PostgresStore) -> None:
    state = postgres_store.state
    postgres_store.fences.hold(FOLD, {0: 0})
    fold(state, 0, 1, (user("a"), b"1"))
    postgres_store.database.run(
        "UPDATE mixdown.watermarks SET fence = 7 WHERE partition = 0 AND kind = 'fold'"
    )
    for write in (
        lambda: fold(state, 1, 2, (user("a"), b"2")),
        lambda: state.forget_history([user("a")], below=1),
    ):
        with pytest.raises(LeaseLostError):
            write()
    assert (state.watermark(), state.documents([user("a")])) == (1, [b"1"])
    postgres_store.fences.hold(FOLD, {0: 7})
    fold(state, 1, 2, (user("a"), b"2"))
    postgres_store.fences.hold(FOLD, {})
    with pytest.raises(LeaseLostError):
        fold(state, 2, 3, (user("a"), b"3"))
    assert state.documents([user("a")]) == [b"2"]


def test_what_the_making_of_profiles_raises_undoes_the_step(postgres_store: PostgresStore) -> None:
    state = postgres_store.state

    def made() -> Iterator[tuple[ProfileKey, bytes | None]]:
        for number in range(5000):
            yield user(f"u{number:05}"), b"{}"
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        state.write(FoldResult(9, made(), (), NOW_MS))
    assert (state.watermark(), state.count(1, "")) == (0, 0)


LONG = ["x" * KEY_BYTES, "x" * (KEY_BYTES + 1), "x" * 9000, "é" * 700, json.dumps(list(range(4000)))]


def test_ids_of_any_length_are_kept_apart_and_found(postgres_store: PostgresStore) -> None:
    state = postgres_store.state
    assert len({key_of(each) for each in LONG}) == len(LONG)
    fold(state, 0, 1, *((user(each), orjson.dumps({"n": number})) for number, each in enumerate(LONG)))
    assert state.documents([user(each) for each in LONG]) == [b'{"n":%d}' % n for n in range(len(LONG))]
    assert sorted(state.ids(1, "")) == sorted(LONG)
    assert {name for name, _ in state.profiles_after(1, "", after="", limit=9)} == set(LONG)
    two = Selection(context=CONTEXT, where=(parse('properties["n"] == 2'),))
    assert list(state.matching(1, "", two)) == [LONG[2]]
    after, seen = "", []
    while True:
        looked = state.look(1, "", Selection(context=CONTEXT), after=after, limit=2, rows=2)
        seen += [name for name, _ in looked.profiles]
        if looked.last is None:
            break
        after = looked.last
    assert sorted(seen) == sorted(LONG)
    fold(state, 1, 2, *((user(each), None) for each in LONG))
    assert state.count(1, "") == 0


@pytest.mark.parametrize("text", ['properties["a\\u0000"] == 1', 'properties["a"] == "b\\ud800"'])
def test_what_postgresql_cannot_be_asked_matches_nothing(postgres_store: PostgresStore, text: str) -> None:
    state = postgres_store.state
    fold(state, 0, 1, (user("a"), b'{"a":1}'))
    wanted = Selection(context=CONTEXT, where=(parse(text),))
    assert list(state.matching(1, "", wanted)) == []
    assert state.tally(1, "", [wanted]) == [0]
    assert list(state.matching(1, "", Selection(context=CONTEXT, search="\0\ud800"))) == []


DIGITS = "7" * 900
LARGE = [
    ('{"a":1e23}', '{"a":99999999999999991611392.0}'),
    ('{"a":[-1e16,5]}', '{"a":[-10000000000000000.0,5]}'),
    ('{"a":9007199254740994.0}', '{"a":9007199254740994.0}'),
    ('{"a":"1e23 5e8","id":"0b5bd3f5-9e4f"}', '{"a":"1e23 5e8","id":"0b5bd3f5-9e4f"}'),
    ('{"a":123456789012345678,"b":0.1}', '{"a":123456789012345678,"b":0.1}'),
    (f'{{"a":"{DIGITS}1e5","b":1e300}}', f'{{"a":"{DIGITS}1e5","b":{int(1e300)}.0}}'),
]


@pytest.mark.parametrize(("written", "given"), LARGE)
def test_large_doubles_are_given_to_jsonb_to_their_last_digit(written: str, given: str) -> None:
    assert bytes_for_jsonb(written.encode()).decode() == given


def test_large_doubles_are_found_among_many_documents() -> None:
    plain = [b'{"n":%d,"id":"0b5bd3f5-9e4f"}' % number for number in range(100)]
    assert all_for_jsonb(plain) == plain
    for at in (0, 50, 100):
        for written, given in LARGE:
            among = [*plain[:at], written.encode(), *plain[at:]]
            assert all_for_jsonb(among) == [*plain[:at], given.encode(), *plain[at:]]


def test_keys_of_many_ids_are_those_of_each() -> None:
    for some in ([], ["a", "b"], ["a", "é"], ["a", "x" * 2000], ["a", "b\0"], ["a", "\ud800"]):
        assert list(keys_of(some)) == [key_of(each) for each in some]


def test_profiles_change_on_their_pages_with_an_index_on_a_property_too(
    postgres_store: PostgresStore,
) -> None:
    """No index of PostgreSQL's own is ever made on documents: every update would touch it."""
    state = postgres_store.state
    fold(state, 0, 1, *((user(f"u{n}"), b'{"v":%d}' % n) for n in range(50)))
    state.add_property_index(1, "", "v")
    while state.build_indexes(20):
        pass
    on_profiles = postgres_store.database.rows(
        "SELECT indexname FROM pg_indexes WHERE schemaname = 'mixdown' AND tablename = 'profiles'"
    )
    assert on_profiles == [("profiles_pkey",)]
    found = state.matching(1, "", Selection(context=CONTEXT, where=(parse('properties["v"] == 7'),)))
    assert list(found) == ["u7"]


def test_people_see_profiles_in_views(postgres_store: PostgresStore) -> None:
    fold(
        postgres_store.state,
        0,
        1,
        (user("a"), b'{"plan":"pro","$last_seen":"2026-01-15T12:00:00"}'),
        ((1, "Company", "acme"), b'{"size":3}'),
    )
    rows = postgres_store.database.rows
    assert rows("SELECT distinct_id, properties ->> 'plan', last_seen FROM mixdown.users") == [
        ("a", "pro", "2026-01-15T12:00:00")
    ]
    number = postgres_store.state.group_keys(1)["Company"]
    assert rows("SELECT group_key, data_group_id, group_id, properties FROM mixdown.groups") == [
        ("Company", number, "acme", {"size": 3})
    ]


@pytest.fixture
def spread(postgresql: Server) -> Iterator[PostgresStore]:
    """A store of several partitions with a project that is in all of them."""
    store = open_postgres(postgresql.migrated(partitions=PARTITIONS), role="fold", create=False)
    made = store.catalog.create_project(
        "large", token="t", secret_hash=b"", id_merge="simplified", now_ms=NOW_MS
    )
    store.catalog.enlarge_project(made.id)
    yield store
    store.close()


def test_a_large_project_is_read_whole_and_written_in_parts(spread: PostgresStore) -> None:
    profiles: dict[str, dict[str, Any]] = {f"u{n:03}": {"n": n, "even": n % 2 == 0} for n in range(200)}
    parts: dict[int, list[tuple[ProfileKey, bytes | None]]] = {}
    for name, held in profiles.items():
        partition = spread.partition_of(1, profile_key_text("", name))
        parts.setdefault(partition, []).append((user(name), orjson.dumps(held)))
    assert len(parts) == PARTITIONS
    for partition, some in parts.items():
        begin = first_of(partition)
        fold(spread.partition(partition).state, begin, begin + len(some), *some)
        assert spread.partition(partition).state.count(1, "") == len(some)
    state, names = spread.state, sorted(profiles)
    assert state.watermark() == len(profiles)
    assert list(state.ids(1, "")) == names
    assert state.count(1, "") == len(names)
    asked = [user(name) for name in reversed(names)]
    assert state.documents(asked) == [orjson.dumps(profiles[name]) for name in reversed(names)]
    pages = [name for at in range(0, 210, 7) for name, _ in state.page(1, "", offset=at, limit=7)]
    assert pages == names
    even = Selection(context=CONTEXT, where=(parse('properties["even"]'),))
    assert list(state.matching(1, "", even)) == names[::2]
    assert state.tally(1, "", [even]) == [100]
    after, seen = "", []
    while True:
        looked = state.look(1, "", even, after=after, limit=7, rows=30)
        seen += [name for name, _ in looked.profiles]
        if looked.last is None:
            break
        after = looked.last
    assert seen == names[::2]
    assert state.id_after(1, "", "u010", 5) == "u015"
    with pytest.raises(StoreError, match="several partitions"):
        state.write(FoldResult(1, (), (), NOW_MS))


@pytest.mark.parametrize(("spare", "room"), [(8, 1 << 25), (1, 1 << 25), (1, 600)])
def test_pages_over_several_partitions_are_those_of_one(
    spread: PostgresStore,
    postgres_store: PostgresStore,
    monkeypatch: pytest.MonkeyPatch,
    spare: int,
    room: int,
) -> None:
    """Where a partition is asked for too few, as well, and where few documents are taken at once."""
    chance = random.Random(7)
    ids = [f"u{number:05}" for number in chance.sample(range(10**5), 90)] + [
        f"{'x' * 1500}{n}" for n in range(9)
    ]
    rows = [(user(name), orjson.dumps({"n": n % 7, "t": "äb"[n % 2] * n})) for n, name in enumerate(ids)]
    parts: dict[int, list[tuple[ProfileKey, bytes | None]]] = {number: [] for number in range(PARTITIONS)}
    for key, document in rows:
        parts[spread.partition_of(1, profile_key_text("", key[2]))].append((key, document))
    for number, some in parts.items():
        fold(spread.partition(number).state, first_of(number), first_of(number) + len(some), *some)
    fold(postgres_store.state, 0, len(rows), *rows)
    monkeypatch.setattr(looking, "_SPARE", spare)
    monkeypatch.setattr(looking, "FOUND_LIMIT_BYTES", room)
    for where, search in (("", ""), ('properties["n"] == 3', ""), ("false", ""), ("", "ä"), ("", "u001")):
        selection = Selection(context=CONTEXT, where=(parse(where),) if where else (), search=search)
        wanted = list(postgres_store.state.matching(1, "", selection))
        for limit, ahead in ((7, 30), (50, 1000), (400, 60), (400, 99), (9, 5)):
            found, looked_at, after = [], 0, ""
            while True:
                looked = spread.state.look(1, "", selection, after=after, limit=limit, rows=ahead)
                assert len(looked.profiles) <= limit
                assert looked.looked_at <= ahead
                if spare == 8:
                    assert looked == postgres_store.state.look(
                        1, "", selection, after=after, limit=limit, rows=ahead
                    )
                found += [name for name, _ in looked.profiles]
                looked_at += looked.looked_at
                if looked.last is None:
                    break
                assert key_for_write(looked.last) > key_for_write(after or "a")
                after = looked.last
            assert sorted(found) == sorted(wanted), (where, search, limit, ahead)
            assert looked_at == len(ids)
