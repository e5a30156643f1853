"""A process keeps what it wrote of profiles: while nobody else can have written, and no more than a bound."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mixdown.model.errors import LeaseLostError, StoreError
from mixdown.store.postgres import PostgresStore, open_postgres
from mixdown.store.postgres.kept import Kept
from mixdown.store.postgres.leases import FOLD
from mixdown.store.postgres.state import PostgresState
from mixdown.store.protocols import FoldResult, ProfileKey
from tests.store.support import NOW_MS, user

UNNOTICED = 'UPDATE mixdown.profiles SET document = \'{"by": "hand"}\' WHERE partition = 0'


def fold(store: PostgresStore, begin: int, end: int, *profiles: tuple[ProfileKey, bytes | None]) -> None:
    """Write one step."""
    store.state.write(FoldResult(end, sorted(profiles), (), NOW_MS, begin=begin))


def test_what_was_written_is_not_asked_for_again(postgres_store: PostgresStore) -> None:
    fold(postgres_store, 0, 1, (user("a"), b'{"n":1}'), (user("b"), b'{"n":2}'))
    postgres_store.database.run(UNNOTICED)
    state = postgres_store.state
    assert state.documents_to_change([user("b"), user("c"), user("a")]) == [b'{"n":2}', None, b'{"n":1}']
    assert state.documents([user("a")]) == [b'{"by":"hand"}']


def test_a_profile_that_is_gone_is_not_kept(postgres_store: PostgresStore) -> None:
    fold(postgres_store, 0, 1, (user("a"), b'{"n":1}'))
    fold(postgres_store, 1, 2, (user("a"), None))
    assert postgres_store.state.documents_to_change([user("a")]) == [None]


def test_what_failed_to_be_written_is_not_kept(
    postgres_store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold(postgres_store, 0, 1, (user("a"), b'{"n":1}'))

    def cut() -> None:
        raise StoreError("the connection is lost")

    monkeypatch.setattr(postgres_store.state, "before_commit", cut)
    with pytest.raises(StoreError, match="is lost"):
        fold(postgres_store, 1, 2, (user("a"), b'{"n":2}'))
    monkeypatch.undo()
    assert postgres_store.state.documents_to_change([user("a")]) == [b'{"n": 1}']


@pytest.mark.parametrize("noticed", ["by its write", "by its leases"])
def test_nothing_is_kept_across_a_lease_that_was_lost(postgres_store: PostgresStore, noticed: str) -> None:
    postgres_store.fences.hold(FOLD, {0: 0})
    fold(postgres_store, 0, 1, (user("a"), b'{"n":1}'))
    raised = "UPDATE mixdown.watermarks SET fence = %s WHERE partition = 0 AND kind = 'fold'"
    postgres_store.database.run(raised, (1,))
    other = open_postgres(str(postgres_store.opened_by["url"]), role="fold", create=False)
    try:
        other.fences.hold(FOLD, {0: 1})
        fold(other, 1, 2, (user("a"), b'{"n":2}'))
        if noticed == "by its write":
            with pytest.raises(LeaseLostError):
                fold(postgres_store, 1, 2, (user("a"), b'{"n":3}'))
        other.database.run(raised, (2,))
        postgres_store.fences.hold(FOLD, {0: 2})
        seen: list[bytes | None] = []

        def profiles() -> Iterator[tuple[ProfileKey, bytes | None]]:
            seen.extend(postgres_store.state.documents_to_change([user("a")]))
            yield user("a"), b'{"n":3}'

        postgres_store.state.write(FoldResult(3, profiles(), (), NOW_MS, begin=2))
    finally:
        other.close()
    assert seen == [b'{"n": 2}']


def test_the_oldest_go_first_and_those_of_all_partitions_are_counted() -> None:
    kept = Kept(limit_bytes=3 * 1400 + 100)
    one, other = kept.owner(), kept.owner()
    large = b"x" * 1000
    one.put([(user("a"), large), (user("b"), large)])
    other.put([(user("a"), b"y" * 1000)])
    one.put([(user("a"), large)])  # written again: the youngest now
    other.put([(user("c"), large)])
    assert one.find([user("a"), user("b"), user("c")]) == [large, None, None]
    assert other.find([user("a"), user("c")]) == [b"y" * 1000, large]
    one.drop()
    assert one.find([user("a")]) == [None]
    other.put([(user("d"), large)])
    assert other.find([user("a"), user("c"), user("d")]) == [b"y" * 1000, large, large]


def test_large_documents_among_small_ones_are_found(postgres_store: PostgresStore) -> None:
    texts = {"a": "x" * 100, "b": "x" * 5_000, "c": "né" * 1_000_000, "d": ""}
    profiles = [(user(name), b'{"t":"%b"}' % text.encode()) for name, text in texts.items()]
    fold(postgres_store, 0, 1, *profiles)
    fresh = PostgresState(postgres_store.database, postgres_store.state._reach)  # type: ignore[attr-defined]
    asked = [user("d"), user("none"), user("c"), user("b"), user("a"), user("n\0ul")]
    found = fresh.documents_to_change(asked)
    assert [None if each is None else each.replace(b": ", b":") for each in found] == [
        b'{"t":""}', None, profiles[2][1], profiles[1][1], profiles[0][1], None,
    ]  # fmt: skip
