"""A server in process on each store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mixdown.store.memory import MemoryStore
from mixdown.store.protocols import Store
from tests.engine import IN_PROCESS, open_store, plain_store
from tests.reads.support import World


@pytest.fixture(params=IN_PROCESS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A fresh server; its fold runs when the test says so."""
    fold_store: Store | None = None
    store: Store
    if request.param == "memory":
        store = MemoryStore()
    else:
        store = open_store(tmp_path / "data", role="worker", create=True)
        fold_store = open_store(tmp_path / "data", role="fold", create=False)
    made = World(store, fold_store)
    yield made
    made.close()


@pytest.fixture
def plain_world() -> Iterator[World]:
    """A fresh server on the quickest store, for tables about what comes before the store is asked."""
    made = World(plain_store())
    yield made
    made.close()
