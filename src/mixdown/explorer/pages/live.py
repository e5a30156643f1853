"""The live view: the newest records of a project, and others as they arrive.

The newest come with the page, readable without JavaScript; `static/live.js` then listens to the API's own
stream from where they end. Both say the same of a record: what is said here, `static/live-rows.js` says too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from starlette.routing import Route

from mixdown.explorer.frame import Frame, Visit
from mixdown.explorer.policy import PREFIX
from mixdown.http.auth import ADMINS
from mixdown.query.live.pieces import EVENT, KINDS, LINK, REFUSAL, UPDATE

SHOWN: Final = 50
_NAMES_SHOWN: Final = 8
_LABELS: Final = {UPDATE: "Updates", EVENT: "Events", LINK: "Identity", REFUSAL: "Refused"}
_BADGES: Final = {UPDATE: "update", EVENT: "event", LINK: "identity", REFUSAL: "refused"}
_VERBS: Final = {
    "device": "device belongs to user",
    "identify": "identified as",
    "create_alias": "has the alias",
    "merge": "merged with",
}
_UNKNOWN, _PROJECT, _ALL = "", "project", "all"
_TOKENS: Final = (
    (_UNKNOWN, "This project's, and unknown"),
    (_PROJECT, "This project's alone"),
    (_ALL, "Every project's"),
)


def routes(frame: Frame) -> list[Route]:
    """The routes of this page."""
    return frame.view("/live", "live/live.html", build, title="Live", section="live")


async def build(visit: Visit) -> Mapping[str, Any]:
    """The newest records that fit the filter, and where a stream goes on from."""
    owner = visit.caller.is_owner
    tokens = visit.text("tokens") if owner else _PROJECT
    chosen = [kind for kind in visit.texts("kind") if kind]
    asked: dict[str, Any] = {"project_id": None if tokens == _ALL else visit.project.id}
    if owner and tokens != _ALL:
        asked["unknown_tokens"] = tokens != _PROJECT
    asked |= {"id": visit.text("id") or None, "text": visit.text("text") or None}
    if chosen and set(chosen) != set(KINDS):
        asked["kind"] = chosen
    params = {name: value for name, value in asked.items() if value is not None}
    found = (await visit.ask("GET", "/api/mixdown/live/recent", params={**asked, "limit": SHOWN})).good()[
        "results"
    ]
    names = {project.id: project.name for project in visit.projects} if tokens != _PROJECT else {}
    return {
        "records": [_row(record, names) for record in found["records"]],
        "kinds": [
            {"name": kind, "label": _LABELS[kind], "chosen": kind in chosen or not chosen} for kind in KINDS
        ],
        "filter": {"id": visit.text("id"), "text": visit.text("text"), "tokens": tokens},
        "filtered": bool(params.keys() & {"id", "text", "kind"}) or (owner and tokens != _UNKNOWN),
        "token_choices": list(_TOKENS) if owner else [],
        "may_mend": visit.may(ADMINS),
        "page": {
            "stream": f"/api/mixdown/live?{_query(params)}",
            "cursor": found["cursor"],
            "base": PREFIX,
            "address": visit.address,
            "mayMend": visit.may(ADMINS),
            "projects": names or None,
            "tokens": _tokens(visit),
        },
    }


def _tokens(visit: Visit) -> dict[int, str]:
    """The tokens that a record is sent again with; admins alone see them."""
    return {visit.project.id: visit.project.token} if visit.may(ADMINS) else {}


def _query(params: Mapping[str, Any]) -> str:
    return urlencode(
        {
            name: value if isinstance(value, str) else orjson.dumps(value).decode()
            for name, value in params.items()
        }
    )


def _row(record: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    """A record as a row shows it; `json` is the record itself."""
    kind = record["kind"]
    at = datetime.fromtimestamp(record["time_ms"] / 1000, UTC)
    view = {name: value for name, value in record.items() if name != "kind"}
    return {
        "kind": kind,
        "at": f"{at:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z",
        "clock": f"{at:%H:%M:%S.%f}"[:-3],
        "badge": (record.get("group_key") if kind == UPDATE else None) or _BADGES[kind],
        "title": _title(kind, record),
        "event": record.get("event", ""),
        "summary": _summary(kind, record),
        "project": names.get(record["project_id"] or 0, "unknown token"),
        "json": orjson.dumps(view, option=orjson.OPT_INDENT_2).decode(),
    }


def _title(kind: str, record: Mapping[str, Any]) -> str:
    if kind == UPDATE:
        return str(record["id"])
    if kind == EVENT:
        return str(record["distinct_id"])
    return str(record["ids"][0]) if kind == LINK else record["field"] or f"/{record['endpoint']}"


def _summary(kind: str, record: Mapping[str, Any]) -> str:
    """What a record does, in a line."""
    if "cut" in record:
        return "a large record: open it to see how it begins"
    if kind == UPDATE:
        told = []
        for operator, payload in record["operations"].items():
            names = payload if isinstance(payload, str) else _listed(payload or ())
            told.append(f"{operator} {names}".strip())
        return "  ·  ".join(told)
    if kind == EVENT:
        return _listed(name for name in record["properties"] if name not in ("time", "$insert_id"))
    if kind == LINK:
        return f"{_VERBS.get(record['verb'], record['verb'])} {record['ids'][1]}"
    return f"record {record['index']}: {record['message']}"


def _listed(found: Iterable[Any]) -> str:
    names = [str(name) for name in found]
    return ", ".join(names[:_NAMES_SHOWN]) + (", …" if len(names) > _NAMES_SHOWN else "")
