"""Who asks, and for which project (contract query §1.4, DESIGN §6).

The `Authorization` header and a view of the catalog enter; a `Caller` leaves, or `AuthError`: 401 for
credentials that are missing or wrong, 403 for good ones without this right. A project token is no
credential here. It must never tell by its text or timing whether an account exists.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

import msgspec

from mixdown.http.read_errors import UNAUTHENTICATED
from mixdown.model.errors import AuthError, QueryError
from mixdown.store.catalog_cache import CatalogView
from mixdown.store.protocols import Account, Project

OWNER: Final = "owner"
ADMIN: Final = "admin"
CONSUMER: Final = "consumer"
READERS: Final = frozenset({CONSUMER, "analyst", ADMIN, OWNER})
ADMINS: Final = frozenset({ADMIN, OWNER})
_HEADER_LIMIT_CHARS: Final = 4096


class Caller(msgspec.Struct, frozen=True):
    """Someone whose credentials are right. `project_id` 0: no project of their own (an owner)."""

    name: str
    role: str
    project_id: int

    def sees(self, project_id: int) -> bool:
        """Whether this caller may touch a project's data at all; roles decide what they may do there."""
        return self.role == OWNER or self.project_id == project_id


def authenticate(header: str, view: CatalogView) -> Caller:
    """The caller that an `Authorization` header names. Raises `AuthError` (401).

    Takes a service account's `user:secret` and a project secret with or without the colon, in either
    alphabet of base64, padded or not, or in clear.
    """
    credentials = _credentials(header)
    name, _, password = credentials.partition(":")
    account = view.account(name, password)
    if account is not None:
        return caller_of(account)
    project = view.project_of_secret(credentials.removesuffix(":"))  # a preset one may hold colons
    if project is not None:
        return Caller(name=f"secret of project {project.id}", role=CONSUMER, project_id=project.id)
    raise AuthError(
        UNAUTHENTICATED,
        status=401,
        hint="send a service account (user:secret) or the project's secret by Basic authentication",
    )


def caller_of(account: Account) -> Caller:
    """The caller that a service account is."""
    return Caller(name=account.username, role=account.role, project_id=account.project_id)


def require(caller: Caller, roles: frozenset[str], what: str) -> None:
    """Raises `AuthError` (403) unless the caller's role is one of `roles`; `what` ends the sentence."""
    if caller.role not in roles:
        raise AuthError(f"the role {caller.role!r} may not {what}", status=403)


def project_of(caller: Caller, project_id: int, view: CatalogView) -> Project:
    """The project that a request is about: the one it names (0: none), else the caller's own.

    Raises `AuthError` (403) for a project that the caller cannot see or that does not exist, and
    `QueryError` (400) where an owner names none.
    """
    wanted = project_id or caller.project_id
    if not wanted:
        raise QueryError("project_id, missing: this account sees every project, so name one", status=400)
    project = view.projects.get(wanted)
    if project is None or not caller.sees(wanted):
        raise AuthError(f"no access to project {wanted}", status=403)
    return project


def _credentials(header: str) -> str:
    """What stands behind `Basic`, decoded; taken literally where it is no base64 of printable text."""
    scheme, _, value = header.strip().partition(" ")
    value = value.strip()
    if scheme.lower() != "basic" or not value or len(value) > _HEADER_LIMIT_CHARS:
        return ""
    decoded = _decoded(value)
    # Header bytes reach us as Latin-1; in clear they were most likely UTF-8.
    return decoded or _text(value.encode("latin-1", "replace")) or value


def _decoded(value: str) -> str:
    alphabet = value.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        raw = base64.b64decode(alphabet + "=" * (-len(alphabet) % 4), validate=True)
    except (binascii.Error, ValueError):
        return ""
    return _text(raw)


def _text(raw: bytes) -> str:
    """The bytes as printable text, or ""."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() else ""
