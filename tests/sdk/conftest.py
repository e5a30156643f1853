"""Where clients come from: npm, on demand, into tests/sdk/node/node_modules; `environments` for Python's.

And `seeded`, a server with something of everything in it.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.sdk.environments import client_programs
from tests.sdk.seeding import seeded
from tests.serving import Certificate, Server, StartServer

__all__ = ["seeded"]  # a fixture

NODE = Path(__file__).parent / "node"
INSTALL_TIMEOUT_S = 240


def npm_install() -> str:
    """Install what package-lock.json names, unless that is there already; returns why it could not, or ''."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return "node and npm, which the SDKs for Node.js and browsers need, are not installed"
    wanted = hashlib.sha256((NODE / "package-lock.json").read_bytes()).hexdigest()
    stamp = NODE / "node_modules" / ".installed"
    with (NODE / "package.json").open("rb") as turn:  # several test runs at once take turns
        fcntl.flock(turn, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return ""
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            ended = subprocess.run(
                command, cwd=NODE, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return f"npm ci did not end within {INSTALL_TIMEOUT_S} s"
        if ended.returncode:
            return f"npm ci failed: {ended.stderr.strip()[-500:]}"
        stamp.write_text(wanted)
        return ""


@pytest.fixture(scope="session")
def node_environment() -> dict[str, str]:
    """The environment for Node programs; skips where the SDKs cannot be installed."""
    problem = npm_install()
    if problem:
        pytest.skip(problem)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MIXDOWN_", "NODE_"))}
    return {name: value for name, value in kept.items() if not name.upper().endswith("_PROXY")}


@pytest.fixture(scope="module")
def tls_server(certificate: Certificate, start_module_server: StartServer) -> Server:
    """One server with TLS for all tests of a module; each test uses ids of its own."""
    return start_module_server(certificate=certificate)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium; skips where there is none."""
    for name in ("/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found is not None:
            return found
    pytest.skip("Chromium, which runs the browser SDK, is not installed (Debian: apt-get install chromium)")


@pytest.fixture(scope="session")
def tap() -> Path:
    """The program `tap-mixpanel`, in an environment of its own; skips where it cannot be installed."""
    return client_programs("tap-mixpanel") / "tap-mixpanel"
