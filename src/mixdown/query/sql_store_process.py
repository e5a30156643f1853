"""The process that answers one query over a PostgreSQL store: as `store/sqlite/guarded.py`, fed by the store.

It connects before the query is looked at, and can connect nowhere once it is. What it asks of the database
are the statements of the store, each ended at the query's time limit.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from typing import TYPE_CHECKING, Any, cast

from mixdown.model.errors import MixdownError, ReadTimeoutError
from mixdown.query.sql_store import StoreGuard
from mixdown.store import patience
from mixdown.store.postgres import PostgresStore, open_postgres
from mixdown.store.sqlite import guarded
from mixdown.store.sqlite.guarded import TOO_LATE, UNREADABLE, RefusedError

if TYPE_CHECKING:
    from mixdown.store.protocols import Store
    from mixdown.store.shelves import Shelf


def open_job(job: dict[str, Any], shelf: Shelf | None = None) -> PostgresStore:
    """The store that a job names, by one connection, which is open. Raises `StoreError`."""
    database = job["database"]
    store = open_postgres(
        database["url"],
        role="cli",
        create=False,
        pool_size=1,
        password_file=database["password_file"],
        shelf=shelf,
    )
    store.catalog.version()
    return store


def answer(job: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The head and the body of the answer to a job. Raises `RefusedError`."""
    timeout_s = job["timeout_s"]
    deadline_s = time.monotonic() + timeout_s
    try:
        store = open_job(job)
        guard = StoreGuard(
            cast("Store", store),  # as `Store` says, but for parts that its engine adds as it grows
            job["project"],
            timeout_s=timeout_s,
            memory_bytes=job["memory_bytes"],
            hidden=job.get("hidden"),
        )
        guard.close_in()
        with patience.until(deadline_s, timeout_s):
            return guard.answer(job)
    except ReadTimeoutError:
        raise RefusedError(TOO_LATE.format(limit=timeout_s)) from None
    except MixdownError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        raise RefusedError(UNREADABLE) from error


if __name__ == "__main__":
    guarded.run_job(answer)
