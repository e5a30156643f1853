"""PostgreSQL as one process uses it: transactions, pipelines, errors, connections that are lost."""

# ruff: noqa: PT012 - what a transaction holds is undone by what is raised in it

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from mixdown.model.errors import ReadTimeoutError, StoreDownError, StoreError
from mixdown.store import patience
from mixdown.store.postgres.connection import Database
from tests.store.postgres import Server, postgres_server


@pytest.fixture(scope="module")
def url(postgresql: Server) -> str:
    url = postgresql.empty()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (number int PRIMARY KEY, text text)")
    return url


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url, pool_size=2)
    database.run("DELETE FROM kept")
    yield database
    database.close()


def numbers(database: Database) -> list[int]:
    return [number for (number,) in database.rows("SELECT number FROM kept ORDER BY number")]


def test_single_statements_give_rows_a_row_a_value_or_a_count(database: Database) -> None:
    assert database.run("INSERT INTO kept SELECT n, 'x' FROM generate_series(1, %s) AS n", (3,)) == 3
    assert database.rows("SELECT number, text FROM kept WHERE number > %s", (1,)) == [(2, "x"), (3, "x")]
    assert database.row("SELECT number FROM kept WHERE number = 9") is None
    assert database.value("SELECT max(number) FROM kept") == 3
    assert database.row("SELECT 'abc'::bytea", binary=True) == (b"abc",)


def test_a_transaction_is_committed_whole_or_not_at_all(database: Database) -> None:
    with database.transaction() as cursor:
        cursor.execute("INSERT INTO kept VALUES (1)")
        cursor.execute("INSERT INTO kept VALUES (2)")
    with pytest.raises(RuntimeError), database.transaction() as cursor:
        cursor.execute("INSERT INTO kept VALUES (3)")
        raise RuntimeError
    with pytest.raises(StoreError), database.transaction() as cursor:
        cursor.execute("INSERT INTO kept VALUES (4)")
        cursor.execute("INSERT INTO kept VALUES (1)")
    assert numbers(database) == [1, 2]


def test_a_transaction_in_which_an_error_was_swallowed_is_not_taken_for_committed(database: Database) -> None:
    with pytest.raises(AssertionError, match="swallowed"), database.transaction() as cursor:
        cursor.execute("INSERT INTO kept VALUES (1)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            cursor.execute("INSERT INTO kept VALUES (1)")
    assert numbers(database) == []


def test_a_reading_transaction_is_of_one_moment_and_writes_nothing(database: Database) -> None:
    with database.transaction(read_only=True) as cursor:
        assert cursor.execute("SELECT count(*) FROM kept").fetchone() == (0,)
        database.run("INSERT INTO kept VALUES (1)")
        assert cursor.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    with pytest.raises(StoreError), database.transaction(read_only=True) as cursor:
        cursor.execute("INSERT INTO kept VALUES (2)")
    assert numbers(database) == [1]


def test_a_pipeline_is_a_transaction_whose_results_come_after_it(database: Database) -> None:
    with database.pipeline() as connection:
        first = connection.execute("INSERT INTO kept VALUES (1) RETURNING number")
        connection.cursor().executemany("INSERT INTO kept VALUES (%s, %s)", [(2, "b"), (3, "c")])
        second = connection.execute("SELECT count(*) FROM kept")
    assert (first.fetchone(), second.fetchone()) == ((1,), (3,))


@pytest.mark.parametrize("fetched", [True, False])
def test_a_pipeline_that_fails_leaves_nothing_and_a_connection_that_can_be_used(
    database: Database, *, fetched: bool
) -> None:
    for _ in range(3):
        with pytest.raises(StoreError, match="UniqueViolation"), database.pipeline() as connection:
            connection.execute("INSERT INTO kept VALUES (1)")
            broken = connection.execute("INSERT INTO kept VALUES (1) RETURNING number")
            connection.execute("INSERT INTO kept VALUES (2)")
            if fetched:
                broken.fetchone()
    with pytest.raises(RuntimeError), database.pipeline() as connection:
        connection.execute("INSERT INTO kept VALUES (1)")
        raise RuntimeError
    assert numbers(database) == []


def test_a_stream_gives_all_rows_a_lot_at_a_time_of_one_moment(database: Database) -> None:
    database.run("INSERT INTO kept SELECT n FROM generate_series(1, 10) AS n")
    lots = database.stream("SELECT number FROM kept ORDER BY number", rows=4)
    first = next(lots)
    database.run("DELETE FROM kept")
    assert [len(lot) for lot in (first, *lots)] == [4, 4, 2]
    left = database.stream("SELECT generate_series(1, 100)", rows=1)
    next(left)
    left.close()
    assert database.value("SELECT 1") == 1


def test_a_statement_ends_with_the_deadline_of_its_thread(database: Database) -> None:
    began = time.monotonic()
    with pytest.raises(ReadTimeoutError), patience.until(time.monotonic() + 0.2, 0.2):
        database.rows("SELECT pg_sleep(%s)", (60,))
    with (
        pytest.raises(ReadTimeoutError),
        patience.until(time.monotonic() + 0.2, 0.2),
        database.transaction() as cursor,
    ):
        cursor.execute("SELECT pg_sleep(60)")
    assert time.monotonic() - began < 50
    assert database.value("SHOW statement_timeout") == "0"


def test_threads_wait_for_a_free_connection(database: Database) -> None:
    done: list[int] = []

    def work(number: int) -> None:
        with database.transaction() as cursor:
            cursor.execute("SELECT pg_sleep(0.01)")
            done.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(8))


def test_who_waits_too_long_for_a_connection_is_told(database: Database) -> None:
    with (
        database.transaction(),
        database.transaction(),
        pytest.raises(ReadTimeoutError),
        patience.until(time.monotonic() + 0.05, 0.05),
    ):
        database.value("SELECT 1")


def test_connections_that_the_server_ended_are_not_used_again(postgresql: Server, url: str) -> None:
    straight = postgresql.straight(url)
    name = "mixdown straight"  # not those that a pooler keeps open
    database = Database(straight, application=name)
    with database.transaction(), database.transaction():
        pass
    with psycopg.connect(straight, autocommit=True) as other:
        ended = other.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = %s",
            (name,),
        ).fetchone()
    assert ended == (2,)
    time.sleep(0.2)
    assert database.value("SELECT 1") == 1
    database.close()


def test_a_connection_that_ends_within_a_transaction_is_an_error_and_the_next_is_new(
    database: Database,
) -> None:
    with database.transaction(), database.transaction():
        pass  # an idle one that nobody ended is distrusted with it
    with pytest.raises(StoreDownError, match="terminating"), database.transaction() as cursor:
        cursor.execute("INSERT INTO kept VALUES (1)")
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert numbers(database) == []


def test_a_transaction_that_waits_for_its_process_too_long_is_ended(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixdown.store.postgres.connection.IDLE_LIMIT_MS", 50)
    with pytest.raises(StoreDownError, match="idle-in-transaction"), database.transaction() as cursor:
        cursor.execute("INSERT INTO kept VALUES (1)")
        time.sleep(0.3)
        cursor.execute("INSERT INTO kept VALUES (2)")
    with database.transaction(read_only=True) as cursor:
        time.sleep(0.3)
        cursor.execute("SELECT 1")
    assert numbers(database) == []


def test_an_outage_is_told_at_once_and_over_at_once(postgresql: Server) -> None:
    del postgresql  # skips where PostgreSQL is not tried
    with postgres_server() as server:
        database = Database(server.url())
        assert database.value("SELECT 1") == 1
        server.stop(signal.SIGQUIT)  # as a crash: nobody is told
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(StoreDownError):
                database.value("SELECT 1")
            assert time.monotonic() - began < 30
        server.start()
        assert database.value("SELECT 1") == 1
        database.close()


def test_a_commit_is_on_disk_where_the_servers_default_is_to_lose_it(postgresql: Server) -> None:
    url = postgresql.empty()
    with psycopg.connect(url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    database = Database(url)
    database.value("SELECT 1")
    asked = "SELECT current_setting('synchronous_commit')"
    assert database.value(asked) == "on"
    with database.transaction() as cursor:
        assert cursor.execute(asked).fetchone() == ("on",)
    with database.pipeline() as pipelined:
        found = pipelined.execute(asked)
    assert found.fetchone() == ("on",)
    database.close()


def test_errors_say_what_was_wrong_and_what_to_do(url: str, database: Database, postgresql: Server) -> None:
    with pytest.raises(StoreError) as raised:
        database.value("SELECT * FROM mixdown.chunks")
    assert "mixdown db migrate" in raised.value.hint
    nowhere = Database(postgresql.straight(url).replace(str(postgresql.folder), "/nowhere"))
    with pytest.raises(StoreDownError, match="cannot be reached") as raised:
        nowhere.value("SELECT 1")
    missing = Database(postgresql.url("missing"))
    with pytest.raises(StoreError, match="does not exist"):
        missing.value("SELECT 1")


def test_values_of_records_stand_in_no_error(database: Database) -> None:
    database.run("INSERT INTO kept VALUES (1)")
    with pytest.raises(StoreError) as raised:
        database.run("INSERT INTO kept VALUES (1, 'secret')")
    assert "secret" not in str(raised.value)
    assert "(1)" not in str(raised.value)


def test_what_is_closed_raises_on_use(url: str) -> None:
    database = Database(url)
    assert database.value("SELECT 1") == 1
    database.close()
    with pytest.raises(StoreError, match="closed"):
        database.value("SELECT 1")
    database.close()
