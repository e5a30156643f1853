"""Dashboards as OpenAPI has them. Settings enter; operations by path and method leave."""

from __future__ import annotations

from typing import Any, Final

from mixdown.http import dashboards
from mixdown.http.journeys import ID_LIMIT
from mixdown.http.openapi_figures import figure_errors
from mixdown.http.openapi_pieces import (
    ENCODING,
    PROJECT,
    READERS,
    Operation,
    content,
    operation,
    parameter,
    ref,
    request_body,
    response,
)
from mixdown.http.openapi_segmentation import TAG
from mixdown.settings import Settings

_ID: Final = {"type": "integer", "minimum": 1, "maximum": ID_LIMIT}
_ONE: Final = {
    "id": 3,
    "project_id": 1,
    "title": "Signups",
    "description": "",
    "days": 28,
    "reports": [{"id": 1, "kind": "funnels", "name": "Signup", "width": 6, "height": 1}],
    "creator": "ada.mp-service-account",
    "created": "2026-11-22T03:53:59",
    "changed": "2026-11-22T03:53:59",
}
_ANALYST: Final = "Needs the role analyst, admin or owner."


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    return {dashboards.PATH: {"get": _listing(), "post": _create(), "put": _replace(), "delete": _delete()}}


def _ok(results: Any) -> dict[str, Any]:
    return {"status": "ok", "results": results}


def _missing() -> dict[str, Any]:
    told = {"request": dashboards.PATH, "error": "dashboard, there is no dashboard 7", "status": "error"}
    return {"404": response("The project has no such dashboard.", content(ref("ReadError"), told))}


def _shown() -> dict[str, Any]:
    return {"200": response("The dashboard.", content(ref("DashboardAnswer"), _ok(_ONE)))}


def _listing() -> Operation:
    return operation(
        "listDashboards",
        TAG,
        "List dashboards, or show one",
        "By number; with `id` one of them.",
        figure_errors(dashboards.PATH)
        | _missing()
        | {"200": response("The dashboards.", content(ref("DashboardsAnswer"), _ok([_ONE])))},
        parameters=(PROJECT | {"example": 1}, parameter("id", "One of them.", _ID)),
        security=READERS,
    )


def _create() -> Operation:
    example = {"title": "Signups", "days": 28, "reports": [{"id": 1, "width": 6}]}
    return operation(
        "createDashboard",
        TAG,
        "Make a dashboard",
        "`reports` holds saved reports in their order: numbers, or objects with the room that each takes "
        f"on a page of 12 columns. {_ANALYST}",
        figure_errors(dashboards.PATH) | _shown(),
        parameters=(PROJECT | {"example": 1}, ENCODING),
        body=request_body(content(ref("NewDashboard"), example)),
        security=[{"account": []}],
    )


def _replace() -> Operation:
    return operation(
        "replaceDashboard",
        TAG,
        "Put another dashboard in its place",
        f"What is not named is gone: of the old one stay its number and who made it. {_ANALYST}",
        figure_errors(dashboards.PATH) | _missing() | _shown(),
        parameters=(PROJECT | {"example": 1}, ENCODING),
        body=request_body(content(ref("DashboardReplacement"), {"id": 4, "title": "Signups"})),
        security=[{"account": []}],
    )


def _delete() -> Operation:
    return operation(
        "deleteDashboard",
        TAG,
        "Delete a dashboard",
        f"Its reports stay. {_ANALYST}",
        figure_errors(dashboards.PATH)
        | _missing()
        | {"200": response("It is gone.", content(ref("Gone"), _ok({"id": 1})))},
        parameters=(PROJECT | {"example": 1}, parameter("id", "The dashboard.", _ID) | {"example": 4}),
        security=[{"account": []}],
    )
