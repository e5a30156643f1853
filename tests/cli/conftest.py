"""A command line on a data folder of its own, with no variable of the surroundings in force."""

from __future__ import annotations

import os
import shutil
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


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "data"
    Cli(folder)("project", "create", "shop", "--token", "shop-token")
    return folder


@pytest.fixture
def shop(cli: Cli, _template: Path) -> Cli:
    """Commands on a folder with the project `shop` (id 1, token `shop-token`)."""
    shutil.copytree(_template, cli.folder)
    return cli
