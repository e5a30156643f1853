"""The data dictionary over HTTP, as Mixpanel's Lexicon schemas API (contract query §6.2).

Requests with a service account or a project's secret enter; schemas of one project leave. Readers read,
analysts and above write. Beside the documented calls it takes PATCH, which merges, as mixpanel-headless sends
it. A name that a path cannot carry is given as the parameter `entity_name`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.auth import ANALYSTS, refuse_other_sites
from mixdown.http.parameters import read_object
from mixdown.http.paths import ANY_TEXT, canonical_path
from mixdown.http.read_errors import answering
from mixdown.http.reading import admitted, in_thread, json_response, ok_response, to_its_end
from mixdown.http.services import Services
from mixdown.model.dictionary import read_entity_type, read_name
from mixdown.model.errors import QueryError, RequestError
from mixdown.query.schemas import Upload, entry_view, read_entries, read_one, upload
from mixdown.store.protocols import Project

PATH: Final = "/api/app/projects/{project_id}/schemas"
TYPE_PATH: Final = f"{PATH}/{{entity_type}}"
ONE_PATH: Final = f"{TYPE_PATH}/{{entity_name}}"
_WHAT: Final = "write the data dictionary"
_LIST_FIELDS: Final = frozenset({"entries", "truncate", "entity_type", "entityType"})


def routes(services: Services) -> list[Route]:
    """The routes of this family."""
    return [*_list_routes(services), *_type_routes(services), *_one_routes(services)]


def _list_routes(services: Services) -> list[Route]:
    held = services.store.dictionary

    async def listing(request: Request) -> Response:
        project, _ = await admitted(request, services)
        found = await in_thread(services, held.listing, project.id)
        return ok_response([entry_view(entry) for entry in found])

    async def create(request: Request) -> Response:
        project, body = await _sent(request, services)
        uploads, truncate = _bulk(body)
        added, deleted = await _stored(services, project, uploads, truncate=truncate)
        return ok_response({"added": added, "deleted": deleted})

    async def merge(request: Request) -> Response:
        project, body = await _sent(request, services)
        uploads, truncate = _bulk(body)
        if truncate:
            raise QueryError("truncate, is for uploads by POST", status=400)
        await _stored(services, project, uploads, partial=True)
        return ok_response(
            [{"entityType": each.entity_type, "name": each.name, "status": "ok"} for each in uploads]
        )

    async def delete(request: Request) -> Response:
        project = await _changing(request, services)
        return _deleted(await to_its_end(services, lambda: held.delete(project.id)))

    return _of(PATH, {"GET": listing, "POST": create, "PATCH": merge, "DELETE": delete})


def _type_routes(services: Services) -> list[Route]:
    held = services.store.dictionary

    async def listing(request: Request) -> Response:
        project, parameters = await admitted(request, services)
        entity_type = _entity_type(request)
        name = parameters.text("entity_name")
        if name:
            name = read_name(name, "entity_name")
            found = await in_thread(services, held.get, project.id, entity_type, name)
            if found is None:
                raise _missing(entity_type, name)
            return ok_response(orjson.Fragment(found.schema))
        entries = await in_thread(services, held.listing, project.id, entity_type)
        return ok_response([entry_view(entry) for entry in entries])

    async def delete(request: Request) -> Response:
        refuse_other_sites(request)
        project, parameters = await admitted(request, services, roles=ANALYSTS, what=_WHAT)
        entity_type, name = _entity_type(request), parameters.text("entity_name")
        if not name and "entity_name" in request.query_params:
            raise QueryError("entity_name, is empty: leave it out to delete all of the type", status=400)
        name = read_name(name, "entity_name") if name else ""
        return _deleted(await to_its_end(services, lambda: held.delete(project.id, entity_type, name)))

    return _of(TYPE_PATH, {"GET": listing, "DELETE": delete})


def _one_routes(services: Services) -> list[Route]:
    held = services.store.dictionary

    async def show(request: Request) -> Response:
        project, _ = await admitted(request, services)
        entity_type, name = _entity_type(request), read_name(_entity_name(request), "name")
        found = await in_thread(services, held.get, project.id, entity_type, name)
        if found is None:
            raise _missing(entity_type, name)
        # the schema itself, as OpenAPI has it, and in the list that the documentation's prose shows
        return json_response(
            orjson.dumps({**orjson.loads(found.schema), "status": "ok", "results": [entry_view(found)]})
        )

    async def create(request: Request) -> Response:
        project, body = await _sent(request, services)
        await _stored(services, project, [read_one(_entity_type(request), _entity_name(request), body)])
        return json_response(orjson.dumps({"status": "ok"}))

    async def merge(request: Request) -> Response:
        project, body = await _sent(request, services)
        one = read_one(_entity_type(request), _entity_name(request), body)
        await _stored(services, project, [one], partial=True)
        found = await in_thread(services, held.get, project.id, one.entity_type, one.name)
        if found is None:
            raise _missing(one.entity_type, one.name)
        return ok_response(entry_view(found))

    async def delete(request: Request) -> Response:
        project = await _changing(request, services)
        entity_type, name = _entity_type(request), read_name(_entity_name(request), "name")
        return _deleted(await to_its_end(services, lambda: held.delete(project.id, entity_type, name)))

    path = ONE_PATH.replace("{entity_name}", f"{{entity_name:{ANY_TEXT}}}")
    return _of(path, {"GET": show, "POST": create, "PATCH": merge, "DELETE": delete})


def _of(path: str, by_method: dict[str, Callable[[Request], Any]]) -> list[Route]:
    return [Route(path, answering(endpoint), methods=[method]) for method, endpoint in by_method.items()]


async def _changing(request: Request, services: Services) -> Project:
    refuse_other_sites(request)
    project, _ = await admitted(request, services, roles=ANALYSTS, what=_WHAT)
    return project


async def _sent(request: Request, services: Services) -> tuple[Project, dict[str, Any]]:
    """Who may write, and the JSON object that they sent."""
    refuse_other_sites(request)
    found: list[dict[str, Any]] = []

    async def read() -> None:
        limit_bytes = services.settings.body_limit_bytes
        found.append(await read_object(request, body_limit_bytes=limit_bytes))

    project, _ = await admitted(request, services, roles=ANALYSTS, what=_WHAT, read_body=read)
    return project, found[0]


async def _stored(
    services: Services,
    project: Project,
    uploads: list[Upload],
    *,
    truncate: bool = False,
    partial: bool = False,
) -> tuple[int, int]:
    now_ms = services.now_ms()
    return await to_its_end(
        services,
        lambda: upload(
            services.store, project.id, uploads, truncate=truncate, partial=partial, now_ms=now_ms
        ),
    )


def _bulk(body: dict[str, Any]) -> tuple[list[Upload], bool]:
    for name in body:
        if name not in _LIST_FIELDS:
            raise QueryError(f"{name[:255]}, is no part of an upload: send entries and truncate", status=400)
    truncate = body.get("truncate")
    if truncate not in (None, True, False) or type(truncate) in (int, float):
        raise QueryError("truncate, must be true or false", status=400)
    return read_entries(body.get("entries")), bool(truncate)


def _entity_type(request: Request) -> str:
    return read_entity_type(request.path_params["entity_type"], "entityType")


def _entity_name(request: Request) -> str:
    """The name in the path, exactly as it was sent: the application makes one slash of two."""
    path: str = request.scope["path"]
    raw: bytes = request.scope.get("raw_path") or b""
    sent = raw.partition(b"?")[0].decode("latin-1")
    if canonical_path(unquote(sent)) == path:
        segments = [segment for segment in sent.split("/") if segment]
        if len(segments) == _SEGMENTS:
            return unquote(segments[-1])
    name: str = request.path_params["entity_name"]
    return name


_SEGMENTS: Final = len(ONE_PATH.strip("/").split("/"))


def _missing(entity_type: str, name: str) -> RequestError:
    return RequestError(f"name, there is no schema of {entity_type} {name!r}", status=404)


def _deleted(count: int) -> Response:
    return ok_response({"delete_count": count, "deleteCount": count})
