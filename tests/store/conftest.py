"""The stores that the contract is tested on. A new store joins here, and every test holds it to the rest.

Those of `MIXDOWN_TEST_STORES` are tried (`tests.engine`); without it PostgreSQL is not among them, since it
takes longer: `make test-postgres` tries it. A cluster is tried where `MIXDOWN_TEST_CITUS_URL` names one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from mixdown.store.memory import MemoryStore
from mixdown.store.postgres import PostgresStore, open_postgres
from mixdown.store.protocols import Catalog, Log, Refusals, Sessions, State, Store
from mixdown.store.sqlite import SqliteStore, open_store
from tests import engine
from tests.engine import TRIED
from tests.store.cluster import CLUSTER, URL, Cluster
from tests.store.postgres import Server


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


@pytest.fixture(scope="session")
def postgresql() -> Server:
    """The PostgreSQL of all tests of a process."""
    if "postgres" not in TRIED:
        pytest.skip("`make test-postgres` tries PostgreSQL")
    return engine.postgresql()


@pytest.fixture
def postgres_store(postgresql: Server) -> Iterator[PostgresStore]:
    """An empty store in a database of its own, opened as the fold opens it."""
    url = postgresql.migrated()
    store = open_postgres(url, role="fold", create=False)
    yield store
    store.close()
    postgresql.drop(url)


@pytest.fixture(scope="session")
def left_empty() -> Iterator[None]:
    """Nothing stays on the cluster: whoever goes on meanwhile makes its tables anew."""
    yield
    cluster = Cluster(URL)
    with cluster.turn():
        cluster.empty()


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The cluster, which nobody else uses while the test runs."""
    if not CLUSTER:
        pytest.skip("MIXDOWN_TEST_CITUS_URL names no cluster")
    request.getfixturevalue("left_empty")
    cluster = Cluster(URL)
    with cluster.turn():
        yield cluster


@pytest.fixture(params=(*TRIED, *CLUSTER))
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store of each kind."""
    if request.param == "sqlite":
        yield request.getfixturevalue("opened")
    elif request.param == "cluster":
        spread = open_postgres(request.getfixturevalue("cluster").emptied(), role="fold", create=False)
        yield cast("Store", spread)
        spread.close()
    elif request.param == "postgres":
        # not all parts of `Store` are there yet
        yield cast("Store", request.getfixturevalue("postgres_store"))
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
