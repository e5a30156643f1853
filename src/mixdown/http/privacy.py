"""Erasing people and handing out their data: data-deletions and data-retrievals v3 (contract query §6.1).

A service account with the role admin or owner asks, naming its project by the project's token as Mixpanel's
API does. A deletion's records stand in the log before it is answered, unless the server is told to wait
(`erasure_delay_minutes`); the fold's process does the rest. A retrieval is read while it is fetched: nothing
is made or kept beforehand. The answers have all names that Mixpanel's description and its examples have.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from mixdown.http.auth import ADMINS, Caller, project_of, refuse_other_sites, require
from mixdown.http.parameters import Parameters, read_parameters
from mixdown.http.read_errors import answering, read_error
from mixdown.http.reading import (
    authenticated,
    in_thread,
    ok_response,
    project_id_of,
    to_its_end,
    wait_bound_ms,
)
from mixdown.http.services import Services
from mixdown.model.errors import AuthError, CatalogError, QueryError, RequestError
from mixdown.model.times import iso_seconds
from mixdown.model.values import clean_text
from mixdown.query.person import person_file
from mixdown.store.chunk import FOR_ALL
from mixdown.store.privacy import (
    IDS_LIMIT,
    PENDING,
    REVOKED,
    SUCCESS,
    Deletion,
    Retrieval,
    begin,
    with_linked,
)
from mixdown.store.protocols import Project, Store

DELETIONS: Final = "/api/app/data-deletions/v3.0"
RETRIEVALS: Final = "/api/app/data-retrievals/v3.0"
COMPLIANCE_TYPES: Final = ("GDPR", "CCPA")
DISCLOSURE_TYPES: Final = ("Data", "Categories", "Sources")
NO_JOB: Final = "tracking_id, this project has no such job"
NOT_PENDING: Final = "tracking_id, this deletion is {status}: only one that is PENDING can be cancelled"
NO_TOKEN_ACCESS: Final = "no access to the project of this token"
_TRACKING_ID_CHARS: Final = 64
_LOOK_EVERY_S: Final = 0.05


class _Asked(NamedTuple):
    """An authenticated call: who, their parameters, and the project it is about."""

    caller: Caller
    parameters: Parameters
    project: Project


class _Ids(NamedTuple):
    """Whom a call is about."""

    group_key: str
    ids: tuple[str, ...]


def routes(services: Services) -> list[Route]:
    """The routes of this family (slashes at their end are the application's business)."""
    return [*_deletion_routes(services), *_retrieval_routes(services)]


def _deletion_routes(services: Services) -> list[Route]:
    async def create_deletion(request: Request) -> Response:
        refuse_other_sites(request)
        asked = await _ask(request, services, "erase people")
        named = _named(asked.parameters)
        deletion = _new_deletion(asked, named, services)

        # who is linked with whom is what is folded; where that is late, the fold begins the job in its time
        behind = await services.watch.wait(services.settings.read_wait_ms, project=asked.project.id)

        def call() -> Deletion:
            store = services.store
            _refuse_too_many(store, deletion)
            _kept(lambda: store.privacy.add_deletion(deletion))
            if not behind and deletion.due_ms <= deletion.requested_ms:
                begin(store, deletion, now_ms=services.now_ms())
            return store.privacy.deletion(deletion.project, deletion.id) or deletion

        return ok_response(_deletion_view(await to_its_end(services, call)), status=201)

    async def deletion(request: Request) -> Response:
        asked = await _ask(request, services, "see who was erased")
        found = await _settled(request, services, asked.project, _tracking_id(request))
        return ok_response(_deletion_view(found))

    async def cancel_deletion(request: Request) -> Response:
        refuse_other_sites(request)
        asked = await _ask(request, services, "erase people")
        job_id = _tracking_id(request)
        jobs = services.store.privacy

        def call() -> str:
            known = jobs.deletion(asked.project.id, job_id)
            if known is None:
                raise RequestError(NO_JOB, status=404)
            if jobs.revoke(job_id):
                return REVOKED
            known = jobs.deletion(asked.project.id, job_id)
            return "" if known is None else known.status

        status = await to_its_end(services, call)
        if status == REVOKED:
            return Response(status_code=204)
        text = NOT_PENDING.format(status=status or "gone")
        return read_error(request.scope, text, status=405, headers={"Allow": "GET"})

    endpoints = (
        (DELETIONS, create_deletion, "POST"),
        (f"{DELETIONS}/{{tracking_id}}", deletion, "GET"),
        (f"{DELETIONS}/{{tracking_id}}", cancel_deletion, "DELETE"),
    )
    return [Route(path, answering(endpoint), methods=[method]) for path, endpoint, method in endpoints]


def _retrieval_routes(services: Services) -> list[Route]:
    async def create_retrieval(request: Request) -> Response:
        refuse_other_sites(request)
        asked = await _ask(request, services, "retrieve people's data")
        named = _named(asked.parameters)
        retrieval = Retrieval(
            id=secrets.token_hex(16),
            project=asked.project.id,
            group_key=named.group_key,
            ids=named.ids,
            requested_by=asked.caller.name,
            compliance_type=_one_of(asked.parameters, "compliance_type", COMPLIANCE_TYPES),
            disclosure_type=_one_of(asked.parameters, "disclosure_type", DISCLOSURE_TYPES),
            requested_ms=services.now_ms(),
        )
        await to_its_end(services, lambda: services.store.privacy.add_retrieval(retrieval))
        return ok_response(_retrieval_view(retrieval, _link(request, asked.project, retrieval)), status=201)

    async def retrieval(request: Request) -> Response:
        asked = await _ask(request, services, "retrieve people's data")
        found = await _retrieval_of(services, asked.project, _tracking_id(request))
        return ok_response(_retrieval_view(found, _link(request, asked.project, found)))

    async def retrieved(request: Request) -> Response:
        asked = await _ask(request, services, "retrieve people's data")
        found = await _retrieval_of(services, asked.project, _tracking_id(request))
        bound_ms = wait_bound_ms(request, services.settings.read_wait_ms)
        await services.watch.wait(bound_ms, FOR_ALL, project=asked.project.id)
        pieces = person_file(
            services.store, asked.project, found.group_key, found.ids, now_ms=services.now_ms()
        )
        headers = {
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="mixdown-{found.id}.json"',
            "X-Content-Type-Options": "nosniff",
        }
        return StreamingResponse(pieces, media_type="application/json", headers=headers)

    endpoints = (
        (RETRIEVALS, create_retrieval, "POST"),
        (f"{RETRIEVALS}/{{tracking_id}}", retrieval, "GET"),
        (f"{RETRIEVALS}/{{tracking_id}}/file", retrieved, "GET"),
    )
    return [Route(path, answering(endpoint), methods=[method]) for path, endpoint, method in endpoints]


async def _ask(request: Request, services: Services, what: str) -> _Asked:
    """Who asks, with which parameters, for which project: by `token`, by `project_id`, or their own."""
    caller, view = await authenticated(request, services)
    require(caller, ADMINS, what)
    parameters = await read_parameters(request, body_limit_bytes=services.settings.body_limit_bytes)
    token = parameters.text("token")
    wanted = view.tokens.get(token, 0) if token else project_id_of(parameters)
    if token and not (wanted and caller.role_in(wanted)):
        raise AuthError(NO_TOKEN_ACCESS, status=403)
    return _Asked(caller, parameters, project_of(caller, wanted, view, roles=ADMINS, what=what))


def _kept(add: Callable[[], None]) -> None:
    """Keep a job. Raises `RequestError` (429) where the project has too many."""
    try:
        add()
    except CatalogError as error:
        raise RequestError(error.message, status=429, hint=error.hint) from error


def _refuse_too_many(store: Store, deletion: Deletion) -> None:
    """Raises `QueryError` (400) where more ids are linked with these than one deletion may have."""
    try:
        with_linked(store, deletion.project, deletion.group_key, deletion.ids)
    except CatalogError as error:
        raise QueryError(f"distinct_ids, {error.message}: name fewer", status=400) from error


def _named(parameters: Parameters) -> _Ids:
    ids = parameters.strings("distinct_ids", limit=IDS_LIMIT) or ()
    if not ids or not all(ids):
        raise QueryError(f"distinct_ids, must be a list of 1 to {IDS_LIMIT} ids", status=400)
    return _Ids(clean_text(parameters.text("group_key")), tuple(dict.fromkeys(map(clean_text, ids))))


def _new_deletion(asked: _Asked, named: _Ids, services: Services) -> Deletion:
    now_ms = services.now_ms()
    return Deletion(
        id=secrets.token_hex(16),
        project=asked.project.id,
        group_key=named.group_key,
        ids=named.ids,
        count=len(named.ids),
        status=PENDING,
        requested_by=asked.caller.name,
        compliance_type=_one_of(asked.parameters, "compliance_type", COMPLIANCE_TYPES),
        requested_ms=now_ms,
        due_ms=now_ms + services.settings.erasure_delay_minutes * 60_000,
    )


def _one_of(parameters: Parameters, name: str, known: tuple[str, ...]) -> str:
    """A parameter that is one of a few words, the first of them where it is absent."""
    given = parameters.text(name)
    for word in known:
        if given.lower() in ("", word.lower()):
            return word
    raise QueryError(f"{name}, must be {' or '.join(known)}", status=400)


def _tracking_id(request: Request) -> str:
    """The job that the path names; one that is too long is no job's."""
    text: str = request.path_params["tracking_id"]
    return text if len(text) <= _TRACKING_ID_CHARS else ""


async def _settled(request: Request, services: Services, project: Project, job_id: str) -> Deletion:
    """The deletion, after waiting for its end as long as a read may wait. Raises a 404."""
    deadline = time.monotonic() + wait_bound_ms(request, services.settings.read_wait_ms) / 1000
    while True:
        found = await in_thread(services, services.store.privacy.deletion, project.id, job_id)
        if found is None:
            raise RequestError(NO_JOB, status=404)
        if found.status in (PENDING, SUCCESS, REVOKED) or time.monotonic() >= deadline:
            return found
        await asyncio.sleep(_LOOK_EVERY_S)


async def _retrieval_of(services: Services, project: Project, job_id: str) -> Retrieval:
    now_ms = services.now_ms()
    found = await in_thread(services, services.store.privacy.retrieval, project.id, job_id, now_ms=now_ms)
    if found is None:
        raise RequestError(NO_JOB, status=404)
    return found


def _link(request: Request, project: Project, retrieval: Retrieval) -> str:
    """Where the file is fetched, with credentials, by the address that was asked."""
    return f"{str(request.base_url).rstrip('/')}{RETRIEVALS}/{retrieval.id}/file?token={project.token}"


def _deletion_view(deletion: Deletion) -> dict[str, Any]:
    """A deletion as Mixpanel shows it, and `report` once it is done; its ids are gone then."""
    return {
        "task_id": deletion.id,
        "tracking_id": deletion.id,
        "status": deletion.status,
        "requesting_user": deletion.requested_by,
        "compliance_type": deletion.compliance_type,
        "project_id": deletion.project,
        "date_requested": iso_seconds(deletion.requested_ms),
        "distinct_ids": list(deletion.ids),
        "distinct_id_count": deletion.count,
        "destination_url": "",
        "disclosure_type": "",
        "report": orjson.loads(deletion.report) if deletion.status == SUCCESS else None,
    }


def _retrieval_view(retrieval: Retrieval, link: str) -> dict[str, Any]:
    """A retrieval as Mixpanel shows it: it is ready at once."""
    return {
        "task_id": retrieval.id,
        "tracking_id": retrieval.id,
        "status": SUCCESS,
        "result": link,
        "results": link,
        "requesting_user": retrieval.requested_by,
        "compliance_type": retrieval.compliance_type,
        "disclosure_type": retrieval.disclosure_type,
        "project_id": retrieval.project,
        "date_requested": iso_seconds(retrieval.requested_ms),
        "distinct_ids": list(retrieval.ids),
        "distinct_id_count": len(retrieval.ids),
        "destination_url": link,
    }
