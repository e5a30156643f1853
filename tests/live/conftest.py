"""A server in process whose live tail is quick."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mixdown.store.memory import MemoryStore
from mixdown.store.protocols import Store
from mixdown.store.sqlite.store import open_store
from tests.live.support import close, quick
from tests.reads.support import World


@pytest.fixture(params=["memory", "sqlite"])
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A fresh server on each store."""
    store: Store
    if request.param == "memory":
        store = MemoryStore()
    else:
        store = open_store(tmp_path / "data", role="worker", create=True)
    made = quick(World(store), monkeypatch)
    yield made
    close(made)


@pytest.fixture(scope="module")
def shared_world() -> Iterator[World]:
    """A server on the memory store for tables of calls that change nothing."""
    made = World(MemoryStore())
    yield made
    close(made)


@pytest.fixture
def plain_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A fresh server on the memory store."""
    made = quick(World(MemoryStore()), monkeypatch)
    yield made
    close(made)
