"""The start page of a project: what has arrived, how to send something, and the first record as it comes.

A visit enters; counts, a chart of the last ten minutes and snippets for this very address leave. The first
record lights up by itself: where none is there yet the page asks once a second, and is answered without a
body until there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from starlette.responses import Response
from starlette.routing import Route

from mixdown.explorer.frame import Frame, Visit
from mixdown.explorer.policy import data_headers
from mixdown.explorer.snippets import SNIPPETS, TOKEN, chosen, code_for, is_shown_with
from mixdown.http.auth import ADMINS
from mixdown.model.times import iso_seconds
from mixdown.query.live.pieces import EVENT, LINK, REFUSAL, UPDATE

_SERIES: Final = (
    (UPDATE, "profile updates"),
    (EVENT, "events"),
    (LINK, "identity links"),
    (REFUSAL, "refused"),
)
_LOOKED_AT: Final = 20
_LATELY_MS: Final = 10 * 60 * 1000


def routes(frame: Frame) -> list[Route]:
    """The routes of this page."""

    async def first(visit: Visit) -> Response:
        waited = visit.text("waited") == "1"
        if waited and not await _any_lately(visit):
            return Response(status_code=204, headers=data_headers())
        found = await _newest(visit)
        if waited and found["record"] is None:
            seen = visit.integer("seen", 0, low=0, high=2**53)
            if found["refusal"] is None or found["refusal"]["id"] <= seen:
                return Response(status_code=204, headers=data_headers())
        is_new = visit.text("new") == "1"
        return frame.render(visit, "start/first.html", newest=found, waited=waited, is_new=is_new)

    return [
        *frame.view("", "start/start.html", build, title="Start", section="start"),
        frame.fragment("/totals", "start/totals.html", _totals),
        frame.fragment("/snippet", "start/snippet.html", _snippet),
        frame.raw("/first", first),
        frame.raw("/arrivals.json", arrivals),
    ]


async def build(visit: Visit) -> Mapping[str, Any]:
    """What the project holds, what came last, and how to send more."""
    totals = await _totals(visit)
    project = totals["project"]
    return {
        **totals,
        "is_new": not project["users"] and not project["groups"],
        "token": visit.project.token if visit.may(ADMINS) else "",
        **await _snippet(visit),
    }


async def _totals(visit: Visit) -> Mapping[str, Any]:
    """How many profiles and refusals the project holds."""
    status = (await visit.ask("GET", "/api/mixdown/status")).good()["results"]
    (project,) = status["projects"]
    return {"project": project}


async def _snippet(visit: Visit) -> Mapping[str, Any]:
    """The snippet of the SDK that was chosen, and the names of all."""
    token = visit.project.token if visit.may(ADMINS) else TOKEN
    snippet = chosen(visit.text("sdk"))
    plain = visit.address.startswith("http:")
    return {
        "sdks": [{"name": each.name, "label": each.label} for each in SNIPPETS],
        "sdk": {
            "name": snippet.name,
            "label": snippet.label,
            "install": snippet.install,
            "code": code_for(snippet, visit.address, token),
            "hint": snippet.hint,
            "plain_http": snippet.plain_http if plain else "",
        },
        "token_left_out": not is_shown_with(token),
        "token_hidden": token == TOKEN,
        "address": visit.address,
    }


async def _newest(visit: Visit) -> dict[str, Any]:
    """The newest record that was stored, and the newest refusal of the last minutes; None: there is none."""
    params: dict[str, Any] = {"limit": _LOOKED_AT, "unknown_tokens": visit.caller.is_owner}
    found = (await visit.ask("GET", "/api/mixdown/live/recent", params=params)).good()["results"]["records"]
    stored = [
        record for record in found if record["kind"] in (UPDATE, EVENT) and record["endpoint"] != "erase"
    ]
    refused = [record for record in found if record["kind"] == REFUSAL]
    record, refusal = stored[0] if stored else None, refused[0] if refused else None
    if refusal is not None and refusal["time_ms"] < visit.services.now_ms() - _LATELY_MS:
        refusal = None
    return {
        "record": None if record is None else _told(visit, record),
        "refusal": None
        if refusal is None
        else {name: refusal[name] for name in ("id", "time_ms", "message", "field", "index", "endpoint")},
    }


def _told(visit: Visit, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says of a record: whose it is, and where to see them."""
    is_event = record["kind"] == EVENT
    whose = record["distinct_id"] if is_event else record["id"]
    key = None if is_event else record["group_key"]
    return {
        "kind": record["kind"],
        "time_ms": record["time_ms"],
        "id": whose,
        "group_key": key,
        "what": record["event"] if is_event else " ".join(record["operations"] or ()),
        "url": visit.path("profile", group_key=key or None, id=whose),
    }


async def _any_lately(visit: Visit) -> bool:
    """Whether anything arrived in the last ten minutes: a count that is kept, and cheap to ask for."""
    found = await _counts(visit)
    return any(any(found[kind]) for kind in (UPDATE, EVENT, REFUSAL))


async def _counts(visit: Visit) -> Mapping[str, Any]:
    params = {"unknown_tokens": visit.caller.is_owner}
    found: Mapping[str, Any] = (await visit.ask("GET", "/api/mixdown/arrivals", params=params)).good()[
        "results"
    ]
    return found


async def arrivals(visit: Visit) -> Response:
    """The chart: records of each kind, for each five seconds of the last ten minutes."""
    found = await _counts(visit)
    chart: dict[str, Any] = {
        "x": found["times"],
        "series": [{"label": label, "values": found[kind]} for kind, label in _SERIES],
        "unit": "records",
        "step": found["interval_s"],
        "zone": "local",
    }
    if found["counted_from"] > found["times"][0]:
        at = iso_seconds(found["counted_from"] * 1000)
        chart["note"] = f"More arrived than is counted at once: counts begin at {at} UTC."
    return Response(orjson.dumps(chart), headers=data_headers(), media_type="application/json")
