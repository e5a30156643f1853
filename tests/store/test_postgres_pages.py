"""The SQL that documents give for a PostgreSQL store: all of it runs, as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from tests.operations.test_deploy_files import COMPOSE, read
from tests.store.postgres import Server

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
BLOCKS = {
    f"{page} {number}": text
    for page in ("monitoring", "scaling")
    for number, text in enumerate(
        re.findall(r"```sql\n(.*?)```", (DOCS / f"{page}.md").read_text(), re.DOTALL)
    )
}
ROLES = next(text for text in BLOCKS.values() if "CREATE ROLE" in text)


@pytest.mark.parametrize("name", [name for name, text in BLOCKS.items() if text != ROLES])
def test_a_query_of_the_documents_runs(postgresql: Server, name: str) -> None:
    with psycopg.connect(postgresql.migrated(2), autocommit=True) as connection:
        cursor = connection.cursor()
        for statement in BLOCKS[name].split(";"):
            if statement.strip():
                cursor.execute(statement.encode())
                assert cursor.description is not None


def test_who_reads_what_is_told_for_every_partition(postgresql: Server) -> None:
    [query] = [text for text in BLOCKS.values() if "mixdown.leases" in text]
    with psycopg.connect(postgresql.migrated(3), autocommit=True) as connection:
        found = connection.execute(query.encode()).fetchall()
    assert sorted(row[:3] for row in found) == sorted(
        (kind, partition, 0) for kind in ("fold", "events") for partition in range(3)
    )


def test_the_roles_of_the_page_are_those_that_the_containers_make() -> None:
    [path] = [path for path in COMPOSE if "postgres" in path.name]
    made = read(path)["configs"]["roles"]["content"]
    words = ROLES.replace("'one'", ":'owner'").replace("'another'", ":'serve'")
    assert words in made
