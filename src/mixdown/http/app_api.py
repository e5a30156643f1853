"""What clients ask of `/api/app` before they read: who they are, projects, workspaces, group keys, accounts.

Requests enter, JSON leaves, in Mixpanel's shapes (contract query §6.4, §6.5). There is one organization, and
each project has one workspace, of the project's own id. Who sees which account stands in `accounts`.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.accounts import (
    MANAGE,
    Asked,
    ask,
    asked_account,
    change,
    forget,
    number_in_path,
    number_of,
    one_visible,
    project_roles,
    visible,
)
from mixdown.http.auth import ADMINS, READERS, project_of
from mixdown.http.read_errors import answering
from mixdown.http.reading import begin_read, in_thread, json_response, ok_response
from mixdown.http.services import Services
from mixdown.model.errors import AuthError, QueryError
from mixdown.model.names import PROJECT_ROLES
from mixdown.model.times import iso_seconds
from mixdown.store.protocols import Account, Catalog, Project

ORGANIZATION: Final = 1
ORGANIZATION_NAME: Final = "Mixdown"
WORKSPACE_NAME: Final = "All Project Data"
ACCOUNTS_LIMIT: Final = 1000
_WORDS: Final = ("add-to-project", "remove-from-project")
_ACCOUNTS_PATH: Final = "/organizations/{organization_id}/service-accounts"


def routes(services: Services) -> list[Route]:
    """The routes of this family."""
    # memberships first: their last words would be taken for numbers of accounts
    return [*_bootstrap_routes(services), *_membership_routes(services), *_account_routes(services)]


def _bootstrap_routes(services: Services) -> list[Route]:
    async def me(request: Request) -> Response:
        asked = await ask(request, services, READERS, "read")
        return ok_response(me_view(asked))

    async def index(request: Request) -> Response:
        asked = await ask(request, services, READERS, "read")
        return ok_response(
            {
                str(project.id): {"workspaces": {str(project.id): workspace_view(project)}}
                for project in _projects(asked)
            }
        )

    async def workspaces(request: Request) -> Response:
        asked = await ask(request, services, READERS, "read")
        project_id = number_in_path(request, "project_id")
        project = project_of(asked.caller, project_id, asked.view, roles=READERS, what="read")
        return ok_response([workspace_view(project)])

    async def data_groups(request: Request) -> Response:
        read = await begin_read(request, services)
        found = await in_thread(services, services.store.state.group_keys, read.project.id)
        return ok_response(
            [{"property_name": key, "data_group_id": number} for key, number in sorted(found.items())]
        )

    return [
        _route("/me", me, "GET"),
        _route("/projects/metadata/index", index, "GET"),
        _route("/projects/{project_id}/workspaces/public", workspaces, "GET"),
        _route("/projects/{project_id}/data-groups", data_groups, "GET"),
    ]


def _projects(asked: Asked) -> list[Project]:
    return [project for project in asked.view.projects.values() if asked.caller.sees(project.id)]


def me_view(asked: Asked) -> dict[str, Any]:
    """Who asks, and the projects that they read."""
    # a project's secret is no account, and what it is called has blanks, which no account's name has
    account = asked.view.accounts.get(asked.caller.name)
    projects = _projects(asked)
    return {
        "user_id": account.id if account else 0,
        "user_name": asked.caller.name,
        "user_email": asked.caller.name if account else "",
        "organizations": {str(ORGANIZATION): {"id": ORGANIZATION, "name": ORGANIZATION_NAME}},
        "projects": {
            str(project.id): {
                "id": project.id,
                "name": project.name,
                "organization_id": ORGANIZATION,
                "timezone": project.timezone,
                "has_workspaces": True,
                "domain": "",
                "role": asked.caller.role_in(project.id),
            }
            for project in projects
        },
        "workspaces": {str(project.id): workspace_view(project) for project in projects},
    }


def workspace_view(project: Project) -> dict[str, Any]:
    """The one workspace of a project."""
    return {
        "id": project.id,
        "name": WORKSPACE_NAME,
        "project_id": project.id,
        "is_default": True,
        "is_global": True,
        "is_visible": True,
    }


# --- service accounts


async def _ask_organization(request: Request, services: Services) -> Asked:
    asked = await ask(request, services, ADMINS, MANAGE)
    organization = number_in_path(request, "organization_id")
    if organization != ORGANIZATION:
        raise AuthError(f"no access to organization {organization}", status=403)
    return asked


def _account_routes(services: Services) -> list[Route]:
    async def listed(request: Request) -> Response:
        asked = await _ask_organization(request, services)
        return ok_response([account_entry(asked, account) for account in visible(asked)])

    async def create(request: Request) -> Response:
        asked = await _ask_organization(request, services)
        account, password = asked_account(asked, now_ms=services.now_ms())
        made = await change(services, lambda catalog: catalog.create_account(account))
        return ok_response({**account_entry(asked, made), "token": password}, status=201)

    async def show(request: Request) -> Response:
        _refuse_words(request)
        asked = await _ask_organization(request, services)
        account = one_visible(asked, number_in_path(request, "account_id"))
        return json_response(
            orjson.dumps(account_entry(asked, account))
        )  # bare, as OpenAPI has it (contract query §6.4)

    async def delete(request: Request) -> Response:
        _refuse_words(request)
        asked = await _ask_organization(request, services)
        account = one_visible(asked, number_in_path(request, "account_id"))
        await change(services, lambda catalog: forget(catalog, asked, account))
        return json_response(orjson.dumps({"status": "ok"}))

    return [
        _route(_ACCOUNTS_PATH, listed, "GET"),
        _route(_ACCOUNTS_PATH, create, "POST"),
        _route(f"{_ACCOUNTS_PATH}/{{account_id}}", show, "GET"),
        _route(f"{_ACCOUNTS_PATH}/{{account_id}}", delete, "DELETE"),
    ]


def _refuse_words(request: Request) -> None:
    """Raises what a path answers to a method that it does not take, where the path is no account's."""
    if request.path_params["account_id"] in _WORDS:
        raise HTTPException(405, headers={"Allow": "POST"})


def _membership_routes(services: Services) -> list[Route]:
    async def add(request: Request) -> Response:
        asked = await _ask_organization(request, services)
        grants = project_roles(asked)
        ids = asked.parameters.value("service_account_ids")
        accounts = [one_visible(asked, number) for number in _numbers(ids, "service_account_ids")]
        if not grants or not accounts:
            raise QueryError("projects and service_account_ids, neither may be empty", status=400)

        def changed(catalog: Catalog) -> None:
            for account in accounts:
                for project_id, role in grants:
                    catalog.grant_account(account.username, project_id, role)

        await change(services, changed)
        return json_response(orjson.dumps({"status": "ok"}))

    async def remove(request: Request) -> Response:
        asked = await _ask_organization(request, services)
        removals = _removals(asked)

        def changed(catalog: Catalog) -> None:
            for project_id, account in removals:
                catalog.revoke_account(account.username, project_id)

        await change(services, changed)
        return json_response(orjson.dumps({"status": "ok"}))

    async def of_project(request: Request) -> Response:
        asked = await ask(request, services, ADMINS, MANAGE)
        project_id = asked.project(number_in_path(request, "project_id"), MANAGE)
        members = [account for account in visible(asked) if project_id in dict(account.grants)]
        return ok_response([member_entry(asked, account, project_id) for account in members])

    return [
        _route(f"{_ACCOUNTS_PATH}/{_WORDS[0]}", add, "POST"),
        _route(f"{_ACCOUNTS_PATH}/{_WORDS[1]}", remove, "POST"),
        _route("/projects/{project_id}/service-accounts", of_project, "GET"),
    ]


def account_entry(asked: Asked, account: Account) -> dict[str, Any]:
    """An account as Mixpanel shows it. `last_used` is not kept: it would cost every read a write."""
    creator = asked.view.accounts.get(account.creator)
    return {
        "id": account.id,
        "username": account.username,
        "last_used": None,
        "expires": _moment(account.expires_ms) if account.expires_ms else None,
        "creator": creator.id if creator else None,
        "created": _moment(account.created_ms),
        "user": account.id,
    }


def member_entry(asked: Asked, account: Account, project_id: int) -> dict[str, Any]:
    """An account as Mixpanel shows it in a project."""
    role = dict(account.grants)[project_id]
    return {
        **account_entry(asked, account),
        "role": role,
        "role_order": PROJECT_ROLES.index(role) if role in PROJECT_ROLES else len(PROJECT_ROLES),
        "hasSensitiveAccess": False,
        "target_type": "individual",
        "email": account.username,
    }


def _removals(asked: Asked) -> list[tuple[int, Account]]:
    """What `projects`, a list of `{"id", "service_account_ids"}`, takes out of which project."""
    given = asked.parameters.value("projects")
    if type(given) is not list or not 0 < len(given) <= ACCOUNTS_LIMIT:
        raise QueryError(f"projects, must be a list of 1 to {ACCOUNTS_LIMIT} objects", status=400)
    found: list[tuple[int, Account]] = []
    for item in given:
        fields = item if type(item) is dict else {}
        project_id = asked.project(number_of(fields, "id", "projects"), MANAGE)
        numbers = _numbers(fields.get("service_account_ids"), "projects, service_account_ids")
        found += [(project_id, one_visible(asked, number)) for number in numbers]
    return found


def _numbers(given: object, name: str) -> list[int]:
    if not isinstance(given, list) or len(given) > ACCOUNTS_LIMIT:
        raise QueryError(f"{name}, must be a list of at most {ACCOUNTS_LIMIT} ids", status=400)
    return [number_of({"id": item}, "id", name) for item in given]


def _moment(ms: int) -> str:
    return iso_seconds(ms) + "Z"


def _route(path: str, endpoint: Any, method: str) -> Route:
    return Route(f"/api/app{path}", answering(endpoint), methods=[method])
