"""Deletions begun by two nodes at once, and what errors of PostgreSQL say of what a client sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from mixdown.model.errors import StoreError
from mixdown.store import privacy
from mixdown.store.postgres import PostgresStore, open_postgres
from mixdown.store.postgres.log import PostgresTurn
from mixdown.store.privacy import PENDING, STARTED, Deletion, begin
from tests.store.postgres import Server

NOW_MS = 1_800_000_000_000
LATE_MS = NOW_MS + 2 * privacy.STALE_STAGING_MS
SENT = "somebody@example.com"


@pytest.fixture
def nodes(postgresql: Server) -> Iterator[tuple[PostgresStore, PostgresStore]]:
    """Two nodes on one database, and a project with a job that waits."""
    url = postgresql.migrated(2)
    stores = tuple(open_postgres(url, role="worker", create=False) for _ in range(2))
    with closing(stores[0]), closing(stores[1]):
        stores[0].catalog.create_project("p", token="t", secret_hash=b"", id_merge="simplified", now_ms=1)
        stores[0].privacy.add_deletion(job())
        yield stores[0], stores[1]
    postgresql.drop(url)


def job() -> Deletion:
    return Deletion("job", 1, "", ("ann",), 1, PENDING, "me", "GDPR", NOW_MS)


def records(store: PostgresStore) -> int:
    log = store.partition(store.partition_of(1)).log
    return log.head() - log.tail_position()


def test_who_lost_a_job_while_it_waited_for_its_turn_appends_nothing(
    nodes: tuple[PostgresStore, PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = nodes
    widen = one.privacy.widen

    def slow(job_id: str, ids: list[str]) -> None:
        widen(job_id, ids)
        assert begin(other, job(), now_ms=LATE_MS)

    monkeypatch.setattr(one.privacy, "widen", slow)
    assert not begin(one, job(), now_ms=NOW_MS)
    assert records(one) == 1


def test_a_job_that_is_being_appended_cannot_be_claimed(
    nodes: tuple[PostgresStore, PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = nodes
    append_in = PostgresTurn.append_in
    claimed: list[bool] = []

    def claim() -> None:
        claimed.append(other.privacy.claim("job", now_ms=LATE_MS, stale_ms=LATE_MS))

    late = threading.Thread(target=claim)

    def slow(self: PostgresTurn, *given: object) -> object:
        done = append_in(self, *given)  # type: ignore[arg-type]
        late.start()
        late.join(0.3)
        assert late.is_alive()
        assert not claimed
        return done

    monkeypatch.setattr(PostgresTurn, "append_in", slow)
    assert begin(one, job(), now_ms=NOW_MS)
    late.join()
    assert claimed == [False]
    (held,) = one.privacy.unfinished()
    assert (held.status, records(one)) == (STARTED, 1)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (f"SELECT '{SENT}'::bigint", "InvalidTextRepresentation (22P02)"),
        (f"SELECT '{SENT}'::jsonb", "InvalidTextRepresentation (22P02)"),
        (f"SELECT to_date('{SENT}', 'YYYY')", "(22"),
        (
            f"INSERT INTO mixdown.facts SELECT x, '' FROM (VALUES ('{SENT}'), ('{SENT}')) AS given (x)",
            "UniqueViolation (23505), constraint facts_pkey, table facts",
        ),
        (
            f"INSERT INTO mixdown.facts VALUES ('{SENT}', NULL)",
            "NotNullViolation (23502), table facts, column value",
        ),
    ],
)
def test_errors_about_values_quote_none(
    nodes: tuple[PostgresStore, PostgresStore], statement: str, says: str
) -> None:
    with pytest.raises(StoreError) as caught:
        nodes[0].database.run(statement)
    assert says in caught.value.message
    assert SENT not in str(caught.value)
