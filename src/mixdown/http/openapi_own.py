"""Mixdown's own API, as OpenAPI has it: status, records, refusals.

Settings enter; operations by path and method leave.
"""

from __future__ import annotations

from typing import Final

from mixdown.http import own
from mixdown.http.openapi_pieces import (
    ENCODING,
    FORM,
    PROJECT,
    READERS,
    Operation,
    content,
    operation,
    parameter,
    read_errors,
    ref,
    request_body,
    response,
)
from mixdown.http.refused import TEXT_LIMIT_CHARS
from mixdown.settings import Settings

_UNKNOWN: Final = parameter(
    "unknown_token", "For owners: only records whose token no project has.", {"type": "boolean"}
)
_REFUSAL_FILTERS: Final = (
    _UNKNOWN,
    parameter("reason", "A reason, as `refusals/reasons` names it.", {"type": "string"}),
    parameter("endpoint", "Only those that were sent there.", {"type": "string"}),
    parameter("field", "Only those about this field.", {"type": "string"}),
    parameter(
        "text",
        "A text in the record, the message or the field; ASCII letters in either case.",
        {"type": "string", "maxLength": TEXT_LIMIT_CHARS},
    ),
    parameter("since", "From this time on: ISO 8601, or seconds since 1970.", {"type": "string"}),
    parameter("until", "Before this time.", {"type": "string"}),
)


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    limit = parameter(
        "limit",
        f"{own.DEFAULT_LIMIT} by default.",
        {"type": "integer", "minimum": 1, "maximum": own.RECORDS_LIMIT},
    )
    before = parameter(
        "before_id", "Only older ones.", {"type": "integer", "minimum": 1, "maximum": own.ID_LIMIT}
    )
    listings = (
        ("status", "How far log and fold are, and what each project holds", "StatusAnswer", (PROJECT,)),
        ("records", "The last records that were stored, newest first", "RecordsAnswer", (PROJECT, limit)),
        (
            "refusals",
            "Refused records with their reasons, newest first",
            "RefusalsAnswer",
            (PROJECT, limit, before, *_REFUSAL_FILTERS),
        ),
        (
            "refusals/reasons",
            "How many refused records there are for each reason, and what to do",
            "RefusalReasonsAnswer",
            (PROJECT, _UNKNOWN),
        ),
    )
    found: dict[str, dict[str, Operation]] = {}
    for name, summary, schema, parameters in listings:
        path = f"{own.PREFIX}/{name}"
        answer = response("As asked.", content(ref(schema)))
        found[path] = {
            "get": operation(
                name.replace("refusals/reasons", "refusalReasons"),
                "Mixdown",
                summary,
                "A caller meets its own project; an owner meets all of them.",
                read_errors(path) | {"200": answer},
                parameters=parameters,
                security=READERS,
            )
        }
    found[f"{own.PREFIX}/refusals/resend"] = {"post": _resend(f"{own.PREFIX}/refusals/resend")}
    return found


def _resend(path: str) -> Operation:
    missing = {"request": path, "error": "ids, no refusal has the id 7", "status": "error"}
    sent = {"status": "ok", "results": [{"id": 1, "stored": True, "error": None}]}
    form = {"type": "object", "properties": {"ids": {"type": "string"}, "record": {"type": "string"}}}
    return operation(
        "resendRefusals",
        "Mixdown",
        "Send refused records again",
        f"Up to {own.RESEND_LIMIT} of them; or one with `record`, the mended one. With `to_project` they "
        "get the token of this project. What is stored leaves the refusals. "
        "Needs the role admin or owner.",
        read_errors(path)
        | {
            "200": response("What came of each.", content(ref("ResendAnswer"), sent)),
            "404": response("One of the ids is no refusal of yours.", content(ref("ReadError"), missing)),
        },
        parameters=(PROJECT, ENCODING),
        body=request_body(content(ref("ResendQuery"), {"ids": [1]}) | content(form, {"ids": "1"}, FORM)),
        security=[{"account": []}],
    )
