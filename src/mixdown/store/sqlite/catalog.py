"""Projects, service accounts and small facts in `catalog.db`; every change is on disk when it returns.

Secrets and passwords enter as hashes alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw

from mixdown.model.errors import CatalogError, StoreError
from mixdown.store.protocols import Account, Project
from mixdown.store.sqlite import connection as sqlite

_PROJECT: Final = (
    "id, name, token, secret_hash, id_merge, created_ms,"
    " rate_limit_records_per_s, rate_limit_requests_per_s, rate_limit_queries_per_hour"
)
_TAKEN: Final = {
    "projects.name": "this name is taken by another project",
    "projects.token": "this token is taken by another project",
    "projects.secret_hash": "this secret is taken by another project",
    "accounts.username": "this name is taken by another account",
    "cohorts.name": "this name is taken by another cohort",
}


class SqliteCatalog:
    """`Catalog` in `catalog.db`."""

    def __init__(self, folder: Path) -> None:
        path = folder / sqlite.CATALOG.file_name
        self._what = str(path)
        self._guard = threading.Lock()
        with sqlite.store_errors(self._what):
            self._connection: apsw.Connection | None = sqlite.connect(path, sqlite.CATALOG)
            # `data_version` tells one connection of changes by all others: this one never writes
            self._watcher: apsw.Connection | None = sqlite.connect(path, sqlite.CATALOG)
        self._watching = threading.Lock()
        self._seen = (-1, -1)

    def version(self) -> int:
        with self._watching, sqlite.store_errors(self._what):
            watcher = self._opened(self._watcher)
            data_version = sqlite.value(watcher, "PRAGMA data_version")
            if data_version != self._seen[0]:
                self._seen = (data_version, sqlite.value(watcher, "SELECT number FROM version"))
            return self._seen[1]

    def projects(self) -> list[Project]:
        return [
            Project(*row)
            for row in self.select(f"SELECT {_PROJECT} FROM projects ORDER BY id")  # noqa: S608 - a constant
        ]

    def accounts(self) -> list[Account]:
        return [
            Account(*row)
            for row in self.select(
                "SELECT username, password_hash, project_id, role, created_ms FROM accounts ORDER BY username"
            )
        ]

    def create_project(
        self, name: str, *, token: str, secret_hash: bytes, id_merge: str, now_ms: int
    ) -> Project:
        with self.change() as connection:
            row = sqlite.value(
                connection,
                "INSERT INTO projects (name, token, secret_hash, id_merge, created_ms)"  # noqa: S608 - our columns
                f" VALUES (?, ?, ?, ?, ?) RETURNING {_PROJECT}",
                (name, token, secret_hash, id_merge, now_ms),
            )
        return Project(*row)

    def change_project(
        self,
        project_id: int,
        *,
        name: str | None = None,
        token: str | None = None,
        secret_hash: bytes | None = None,
        id_merge: str | None = None,
    ) -> Project:
        with self.change() as connection:
            row = sqlite.value(
                connection,
                "UPDATE projects SET name = coalesce(?, name), token = coalesce(?, token),"  # noqa: S608 - our columns
                " secret_hash = coalesce(?, secret_hash), id_merge = coalesce(?, id_merge)"
                f" WHERE id = ? RETURNING {_PROJECT}",
                (name, token, secret_hash, id_merge, project_id),
            )
            if row is None:
                raise _no_project(project_id)
        return Project(*row)

    def limit_project(
        self,
        project_id: int,
        *,
        records_per_s: int | None,
        requests_per_s: int | None,
        queries_per_hour: int | None,
    ) -> Project:
        with self.change() as connection:
            row = sqlite.value(
                connection,
                "UPDATE projects SET rate_limit_records_per_s = ?, rate_limit_requests_per_s = ?,"  # noqa: S608 - our columns
                f" rate_limit_queries_per_hour = ? WHERE id = ? RETURNING {_PROJECT}",
                (records_per_s, requests_per_s, queries_per_hour, project_id),
            )
            if row is None:
                raise _no_project(project_id)
        return Project(*row)

    def delete_project(self, project_id: int) -> None:
        with self.change() as connection:
            gone = sqlite.value(connection, "DELETE FROM projects WHERE id = ? RETURNING id", (project_id,))
            if gone is None:
                raise _no_project(project_id)
            sqlite.rows(connection, "DELETE FROM accounts WHERE project_id = ?", (project_id,))

    def create_account(self, account: Account) -> None:
        with self.change() as connection:
            known = sqlite.value(connection, "SELECT 1 FROM projects WHERE id = ?", (account.project_id,))
            if account.project_id and known is None:
                raise _no_project(account.project_id)
            sqlite.rows(
                connection,
                "INSERT INTO accounts (username, password_hash, project_id, role, created_ms)"
                "  VALUES (?, ?, ?, ?, ?)",
                (
                    account.username,
                    account.password_hash,
                    account.project_id,
                    account.role,
                    account.created_ms,
                ),
            )

    def delete_account(self, username: str) -> None:
        with self.change() as connection:
            gone = sqlite.value(
                connection, "DELETE FROM accounts WHERE username = ? RETURNING username", (username,)
            )
            if gone is None:
                raise CatalogError(
                    f"there is no account {username!r}", hint="`mixdown account list` shows all."
                )

    def fact(self, name: str) -> bytes | None:
        rows = self.select("SELECT value FROM facts WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def set_fact(self, name: str, value: bytes) -> None:
        with self._guard, sqlite.store_errors(self._what):
            sqlite.rows(
                self._opened(self._connection),
                "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (name, value),
            )

    def close(self) -> None:
        with self._guard, self._watching:
            for connection in (self._connection, self._watcher):
                if connection is not None:
                    connection.close()
            self._connection = self._watcher = None

    def _opened(self, connection: apsw.Connection | None) -> apsw.Connection:
        if connection is None:
            raise StoreError(f"{self._what} was closed")
        return connection

    def select(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        """The rows of a SELECT over `catalog.db`, for the parts that keep their tables there."""
        with self._guard, sqlite.store_errors(self._what):
            return sqlite.rows(self._opened(self._connection), sql, bindings)

    @contextmanager
    def change(self) -> Iterator[apsw.Connection]:
        """A transaction that changes the catalog and its version."""
        with self._guard, sqlite.store_errors(self._what):
            connection = self._opened(self._connection)
            try:
                with sqlite.transaction(connection):
                    yield connection
                    sqlite.rows(connection, "UPDATE version SET number = number + 1")
            except apsw.ConstraintError as error:
                raise _taken(error) from error


def _no_project(project_id: int) -> CatalogError:
    return CatalogError(f"there is no project {project_id}", hint="`mixdown project list` shows all.")


def _taken(error: apsw.ConstraintError) -> CatalogError:
    for column, message in _TAKEN.items():
        if column in str(error):
            return CatalogError(message, hint="Choose another.")
    return CatalogError(f"the catalog refuses this change: {error}")
