"""The Citus cluster that `MIXDOWN_TEST_CITUS_URL` names: one database, emptied for each test.

Tests run in several processes and there is one database: a test has it alone for as long as it runs. What its
tables held at first stands in the database itself, since any of the processes may have made them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from mixdown.store.postgres import connection as connections
from mixdown.store.postgres.connection import Database
from mixdown.store.postgres.distributing import distribute, require_nodes
from mixdown.store.postgres.migrating import migrate, migrations
from mixdown.store.postgres.tables import DISTRIBUTED, PLAIN, SCHEMA


def as_libpq_has_it(url: str, environment: Mapping[str, str]) -> str:
    """A URL as `psql` understands it, for whoever is given it.

    Clusters mostly sign their certificates themselves, which Mixdown would verify where nothing else is said.
    """
    if not url or "PGSSLMODE" in environment or "sslmode" in conninfo_to_dict(url):
        return url
    return f"{url}{'&' if '?' in url else '?'}sslmode=prefer"


URL: Final = as_libpq_has_it(os.environ.get("MIXDOWN_TEST_CITUS_URL", ""), os.environ)
CLUSTER: Final = ("cluster",) if URL else ()
"""The stores to try beside those of `MIXDOWN_TEST_STORES`."""
_KEPT: Final = ("migrations", "layout", "leases")
_EMPTIED: Final = [table for table in (*DISTRIBUTED, *PLAIN) if table not in _KEPT]
_TURN: Final = int.from_bytes(b"mixtests", "big") >> 1


def greet_as_citus(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Have stores take any server for the coordinator of a cluster of this version."""
    asked = "current_setting('citus.version', true)"
    assert asked in connections._GREETING
    monkeypatch.setattr(connections, "_GREETING", connections._GREETING.replace(asked, f"'{version}'"))


class Cluster:
    """A database of the tests' own on a cluster, at a URL: whatever it holds of Mixdown goes."""

    def __init__(self, url: str) -> None:
        self._url = url

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Have it alone: other tests, of this process or another, wait."""
        with psycopg.connect(self._url, autocommit=True) as held:
            held.execute("SELECT pg_advisory_lock(%s)", (_TURN,))
            yield

    def empty(self) -> str:
        """Its URL; nothing of Mixdown is in it."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE".encode())
        return self._url

    def emptied(self, partitions: int = 1) -> str:
        """Its URL, with the tables of a store that holds nothing, spread over its nodes."""
        version = _version(partitions)
        with psycopg.connect(self._url, autocommit=True) as connection:
            there = connection.execute(f"SELECT to_regclass('{SCHEMA}.at_first')".encode()).fetchone()
            if there != (None,):
                found = connection.execute(f"SELECT version, held FROM {SCHEMA}.at_first".encode()).fetchone()
                if found is not None and found[0] == version:
                    _empty(connection, json.loads(found[1]))
                    return self._url
        self.empty()
        self._make(partitions, version)
        return self._url

    def _make(self, partitions: int, version: str) -> None:
        database = Database(self._url)
        try:
            require_nodes(database)
            migrate(database, partitions=partitions)
            held = {table: rows for table in _EMPTIED if (rows := database.rows(_all_of(table)))}
            distribute(database)
        finally:
            database.close()
        with psycopg.connect(self._url) as connection:  # last: what was cut off before is made anew
            connection.execute(f"CREATE TABLE {SCHEMA}.at_first (version text, held text)".encode())
            connection.execute(
                f"INSERT INTO {SCHEMA}.at_first VALUES (%s, %s)".encode(), (version, json.dumps(held))
            )


def _version(partitions: int) -> str:
    """What tells tables from those of another version, or with another number of partitions."""
    made = "".join(step.statements for step in migrations()) + repr((DISTRIBUTED, PLAIN))
    return f"{partitions} {hashlib.sha256(made.encode()).hexdigest()}"


def _empty(connection: psycopg.Connection[Any], at_first: dict[str, list[list[Any]]]) -> None:
    with connection.transaction():
        # on one connection to each node, which the rows that come back go over as well
        connection.execute("SET LOCAL citus.multi_shard_modify_mode TO 'sequential'")
        for table in _EMPTIED:
            # not TRUNCATE, which makes each of hundreds of files anew
            connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(SCHEMA, table)))
        connection.execute("UPDATE mixdown.leases SET holder = NULL, fence = 0, expires_at = '-infinity'")
        for name, rows in at_first.items():
            values = sql.SQL(", ").join([sql.Placeholder()] * len(rows[0]))
            statement = sql.SQL("INSERT INTO {} VALUES ({})").format(sql.Identifier(SCHEMA, name), values)
            for row in rows:
                connection.execute(statement, row)


def _all_of(table: str) -> sql.Composed:
    return sql.SQL("SELECT * FROM {}").format(sql.Identifier(SCHEMA, table))
