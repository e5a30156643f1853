"""A command line on a data folder of its own, with no variable of the surroundings in force."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.support import Cli


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MIXDOWN_"):
            monkeypatch.delenv(name)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Commands on a folder that is not there yet."""
    return Cli(tmp_path / "data")


@pytest.fixture
def shop(cli: Cli) -> Cli:
    """Commands on a folder with the project `shop` (id 1, token `shop-token`)."""
    cli("project", "create", "shop", "--token", "shop-token")
    return cli
