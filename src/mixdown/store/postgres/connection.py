"""The database as one process uses it: transactions, pipelines and single statements on pooled connections.

Enters: SQL with parameters. Leaves: rows; every `psycopg.Error` leaves as a `StoreError`. It knows no table.

It must work behind pgbouncer in transaction mode, so nothing outlives a transaction: no prepared statements,
no session settings (`SET LOCAL` alone), no temporary tables, no session locks, no LISTEN. Names are written
with their schema, `mixdown.chunks`, since a search path would be such a setting.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from mixdown.model.errors import StoreError
from mixdown.store import patience
from mixdown.store.postgres.address import Address, address_of
from mixdown.store.postgres.answers import LOOK_EVERY_S, LOOK_LIMIT_S, WatchedConnection
from mixdown.store.postgres.errors import store_errors
from mixdown.store.postgres.pool import Connection, Pool
from mixdown.store.postgres.texts import TextCursor

Row = tuple[Any, ...]
Cursor = psycopg.Cursor[Row]
Statement = LiteralString | sql.SQL | sql.Composed
Parameters = Sequence[Any] | Mapping[str, Any]

POOL_SIZE: Final = 8
OLDEST_VERSION: Final = 140_000
OLDEST_CITUS: Final = (11, 2)
"""Before it nodes read no moment: they were told READ COMMITTED, whatever a transaction asked for."""
_STREAMED_ROWS: Final = 2000
_BEGIN: Final = sql.SQL("BEGIN")
_BEGIN_READING: Final = sql.SQL("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
_ON_DISK: Final = sql.SQL("SET LOCAL synchronous_commit = on")
_AT_MOST: Final = sql.SQL("SET LOCAL statement_timeout = {}")
# A process that was stopped within a transaction must not hold what others wait for. Between two statements
# of one there are milliseconds of work; 0.25 s was seen where thirty processes wanted two processors.
IDLE_LIMIT_MS: Final = 10_000
# Nobody holds a row for longer than a step takes, but who was stopped: what waits is told, and tries again.
LOCK_LIMIT_MS: Final = 5_000
ANSWER_LIMIT_S: Final = 10.0
_IDLE: Final = sql.SQL("SET LOCAL idle_in_transaction_session_timeout = {}")
_LOCKS: Final = sql.SQL("SET LOCAL lock_timeout = {}")
# The nodes of a cluster hold locks and rows, and have defaults of their own: without this they are told of no
# limit, nor that a COMMIT is to be on disk.
_TELL_NODES: Final = sql.SQL("SET LOCAL citus.propagate_set_commands = 'local'")
# What a node says while it commits, a coordinator passes on as DEBUG1, whatever it was.
_HEAR_NODES: Final = sql.SQL("SET LOCAL client_min_messages = debug1")
# Whether the default of this server loses acknowledged transactions in a crash. And it is to notice within
# half a minute that a client is cut off: a setting that may outlive the client, behind a pooler. Likewise a
# coordinator is to see within three seconds, not thirty, that a node cannot be reached: leases live for six.
_GREETING: Final = """
    SELECT current_setting('synchronous_commit') = 'off', current_setting('citus.version', true),
        set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),
        set_config('tcp_keepalives_count', '3', false),
        CASE WHEN current_setting('citus.version', true) IS NOT NULL
            THEN set_config('citus.node_connection_timeout', '3000', false) END
"""


class Database:
    """A PostgreSQL, or a Citus cluster's coordinator, as one process uses it. Any thread may.

    A method takes a connection for as long as it runs, or the block or iterator that it gives lasts: nothing
    in the block may ask for another, or `pool_size` threads could wait for each other.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = POOL_SIZE,
        application: str = "mixdown",
        password_file: str = "",
        answer_limit_s: float | None = None,
    ) -> None:
        """`answer_limit_s` is for threads without a deadline of their own (`store.patience`).

        Without it they wait as long as the database is at work.
        """
        self._answer_limit_s = answer_limit_s
        self._address: Address = address_of(url, application=application, password_file=password_file)
        self.what = self._address.what
        """The database in the words of messages: without user and password."""
        self._pool = Pool(self._connect, size=pool_size, what=self.what)
        self._commits_lightly = False
        self.is_cluster = False
        """Whether it is the coordinator of a cluster: known once it was spoken to."""

    @contextmanager
    def transaction(self, *, read_only: bool = False) -> Iterator[Cursor]:
        """BEGIN … COMMIT, undone when the block raises. Raises `StoreError`.

        With `read_only` everything in it is of one moment. Costs a round trip for BEGIN, one for each
        statement and one for COMMIT: `pipeline` sends all at once.
        """
        with self.connection() as connection:
            opening = [_BEGIN_READING] if read_only else [_BEGIN, *self._held_briefly()]
            self._open(connection, [*opening, *self._settings()])
            try:
                with connection.cursor() as cursor:
                    yield cursor
                failed = connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.INERROR
                assert not failed, "an error in a transaction was swallowed: it cannot be committed"
                connection.execute("COMMIT")
            except BaseException:
                if not connection.closed:
                    connection.rollback()
                raise

    @contextmanager
    def pipeline(self) -> Iterator[Connection]:
        """A transaction whose statements are sent together: one round trip unless the block fetches.

        Use `connection.execute` (or a cursor of it, for `executemany`) in the block, and fetch from cursors
        after it; to fetch within it costs a round trip. Errors are raised at the next fetch, or at the end.
        """
        with self.connection() as connection, connection.pipeline(), connection.transaction():
            # where it is idle is bounded on nodes alone: PostgreSQL takes a pipeline that is open for at work
            held = self._held_briefly() if self.is_cluster else [_LOCKS.format(LOCK_LIMIT_MS)]
            for setting in (*held, *self._settings()):
                connection.execute(setting)
            yield connection

    def rows(self, statement: Statement, parameters: Parameters = (), *, binary: bool = False) -> list[Row]:
        """Run one statement in a transaction of its own: one round trip. All its rows.

        `binary` is for results with `bytea` or `jsonb` in bulk.
        """
        return self._executed(statement, parameters, binary=binary).fetchall()

    def row(self, statement: Statement, parameters: Parameters = (), *, binary: bool = False) -> Row | None:
        """The same of its first row; None where there is none."""
        return self._executed(statement, parameters, binary=binary).fetchone()

    def value(self, statement: Statement, parameters: Parameters = ()) -> Any:
        """The same of the first column of its first row; None where there is none."""
        found = self.row(statement, parameters)
        return None if found is None else found[0]

    def run(self, statement: Statement, parameters: Parameters = ()) -> int:
        """The same of a statement without a result: how many rows it touched."""
        return self._executed(statement, parameters).rowcount

    def write(self, statement: Statement, parameters: Parameters = ()) -> Row | None:
        """`row` of a statement that calls a function of the schema which writes rows of a partition.

        Such a function says itself how long it waits for a lock. The nodes of a cluster do not hear that, so
        there they are told: in a transaction of several statements, and one round trip all the same.
        """
        if not self.is_cluster:
            return self.row(statement, parameters)
        with self.pipeline() as connection:
            found = connection.execute(statement, parameters)
        return found.fetchone()

    def stream(
        self,
        statement: Statement,
        parameters: Parameters = (),
        *,
        rows: int = _STREAMED_ROWS,
        binary: bool = False,
    ) -> Generator[list[Row], None, None]:
        """The rows of a SELECT, so many at a time, all of one moment; memory holds one lot.

        On a cluster those of each partition are of one moment, and the coordinator's disk holds what is more
        than its `work_mem`: it collects all before it gives the first.
        Its snapshot keeps PostgreSQL from tidying up behind it: what may take minutes asks for pages by key.
        Close it when you leave it early. Looks at the thread's deadline (`store.patience`) at each lot.
        """
        with (
            self.transaction(read_only=True) as cursor,
            cursor.connection.cursor("lots", binary=binary) as lots,
        ):
            lots.execute(statement, parameters)
            while found := lots.fetchmany(rows):
                patience.check()
                yield found

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A pooled connection in autocommit mode, for what the other methods do not do (COPY).

        Raises `StoreError`; what psycopg raises in the block becomes one.
        """
        with store_errors(self.what), self._pool.connection() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections. What is asked for later raises `StoreError`."""
        self._pool.close()

    def _open(self, connection: Connection, opening: Sequence[sql.SQL | sql.Composed]) -> None:
        """Begin a transaction, in one round trip."""
        if not self.is_cluster:
            connection.execute(sql.SQL(";").join(opening))
            return
        # a coordinator passes on the whole text that a setting stands in: with a BEGIN, its nodes begin anew
        with connection.pipeline():
            for statement in opening:
                connection.execute(statement)

    def _executed(self, statement: Statement, parameters: Parameters, *, binary: bool = False) -> Cursor:
        with self.connection() as connection:
            settings = self._settings()
            if not settings:
                return connection.execute(statement, parameters, binary=binary)
            with connection.pipeline(), connection.transaction():
                for setting in settings:
                    connection.execute(setting)
                return connection.execute(statement, parameters, binary=binary)

    def _settings(self) -> list[sql.SQL | sql.Composed]:
        """What each transaction says of itself: how long it may take, and that it is on disk when it ends."""
        settings: list[sql.SQL | sql.Composed] = []
        remaining_s = patience.remaining_s()
        if remaining_s is not None:
            patience.check()
            settings.append(_AT_MOST.format(max(1, int(remaining_s * 1000))))
        if self._commits_lightly:
            settings.append(_ON_DISK)
        return settings

    def _held_briefly(self) -> list[sql.SQL | sql.Composed]:
        """What a transaction that writes says of locks: how long it waits for them, and keeps them idle.

        On a cluster also what makes its COMMIT count there; to hear of nodes is for the coordinator alone.
        """
        limits: list[sql.SQL | sql.Composed] = [_IDLE.format(IDLE_LIMIT_MS), _LOCKS.format(LOCK_LIMIT_MS)]
        return [_HEAR_NODES, _TELL_NODES, _ON_DISK, *limits] if self.is_cluster else limits

    def _connect(self) -> Connection:
        """A new connection. Raises `psycopg.Error`, `StoreError` where the server is none to use."""
        connection = self._opened()
        connection.cursor_factory = TextCursor
        connection.answer_limit_s = LOOK_EVERY_S
        try:
            _refuse_unfit(connection, self.what)
            found = connection.execute(_GREETING).fetchone()
            if found is not None:
                self._commits_lightly, citus = found[:2]
                self.is_cluster = citus is not None
                _refuse_old_citus(citus, self.what)
            connection.answer_limit_s = self._answer_limit_s
            connection.look = self._opened
            connection.watch_commits()
        except BaseException:
            connection.close()
            raise
        return connection

    def _opened(self) -> WatchedConnection:
        conninfo = make_conninfo("", **self._address.current())
        connection = WatchedConnection.connect(conninfo, autocommit=True, prepare_threshold=None)
        connection.answer_limit_s = LOOK_LIMIT_S
        return connection


def _refuse_unfit(connection: Connection, what: str) -> None:
    version = connection.info.server_version
    if version < OLDEST_VERSION:
        raise StoreError(
            f"{what} is PostgreSQL {version // 10_000}: Mixdown needs {OLDEST_VERSION // 10_000} or newer",
            hint="Upgrade the database.",
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in (None, "UTF8"):
        raise StoreError(
            f"{what} has the encoding {encoding}, and Mixdown needs UTF8",
            hint="Make another: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0.",
        )


def _refuse_old_citus(version: str | None, what: str) -> None:
    numbers = re.match(r"(\d+)\.(\d+)", version or "")
    if numbers is not None and (int(numbers[1]), int(numbers[2])) < OLDEST_CITUS:
        oldest = ".".join(map(str, OLDEST_CITUS))
        raise StoreError(
            f"{what} is a cluster of Citus {version}: Mixdown needs {oldest} or newer",
            hint="Upgrade Citus on all nodes: to 12 or 13, which Mixdown is written for.",
        )
