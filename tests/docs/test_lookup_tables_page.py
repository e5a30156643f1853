"""The page on lookup tables: its table, each example over it, its commands, and the limits in force."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mixdown.model import lookup_csv
from mixdown.model.expression import Context, matches, parse
from mixdown.model.lookup import Tables, typed
from mixdown.model.lookup_csv import LookupCsv
from mixdown.store import lookup_tables as stored
from mixdown.store.lookup_tables import LookupTable
from tests.cli.support import Cli
from tests.docs.snippets import blocks
from tests.engine import plain_store

PAGE = (Path(__file__).parent.parent.parent / "docs" / "lookup-tables.md").read_text("utf-8")
CSV = next(block.code for block in blocks(PAGE) if block.language == "csv")
PROFILES = next(json.loads(block.code) for block in blocks(PAGE) if block.language == "json")
EXAMPLES = re.findall(r"^\| `(.+?)` \| ((?:ada|bob|cyd|dan)[^|]*) \|", PAGE, re.MULTILINE)
COMMANDS = [
    line
    for block in blocks(PAGE)
    if block.language == "sh"
    for line in block.code.splitlines()
    if line.startswith("mixdown ")
]


@pytest.fixture(scope="module")
def tables() -> Iterator[Tables]:
    """The page's table in a project."""
    store = plain_store()
    project = store.catalog.create_project("p", token="t", secret_hash=b"", id_merge="simplified", now_ms=1)
    table = store.lookup_tables.create(LookupTable("x", project.id, "plans"))
    store.lookup_tables.replace(project.id, table.id, LookupCsv([CSV.encode()]), now_ms=1)
    yield store.lookup_tables.tables(project.id)
    store.close()


def test_the_page_has_its_examples() -> None:
    assert len(EXAMPLES) == 10
    assert len(COMMANDS) == 6


@pytest.mark.parametrize(("text", "chosen"), EXAMPLES)
def test_an_example_chooses_what_the_page_says(text: str, chosen: str, tables: Tables) -> None:
    expression = parse(text, tables)
    found = [name for name, row in PROFILES.items() if matches(expression, row, name, Context(1_773_187_200))]
    assert ", ".join(found) == chosen


def test_a_cell_is_what_the_page_says() -> None:
    context = Context(0)
    kinds = {
        cell: type(typed(cell, context)).__name__
        for cell in re.findall(r"`([^`]+)`", PAGE.split("## What a cell is")[1].split("\n\nThe file")[0])
    }
    assert kinds == {
        "12": "int",
        "-0.5": "float",
        "1e3": "float",
        "007": "str",
        "+1": "str",
        "true": "bool",
        "FALSE": "bool",
        "2026-01-15T12:00:00Z": "Instant",
        "datetime(...)": "str",
        '["a","b"]': "list",
    }


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli = Cli(tmp_path / "data")
    cli("project", "create", "default")
    (tmp_path / "plans.csv").write_text(CSV)
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS:
        cli(*command.split()[1:])
    assert (tmp_path / "again.csv").read_bytes().decode().splitlines() == CSV.splitlines()


def test_the_page_tells_the_limits_in_force() -> None:
    assert lookup_csv.BYTES_LIMIT == 100 * 2**20
    assert lookup_csv.ROW_LIMIT_BYTES == stored.SMALL_BYTES == 2**20
    for limit in (
        stored.TABLES_PER_PROJECT,
        stored.REPLACEMENTS_A_DAY,
        stored.SMALL_ROWS,
        lookup_csv.COLUMNS_LIMIT,
        lookup_csv.NAME_LIMIT_CHARS,
        lookup_csv.CELL_LIMIT_CHARS,
    ):
        assert f"{limit:,}" in PAGE
