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
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from mixdown.model.errors import QueryError, ReadTimeoutError
from mixdown.model.masking import NOTHING_HIDDEN, STAND_IN, Mask
from mixdown.query.sql_history import TABLE
from mixdown.store.sqlite import guarded

ANSWER_LIMIT_BYTES: Final = 16 * 1024 * 1024
WAITING_LIMIT: Final = 16
FORMATS: Final = ("json", "ndjson", "csv")
ENDED: Final = "the query was ended: it took more time or memory than it may use"
BUSY: Final = "too many SQL queries at once: ask again when others are done"
_ENVIRONMENT: Final = ("LD_LIBRARY_PATH", "LANG", "LC_ALL")
_TO_CONNECT: Final = ("HOME", "SSL_CERT_FILE")
"""What libpq looks at beside its own variables, which begin with PG."""
_TO_A_BUCKET: Final = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
"""What a client of an object store looks at beside variables that begin with AWS_."""
_GRACE_S: Final = 1.0
_CONNECTING_S: Final = 5.0
"""What a process that connects to a database may take beside, until its query begins."""


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
    mask: Mask = NOTHING_HIDDEN
    """What hides tokens in the view `refusals`."""
    spreadsheet: bool = False
    """Whether a text of CSV that a spreadsheet would run as a formula gets an apostrophe in front."""


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
    """Runs queries on one store. For one event loop."""

    def __init__(self, source: Mapping[str, Any], limits: SqlLimits, *, at_once: int) -> None:
        """`source` is what `source_of` gives."""
        self._source = source
        self._grace_s = _GRACE_S + (_CONNECTING_S if "database" in source else 0.0)
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
            **self._source,
            "project": query.project,
            "query": query.text,
            "params": query.params,
            "format": query.form,
            "spreadsheet": query.spreadsheet,
            "hidden": [query.mask.pattern, STAND_IN] if query.mask else None,
            "timeout_s": limits.timeout_s,
            "memory_bytes": limits.memory_bytes,
            "rows": limits.rows if query.rows is None else min(query.rows, limits.rows),
            "bytes": limits.answer_bytes,
        }
        # exec'd anew, with none of this process's descriptors, threads or variables
        with subprocess.Popen(
            [sys.executable, "-I", str(_program(query, self._source))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(query, self._source),
            cwd="/",
        ) as process:
            running.begun(process)
            try:
                return process.communicate(orjson.dumps(job), limits.timeout_s + self._grace_s)[0]
            except subprocess.TimeoutExpired:
                return b""
            finally:
                process.kill()


def source_of(store: Any) -> dict[str, Any] | None:
    """Where a process of its own finds what a store holds; None where it cannot: it is in memory."""
    folder: Path | None = getattr(store, "folder", None)
    if folder is not None:
        return {"folder": str(folder)}
    database: Mapping[str, str] | None = getattr(store, "opened_by", None)
    return None if database is None else {"database": dict(database)}


def _environment(query: SqlQuery, source: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a process: what it needs to start, and to connect where it is to."""
    names = list(_ENVIRONMENT)
    if "database" in source:
        names += [*_TO_CONNECT, *(name for name in os.environ if name.startswith("PG"))]
        if query.over_events and "://" in source["database"]["shelf"]:
            names += [*_TO_A_BUCKET, *(name for name in os.environ if name.startswith("AWS_"))]
    return {name: os.environ[name] for name in names if name in os.environ}


def _program(query: SqlQuery, source: Mapping[str, Any]) -> Path:
    """The script that answers a query; those that know the history, or events, take longer to start."""
    if query.over_events:
        return Path(__file__).with_name("sql_events_process.py")
    if "database" in source:
        return Path(__file__).with_name("sql_store_process.py")
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
