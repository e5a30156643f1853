"""`/api/mixdown/undo`: what would put a profile back as it stood at a time, and doing it.

Requests with a service account or a project secret enter, JSON leaves, in the envelope of Mixdown's own API.
To undo is one more record of the log: what came after the time stays in the history.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.auth import ADMINS, refuse_other_sites
from mixdown.http.parameters import Parameters
from mixdown.http.read_errors import answering
from mixdown.http.reading import admitted, begin_read, in_thread, ok_response, to_its_end, wait_bound_ms
from mixdown.http.services import Services
from mixdown.ingest.direct import append_raw
from mixdown.ingest.pipeline import rules_of
from mixdown.ingest.prepare import Rules
from mixdown.model.errors import OverloadedError, QueryError, RequestError
from mixdown.model.times import iso_seconds
from mixdown.model.values import clean_text
from mixdown.query.group_keys import group_key_of
from mixdown.query.history import read_time
from mixdown.query.identities import owners
from mixdown.query.undoing import endpoint_for, record_for, undoing
from mixdown.query.waiting import Named
from mixdown.store.chunk import FOR_PROFILES
from mixdown.store.protocols import ProfileKey, Project, State

PATH: Final = "/api/mixdown/undo"
SDK: Final = "mixdown"
CHANGED_MEANWHILE: Final = (
    "expected, the profile has changed meanwhile: another update would put it back now; look at it first"
)
NOT_FOLDED: Final = (
    "to, what was sent of this profile last is not applied yet: nothing was put back, try again"
)


class _Asked(msgspec.Struct, frozen=True):
    """Which profile is to be put back, to when; `expected` are the operators that the caller saw."""

    id: str
    data_group_id: str
    ignore_alias: bool
    time_ms: int
    expected: dict[str, Any] | None


def routes(services: Services) -> list[Route]:
    """The routes of this family."""
    state = services.store.state

    @cache
    def rules() -> Rules:
        return rules_of(services.settings)

    async def show(request: Request) -> Response:
        read = await begin_read(request, services, named=lambda given: (_profile_id(given),))
        asked = _asked(read.parameters)
        key = await in_thread(services, _key, state, read.project.id, asked)
        operators = await in_thread(services, undoing, state, key, asked.time_ms, "to")
        return ok_response(_view(key, asked, operators, sent=False), behind=read.behind)

    async def undo(request: Request) -> Response:
        refuse_other_sites(request)
        project, parameters = await admitted(request, services, roles=ADMINS, what="put profiles back")
        asked = _asked(parameters)
        bound_ms = wait_bound_ms(request, services.settings.read_wait_ms)
        named = Named(project.id, (asked.id,))
        if await services.watch.wait(bound_ms, FOR_PROFILES, named):
            raise OverloadedError(NOT_FOLDED, retry_after_s=1)  # it would undo what nobody has seen yet
        key = await in_thread(services, _key, state, project.id, asked)
        operators = await in_thread(services, undoing, state, key, asked.time_ms, "to")
        if asked.expected is not None and not _same(asked.expected, operators):
            raise RequestError(CHANGED_MEANWHILE, status=409)
        if operators:
            await to_its_end(services, lambda: _send(services, rules(), project, key, operators))
        behind = await services.watch.wait(bound_ms, FOR_PROFILES, named)
        return ok_response(_view(key, asked, operators, sent=bool(operators)), behind=behind)

    return [
        Route(PATH, answering(show), methods=["GET"]),
        Route(PATH, answering(undo), methods=["POST"]),
    ]


def _profile_id(parameters: Parameters) -> str:
    profile_id = clean_text(parameters.text("distinct_id"))
    if not profile_id:
        raise QueryError("distinct_id, missing: name the profile, by its distinct_id or group id", status=400)
    return profile_id


def _asked(parameters: Parameters) -> _Asked:
    to = parameters.text("to")
    if not to:
        raise QueryError("to, missing: say when the profile was right", status=400)
    expected = parameters.value("expected")
    if expected is not None and type(expected) is not dict:
        raise QueryError("expected, must be the operators that GET tells, as a JSON object", status=400)
    return _Asked(
        id=_profile_id(parameters),
        data_group_id=parameters.text("data_group_id"),
        ignore_alias=parameters.boolean("ignore_alias", default=False),
        time_ms=read_time(to, "to"),
        expected=expected,
    )


def _key(state: State, project: int, asked: _Asked) -> ProfileKey:
    group_key = group_key_of(state, project, asked.data_group_id)
    owner = asked.id
    if not asked.ignore_alias:
        (owner,) = owners(state, project, group_key, [owner])
    return project, group_key, owner


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two updates say the same; the order of names says nothing."""
    return orjson.dumps(_sorted(one), option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        _sorted(other), option=orjson.OPT_SORT_KEYS
    )


def _sorted(operators: dict[str, Any]) -> dict[str, Any]:
    gone = operators.get("$unset")
    if type(gone) is list and all(type(name) is str for name in gone):
        return {**operators, "$unset": sorted(gone)}
    return operators


def _send(
    services: Services, rules: Rules, project: Project, key: ProfileKey, operators: dict[str, Any]
) -> None:
    """Append one record that does it all. Raises `RequestError` where it is refused."""
    record = record_for(project.token, key, operators)
    outcome = append_raw(services.store, rules, endpoint_for(key), [record], sdk=SDK, keep_refusals=False)
    if outcome.failed:
        raise RequestError(f"to, the update was refused: {outcome.failed[0][2]}", status=400)


def _view(key: ProfileKey, asked: _Asked, operators: dict[str, Any], *, sent: bool) -> dict[str, Any]:
    return {
        "distinct_id": key[2],
        "group_key": key[1] or None,
        "to": iso_seconds(asked.time_ms),
        "to_ms": asked.time_ms,
        "operators": operators or None,
        "sent": sent,
    }
