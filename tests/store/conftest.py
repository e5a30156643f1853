"""The stores that the contract is tested on. A new store joins here, and every test holds it to the rest."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mixdown.store.memory import MemoryStore
from mixdown.store.protocols import Catalog, Log, Refusals, Sessions, State, Store
from mixdown.store.sqlite import SqliteStore, open_store


@pytest.fixture(scope="session")
def new_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder as a first start leaves it; copying it saves the syncs of making one."""
    folder = tmp_path_factory.mktemp("store") / "new"
    open_store(folder, role="fold", create=True).close()
    return folder


@pytest.fixture
def folder(tmp_path: Path, new_folder: Path) -> Path:
    """A data folder in which nothing was kept yet."""
    return Path(shutil.copytree(new_folder, tmp_path / "data"))


@pytest.fixture
def opened(folder: Path) -> Iterator[SqliteStore]:
    """The store in `folder`, opened as the fold opens it."""
    store = open_store(folder, role="fold", create=False)
    yield store
    store.close()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store of each kind."""
    if request.param == "sqlite":
        yield request.getfixturevalue("opened")
    else:
        store = MemoryStore()
        yield store
        store.close()


@pytest.fixture
def log(store: Store) -> Log:
    return store.log


@pytest.fixture
def refusals(store: Store) -> Refusals:
    return store.refusals


@pytest.fixture
def state(store: Store) -> State:
    return store.state


@pytest.fixture
def catalog(store: Store) -> Catalog:
    return store.catalog


@pytest.fixture
def sessions(store: Store) -> Sessions:
    return store.sessions
