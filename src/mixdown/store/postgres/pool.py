"""A process's connections to the database: as many as it may have, each used by one thread at a time.

Enters: a way to connect. Leaves: connections that were alive a moment ago. The thread that asks connects
itself, so that it gets the very error, at once; nothing runs in the background, and no connection is asked
whether it lives: its socket tells. Where one turns out to be broken, the idle ones are dropped with it. Where
a network swallows what is sent it takes seconds to see that none can be made: those that ask next are told.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg
from psycopg.pq import ConnStatus, TransactionStatus

from mixdown.model.errors import StoreDownError, StoreError
from mixdown.store import patience
from mixdown.store.postgres.errors import SEE_IT_RUNS, is_lost

Connection = psycopg.Connection[tuple[Any, ...]]

WAIT_LIMIT_S: Final = 10.0
# A connection is renewed now and then, so that a changed address or password is followed.
LIFE_S: Final = 1800.0
IDLE_S: Final = 300.0
# An attempt that took longer to fail is not made again for as long as it took: others would wait in a row.
SLOW_S: Final = 1.0
_AWAY_LIMIT_S: Final = 5.0
_LOOKS_AT_SOCKET: Final = 8


class _Idle:
    """A connection that nobody uses."""

    __slots__ = ("connection", "since_s")

    def __init__(self, connection: Connection, since_s: float) -> None:
        self.connection = connection
        self.since_s = since_s


class Pool:
    """At most `size` connections, made by `connect` when they are needed; `what` names the database."""

    def __init__(self, connect: Callable[[], Connection], *, size: int, what: str) -> None:
        self._connect = connect
        self._size = size
        self._what = what
        self._idle: list[_Idle] = []
        self._made_s: dict[int, float] = {}
        self._in_use = 0
        self._distrusted_s = 0.0
        self._away_until_s = 0.0
        self._changed = threading.Condition()
        self._closed = False

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection outside of any transaction; what is left open at the end is rolled back.

        Raises `StoreDownError`, `psycopg.Error` where none can be made, `StoreError` after `close`.
        """
        connection = self._take()
        try:
            yield connection
        except psycopg.Error as error:
            if is_lost(error) or connection.closed:
                self._distrust(connection)
            raise
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Close what is idle now, and what is in use when it comes back."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            self._changed.notify_all()
        for each in idle:
            each.connection.close()

    def _take(self) -> Connection:
        self._wait_for_place()
        try:
            while (idle := self._newest_idle()) is not None:
                if self._is_fit(idle):
                    return idle.connection
                self._discard(idle.connection)
            return self._new()
        except BaseException:
            self._leave_place()
            raise

    def _new(self) -> Connection:
        began_s = time.monotonic()
        if began_s < self._away_until_s:
            raise StoreDownError(f"{self._what} could not be reached a moment ago", hint=SEE_IT_RUNS)
        try:
            connection = self._connect()
        except BaseException:
            now_s = time.monotonic()
            if now_s - began_s > SLOW_S:
                self._away_until_s = now_s + min(now_s - began_s, _AWAY_LIMIT_S)
            raise
        self._away_until_s = 0.0
        self._made_s[id(connection)] = time.monotonic()
        return connection

    def _wait_for_place(self) -> None:
        remaining_s = patience.remaining_s()
        limit_s = WAIT_LIMIT_S if remaining_s is None else min(WAIT_LIMIT_S, remaining_s)
        with self._changed:
            there = self._changed.wait_for(lambda: self._closed or self._in_use < self._size, limit_s)
            if self._closed:
                raise StoreError(f"the connections to {self._what} were closed")
            if not there:
                patience.check()
                raise StoreDownError(
                    f"all {self._size} connections to {self._what} are in use",
                    hint="Its answers take long: see what it is busy with (pg_stat_activity).",
                )
            self._in_use += 1

    def _leave_place(self) -> None:
        with self._changed:
            self._in_use -= 1
            self._changed.notify()

    def _newest_idle(self) -> _Idle | None:
        with self._changed:
            return self._idle.pop() if self._idle else None

    def _is_fit(self, idle: _Idle) -> bool:
        now_s = time.monotonic()
        made_s = self._made_s.get(id(idle.connection), 0.0)
        if now_s - made_s > LIFE_S or now_s - idle.since_s > IDLE_S or made_s < self._distrusted_s:
            return False
        return is_alive(idle.connection)

    def _distrust(self, broken: Connection) -> None:
        """Use none of the connections that there are now again: what ended one has ended others."""
        with suppress(psycopg.Error):
            broken.close()
        with self._changed:
            self._distrusted_s = time.monotonic()

    def _give_back(self, connection: Connection) -> None:
        try:
            if not connection.closed and connection.pgconn.transaction_status != TransactionStatus.IDLE:
                with suppress(psycopg.Error):
                    connection.rollback()
            healthy = not connection.closed and connection.pgconn.transaction_status == TransactionStatus.IDLE
            with self._changed:
                keep = healthy and not self._closed
                if keep:
                    self._idle.append(_Idle(connection, time.monotonic()))
                surplus = self._long_unused()
            if not keep:
                self._discard(connection)
            if surplus is not None:
                self._discard(surplus)
        finally:
            self._leave_place()

    def _long_unused(self) -> Connection | None:
        """The connection that was idle longest, where that is too long."""
        if self._idle and time.monotonic() - self._idle[0].since_s > IDLE_S:
            return self._idle.pop(0).connection
        return None

    def _discard(self, connection: Connection) -> None:
        self._made_s.pop(id(connection), None)
        with suppress(psycopg.Error):
            connection.close()


def is_alive(connection: Connection) -> bool:
    """Whether an idle connection still has its server, as far as its socket tells without a round trip."""
    if connection.closed or connection.pgconn.transaction_status != TransactionStatus.IDLE:
        return False
    watched = select.poll()
    watched.register(connection.pgconn.socket, select.POLLIN)
    for _ in range(_LOOKS_AT_SOCKET):
        if not watched.poll(0):
            return True
        # a changed setting may be reported at any time; a server that goes says so, then closes
        try:
            connection.pgconn.consume_input()
        except psycopg.OperationalError:
            return False
        if connection.pgconn.status != ConnStatus.OK:
            return False
    return False
