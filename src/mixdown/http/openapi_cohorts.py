"""Cohorts as OpenAPI has them: Mixpanel's list of them, and Mixdown's own paths that make and delete them.

Settings enter; operations by path and method leave.
"""

from __future__ import annotations

from typing import Any, Final

from mixdown.http import cohorts
from mixdown.http.openapi_figures import figure_errors
from mixdown.http.openapi_pieces import (
    ENCODING,
    FORM,
    PROJECT,
    READERS,
    WAIT,
    Operation,
    content,
    form_of,
    operation,
    parameter,
    ref,
    request_body,
    response,
)
from mixdown.query.cohorts import DESCRIPTION_LIMIT_CHARS, KEPT_LIMIT_S, KEPT_TIMES, NAME_LIMIT_CHARS
from mixdown.settings import Settings
from mixdown.store.bounds import COHORT_IDS, COHORTS_PER_PROJECT

_MIXPANEL: Final = {
    "id": 1,
    "name": "paying",
    "description": "",
    "count": 12,
    "is_visible": 1,
    "created": "2026-11-22 03:53:59",
    "project_id": 1,
    "data_group_id": None,
}
_OWN: Final = {
    "id": 1,
    "project_id": 1,
    "name": "paying",
    "description": "",
    "group_key": None,
    "where": 'properties["plan"] == "pro"',
    "behaviors": None,
    "count": 12,
    "created": "2026-11-22T03:53:59",
}
_FIELDS: Final = (
    parameter("name", "Unique in the project.", {"type": "string", "maxLength": NAME_LIMIT_CHARS}),
    parameter("description", "For people.", {"type": "string", "maxLength": DESCRIPTION_LIMIT_CHARS}),
    parameter("where", "The expression that members match.", {"type": "string"}),
    parameter("behaviors", "Counts of events that `where` reads, as JSON.", {"type": "string"}),
    parameter(
        "distinct_ids",
        "Or a list of ids.",
        {"type": "array", "items": {"type": "string"}, "maxItems": COHORT_IDS},
    ),
    parameter("data_group_id", "A group key's name or number: groups instead of users.", {"type": "string"}),
)
_COUNTS: Final = (
    "Counts are those of now, as far as counting is quick: a count is kept while nothing is folded, and else "
    f"for {KEPT_TIMES} times as long as counting took, {KEPT_LIMIT_S:g} s at most."
)


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    found = {path: _listing(path, number) for number, path in enumerate(cohorts.LIST_PATHS)}
    found[cohorts.OWN_PATH] = {
        "get": _own_listing(),
        "post": _create(),
        "patch": _change(),
        "delete": _delete(),
    }
    return found


def _listing(path: str, number: int) -> dict[str, Operation]:
    answer = response("The cohorts, by id.", content(ref("CohortsAnswer"), [_MIXPANEL]))
    project = PROJECT | {"example": 1}
    responses = figure_errors(path) | {"200": answer}
    suffix = str(number or "")
    return {
        "get": operation(
            f"listCohortsByUrl{suffix}",
            "Reading",
            "List cohorts",
            _COUNTS,
            responses,
            parameters=(project, WAIT),
            security=READERS,
        ),
        "post": operation(
            f"listCohorts{suffix}",
            "Reading",
            "List cohorts",
            f"The body may be empty. {_COUNTS}",
            responses,
            parameters=(project, WAIT, ENCODING),
            security=READERS,
        ),
    }


def _own_listing() -> Operation:
    answer = response("The cohorts, by id.", content(ref("OwnCohortsAnswer"), _ok([_OWN])))
    return operation(
        "listOwnCohorts",
        "Mixdown",
        "List cohorts with their expressions",
        _COUNTS,
        figure_errors(cohorts.OWN_PATH) | {"200": answer},
        parameters=(
            PROJECT | {"example": 1},
            parameter("counts", "False lists them at once, without counting.", {"type": "boolean"}),
            WAIT,
        ),
        security=READERS,
    )


def _change() -> Operation:
    path = cohorts.OWN_PATH
    missing = {"request": path, "error": "cohort, there is no cohort 7", "status": "error"}
    example = {"id": 2, "name": "payers"}
    return operation(
        "changeCohort",
        "Mixdown",
        "Rename or describe a cohort, or change its expression",
        "What is not named stays; a description of one blank clears it. A list of ids stays as it is. "
        "Needs the role analyst, admin or owner.",
        figure_errors(path)
        | {
            "200": response("The cohort as it is now.", content(ref("OwnCohortAnswer"), _ok(_OWN))),
            "404": response("The project has no such cohort.", content(ref("ReadError"), missing)),
        },
        parameters=(PROJECT | {"example": 1}, ENCODING),
        body=request_body(content(ref("CohortChange"), example)),
        security=[{"account": []}],
    )


def _create() -> Operation:
    project = PROJECT | {"example": 1}
    example = {"name": "paying", "where": 'properties["plan"] == "pro"'}
    form = {"name": "beta testers", "distinct_ids": '["ada","bob"]'}
    return operation(
        "createCohort",
        "Mixdown",
        "Save a filter as a cohort",
        "Either `where` or `distinct_ids` says who is in it. `behaviors` counts what persons did, as in the "
        "profile query, for `where` to read. A project has at most "
        f"{COHORTS_PER_PROJECT} cohorts. Needs the role analyst, admin or owner.",
        figure_errors(cohorts.OWN_PATH)
        | {"200": response("The cohort that was made.", content(ref("OwnCohortAnswer"), _ok(_OWN)))},
        parameters=(project, ENCODING),
        body=request_body(content(ref("CohortQuery"), example) | content(form_of(_FIELDS), form, FORM)),
        security=[{"account": []}],
    )


def _delete() -> Operation:
    path = cohorts.OWN_PATH
    missing = {"request": path, "error": "cohort, there is no cohort 7", "status": "error"}
    return operation(
        "deleteCohort",
        "Mixdown",
        "Delete a cohort",
        "Its number is never used again; no profile changes. Needs the role analyst, admin or owner.",
        figure_errors(path)
        | {
            "200": response("It is gone.", content(ref("CohortGone"), _ok({"id": 1}))),
            "404": response("The project has no such cohort.", content(ref("ReadError"), missing)),
        },
        parameters=(
            PROJECT | {"example": 1},
            parameter("id", "The cohort.", {"type": "integer", "minimum": 1, "maximum": cohorts.ID_LIMIT})
            | {"example": 1},
        ),
        security=[{"account": []}],
    )


def _ok(results: Any) -> dict[str, Any]:
    return {"status": "ok", "results": results}
