"""Mixdown's own API, as OpenAPI has it: status, records, refusals.

Settings enter; operations by path and method leave.
"""

from __future__ import annotations

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
from mixdown.settings import Settings


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
            (PROJECT, limit, before),
        ),
    )
    found: dict[str, dict[str, Operation]] = {}
    for name, summary, schema, parameters in listings:
        path = f"{own.PREFIX}/{name}"
        answer = response("As asked.", content(ref(schema)))
        found[path] = {
            "get": operation(
                name,
                "Mixdown",
                summary,
                "A caller meets its own project; an owner meets all of them.",
                read_errors(path) | {"200": answer},
                parameters=parameters,
                security=READERS,
            )
        }
    path = f"{own.PREFIX}/refusals/resend"
    missing = {"request": path, "error": "ids, no refusal has the id 7", "status": "error"}
    sent = {"status": "ok", "results": [{"id": 1, "stored": True, "error": None}]}
    form = {"type": "object", "properties": {"ids": {"type": "string"}, "record": {"type": "string"}}}
    found[path] = {
        "post": operation(
            "resendRefusals",
            "Mixdown",
            "Send refused records again",
            f"Up to {own.RESEND_LIMIT} of them; or one with `record`, the mended one. What is stored leaves "
            "the refusals. Needs the role admin or owner.",
            read_errors(path)
            | {
                "200": response("What came of each.", content(ref("ResendAnswer"), sent)),
                "404": response("One of the ids is no refusal of yours.", content(ref("ReadError"), missing)),
            },
            parameters=(PROJECT, ENCODING),
            body=request_body(content(ref("ResendQuery"), {"ids": [1]}) | content(form, {"ids": "1"}, FORM)),
            security=[{"account": []}],
        )
    }
    return found
