"""A server in process, with the page at `/` and a browser's habits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mixdown.store.sqlite.store import open_store
from tests.reads.support import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A fresh server on the SQLite store."""
    store = open_store(tmp_path / "data", role="worker", create=True)
    made = World(store, open_store(tmp_path / "data", role="fold", create=False))
    yield made
    made.close()
