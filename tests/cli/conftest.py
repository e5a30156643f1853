"""A command line on a data folder of its own, with no variable of the surroundings in force."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import engine
from tests.cli.support import Cli


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MIXDOWN_"):
            monkeypatch.delenv(name)


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """Commands on a folder that is not there yet, or on an empty database with a node."""
    folder = tmp_path / "data"
    with engine.node_beside(folder):
        yield Cli(folder)


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "data"
    with engine.node_beside(folder):
        Cli(folder)("project", "create", "shop", "--token", "shop-token")
    return folder


@pytest.fixture
def shop(tmp_path: Path, _template: Path) -> Iterator[Cli]:
    """Commands on a folder with the project `shop` (id 1, token `shop-token`)."""
    folder = engine.copied(_template, tmp_path / "data")
    with engine.node_beside(folder):
        yield Cli(folder)
