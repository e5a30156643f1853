"""Identities as OpenAPI has them. Settings enter; operations by path and method leave."""

from __future__ import annotations

from typing import Any, Final

from mixdown.http import identity
from mixdown.http.ingestion import IDEMPOTENCY_KEY_LIMIT_CHARS
from mixdown.http.openapi_figures import figure_errors
from mixdown.http.openapi_pieces import (
    ENCODING,
    FORM,
    PROJECT,
    READERS,
    WAIT,
    Operation,
    content,
    operation,
    parameter,
    ref,
    request_body,
    response,
)
from mixdown.query.identities import SHOWN_LIMIT
from mixdown.settings import Settings

_LINK: Final[dict[str, Any]] = {
    "id": "$device:D1",
    "linked_to": "alice",
    "verb": "device",
    "mode": "simplified",
    "time": "2026-11-22T03:53:59",
    "position": 1207,
    "unmerged": None,
    "unmerged_position": None,
}
_PERSON: Final[dict[str, Any]] = {
    "distinct_id": "$device:D1",
    "canonical": "alice",
    "ids": ["alice", "$device:D1"],
    "links": [_LINK],
    "more": False,
}


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    return {identity.PATH: {"get": _shown()}, identity.UNMERGE_PATH: {"post": _parted()}}


def _shown() -> Operation:
    limit = {"type": "integer", "minimum": 1, "maximum": SHOWN_LIMIT}
    return operation(
        "getIdentity",
        "Mixdown",
        "Read which ids are one person, and what linked them",
        "The canonical id stands first. `links` has those in force and those that were undone, in the order "
        f"in which they came; `more` says that there are more than are shown ({SHOWN_LIMIT} of either).",
        figure_errors(identity.PATH)
        | {
            "200": response(
                "The person.", content(ref("IdentityAnswer"), {"status": "ok", "results": _PERSON})
            )
        },
        parameters=(
            PROJECT | {"example": 1},
            parameter("distinct_id", "Any id of the person.", {"type": "string"})
            | {"required": True, "example": "alice"},
            parameter("limit", "At most so many ids, and links.", limit),
            WAIT,
        ),
        security=READERS,
    )


def _parted() -> Operation:
    missing = {"request": identity.UNMERGE_PATH, "error": identity.NOT_LINKED, "status": "error"}
    apart = _PERSON | {"canonical": "$device:D1", "ids": ["$device:D1"]}
    apart["links"] = [_LINK | {"unmerged": "2026-11-22T04:00:00", "unmerged_position": 1300}]
    form = {"type": "object", "properties": {"distinct_id": {"type": "string"}}, "required": ["distinct_id"]}
    return operation(
        "unmergeIdentity",
        "Mixdown",
        "Take an id apart from all that it is linked with",
        "Undoes every link that names the id, and leaves all others. Events are the id's own again at once, "
        "profile updates from then on; profiles stay as they are. The id is free: the next event that links "
        "it does. Needs the role admin or owner.",
        figure_errors(identity.UNMERGE_PATH)
        | {
            "200": response(
                "The id as it stands now.", content(ref("IdentityAnswer"), {"status": "ok", "results": apart})
            ),
            "404": response("The id is linked to no other.", content(ref("ReadError"), missing)),
        },
        parameters=(
            PROJECT | {"example": 1},
            parameter(
                "Idempotency-Key",
                "A call with the same key for the same id is done once.",
                {"type": "string", "maxLength": IDEMPOTENCY_KEY_LIMIT_CHARS},
                "header",
            ),
            WAIT,
            ENCODING,
        ),
        body=request_body(
            content(ref("UnmergeQuery"), {"distinct_id": "$device:D1"})
            | content(form, {"distinct_id": "$device:D1"}, FORM)
        ),
        security=[{"account": []}],
    )
