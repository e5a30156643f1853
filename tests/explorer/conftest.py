"""A server in process, with the explorer at `/` and a browser's habits; and a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mixdown.explorer import session
from tests.engine import open_store
from tests.explorer.browser import Browser
from tests.explorer.support import Site, plain_pages
from tests.reads.support import World
from tests.sdk.npm import NO_CHROMIUM, clean_environment, find_chromium, npm_install


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "FAILURE_PAUSE_S", 0.0)


@contextmanager
def opened(folder: Path) -> Iterator[World]:
    """A fresh server on the SQLite store."""
    store = open_store(folder / "data", role="worker", create=True)
    made = World(store, open_store(folder / "data", role="fold", create=False))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A server of the test's own."""
    with opened(tmp_path) as made:
        yield made


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


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with pages of the tests' own, for all tests of a module."""
    with opened(tmp_path_factory.mktemp("site")) as world:
        made = Site(world, plain_pages)
        yield made
        made.close()


@pytest.fixture
def site(shared_site: Site) -> Site:
    """The same, with a browser that has not signed in."""
    shared_site.client.cookies.clear()
    return shared_site
