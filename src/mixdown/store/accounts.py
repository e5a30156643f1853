"""A service account as the catalog holds it: who it is, and its role in each of its projects. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

Grant = tuple[int, str]
"""(project, role): what an account may do in one project."""
OWNER_ROLE: Final = "owner"


class Account(msgspec.Struct, frozen=True):
    """A service account: its role in its own project, and in `others`.

    One with the role `owner` sees every project (`project_id` 0); any other with `project_id` 0 sees none.
    `id` is given by the catalog. `expires_ms` 0: never.
    """

    username: str
    password_hash: bytes
    project_id: int
    role: str
    created_ms: int = 0
    id: int = 0
    creator: str = ""
    expires_ms: int = 0
    others: tuple[Grant, ...] = ()

    @property
    def is_owner(self) -> bool:
        """Whether the account sees every project."""
        return self.role == OWNER_ROLE

    @property
    def grants(self) -> tuple[Grant, ...]:
        """Each project that the account is in, and its role there; the first is its own."""
        return ((self.project_id, self.role), *self.others) if self.project_id else ()

    def is_expired(self, now_ms: int) -> bool:
        """Whether the account's time is over."""
        return bool(self.expires_ms) and now_ms >= self.expires_ms

    def granted(self, project_id: int, role: str) -> Account:
        """The account with this role in this project, whatever it had there."""
        grants = dict(self.grants)
        grants[project_id] = role
        return self._with(tuple(grants.items()))

    def revoked(self, project_id: int) -> Account:
        """The account without this project; its own is then the next one, if it has one."""
        return self._with(tuple(grant for grant in self.grants if grant[0] != project_id))

    def _with(self, grants: tuple[Grant, ...]) -> Account:
        project_id, role = grants[0] if grants else (0, self.role)
        return msgspec.structs.replace(
            self, project_id=project_id, role=role, others=tuple(sorted(grants[1:]))
        )
