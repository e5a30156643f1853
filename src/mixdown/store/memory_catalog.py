"""Projects, service accounts and small facts in memory: the model that other catalogs are held to."""

from __future__ import annotations

import msgspec

from mixdown.store import account_checks as checks
from mixdown.store import projects
from mixdown.store.bounds import ALL_SESSIONS, SESSIONS_ENDED
from mixdown.store.catalog_errors import no_project, taken
from mixdown.store.memory_part import Part
from mixdown.store.protocols import Account, Project
from mixdown.store.zones import DEFAULT


class MemoryCatalog(Part):
    """`Catalog` in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._version = 1
        self._next_id = 1
        self._projects: dict[int, Project] = {}
        self._next_account = 1
        self._accounts: dict[str, Account] = {}
        self._facts: dict[str, bytes] = {}
        self._ended: dict[tuple[str, bytes], int] = {}

    def version(self) -> int:
        with self._use():
            return self._version

    def projects(self) -> list[Project]:
        with self._use():
            return list(self._projects.values())

    def project(self, project_id: int) -> Project | None:
        with self._use():
            return self._projects.get(project_id)

    def accounts(self) -> list[Account]:
        with self._use():
            return [self._accounts[username] for username in sorted(self._accounts)]

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
        with self._use():
            project = Project(self._next_id, name, token, secret_hash, id_merge, now_ms, timezone=timezone)
            self._put(project)
            self._next_id += 1
            return project

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
        with self._use():
            changes = {field: value for field, value in given.items() if value is not None}
            project = projects.checked(msgspec.structs.replace(self._known(project_id), **changes))
            self._put(project)
            return project

    def limit_project(
        self,
        project_id: int,
        *,
        records_per_s: int | None,
        requests_per_s: int | None,
        queries_per_hour: int | None,
    ) -> Project:
        with self._use():
            project = msgspec.structs.replace(
                self._known(project_id),
                rate_limit_records_per_s=records_per_s,
                rate_limit_requests_per_s=requests_per_s,
                rate_limit_queries_per_hour=queries_per_hour,
            )
            self._put(project)
            return project

    def enlarge_project(self, project_id: int) -> Project:
        with self._use():
            project = projects.checked(msgspec.structs.replace(self._known(project_id), large=True))
            self._put(project)
            return project

    def delete_project(self, project_id: int) -> None:
        with self._use():
            self._known(project_id)
            del self._projects[project_id]
            for username, account in list(self._accounts.items()):
                left = account.revoked(project_id)
                if left != account and not left.project_id:
                    del self._accounts[username]
                else:
                    self._accounts[username] = left
            self._version += 1

    def create_account(self, account: Account) -> Account:
        account = checks.checked(account)
        with self._use():
            for project_id, _ in account.grants:
                self._known(project_id)
            if account.username in self._accounts:
                raise taken("accounts.username")
            made = msgspec.structs.replace(
                account, id=self._next_account, others=tuple(sorted(account.others))
            )
            self._next_account += 1
            return self._put_account(made)

    def grant_account(self, username: str, project_id: int, role: str) -> Account:
        with self._use():
            account = self._known_account(username)
            self._known(project_id)
            return self._put_account(checks.granted(account, project_id, role))

    def revoke_account(self, username: str, project_id: int) -> Account:
        with self._use():
            return self._put_account(checks.revoked(self._known_account(username), project_id))

    def change_password(self, username: str, password_hash: bytes) -> Account:
        with self._use():
            account = self._known_account(username)
            return self._put_account(msgspec.structs.replace(account, password_hash=password_hash))

    def expire_account(self, username: str, expires_ms: int) -> Account:
        with self._use():
            account = self._known_account(username)
            return self._put_account(msgspec.structs.replace(account, expires_ms=expires_ms))

    def delete_account(self, username: str) -> None:
        with self._use():
            del self._accounts[self._known_account(username).username]
            self._version += 1

    def end_session(self, username: str, session: bytes, *, until_s: int, now_s: int) -> None:
        with self._use():
            self._ended = {key: until for key, until in self._ended.items() if until > now_s}
            held = [key for key in self._ended if key[0] == username]
            if len(held) >= SESSIONS_ENDED:
                for key in held:
                    del self._ended[key]
                session = ALL_SESSIONS
            key = (username, session)
            self._ended[key] = max(until_s, self._ended.get(key, 0))

    def is_session_over(self, username: str, session: bytes, *, until_s: int) -> bool:
        with self._use():
            all_until_s = self._ended.get((username, ALL_SESSIONS), -1)
            return (username, session) in self._ended or all_until_s >= until_s

    def fact(self, name: str) -> bytes | None:
        with self._use():
            return self._facts.get(name)

    def set_fact(self, name: str, value: bytes) -> None:
        with self._use():
            self._facts[name] = value

    def _known(self, project_id: int) -> Project:
        if project_id not in self._projects:
            raise no_project(project_id)
        return self._projects[project_id]

    def _known_account(self, username: str) -> Account:
        if username not in self._accounts:
            raise checks.no_account(username)
        return self._accounts[username]

    def _put_account(self, account: Account) -> Account:
        self._accounts[account.username] = account
        self._version += 1
        return account

    def _put(self, project: Project) -> None:
        for other in self._projects.values():
            if other.id == project.id:
                continue
            for field, value in (
                ("name", project.name == other.name),
                ("token", project.token == other.token),
                ("secret_hash", bool(project.secret_hash) and project.secret_hash == other.secret_hash),
            ):
                if value:
                    raise taken(f"projects.{field}")
        self._projects[project.id] = project
        self._version += 1
