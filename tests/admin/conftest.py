"""A server in process, in memory or on PostgreSQL: tests/store holds the stores' catalogs to each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine import plain_store
from tests.reads.support import World


@pytest.fixture
def world() -> Iterator[World]:
    """A fresh server; its fold runs when the test says so."""
    made = World(plain_store())
    yield made
    made.close()
