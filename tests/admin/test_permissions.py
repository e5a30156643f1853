"""Who may call what: every route below `/api`, for every role. A route that is not in the table fails."""

from __future__ import annotations

import re
from typing import Final

import pytest
from starlette.routing import Route

from mixdown.http.attempts import Attempts
from mixdown.http.auth import ADMINS, ANALYSTS, OWNERS, READERS
from mixdown.http.openapi import path_of
from tests.reads.support import (
    ADMIN,
    IMPORTER,
    OWNER,
    READER,
    SECRET,
    STRANGER,
    TOKEN,
    World,
    basic,
)

ANALYST: Final = "analyst.mp-service-account"
SPARE: Final = "spare.mp-service-account"
ANYBODY: Final = READERS | {"ingest"}
_READS: Final = (
    "cohorts/list",
    "engage",
    "engage/properties",
    "engage/query",
    "engage/stats",
    "events",
    "events/names",
    "events/properties",
    "events/properties/top",
    "events/properties/values",
    "events/top",
    "export",
    "jql",
    "stream/bookmark",
    "stream/query",
    "funnels",
    "funnels/list",
    "annotations",
    "arb_funnels",
    "insights",
    "retention",
    "retention/addiction",
    "segmentation",
    "segmentation/average",
    "segmentation/numeric",
    "segmentation/sum",
)
_ANNOTATIONS: Final = "/api/app/projects/{project_id}/annotations"
_SCHEMAS: Final = tuple(
    f"/api/app/projects/{{project_id}}/schemas{rest}"
    for rest in ("", "/{entity_type}", "/{entity_type}/{entity_name}")
)
TABLE: Final[dict[str, frozenset[str]]] = {
    **{f"{prefix}/{name}": READERS for prefix in ("/api/query", "/api/2.0") for name in _READS},
    "/metrics": ANYBODY,
    "/api/mixdown/status": READERS,
    "/api/mixdown/records": READERS,
    "/api/mixdown/refusals": READERS,
    "/api/mixdown/refusals/reasons": READERS,
    "/api/mixdown/refusals/resend": ADMINS,
    "/api/mixdown/sql": READERS,
    "/api/mixdown/arrivals": READERS,
    "/api/mixdown/live": READERS,
    "/api/mixdown/live/recent": READERS,
    "/api/mixdown/profiles": READERS,
    "/api/mixdown/profiles/export": READERS,
    "/api/mixdown/history/moments": READERS,
    "GET /api/mixdown/undo": READERS,
    "POST /api/mixdown/undo": ADMINS,
    "/api/mixdown/health": READERS,
    "/api/mixdown/backup": OWNERS,
    "/api/mixdown/projects/{project_id}/storage": READERS,
    "/api/mixdown/history": READERS,
    "/api/mixdown/activity": READERS,
    "/api/mixdown/events": READERS,
    "/api/mixdown/events/volumes": READERS,
    "/api/mixdown/events/series": READERS,
    "/api/mixdown/events/values": READERS,
    "/api/mixdown/events/properties": READERS,
    "/api/mixdown/identity": READERS,
    "/api/mixdown/identity/unmerge": ADMINS,
    "GET /api/mixdown/cohorts": READERS,
    "POST /api/mixdown/cohorts": ANALYSTS,
    "PATCH /api/mixdown/cohorts": ANALYSTS,
    "DELETE /api/mixdown/cohorts": ANALYSTS,
    "/api/mixdown/dictionary": READERS,
    **{f"GET {path}": READERS for path in _SCHEMAS},
    **{f"DELETE {path}": ANALYSTS for path in _SCHEMAS},
    **{f"{method} {path}": ANALYSTS for path in (_SCHEMAS[0], _SCHEMAS[2]) for method in ("POST", "PATCH")},
    "GET /api/mixdown/lookup-tables": READERS,
    "POST /api/mixdown/lookup-tables": ADMINS,
    "GET /api/mixdown/lookup-tables/{table_id}": READERS,
    "DELETE /api/mixdown/lookup-tables/{table_id}": ADMINS,
    "GET /api/mixdown/projects": READERS,
    "POST /api/mixdown/projects": OWNERS,
    "GET /api/mixdown/projects/{project_id}": READERS,
    "PATCH /api/mixdown/projects/{project_id}": ADMINS,
    "DELETE /api/mixdown/projects/{project_id}": OWNERS,
    "/api/mixdown/projects/{project_id}/rotate-token": ADMINS,
    "/api/mixdown/projects/{project_id}/rotate-secret": ADMINS,
    "/api/mixdown/accounts": ADMINS,
    "/api/mixdown/accounts/{account_id}": ADMINS,
    "/api/mixdown/accounts/{account_id}/rotate-password": ADMINS,
    "/api/mixdown/accounts/{account_id}/projects/{project_id}": ADMINS,
    "/api/app/data-deletions/v3.0": ADMINS,
    "/api/app/data-deletions/v3.0/{tracking_id}": ADMINS,
    "/api/app/data-retrievals/v3.0": ADMINS,
    "/api/app/data-retrievals/v3.0/{tracking_id}": ADMINS,
    "/api/app/data-retrievals/v3.0/{tracking_id}/file": ADMINS,
    "/api/app/me": READERS,
    "/api/app/projects/metadata/index": READERS,
    "/api/app/projects/{project_id}/workspaces/public": READERS,
    "/api/app/projects/{project_id}/data-groups": READERS,
    **{f"GET {_ANNOTATIONS}{rest}": READERS for rest in ("", "/tags", "/{annotation_id}")},
    **{f"POST {_ANNOTATIONS}{rest}": ANALYSTS for rest in ("", "/tags")},
    **{f"{method} {_ANNOTATIONS}/{{annotation_id}}": ANALYSTS for method in ("PATCH", "DELETE")},
    **{
        f"{prefix}/annotations/{name}": ANALYSTS
        for prefix in ("/api/query", "/api/2.0")
        for name in ("create", "update", "delete")
    },
    "/api/mixdown/reports/run": READERS,
    "GET /api/mixdown/dashboards": READERS,
    **{f"{method} /api/mixdown/dashboards": ANALYSTS for method in ("POST", "PUT", "DELETE")},
    "GET /api/mixdown/reports": READERS,
    **{f"{method} /api/mixdown/reports": ANALYSTS for method in ("POST", "PATCH", "DELETE")},
    "/api/app/projects/{project_id}/service-accounts": ADMINS,
    "/api/app/organizations/{organization_id}/service-accounts": ADMINS,
    "/api/app/organizations/{organization_id}/service-accounts/{account_id}": ADMINS,
    "/api/app/organizations/{organization_id}/service-accounts/add-to-project": ADMINS,
    "/api/app/organizations/{organization_id}/service-accounts/remove-from-project": ADMINS,
}
"""Each path, or method and path where methods differ, and the roles that may call it."""
ABOUT_THE_CALLER: Final = {
    "/metrics",
    "/api/mixdown/health",
    "/api/mixdown/backup",
    "/api/mixdown/projects",
    "/api/mixdown/accounts",
    "/api/app/me",
    "/api/app/projects/metadata/index",
    "/api/app/organizations/{organization_id}/service-accounts",
}
"""What answers with the caller's own, whatever project is named."""
ENDLESS: Final = {"/api/mixdown/live": "&kind=nothing"}
"""What is sent for as long as somebody listens, and what makes it an error for those who may listen."""
ROLES: Final = {
    READER: "consumer",
    IMPORTER: "ingest",
    ANALYST: "analyst",
    ADMIN: "admin",
    OWNER: "owner",
}
"""The accounts of one project, those that change most last."""


def routes(world: World) -> list[tuple[str, str]]:
    """Each method and path that wants credentials."""
    found = set()
    for route in world.app._rest.routes:  # type: ignore[attr-defined]
        assert isinstance(route, Route)
        path = path_of(route)
        if path.startswith("/api/") or path == "/metrics":
            found |= {(method, path) for method in route.methods or ()}
    return sorted(found - {(method, path) for method, path in found if method == "HEAD"})


def permitted(method: str, path: str) -> frozenset[str] | None:
    """The roles that the table has for a route."""
    return TABLE.get(f"{method} {path}") or TABLE.get(path)


def test_every_route_stands_in_the_table_and_the_table_has_no_other(world: World) -> None:
    served = routes(world)
    assert [route for route in served if permitted(*route) is None] == []
    named = {path for _, path in served} | {f"{method} {path}" for method, path in served}
    assert TABLE.keys() - named == set()


def target_of(world: World, path: str) -> str:
    """A path with what stands in braces filled in: the project `default`, and an account of it."""
    spare = next(each for each in world.store.catalog.accounts() if each.username == SPARE)
    names = {"project_id": world.project.id, "account_id": spare.id, "organization_id": 1}
    return re.sub(r"\{(\w+)\}", lambda match: str(names.get(match[1], "x")), path)


@pytest.fixture
def staffed(world: World) -> World:
    """A server whose project has an account of each role."""
    for username in (ANALYST, SPARE):
        world.add_account(username, "analyst")
    return world


def test_every_role_may_do_what_the_table_says_and_no_more(staffed: World) -> None:
    for method, path in routes(staffed):
        roles = permitted(method, path)
        assert roles is not None
        target = f"{target_of(staffed, path)}?project_id={staffed.project.id}{ENDLESS.get(path, '')}"
        for user, role in ROLES.items():
            if role in roles and method in ("DELETE", "PUT", "PATCH"):
                continue  # what they do is told by the tests beside this one
            reply = staffed.run(staffed.ask(target, method=method, user=user))
            refused = "may not" in reply.text or "only an owner" in reply.text
            assert (reply.status_code == 403) == refused == (role not in roles), (method, path, role, reply)
            assert reply.status_code < 500
            assert "retry-after" not in reply.headers


def test_nobody_gets_anywhere_without_credentials_and_a_secret_only_reads(
    staffed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # one address that fails at every route would soon be told to wait
    monkeypatch.setattr(Attempts, "may_call", lambda *_, **__: True)
    secret = {"Authorization": basic(f"{SECRET}:")}
    for method, path in routes(staffed):
        target = f"{target_of(staffed, path)}?project_id={staffed.project.id}{ENDLESS.get(path, '')}"
        for headers in ({}, {"Authorization": basic(f"{TOKEN}:")}, {"Authorization": f"Bearer {TOKEN}"}):
            reply = staffed.run(staffed.ask(target, method=method, user=None, headers=headers))
            assert reply.status_code == 401, (method, path)
            assert reply.json()["error"].startswith("Unable to authenticate request")
            assert reply.headers["www-authenticate"].startswith("Basic")
            assert "retry-after" not in reply.headers
        reply = staffed.run(staffed.ask(target, method=method, user=None, headers=secret))
        assert (reply.status_code == 403) == ("consumer" not in (permitted(method, path) or ())), (
            method,
            path,
        )


def test_the_admin_of_another_project_is_refused_as_for_one_that_does_not_exist(staffed: World) -> None:
    for method, path in routes(staffed):
        mine = f"{target_of(staffed, path)}?project_id={staffed.project.id}"
        nobodys = mine.replace(f"/projects/{staffed.project.id}", "/projects/999")
        nobodys = nobodys.replace(f"project_id={staffed.project.id}", "project_id=999")
        replies = [
            staffed.run(staffed.ask(target, method=method, user=STRANGER)) for target in (mine, nobodys)
        ]
        if path in ABOUT_THE_CALLER:
            continue
        assert {reply.status_code for reply in replies} <= {400, 403, 404}, (method, path, replies)
        texts = [re.sub(r"\d+", "N", reply.json()["error"]) for reply in replies]
        assert texts[0] == texts[1], (method, path)


def test_a_call_of_another_site_changes_nothing(staffed: World) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    for method, path in routes(staffed):
        if method in ("GET", "HEAD") or not path.startswith(("/api/mixdown", "/api/app")):
            continue
        reply = staffed.run(staffed.ask(target_of(staffed, path), method=method, user=OWNER, headers=headers))
        assert (reply.status_code, "another site" in reply.text) == (403, True), (method, path)


@pytest.mark.parametrize("target", ["/api/app/nothing", "/api/app/projects/1/dashboards", "/api/mixdown/x"])
@pytest.mark.parametrize("user", [OWNER, None])
def test_an_unknown_route_is_404_in_the_shape_of_errors(world: World, target: str, user: str | None) -> None:
    reply = world.get(target, user=user)
    assert reply.status_code == 404
    assert reply.json() == {"request": target, "error": "Not Found", "status": "error"}
