"""History and undoing as OpenAPI has them. Settings enter; operations by path and method leave."""

from __future__ import annotations

from typing import Any, Final

from mixdown.http import history, undo
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
from mixdown.query.history import OPERATOR_NAMES, PAGE_LIMIT
from mixdown.query.moments import MOMENTS_LIMIT
from mixdown.settings import Settings

_ENTRY: Final[dict[str, Any]] = {
    "position": 1207,
    "time": "2026-11-22T03:53:59",
    "time_ms": 1795319639250,
    "property": "plan",
    "operator": "$set",
    "endpoint": "engage",
    "sdk": "python",
    "old": "free",
    "new": "pro",
}


_MOMENTS: Final[dict[str, Any]] = {
    "moments": [
        {"time": "2026-11-22T03:53:59", "time_ms": 1795319639250, "changes": 1},
        {"time": "2026-11-21T10:00:00", "time_ms": 1795255200000, "changes": 3, "profile": "created"},
    ],
    "changed": {
        "plan": {
            "time": "2026-11-22T03:53:59",
            "time_ms": 1795319639250,
            "position": 1207,
            "operator": "$set",
            "endpoint": "engage",
            "sdk": "python",
        }
    },
    "more": False,
    "before": "2026-10-23T04:00:00",
    "before_ms": 1792728000000,
}
_TO: Final = "2099-01-31T12:00:00"
_UNDONE: Final[dict[str, Any]] = {
    "distinct_id": "alice",
    "group_key": None,
    "to": _TO,
    "to_ms": 4073544000000,
    "operators": {"$set": {"plan": "free"}, "$unset": ["trial"]},
    "sent": False,
}
_TEXT: Final = {"type": "string"}
_PROFILE: Final = (
    PROJECT | {"example": 1},
    parameter("distinct_id", "The user, or the id of the group.", _TEXT)
    | {"required": True, "example": "alice"},
    parameter("data_group_id", "A group key's name or number: a group instead of a user.", _TEXT),
    parameter(
        "ignore_alias",
        "The profile under this very id, even where the id is linked to a person with another.",
        {"type": "boolean"},
    ),
)


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    return {
        history.PATH: {"get": _history()},
        history.MOMENTS_PATH: {"get": _moments()},
        undo.PATH: {"get": _undo_shown(), "post": _undo()},
    }


def _history() -> Operation:
    answer = response(
        "A page of what changed, newest first; `next` begins the page after it.",
        content(ref("HistoryAnswer"), {"status": "ok", "results": [_ENTRY], "next": None}),
    )
    listed = {"type": "array", "items": _TEXT, "maxItems": history.NAMES_LIMIT}
    operators = {"type": "array", "items": {"enum": sorted(OPERATOR_NAMES)}, "maxItems": history.NAMES_LIMIT}
    return operation(
        "getHistory",
        "Mixdown",
        "Read what changed in a profile",
        "Each entry is what one record changed in one property: `old` and `new` are missing where there was "
        "no value; for lists and objects `added` and `removed` say it in short. `profile` is there where the "
        "profile came to be or went. Kept for `history_retention_days`.",
        figure_errors(history.PATH) | {"200": answer},
        parameters=(
            *_PROFILE,
            parameter("property", "Only changes of these properties.", listed),
            parameter("operator", "Only changes by these operators.", operators),
            parameter("before", "`next` of the page before.", _TEXT),
            parameter(
                "limit",
                f"{history.DEFAULT_LIMIT} by default.",
                {"type": "integer", "minimum": 1, "maximum": PAGE_LIMIT},
            ),
            WAIT,
        ),
        security=READERS,
    )


def _moments() -> Operation:
    answer = response(
        "The moments, newest first.", content(ref("MomentsAnswer"), {"status": "ok", "results": _MOMENTS})
    )
    return operation(
        "getHistoryMoments",
        "Mixdown",
        "Read when a profile changed, and when each of its properties last did",
        f"The newest {MOMENTS_LIMIT} moments; `more` says that there are others before. A property that "
        "`changed` does not name last changed before `before`; that is null where no history is kept.",
        figure_errors(history.MOMENTS_PATH) | {"200": answer},
        parameters=(*_PROFILE, WAIT),
        security=READERS,
    )


def _undo_shown() -> Operation:
    to = parameter("to", "When the profile was right: ISO 8601 (UTC), or seconds or ms since 1970.", _TEXT)
    answer = response(
        "The operators, null where nothing is to be done.",
        content(ref("UndoAnswer"), {"status": "ok", "results": _UNDONE}),
    )
    return operation(
        "showUndo",
        "Mixdown",
        "Read which update would put a profile back as it stood at a time",
        "Nothing is sent. `$delete` stands there where there was no profile at that time.",
        figure_errors(undo.PATH) | {"200": answer},
        parameters=(*_PROFILE, to | {"required": True, "example": _TO}, WAIT),
        security=READERS,
    )


def _undo() -> Operation:
    changed = {"request": undo.PATH, "error": undo.CHANGED_MEANWHILE, "status": "error"}
    example = {"project_id": 1, "distinct_id": "alice", "to": _TO}
    fields = ("project_id", "distinct_id", "data_group_id", "ignore_alias", "to", "expected")
    form = {
        "type": "object",
        "properties": dict.fromkeys(fields, _TEXT),
        "required": ["distinct_id", "to"],
    }
    answer = response(
        "What was sent; `operators` null where nothing was to be done.",
        content(ref("UndoAnswer"), {"status": "ok", "results": {**_UNDONE, "sent": True}}),
    )
    return operation(
        "undo",
        "Mixdown",
        "Put a profile back as it stood at a time",
        "By one more update: what came after the time stays in the history. With `expected`, the operators "
        "that GET told, it is done only if they are still the ones. Needs the role admin or owner.",
        figure_errors(undo.PATH)
        | {
            "200": answer,
            "409": response(
                "The profile has changed: `expected` would not put it back.",
                content(ref("ReadError"), changed),
            ),
        },
        parameters=(PROJECT | {"example": 1}, WAIT, ENCODING),
        body=request_body(
            content(ref("UndoQuery"), example)
            | content(form, {name: str(value) for name, value in example.items()}, FORM)
        ),
        security=[{"account": []}],
    )
