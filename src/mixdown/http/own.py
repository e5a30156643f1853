"""Mixdown's own API, `/api/mixdown/...`: status, the last records, refusals and sending them again.

Requests with a service account or a project secret enter, JSON leaves, in the envelope
`{"status": "ok", "results": ...}`. A caller meets its own project only; the owner meets all of them,
and alone the refusals whose token no project has. The explorer's cookie counts here too, beside its CSRF
token.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.auth import (
    ADMINS,
    READERS,
    Caller,
    mask_of,
    project_of,
    refuse_other_sites,
    require,
)
from mixdown.http.parameters import Parameters, read_parameters
from mixdown.http.read_errors import answering
from mixdown.http.reading import authenticated, in_thread, json_response, project_id_of, to_its_end
from mixdown.http.refused import reasons_view, wanted_refusals
from mixdown.http.services import Services
from mixdown.ingest.direct import resend
from mixdown.ingest.pipeline import rules_of
from mixdown.ingest.prepare import Rules
from mixdown.model.errors import AuthError, QueryError, RequestError
from mixdown.model.masking import Mask
from mixdown.model.times import iso_seconds
from mixdown.query.counts import profiles_of
from mixdown.query.recent import RecentRecord, recent_records
from mixdown.query.recent_events import RecentEvent
from mixdown.query.refused import refusals_page
from mixdown.store.catalog_cache import CatalogView
from mixdown.store.places import first_of, records_waiting
from mixdown.store.protocols import Project, RefusedRecord, Store

PREFIX: Final = "/api/mixdown"
DEFAULT_LIMIT: Final = 20
RECORDS_LIMIT: Final = 1000
RESEND_LIMIT: Final = 100
ID_LIMIT: Final = 2**53
NO_PROJECT: Final = 0
UNKNOWN_TOKENS: Final = "unknown_token, only an owner sees records whose token no project has"


class _Asked(NamedTuple):
    """An authenticated call: its parameters, and the projects it is about."""

    caller: Caller
    view: CatalogView
    parameters: Parameters
    projects: tuple[Project, ...]
    with_unknown_tokens: bool

    @property
    def ids(self) -> list[int]:
        """The ids of the projects, and 0 where records with an unknown token belong to them."""
        ids = [project.id for project in self.projects]
        return [*ids, NO_PROJECT] if self.with_unknown_tokens else ids

    @property
    def mask(self) -> Mask:
        """What hides the tokens that are not for the caller's eyes."""
        return mask_of(self.caller, self.projects)


def routes(services: Services) -> list[Route]:
    """The routes of this family."""

    async def status(request: Request) -> Response:
        asked = await _ask(request, services)
        found = await in_thread(services, server_status, services.store, asked.projects)
        return _ok(found)

    async def records(request: Request) -> Response:
        asked = await _ask(request, services)
        limit = asked.parameters.integer("limit", DEFAULT_LIMIT, low=1, high=RECORDS_LIMIT)
        ids = {project.id for project in asked.projects}
        found = await in_thread(services, recent_records, services.store, ids, limit=limit)
        return _ok([record_view(record) for record in found])

    async def refusals(request: Request) -> Response:
        asked = await _ask(request, services)
        limit = asked.parameters.integer("limit", DEFAULT_LIMIT, low=1, high=RECORDS_LIMIT)
        before = asked.parameters.integer("before_id", 0, low=1, high=ID_LIMIT) or None

        def call() -> tuple[list[dict[str, Any]], bool]:
            filtered = wanted_refusals(services.store, asked.ids, asked.parameters)
            found, more = refusals_page(
                services.store.refusals,
                asked.ids,
                before_id=before,
                limit=limit,
                filtered=filtered,
                mask=asked.mask,
            )
            return [refusal_view(refusal) for refusal in found], more

        views, more = await in_thread(services, call)
        return _ok(views, more=more)

    async def reasons(request: Request) -> Response:
        asked = await _ask(request, services)
        return _ok(await in_thread(services, reasons_view, services.store, asked.ids, asked.mask))

    endpoints = (
        ("status", status, "GET"),
        ("records", records, "GET"),
        ("refusals", refusals, "GET"),
        ("refusals/reasons", reasons, "GET"),
        ("refusals/resend", _sends_again(services), "POST"),
    )
    return [
        Route(f"{PREFIX}/{name}", answering(endpoint), methods=[method])
        for name, endpoint, method in endpoints
    ]


def _sends_again(services: Services) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint that sends refused records again."""

    @cache
    def rules() -> Rules:
        return rules_of(services.settings)

    async def send_again(request: Request) -> Response:
        refuse_other_sites(request)
        asked = await _ask(request, services, ADMINS, "send refused records again")
        ids = _resend_ids(asked.parameters)
        record = asked.parameters.value("record")
        if record is not None and (len(ids) != 1 or type(record) is not dict):
            raise QueryError("record, must be one JSON object, for one id", status=400)
        token = _token_of(asked)

        def call() -> list[tuple[int, str]]:
            _only_their_own(services.store, ids, asked.ids)
            return resend(services.store, rules(), ids, record=record, token=token)

        answers = await to_its_end(services, call)
        return _ok(
            [{"id": refusal_id, "stored": not why, "error": why or None} for refusal_id, why in answers]
        )

    return send_again


def server_status(store: Store, projects: Sequence[Project]) -> dict[str, Any]:
    """How far the log and its readers are, and what each of these projects holds. Blocks."""
    places = store.places(range(store.partition_count))
    ever = sum(place.head - first_of(place.partition) for place in places)
    fold = sum(place.profiles - first_of(place.partition) for place in places)
    events = sum(place.events - first_of(place.partition) for place in places)
    refused = store.refusals.counts()
    return {
        "head": ever,
        "watermark": fold,
        "events_watermark": events,
        "behind": records_waiting(places),
        "projects": [
            project_view(store, project, refused.get(project.id, (0, 0))[0]) for project in projects
        ],
    }


def project_view(store: Store, project: Project, refusals: int) -> dict[str, Any]:
    """A project's counts; its token and secret stay where they are."""
    state = store.state
    groups = {key: profiles_of(state, project.id, key) for key in sorted(state.group_keys(project.id))}
    users = profiles_of(state, project.id, "")
    return {"id": project.id, "name": project.name, "users": users, "groups": groups, "refusals": refusals}


def record_view(record: RecentRecord) -> dict[str, Any]:
    """A record of the log as this API shows it."""
    return {
        "position": record.position,
        "time": iso_seconds(record.time_ms),
        "project_id": record.project,
        "endpoint": record.endpoint,
        "sdk": record.sdk,
        "group_key": record.group_key or None,
        "id": record.id,
        "operations": {name: orjson.Fragment(bytes(payload)) for name, payload in record.operations.items()},
    }


def event_view(event: RecentEvent) -> dict[str, Any]:
    """An event of the log, as lines of a tail show it."""
    own = {"time": event.happened_ms, "$insert_id": event.insert_id}
    return {
        "position": event.position,
        "time": iso_seconds(event.time_ms),
        "project_id": event.project,
        "endpoint": event.endpoint,
        "sdk": event.sdk,
        "event": event.event,
        "distinct_id": event.distinct_id,
        "properties": {**own, **event.properties},
    }


def refusal_view(refusal: RefusedRecord) -> dict[str, Any]:
    """A refusal as this API shows it; `record` is the text that arrived, cut where `whole` is false."""
    return {
        "id": refusal.id,
        "time": iso_seconds(refusal.time_ms),
        "project_id": refusal.project or None,
        "endpoint": refusal.endpoint,
        "index": refusal.index,
        "field": refusal.field,
        "message": refusal.message,
        "record": refusal.record,
        "whole": refusal.whole,
        "sdk": refusal.sdk,
    }


async def _ask(
    request: Request, services: Services, roles: frozenset[str] = READERS, what: str = "read"
) -> _Asked:
    caller, view = await authenticated(request, services)
    require(caller, roles, what)
    parameters = await read_parameters(request, body_limit_bytes=services.settings.body_limit_bytes)
    project_id = project_id_of(parameters)
    if parameters.boolean("unknown_token", default=False):
        if not caller.is_owner:
            raise AuthError(UNKNOWN_TOKENS, status=403)
        return _Asked(caller, view, parameters, (), with_unknown_tokens=True)
    if caller.is_owner and not project_id:
        return _Asked(caller, view, parameters, tuple(view.projects.values()), with_unknown_tokens=True)
    project = project_of(caller, project_id, view, roles=roles, what=what)
    return _Asked(caller, view, parameters, (project,), with_unknown_tokens=False)


def _token_of(asked: _Asked) -> str:
    """The token that records are to be sent again with, "" for their own. Raises `AuthError`."""
    project_id = asked.parameters.integer("to_project", 0, low=1, high=ID_LIMIT)
    if not project_id:
        return ""
    what = "send refused records again"
    return project_of(asked.caller, project_id, asked.view, roles=ADMINS, what=what).token


def _resend_ids(parameters: Parameters) -> list[int]:
    texts = parameters.strings("ids", limit=RESEND_LIMIT) or ()
    if not texts or not all(text.isdecimal() and len(text) < 17 for text in texts):
        raise QueryError(f"ids, must be a list of 1 to {RESEND_LIMIT} refusal ids", status=400)
    return list(dict.fromkeys(int(text) for text in texts))


def _only_their_own(store: Store, ids: Sequence[int], projects: Sequence[int]) -> None:
    """Raises a 404 unless each of these refusals exists and belongs to the caller's projects."""
    known = {refusal.id for refusal in store.refusals.by_ids(ids) if refusal.project in projects}
    missing = [refusal_id for refusal_id in ids if refusal_id not in known]
    if missing:
        raise RequestError(f"ids, no refusal has the id {missing[0]}", status=404)


def _ok(results: object, *, more: bool = False) -> Response:
    """`more` is there where a page was cut for its size: what is left is older than its last."""
    marks = {"more": True} if more else {}
    return json_response(orjson.dumps({"status": "ok", **marks, "results": results}))
