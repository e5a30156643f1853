"""The Citus cluster that `MIXDOWN_TEST_CITUS_URL` names: one database, emptied for each test."""

from __future__ import annotations

import os
from typing import Any, Final

import psycopg
from psycopg import sql

from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.distributing import distribute
from mixdown.store.postgres.migrating import migrate
from mixdown.store.postgres.tables import DISTRIBUTED, PLAIN, SCHEMA

URL: Final = os.environ.get("MIXDOWN_TEST_CITUS_URL", "")
CLUSTER: Final = ("cluster",) if URL else ()
"""The stores to try beside those of `MIXDOWN_TEST_STORES`."""
_KEPT: Final = ("migrations", "layout", "leases")


class Cluster:
    """A database of the tests' own on a cluster, at a URL: whatever it holds of Mixdown goes."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._partitions = 0
        self._at_first: dict[str, list[tuple[Any, ...]]] = {}

    def emptied(self, partitions: int = 1) -> str:
        """Its URL, with the tables of a store that holds nothing, spread over its nodes."""
        if partitions == self._partitions:
            self._empty()
        else:
            self._make(partitions)
        return self._url

    def _make(self, partitions: int) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE".encode())
        database = Database(self._url)
        try:
            migrate(database, partitions=partitions)
            self._at_first = {
                table: rows
                for table in (*DISTRIBUTED, *PLAIN)
                if table not in _KEPT and (rows := database.rows(_all_of(table)))
            }
            distribute(database)
        finally:
            database.close()
        self._partitions = partitions

    def _empty(self) -> None:
        tables = [sql.Identifier(SCHEMA, table) for table in (*DISTRIBUTED, *PLAIN) if table not in _KEPT]
        with psycopg.connect(self._url) as connection:
            for table in tables:
                connection.execute(sql.SQL("TRUNCATE {}").format(table))
            connection.execute("UPDATE mixdown.leases SET holder = NULL, fence = 0, expires_at = '-infinity'")
            for name, rows in self._at_first.items():
                values = sql.SQL(", ").join([sql.Placeholder()] * len(rows[0]))
                statement = sql.SQL("INSERT INTO {} VALUES ({})").format(sql.Identifier(SCHEMA, name), values)
                for row in rows:
                    connection.execute(statement, row)


def _all_of(table: str) -> sql.Composed:
    return sql.SQL("SELECT * FROM {}").format(sql.Identifier(SCHEMA, table))
