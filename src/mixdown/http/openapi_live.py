"""What arrives, as OpenAPI has it: the stream, the newest records, counts by kind.

Settings enter; operations by path and method leave.
"""

from __future__ import annotations

from typing import Final

from mixdown.http import live, own
from mixdown.http.openapi_pieces import (
    PROJECT,
    READERS,
    Operation,
    content,
    operation,
    parameter,
    read_errors,
    ref,
    response,
)
from mixdown.query.live.arrivals import INTERVAL_S, INTERVALS
from mixdown.query.live.pieces import KINDS
from mixdown.query.live.tail import LISTENERS_LIMIT
from mixdown.settings import Settings

_STREAM: Final = """\
retry: 1000
id: 12-3
event: begin
data: {"resumed":false,"gap":false}

id: 13-3
event: event
data: {"position":12,"time":"2026-01-15T12:00:00","project_id":1,"endpoint":"track","sdk":"web",\
"event":"Signed in","distinct_id":"ada","properties":{"time":1768478400000,\
"$insert_id":"x1","plan":"pro"},"time_ms":1768478400000}

"""

_TEXT: Final = {"type": "string", "maxLength": live.TEXT_LIMIT_CHARS}
_RECENT: Final = {
    "status": "ok",
    "results": {
        "cursor": "13-3",
        "records": [
            {
                "kind": "link",
                "position": 12,
                "time": "2026-01-15T12:00:00",
                "project_id": 1,
                "endpoint": "track",
                "sdk": "web",
                "mode": "simplified",
                "verb": "device",
                "ids": ["$device:abc", "ada"],
                "time_ms": 1768478400000,
            }
        ],
    },
}


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    shared = (
        PROJECT,
        parameter(
            "unknown_tokens",
            "With refused records whose token no project has: for owners, who get them anyway where they "
            "name no project.",
            {"type": "boolean"},
        ),
    )
    wanted = (
        *shared,
        parameter(
            "kind",
            f"A list of the kinds wanted, all by default: {', '.join(KINDS)}.",
            {"type": "string"},
        ),
        parameter("id", "Only records of this user or group, or that name it.", _TEXT),
        parameter("text", "Only records with this text in their JSON, whatever its case.", _TEXT),
    )
    stream = f"{own.PREFIX}/live"
    newest = f"{own.PREFIX}/live/recent"
    counts = f"{own.PREFIX}/arrivals"
    return {
        stream: {"get": _stream(stream, wanted)},
        newest: {
            "get": operation(
                "liveRecent",
                "Mixdown",
                "The newest records of every kind, newest first",
                "Updates, events, links of identities and refused records, and the place from which a stream "
                "goes on.",
                read_errors(newest)
                | {"200": response("As asked.", content(ref("LiveRecentAnswer"), _RECENT))},
                parameters=(*wanted, _limit()),
                security=READERS,
            )
        },
        counts: {
            "get": operation(
                "arrivals",
                "Mixdown",
                "How many records arrived, by kind",
                f"For each {INTERVAL_S} seconds of the last {INTERVAL_S * INTERVALS // 60} minutes; the last "
                "of them is not over. Counted from the log when asked for.",
                read_errors(counts) | {"200": response("As asked.", content(ref("ArrivalsAnswer")))},
                parameters=wanted[:3],
                security=READERS,
            )
        },
    }


def _limit() -> Operation:
    return parameter(
        "limit",
        f"{live.DEFAULT_RECENT} by default.",
        {"type": "integer", "minimum": 1, "maximum": live.RECENT_LIMIT},
    )


def _stream(path: str, wanted: tuple[Operation, ...]) -> Operation:
    text = (
        "Server-sent events, from now on or from where a listener was before. The events `update`, `event`, "
        "`link` and `refusal` are records; `begin` comes first and says whether something before was lost "
        "(`gap`); `sample` says at most once a second how many records `matched`, how many of them were "
        "`shown`, at how many nobody looked because too many came at once (`unread`), and how many were "
        "`dropped` because the listener did not take them; `end` comes last and says why. Above `rate` "
        "records a second it sends an even sample. It ends when the credentials do. A record of more than "
        f"{live.MESSAGE_LIMIT_BYTES // 1024} KiB is `cut`. At most {LISTENERS_LIMIT} may listen to a worker."
    )
    place = {"type": "string", "maxLength": 40, "pattern": r"^\d{1,18}-\d{1,18}$"}
    own_parameters = (
        parameter(
            "after", "The id of the last message seen: what came since comes first, as far as it can.", place
        ),
        parameter(
            "Last-Event-ID", "The same, as browsers send it; it counts before `after`.", place, "header"
        ),
        parameter(
            "rate",
            f"How many stored records a second, and as many refused ones; {live.DEFAULT_RATE} by default.",
            {"type": "integer", "minimum": 1, "maximum": live.RATE_LIMIT},
        ),
        {
            **parameter(
                "seconds",
                "End after so long; by default the stream has no end.",
                {"type": "integer", "minimum": 1, "maximum": live.SECONDS_LIMIT},
            ),
            "example": 1,
        },
    )
    return operation(
        "live",
        "Mixdown",
        "What arrives, as it arrives",
        text,
        read_errors(path)
        | {
            "200": response(
                "The stream.", content({"type": "string"}, example=_STREAM, media="text/event-stream")
            )
        },
        parameters=(*wanted, *own_parameters),
        security=READERS,
    )
