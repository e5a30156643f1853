"""What lets a cluster spread tables of PostgreSQL: `partition` leads each key, and each write names one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mixdown.store.moving
import mixdown.store.postgres
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.migrating import migrations
from mixdown.store.postgres.tables import DISTRIBUTED, PLAIN
from tests.store.postgres import Server

WRITE = re.compile(
    r"\b(?P<verb>INSERT INTO|UPDATE|DELETE FROM|COPY|MERGE INTO|TRUNCATE)\s+(?:ONLY\s+)?"
    r"(?:mixdown\.)?(?P<table>\w+)",
)
OF_ONE = re.compile(r"\b(?:\w+\.)?partition = (?!ANY\b)")
FIRST_COLUMN = re.compile(r"\s*(?:AS \w+\s*)?\(\s*partition\b")


def text_of(node: ast.expr | None, known: dict[str, str]) -> str | None:
    """The text that a constant or an f-string is: constants of the module as they are, all else as dots."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(piece, known) or "…" for piece in node.values)
    if isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.Name):
        return known.get(node.value.id)
    return None


def texts(source: str) -> Iterator[str]:
    """The texts in a Python file, each as a whole."""
    tree = ast.parse(source)
    known: dict[str, str] = {}
    for statement in tree.body:
        names: list[ast.expr] = []
        if isinstance(statement, ast.AnnAssign):
            names = [statement.target]
        elif isinstance(statement, ast.Assign):
            names = statement.targets
        for name in names:
            text = (
                text_of(statement.value, known)
                if isinstance(statement, (ast.Assign, ast.AnnAssign))
                else None
            )
            if isinstance(name, ast.Name) and text is not None:
                known[name.id] = text
    parts = {id(piece) for each in ast.walk(tree) if isinstance(each, ast.JoinedStr) for piece in each.values}
    for each in ast.walk(tree):
        if isinstance(each, (ast.JoinedStr, ast.Constant)) and id(each) not in parts:
            text = text_of(each, known)
            if text is not None:
                yield text


def faults(text: str) -> Iterator[str]:
    """Of the writes in a text of SQL, those of a partition's table that might touch two partitions."""
    found = [match for match in WRITE.finditer(text) if match["table"] in DISTRIBUTED]
    ends = [match.start() for match in found[1:]] + [len(text)] * bool(found)
    for match, end in zip(found, ends, strict=True):
        rest = text[match.end() : end].partition(";")[0]
        if match["verb"] in ("INSERT INTO", "COPY"):
            sound = FIRST_COLUMN.match(rest) is not None
        else:
            sound = match["verb"] in ("UPDATE", "DELETE FROM") and OF_ONE.search(rest) is not None
        if not sound:
            yield f"{match['verb']} {match['table']}{rest[:160]}"


def functions(statements: str) -> str:
    """The bodies of functions in a migration: what runs when the store is at work."""
    without_comments = re.sub(r"--[^\n]*", "", statements)
    return ";".join(re.findall(r"\$\$(.*?)\$\$", without_comments, re.DOTALL))


def test_each_statement_that_writes_a_table_of_partitions_names_one() -> None:
    rooms = (mixdown.store.postgres, mixdown.store.moving)
    found = {
        f"{path.name}: {fault}"
        for room in rooms
        for path in sorted(Path(str(room.__file__)).parent.glob("*.py"))
        for text in texts(path.read_text("utf-8"))
        for fault in faults(text)
    }
    for step in migrations():
        found.update(f"{step.name}: {fault}" for fault in faults(functions(step.statements)))
    assert found == set()


def test_the_check_sees_writes_that_name_none() -> None:
    wrong = [
        'x = "DELETE FROM mixdown.chunks WHERE first < 5"',
        'x = "UPDATE mixdown.heads SET position = 1 WHERE partition = ANY(%s)"',
        'x = f"UPDATE mixdown.heads SET {a} WHERE position = 3"',
        'x = "INSERT INTO mixdown.chunks (first, partition) VALUES (1, 2)"',
        'x = "INSERT INTO mixdown.chunks VALUES (1, 2)"',
        'x = "WITH a AS (UPDATE mixdown.heads SET a = 1) DELETE FROM mixdown.chunks WHERE partition = 1"',
        'x = "TRUNCATE mixdown.chunks"',
    ]
    for source in wrong:
        assert [fault for text in texts(source) for fault in faults(text)], source
    right = 'x = "UPDATE mixdown.heads AS h SET a = 1 " f"WHERE h.partition = %s {b}"'
    assert [fault for text in texts(right) for fault in faults(text)] == []
    many = sum(bool(WRITE.search(functions(step.statements))) for step in migrations())
    assert many, "functions of the schema are looked at"


@pytest.fixture(scope="module")
def schema(postgresql: Server) -> Iterator[Database]:
    database = Database(postgresql.migrated(partitions=2))
    yield database
    database.close()


def test_each_table_is_declared_once_and_each_that_is_declared_is_there(schema: Database) -> None:
    found = schema.rows(
        "SELECT relname FROM pg_class WHERE relnamespace = 'mixdown'::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT relispartition"
    )
    assert sorted(name for (name,) in found) == sorted((*DISTRIBUTED, *PLAIN))
    assert not set(DISTRIBUTED) & set(PLAIN)


@pytest.mark.parametrize("table", DISTRIBUTED)
def test_every_key_and_index_of_a_table_of_partitions_begins_with_the_partition(
    schema: Database, table: str
) -> None:
    kind = schema.row(
        "SELECT format_type(atttypid, NULL), attnotnull FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attname = 'partition'",
        (f"mixdown.{table}",),
    )
    assert kind == ("integer", True)
    indexes = schema.rows(
        "SELECT c.relname, i.indisprimary, a.attname FROM pg_index AS i"
        " JOIN pg_class AS c ON c.oid = i.indexrelid"
        " LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]"
        " WHERE i.indrelid = %s::regclass",
        (f"mixdown.{table}",),
    )
    assert any(primary for _, primary, _ in indexes), "it has a primary key"
    assert [name for name, _, first in indexes if first != "partition"] == []


def test_nothing_in_the_schema_stands_in_the_way_of_spreading_it(schema: Database) -> None:
    assert schema.rows("SELECT conname FROM pg_constraint WHERE contype = 'f'") == [], "foreign keys"
    assert (
        schema.rows(
            "SELECT tgname FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid"
            " WHERE c.relnamespace = 'mixdown'::regnamespace AND NOT tgisinternal"
        )
        == []
    ), "triggers"
    owned = schema.rows(
        "SELECT c.relname FROM pg_depend AS d JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'"
        " JOIN pg_class AS c ON c.oid = d.refobjid WHERE c.relnamespace = 'mixdown'::regnamespace"
    )
    assert {name for (name,) in owned}.isdisjoint(DISTRIBUTED), "sequences"
