"""A server in process whose live tail is quick."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mixdown.store.memory import MemoryStore
from mixdown.store.protocols import Store
from tests.engine import IN_PROCESS, open_store, plain_store
from tests.live.support import close, quick
from tests.reads.support import World


@pytest.fixture(params=IN_PROCESS)
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A fresh server on each store."""
    store: Store
    fold_store: Store | None = None
    if request.param == "memory":
        store = MemoryStore()
    else:
        store = open_store(tmp_path / "data", role="worker", create=True)
        fold_store = open_store(tmp_path / "data", role="fold", create=False)
    made = quick(World(store, fold_store), monkeypatch)
    yield made
    close(made)


@pytest.fixture(scope="module")
def shared_world() -> Iterator[World]:
    """A server on the quickest store for tables of calls that change nothing."""
    made = World(plain_store())
    yield made
    close(made)


@pytest.fixture
def plain_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A fresh server on the quickest store."""
    made = quick(World(plain_store()), monkeypatch)
    yield made
    close(made)
