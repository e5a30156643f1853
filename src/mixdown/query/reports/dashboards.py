"""Dashboards: titled lists of saved reports, in an order and with the room that each takes on a page.

What people send enters; a `SavedReport` of the kind "dashboard", or its view, leaves. Reports that have been
deleted since are left out of the view. It reads no event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from mixdown.model.errors import QueryError
from mixdown.model.times import iso_seconds
from mixdown.query.reports.saved import (
    DASHBOARD,
    DASHBOARD_REPORTS_LIMIT,
    DAYS_LIMIT,
    checked_definition,
    checked_description,
    checked_name,
)
from mixdown.store.protocols import Store
from mixdown.store.reports import SavedReport

WIDTH: Final = 12
"""A page is so many columns wide; a report that says nothing takes all of them."""
HEIGHT_LIMIT: Final = 12
BAD_REPORTS: Final = (
    f"reports, must be a list of at most {DASHBOARD_REPORTS_LIMIT} numbers of reports, or of objects as "
    '{"id": 1, "width": 6, "height": 1}'
)
BAD_ROOM: Final = f"reports, width and height must be integers from 1 to {WIDTH}"


def new_dashboard(
    store: Store,
    project: int,
    title: str,
    reports: Any,
    *,
    description: str = "",
    days: Any = None,
    creator: str = "",
    now_ms: int,
) -> SavedReport:
    """A dashboard to be saved, all of it checked. Raises `QueryError` (400) naming what is wrong."""
    try:
        name = checked_name(title)
    except QueryError as error:
        raise QueryError(error.message.replace("name,", "title,", 1), status=400) from None
    return SavedReport(
        project=project,
        kind=DASHBOARD,
        name=name,
        definition=_definition(store, project, reports, days),
        description=checked_description(description),
        creator=creator,
        created_ms=now_ms,
        changed_ms=now_ms,
    )


def _definition(store: Store, project: int, reports: Any, days: Any) -> bytes:
    items = [_item(each) for each in _list(reports)]
    given: dict[str, Any] = {"reports": [item["id"] for item in items]}
    if days is not None:
        if type(days) is not int or not 1 <= days <= DAYS_LIMIT:
            raise QueryError(f"days, must be an integer from 1 to {DAYS_LIMIT}", status=400)
        given["days"] = days
    made = orjson.loads(checked_definition(store, project, DASHBOARD, given))
    made["layout"] = [[item["width"], item["height"]] for item in items]
    return orjson.dumps(made)


def _list(given: Any) -> Sequence[Any]:
    if given is None:
        return ()
    if not isinstance(given, list) or len(given) > DASHBOARD_REPORTS_LIMIT:
        raise QueryError(BAD_REPORTS, status=400)
    return given


def _item(given: Any) -> dict[str, int]:
    fields = given if isinstance(given, dict) else {"id": given}
    if type(fields.get("id")) is not int or not fields.keys() <= {"id", "width", "height", "kind", "name"}:
        raise QueryError(BAD_REPORTS, status=400)
    width, height = fields.get("width", WIDTH), fields.get("height", 1)
    for size, most in ((width, WIDTH), (height, HEIGHT_LIMIT)):
        if type(size) is not int or not 1 <= size <= most:
            raise QueryError(BAD_ROOM, status=400)
    return {"id": fields["id"], "width": width, "height": height}


def dashboard_view(dashboard: SavedReport, saved: Mapping[int, SavedReport]) -> dict[str, Any]:
    """A dashboard as Mixdown's own API and its command line show it; `saved` are its project's reports."""
    definition = orjson.loads(dashboard.definition)
    numbers = definition["reports"]
    rooms = definition.get("layout") or [[WIDTH, 1]] * len(numbers)
    return {
        "id": dashboard.id,
        "project_id": dashboard.project,
        "title": dashboard.name,
        "description": dashboard.description,
        "days": definition.get("days"),
        "reports": [
            {
                "id": number,
                "kind": saved[number].kind,
                "name": saved[number].name,
                "width": width,
                "height": height,
            }
            for number, (width, height) in zip(numbers, rooms, strict=True)
            if number in saved
        ],
        "creator": dashboard.creator,
        "created": iso_seconds(dashboard.created_ms),
        "changed": iso_seconds(dashboard.changed_ms),
    }


def dashboards_of(store: Store, project: int) -> list[dict[str, Any]]:
    """A project's dashboards, by number. Raises `StoreError`."""
    reports = store.reports.listing(project)
    saved = {report.id: report for report in reports}
    return [dashboard_view(report, saved) for report in reports if report.kind == DASHBOARD]
