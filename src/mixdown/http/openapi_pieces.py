"""The pieces that OpenAPI operations are made of: references, contents, replies, errors that all share.

Texts and shapes enter; parts of a document leave. No path, setting or route is known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mixdown.http.read_errors import UNAUTHENTICATED
from mixdown.model import texts
from mixdown.model.dictionary import ALL_EVENTS, ENTITY_TYPES, USERS

Operation = dict[str, Any]
JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"

READERS: Final[Sequence[Mapping[str, Any]]] = ({"account": []}, {"secret": []})
"""Who may call: a service account, or a project's secret."""
RETRY_AFTER: Final = "Try again after so many seconds."


def ref(name: str) -> dict[str, str]:
    """A schema of one of the files `openapi_schemas*.json`, by name."""
    return {"$ref": f"#/components/schemas/{name}"}


def content(schema: Mapping[str, Any], example: Any = None, media: str = JSON) -> dict[str, Any]:
    """A body of one media type, with an example where one is given."""
    return {media: {"schema": schema} | ({} if example is None else {"example": example})}


def response(description: str, content: Mapping[str, Any] | None = None, **headers: str) -> dict[str, Any]:
    """A reply; of a header's name `_` stands for `-`."""
    told: dict[str, Any] = {"description": description}
    if content is not None:
        told["content"] = content
    if headers:
        told["headers"] = {
            name.replace("_", "-"): {"schema": {"type": "string"}, "description": text}
            for name, text in headers.items()
        }
    return told


def error(description: str, message: str, **headers: str) -> dict[str, Any]:
    """A reply in the common shape of an error."""
    return response(description, content(ref("Error"), {"error": message, "status": 0}), **headers)


def connection(own_400: str = "") -> dict[str, Any]:
    """What any request may get from the connection itself, outside every route; and a fault of ours."""
    what = (
        f"{own_400}, or the request cannot be read as HTTP."
        if own_400
        else "The request cannot be read as HTTP."
    )
    return {
        "400": error(what, "this is not HTTP/1.1"),
        "408": error("Headers or body took too long.", "the headers of the request took too long"),
        "414": error("The URL is too long.", "URL and headers are longer than 131072 bytes"),
        "431": error(
            "The headers are too large.", "the headers are larger than 131072 bytes or more than 1000"
        ),
        "500": error("A fault of the server's.", texts.INTERNAL),
        "503": error("Too many open connections.", "the server has too many open connections"),
    }


def read_errors(request: str) -> dict[str, Any]:
    """The errors of reads, in their one shape; the connection's own errors have the other."""

    def told(description: str, message: str, *, both: bool = False, **headers: str) -> dict[str, Any]:
        schema = {"anyOf": [ref("ReadError"), ref("Error")]} if both else ref("ReadError")
        example = {"request": request, "error": message, "status": "error"}
        return response(description, content(schema, example), **headers)

    return connection() | {
        "400": told(
            "A parameter is wrong; the text names it. Or the request cannot be read as HTTP.",
            "page, must be an integer from 0 to 1000000000",
            both=True,
        ),
        "401": told(
            "No credentials, or wrong ones.",
            f"{UNAUTHENTICATED}: send a service account (user:secret) or the project's secret by Basic "
            "authentication",
            WWW_Authenticate="Basic",
        ),
        "403": told("Good credentials without this right.", "no access to project 2"),
        "429": told(
            "Too many attempts with wrong credentials from this address; or queries past a rate limit.",
            "too many failed attempts from this address: wait a minute",
        ),
        "413": told("The body is over its limit.", texts.BODY_TOO_LARGE.format(limit=10_485_760)),
        "500": told("A fault of the server's.", texts.INTERNAL, both=True),
        "503": told(
            "The data cannot be read at the moment, or too many connections are open.",
            "the data cannot be read at the moment: the server's log says why",
            both=True,
        ),
    }


def request_body(by_media: Mapping[str, Any], *, required: bool = True) -> dict[str, Any]:
    """A body, by media type."""
    return {"required": required, "content": by_media}


def parameter(name: str, description: str, schema: Mapping[str, Any], place: str = "query") -> dict[str, Any]:
    """A parameter of the query, or of another place."""
    return {"name": name, "in": place, "description": description, "schema": schema}


def operation(
    identity: str,
    tag: str,
    summary: str,
    description: str,
    responses: Mapping[str, Any],
    *,
    parameters: Sequence[Mapping[str, Any]] = (),
    body: Mapping[str, Any] | None = None,
    security: Sequence[Mapping[str, Any]] = (),
) -> Operation:
    """An operation; its replies in the order of their statuses."""
    told: Operation = {"operationId": identity, "tags": [tag], "summary": summary, "description": description}
    if parameters:
        told["parameters"] = list(parameters)
    if body is not None:
        told["requestBody"] = body
    told["responses"] = dict(sorted(responses.items()))
    told["security"] = list(security)
    return told


# --- parameters that many operations take

ENCODING: Final = parameter(
    "Content-Encoding",
    "How the body is compressed; gzip is known by its first bytes as well.",
    {"type": "string", "enum": ["gzip", "deflate", "identity"]},
    "header",
)
PROJECT: Final = parameter(
    "project_id",
    "The project; needed by owners alone.",
    {"type": "integer", "minimum": 0, "maximum": 2**53},
)
WAIT: Final = parameter(
    "X-Mixdown-Wait",
    "Wait at most so many milliseconds for what was just written; 0 does not wait.",
    {"type": "integer", "minimum": 0},
    "header",
)


def form_of(parameters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A form with the parameters of a query as its fields."""
    fields = {told["name"]: {"type": "string"} for told in parameters if told["in"] == "query"}
    return {"type": "object", "properties": fields}


_WORD: Final = {"type": "string", "minLength": 1, "pattern": "^[A-Za-z0-9_.~-]+$"}
_NUMBER: Final = {"type": "integer", "minimum": 1, "maximum": 2**53}
_PATH_PARAMETERS: Final[Mapping[str, tuple[str, Mapping[str, Any], Any]]] = {
    "name": ("A file's name.", _WORD, "app.css"),
    "id": ("An id.", _WORD, "x"),
    "project_id": ("A project's id.", _NUMBER, 1),
    "account_id": ("A service account's number.", _NUMBER, 1),
    "annotation_id": ("An annotation's number.", _NUMBER, 1),
    "organization_id": ("The organization; there is one, 1.", _NUMBER, 1),
    "table_id": ("A lookup table's id.", _WORD, "x"),
    "tracking_id": ("A job's `task_id`.", _WORD, "x"),
    "entity_type": (
        (
            f"`profile` has the schemas `{USERS}` (of users) and those named as group keys; of `event`, "
            f"`{ALL_EVENTS}` has the properties that events share."
        ),
        {"type": "string", "enum": list(ENTITY_TYPES)},
        "event",
    ),
    "entity_name": (
        "An entity's name; blanks around it are no part of it.",
        {"type": "string", "minLength": 1, "maxLength": 255},
        "bought",
    ),
}
"""What stands in braces in paths: description, schema, an example that a server with one project knows."""


def path_parameter(name: str) -> dict[str, Any]:
    """The parameter that `{name}` is in every path that has it."""
    description, schema, example = _PATH_PARAMETERS[name]
    return {**parameter(name, description, schema, "path"), "required": True, "example": example}
