"""Funnels, retention and addiction, and saved reports, as OpenAPI has them.

Settings enter; operations by path and method leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mixdown.http import journeys, saved_reports
from mixdown.http.events import LIMIT_LIMIT
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
from mixdown.http.openapi_segmentation import DAYS, GROUP, INTERVAL, ON, TAG, TEXT, WHERE, report
from mixdown.http.paths import QUERY_PREFIXES
from mixdown.query.reports.addiction import PART_UNITS, UNITS
from mixdown.query.reports.funnels import ORDERS, STEPS_LIMIT
from mixdown.query.reports.retention import INTERVALS_LIMIT
from mixdown.query.reports.saved import DEFAULT_LENGTH, LENGTH_MS, LONGEST_MS
from mixdown.settings import Settings
from mixdown.store.reports import REPORTS_PER_PROJECT

_ID: Final = {"type": "integer", "minimum": 1, "maximum": journeys.ID_LIMIT}
_DAYS: Final = tuple(
    {key: value for key, value in day.items() if key not in ("required", "example")} for day in DAYS
)
"""Days that a report may leave out: then they are the last 30, or as many as were saved with it."""
_UNIT: Final = parameter("unit", "How days are taken together.", {"type": "string", "enum": list(UNITS)})
_LIMIT: Final = parameter(
    "limit",
    f"At most so many values of `on`; never more than {journeys.VALUES_LIMIT}.",
    {"type": "integer", "minimum": 1, "maximum": LIMIT_LIMIT, "default": journeys.DEFAULT_VALUES},
)
_LAST: Final = parameter(
    "days",
    "The last so many days, where none are named.",
    {"type": "integer", "minimum": 1, "maximum": journeys.DAYS_LIMIT, "default": journeys.DEFAULT_DAYS},
)
_SHARED: Final = (*_DAYS, _LAST, _UNIT, INTERVAL, ON, WHERE, _LIMIT, GROUP)
_LENGTH: Final = (
    parameter(
        "length",
        "How long one may take, from the first step; 90 days at most.",
        {"type": "integer", "minimum": 1, "maximum": LONGEST_MS, "default": DEFAULT_LENGTH},
    ),
    parameter("length_unit", "Of what.", {"type": "string", "enum": list(LENGTH_MS), "default": "day"}),
    parameter(
        "order",
        "Steps in turn (`loose`: other events may lie between), or in `any` order.",
        {"type": "string", "enum": list(ORDERS), "default": ORDERS[0]},
    ),
)
_STEPS: Final = parameter(
    "steps",
    f"1 to {STEPS_LIMIT} steps as JSON: names of events, or objects with `event`, `where` and `label`. "
    "`events` says the same.",
    TEXT,
)
_STEP: Final = {
    "count": 12,
    "step_conv_ratio": 1.0,
    "overall_conv_ratio": 1.0,
    "avg_time": None,
    "avg_time_from_start": None,
    "goal": "visit",
    "event": "visit",
    "step_label": "visit",
}
_FUNNEL: Final = {
    "computed_at": "2026-11-22T03:53:59.000000+00:00",
    "meta": {"dates": ["2026-11-21"]},
    "data": {
        "2026-11-21": {
            "steps": [
                _STEP,
                _STEP
                | {"count": 3, "step_conv_ratio": 0.25, "overall_conv_ratio": 0.25}
                | {
                    "avg_time": 40,
                    "avg_time_from_start": 40,
                    "goal": "buy",
                    "event": "buy",
                    "step_label": "buy",
                },
            ],
            "analysis": {"completion": 3, "starting_amount": 12, "steps": 2, "worst": 1},
        }
    },
}
_RETENTION: Final = {"2026-11-21": {"first": 12, "counts": [9, 4]}}
_ADDICTION: Final = {"data": {"2026-11-21": [12, 5, 1]}}
_INSIGHTS: Final = {
    "computed_at": "2026-11-22T03:53:59.000000+00:00",
    "date_range": {"from_date": "2026-11-21T00:00:00+00:00", "to_date": "2026-11-21T23:59:59.999000+00:00"},
    "headers": ["$event"],
    "series": {"visit": {"2026-11-21T00:00:00+00:00": 12}},
    "meta": {"report_id": 1, "name": "Visits", "type": "segmentation"},
}
_SAVED: Final = {
    "id": 1,
    "project_id": 1,
    "kind": "funnels",
    "name": "Signup",
    "description": "",
    "definition": {"steps": [{"event": "visit"}, {"event": "buy"}]},
    "creator": "ada.mp-service-account",
    "created": "2026-11-22T03:53:59",
    "changed": "2026-11-22T03:53:59",
}
_ANALYST: Final = "Needs the role analyst, admin or owner."


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    found: dict[str, dict[str, Operation]] = {}
    for number, prefix in enumerate(QUERY_PREFIXES):
        for name, told in _reports(prefix, str(number or "")).items():
            found[f"{prefix}/{name}"] = told
    found[saved_reports.PATH] = {
        "get": _listing(),
        "post": _create(),
        "patch": _change(),
        "delete": _delete(),
    }
    found[saved_reports.RUN_PATH] = {"get": _run()}
    return found


def _reports(prefix: str, suffix: str) -> dict[str, dict[str, Operation]]:
    funnel_id = parameter("funnel_id", "A saved funnel.", _ID) | {"required": True, "example": 1}
    bookmark = parameter("bookmark_id", "A saved report, instead of all else.", _ID)
    return {
        "funnels/list": {
            "get": report(
                f"listFunnels{suffix}",
                f"{prefix}/funnels/list",
                "List the saved funnels",
                "By number.",
                content(ref("FunnelList"), [{"funnel_id": 1, "name": "Signup"}]),
                (),
            )
        },
        "funnels": {
            "get": report(
                f"funnel{suffix}",
                f"{prefix}/funnels",
                "Count a saved funnel",
                "What the request says goes before what was saved; both filters count. How it was drawn when "
                "it was saved (`on`, `unit`, `interval`, `limit`) does not.",
                content(ref("FunnelAnswer"), _FUNNEL),
                (funnel_id, *_SHARED, *_LENGTH),
            )
        },
        "arb_funnels": _any_funnel(prefix, suffix, bookmark),
        "retention": {"get": _retention(prefix, suffix, bookmark)},
        "retention/addiction": {"get": _addiction(prefix, suffix, bookmark)},
        "insights": _insights(prefix, suffix),
    }


def _any_funnel(prefix: str, suffix: str, bookmark: Mapping[str, Any]) -> dict[str, Operation]:
    path = f"{prefix}/arb_funnels"
    told = "The steps that are sent, or a saved funnel. Mixpanel's flows are refused."
    steps = _STEPS | {"example": '["visit","buy"]'}
    kind = parameter("query_type", "What Mixpanel's clients want; flows are refused.", TEXT)
    body = content(ref("FunnelQuery"), {"steps": ["visit", {"event": "buy", "label": "Paid"}]})
    posted = report(
        f"postAnyFunnel{suffix}",
        path,
        "Count a funnel that is sent",
        told,
        content(ref("FunnelAnswer"), _FUNNEL),
        (ENCODING,),
    )
    return {
        "get": report(
            f"anyFunnel{suffix}",
            path,
            "Count a funnel that is sent",
            told,
            content(ref("FunnelAnswer"), _FUNNEL),
            (steps, bookmark, kind, *_SHARED, *_LENGTH),
        ),
        "post": posted | {"requestBody": request_body(body)},
    }


def _retention(prefix: str, suffix: str, bookmark: Mapping[str, Any]) -> Operation:
    return report(
        f"retention{suffix}",
        f"{prefix}/retention",
        "Count who comes back",
        "Who began in each stretch of days, and how many of them came back in each interval after their own "
        "beginning: the 0th, and as many as `interval_count` says after it. With `on`, `segments` tells the "
        "returns by value.",
        content(ref("RetentionAnswer"), _RETENTION),
        (
            parameter("retention_type", "First time, or every time.", {"type": "string"})
            | {"schema": {"type": "string", "enum": list(journeys.RETENTION_TYPES)}},
            parameter("born_event", "The event that one begins with; needed for `birth`.", TEXT)
            | {"example": "signed up"},
            parameter("born_where", "An expression that it must match.", TEXT),
            parameter("event", "The event that one returns for; without it, any.", TEXT),
            parameter(
                "interval_count",
                "How many intervals come after the 0th.",
                {"type": "integer", "minimum": 1, "maximum": INTERVALS_LIMIT, "default": 1},
            ),
            parameter(
                "unbounded_retention", "Who comes later counts in each interval before.", {"type": "boolean"}
            ),
            bookmark,
            *_SHARED,
        ),
    )


def _addiction(prefix: str, suffix: str, bookmark: Mapping[str, Any]) -> Operation:
    part = {"type": "string", "enum": list(PART_UNITS), "default": PART_UNITS[0]}
    shared = [each for each in _SHARED if each is not INTERVAL]
    return report(
        f"addiction{suffix}",
        f"{prefix}/retention/addiction",
        "Count how often people come",
        "For each stretch, how many were there in at least one hour or day of it, in two, and so on.",
        content(ref("AddictionAnswer"), _ADDICTION),
        (
            parameter("addiction_unit", "In how many of what.", part),
            parameter("event", "The event; without it, any.", TEXT),
            bookmark,
            *shared,
        ),
    )


def _insights(prefix: str, suffix: str) -> dict[str, Operation]:
    path = f"{prefix}/insights"
    told = (
        "A saved report of any kind, as Mixpanel's Insights have it: `headers` say what `series` holds, and "
        "by what it tells values apart. One that is not saved is refused."
    )
    bookmark = parameter("bookmark_id", "The saved report.", _ID) | {"required": True, "example": 1}
    answer = content(ref("InsightsAnswer"), _INSIGHTS)
    posted = report(f"postInsights{suffix}", path, "Answer a saved report", told, answer, (ENCODING,))
    return {
        "get": report(f"insights{suffix}", path, "Answer a saved report", told, answer, (bookmark, *_DAYS)),
        "post": posted | {"requestBody": request_body(content(ref("InsightsQuery"), {"bookmark_id": 1}))},
    }


# --- what is saved


def _ok(results: Any) -> dict[str, Any]:
    return {"status": "ok", "results": results}


def _missing(path: str) -> dict[str, Any]:
    told = {"request": path, "error": "report, there is no report 7", "status": "error"}
    return response("The project has no such report.", content(ref("ReadError"), told))


def _listing() -> Operation:
    path = saved_reports.PATH
    return operation(
        "listSavedReports",
        TAG,
        "List saved reports and dashboards, or show one",
        "By number; with `id` one of them.",
        figure_errors(path)
        | {
            "200": response("What is saved.", content(ref("SavedReportsAnswer"), _ok([_SAVED]))),
            "404": _missing(path),
        },
        parameters=(
            PROJECT | {"example": 1},
            parameter("kind", "Those of one kind.", {"type": "string"}),
            parameter("id", "One of them.", _ID),
        ),
        security=READERS,
    )


def _create() -> Operation:
    path = saved_reports.PATH
    example = {"kind": "funnels", "name": "Signup", "definition": {"steps": ["visit", "buy"], "length": 7}}
    return operation(
        "saveReport",
        TAG,
        "Save a report or a dashboard",
        "`definition` holds what the report's endpoint takes as parameters, and `days`: how many days it is "
        "about where a question names none. Of a dashboard it holds `reports`, their numbers. A project has "
        f"at most {REPORTS_PER_PROJECT}. {_ANALYST}",
        figure_errors(path)
        | {"200": response("What was saved.", content(ref("SavedReportAnswer"), _ok(_SAVED)))},
        parameters=(PROJECT | {"example": 1}, ENCODING),
        body=request_body(content(ref("NewReport"), example)),
        security=[{"account": []}],
    )


def _change() -> Operation:
    path = saved_reports.PATH
    return operation(
        "changeReport",
        TAG,
        "Rename or describe a saved report, or change what it asks for",
        f"What is not named stays; its kind does. {_ANALYST}",
        figure_errors(path)
        | {
            "200": response("The report as it is now.", content(ref("SavedReportAnswer"), _ok(_SAVED))),
            "404": _missing(path),
        },
        parameters=(PROJECT | {"example": 1}, ENCODING),
        body=request_body(content(ref("ReportChange"), {"id": 1, "name": "Signups"})),
        security=[{"account": []}],
    )


def _delete() -> Operation:
    path = saved_reports.PATH
    return operation(
        "deleteReport",
        TAG,
        "Delete a saved report",
        f"Its number is never used again. {_ANALYST}",
        figure_errors(path)
        | {"200": response("It is gone.", content(ref("Gone"), _ok({"id": 1}))), "404": _missing(path)},
        parameters=(PROJECT | {"example": 1}, parameter("id", "The report.", _ID) | {"example": 2}),
        security=[{"account": []}],
    )


def _run() -> Operation:
    return report(
        "runReport",
        saved_reports.RUN_PATH,
        "Answer a saved report",
        "As its own endpoint answers. What the request says goes before what was saved.",
        content({"type": "object"}, _FUNNEL),
        (parameter("id", "The report.", _ID) | {"required": True, "example": 1}, *_DAYS),
    )
