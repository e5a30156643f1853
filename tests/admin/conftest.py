"""A server in process, on the store in memory: tests/store holds the stores' catalogs to each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mixdown.store.memory import MemoryStore
from tests.reads.support import World


@pytest.fixture
def world() -> Iterator[World]:
    """A fresh server; its fold runs when the test says so."""
    made = World(MemoryStore())
    yield made
    made.close()
