"""SQL over one project: each query in a process of its own, ended at its limits (DESIGN G6, G7).

A query enters; its answer leaves, or `QueryError` with what SQLite says of it. `store/sqlite/guarded.py` is
what runs there and keeps a query within its project. At most so many processes run at a time, and at most a
few queries wait for one. Who stops waiting for an answer ends the query.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from mixdown.model.errors import QueryError, ReadTimeoutError
from mixdown.query.sql_history import TABLE
from mixdown.store.sqlite import guarded

ANSWER_LIMIT_BYTES: Final = 16 * 1024 * 1024
WAITING_LIMIT: Final = 16
FORMATS: Final = ("json", "ndjson", "csv")
ENDED: Final = "the query was ended: it took more time or memory than it may use"
BUSY: Final = "too many SQL queries at once: ask again when others are done"
_ENVIRONMENT: Final = ("LD_LIBRARY_PATH", "LANG", "LC_ALL")
_GRACE_S: Final = 1.0


class SqlLimits(NamedTuple):
    """What a query may take."""

    timeout_s: float
    memory_bytes: int
    rows: int
    answer_bytes: int = ANSWER_LIMIT_BYTES


class SqlQuery(NamedTuple):
    """A query, its parameters by place or by name, and the form of the answer (one of `FORMATS`).

    `over_events` is one in DuckDB's SQL (`query.sql_events`), else it is in SQLite's.
    """

    project: int
    text: str
    params: Sequence[Any] | dict[str, Any]
    form: str
    over_events: bool = False
    rows: int | None = None
    """Fewer rows than the limits allow, where that is enough."""


class SqlAnswer(NamedTuple):
    """Rows as JSON (an array), lines of JSON, or CSV; `more`: there were more than the limits allow."""

    columns: list[str]
    rows: int
    more: bool
    body: bytes


class _Running:
    """The process of one query, for a thread that runs it and another that may end it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._ended

    def begun(self, process: subprocess.Popen[bytes]) -> None:
        """It has a process."""
        with self._guard:
            self._process = process
            if self._ended:
                process.kill()

    def end(self) -> None:
        """Kill the process, or the one that it would have had."""
        with self._guard:
            self._ended = True
            if self._process is not None:
                self._process.kill()


class SqlProcesses:
    """Runs queries on the files of one folder. For one event loop."""

    def __init__(self, folder: Path, limits: SqlLimits, *, at_once: int) -> None:
        self._folder = folder
        self._limits = limits
        self._room = at_once + WAITING_LIMIT
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="sql")

    async def answer(self, query: SqlQuery) -> SqlAnswer:
        """The answer. Raises `QueryError` (400), and `ReadTimeoutError` where no process was free in time.

        Cancelling it ends the query's process at once.
        """
        if not self._room:
            raise ReadTimeoutError(BUSY)
        self._room -= 1
        running = _Running()
        done = asyncio.get_running_loop().run_in_executor(
            self._threads, self._run, query, time.monotonic(), running
        )
        done.add_done_callback(self._leave)
        try:
            return _answer(await asyncio.shield(done))
        except asyncio.CancelledError:
            running.end()
            raise

    def _leave(self, done: asyncio.Future[bytes]) -> None:
        """Give back a place: not before the thread is free, however soon somebody stopped waiting for it."""
        self._room += 1
        if not done.cancelled():
            done.exception()  # taken note of, whether or not anyone waits

    def _run(self, query: SqlQuery, asked: float, running: _Running) -> bytes:
        """What the process writes, b"" where it was ended. Blocks."""
        limits = self._limits
        if running.ended:
            return b""
        if time.monotonic() - asked > limits.timeout_s:
            raise ReadTimeoutError(BUSY)
        job = {
            "folder": str(self._folder),
            "project": query.project,
            "query": query.text,
            "params": query.params,
            "format": query.form,
            "timeout_s": limits.timeout_s,
            "memory_bytes": limits.memory_bytes,
            "rows": limits.rows if query.rows is None else min(query.rows, limits.rows),
            "bytes": limits.answer_bytes,
        }
        # exec'd anew, with none of this process's descriptors, threads or variables
        with subprocess.Popen(
            [sys.executable, "-I", str(_program(query))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            cwd="/",
        ) as process:
            running.begun(process)
            try:
                return process.communicate(orjson.dumps(job), limits.timeout_s + _GRACE_S)[0]
            except subprocess.TimeoutExpired:
                return b""
            finally:
                process.kill()


def _program(query: SqlQuery) -> Path:
    """The script that answers a query; those that know the history, or events, take longer to start."""
    if query.over_events:
        return Path(__file__).with_name("sql_events_process.py")
    if TABLE in query.text.lower():
        return Path(__file__).with_name("sql_process.py")
    return Path(guarded.__file__)


def _answer(written: bytes) -> SqlAnswer:
    line, _, body = written.partition(b"\n")
    if not line:
        raise QueryError(f"query, {ENDED}", status=400)
    head = orjson.loads(line)
    if head.get("error") == guarded.UNREADABLE:
        raise ReadTimeoutError(guarded.UNREADABLE)
    if "error" in head:
        raise QueryError(f"query, {head['error']}", status=400)
    return SqlAnswer(head["columns"], head["rows"], head["more"], body)
