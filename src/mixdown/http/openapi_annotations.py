"""Annotations and their tags as OpenAPI has them. Settings enter; operations by path and method leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mixdown.http import notes
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
from mixdown.http.openapi_segmentation import TAG, TEXT
from mixdown.http.paths import QUERY_PREFIXES
from mixdown.settings import Settings
from mixdown.store.annotations import ANNOTATIONS_PER_PROJECT, TAGS_PER_PROJECT

_PATH: Final = notes.PATH.format(project_id=1)
_ENTRY: Final = {
    "id": 1,
    "project_id": 1,
    "date": "2026-11-22 12:00:00",
    "description": "Released 2.0",
    "user": {"id": 1, "first_name": "ada.mp-service-account", "last_name": ""},
    "tags": [{"id": 1, "name": "releases"}],
}
_TAG_ENTRY: Final = {"id": 1, "name": "releases", "project_id": 1, "has_annotations": True}
_OLD: Final = {
    "annotations": [{"id": 1, "project_id": 1, "date": "2026-11-22 12:00:00", "description": "Released 2.0"}],
    "error": False,
}
_OLD_DATE: Final = parameter("date", "The moment, YYYY-MM-DD HH:MM:SS.", TEXT)
_OLD_TEXT: Final = parameter("description", "The text.", TEXT)
_ID: Final = {"type": "integer", "minimum": 1, "maximum": notes.ID_LIMIT}
_OLD_ID: Final = parameter("id", "The annotation.", _ID) | {"required": True}
_OLD_WRITES: Final = {
    "create": (
        "Annotate a moment by GET",
        (
            _OLD_DATE | {"required": True, "example": "2026-11-22 12:00:00"},
            _OLD_TEXT | {"required": True, "example": "Released 2.0"},
        ),
    ),
    "update": (
        "Change an annotation by GET",
        (_OLD_ID | {"example": 1}, _OLD_DATE, _OLD_TEXT | {"example": "Released 2.1"}),
    ),
    "delete": ("Delete an annotation by GET", (_OLD_ID,)),
}
_ANALYST: Final = "Needs the role analyst, admin or owner."
_DAYS: Final = ("The first day, YYYY-MM-DD.", "The last day, inclusive.")


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    found: dict[str, dict[str, Operation]] = {
        f"{prefix}/annotations": {"get": _old(f"{prefix}/annotations", str(number or ""))}
        for number, prefix in enumerate(QUERY_PREFIXES)
    }
    for number, prefix in enumerate(QUERY_PREFIXES):
        for name in _OLD_WRITES:
            path = f"{prefix}/annotations/{name}"
            found[path] = {"get": _old_write(name, path, str(number or ""))}
    found[notes.PATH] = {"get": _listing(), "post": _create()}
    found[notes.ONE_PATH] = {
        "get": _one("showAnnotation", "Show an annotation", "", READERS),
        "patch": _one(
            "changeAnnotation",
            "Change an annotation's text or tags",
            f"What is not named stays. {_ANALYST}",
            [{"account": []}],
        )
        | {"requestBody": request_body(content(ref("AnnotationChange"), {"description": "Released 2.1"}))},
        "delete": _delete(),
    }
    found[notes.TAGS_PATH] = {"get": _tags(), "post": _create_tag()}
    return found


def _days(names: tuple[str, str]) -> tuple[Mapping[str, Any], ...]:
    return tuple(parameter(name, text, TEXT) for name, text in zip(names, _DAYS, strict=True))


def _missing() -> dict[str, Any]:
    told = {"request": _PATH, "error": "Not Found", "status": "error"}
    return {"404": response("There is no such project or annotation.", content(ref("ReadError"), told))}


def _old(path: str, suffix: str) -> Operation:
    return operation(
        f"oldAnnotations{suffix}",
        TAG,
        "List the annotations",
        "By moment.",
        figure_errors(path) | {"200": response("The annotations.", content(ref("OldAnnotations"), _OLD))},
        parameters=(PROJECT | {"example": 1}, *_days(("from_date", "to_date"))),
        security=READERS,
    )


def _old_write(name: str, path: str, suffix: str) -> Operation:
    summary, parameters = _OLD_WRITES[name]
    if name == "delete":  # the one that the example of `create` of this path made
        parameters = (_OLD_ID | {"example": 4 if suffix else 3},)
    done = content(ref("OldAnnotationDone"), {"error": False, "id": 1})
    return operation(
        f"{name}OldAnnotation{suffix}",
        TAG,
        summary,
        f"For clients that write by GET; what a page of another site asks is refused. {_ANALYST}",
        figure_errors(path) | {"200": response("It is done.", done)},
        parameters=(PROJECT | {"example": 1}, *parameters),
        security=[{"account": []}],
    )


def _listing() -> Operation:
    return operation(
        "listAnnotations",
        TAG,
        "List the annotations of a project",
        "By moment.",
        figure_errors(_PATH)
        | _missing()
        | {"200": response("The annotations.", content(ref("AnnotationsAnswer"), _ok([_ENTRY])))},
        parameters=(
            *_days(("fromDate", "toDate")),
            parameter("tags", "Those with one of these tags: their numbers, commas between them.", TEXT),
        ),
        security=READERS,
    )


def _create() -> Operation:
    example = {"date": "2026-11-22 12:00:00", "description": "Released 2.0"}
    return operation(
        "createAnnotation",
        TAG,
        "Annotate a moment",
        "A moment without an offset is one of the project's time zone. A project has at most "
        f"{ANNOTATIONS_PER_PROJECT} annotations. {_ANALYST}",
        figure_errors(_PATH)
        | _missing()
        | {"201": response("The annotation.", content(ref("AnnotationAnswer"), _ok(_ENTRY)))},
        parameters=(ENCODING,),
        body=request_body(content(ref("NewAnnotation"), example)),
        security=[{"account": []}],
    )


def _one(identity: str, summary: str, description: str, security: Any) -> Operation:
    return operation(
        identity,
        TAG,
        summary,
        description,
        figure_errors(_PATH)
        | _missing()
        | {"200": response("The annotation.", content(ref("AnnotationAnswer"), _ok(_ENTRY)))},
        security=security,
    )


def _delete() -> Operation:
    return operation(
        "deleteAnnotation",
        TAG,
        "Delete an annotation",
        _ANALYST,
        figure_errors(_PATH)
        | _missing()
        | {"200": response("It is gone.", content(ref("Gone"), _ok({"id": 1})))},
        parameters=(
            parameter("annotation_id", "An annotation's number.", {"type": "integer", "minimum": 1}, "path")
            | {"required": True, "example": 2},
        ),
        security=[{"account": []}],
    )


def _tags() -> Operation:
    return operation(
        "listAnnotationTags",
        TAG,
        "List the tags of annotations",
        "By number.",
        figure_errors(_PATH)
        | _missing()
        | {"200": response("The tags.", content(ref("AnnotationTagsAnswer"), _ok([_TAG_ENTRY])))},
        security=READERS,
    )


def _create_tag() -> Operation:
    return operation(
        "createAnnotationTag",
        TAG,
        "Make a tag for annotations",
        f"A project has at most {TAGS_PER_PROJECT} tags. {_ANALYST}",
        figure_errors(_PATH)
        | _missing()
        | {"200": response("The tag.", content(ref("AnnotationTagAnswer"), _ok(_TAG_ENTRY)))},
        parameters=(ENCODING,),
        body=request_body(content(ref("NewAnnotationTag"), {"name": "releases"})),
        security=[{"account": []}],
    )


def _ok(results: Any) -> dict[str, Any]:
    return {"status": "ok", "results": results}
