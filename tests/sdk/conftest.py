"""Where clients come from: `npm` for those of Node.js and browsers, `environments` for Python's.

And `seeded`, a server with something of everything in it.
"""

from pathlib import Path

import pytest

from tests.sdk.environments import client_programs
from tests.sdk.npm import NO_CHROMIUM, clean_environment, find_chromium, npm_install
from tests.sdk.seeding import seeded
from tests.serving import Certificate, Server, StartServer

__all__ = ["seeded"]  # a fixture


@pytest.fixture(scope="session")
def node_environment() -> dict[str, str]:
    """The environment for Node programs; skips where the SDKs cannot be installed."""
    problem = npm_install()
    if problem:
        pytest.skip(problem)
    return clean_environment()


@pytest.fixture(scope="module")
def tls_server(certificate: Certificate, start_module_server: StartServer) -> Server:
    """One server with TLS for all tests of a module; each test uses ids of its own."""
    return start_module_server(certificate=certificate)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium; skips where there is none."""
    found = find_chromium()
    if not found:
        pytest.skip(NO_CHROMIUM)
    return found


@pytest.fixture(scope="session")
def tap() -> Path:
    """The program `tap-mixpanel`, in an environment of its own; skips where it cannot be installed."""
    return client_programs("tap-mixpanel") / "tap-mixpanel"
