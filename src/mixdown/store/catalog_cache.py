"""The catalog as a worker looks it up: by token, by secret, by account name.

What enters: a `Catalog`. What leaves: an immutable `CatalogView` that is as new as the catalog's
version; a rotated token or a deleted account is gone with the next `refresh`. Safe to use from any
thread. It must never answer from a view whose version it has not just compared, but for `tokens` and
`version`, which ingestion refreshes itself at each group commit.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

import msgspec

from mixdown.model.errors import StoreError
from mixdown.store.credentials import is_chosen, same, secret_hash
from mixdown.store.protocols import Account, Catalog, Project

_NOBODY = Account(username="", password_hash=bytes(32), project_id=0, role="")


class CatalogView(msgspec.Struct, frozen=True):
    """The catalog as of one version. Mappings must not be changed."""

    version: int
    tokens: Mapping[str, int]
    projects: Mapping[int, Project]
    secrets: Mapping[bytes, Project]
    accounts: Mapping[str, Account]
    passwords: Mapping[bytes, Account]
    chosen: int = 0

    def account(self, username: str, password: str, *, now_ms: int) -> Account | None:
        """The account, if the password was made for it and it has not expired; an unknown name takes as long.

        One whose password was chosen is none: `http.passwords` finds it.
        """
        known = self.accounts.get(username, _NOBODY)
        matches = same(known.password_hash, secret_hash(password))
        return known if matches and known is not _NOBODY and not known.is_expired(now_ms) else None

    def account_of_password(self, password: str, *, now_ms: int) -> Account | None:
        """The account whose password this is, if it is one account's alone (found as a secret's project)."""
        asked = secret_hash(password)
        known = self.passwords.get(asked, _NOBODY)
        matches = same(known.password_hash, asked)
        return known if matches and known is not _NOBODY and not known.is_expired(now_ms) else None

    @property
    def has_chosen(self) -> bool:
        """Whether there is an account whose password somebody chose."""
        return self.chosen > 0

    def project_of_secret(self, secret: str) -> Project | None:
        """The project that this secret belongs to (found by its SHA-256, so that timing tells nothing)."""
        asked = secret_hash(secret)
        project = self.secrets.get(asked)
        return project if project is not None and same(project.secret_hash, asked) else None


def _view(catalog: Catalog, version: int) -> CatalogView:
    projects, accounts = catalog.projects(), catalog.accounts()
    shared = Counter(account.password_hash for account in accounts)
    return CatalogView(
        version=version,
        tokens={project.token: project.id for project in projects},
        projects={project.id: project for project in projects},
        secrets={project.secret_hash: project for project in projects if project.secret_hash},
        accounts={account.username: account for account in accounts},
        passwords={
            account.password_hash: account for account in accounts if shared[account.password_hash] == 1
        },
        chosen=sum(is_chosen(account.password_hash) for account in accounts),
    )


class CatalogCache:
    """Keeps a `CatalogView` and renews it when the catalog's version has changed."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._view = _view(catalog, catalog.version())

    @property
    def version(self) -> int:
        """The catalog's version as of the last refresh; read it before `tokens`."""
        return self._view.version

    @property
    def tokens(self) -> Mapping[str, int]:
        """Project ids by token, as of the last refresh."""
        return self._view.tokens

    @property
    def projects(self) -> Mapping[int, Project]:
        """Projects by id, as of the last refresh."""
        return self._view.projects

    def refresh_beside(self) -> None:
        """Take in any change of the catalog soon, in a thread of its own, unless one is at it already.

        For an event loop, which must not wait for a database. Where it cannot be asked nothing changes.
        """

        def refresh() -> None:
            try:
                with suppress(StoreError):
                    self.refresh()
            finally:
                self._refreshing.release()

        if self._refreshing.acquire(blocking=False):
            threading.Thread(target=refresh, name="catalog", daemon=True).start()

    def refresh(self) -> int:
        """Take in any change of the catalog; returns its version. Raises `StoreError`."""
        return self.current().version

    def current(self) -> CatalogView:
        """The catalog as it stands now: one cheap question to the store. Raises `StoreError`."""
        version = self._catalog.version()
        if version != self._view.version:
            with self._lock:
                # Read before the rows: a change that comes between the two is seen at the next look.
                version = self._catalog.version()
                if version != self._view.version:
                    self._view = _view(self._catalog, version)
        return self._view
