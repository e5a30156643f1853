"""Flows in Chromium: how tests run the programs of this folder, which drive a browser through Node.

A flow and what it is told of a server enter; what it told leaves, or why it failed, with a screenshot.
`python -m tests.explorer.browser FLOW…` runs flows by name, with a server of their own; `--slow 6` and
`--latency 150` have pages run so many times slower, and answers come so many milliseconds later.
"""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.sdk.npm import FLAGS

PROGRAMS: Final = Path(__file__).parent
FLOWS: Final = PROGRAMS / "flows"
TIMEOUT_S: Final = 850
SETTINGS: Final = {"MIXDOWN_STRING_LIMIT_BYTES": "0", "MIXDOWN_SQL_TIMEOUT_S": "60"}
"""Of the server that flows run against: a query that is cancelled ends long before its time is over."""


@dataclass(frozen=True)
class Browser:
    """Chromium's path, and the environment of Node programs."""

    chromium: str
    environment: Mapping[str, str]

    def run(self, flow: Path, config: Mapping[str, Any], folder: Path) -> list[str]:
        """Run a flow; the lines that it told. What it leaves (screenshots) stands in `folder`."""
        ended = self.outcome(flow, config, folder)
        failures = "\n\n".join(_told(failure) for failure in ended["failures"])
        if failures:
            pytest.fail(f"{flow.stem}:\n{failures}", pytrace=False)
        told: list[str] = ended["told"]
        return told

    def outcome(self, flow: Path, config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Run a flow; {"failures": …, "told": …}, whatever came of it."""
        given = folder / "config.json"
        whole = {**config, "chromium": self.chromium, "flags": FLAGS, "folder": str(folder)}
        given.write_text(json.dumps(whole))
        ended = subprocess.run(
            ["node", str(PROGRAMS / "run.mjs"), str(flow), str(given)],
            env=dict(self.environment),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S * config.get("slow", 1),
            check=False,
        )
        lines = ended.stdout.strip().rsplit("\n", 1)
        assert lines[-1].startswith("{"), f"{flow.stem} did not run:\n{ended.stdout}\n{ended.stderr}"
        found: dict[str, Any] = json.loads(lines[-1])
        return found


def _told(failure: Mapping[str, str]) -> str:
    told = f"[{failure['width']}] {failure['text']}"
    if failure.get("url"):
        told += f"\nat {failure['url']}\nscreenshot: {failure['screenshot']}"
        told += f"\nthe page shows:\n{failure['shows']}"
    return told
