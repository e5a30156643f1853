"""The process that answers one query over events: as `store/sqlite/guarded.py`, with DuckDB in it.

A job enters on stdin, its answer leaves on stdout, in the same shapes. Before the query runs, the process has
so much memory and processor time, may write no file, and is ended by an alarm of its own.
"""

from __future__ import annotations

import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

import json

from mixdown.model.errors import MixdownError
from mixdown.query.sql_events import THREADS, EventSql
from mixdown.store.sqlite.events import SqliteEvents
from mixdown.store.sqlite.guarded import GRACE_S, TOO_MUCH_MEMORY, UNREADABLE, RefusedError, written
from mixdown.store.sqlite.state import SqliteState

if TYPE_CHECKING:
    from mixdown.store.events import Events
    from mixdown.store.protocols import State

_REST_BYTES: Final = 512 * 1024 * 1024
"""What the process may take beside DuckDB's own bound: libraries, stacks, the answer."""
_DESCRIPTORS: Final = 512


def close_in(memory_bytes: int, timeout_s: float) -> None:
    """From here on the process writes nothing, and has so much memory and time."""
    used = int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
    for kind, limit in (
        (resource.RLIMIT_AS, used + memory_bytes + _REST_BYTES),
        (resource.RLIMIT_CPU, int(THREADS * timeout_s + GRACE_S) + 1),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _DESCRIPTORS),
    ):
        resource.setrlimit(kind, (limit, limit))


def answer(job: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The head and the body of the answer to a job. Raises `RefusedError`, `MixdownError`."""
    events, state = _opened(job)
    with EventSql(
        job["query"],
        events=events,
        state=state,
        project=job["project"],
        memory_bytes=job["memory_bytes"],
        timeout_s=job["timeout_s"],
    ) as asked:
        close_in(job["memory_bytes"], job["timeout_s"])
        columns, rows = asked.run(job["params"])
        return written(job, columns, rows)


def _opened(job: dict[str, Any]) -> tuple[Events, State]:
    """Events and profiles of the store that a job names, to be read. Raises `StoreError`."""
    if "database" in job:
        from mixdown.query.sql_store_process import open_job  # noqa: PLC0415 - psycopg, for those who need it
        from mixdown.store.shelves import shelf_of  # noqa: PLC0415 - likewise

        url = job["database"]["shelf"]
        store = open_job(job, shelf_of(url, None) if url else None)
        return store.events, store.state
    folder = Path(job["folder"])
    return SqliteEvents(folder), SqliteState(folder, writes=False)


def main() -> None:
    """Answer the job on stdin."""
    job = json.load(sys.stdin.buffer)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, job["timeout_s"] + GRACE_S)  # it ends, whoever forgets it
    try:
        head, body = answer(job)
    except RefusedError as error:
        head, body = {"error": str(error)}, b""
    except MemoryError:
        head, body = {"error": TOO_MUCH_MEMORY.format(limit=job["memory_bytes"])}, b""
    except MixdownError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        head, body = {"error": UNREADABLE}, b""
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n")
    sys.stdout.buffer.write(body)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
