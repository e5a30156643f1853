"""A server in process, with the page at `/` and a browser's habits; and a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mixdown.store.sqlite.store import open_store
from tests.explorer.browser import Browser
from tests.reads.support import World
from tests.sdk.npm import NO_CHROMIUM, clean_environment, find_chromium, npm_install


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A fresh server on the SQLite store."""
    store = open_store(tmp_path / "data", role="worker", create=True)
    made = World(store, open_store(tmp_path / "data", role="fold", create=False))
    yield made
    made.close()


@pytest.fixture(scope="session")
def browser() -> Browser:
    """Chromium and its driver; skips where one of them cannot be had."""
    problem = npm_install()
    if problem:
        pytest.skip(problem)
    chromium = find_chromium()
    if not chromium:
        pytest.skip(NO_CHROMIUM)
    return Browser(chromium, clean_environment())
