"""The reports that are empty as long as funnels and annotations cannot be made, as OpenAPI has them.

Settings enter; operations by path and method leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mixdown.http import reports
from mixdown.http.openapi_pieces import (
    PROJECT,
    READERS,
    RETRY_AFTER,
    Operation,
    content,
    operation,
    parameter,
    read_errors,
    ref,
    response,
)
from mixdown.http.paths import QUERY_PREFIXES
from mixdown.model import texts
from mixdown.settings import Settings

_FROM: Final = parameter("from_date", "The first day, YYYY-MM-DD.", {"type": "string"})
_TO: Final = parameter("to_date", "The last day, inclusive.", {"type": "string"})
_FUNNEL: Final = parameter(
    "funnel_id",
    "Which funnel.",
    {"type": "integer", "minimum": 1, "maximum": reports.FUNNEL_ID_LIMIT},
)
_PARAMETERS: Final[Mapping[str, tuple[dict[str, Any], ...]]] = {
    "funnels/list": (),
    "funnels": (_FUNNEL | {"required": True, "example": 1}, _FROM, _TO),
    "annotations": (_FROM, _TO),
}
_SUMMARIES: Final[Mapping[str, str]] = {
    "funnels/list": "List the funnels",
    "funnels": "Read a funnel",
    "annotations": "List the annotations",
}
_EMPTY: Final = "Empty: none can be made yet."


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    found: dict[str, dict[str, Operation]] = {}
    for number, prefix in enumerate(QUERY_PREFIXES):
        for name, report in reports.REPORTS.items():
            found[f"{prefix}/{name}"] = _report(f"{prefix}/{name}", number, name, report.answer)
    found[reports.ANNOTATIONS] = _app_list("projectAnnotations", "List the annotations of a project")
    found[reports.ANNOTATION_TAGS] = _app_list("annotationTags", "List the tags of annotations")
    return found


def _errors(path: str) -> dict[str, Any]:
    """The errors of reads, and that of a project past its limit of queries."""
    limited = texts.QUERY_RATE_LIMITED.format(project=1, limit=60, seconds=42)
    told = {"request": path, "error": limited, "status": "error"}
    return read_errors(path) | {
        "429": response(
            "The project is past its limit of queries, if the server or the project has one.",
            content(ref("ReadError"), told),
            Retry_After=RETRY_AFTER,
        )
    }


def _identity(name: str, number: int) -> str:
    first, *rest = name.split("/")
    return first + "".join(word.capitalize() for word in rest) + str(number or "")


def _report(path: str, number: int, name: str, answer: Any) -> dict[str, Operation]:
    told = operation(
        _identity(name, number) + "Report",
        "Reports",
        _SUMMARIES[name],
        _EMPTY,
        _errors(path) | {"200": response(_EMPTY, content({"const": answer}, answer))},
        parameters=(PROJECT | {"example": 1}, *_PARAMETERS[name]),
        security=READERS,
    )
    return {"get": told}


def _app_list(identity: str, summary: str) -> dict[str, Operation]:
    path = reports.ANNOTATIONS.format(project_id=1)
    missing = {"request": path, "error": "Not Found", "status": "error"}
    days = [
        parameter(name, text, {"type": "string"})
        for name, text in (("fromDate", "The first day, YYYY-MM-DD."), ("toDate", "The last day, inclusive."))
    ]
    told = operation(
        identity,
        "Reports",
        summary,
        "Empty: none can be made yet.",
        _errors(path)
        | {
            "200": response(
                "None.", content({"const": dict(reports.NO_ANNOTATIONS)}, dict(reports.NO_ANNOTATIONS))
            ),
            "404": response("The path names no project.", content(ref("ReadError"), missing)),
        },
        parameters=days,
        security=READERS,
    )
    return {"get": told}
