"""A server with the setup of the contract's cases: token, service account, GeoIP stub, trusted proxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.geo import write_database
from tests.contract.support import TOKEN
from tests.serving import Server, launch


@pytest.fixture(scope="session")
def geo_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The GeoIP stub."""
    return write_database(tmp_path_factory.mktemp("geo") / "stub.mmdb")


def launch_located(folder: Path, token: str, geo_database: Path) -> Server:
    """A server with the GeoIP stub, for which this machine is a proxy that may speak for any client."""
    return launch(
        folder,
        environment={
            "MIXDOWN_TOKEN": token,
            "MIXDOWN_GEO_DATABASE": str(geo_database),
            "MIXDOWN_TRUSTED_PROXIES": "127.0.0.1",
        },
    )


@pytest.fixture(scope="session")
def mixdown(tmp_path_factory: pytest.TempPathFactory, geo_database: Path) -> Iterator[Server]:
    """The server of the cases; this machine is a trusted proxy that speaks for 203.0.113.9."""
    running = launch_located(tmp_path_factory.mktemp("contract") / "data", TOKEN, geo_database)
    yield running
    running.stop()
