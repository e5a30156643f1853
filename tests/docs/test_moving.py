"""docs/moving.md: its commands run as they stand, in order, against a server; another plays Mixpanel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import engine
from tests.docs.snippets import blocks, shown_by, tour
from tests.docs.test_readme import ADDRESS, plain_environment, shape
from tests.serving import Server, StartServer, start_server

__all__ = ["start_server"]

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "moving.md"
FIRST_MS = 1_767_225_600_000
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("curl"), reason="the examples use curl"),
]


def fill(mixpanel: Server) -> None:
    """What Mixpanel has: 60 events of three days, 20 users."""
    events: list[dict[str, Any]] = [
        {
            "event": ("Purchase", "View", "Login")[n % 3],
            "properties": {
                "time": FIRST_MS + n * 3_600_000,
                "distinct_id": f"user-{n % 20:05}",
                "$insert_id": f"e-{n}",
                "n": n,
            },
        }
        for n in range(60)
    ]
    told = mixpanel.post(
        f"/import?strict=1&project_id={mixpanel.project_id}", events, mixpanel.authorization()
    )
    assert told.json()["num_records_imported"] == 60
    users = [
        {"$token": mixpanel.token, "$distinct_id": f"user-{n:05}", "$set": {"plan": "pro", "n": n}}
        for n in range(20)
    ]
    assert mixpanel.post("/engage", users).body == b"1"


def test_an_application_moves_over_as_the_page_says(start_server: StartServer, tmp_path: Path) -> None:
    server, mixpanel = start_server(), start_server()
    fill(mixpanel)
    there = f"{mixpanel.project_id} --mixpanel-url {mixpanel.base_url}"
    environment = {
        **plain_environment(),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TOKEN": server.token,
        "SECRET": server.secret,
        "MIXPANEL_ACCOUNT": ":".join(mixpanel.account),
        "MIXDOWN_DATA_DIR": str(server.data_dir),
        **engine.variables(server.data_dir),
        "NO_PROXY": "127.0.0.1",
        "TERM": "xterm",
    }
    text = PAGE.read_text(encoding="utf-8").replace(ADDRESS, server.base_url)
    [app] = [block for block in blocks(text) if "app" in block.tags]
    subprocess.run([sys.executable, "-c", app.code], env=environment, check=True, timeout=120)
    found = list(tour(text))
    assert len([step for step in found if "history" in step.tags]) == 2
    for step in found:
        code = step.code.replace("1234567 --region eu", there)
        happened = shown_by(code, folder=tmp_path, environment=environment)
        if "history" in step.tags:
            happened = shape(happened).replace("\r", "").split("\n")[-1]  # behind a bar
        if step.shown is not None:
            assert shape(happened) == shape(step.shown), step.code
    assert set(server.profiles()) == {"ada", *mixpanel.profiles()}
    assert len(server.events()) == 61
