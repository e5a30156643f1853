"""Identities in `state.db`: no look at rows of others, and members that can be derived of the links again."""

from __future__ import annotations

import re
from pathlib import Path

import apsw
import pytest

from mixdown.model.identity import Identities
from mixdown.store.identities import writes_of
from mixdown.store.protocols import FoldResult
from mixdown.store.sqlite import SqliteStore, identities
from mixdown.store.sqlite import connection as sqlite

STATEMENTS = [
    name for name, value in vars(identities).items() if isinstance(value, str) and "SELECT" in value
]


@pytest.fixture
def linked(opened: SqliteStore, folder: Path) -> Path:
    """A state with links of each mode in two projects."""
    known = Identities()
    for number in range(40):
        known.link("simplified", "device", f"$device:{number}", f"u{number % 7}", number, 0)
    known.link("original", "merge", "u1", "u2", 100, 0)
    known.link("original", "create_alias", "u3", "a3", 101, 0)
    known.link("legacy", "create_alias", "u4", "a4", 102, 0)
    known.unmerge("$device:5", 103, 0)
    changes = [writes_of(project, known) for project in (1, 2)]
    opened.state.write(FoldResult(1, (), (), 0, identities=changes))
    return folder


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_looks_through_a_table(name: str, linked: Path) -> None:
    sql = getattr(identities, name)
    places = max([int(number) for number in re.findall(r"\?(\d)", sql)], default=sql.count("?"))
    bindings = [apsw.carray((b"a", b"b")) if "carray" in sql and place == 1 else 1 for place in range(places)]
    with sqlite.store_errors(name):
        connection = sqlite.connect(linked / "state.db", sqlite.STATE)
    try:
        plan = [row[3] for row in sqlite.rows(connection, f"EXPLAIN QUERY PLAN {sql}", tuple(bindings))]
    finally:
        connection.close()
    scanned = [step for step in plan if step.startswith("SCAN")]
    assert all(re.fullmatch(r"SCAN (asked|carray|json_each) .*|SCAN projects", step) for step in scanned), (
        plan
    )


def test_members_are_derived_of_the_links_as_they_were_written(linked: Path) -> None:
    connection = sqlite.connect(linked / "state.db", sqlite.STATE)
    try:
        told = "SELECT * FROM identities ORDER BY project_id, id"
        before = sqlite.rows(connection, told)
        assert len(before) == 2 * (39 + 1 + 1 + 1)
        sqlite.rows(connection, "DELETE FROM identities WHERE id LIKE '%1%'")
        sqlite.rows(connection, "INSERT INTO identities VALUES (1, 'stranger', 'u1', 0)")
        with sqlite.transaction(connection):
            identities.derive_all(connection)
        assert sqlite.rows(connection, told) == before
    finally:
        connection.close()
