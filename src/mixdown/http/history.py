"""`/api/mixdown/history`: what changed in one profile, newest first, a page at a time; `…/moments`: when.

Requests with a service account or a project secret enter, JSON leaves, in the envelope of Mixdown's own API.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.parameters import Parameters
from mixdown.http.read_errors import answering
from mixdown.http.reading import begin_read, in_thread, json_response, ok_response
from mixdown.http.services import Services
from mixdown.model.errors import QueryError
from mixdown.model.values import clean_text
from mixdown.query.group_keys import group_key_of
from mixdown.query.history import (
    OPERATOR_NAMES,
    PAGE_LIMIT,
    Place,
    history_page,
    place_of,
    place_text,
)
from mixdown.query.history import entry_view as view
from mixdown.query.identities import owners
from mixdown.query.moments import moments_of, moments_view
from mixdown.store.protocols import ProfileKey, Project, Store

PATH: Final = "/api/mixdown/history"
MOMENTS_PATH: Final = f"{PATH}/moments"
DEFAULT_LIMIT: Final = 100
NAMES_LIMIT: Final = 100


class _Profile(msgspec.Struct, frozen=True):
    """Which profile a call is about."""

    id: str
    data_group_id: str
    ignore_alias: bool


class _Asked(msgspec.Struct, frozen=True):
    """What a call asks of a profile's history."""

    profile: _Profile
    names: tuple[str, ...]
    operators: tuple[str, ...]
    before: Place | None
    limit: int


def routes(services: Services) -> list[Route]:
    """The routes of this family."""

    async def history(request: Request) -> Response:
        read = await begin_read(request, services, named=lambda given: (_profile_id(given),))
        asked = _asked(read.parameters)
        answer = await in_thread(services, _answer, services.store, read.project, asked)
        return json_response(answer, behind=read.behind)

    async def moments(request: Request) -> Response:
        read = await begin_read(request, services, named=lambda given: (_profile_id(given),))
        asked = _profile(read.parameters)

        def look() -> dict[str, Any]:
            return moments_view(moments_of(services.store.state, _key(services.store, read.project, asked)))

        return ok_response(await in_thread(services, look), behind=read.behind)

    return [
        Route(PATH, answering(history), methods=["GET"]),
        Route(MOMENTS_PATH, answering(moments), methods=["GET"]),
    ]


def _profile_id(parameters: Parameters) -> str:
    profile_id = clean_text(parameters.text("distinct_id"))
    if not profile_id:
        raise QueryError("distinct_id, missing: name the profile, by its distinct_id or group id", status=400)
    return profile_id


def _profile(parameters: Parameters) -> _Profile:
    return _Profile(
        id=_profile_id(parameters),
        data_group_id=parameters.text("data_group_id"),
        ignore_alias=parameters.boolean("ignore_alias", default=False),
    )


def _asked(parameters: Parameters) -> _Asked:
    before = parameters.text("before")
    operators = parameters.strings("operator", limit=NAMES_LIMIT) or ()
    if not OPERATOR_NAMES.issuperset(operators):
        raise QueryError(f"operator, must be one of {', '.join(sorted(OPERATOR_NAMES))}", status=400)
    return _Asked(
        profile=_profile(parameters),
        names=parameters.strings("property", limit=NAMES_LIMIT) or (),
        operators=operators,
        before=place_of(before) if before else None,
        limit=parameters.integer("limit", DEFAULT_LIMIT, low=1, high=PAGE_LIMIT),
    )


def _key(store: Store, project: Project, asked: _Profile) -> ProfileKey:
    group_key = group_key_of(store.state, project.id, asked.data_group_id)
    owner = asked.id
    if not asked.ignore_alias:
        (owner,) = owners(store.state, project.id, group_key, [owner])
    return project.id, group_key, owner


def _answer(store: Store, project: Project, asked: _Asked) -> bytes:
    key = _key(store, project, asked.profile)
    found, following = history_page(
        store, key, names=asked.names, operators=asked.operators, before=asked.before, limit=asked.limit
    )
    answer: dict[str, Any] = {
        "status": "ok",
        "results": [view(entry) for entry in found],
        "next": None if following is None else place_text(following),
    }
    return orjson.dumps(answer)
