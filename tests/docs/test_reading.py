"""What docs/reading.md shows is what happens: its blocks run as written, in order, against one server."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.docs.snippets import shown_by, tour
from tests.docs.test_readme import ADDRESS, plain_environment, shape
from tests.serving import StartServer, start_server

__all__ = ["start_server"]

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "reading.md"


@pytest.mark.skipif(not shutil.which("curl"), reason="the examples use curl")
def test_the_page_on_reading_shows_what_happens(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    environment = {
        **plain_environment(),
        "TOKEN": server.token,
        "SECRET": server.secret,
        "MIXDOWN_DATA_DIR": str(server.data_dir),
        "TERM": "xterm",
    }
    steps = list(tour(PAGE.read_text(encoding="utf-8")))
    assert len(steps) >= 7
    for step in steps:
        code = step.code.replace(ADDRESS, server.base_url)
        code = code.replace(".venv/bin", str(Path(sys.executable).parent))
        happened = shown_by(code, folder=tmp_path, environment=environment)
        if step.shown is not None:
            assert shape(happened) == shape(step.shown), step.code
