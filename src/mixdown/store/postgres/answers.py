"""A connection that does not wait for an answer that cannot come, nor believe every COMMIT.

Enters: how long an answer may take. Leaves: psycopg's own connection, closed where no answer came in time: a
network that swallows packets, a server that was stopped or a standby that does not confirm say nothing, and a
request must not wait for them. Where an answer may take long, the database is asked on another connection now
and then whether it is at work on it. What was asked has perhaps been done, as after any lost reply.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.waiting import Ready, Wait

from mixdown.store import patience

UNANSWERED: Final = "no answer came within {limit_s:.0f} s"
UNCONFIRMED: Final = "a COMMIT ended before a standby had confirmed it"
LOOK_EVERY_S: Final = 10.0
"""How long nothing may be sent or come before the database is asked whether it is at work."""
LOOK_LIMIT_S: Final = 3.0
_GRACE_S: Final = 2.0
"""A read whose time is over is ended by the database itself, which says so: as long as that may take."""
_INTERVAL_S: Final = 0.1
_LAST_WORDS_S: Final = 0.5
_AT_WORK: Final = """
    SELECT state = 'active' AND wait_event IS DISTINCT FROM 'ClientRead' FROM pg_stat_activity WHERE pid = %s
"""
_TOO_MANY: Final = ("too many clients", "remaining connection slots")
# The name of a function of PostgreSQL's own, which is in no language: messages are in the database's.
_GAVE_UP_WAITING: Final = "SyncRepWaitForLSN"
# Likewise of Citus: it passes on what a node says. What that was in, and of which function, it does not tell;
# the severity only of what comes within a statement. So a warning that comes as DEBUG is one of a COMMIT.
_PASSES_ON: Final = "DefaultCitusNoticeReceiver"
_WARNING: Final = "01"
_Result = TypeVar("_Result")


class WatchedConnection(psycopg.Connection[tuple[Any, ...]]):
    """One that raises `psycopg.OperationalError`, and is closed, where no answer will come."""

    answer_limit_s: float | None = None
    """Where the thread has no deadline of its own (`store.patience`); None: while it is at work."""
    look: Callable[[], WatchedConnection] | None = None
    """How to connect once more, for a moment, to see what the database is at."""
    _is_unconfirmed = False
    _moved_s = 0.0
    """When something was last sent or came, of what is waited for."""

    def wait(
        self, gen: PQGen[_Result], interval: float = _INTERVAL_S, timeout: float | None = None
    ) -> _Result:
        result = self._waited(gen, interval) if timeout is None else super().wait(gen, interval, timeout)
        if self._is_unconfirmed:
            self.pgconn.finish()
            raise psycopg.OperationalError(UNCONFIRMED)
        return result

    def _waited(self, gen: PQGen[_Result], interval: float) -> _Result:
        limit_s, began_s, waited_s = self._limit_s(), time.monotonic(), 0.0
        self._moved_s, gen = began_s, self._noted(gen)
        while True:
            step_s = self._moved_s + LOOK_EVERY_S - (began_s + waited_s)
            try:
                return super().wait(
                    gen, interval, max(0.0, step_s if limit_s is None else min(step_s, limit_s - waited_s))
                )
            except psycopg.errors._WaitTimeout:  # noqa: SLF001 - it has no other name
                waited_s = time.monotonic() - began_s
            if limit_s is None or waited_s < limit_s:
                if began_s + waited_s < self._moved_s + LOOK_EVERY_S:
                    continue  # a large step goes over a slow network: nobody is at work on it yet
                if self._is_worked_on():
                    self._moved_s = began_s + waited_s
                    continue
            try:
                return super().wait(gen, interval, _LAST_WORDS_S)  # it came just now, perhaps
            except psycopg.errors._WaitTimeout:  # noqa: SLF001 - likewise
                self.pgconn.finish()
                raise psycopg.OperationalError(UNANSWERED.format(limit_s=waited_s)) from None

    def _noted(self, gen: PQGen[_Result]) -> Generator[Wait, Ready | int | None, _Result]:
        """What psycopg does, noting when it can go on.

        It may be waited for again: that begins it with None, which psycopg's own do not take where they send.
        """
        try:
            wanted = next(gen)
            while True:
                ready = (yield wanted) or Ready.NONE
                if ready:
                    self._moved_s = time.monotonic()
                wanted = gen.send(ready)
        except StopIteration as ended:
            found: _Result = ended.value
            return found

    def _is_worked_on(self) -> bool:
        """Whether the database is at work on what this waits for, so far as it can be told."""
        if self.look is None:
            return True
        try:
            with self.look() as looking:
                own = looking.execute("SELECT pg_backend_pid()").fetchone()
                if own != (looking.info.backend_pid,):
                    return True  # a pooler stands between, and gives numbers of its own
                found = looking.execute(_AT_WORK, (self.info.backend_pid,)).fetchone()
        except psycopg.OperationalError as error:
            return any(words in str(error) for words in _TOO_MANY)
        return found is not None and bool(found[0])

    def watch_commits(self) -> None:
        """Take no COMMIT for one that a standby did not confirm, where the database waits for one.

        Whoever cancels a statement ends that wait, and PostgreSQL then says COMMIT, and warns. So does a node
        of a cluster, whose warning its coordinator passes on.
        """
        self.add_notice_handler(self._noticed)

    def _noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.source_function == _GAVE_UP_WAITING or _is_of_nodes_commit(notice):
            self._is_unconfirmed = True

    def _limit_s(self) -> float | None:
        remaining_s = patience.remaining_s()
        return self.answer_limit_s if remaining_s is None else remaining_s + _GRACE_S


def _is_of_nodes_commit(notice: psycopg.errors.Diagnostic) -> bool:
    """Whether a node of a cluster warned while it committed; PostgreSQL does so for one reason alone."""
    return (
        notice.source_function == _PASSES_ON
        and notice.severity_nonlocalized == "DEBUG"
        and (notice.sqlstate or "").startswith(_WARNING)
    )
