"""A whole way of a record without HTTP: a store of each engine, ingestion, the fold, and a project."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from mixdown.fold.profiles import ProfileFold
from mixdown.ingest.pipeline import Ingest
from mixdown.ingest.prepare import Submission
from mixdown.settings import Settings
from mixdown.store.catalog_cache import CatalogCache
from mixdown.store.chunk import Outcome
from mixdown.store.memory import MemoryStore
from mixdown.store.postgres import open_postgres
from mixdown.store.protocols import Store
from mixdown.store.sqlite.store import open_store
from tests.engine import TRIED
from tests.store.conftest import postgresql

__all__ = ["Way", "postgresql", "record", "way"]

NOON_MS = 1_768_478_400_000
DAY_MS = 24 * 3600 * 1000


class Way:
    """Sends records as a worker would, folds as the fold process would, reads what is stored."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now_ms = NOON_MS
        self.project = store.catalog.create_project(
            "default", token="TOK", secret_hash=b"s" * 32, id_merge="simplified", now_ms=NOON_MS
        )
        self.executor = ThreadPoolExecutor(2)
        self.ingest = Ingest.open(
            Settings(disk_reserve_bytes=0, disk_reserve_percent=0),
            store,
            CatalogCache(store.catalog),
            executor=self.executor,
            now_ms=lambda: self.now_ms,
        )
        self.fold = ProfileFold(store)

    def submit(self, *records: Any, endpoint: str = "engage", key: str = "", **options: Any) -> Outcome:
        """One request; returns when it is on disk."""
        submission = Submission(
            endpoint, list(records), ip_flag=False, idempotency_key=key, path=f"/{endpoint}", **options
        )
        return asyncio.run(self.ingest.submit(submission))

    def fold_all(self) -> int:
        """Fold until nothing waits; how many records."""
        records = 0
        while (folded := self.fold.step()) is not None:
            records += folded.records
        return records

    def profile(self, profile_id: str = "u1", group_key: str = "") -> dict[str, Any] | None:
        """A stored profile without `$last_seen`."""
        document = self.store.state.documents([(self.project.id, group_key, profile_id)])[0]
        if document is None:
            return None
        properties: dict[str, Any] = orjson.loads(document)
        properties.pop("$last_seen")
        return properties

    def close(self) -> None:
        """End the commit thread and the store."""
        self.ingest.close()
        self.executor.shutdown()
        self.store.close()


def record(profile_id: str = "u1", **more: Any) -> dict[str, Any]:
    """An /engage record; operators and fields are given without their `$`."""
    return {
        "$token": "TOK",
        "$distinct_id": profile_id,
        **{f"${name}": value for name, value in more.items()},
    }


@pytest.fixture(params=TRIED)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Way]:
    """A way of a record through each engine."""
    store: Store
    if request.param == "memory":
        store = MemoryStore()
    elif request.param == "postgres":
        server = request.getfixturevalue("postgresql")
        store = cast("Store", open_postgres(server.migrated(), role="fold", create=False))
    else:
        store = open_store(tmp_path / "data", role="fold", create=True)
    made = Way(store)
    yield made
    made.close()
