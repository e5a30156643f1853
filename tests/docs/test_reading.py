"""What docs/reading.md shows is what happens: its blocks run as written, in order, against one server.

The walkthrough at its end starts from zero, and so on a server of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests import engine
from tests.docs.snippets import Step, shown_by, tour
from tests.docs.test_readme import ADDRESS, plain_environment, shape
from tests.serving import Server, StartServer, start_server

__all__ = ["start_server"]

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "reading.md"
SIZE = re.compile(r"\d+(\.\d)? (bytes|KiB)")
pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="the examples use curl")


def steps(*, walkthrough: bool) -> list[Step]:
    """The blocks of the walkthrough, or all others."""
    found = tour(PAGE.read_text(encoding="utf-8"))
    return [step for step in found if ("walkthrough" in step.tags) == walkthrough]


def run(server: Server, folder: Path, step: Step) -> str:
    """What a terminal shows when a step runs against a server."""
    environment = {
        **plain_environment(),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TOKEN": server.token,
        "SECRET": server.secret,
        "MIXDOWN_DATA_DIR": str(server.data_dir),
        **engine.variables(server.data_dir),
        "TERM": "xterm",
    }
    code = step.code.replace(ADDRESS, server.base_url)
    code = code.replace(".venv/bin", str(Path(sys.executable).parent))
    return SIZE.sub("SIZE", shape(shown_by(code, folder=folder, environment=environment)))


@pytest.mark.slow
def test_the_page_on_reading_shows_what_happens(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    found = steps(walkthrough=False)
    assert len(found) >= 7
    for step in found:
        happened = run(server, tmp_path, step)
        if step.shown is not None:
            assert happened == SIZE.sub("SIZE", shape(step.shown)), step.code


@pytest.mark.slow
def test_the_walkthrough_leads_from_zero_to_a_parquet_file(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    found = steps(walkthrough=True)
    assert len(found) == 6
    for step in found:
        assert step.shown is not None, f"the page does not show what this prints:\n{step.code}"
        assert run(server, tmp_path, step) == SIZE.sub("SIZE", shape(step.shown)), step.code
    parquet = (tmp_path / "pro.parquet").read_bytes()
    assert parquet.startswith(b"PAR1")
    assert parquet.endswith(b"PAR1")
