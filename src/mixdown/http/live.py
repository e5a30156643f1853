"""What arrives, as it arrives: `/api/mixdown/live` (server-sent events), the newest of it, counts by kind.

Requests with a service account or a project secret enter; a stream without an end leaves, or JSON. Everything
that was refused stands beside what was stored. It must never cost a record's way to the log anything. How it
is found: `query.live`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from mixdown.http.auth import READERS, Caller, mask_of, project_of, require
from mixdown.http.own import NO_PROJECT, PREFIX, event_view, record_view, refusal_view
from mixdown.http.parameters import Parameters, read_parameters
from mixdown.http.read_errors import answering
from mixdown.http.reading import in_scan_thread, in_thread, ok_response, project_id_of, sender_of
from mixdown.http.services import Services
from mixdown.model.errors import AuthError, QueryError
from mixdown.model.masking import Mask
from mixdown.model.times import iso_seconds
from mixdown.query.live.arrivals import INTERVAL_S
from mixdown.query.live.pieces import KINDS, Arrived, RecentLink, arrived_of
from mixdown.query.live.reader import Rendering, recent
from mixdown.query.live.tail import Listener
from mixdown.query.live.wanted import Places, Tally, Wanted, kinds_of
from mixdown.query.recent import RecentRecord
from mixdown.query.recent_events import RecentEvent
from mixdown.store.catalog_cache import CatalogView

DEFAULT_RATE: Final = 125
RATE_LIMIT: Final = 1000
SECONDS_LIMIT: Final = 86_400
DEFAULT_RECENT: Final = 50
RECENT_LIMIT: Final = 500
RECENT_BYTES: Final = 8 * 1024 * 1024
TEXT_LIMIT_CHARS: Final = 1000
MESSAGE_LIMIT_BYTES: Final = 64 * 1024
CUT_CHARS: Final = 4000
HEARTBEAT_S: Final = 15.0
RETRY_MS: Final = 1000
_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Type": "text/event-stream",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}

Who = Callable[[], tuple[Caller, CatalogView]]
"""Who asks, by the catalog as it stands; raises `AuthError` where that is nobody any more. Blocks."""


class Asked(NamedTuple):
    """What a call is about: the records that are wanted, and who may say so."""

    wanted: Wanted
    parameters: Parameters
    who: Who
    name: str


def routes(services: Services) -> list[Route]:
    """The routes of this family."""

    async def live(request: Request) -> Response:
        return await stream(request, services, await asked_by(request, services))

    async def newest(request: Request) -> Response:
        asked = await asked_by(request, services)
        return ok_response(await newest_of(services, asked))

    async def arrivals(request: Request) -> Response:
        asked = await asked_by(request, services)
        return ok_response(await arrivals_of(services, asked))

    endpoints = (("live", live), ("live/recent", newest), ("arrivals", arrivals))
    return [Route(f"{PREFIX}/{name}", answering(endpoint), methods=["GET"]) for name, endpoint in endpoints]


async def asked_by(request: Request, services: Services) -> Asked:
    """What a request asks for, of what its sender may see. Raises `AuthError` and `QueryError`."""
    who = sender_of(request, services)
    caller, view = await in_thread(services, who)
    require(caller, READERS, "read")
    parameters = await read_parameters(request, body_limit_bytes=services.settings.body_limit_bytes)
    kinds = parameters.strings("kind", limit=len(KINDS))
    chosen = kinds_of([name for text in kinds for name in text.split(",")]) if kinds else frozenset(KINDS)
    if chosen is None:
        raise QueryError(f"kind, must be of {', '.join(KINDS)}", status=400)
    projects = _projects(caller, view, parameters)
    wanted = Wanted(
        projects,
        chosen,
        _short(parameters, "id"),
        _short(parameters, "text").lower(),
        _mask(caller, view, projects),
    )
    return Asked(wanted, parameters, who, caller.name)


def _mask(caller: Caller, view: CatalogView, projects: frozenset[int] | None) -> Mask:
    """What hides the tokens that are not for the caller's eyes: of an owner, who alone sees all, none."""
    return mask_of(caller, [view.projects[number] for number in projects or () if number in view.projects])


def _projects(caller: Caller, view: CatalogView, parameters: Parameters) -> frozenset[int] | None:
    """The projects that are asked for (None: all); 0 stands for tokens that no project has."""
    project_id = project_id_of(parameters)
    unknown = parameters.boolean("unknown_tokens", default=caller.is_owner and not project_id)
    if unknown and not caller.is_owner:
        raise AuthError("only an owner sees records with an unknown token", status=403)
    if caller.is_owner and not project_id:
        return None if unknown else frozenset(view.projects)
    project = project_of(caller, project_id, view, roles=READERS, what="read")
    return frozenset({project.id, NO_PROJECT}) if unknown else frozenset({project.id})


def _short(parameters: Parameters, name: str) -> str:
    text = parameters.text(name)
    if len(text) > TEXT_LIMIT_CHARS:
        raise QueryError(f"{name}, must be at most {TEXT_LIMIT_CHARS} characters", status=400)
    return text


# --- the stream


async def stream(request: Request, services: Services, asked: Asked) -> Response:
    """What arrives from now on, or from where the listener was before, until one of the two goes.

    Raises `QueryError`, and `OverloadedError` where too many listen.
    """
    parameters = asked.parameters
    rate = parameters.integer("rate", DEFAULT_RATE, low=1, high=RATE_LIMIT)
    seconds = parameters.integer("seconds", 0, low=1, high=SECONDS_LIMIT)
    named = request.headers.get("last-event-id", "").strip() or parameters.text("after")
    after = Places.read(named) if named else None
    if named and after is None:
        raise QueryError("after, must be an id that this stream has sent", status=400)
    if request.method == "HEAD":
        return Response(headers=dict(_HEADERS))

    def allowed() -> bool:
        try:
            caller, view = asked.who()
            projects = _projects(caller, view, parameters)
            same_eyes = _mask(caller, view, projects) == asked.wanted.mask
            return same_eyes and projects == asked.wanted.projects
        except (AuthError, QueryError):
            return False

    listener = await services.live.listen(
        asked.wanted, RENDERING, rate=rate, after=after, allowed=allowed, who=asked.name
    )
    return _Live(services, listener, resumed=after is not None, seconds=seconds, mask=asked.wanted.mask)


class _Live(Response):
    """Sends what a listener hears."""

    def __init__(
        self, services: Services, listener: Listener, *, resumed: bool, seconds: int, mask: Mask
    ) -> None:
        super().__init__(headers=dict(_HEADERS))
        self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        self._services = services
        self._listener = listener
        self._resumed = resumed
        self._seconds = seconds
        self._mask = mask

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the client has gone, or there is no more."""
        del scope
        listener = self._listener
        gone = asyncio.ensure_future(_gone(receive, listener))
        loop = asyncio.get_running_loop()
        end_s = loop.time() + self._seconds if self._seconds else float("inf")
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await _send(send, self._first())
            while not gone.done() and (left_s := end_s - loop.time()) > 0:
                found = await listener.take(min(HEARTBEAT_S, left_s))
                if listener.ended and not found:
                    break
                if self._mask and found:
                    found = await asyncio.to_thread(_masked, self._mask, found)
                await _send(send, found or b": nothing new\n\n")
            if not gone.done():
                why = listener.ended or "as long as was asked"
                await _send(send, _message("end", {"why": why}), more=False)
        finally:
            self._services.live.leave(listener)
            gone.cancel()

    def _first(self) -> bytes:
        listener = self._listener
        told = {"resumed": self._resumed and not listener.gap, "gap": listener.gap}
        return b"retry: %d\n%b" % (RETRY_MS, _message("begin", told, listener.cursor))


async def _gone(receive: Receive, listener: Listener) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    listener.end("gone")


def _masked(mask: Mask, messages: bytes) -> bytes:
    return mask.text(messages.decode()).encode()


async def _send(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


# --- messages


def _message(event: str, data: object, cursor: Places | None = None) -> bytes:
    body = orjson.dumps(data)
    if b"\n" in body or b"\r" in body:  # between the tokens of JSON that came so; never within a text
        body = body.replace(b"\r", b" ").replace(b"\n", b" ")
    place = b"" if cursor is None else b"id: %b\n" % str(cursor).encode()
    return b"%bevent: %b\ndata: %b\n\n" % (place, event.encode(), body)


def _record_message(kind: str, arrived: Arrived, cursor: Places) -> bytes:
    return _message(kind, arrived_view(arrived), cursor)


def _tally_message(tally: Tally, cursor: Places) -> bytes:
    told = {
        "matched": tally.matched,
        "shown": tally.shown,
        "unread": tally.unread,
        "dropped": tally.dropped,
        "gap": tally.gap,
    }
    return _message("sample", told, cursor)


RENDERING: Final = Rendering(_record_message, _tally_message)


def arrived_view(arrived: Arrived) -> dict[str, Any]:
    """A record as the live view shows it; where it is large, its beginning."""
    view = _view(arrived)
    part, name = _content(arrived, view)
    if len(part) <= MESSAGE_LIMIT_BYTES:
        return view
    start = part[: CUT_CHARS * 4].decode("utf-8", "ignore")[:CUT_CHARS]
    return {**view, name: None, "cut": {"size_bytes": len(part), "start": start}}


def _view(arrived: Arrived) -> dict[str, Any]:
    if isinstance(arrived, RecentRecord):
        view = record_view(arrived)
    elif isinstance(arrived, RecentEvent):
        view = event_view(arrived)
    elif isinstance(arrived, RecentLink):
        view = {
            "position": arrived.position,
            "time": iso_seconds(arrived.time_ms),
            "project_id": arrived.project,
            "endpoint": arrived.endpoint,
            "sdk": arrived.sdk,
            "mode": arrived.mode,
            "verb": arrived.verb,
            "ids": [arrived.one, arrived.other],
        }
    else:
        view = refusal_view(arrived)
    return {**view, "time_ms": arrived.time_ms}


def _content(arrived: Arrived, view: Mapping[str, Any]) -> tuple[bytes, str]:
    """The part of a view that may be large, as bytes, and its name."""
    if isinstance(arrived, RecentRecord):
        return orjson.dumps(view["operations"]), "operations"
    if isinstance(arrived, RecentEvent):
        return orjson.dumps(view["properties"]), "properties"
    if isinstance(arrived, RecentLink):
        return b"", ""
    return arrived.record.encode("utf-8", "replace"), "record"


# --- without a stream


async def newest_of(services: Services, asked: Asked) -> dict[str, Any]:
    """The newest records, newest first, and the place from which a stream goes on. Raises `StoreError`."""
    limit = asked.parameters.integer("limit", DEFAULT_RECENT, low=1, high=RECENT_LIMIT)

    def look() -> dict[str, Any]:
        items, cursor = recent(services.store, asked.wanted, limit=limit)
        records: list[dict[str, Any]] = []
        size = 0
        for item in reversed(items):
            view = {"kind": item.kind, **arrived_view(arrived_of(item))}
            size += min(len(bytes(item.raw)), MESSAGE_LIMIT_BYTES)
            if records and size > RECENT_BYTES:
                break
            records.append(view)
        if asked.wanted.mask:
            records = orjson.loads(_masked(asked.wanted.mask, orjson.dumps(records)))
        return {"cursor": str(cursor), "records": records}

    return await in_scan_thread(services, look)


async def arrivals_of(services: Services, asked: Asked) -> dict[str, Any]:
    """How many records of each kind arrived, for each five seconds of the last ten minutes."""
    found = await in_scan_thread(
        services, services.arrivals.of, asked.wanted.projects, now_ms=services.now_ms()
    )
    count = len(next(iter(found.counts.values())))
    return {
        "interval_s": INTERVAL_S,
        "counted_from": found.counted_from_s,
        "times": [found.begin_s + INTERVAL_S * place for place in range(count)],
        **{kind: counts for kind, counts in found.counts.items() if kind in asked.wanted.kinds},
    }
