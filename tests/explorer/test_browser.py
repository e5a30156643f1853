"""Every flow of `browser/flows`, in headless Chromium, against one server with seeded data.

A flow says in JavaScript what a person does on a page and what must come of it; besides what it expects
itself, no console error, violation of the content security policy, uncaught exception or answer of 500 may
happen.
"""

from pathlib import Path

import pytest

from tests.explorer.browser import FLOWS, SETTINGS, Browser
from tests.explorer.seed import Seeded, seed
from tests.serving import StartServer

pytestmark = pytest.mark.slow  # the first test may have to install the driver


@pytest.fixture(scope="module")
def seeded(start_module_server: StartServer) -> Seeded:
    """One server for all flows; a flow that would disturb others makes a project of its own."""
    return seed(start_module_server(environment=SETTINGS))


@pytest.mark.parametrize("flow", sorted(FLOWS.glob("*.mjs")), ids=lambda flow: flow.stem)
def test_flow(flow: Path, seeded: Seeded, browser: Browser, tmp_path: Path) -> None:
    browser.run(flow, seeded.config(), tmp_path)
