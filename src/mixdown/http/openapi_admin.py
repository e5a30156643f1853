"""Administration as OpenAPI has it: projects, service accounts, and what clients ask before they read.

Settings enter; operations by path and method leave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mixdown.http.admin import RATE_LIMITS
from mixdown.http.openapi_pieces import (
    JSON,
    READERS,
    RETRY_AFTER,
    WAIT,
    Operation,
    content,
    operation,
    path_parameter,
    read_errors,
    ref,
    request_body,
    response,
)
from mixdown.http.own import PREFIX
from mixdown.model import texts
from mixdown.settings import Settings

TAG: Final = "Administration"
_ACCOUNT: Final[Sequence[Mapping[str, Any]]] = ({"account": []},)
_APP: Final = "/api/app"
_ORGANIZATION: Final = f"{_APP}/organizations/{{organization_id}}/service-accounts"
_MISSING: Final = 999
"""A number that no project and no account has: examples of what cannot be undone are about none."""
_SECRET: Final = "5f" * 32
_PROJECT: Final = {
    "id": 2,
    "name": "shop",
    "token": "0f" * 16,
    "secret": None,
    "id_merge": "simplified",
    "late_events": False,
    "timezone": "Europe/Berlin",
    "ci_strings": False,
    "created": "2026-11-22T03:53:59",
    "role": "owner",
    **dict.fromkeys(RATE_LIMITS),
}
_MEMBER: Final = {
    "id": 2,
    "username": "airbyte",
    "password": None,
    "project_id": 1,
    "role": "consumer",
    "projects": [{"id": 1, "role": "consumer"}],
    "created": "2026-11-22T03:53:59",
    "expires": None,
}
_ENTRY: Final = {
    "id": 2,
    "username": "airbyte",
    "last_used": None,
    "expires": None,
    "creator": 1,
    "created": "2026-11-22T03:53:59Z",
    "user": 2,
}
_WORKSPACE: Final = {
    "id": 1,
    "name": "All Project Data",
    "project_id": 1,
    "is_default": True,
    "is_global": True,
    "is_visible": True,
}
_DONE: Final = {JSON: {"schema": ref("Done"), "example": {"status": "ok"}}}


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    own = {**_projects(), **_keys(), **_accounts(), **_rights()}
    return {**own, **_bootstrap(), **_data_groups(), **_service_accounts(), **_memberships()}


def _told(  # noqa: PLR0913 - what an operation has
    path: str,
    identity: str,
    summary: str,
    text: str,
    answer: Mapping[str, Any],
    *,
    status: int = 200,
    body: Mapping[str, Any] | None = None,
    example_number: str = "",
    readers: Sequence[Mapping[str, Any]] = _ACCOUNT,
    parameters: Sequence[Mapping[str, Any]] = (),
) -> Operation:
    """An operation; `example_number` names the part of the path that stands for nothing in its example."""
    missing = {"request": path, "error": f"there is no service account {_MISSING}", "status": "error"}
    responses = read_errors(path) | {str(status): response("As asked.", answer)}
    if "{" in path:
        responses["404"] = response("There is none of that number.", content(ref("ReadError"), missing))
    own = [{**path_parameter(example_number), "example": _MISSING}] if example_number else []
    return operation(
        identity,
        TAG,
        summary,
        text,
        responses,
        parameters=(*own, *parameters),
        body=None if body is None else request_body(body),
        security=readers,
    )


def _one(schema: str, example: Mapping[str, Any]) -> dict[str, Any]:
    """An answer of one thing."""
    return content(_envelope(ref(schema)), {"status": "ok", "results": example})


def _many(schema: str, example: Mapping[str, Any]) -> dict[str, Any]:
    """An answer of a list."""
    listed = {"type": "array", "items": ref(schema)}
    return content(_envelope(listed), {"status": "ok", "results": [example]})


def _envelope(results: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"status": {"const": "ok"}, "results": results},
        "required": ["status", "results"],
    }


_DELETED: Final = _one("Deleted", {"id": 2, "deleted": True})


_PROJECT_VIEW: Final = _one("ProjectAnswer", _PROJECT)
_PROJECT_MADE: Final = _one("ProjectAnswer", _PROJECT | {"secret": _SECRET})
_ACCOUNT_VIEW: Final = _one("AccountAnswer", _MEMBER)
_ACCOUNT_MADE: Final = _one("AccountAnswer", _MEMBER | {"password": _SECRET})
_WHOM: Final = "An admin meets the accounts of their own projects, an owner all."


def _projects() -> dict[str, dict[str, Operation]]:
    listing, one = f"{PREFIX}/projects", f"{PREFIX}/projects/{{project_id}}"
    return {
        listing: {
            "get": _told(
                listing,
                "listProjects",
                "List projects",
                "Those that the caller reads. Tokens are shown to the roles admin and owner.",
                _many("ProjectAnswer", _PROJECT),
                readers=READERS,
            ),
            "post": _told(
                listing,
                "createProject",
                "Make a project",
                "The secret is in this answer and in no other. Needs the role owner.",
                _PROJECT_MADE,
                status=201,
                body=content(ref("NewProject"), {"name": "shop"}),
            ),
        },
        one: {
            "get": _told(
                one,
                "showProject",
                "Show a project",
                "One that the caller reads.",
                _PROJECT_VIEW,
                readers=READERS,
            ),
            "patch": _told(
                one,
                "changeProject",
                "Rename a project, or change its settings",
                "What is not given stays. Needs the role admin; rate limits are an owner's.",
                _PROJECT_VIEW,
                body=content(ref("ProjectChange"), {"name": "store"}),
            ),
            "delete": _told(
                one,
                "deleteProject",
                "Delete a project",
                "And the accounts that are in no other. Its id is never used again. Needs the role owner.",
                _DELETED,
                example_number="project_id",
            ),
        },
    }


def _keys() -> dict[str, dict[str, Operation]]:
    one = f"{PREFIX}/projects/{{project_id}}"
    token, secret = f"{one}/rotate-token", f"{one}/rotate-secret"
    return {
        token: {
            "post": _told(
                token,
                "rotateToken",
                "Give a project a new token",
                "The old one stops at once. Needs the role admin or owner.",
                _PROJECT_VIEW,
                example_number="project_id",
            )
        },
        secret: {
            "post": _told(
                secret,
                "rotateSecret",
                "Give a project a new secret",
                "The old one stops at once; the new one is in this answer and in no other. Needs the role "
                "admin or owner.",
                _PROJECT_MADE,
                example_number="project_id",
            )
        },
    }


def _accounts() -> dict[str, dict[str, Operation]]:
    listing, one = f"{PREFIX}/accounts", f"{PREFIX}/accounts/{{account_id}}"
    new = {"username": "airbyte", "role": "consumer", "project_id": 1}
    return {
        listing: {
            "get": _told(
                listing, "listAccounts", "List service accounts", _WHOM, _many("AccountAnswer", _MEMBER)
            ),
            "post": _told(
                listing,
                "createAccount",
                "Make a service account",
                "The password is in this answer and in no other. Needs the role admin or owner; an owner "
                "alone makes owners.",
                _ACCOUNT_MADE,
                status=201,
                body=content(ref("NewAccount"), new),
            ),
        },
        one: {
            "get": _told(one, "showAccount", "Show a service account", _WHOM, _ACCOUNT_VIEW),
            "patch": _told(
                one,
                "changeAccount",
                "Let a service account end at another time",
                "Who asks must administer all of the account's projects.",
                _ACCOUNT_VIEW,
                body=content(ref("AccountChange"), {"expires": "2099-01-31T00:00:00"}),
                example_number="account_id",
            ),
            "delete": _told(
                one,
                "deleteAccount",
                "Delete a service account",
                "An admin takes it out of their own projects; in no other, it is gone.",
                _DELETED,
                example_number="account_id",
            ),
        },
    }


def _rights() -> dict[str, dict[str, Operation]]:
    one = f"{PREFIX}/accounts/{{account_id}}"
    password, right = f"{one}/rotate-password", f"{one}/projects/{{project_id}}"
    return {
        password: {
            "post": _told(
                password,
                "rotatePassword",
                "Give a service account a new password",
                "The old one stops at once; the new one is in this answer and in no other. Who asks must "
                "administer all of the account's projects.",
                _ACCOUNT_MADE,
                example_number="account_id",
            )
        },
        right: {
            "put": _told(
                right,
                "grantProject",
                "Let an account into a project, or change its role there",
                _WHOM,
                _ACCOUNT_VIEW,
                body=content(ref("RoleChange"), {"role": "analyst"}),
                example_number="account_id",
            ),
            "delete": _told(
                right,
                "revokeProject",
                "Take an account out of a project",
                _WHOM,
                _ACCOUNT_VIEW,
                example_number="account_id",
            ),
        },
    }


_WHO: Final = {
    "user_id": 1,
    "user_name": "mixdown",
    "user_email": "mixdown",
    "organizations": {"1": {"id": 1, "name": "Mixdown"}},
    "projects": {
        "1": {
            "id": 1,
            "name": "default",
            "organization_id": 1,
            "timezone": "UTC",
            "has_workspaces": True,
            "domain": "",
            "role": "owner",
        }
    },
    "workspaces": {"1": _WORKSPACE},
}


def _bootstrap() -> dict[str, dict[str, Operation]]:
    me, index = f"{_APP}/me", f"{_APP}/projects/metadata/index"
    workspaces = f"{_APP}/projects/{{project_id}}/workspaces/public"
    spaces = {"1": {"workspaces": {"1": _WORKSPACE}}}
    return {
        me: {
            "get": _told(
                me,
                "me",
                "Who asks, and the projects that they read",
                "As Mixpanel's clients look for it. There is one organization, 1.",
                _one("Me", _WHO),
                readers=READERS,
            )
        },
        index: {
            "get": _told(
                index,
                "projectsIndex",
                "The workspaces of all projects",
                "Each project has one, of its own id.",
                _one("WorkspacesByProject", spaces),
                readers=READERS,
            )
        },
        workspaces: {
            "get": _told(
                workspaces,
                "listWorkspaces",
                "The workspace of a project",
                "It is all of the project's data.",
                _many("Workspace", _WORKSPACE),
                readers=READERS,
            )
        },
    }


def _data_groups() -> dict[str, dict[str, Operation]]:
    groups = f"{_APP}/projects/{{project_id}}/data-groups"
    limited = texts.QUERY_RATE_LIMITED.format(project=1, limit=60, seconds=42)
    told = _told(
        groups,
        "listDataGroups",
        "List a project's group keys",
        "With the number that stands for each in `data_group_id`.",
        _many("DataGroup", {"property_name": "Company", "data_group_id": 5_577_006_791_947_779}),
        readers=READERS,
        parameters=(WAIT,),
    )
    told["responses"]["200"]["headers"] = {
        "X-Mixdown-Behind": {
            "schema": {"type": "string"},
            "description": "How many records the answer is behind; absent when it is not.",
        }
    }
    told["responses"]["429"] = response(
        "The project is past its limit of queries, if the server or the project has one.",
        content(ref("ReadError"), {"request": groups, "error": limited, "status": "error"}),
        Retry_After=RETRY_AFTER,
    )
    told["responses"] = dict(sorted(told["responses"].items()))
    return {groups: {"get": told}}


def _service_accounts() -> dict[str, dict[str, Operation]]:
    one = f"{_ORGANIZATION}/{{account_id}}"
    new = {"username": "tap", "role": "consumer", "projects": [{"id": 1, "role": "consumer"}]}
    return {
        _ORGANIZATION: {
            "get": _told(
                _ORGANIZATION,
                "listServiceAccounts",
                "List service accounts",
                f"{_WHOM} Mixpanel's shape.",
                _many("ServiceAccount", _ENTRY),
            ),
            "post": _told(
                _ORGANIZATION,
                "createServiceAccount",
                "Make a service account",
                "`token` is its password, in this answer and in no other.",
                _one("ServiceAccount", _ENTRY | {"token": _SECRET}),
                status=201,
                body=content(ref("NewAccount"), new),
            ),
        },
        one: {
            "get": _told(
                one,
                "showServiceAccount",
                "Show a service account",
                f"{_WHOM} Without an envelope.",
                content(ref("ServiceAccount"), _ENTRY),
            ),
            "delete": _told(
                one,
                "deleteServiceAccount",
                "Delete a service account",
                "An admin takes it out of their own projects; in no other, it is gone.",
                _DONE,
                example_number="account_id",
            ),
        },
    }


def _memberships() -> dict[str, dict[str, Operation]]:
    add, remove = f"{_ORGANIZATION}/add-to-project", f"{_ORGANIZATION}/remove-from-project"
    of_project = f"{_APP}/projects/{{project_id}}/service-accounts"
    member = {
        **_ENTRY,
        "role": "consumer",
        "role_order": 0,
        "hasSensitiveAccess": False,
        "target_type": "individual",
        "email": "airbyte",
    }
    return {
        add: {
            "post": _told(
                add,
                "addServiceAccounts",
                "Let accounts into projects",
                "Or change their roles there.",
                _DONE,
                body=content(
                    ref("Memberships"),
                    {"projects": [{"id": 1, "role": "consumer"}], "service_account_ids": [_MISSING]},
                ),
            )
        },
        remove: {
            "post": _told(
                remove,
                "removeServiceAccounts",
                "Take accounts out of projects",
                "At once.",
                _DONE,
                body=content(ref("Removals"), {"projects": [{"id": 1, "service_account_ids": [_MISSING]}]}),
            )
        },
        of_project: {
            "get": _told(
                of_project,
                "listProjectServiceAccounts",
                "List the service accounts of a project",
                "Owners, who see every project, are not among them.",
                _many("ServiceAccount", member),
            )
        },
    }
