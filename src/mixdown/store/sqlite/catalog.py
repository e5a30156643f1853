"""Projects, service accounts and small facts in `catalog.db`; every change is on disk when it returns.

Secrets and passwords enter as hashes alone.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from mixdown.model.errors import CatalogError, StoreError
from mixdown.store import account_checks as checks
from mixdown.store import projects
from mixdown.store.bounds import ALL_SESSIONS, SESSIONS_ENDED
from mixdown.store.catalog_errors import TAKEN, no_project, taken
from mixdown.store.protocols import Account, Project
from mixdown.store.sqlite import connection as sqlite
from mixdown.store.zones import DEFAULT

_PROJECT: Final = (
    "id, name, token, secret_hash, id_merge, created_ms,"
    " rate_limit_records_per_s, rate_limit_requests_per_s, rate_limit_queries_per_hour,"
    " late_events, timezone, ci_strings, large"
)
_ACCOUNTS: Final = """
SELECT username, password_hash, project_id, role, created_ms, id, creator, expires_ms,
       (SELECT json_group_array(json_array(project_id, role))
        FROM account_projects AS o WHERE o.username = accounts.username)
FROM accounts"""


def _project(row: tuple[Any, ...]) -> Project:
    late_events, timezone, ci_strings, large = row[-4:]
    return Project(*(*row[:-4], bool(late_events), timezone, bool(ci_strings), bool(large)))


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
            _project(row)
            for row in self.select(f"SELECT {_PROJECT} FROM projects ORDER BY id")  # noqa: S608 - a constant
        ]

    def project(self, project_id: int) -> Project | None:
        sql = f"SELECT {_PROJECT} FROM projects WHERE id = ?"  # noqa: S608 - a constant
        found = self.select(sql, (project_id,))
        return _project(found[0]) if found else None

    def accounts(self) -> list[Account]:
        return [_account(row) for row in self.select(_ACCOUNTS + " ORDER BY username")]

    def create_project(
        self,
        name: str,
        *,
        token: str,
        secret_hash: bytes,
        id_merge: str,
        now_ms: int,
        timezone: str = DEFAULT,
    ) -> Project:
        with self.change() as connection:
            row = sqlite.value(
                connection,
                "INSERT INTO projects (name, token, secret_hash, id_merge, created_ms, timezone)"  # noqa: S608 - our columns
                f" VALUES (?, ?, ?, ?, ?, ?) RETURNING {_PROJECT}",
                (name, token, secret_hash, id_merge, now_ms, timezone),
            )
        return _project(row)

    def change_project(
        self,
        project_id: int,
        *,
        name: str | None = None,
        token: str | None = None,
        secret_hash: bytes | None = None,
        id_merge: str | None = None,
        late_events: bool | None = None,
        timezone: str | None = None,
        ci_strings: bool | None = None,
    ) -> Project:
        with self.change() as connection:
            row = sqlite.value(
                connection,
                "UPDATE projects SET name = coalesce(?, name), token = coalesce(?, token),"  # noqa: S608 - our columns
                " secret_hash = coalesce(?, secret_hash), id_merge = coalesce(?, id_merge),"
                " late_events = coalesce(?, late_events), timezone = coalesce(?, timezone),"
                f" ci_strings = coalesce(?, ci_strings) WHERE id = ? RETURNING {_PROJECT}",
                (name, token, secret_hash, id_merge, late_events, timezone, ci_strings, project_id),
            )
            if row is None:
                raise no_project(project_id)
            return projects.checked(_project(row))

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
                raise no_project(project_id)
        return _project(row)

    def enlarge_project(self, project_id: int) -> Project:
        with self.change() as connection:
            row = sqlite.value(
                connection,
                f"UPDATE projects SET large = 1 WHERE id = ? RETURNING {_PROJECT}",  # noqa: S608 - our columns
                (project_id,),
            )
            if row is None:
                raise no_project(project_id)
            return projects.checked(_project(row))

    def delete_project(self, project_id: int) -> None:
        with self.change() as connection:
            gone = sqlite.value(connection, "DELETE FROM projects WHERE id = ? RETURNING id", (project_id,))
            if gone is None:
                raise no_project(project_id)
            for row in sqlite.rows(connection, _ACCOUNTS):
                account = _account(row)
                left = account.revoked(project_id)
                if left == account:
                    continue
                if left.project_id:
                    _write_grants(connection, left)
                else:
                    _delete_account(connection, account.username)

    def create_account(self, account: Account) -> Account:
        account = checks.checked(account)
        with self.change() as connection:
            for project_id, _ in account.grants:
                _known_project(connection, project_id)
            sqlite.rows(
                connection,
                "INSERT INTO accounts"
                " (username, password_hash, project_id, role, created_ms, creator, expires_ms)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    account.username,
                    account.password_hash,
                    account.project_id,
                    account.role,
                    account.created_ms,
                    account.creator,
                    account.expires_ms,
                ),
            )
            _write_grants(connection, account)
            return _known_account(connection, account.username)

    def grant_account(self, username: str, project_id: int, role: str) -> Account:
        with self.change() as connection:
            account = _known_account(connection, username)
            _known_project(connection, project_id)
            changed = checks.granted(account, project_id, role)
            _write_grants(connection, changed)
            return changed

    def revoke_account(self, username: str, project_id: int) -> Account:
        with self.change() as connection:
            changed = checks.revoked(_known_account(connection, username), project_id)
            _write_grants(connection, changed)
            return changed

    def change_password(self, username: str, password_hash: bytes) -> Account:
        with self.change() as connection:
            account = _known_account(connection, username)
            sqlite.rows(
                connection,
                "UPDATE accounts SET password_hash = ? WHERE username = ?",
                (password_hash, username),
            )
            return msgspec.structs.replace(account, password_hash=password_hash)

    def expire_account(self, username: str, expires_ms: int) -> Account:
        with self.change() as connection:
            account = _known_account(connection, username)
            sqlite.rows(
                connection, "UPDATE accounts SET expires_ms = ? WHERE username = ?", (expires_ms, username)
            )
            return msgspec.structs.replace(account, expires_ms=expires_ms)

    def delete_account(self, username: str) -> None:
        with self.change() as connection:
            _delete_account(connection, _known_account(connection, username).username)

    def end_session(self, username: str, session: bytes, *, until_s: int, now_s: int) -> None:
        with self._guard, sqlite.store_errors(self._what):
            connection = self._opened(self._connection)
            with sqlite.transaction(connection):
                sqlite.rows(connection, "DELETE FROM ended_sessions WHERE until_s <= ?", (now_s,))
                held = sqlite.value(
                    connection, "SELECT count(*) FROM ended_sessions WHERE username = ?", (username,)
                )
                if held >= SESSIONS_ENDED:
                    sqlite.rows(connection, "DELETE FROM ended_sessions WHERE username = ?", (username,))
                    session = ALL_SESSIONS
                sqlite.rows(
                    connection,
                    "INSERT INTO ended_sessions VALUES (?, ?, ?) ON CONFLICT (username, session)"
                    " DO UPDATE SET until_s = max(until_s, excluded.until_s)",
                    (username, session, until_s),
                )

    def is_session_over(self, username: str, session: bytes, *, until_s: int) -> bool:
        found = self.select(
            "SELECT 1 FROM ended_sessions WHERE username = ?"
            " AND (session = ? OR (session = X'' AND until_s >= ?)) LIMIT 1",
            (username, session, until_s),
        )
        return bool(found)

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
                if sqlite.MOVING in str(error):
                    raise
                raise _taken(error) from error


def _taken(error: apsw.ConstraintError) -> CatalogError:
    for column in TAKEN:
        if column in str(error):
            return taken(column)
    return CatalogError(f"the catalog refuses this change: {error}")


def _account(row: tuple[Any, ...]) -> Account:
    others = tuple(sorted((project_id, role) for project_id, role in json.loads(row[-1])))
    return msgspec.structs.replace(Account(*row[:-1]), others=others)


def _known_account(connection: apsw.Connection, username: str) -> Account:
    row = sqlite.value(connection, _ACCOUNTS + " WHERE username = ?", (username,))
    if row is None:
        raise checks.no_account(username)
    return _account(row)


def _known_project(connection: apsw.Connection, project_id: int) -> None:
    if sqlite.value(connection, "SELECT 1 FROM projects WHERE id = ?", (project_id,)) is None:
        raise no_project(project_id)


def _write_grants(connection: apsw.Connection, account: Account) -> None:
    """Make the projects of an account, and its roles there, what this one has."""
    sqlite.rows(
        connection,
        "UPDATE accounts SET project_id = ?, role = ? WHERE username = ?",
        (account.project_id, account.role, account.username),
    )
    sqlite.rows(connection, "DELETE FROM account_projects WHERE username = ?", (account.username,))
    for project_id, role in account.others:
        sqlite.rows(
            connection,
            "INSERT INTO account_projects VALUES (?, ?, ?)",
            (account.username, project_id, role),
        )


def _delete_account(connection: apsw.Connection, username: str) -> None:
    sqlite.rows(connection, "DELETE FROM accounts WHERE username = ?", (username,))
    sqlite.rows(connection, "DELETE FROM account_projects WHERE username = ?", (username,))
