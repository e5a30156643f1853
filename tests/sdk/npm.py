"""Packages of npm, on demand, into tests/sdk/node/node_modules; and Chromium, where the machine has it.

Nothing enters; what leaves is where things are, or why they are not.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

NODE: Final = Path(__file__).parent / "node"
INSTALL_TIMEOUT_S: Final = 600
NO_CHROMIUM: Final = "Chromium, which this drives, is not installed (Debian: apt-get install chromium)"
FLAGS: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--renderer-process-limit=3",
]
"""Chromium in a container, and quiet: it asks nothing of the network but what a page asks."""


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


def clean_environment() -> dict[str, str]:
    """This process's environment without what would change how servers, Node or its programs behave."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MIXDOWN_", "NODE_"))}
    return {name: value for name, value in kept.items() if not name.upper().endswith("_PROXY")}


def find_chromium() -> str:
    """The path of Chromium, '' where there is none."""
    for name in ("/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found is not None:
            return found
    return ""
