"""Service accounts over HTTP: whom a caller sees, and what they may change (DESIGN §6, contract query §6.4).

A caller, the catalog as it stands, and parameters enter; accounts leave, or errors. An admin meets the
accounts of the projects that they administer, and of those accounts these projects alone; an owner meets all.
It must never tell an admin of other projects, nor let them gain a role that they have not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeVar

from starlette.requests import Request

from mixdown.http.auth import ADMINS, Caller, project_of, refuse_other_sites, require
from mixdown.http.parameters import Parameters, read_parameters
from mixdown.http.reading import PROJECT_ID_LIMIT, authenticated, to_its_end
from mixdown.http.services import Services
from mixdown.model.errors import AuthError, CatalogError, QueryError, RequestError
from mixdown.model.names import PROJECT_ROLES, ROLES, checked_username
from mixdown.model.times import canonical_timestamp
from mixdown.store.accounts import OWNER_ROLE, Account, Grant
from mixdown.store.catalog_cache import CatalogView
from mixdown.store.credentials import new_password, secret_hash
from mixdown.store.protocols import Catalog

PROJECTS_LIMIT: Final = 1000
MANAGE: Final = "manage service accounts"
NEVER: Final = "never"
_T = TypeVar("_T")


class Asked(NamedTuple):
    """An authenticated call of administration."""

    caller: Caller
    view: CatalogView
    parameters: Parameters

    @property
    def administered(self) -> frozenset[int]:
        """The projects whose keys the caller manages."""
        return frozenset(project for project in self.view.projects if self.caller.sees(project, ADMINS))

    def project(self, project_id: int, what: str) -> int:
        """A project that the caller administers. Raises `AuthError` (403)."""
        return project_of(self.caller, project_id, self.view, roles=ADMINS, what=what).id


async def ask(request: Request, services: Services, roles: frozenset[str], what: str) -> Asked:
    """Authenticate, and decode what was sent. Raises `AuthError`, `QueryError`, `BodyError`."""
    if request.method not in ("GET", "HEAD"):
        refuse_other_sites(request)
    caller, view = await authenticated(request, services)
    require(caller, roles, what)
    parameters = await read_parameters(request, body_limit_bytes=services.settings.body_limit_bytes)
    return Asked(caller, view, parameters)


async def change(services: Services, call: Callable[[Catalog], _T]) -> _T:
    """Change the catalog in a thread; it is on disk on return. What cannot be raises `RequestError` (400)."""

    def changed() -> _T:
        try:
            return call(services.store.catalog)
        except CatalogError as error:
            raise RequestError(error.message, status=400) from error

    return await to_its_end(services, changed)


def number_in_path(request: Request, name: str) -> int:
    """A number that the path names. Raises `QueryError` (404) where it is none."""
    text: str = request.path_params[name]
    if text.isascii() and text.isdecimal() and len(text) <= len(str(PROJECT_ID_LIMIT)) and int(text):
        return int(text)
    raise QueryError("Not Found", status=404)


def visible(asked: Asked) -> list[Account]:
    """The accounts that the caller may manage, by their numbers."""
    accounts = sorted(asked.view.accounts.values(), key=lambda account: account.id)
    if asked.caller.is_owner:
        return accounts
    return [account for account in accounts if not account.is_owner and grants_seen(asked, account)]


def grants_seen(asked: Asked, account: Account) -> tuple[Grant, ...]:
    """The projects of an account that the caller may know of."""
    return tuple(grant for grant in account.grants if grant[0] in asked.administered)


def one_visible(asked: Asked, account_id: int) -> Account:
    """The account of this number. Raises `RequestError` (404) where the caller may manage none such."""
    for account in visible(asked):
        if account.id == account_id:
            return account
    raise RequestError(f"there is no service account {account_id}", status=404)


def asked_account(asked: Asked, *, now_ms: int) -> tuple[Account, str]:
    """A new account as the parameters describe it, and its password. Raises `AuthError` and `QueryError`."""
    parameters = asked.parameters
    role = _role(parameters.text("role") or "consumer", ROLES)
    password = new_password()
    if role == OWNER_ROLE and not asked.caller.is_owner:
        raise AuthError("only an owner may make an owner", status=403)
    grants = () if role == OWNER_ROLE else _grants(asked, role)
    try:
        username = checked_username(parameters.text("username"))
    except CatalogError as error:
        raise QueryError(f"username, {error.message}", status=400, hint=error.hint) from error
    project_id, own_role = grants[0] if grants else (0, role)
    account = Account(
        username=username,
        password_hash=secret_hash(password),
        project_id=project_id,
        role=own_role,
        created_ms=now_ms,
        creator=asked.caller.name,
        expires_ms=_expires_ms(parameters, now_ms=now_ms),
        others=grants[1:],
    )
    return account, password


def project_roles(asked: Asked, *, default_role: str = "") -> tuple[Grant, ...]:
    """The parameter `projects`, a list of `{"id", "role"}`, each a project that the caller administers."""
    given = asked.parameters.value("projects")
    if given is None:
        return ()
    if type(given) is not list or len(given) > PROJECTS_LIMIT:
        raise QueryError(f"projects, must be a list of at most {PROJECTS_LIMIT} objects", status=400)
    grants: dict[int, str] = {}
    for item in given:
        fields = item if type(item) is dict else {}
        project_id = asked.project(number_of(fields, "id", "projects"), MANAGE)
        grants[project_id] = _role(fields.get("role") or default_role, PROJECT_ROLES, "projects, role")
    return tuple(grants.items())


def number_of(fields: Mapping[str, Any], name: str, within: str) -> int:
    """A positive number in a JSON object. Raises `QueryError` naming where it should stand."""
    value = fields.get(name)
    if (
        type(value) is str
        and value.isascii()
        and value.isdecimal()
        and len(value) <= len(str(PROJECT_ID_LIMIT))
    ):
        value = int(value)
    if type(value) is not int or not 0 < value <= PROJECT_ID_LIMIT:
        raise QueryError(f"{within}, {name} must be a number from 1 to {PROJECT_ID_LIMIT}", status=400)
    return value


def forget(catalog: Catalog, asked: Asked, account: Account) -> None:
    """Take an account out of the caller's projects, and away when it is in no other. Blocks.

    Raises `CatalogError`, and `RequestError` (400) for the account that asks.
    """
    if account.username == asked.caller.name:
        raise RequestError("this is the account that asks: let another one delete it", status=400)
    if asked.caller.is_owner:
        catalog.delete_account(account.username)
        return
    left = account
    for project_id, _ in grants_seen(asked, account):
        left = catalog.revoke_account(account.username, project_id)
    if not left.grants:
        catalog.delete_account(account.username)


def may_be_changed(asked: Asked, account: Account) -> None:
    """Raises `AuthError` (403) where a new password or end would be one in projects of others."""
    if not asked.caller.is_owner and grants_seen(asked, account) != account.grants:
        raise AuthError("this account is not in your projects alone: an owner may do this", status=403)


def _grants(asked: Asked, role: str) -> tuple[Grant, ...]:
    """The projects of a new account: those in `projects` and `project_id`, else the caller's only one."""
    project_id = asked.parameters.integer("project_id", 0, low=1, high=PROJECT_ID_LIMIT)
    grants = dict(project_roles(asked, default_role=role))
    if project_id:
        grants = {asked.project(project_id, MANAGE): role, **grants}
    if grants or asked.caller.is_owner:
        return tuple(grants.items())
    if len(asked.administered) != 1:
        raise QueryError("projects, missing: name at least one", status=400)
    (only,) = asked.administered
    return ((only, role),)


def _role(value: object, roles: tuple[str, ...], name: str = "role") -> str:
    if type(value) is not str or value not in roles:
        raise QueryError(f"{name}, must be one of {', '.join(roles)}", status=400)
    return value


def role_of(parameters: Parameters) -> str:
    """The parameter `role`, one that an account can have in a project. Raises `QueryError`."""
    return _role(parameters.text("role"), PROJECT_ROLES)


def asked_end_ms(parameters: Parameters, *, now_ms: int) -> int:
    """The parameter `expires` of a change: a time to come, or never (0). Raises `QueryError`."""
    if not parameters.text("expires"):
        raise QueryError(f"expires, missing: send a time to come, or {NEVER}", status=400)
    return _expires_ms(parameters, now_ms=now_ms)


def _expires_ms(parameters: Parameters, *, now_ms: int) -> int:
    given = parameters.text("expires")
    if not given or given == NEVER:
        return 0
    text = canonical_timestamp(given)
    if text is None:
        raise QueryError("expires, must be a time such as 2027-01-31T00:00:00", status=400)
    expires_ms = int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)
    if expires_ms <= now_ms:
        raise QueryError("expires, must be a time to come", status=400)
    return expires_ms
