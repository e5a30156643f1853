"""Every table of a data folder is copied, or it is said why not: who adds one adds it there too."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from mixdown.store.moving import catalog, source
from mixdown.store.postgres.tables import DISTRIBUTED, PLAIN
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.sqlite import open_store

# Of state.db and events.db: where their rows go, by other names or not at all.
READERS: Final = {
    "watermarks": "positions of the copy (mixdown.copying)",
    "group_keys": "group_keys",
    "profiles": "profiles",
    "keys": "keys and event_keys",
    "key_buckets": "key_buckets; those of events have none there",
    "property_counts": "property_counts",
    "uncounted": "uncounted",
    "history_segments": "history_segments",
    "history_blocks": "history_blocks",
    "history_values": "history_values",
    "history_reach": "history_reach",
    "property_indexes": "asked for anew, with the catalog",
    "property_values": "built anew",
    "identities": "identities",
    "identity_links": "identity_links",
    "reader": "event_readers",
    "hot": "event_hot",
    "files": "event_files",
    "dead": "event_dead",
    "removable": "not listed any more, and so not copied",
}
LOG: Final = {
    "chunks": "taken over record by record",
    "head": "heads",
    "damaged_chunks": "cannot be read, and stay behind",
    "refusals": "refusals",
    "refusal_counts": "counted anew",
}
# Of the database: what no folder has, or what is made anew there.
OWN: Final = {
    "migrations", "layout", "leases", "members", "event_home", "copying", "copying_steps", "catalog",
    "privacy_turn", "sessions", "session_blocks", "group_keys", "property_indexes",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new data folder."""
    made = tmp_path_factory.mktemp("moving") / "folder"
    open_store(made, role="fold", create=True).close()
    return made


def tables(folder: Path, kind: sqlite.Kind) -> dict[str, tuple[str, ...]]:
    """The tables of one of its files, with their columns."""
    with closing(sqlite.connect(folder / kind.file_name, kind)) as connection:
        names = sqlite.rows(
            connection, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
        return {
            name: tuple(row[1] for row in sqlite.rows(connection, f"PRAGMA table_info({name})"))
            for (name,) in names
        }


def test_every_table_of_the_catalog_is_copied_with_every_column(folder: Path) -> None:
    held = tables(folder, sqlite.CATALOG)
    copied = {table: columns.split(", ") for table, columns, _, _ in catalog.TABLES}
    assert held.keys() - catalog.WITHIN_OTHERS.keys() == copied.keys()
    for table, columns in copied.items():
        others = {"accounts": {"others"}, "annotations": {"tags"}, "cohort_ids": {"place"}}.get(table, set())
        missing = set(held[table]) - set(columns) - set(catalog.NOT_COPIED.get(table, ()))
        # the old column of one position, which is the first of the positions since
        assert missing <= ({"position"} if table == "deletions" else set()), table
        assert set(columns) - set(held[table]) == others, table


def test_every_table_of_the_catalog_is_closed_at_the_switch(folder: Path) -> None:
    held = tables(folder, sqlite.CATALOG)
    closed = {table for table, verb in source.CLOSING[sqlite.CATALOG] if verb == "INSERT"}
    assert closed == held.keys()


def test_it_is_known_of_every_other_table_where_its_rows_go(folder: Path) -> None:
    found = tables(folder, sqlite.STATE).keys() | tables(folder, sqlite.EVENTS).keys()
    assert found == READERS.keys()
    assert tables(folder, sqlite.LOG).keys() == LOG.keys()


def test_every_plain_table_of_the_database_is_filled_or_its_own() -> None:
    copied = {table for table, _, _, _ in catalog.TABLES}
    assert set(PLAIN) - copied == OWN
    assert not copied & set(DISTRIBUTED)
