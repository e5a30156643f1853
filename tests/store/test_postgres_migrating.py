"""Migrations of PostgreSQL: each once, by one process at a time; what is newer is refused."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from mixdown.model.errors import SchemaTooNewError, StoreError
from mixdown.store.postgres import migrating, open_postgres
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.migrating import Migration, migrate, migrations, statements_in, waiting
from mixdown.store.postgres.texts import TextCursor
from tests.store.postgres import Server


def test_an_empty_database_takes_all_migrations_in_order_and_then_none(postgresql: Server) -> None:
    database = Database(postgresql.empty())
    assert waiting(database) == migrations()
    assert migrate(database, partitions=3) == migrations()
    assert migrate(database, partitions=9) == []
    assert waiting(database) == []
    assert database.value("SELECT partitions FROM mixdown.layout") == 3
    assert database.rows("SELECT partition, position FROM mixdown.heads ORDER BY 1") == [
        (0, 0),
        (1, 1 << 44),
        (2, 2 << 44),
    ]
    database.close()


def test_processes_that_migrate_at_once_do_so_in_turns(postgresql: Server) -> None:
    url = postgresql.empty()
    taken: list[Migration] = []

    def run() -> None:
        database = Database(url)
        taken.extend(migrate(database))
        database.close()

    threads = [threading.Thread(target=run) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken, key=lambda each: each.number) == migrations()


def test_a_migration_that_fails_leaves_nothing_and_those_before_it_stand(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Migration(9999, "9999_broken.sql", "CREATE TABLE mixdown.half (); SELECT 1 / 0;")
    own = migrations()
    database = Database(postgresql.empty())
    with monkeypatch.context() as patched:
        patched.setattr(migrating, "migrations", lambda: [*own, broken])
        with pytest.raises(StoreError, match="DivisionByZero"):
            migrate(database)
        assert [each.number for each in waiting(database)] == [9999]
    assert database.value("SELECT to_regclass('mixdown.half')") is None
    assert migrate(database) == []
    database.close()


def test_a_database_of_a_newer_version_is_refused(postgresql: Server) -> None:
    url = postgresql.migrated()
    database = Database(url)
    database.run("INSERT INTO mixdown.migrations VALUES (9998, 'later', now())")
    with pytest.raises(SchemaTooNewError, match="9998"):
        migrate(database)
    database.close()
    for create in (True, False):
        with pytest.raises(SchemaTooNewError, match="newer Mixdown"):
            open_postgres(url, role="cli", create=create)


def test_a_database_without_tables_is_opened_only_to_make_them(postgresql: Server) -> None:
    url = postgresql.empty()
    with pytest.raises(StoreError, match="mixdown db migrate"):
        open_postgres(url, role="worker", create=False)
    store = open_postgres(url, role="worker", create=True, partitions=5)
    assert store.partition_count == 5
    store.close()


def test_a_number_of_partitions_that_positions_cannot_tell_apart_is_refused(postgresql: Server) -> None:
    database = Database(postgresql.empty())
    for wrong in (0, 513):
        with pytest.raises(StoreError, match="1 to 512"):
            migrate(database, partitions=wrong)
    database.close()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("-- nothing; at all\n", []),
        ("SELECT 1; SELECT 2 ;", ["SELECT 1", "SELECT 2"]),
        ("SELECT 1;\nSELECT 2\n", ["SELECT 1", "SELECT 2"]),
        (
            "SELECT 5 - 3, ';''x', 'it''s; so' -- this; too 'all\n; SELECT 2;",
            ["SELECT 5 - 3, ';''x', 'it''s; so'", "SELECT 2"],
        ),
        ("DO $$ a; -- b; \n c; $$; SELECT 'y';", ["DO $$ a; -- b; \n c; $$", "SELECT 'y'"]),
        ("DO $of$ a; $$ ; $$ $of$; SELECT 2;", ["DO $of$ a; $$ ; $$ $of$", "SELECT 2"]),
    ],
)
def test_a_file_is_taken_statement_by_statement(text: str, found: list[str]) -> None:
    assert statements_in(text) == found


def test_no_two_statements_of_a_migration_are_sent_as_one_text(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes of a cluster take no more than one, of those that change a table that is spread."""
    sent: list[str] = []
    execute = TextCursor.execute

    def noted(self: TextCursor, query: Any, *rest: Any, **options: Any) -> Any:
        sent.append(query if isinstance(query, str) else query.as_string())
        return execute(self, query, *rest, **options)

    monkeypatch.setattr(TextCursor, "execute", noted)
    database = Database(postgresql.empty())
    migrate(database, partitions=2)
    database.close()
    made = [text for text in sent if text.startswith(("CREATE", "ALTER", "INSERT INTO mixdown", "DO "))]
    assert len(made) > 90
    assert [text for text in made if ";" in text and "$$" not in text] == []
