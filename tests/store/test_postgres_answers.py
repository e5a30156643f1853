"""What a process does where PostgreSQL gives no answer: a network that swallows, rows that somebody holds."""

# ruff: noqa: PT012 - what a transaction holds is undone by what is raised in it

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg.abc import PQGen
from psycopg.waiting import Ready, Wait

from mixdown.model.errors import LeaseLostError, ReadTimeoutError, StoreDownError
from mixdown.store import patience
from mixdown.store.postgres import open_postgres
from mixdown.store.postgres.answers import WatchedConnection
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.leases import FOLD, Leases
from mixdown.store.postgres.pool import Pool
from tests.durability.processes import free_port
from tests.store.postgres import Server, postgres_server
from tests.store.support import append, appending
from tests.torture.postgres.network import Network

SHORT_S = 0.2
PATIENCE_S = 4.0


@pytest.fixture(scope="module")
def remote(postgresql: Server) -> Iterator[Server]:
    """A server that is reached over TCP."""
    del postgresql  # skips where PostgreSQL is not tried
    with postgres_server({"listen_addresses": "127.0.0.1", "port": str(free_port())}) as server:
        with server.connect() as connection:
            connection.execute("CREATE TABLE kept (number int PRIMARY KEY)")
            connection.execute("INSERT INTO kept VALUES (1)")
        yield server


@pytest.fixture
def network(remote: Server) -> Iterator[Network]:
    """What lies before it."""
    made = Network(remote.port)
    yield made
    made.close()


@pytest.fixture
def database(network: Network, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """It, with limits that are short."""
    monkeypatch.setattr("mixdown.store.postgres.answers.LOOK_EVERY_S", SHORT_S)
    monkeypatch.setattr("mixdown.store.postgres.pool.SLOW_S", 0.0)
    monkeypatch.setattr("mixdown.store.postgres.pool._AWAY_LIMIT_S", 0.0)
    url = f"postgresql://tests@127.0.0.1:{network.port}/postgres?connect_timeout=2"
    made = Database(url, pool_size=4)
    yield made
    made.close()


def waited_s(database: Database, network: Network) -> float:
    """How long a statement is waited for whose answer is lost, by a caller who has `PATIENCE_S`."""
    assert database.value("SELECT 1") == 1
    network.weather = "mute"
    began = time.monotonic()
    with (
        pytest.raises((StoreDownError, ReadTimeoutError)),
        patience.until(began + PATIENCE_S, PATIENCE_S),
    ):
        database.value("SELECT 2")
    return time.monotonic() - began


def test_an_answer_that_was_lost_is_not_waited_for(database: Database, network: Network) -> None:
    assert waited_s(database, network) < PATIENCE_S
    network.weather = "clear"
    assert database.value("SELECT 3") == 3


def test_without_a_look_at_the_database_it_would_be(
    database: Database, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant that the test above must catch: silence is taken for work."""
    monkeypatch.setattr(WatchedConnection, "_is_worked_on", lambda _: True)
    assert waited_s(database, network) >= PATIENCE_S


def test_what_takes_long_is_waited_for(database: Database) -> None:
    began = time.monotonic()
    assert database.value("SELECT 1 FROM pg_sleep(%s)", (6 * SHORT_S,)) == 1
    with database.pipeline() as connection:
        slow = connection.execute("SELECT 2 FROM pg_sleep(%s)", (6 * SHORT_S,))
    assert slow.fetchone() == (2,)
    assert time.monotonic() - began >= 12 * SHORT_S


def test_what_is_sent_for_long_is_not_taken_for_silence(database: Database) -> None:
    """A large step over a slow network: until all of it is there, the database is at work on nothing."""
    with database.connection() as connection:
        assert Ready.W in connection.wait(trickling(Wait.W, times=8))
        with pytest.raises(psycopg.OperationalError, match="no answer came"):
            connection.wait(trickling(Wait.R, times=8))


def test_what_is_waited_for_again_goes_on_where_it_was(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.connection() as connection:
        monkeypatch.setattr(WatchedConnection, "_is_worked_on", lambda _: True)
        assert set(connection.wait(trickling(Wait.R, times=8))) == {Ready.NONE}


def trickling(wanted: Wait, *, times: int) -> PQGen[list[Ready | int]]:
    """What psycopg does to send or to read, so many pieces of a third of what counts as silence."""
    found = []
    for _ in range(times):
        found.append((yield wanted))
        time.sleep(SHORT_S / 3)
    return found


def test_nobody_waits_longer_than_they_said(remote: Server) -> None:
    made = Database(remote.url(), answer_limit_s=SHORT_S)
    began = time.monotonic()
    with pytest.raises(StoreDownError, match="no answer came"):
        made.value("SELECT pg_sleep(60)")
    assert time.monotonic() - began < 50
    assert made.value("SELECT 1") == 1
    made.close()


def test_a_commit_whose_answer_was_lost_is_an_error_and_may_have_happened(
    database: Database, network: Network, remote: Server
) -> None:
    with pytest.raises(StoreDownError), database.transaction() as cursor:
        cursor.execute("INSERT INTO kept VALUES (77)")
        network.weather = "mute"
    network.weather = "clear"
    with remote.connect() as connection:
        found: Any = connection.execute("SELECT count(*) FROM kept WHERE number = 77").fetchone()
    assert found == (1,)
    with pytest.raises(StoreDownError), database.transaction() as cursor:
        cursor.execute("INSERT INTO kept VALUES (78)")
        network.reset()
        time.sleep(SHORT_S)
    assert database.value("SELECT count(*) FROM kept WHERE number = 78") == 0


def test_a_network_that_is_away_is_not_asked_by_everybody_in_turn() -> None:
    asked = []

    def connect() -> psycopg.Connection[tuple[Any, ...]]:
        asked.append(time.monotonic())
        time.sleep(1.2)
        raise psycopg.OperationalError("timeout expired")

    pool = Pool(connect, size=2, what="the database")
    with pytest.raises(psycopg.OperationalError), pool.connection():
        pass
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(StoreDownError, match="a moment ago"), pool.connection():
            pass
    assert time.monotonic() - began < 1
    assert len(asked) == 1


@pytest.mark.parametrize("way", ["transaction", "pipeline"])
def test_a_row_that_somebody_holds_is_not_waited_for(
    remote: Server, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr("mixdown.store.postgres.connection.LOCK_LIMIT_MS", 100)
    made = Database(remote.url())
    with remote.connect() as holder, holder.transaction():
        holder.execute("UPDATE kept SET number = number WHERE number = 1")
        began = time.monotonic()
        with pytest.raises(StoreDownError, match="lock timeout"), getattr(made, way)() as writing:
            writing.execute("UPDATE kept SET number = number WHERE number = 1")
        assert time.monotonic() - began < 3
    made.close()


def test_an_append_does_not_wait_long_for_its_partition(postgresql: Server) -> None:
    store = open_postgres(postgresql.migrated(), role="worker", create=False)
    with store.database.transaction() as cursor:  # as who trims, and is stopped
        cursor.execute("UPDATE mixdown.heads SET held_bytes = 0 WHERE partition = 0")
        began = time.monotonic()
        with pytest.raises(StoreDownError, match="lock timeout"):
            append(store.log, appending("x"))
        assert time.monotonic() - began < 9
    append(store.log, appending("x"))
    store.close()


def is_taken(url: str) -> bool:
    """Whether a partition is taken whose holder was stopped in the middle of what it sends."""
    stopped, other = (open_postgres(url, role="fold", create=False) for _ in range(2))
    a, b = (
        Leases(store.database, store.fences, FOLD, name, partitions=1, life_s=0.3)
        for store, name in ((stopped, "a"), (other, "b"))
    )
    assert a.tend()
    taken = False
    try:
        with suppress(StoreDownError, LeaseLostError), stopped.database.pipeline() as connection:
            connection.execute(
                "SELECT 1 FROM mixdown.watermarks WHERE partition = 0 AND kind = %s FOR UPDATE", (FOLD,)
            ).fetchone()
            deadline = time.monotonic() + 4
            while not taken and time.monotonic() < deadline:
                taken = bool(b.tend())
                time.sleep(0.05)
    finally:
        stopped.close()
        other.close()
    return taken


def test_a_process_that_is_stopped_while_it_sends_holds_its_partition_for_moments(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixdown.store.postgres.leases.STUCK_S", SHORT_S)
    assert is_taken(postgresql.migrated())


def test_the_databases_own_limits_would_not_end_it(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant that the test above must catch: who has the lease only waits."""
    monkeypatch.setattr(Leases, "_end_stuck", lambda *_: None)
    monkeypatch.setattr("mixdown.store.postgres.connection.IDLE_LIMIT_MS", 100)
    assert not is_taken(postgresql.migrated())


def lost_in_a_crash(server: Server) -> int:
    """How many acknowledged appends a crash of the database takes away, where its default is to lose some."""
    name = f"crash_{time.monotonic_ns()}"
    with server.connect() as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off".encode())
    store = open_postgres(server.url(name), role="worker", create=True, partitions=1)
    acknowledged = max(append(store.log, appending("x")).end for _ in range(20))
    server.stop(signal.SIGQUIT)
    server.start()
    try:
        return acknowledged - store.log.head()
    finally:
        store.close()


def test_a_crash_of_the_database_loses_nothing_that_was_acknowledged(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor where its own default is to acknowledge early; and without Mixdown's setting it would."""
    del postgresql
    with postgres_server({"wal_writer_delay": "10s"}) as server:
        assert lost_in_a_crash(server) == 0
        monkeypatch.setattr("mixdown.store.postgres.connection._ON_DISK", psycopg.sql.SQL("SELECT 1"))
        assert lost_in_a_crash(server) > 0


def test_threads_that_wait_for_a_lost_answer_all_come_back(database: Database, network: Network) -> None:
    ended: list[float] = []

    def ask() -> None:
        with suppress(StoreDownError):
            database.value("SELECT pg_sleep(0.5)")
        ended.append(time.monotonic())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(SHORT_S)
    network.weather = "swallow"
    for thread in threads:
        thread.join(90)
    assert len(ended) == 4
    network.weather = "clear"
    assert database.value("SELECT 1") == 1
