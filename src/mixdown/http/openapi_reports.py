"""The reports that are empty until there are events, as OpenAPI has them.

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
from mixdown.model import texts
from mixdown.settings import Settings

_FROM: Final = parameter("from_date", "The first day, YYYY-MM-DD.", {"type": "string"})
_TO: Final = parameter("to_date", "The last day, inclusive.", {"type": "string"})
_LIMIT: Final = parameter(
    "limit", "At most so many.", {"type": "integer", "minimum": 1, "maximum": reports.LIMIT_LIMIT}
)
_FUNNEL: Final = parameter(
    "funnel_id",
    "Which funnel.",
    {"type": "integer", "minimum": 1, "maximum": reports.FUNNEL_ID_LIMIT},
)
_PARAMETERS: Final[Mapping[str, tuple[dict[str, Any], ...]]] = {
    "funnels/list": (),
    "funnels": (_FUNNEL | {"required": True, "example": 1}, _FROM, _TO),
    "annotations": (_FROM, _TO),
    "events/names": (_FROM, _TO, _LIMIT),
    "events/properties/top": (_FROM, _TO, _LIMIT),
}
_SUMMARIES: Final[Mapping[str, str]] = {
    "funnels/list": "List the funnels",
    "funnels": "Read a funnel",
    "annotations": "List the annotations",
    "events/names": "List the names of events",
    "events/properties/top": "List the properties of events",
}
_EMPTY: Final = "Empty: this version stores no events."


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    found: dict[str, dict[str, Operation]] = {}
    for number, prefix in enumerate(reports.PREFIXES):
        for name, report in reports.REPORTS.items():
            found[f"{prefix}/{name}"] = _report(f"{prefix}/{name}", number, name, report.answer)
        found[f"{prefix}/{reports.EXPORT}"] = _export(f"{prefix}/{reports.EXPORT}", number)
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


def _export(path: str, number: int) -> dict[str, Operation]:
    days = ("2026-01-01", "2026-01-31")
    required = [
        told | {"required": True, "example": day} for told, day in zip((_FROM, _TO), days, strict=True)
    ]
    told = operation(
        f"exportEvents{number or ''}",
        "Reports",
        "Export raw events",
        f"{_EMPTY} Days are UTC days; a day that has begun nowhere on Earth is refused.",
        _errors(path)
        | {
            "200": response(
                "One event a line; no bytes where there are none.",
                content({"const": ""}, media=reports.LINES.partition(";")[0]),
            )
        },
        parameters=(
            PROJECT | {"example": 1},
            *required,
            parameter(
                "event",
                "Names, as a JSON list or repeated.",
                {"type": "array", "items": {"type": "string"}, "maxItems": reports.EVENTS_LIMIT},
            ),
            parameter(
                "limit",
                "At most so many.",
                {"type": "integer", "minimum": 1, "maximum": reports.EXPORT_LIMIT},
            ),
            parameter("where", "An expression over properties of events.", {"type": "string"}),
            parameter("time_in_ms", "Times in milliseconds, not seconds.", {"type": "boolean"}),
        ),
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
        "Empty: annotations come with events.",
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
