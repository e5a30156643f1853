"""Every statement that the store in a test's own process sends to PostgreSQL, judged as a cluster would.

Enters: statements, as they are sent. Leaves: what a coordinator would refuse of those that are new.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg._queries import PostgresQuery

from mixdown.store.postgres.answers import WatchedConnection
from mixdown.store.postgres.migrating import migrations, statements_in
from tests.store.coordinator import Coordinator
from tests.store.postgres import Server

_INTEGERS: Final = {20, 21, 23}
_BETWEEN: Final = (
    "spying.py", "cursor.py", "_cursor_base.py", "connection.py", "waiting.py", "texts.py", "contextlib.py",
    "answers.py",
)  # fmt: skip
"""Files between whoever asks and what is sent: psycopg's, and the store's connections."""
OF_ONE_POSTGRESQL: Final = (b"pg_terminate_backend", b"pg_advisory_xact_lock", b"pg_stat_activity")
"""What is asked of one PostgreSQL alone, or of the coordinator for itself."""


MIGRATING: Final = frozenset(
    text.encode() for step in migrations() for text in statements_in(step.statements)
)
"""What makes and fills tables, before they are spread."""


def is_elsewhere(statement: bytes) -> bool:
    """Whether a statement is never about tables that are spread."""
    return statement in MIGRATING or any(words in statement for words in OF_ONE_POSTGRESQL)


class Spy:
    """The statements that were sent, each once. They are judged beside a server that is running."""

    def __init__(self) -> None:
        self._known: set[bytes] = set()
        self._new: list[tuple[bytes, tuple[int, ...], dict[int, int]]] = []
        self._judge: Coordinator | None = None
        self._connection: psycopg.Connection[Any] | None = None
        self._judged: Server | None = None

    def see(self, query: PostgresQuery) -> None:
        """A statement that is being sent."""
        if query.query in self._known or b"mixdown." not in query.query or _is_of_a_test():
            return
        self._known.add(query.query)
        if is_elsewhere(query.query):
            return
        values = {
            number: int.from_bytes(bytes(value), "big", signed=True) if binary else int(bytes(value))
            for number, (value, kind, binary) in enumerate(
                zip(query.params or (), query.types, query.formats or (), strict=True), 1
            )
            if value is not None and kind in _INTEGERS
        }
        self._new.append((query.query, tuple(query.types), values))

    def faults(self, server: Server) -> list[str]:
        """What is wrong with those that came since this was asked last."""
        new, self._new = self._new, []
        found = []
        for statement, types, values in new:
            found += [
                f"{fault}: {statement.decode()}"
                for fault in self._by(server).faults(statement, types, values)
            ]
        return found

    def close(self) -> None:
        """Let the server go."""
        if self._connection is not None:
            self._connection.close()

    def _by(self, server: Server) -> Coordinator:
        if self._judge is None or self._judged is not server:
            server.copy(server.template(1), "judged")
            self.close()
            self._connection = server.connect("judged")
            self._judge = Coordinator(self._connection)
            self._judged = server
        return self._judge


def _is_of_a_test() -> bool:
    """Whether a test itself asks, by the store's connection."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.endswith(_BETWEEN):
        frame = frame.f_back
    return f"{os.sep}tests{os.sep}store{os.sep}test_" in frame.f_code.co_filename


@contextmanager
def watched(spy: Spy) -> Iterator[None]:
    """Have a spy see what the store sends."""
    send = psycopg.Cursor._execute_send

    def seen(cursor: psycopg.Cursor[Any], query: PostgresQuery, **options: Any) -> None:
        if isinstance(cursor.connection, WatchedConnection):
            spy.see(query)
        send(cursor, query, **options)

    psycopg.Cursor._execute_send = seen  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        psycopg.Cursor._execute_send = send  # type: ignore[method-assign]
