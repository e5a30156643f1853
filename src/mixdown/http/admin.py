"""Administration by HTTP, as the CLI does it: `/api/mixdown/projects` and `/api/mixdown/accounts`.

Requests of accounts with the right role enter, JSON leaves, in the envelope of `own`. A secret or password
is in the answer to the call that made it and in no other. Who sees and may change what stands in `accounts`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.accounts import (
    MANAGE,
    Asked,
    ask,
    asked_account,
    asked_end_ms,
    change,
    forget,
    grants_seen,
    may_be_changed,
    number_in_path,
    one_visible,
    role_of,
    visible,
)
from mixdown.http.auth import ADMINS, OWNERS, READERS, project_of
from mixdown.http.own import PREFIX
from mixdown.http.parameters import Parameters
from mixdown.http.read_errors import answering
from mixdown.http.reading import in_thread, ok_response
from mixdown.http.services import Services
from mixdown.model.errors import CatalogError, QueryError
from mixdown.model.names import ID_MERGE, checked_credential, checked_project_name
from mixdown.model.times import iso_seconds
from mixdown.query.storage import storage_of
from mixdown.store.credentials import new_password, new_secret, new_token, secret_hash
from mixdown.store.protocols import Account, Catalog, Project
from mixdown.store.zones import DEFAULT as DEFAULT_ZONE
from mixdown.store.zones import checked_timezone

RATE_LIMITS: Final = ("rate_limit_records_per_s", "rate_limit_requests_per_s", "rate_limit_queries_per_hour")
RATE_LIMIT_LIMIT: Final = 10**9
DEFAULT: Final = "default"
_KEYS: Final = "manage a project's keys"


def routes(services: Services) -> list[Route]:
    """The routes of this family."""
    families = (_project_routes, _key_routes, _account_routes, _right_routes)
    return [route for family in families for route in family(services)]


# --- projects


def _project_routes(services: Services) -> list[Route]:
    async def listed(request: Request) -> Response:
        asked = await ask(request, services, READERS, "read")
        seen = [project for project in asked.view.projects.values() if asked.caller.sees(project.id)]
        return ok_response([project_view(asked, project) for project in seen])

    async def create(request: Request) -> Response:
        asked = await ask(request, services, OWNERS, "make projects")
        secret = asked.parameters.text("secret") or new_secret()
        token = asked.parameters.text("token") or new_token()
        timezone = await in_thread(services, _timezone, asked.parameters)
        now_ms = services.now_ms()

        def made(catalog: Catalog) -> Project:
            name = checked_project_name(asked.parameters.text("name"))
            return catalog.create_project(
                name,
                token=checked_credential("token", token),
                secret_hash=secret_hash(checked_credential("secret", secret)),
                id_merge=_id_merge(asked.parameters) or ID_MERGE[0],
                timezone=timezone or DEFAULT_ZONE,
                now_ms=now_ms,
            )

        return ok_response(project_view(asked, await change(services, made), secret), status=201)

    async def show(request: Request) -> Response:
        asked = await ask(request, services, READERS, "read")
        project_id = number_in_path(request, "project_id")
        return ok_response(
            project_view(asked, project_of(asked.caller, project_id, asked.view, roles=READERS, what="read"))
        )

    async def modify(request: Request) -> Response:
        asked = await ask(request, services, ADMINS, "change a project")
        project_id = asked.project(number_in_path(request, "project_id"), "change a project")
        changed = await in_thread(services, _changes, asked, project_id)
        return ok_response(project_view(asked, await change(services, changed)))

    async def delete(request: Request) -> Response:
        asked = await ask(request, services, OWNERS, "delete projects")
        project_id = asked.project(number_in_path(request, "project_id"), "delete projects")
        await change(services, lambda catalog: catalog.delete_project(project_id))
        return ok_response({"id": project_id, "deleted": True})

    async def storage(request: Request) -> Response:
        asked = await ask(request, services, READERS, "read")
        project_id = number_in_path(request, "project_id")
        project = project_of(asked.caller, project_id, asked.view, roles=READERS, what="read")
        return ok_response(await in_thread(services, storage_of, services.store, project.id))

    return [
        _route("projects", listed, "GET"),
        _route("projects/{project_id}/storage", storage, "GET"),
        _route("projects", create, "POST"),
        _route("projects/{project_id}", show, "GET"),
        _route("projects/{project_id}", modify, "PATCH"),
        _route("projects/{project_id}", delete, "DELETE"),
    ]


def _changes(asked: Asked, project_id: int) -> Callable[[Catalog], Project]:
    """What changes a project as the parameters say. Blocks. Raises `QueryError`."""
    limits, parameters = _limits(asked), asked.parameters
    given: dict[str, Any] = {
        "name": parameters.text("name") or None,
        "id_merge": _id_merge(parameters),
        "late_events": _flag(parameters, "late_events"),
        "timezone": _timezone(parameters),
        "ci_strings": _flag(parameters, "ci_strings"),
    }

    def changed(catalog: Catalog) -> Project:
        if given["name"] is not None:
            checked_project_name(given["name"])
        project = catalog.change_project(project_id, **given)
        return _limited(catalog, project, limits) if limits else project

    return changed


def _key_routes(services: Services) -> list[Route]:
    async def rotate_token(request: Request) -> Response:
        asked = await ask(request, services, ADMINS, _KEYS)
        project_id = asked.project(number_in_path(request, "project_id"), _KEYS)
        token = new_token()
        changed = await change(services, lambda catalog: catalog.change_project(project_id, token=token))
        return ok_response(project_view(asked, changed))

    async def rotate_secret(request: Request) -> Response:
        asked = await ask(request, services, ADMINS, _KEYS)
        project_id = asked.project(number_in_path(request, "project_id"), _KEYS)
        secret = new_secret()
        hashed = secret_hash(secret)
        changed = await change(
            services, lambda catalog: catalog.change_project(project_id, secret_hash=hashed)
        )
        return ok_response(project_view(asked, changed, secret))

    return [
        _route("projects/{project_id}/rotate-token", rotate_token, "POST"),
        _route("projects/{project_id}/rotate-secret", rotate_secret, "POST"),
    ]


def project_view(asked: Asked, project: Project, secret: str | None = None) -> dict[str, Any]:
    """A project as this API shows it: its token to those who manage keys, its secret when just made."""
    shown = {
        "id": project.id,
        "name": project.name,
        "token": project.token if asked.caller.sees(project.id, ADMINS) else None,
        "secret": secret,
        "id_merge": project.id_merge,
        "late_events": project.late_events,
        "timezone": project.timezone,
        "ci_strings": project.ci_strings,
        "created": iso_seconds(project.created_ms),
        "role": asked.caller.role_in(project.id),
    }
    return shown | {name: getattr(project, name) for name in RATE_LIMITS}


def _id_merge(parameters: Parameters) -> str | None:
    given = parameters.text("id_merge")
    if given and given not in ID_MERGE:
        raise QueryError(f"id_merge, must be one of {', '.join(ID_MERGE)}", status=400)
    return given or None


def _timezone(parameters: Parameters) -> str | None:
    """The zone that was given, checked; it reads the names that there are. Blocks."""
    given = parameters.text("timezone")
    if not given:
        return None
    try:
        return checked_timezone(given)
    except CatalogError as error:
        raise QueryError(error.message, status=400) from None


def _flag(parameters: Parameters, name: str) -> bool | None:
    return parameters.boolean(name, default=False) if parameters.text(name) else None


def _limits(asked: Asked) -> dict[str, int | None]:
    """The rate limits that were given; None: as the server's settings say. An owner alone may set them."""
    parameters = asked.parameters
    limits: dict[str, int | None] = {}
    for name in RATE_LIMITS:
        if not parameters.text(name):
            continue
        if not asked.caller.is_owner:
            raise QueryError(f"{name}, only an owner sets rate limits", status=403)
        is_default = parameters.text(name) == DEFAULT
        limits[name] = None if is_default else parameters.integer(name, 0, low=0, high=RATE_LIMIT_LIMIT)
    return limits


def _limited(catalog: Catalog, project: Project, limits: dict[str, int | None]) -> Project:
    records, requests, queries = (limits.get(name, getattr(project, name)) for name in RATE_LIMITS)
    return catalog.limit_project(
        project.id, records_per_s=records, requests_per_s=requests, queries_per_hour=queries
    )


# --- accounts


def _account_routes(services: Services) -> list[Route]:
    async def listed(request: Request) -> Response:
        asked = await ask(request, services, ADMINS, MANAGE)
        return ok_response([account_view(asked, account) for account in visible(asked)])

    async def create(request: Request) -> Response:
        asked = await ask(request, services, ADMINS, MANAGE)
        account, password = asked_account(asked, now_ms=services.now_ms())
        made = await change(services, lambda catalog: catalog.create_account(account))
        return ok_response(account_view(asked, made, password), status=201)

    async def show(request: Request) -> Response:
        asked = await ask(request, services, ADMINS, MANAGE)
        return ok_response(account_view(asked, one_visible(asked, number_in_path(request, "account_id"))))

    async def modify(request: Request) -> Response:
        asked = await ask(request, services, ADMINS, MANAGE)
        account = one_visible(asked, number_in_path(request, "account_id"))
        may_be_changed(asked, account)
        end_ms = asked_end_ms(asked.parameters, now_ms=services.now_ms())
        changed = await change(services, lambda catalog: catalog.expire_account(account.username, end_ms))
        return ok_response(account_view(asked, changed))

    async def delete(request: Request) -> Response:
        asked = await ask(request, services, ADMINS, MANAGE)
        account = one_visible(asked, number_in_path(request, "account_id"))
        await change(services, lambda catalog: forget(catalog, asked, account))
        return ok_response({"id": account.id, "deleted": True})

    return [
        _route("accounts", listed, "GET"),
        _route("accounts", create, "POST"),
        _route("accounts/{account_id}", show, "GET"),
        _route("accounts/{account_id}", modify, "PATCH"),
        _route("accounts/{account_id}", delete, "DELETE"),
    ]


def _right_routes(services: Services) -> list[Route]:
    async def rotate_password(request: Request) -> Response:
        asked = await ask(request, services, ADMINS, MANAGE)
        account = one_visible(asked, number_in_path(request, "account_id"))
        may_be_changed(asked, account)
        password = new_password()
        hashed = secret_hash(password)
        changed = await change(services, lambda catalog: catalog.change_password(account.username, hashed))
        return ok_response(account_view(asked, changed, password))

    async def grant(request: Request) -> Response:
        asked = await ask(request, services, ADMINS, MANAGE)
        account = one_visible(asked, number_in_path(request, "account_id"))
        project_id = asked.project(number_in_path(request, "project_id"), MANAGE)
        role = role_of(asked.parameters)
        changed = await change(
            services, lambda catalog: catalog.grant_account(account.username, project_id, role)
        )
        return ok_response(account_view(asked, changed))

    async def revoke(request: Request) -> Response:
        asked = await ask(request, services, ADMINS, MANAGE)
        account = one_visible(asked, number_in_path(request, "account_id"))
        project_id = asked.project(number_in_path(request, "project_id"), MANAGE)
        changed = await change(services, lambda catalog: catalog.revoke_account(account.username, project_id))
        return ok_response(account_view(asked, changed))

    return [
        _route("accounts/{account_id}/rotate-password", rotate_password, "POST"),
        _route("accounts/{account_id}/projects/{project_id}", grant, "PUT"),
        _route("accounts/{account_id}/projects/{project_id}", revoke, "DELETE"),
    ]


def account_view(asked: Asked, account: Account, password: str | None = None) -> dict[str, Any]:
    """An account as this API shows it; its password when it was just made."""
    grants = grants_seen(asked, account)
    project_id, role = grants[0] if grants else (0, account.role)
    return {
        "id": account.id,
        "username": account.username,
        "password": password,
        "project_id": project_id,
        "role": role,
        "projects": [{"id": number, "role": held} for number, held in grants],
        "created": iso_seconds(account.created_ms),
        "expires": iso_seconds(account.expires_ms) if account.expires_ms else None,
    }


def _route(name: str, endpoint: Any, method: str) -> Route:
    return Route(f"{PREFIX}/{name}", answering(endpoint), methods=[method])
