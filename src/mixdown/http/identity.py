"""`/api/mixdown/identity`: which ids are one person and what linked them; `…/unmerge` takes an id apart.

Requests with a service account or a project secret enter, JSON leaves, in the envelope of Mixdown's own API.
An unmerge is a record of the log: what was linked before it is undone, in order with all else.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.auth import ADMINS, refuse_other_sites
from mixdown.http.ingestion import IDEMPOTENCY_KEY_LIMIT_CHARS
from mixdown.http.parameters import Parameters
from mixdown.http.read_errors import answering
from mixdown.http.reading import (
    admitted,
    begin_read,
    in_thread,
    ok_response,
    to_its_end,
    wait_bound_ms,
)
from mixdown.http.services import Services
from mixdown.model import texts
from mixdown.model.errors import QueryError, RequestError
from mixdown.model.limits import KEY_WINDOW_MS
from mixdown.model.updates import digest_key
from mixdown.model.values import clean_text
from mixdown.query.identities import SHOWN_LIMIT, identity_of, identity_view
from mixdown.store.places import views_of
from mixdown.store.unmerging import append_unmerge

PATH: Final = "/api/mixdown/identity"
UNMERGE_PATH: Final = f"{PATH}/unmerge"
NOT_LINKED: Final = "distinct_id, this id is linked to no other"
NO_ID: Final = "distinct_id, missing: name an id of the person"


def routes(services: Services) -> list[Route]:
    """The routes of this family."""
    state = services.store.state

    async def show(request: Request) -> Response:
        read = await begin_read(request, services)
        one = _id(read.parameters)
        limit = read.parameters.integer("limit", SHOWN_LIMIT, low=1, high=SHOWN_LIMIT)
        found = await in_thread(services, identity_of, state, read.project.id, one, limit=limit)
        return ok_response(identity_view(found), behind=read.behind)

    async def unmerge(request: Request) -> Response:
        refuse_other_sites(request)
        project, parameters = await admitted(request, services, roles=ADMINS, what="take ids apart")
        one = _id(parameters)
        key = _key(request, project.id, one)
        bound_ms = wait_bound_ms(request, services.settings.read_wait_ms)
        behind = await services.watch.wait(bound_ms, project=project.id)

        def call() -> None:
            now_ms = services.now_ms()
            since_ms = now_ms - KEY_WINDOW_MS
            views = views_of(services.store, project.id)
            if key is not None and all(view.state.known_keys([key], since_ms=since_ms) for view in views):
                return
            if not behind and not identity_of(state, project.id, one).is_linked:
                raise RequestError(NOT_LINKED, status=404)
            append_unmerge(services.store, project.id, one, key=key, now_ms=now_ms)

        await to_its_end(services, call)
        behind = await services.watch.wait(bound_ms, project=project.id)
        found = await in_thread(services, identity_of, state, project.id, one)
        return ok_response(identity_view(found), behind=behind)

    return [
        Route(PATH, answering(show), methods=["GET"]),
        Route(UNMERGE_PATH, answering(unmerge), methods=["POST"]),
    ]


def _id(parameters: Parameters) -> str:
    one = clean_text(parameters.text("distinct_id"))
    if not one:
        raise QueryError(NO_ID, status=400)
    return one


def _key(request: Request, project: int, one: str) -> bytes | None:
    """The idempotency key of the call, if it brought one (DESIGN G2)."""
    given = request.headers.get("idempotency-key", "")
    if len(given) > IDEMPOTENCY_KEY_LIMIT_CHARS:
        raise QueryError(texts.IDEMPOTENCY_KEY_TOO_LONG, status=400)
    return digest_key("unmerge", str(project), one, given) if given else None
