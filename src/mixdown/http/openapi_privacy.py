"""Deletions and retrievals of people's data, as OpenAPI has them.

Settings enter; operations by path and method leave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mixdown.http import privacy
from mixdown.http.openapi_pieces import (
    ENCODING,
    FORM,
    JSON,
    PROJECT,
    Operation,
    content,
    operation,
    parameter,
    read_errors,
    ref,
    request_body,
    response,
)
from mixdown.settings import Settings
from mixdown.store.privacy import IDS_LIMIT, STATUSES

_TAG: Final = "Privacy"
_ACCOUNT: Final[Sequence[Mapping[str, Any]]] = [{"account": []}]
_EXAMPLE_TOKEN: Final = "0123456789abcdef0123456789abcdef"
_TOKEN: Final = {
    **parameter(
        "token", "The project's token. Without it, `project_id` or the caller's own.", {"type": "string"}
    ),
    "example": _EXAMPLE_TOKEN,
}
_JOB: Final = "0123456789abcdef0123456789abcdef"
_WAIT: Final = parameter(
    "X-Mixdown-Wait",
    "Wait so many milliseconds at most for the end of the job, or for the fold.",
    {"type": "integer", "minimum": 0},
    "header",
)
_DELETION: Final[Mapping[str, Any]] = {
    "task_id": _JOB,
    "tracking_id": _JOB,
    "status": "STARTED",
    "requesting_user": "ops.mp-service-account",
    "compliance_type": "GDPR",
    "project_id": 1,
    "date_requested": "2026-01-02T03:04:05",
    "distinct_ids": ["ada"],
    "distinct_id_count": 1,
    "destination_url": "",
    "disclosure_type": "",
    "report": None,
}
_REPORT: Final[Mapping[str, Any]] = {
    "people": 1,
    "records": 12,
    "chunks": 3,
    "refusals": 1,
    "history": 12,
    "finished": "2026-01-02T03:04:06",
    "not_reached": ["exports, and whatever other systems have read"],
    "damaged_chunks": [],
    "files": [],
}
_LINK: Final = f"http://127.0.0.1:6493{privacy.RETRIEVALS}/{_JOB}/file?token={_EXAMPLE_TOKEN}"
_RETRIEVAL: Final[Mapping[str, Any]] = {
    **{name: value for name, value in _DELETION.items() if name != "report"},
    "status": "SUCCESS",
    "result": _LINK,
    "results": _LINK,
    "disclosure_type": "Data",
    "destination_url": _LINK,
}
_FILE: Final[Mapping[str, Any]] = {
    "project_id": 1,
    "created": "2026-01-02T03:04:05",
    "group_key": None,
    "ids": ["ada"],
    "profiles": [{"$distinct_id": "ada", "$properties": {"plan": "pro"}}],
    "identities": [],
    "history": [],
    "events": [],
    "cohorts": [],
    "refusals": [],
    "records": [],
}


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    return {
        privacy.DELETIONS: {"post": _create_deletion()},
        f"{privacy.DELETIONS}/{{tracking_id}}": {"get": _deletion(), "delete": _cancel()},
        privacy.RETRIEVALS: {"post": _create_retrieval()},
        f"{privacy.RETRIEVALS}/{{tracking_id}}": {"get": _retrieval()},
        f"{privacy.RETRIEVALS}/{{tracking_id}}/file": {"get": _retrieved()},
    }


def _body(example: Mapping[str, Any], *, disclosed: bool) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "distinct_ids": {
            "type": "array",
            "items": {"type": ["string", "number"]},
            "minItems": 1,
            "maxItems": IDS_LIMIT,
        },
        "compliance_type": {"type": "string", "enum": list(privacy.COMPLIANCE_TYPES)},
        "group_key": {"type": "string", "description": "The ids are groups of this key, not users."},
    }
    if disclosed:
        properties["disclosure_type"] = {"type": "string", "enum": list(privacy.DISCLOSURE_TYPES)}
    schema = {"type": "object", "properties": properties, "required": ["distinct_ids"]}
    form = {"type": "object", "properties": {"distinct_ids": {"type": "string"}}}
    return request_body(content(schema, example) | content(form, {"distinct_ids": '["ada"]'}, FORM))


def _envelope(results: Mapping[str, Any]) -> dict[str, Any]:
    return {"status": "ok", "results": results}


def _schema(example: Mapping[str, Any]) -> dict[str, Any]:
    """The envelope around results with the names of an example; their types where they never change."""
    named: dict[str, Any] = {name: {} for name in example}
    named["status"] = {"enum": list(STATUSES)}
    named["distinct_ids"] = {"type": "array", "items": {"type": "string"}}
    named["distinct_id_count"] = {"type": "integer"}
    results = {
        "type": "object",
        "properties": named,
        "required": list(named),
        "additionalProperties": False,
    }
    properties = {"status": {"const": "ok"}, "results": results}
    return {"type": "object", "properties": properties, "required": ["status", "results"]}


def _answer(description: str, example: Mapping[str, Any]) -> dict[str, Any]:
    return response(description, content(_schema(example), _envelope(example)))


def _errors(path: str, *, job: bool = False) -> dict[str, Any]:
    told = read_errors(path)
    if job:
        missing = {"request": path, "error": privacy.NO_JOB, "status": "error"}
        told["404"] = response("The project has no such job.", content(ref("ReadError"), missing))
    return told


def _too_many() -> dict[str, Any]:
    text = "this project has 100 deletions that are not finished"
    example = {"request": privacy.DELETIONS, "error": text, "status": "error"}
    return response("Too many deletions that are not finished.", content(ref("ReadError"), example))


def _create_deletion() -> Operation:
    return operation(
        "createDeletion",
        _TAG,
        "Erase people",
        "All that stands of these ids goes; what is sent after this answer is new. The erasure stands in the "
        "log when this is answered, unless the server waits before it begins (`erasure_delay_minutes`). "
        "Needs the role admin or owner.",
        _errors(privacy.DELETIONS) | {"201": _answer("The job.", _DELETION), "429": _too_many()},
        parameters=(_TOKEN, PROJECT, ENCODING),
        body=_body({"distinct_ids": ["ada"], "compliance_type": "GDPR"}, disclosed=False),
        security=_ACCOUNT,
    )


def _deletion() -> Operation:
    path = f"{privacy.DELETIONS}/{_JOB}"
    done = {**_DELETION, "status": "SUCCESS", "distinct_ids": [], "report": _REPORT}
    return operation(
        "readDeletion",
        _TAG,
        "Ask how far an erasure is",
        "Waits a little for its end. SUCCESS means that no file of the server holds these people any more; "
        "their ids are forgotten then, here too, and `report` says what could not be reached.",
        _errors(path, job=True) | {"200": _answer("The job.", done)},
        parameters=(_TOKEN, PROJECT, _WAIT),
        security=_ACCOUNT,
    )


def _cancel() -> Operation:
    path = f"{privacy.DELETIONS}/{_JOB}"
    text = privacy.NOT_PENDING.format(status="STARTED")
    example = {"request": path, "error": text, "status": "error"}
    return operation(
        "cancelDeletion",
        _TAG,
        "Cancel an erasure",
        "One that is PENDING: it waits for its time.",
        _errors(path, job=True)
        | {
            "204": response("It will not happen."),
            "405": response("It has begun.", content(ref("ReadError"), example), Allow="GET"),
        },
        parameters=(_TOKEN, PROJECT, ENCODING),
        security=_ACCOUNT,
    )


def _create_retrieval() -> Operation:
    return operation(
        "createRetrieval",
        _TAG,
        "Ask for people's data",
        "It is ready at once, and read when it is fetched; the job is kept for 7 days. Needs the "
        "role admin or owner.",
        _errors(privacy.RETRIEVALS) | {"201": _answer("The job.", _RETRIEVAL)},
        parameters=(_TOKEN, PROJECT, ENCODING),
        body=_body({"distinct_ids": ["ada"], "compliance_type": "GDPR"}, disclosed=True),
        security=_ACCOUNT,
    )


def _retrieval() -> Operation:
    path = f"{privacy.RETRIEVALS}/{_JOB}"
    return operation(
        "readRetrieval",
        _TAG,
        "Ask where people's data can be fetched",
        "`results` and `result` are the link; it wants the same credentials.",
        _errors(path, job=True) | {"200": _answer("The job.", _RETRIEVAL)},
        parameters=(_TOKEN, PROJECT),
        security=_ACCOUNT,
    )


def _retrieved() -> Operation:
    path = f"{privacy.RETRIEVALS}/{_JOB}/file"
    schema = {
        "type": "object",
        "properties": {name: {} for name in _FILE},
        "required": list(_FILE),
    }
    return operation(
        "fetchRetrieval",
        _TAG,
        "Fetch people's data",
        "One JSON object: their profiles, what links their ids, history, events, the cohorts that list them, "
        "refused records that name them, and the records that still stand in the log.",
        _errors(path, job=True)
        | {
            "200": response(
                "The file.",
                {JSON: {"schema": schema, "example": _FILE}},
                Content_Disposition="A name to save it by.",
            )
        },
        parameters=(_TOKEN, PROJECT, _WAIT),
        security=_ACCOUNT,
    )
