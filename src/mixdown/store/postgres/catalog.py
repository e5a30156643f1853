"""Projects, service accounts and small facts in PostgreSQL; every change is on disk when it returns.

A change begins by raising the catalog's version: nodes that change it at the same time take turns there, and
each sees what the one before it wrote. Secrets and passwords enter as hashes alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from psycopg.errors import UniqueViolation

from mixdown.store import account_checks as checks
from mixdown.store import projects
from mixdown.store.bounds import ALL_SESSIONS, SESSIONS_ENDED
from mixdown.store.catalog_errors import no_project, taken
from mixdown.store.fresh import Fresh
from mixdown.store.postgres.connection import Cursor, Database
from mixdown.store.protocols import Account, Project
from mixdown.store.zones import DEFAULT

_PROJECT: Final = (
    "id, name, token, secret_hash, id_merge, created_ms,"
    " rate_limit_records_per_s, rate_limit_requests_per_s, rate_limit_queries_per_hour,"
    " late_events, timezone, ci_strings, large"
)
_ACCOUNT: Final = "username, password_hash, project_id, role, created_ms, id, creator, expires_ms, others"
_GRANTS: Final = msgspec.json.Decoder(tuple[tuple[int, str], ...])
_TAKEN: Final = {
    "projects_name": "projects.name",
    "projects_token": "projects.token",
    "projects_secret_hash": "projects.secret_hash",
    "accounts_username": "accounts.username",
    "cohorts_name": "cohorts.name",
    "reports_name": "reports.name",
    "annotation_tags_name": "annotation_tags.name",
    "lookup_tables_name": "lookup_tables.name",
    "lookup_tables_id": "lookup_tables.id",
}
"""What a constraint of the tables is about."""


class PostgresCatalog:
    """`Catalog` in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version = Fresh(self._look)

    def version(self) -> int:
        return self._version.ask()

    def _look(self) -> int:
        return int(self._database.value("SELECT version FROM mixdown.catalog"))

    def projects(self) -> list[Project]:
        return [Project(*row) for row in self.select(f"SELECT {_PROJECT} FROM mixdown.projects ORDER BY id")]

    def project(self, project_id: int) -> Project | None:
        sql = f"SELECT {_PROJECT} FROM mixdown.projects WHERE id = %s"
        found = self.select(sql, (project_id,))
        return Project(*found[0]) if found else None

    def accounts(self) -> list[Account]:
        sql = f"SELECT {_ACCOUNT} FROM mixdown.accounts ORDER BY username"
        return [_account(row) for row in self.select(sql)]

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
        with self.change() as cursor:
            number = next_number(cursor, "project")
            row = one(
                cursor,
                "INSERT INTO mixdown.projects"
                " (id, name, token, secret_hash, id_merge, created_ms, timezone)"
                f" VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING {_PROJECT}",
                (number, name, token, secret_hash, id_merge, now_ms, timezone),
            )
        assert row is not None
        return Project(*row)

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
        given = {
            "name": name,
            "token": token,
            "secret_hash": secret_hash,
            "id_merge": id_merge,
            "late_events": late_events,
            "timezone": timezone,
            "ci_strings": ci_strings,
        }
        return self._change_project(
            project_id, {column: value for column, value in given.items() if value is not None}
        )

    def limit_project(
        self,
        project_id: int,
        *,
        records_per_s: int | None,
        requests_per_s: int | None,
        queries_per_hour: int | None,
    ) -> Project:
        limits = {
            "rate_limit_records_per_s": records_per_s,
            "rate_limit_requests_per_s": requests_per_s,
            "rate_limit_queries_per_hour": queries_per_hour,
        }
        return self._change_project(project_id, limits)

    def enlarge_project(self, project_id: int) -> Project:
        return self._change_project(project_id, {"large": True})

    def _change_project(self, project_id: int, values: dict[str, Any]) -> Project:
        """Give columns, whose names are ours, these values."""
        changed = ", ".join(f"{column} = %s" for column in values) or "id = id"
        with self.change() as cursor:
            row = one(
                cursor,
                f"UPDATE mixdown.projects SET {changed} WHERE id = %s RETURNING {_PROJECT}",
                (*values.values(), project_id),
            )
            if row is None:
                raise no_project(project_id)
            return projects.checked(Project(*row))

    def delete_project(self, project_id: int) -> None:
        with self.change() as cursor:
            cursor.execute("DELETE FROM mixdown.projects WHERE id = %s", (project_id,))
            if not cursor.rowcount:
                raise no_project(project_id)
            for sql in _OF_PROJECT:
                cursor.execute(sql, (project_id,))
            accounts = cursor.execute(f"SELECT {_ACCOUNT} FROM mixdown.accounts").fetchall()
            for account in map(_account, accounts):
                left = account.revoked(project_id)
                if left == account:
                    continue
                if left.project_id:
                    _write_grants(cursor, left)
                else:
                    _delete_account(cursor, account.username)

    def create_account(self, account: Account) -> Account:
        account = checks.checked(account)
        with self.change() as cursor:
            for project_id, _ in account.grants:
                known_project(cursor, project_id)
            number = next_number(cursor, "account")
            made = msgspec.structs.replace(account, id=number, others=tuple(sorted(account.others)))
            cursor.execute(
                f"INSERT INTO mixdown.accounts ({_ACCOUNT}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
                (
                    made.username,
                    made.password_hash,
                    made.project_id,
                    made.role,
                    made.created_ms,
                    made.id,
                    made.creator,
                    made.expires_ms,
                    _others_text(made),
                ),
            )
            return made

    def grant_account(self, username: str, project_id: int, role: str) -> Account:
        with self.change() as cursor:
            account = _known_account(cursor, username)
            known_project(cursor, project_id)
            changed = checks.granted(account, project_id, role)
            _write_grants(cursor, changed)
            return changed

    def revoke_account(self, username: str, project_id: int) -> Account:
        with self.change() as cursor:
            changed = checks.revoked(_known_account(cursor, username), project_id)
            _write_grants(cursor, changed)
            return changed

    def change_password(self, username: str, password_hash: bytes) -> Account:
        with self.change() as cursor:
            account = _known_account(cursor, username)
            cursor.execute(
                "UPDATE mixdown.accounts SET password_hash = %s WHERE username = %s",
                (password_hash, username),
            )
            return msgspec.structs.replace(account, password_hash=password_hash)

    def expire_account(self, username: str, expires_ms: int) -> Account:
        with self.change() as cursor:
            account = _known_account(cursor, username)
            cursor.execute(
                "UPDATE mixdown.accounts SET expires_ms = %s WHERE username = %s", (expires_ms, username)
            )
            return msgspec.structs.replace(account, expires_ms=expires_ms)

    def delete_account(self, username: str) -> None:
        with self.change() as cursor:
            _delete_account(cursor, _known_account(cursor, username).username)

    def end_session(self, username: str, session: bytes, *, until_s: int, now_s: int) -> None:
        with self._database.transaction() as cursor:
            cursor.execute("SELECT version FROM mixdown.catalog FOR UPDATE")  # one after the other
            cursor.execute("DELETE FROM mixdown.ended_sessions WHERE until_s <= %s", (now_s,))
            held = one(cursor, "SELECT count(*) FROM mixdown.ended_sessions WHERE username = %s", (username,))
            if held is not None and held[0] >= SESSIONS_ENDED:
                cursor.execute("DELETE FROM mixdown.ended_sessions WHERE username = %s", (username,))
                session = ALL_SESSIONS
            cursor.execute(
                "INSERT INTO mixdown.ended_sessions AS held VALUES (%s, %s, %s)"
                " ON CONFLICT (username, session)"
                " DO UPDATE SET until_s = greatest(held.until_s, excluded.until_s)",
                (username, session, until_s),
            )

    def is_session_over(self, username: str, session: bytes, *, until_s: int) -> bool:
        found = self.select(
            "SELECT 1 FROM mixdown.ended_sessions WHERE username = %s"
            " AND (session = %s OR (session = %s AND until_s >= %s)) LIMIT 1",
            (username, session, ALL_SESSIONS, until_s),
        )
        return bool(found)

    def fact(self, name: str) -> bytes | None:
        rows = self.select("SELECT value FROM mixdown.facts WHERE name = %s", (name,))
        return rows[0][0] if rows else None

    def set_fact(self, name: str, value: bytes) -> None:
        self._database.run(
            "INSERT INTO mixdown.facts VALUES (%s, %s)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )

    def close(self) -> None:
        """The connections are the store's."""

    def select(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a SELECT, for the parts that keep their tables beside the catalog's."""
        return self._database.rows(sql, parameters)

    @contextmanager
    def change(self) -> Iterator[Cursor]:
        """A transaction that changes the catalog and its version, one at a time on all nodes."""
        with self._database.transaction() as cursor:
            raise_version(cursor)
            try:
                yield cursor
            except UniqueViolation as error:
                raise taken(_TAKEN[error.diag.constraint_name or ""]) from error


_OF_PROJECT: Final = (
    (
        "DELETE FROM mixdown.cohort_ids AS held USING mixdown.cohorts AS cohort"
        " WHERE held.cohort_id = cohort.id AND cohort.project_id = %s"
    ),
    "DELETE FROM mixdown.cohorts WHERE project_id = %s",
    "DELETE FROM mixdown.lookup_tables WHERE project_id = %s",
    "DELETE FROM mixdown.lookup_replacements WHERE project_id = %s",
    "DELETE FROM mixdown.dictionary WHERE project_id = %s",
    "DELETE FROM mixdown.reports WHERE project_id = %s",
    "DELETE FROM mixdown.annotations WHERE project_id = %s",
    "DELETE FROM mixdown.annotation_tags WHERE project_id = %s",
)
"""What goes with a project."""


def raise_version(cursor: Cursor) -> None:
    """Wait for the turn to change the catalog, which lasts to the end of the transaction, and say so."""
    cursor.execute("UPDATE mixdown.catalog SET version = version + 1")


def one(cursor: Cursor, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
    """The first row of a statement's result, None where there is none."""
    return cursor.execute(sql, parameters).fetchone()


def next_number(cursor: Cursor, kind: str) -> int:
    """The next number of a `kind`, one of the columns of `mixdown.catalog`, within a change of it."""
    row = one(cursor, f"UPDATE mixdown.catalog SET last_{kind} = last_{kind} + 1 RETURNING last_{kind}")
    assert row is not None
    return int(row[0])


def known_project(cursor: Cursor, project_id: int) -> None:
    """Raises `CatalogError` where there is no such project."""
    if one(cursor, "SELECT 1 FROM mixdown.projects WHERE id = %s", (project_id,)) is None:
        raise no_project(project_id)


def _account(row: tuple[Any, ...]) -> Account:
    return Account(*(*row[:-1], _GRANTS.decode(row[-1])))


def _others_text(account: Account) -> str:
    return msgspec.json.encode(account.others).decode()


def _known_account(cursor: Cursor, username: str) -> Account:
    sql = f"SELECT {_ACCOUNT} FROM mixdown.accounts WHERE username = %s"
    row = one(cursor, sql, (username,))
    if row is None:
        raise checks.no_account(username)
    return _account(row)


def _write_grants(cursor: Cursor, account: Account) -> None:
    """Make the projects of an account, and its roles there, what this one has."""
    cursor.execute(
        "UPDATE mixdown.accounts SET project_id = %s, role = %s, others = %s WHERE username = %s",
        (account.project_id, account.role, _others_text(account), account.username),
    )


def _delete_account(cursor: Cursor, username: str) -> None:
    cursor.execute("DELETE FROM mixdown.accounts WHERE username = %s", (username,))
