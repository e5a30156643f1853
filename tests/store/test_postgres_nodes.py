"""A node of a Citus cluster that is down: its coordinator says so, and what lies on other nodes goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

import psycopg
import pytest

from mixdown.ingest.gate import Gate, GateLimits
from mixdown.model import texts
from mixdown.model.errors import LeaseLostError, NodeDownError, OverloadedError, StoreDownError
from mixdown.store.memory import MemoryStore
from mixdown.store.opening import IDLE_POLL_S, idle_poll_s_of
from mixdown.store.places import Place
from mixdown.store.postgres import PostgresStore, open_postgres
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.leases import FOLD, Leases
from mixdown.store.protocols import Store
from tests.store.cluster import greet_as_citus
from tests.store.postgres import Server

PARTITIONS: Final = 4
SAYS: Final = """
    DO $$ BEGIN RAISE EXCEPTION 'connection to the remote node failed' USING ERRCODE = '{}'; END $$
"""
# As where the node of some partitions is down: what is written there fails.
DOWN: Final = """
    CREATE FUNCTION mixdown.down() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'connection to the remote node failed' USING ERRCODE = '08006';
    END $$;
    CREATE TRIGGER down BEFORE UPDATE ON mixdown.watermarks
    FOR EACH ROW WHEN (old.partition < 2) EXECUTE FUNCTION mixdown.down();
"""


@pytest.fixture
def url(postgresql: Server) -> str:
    return postgresql.straight(postgresql.migrated(PARTITIONS))


@pytest.fixture
def spread(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresStore]:
    """A store that takes the server for the coordinator of a cluster."""
    greet_as_citus(monkeypatch, "13.0.1")
    store = open_postgres(url, role="fold", create=False)
    yield store
    store.close()


@pytest.mark.parametrize("state", ["08006", "08000", "57P01", "57P03"])
def test_a_connection_to_a_node_that_was_lost_is_none_of_ours(url: str, state: str) -> None:
    database = Database(url, pool_size=2)
    with database.transaction() as one, database.transaction() as other:
        own = {cursor.connection.info.backend_pid for cursor in (one, other)}
    with pytest.raises(NodeDownError, match="one of its nodes"), database.transaction() as cursor:
        cursor.execute(SAYS.format(state).encode())
    with database.transaction() as one, database.transaction() as other:
        assert {cursor.connection.info.backend_pid for cursor in (one, other)} == own
    database.close()


def test_a_connection_of_ours_that_was_lost_is_no_nodes(url: str) -> None:
    database = Database(url)
    with pytest.raises(StoreDownError) as raised, database.transaction() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert not isinstance(raised.value, NodeDownError)
    database.close()


def test_a_coordinator_takes_seconds_to_see_that_a_node_is_away(spread: PostgresStore, url: str) -> None:
    asked = "SELECT current_setting('citus.node_connection_timeout', true)"
    assert spread.database.value(asked) == "3000"
    with psycopg.connect(url) as own:
        assert own.execute(asked).fetchone() == (None,)


def test_partitions_whose_node_is_down_hold_up_no_lease_of_another(
    spread: PostgresStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each that fails may take seconds, and leases are short: a renewal comes before all are tried."""
    monkeypatch.setattr("mixdown.store.postgres.leases.TRYING_S", 0.0)
    with psycopg.connect(url, autocommit=True) as own:
        own.execute(DOWN.encode())
    leases = Leases(spread.database, spread.fences, FOLD, "one", partitions=PARTITIONS, life_s=3600)
    assert [sorted(leases.tend()) for _ in range(4)] == [[], [], [2, 3], [2, 3]]
    with pytest.raises(LeaseLostError):
        spread.fences.of(FOLD, 0)
    with psycopg.connect(url, autocommit=True) as own:
        own.execute("DROP TRIGGER down ON mixdown.watermarks")
    assert sorted(leases.tend()) == [0, 1, 2, 3]


def test_what_is_held_counts_before_the_rest_is_tried(
    spread: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases = Leases(spread.database, spread.fences, FOLD, "one", partitions=PARTITIONS, life_s=3600)
    raise_fence = Leases._raise_fence
    held: list[list[int]] = []

    def noted(self: Leases, partition: int, fence: int) -> bool:
        held.append(sorted(self.held))
        return raise_fence(self, partition, fence)

    monkeypatch.setattr(Leases, "_raise_fence", noted)
    leases.tend()
    assert held == [[], [0], [0, 1], [0, 1, 2]]


def test_the_gate_stays_as_it_was_while_what_waits_cannot_be_told(
    spread: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(spread, None, GateLimits(10, 0, 0, 0))

    def down(*_: object) -> list[Place]:
        raise NodeDownError("connection to the remote node failed")

    def full(*_: object) -> list[Place]:
        return [Place(0, 20, 0, 20)]

    monkeypatch.setattr(spread, "places", down)
    gate.look()
    assert gate.check() == 0
    monkeypatch.setattr(spread, "places", full)
    gate.look()
    monkeypatch.setattr(spread, "places", down)
    gate.look()
    with pytest.raises(OverloadedError, match=texts.OVERLOADED_BACKLOG):
        gate.check()


def test_looks_are_dear_on_a_cluster_alone(spread: PostgresStore) -> None:
    assert idle_poll_s_of(cast("Store", spread)) == IDLE_POLL_S
    spread.database.is_cluster = False
    assert idle_poll_s_of(cast("Store", spread)) == 0
    assert idle_poll_s_of(MemoryStore()) == 0
