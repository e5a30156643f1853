"""Who asks, and for which project (contract query §1.4, DESIGN §6).

The `Authorization` header and a view of the catalog enter; a `Caller` leaves, or `AuthError`: 401 for
credentials that are missing or wrong, 403 for good ones without this right. A project token is no
credential here. It must never tell by its text or timing whether an account exists.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from starlette.requests import Request

from mixdown.http.read_errors import UNAUTHENTICATED
from mixdown.model.errors import AuthError, QueryError
from mixdown.model.masking import NOTHING_HIDDEN, Mask
from mixdown.store.catalog_cache import CatalogView
from mixdown.store.protocols import Account, Project

OWNER: Final = "owner"
ADMIN: Final = "admin"
ANALYST: Final = "analyst"
CONSUMER: Final = "consumer"
INGEST: Final = "ingest"
READERS: Final = frozenset({CONSUMER, ANALYST, ADMIN, OWNER})
ANALYSTS: Final = frozenset({ANALYST, ADMIN, OWNER})
ADMINS: Final = frozenset({ADMIN, OWNER})
OWNERS: Final = frozenset({OWNER})
_HEADER_LIMIT_CHARS: Final = 4096
CALLER_KEY: Final = "mixdown.caller"
"""Where the scope of a request that a page asks in process names its caller; no client can set a scope."""
_OTHER_SITE: Final = "this request was sent by another site"


class Caller(msgspec.Struct, frozen=True):
    """Someone whose credentials are right: an owner, a role in each project, or (`is_secret`) a secret."""

    name: str
    is_owner: bool
    grants: Mapping[int, str]
    is_secret: bool = False

    @property
    def roles(self) -> frozenset[str]:
        """The roles that the caller has anywhere."""
        return OWNERS if self.is_owner else frozenset(self.grants.values())

    def role_in(self, project_id: int) -> str:
        """The caller's role in a project, "" where they have none: roles decide what they may do there."""
        return OWNER if self.is_owner else self.grants.get(project_id, "")

    def sees(self, project_id: int, roles: frozenset[str] = READERS) -> bool:
        """Whether the caller has one of these roles in a project."""
        return self.role_in(project_id) in roles


def authenticate(header: str, view: CatalogView, *, now_ms: int) -> Caller:
    """The caller that an `Authorization` header names. Raises `AuthError` (401).

    `Basic` takes a service account's `user:secret` and a project secret with or without the colon, in either
    alphabet of base64, padded or not, or in clear. `Bearer` takes a service account's password, which alone
    finds its account.
    """
    caller = _of_bearer(header, view, now_ms) or _of_basic(header, view, now_ms)
    if caller is not None:
        return caller
    raise AuthError(
        UNAUTHENTICATED,
        status=401,
        hint="send a service account (user:secret) or the project's secret by Basic authentication",
    )


def account_of(header: str, view: CatalogView, *, now_ms: int) -> Caller | None:
    """The service account that a header names, None where it names none; no project secret is one."""
    caller = _of_bearer(header, view, now_ms)
    if caller is not None:
        return caller
    name, _, password = basic_credentials(header).partition(":")
    account = view.account(name, password, now_ms=now_ms)
    return None if account is None else caller_of(account)


def _of_bearer(header: str, view: CatalogView, now_ms: int) -> Caller | None:
    scheme, _, value = header.strip().partition(" ")
    value = value.strip()
    if scheme.lower() != "bearer" or not value or len(value) > _HEADER_LIMIT_CHARS:
        return None
    account = view.account_of_password(value, now_ms=now_ms)
    return None if account is None else caller_of(account)


def _of_basic(header: str, view: CatalogView, now_ms: int) -> Caller | None:
    credentials = basic_credentials(header)
    name, _, password = credentials.partition(":")
    account = view.account(name, password, now_ms=now_ms)
    if account is not None:
        return caller_of(account)
    project = view.project_of_secret(credentials.removesuffix(":"))  # a preset one may hold colons
    if project is None:
        return None
    return Caller(
        name=f"secret of project {project.id}", is_owner=False, grants={project.id: CONSUMER}, is_secret=True
    )


def caller_of(account: Account) -> Caller:
    """The caller that a service account is."""
    return Caller(name=account.username, is_owner=account.is_owner, grants=dict(account.grants))


def caller_inside(scope: Mapping[str, Any]) -> Caller | None:
    """Who asks by a request that this process made itself, None for all that came over a connection."""
    caller = scope.get(CALLER_KEY)
    assert caller is None or isinstance(caller, Caller)
    return caller


def require(caller: Caller, roles: frozenset[str], what: str) -> None:
    """Raises `AuthError` (403) unless the caller has one of `roles` somewhere; `what` ends the sentence.

    It spares work for those who have no right at all. Which project the right is for, `project_of` checks.
    """
    if not caller.roles & roles:
        raise _may_not(caller.roles, what)


def project_of(
    caller: Caller, project_id: int, view: CatalogView, *, roles: frozenset[str], what: str
) -> Project:
    """The project that a request is about: the one it names (0: none), else the caller's only one.

    Raises `AuthError` (403) for a project that the caller cannot see or that does not exist, in the same
    words, and where their role there is none of `roles`; `QueryError` (400) where they must name one.
    """
    wanted = project_id
    if not wanted and not caller.is_owner and len(caller.grants) == 1:
        (wanted,) = caller.grants
    if not wanted:
        which = "every project" if caller.is_owner else f"{len(caller.grants)} projects"
        raise QueryError(f"project_id, missing: this account sees {which}, so name one", status=400)
    project = view.projects.get(wanted)
    role = caller.role_in(wanted)
    if project is None or not role:
        raise AuthError(f"no access to project {wanted}", status=403)
    if role not in roles:
        raise _may_not({role}, what)
    return project


def refuse_other_sites(request: Request) -> None:
    """Raises `AuthError` (403) for what another site's page sent: whatever changes something asks this.

    A browser adds remembered Basic credentials to other sites' forms too.
    """
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise AuthError(_OTHER_SITE, status=403)


def _may_not(roles: Iterable[str], what: str) -> AuthError:
    named = ", ".join(repr(role) for role in sorted(roles))
    text = f"the role {named} may not {what}" if named else f"an account without a project may not {what}"
    return AuthError(text, status=403)


def basic_credentials(header: str) -> str:
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


def mask_of(caller: Caller, projects: Iterable[Project]) -> Mask:
    """What hides the tokens of those of these projects whose keys an account does not manage (DESIGN §6).

    Whoever has a project's secret may write by it, so that its token is nothing new to them.
    """
    if caller.is_secret:
        return NOTHING_HIDDEN
    return Mask(project.token for project in projects if not caller.sees(project.id, ADMINS))
