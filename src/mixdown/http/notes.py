"""Annotations: notes on points in time, at `/api/app` as Mixpanel has them, and on the old query paths.

Requests enter; annotations and tags of one project leave (contract query §6.3). Readers read, analysts and
above write. A moment is one of the project's time zone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any, Final, TypeVar

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.auth import ANALYSTS, Caller, refuse_other_sites
from mixdown.http.date_ranges import date_range
from mixdown.http.parameters import Parameters
from mixdown.http.paths import QUERY_PREFIXES
from mixdown.http.read_errors import answering
from mixdown.http.reading import admitted, admitted_caller, in_thread, json_response, ok_response, to_its_end
from mixdown.http.services import Services
from mixdown.model.errors import CatalogError, QueryError, RequestError
from mixdown.model.values import clean_text
from mixdown.query.events.buckets import EARLIEST
from mixdown.store.annotations import TAGS_PER_ANNOTATION, TAGS_PER_PROJECT, Annotation, Tag
from mixdown.store.protocols import Account, Project
from mixdown.store.zones import zone_of

PATH: Final = "/api/app/projects/{project_id}/annotations"
ONE_PATH: Final = f"{PATH}/{{annotation_id}}"
TAGS_PATH: Final = f"{PATH}/tags"
DESCRIPTION_LIMIT_CHARS: Final = 512
TAG_LIMIT_CHARS: Final = 255
ID_LIMIT: Final = 2**53
NOTHING: Final = "description, tags: give what is to change"
NOTHING_OLD: Final = "date, description: give what is to change"
NO_ID: Final = "id, missing: name the annotation"
BAD_MOMENT: Final = "date, must be a moment from 1970 on, as YYYY-MM-DD HH:MM:SS"
BAD_DESCRIPTION: Final = f"description, must be a text of 1 to {DESCRIPTION_LIMIT_CHARS} characters"
BAD_TAGS: Final = "tags, must be a list of numbers of tags"
_T = TypeVar("_T")
_Endpoint = Callable[[Request], Awaitable[Response]]


def routes(services: Services) -> list[Route]:
    """The routes of this file, each with and without a slash at its end."""
    found: list[tuple[str, str, _Endpoint]] = [
        # before the paths of single annotations, whose numbers their last words would be taken for
        (TAGS_PATH, "GET", _tags(services)),
        (TAGS_PATH, "POST", _create_tag(services)),
        (PATH, "GET", _listing(services)),
        (PATH, "POST", _create(services)),
        (ONE_PATH, "GET", _show(services)),
        (ONE_PATH, "PATCH", _change(services)),
        (ONE_PATH, "DELETE", _delete(services)),
    ]
    old = {"": _old_listing, "/create": _old_create, "/update": _old_update, "/delete": _old_delete}
    found += [
        (f"{prefix}/annotations{rest}", "GET", endpoint(services))
        for prefix in QUERY_PREFIXES
        for rest, endpoint in old.items()
    ]
    made = [
        Route(path + slash, answering(endpoint), methods=[method])
        for path, method, endpoint in found
        for slash in ("", "/")
    ]
    for route in made:  # a request for the head of an answer must not write
        if route.methods and route.path.rstrip("/").endswith(tuple(old)[1:]):
            route.methods.discard("HEAD")
    return made


# --- reading


def _listing(services: Services) -> _Endpoint:
    async def listing(request: Request) -> Response:
        project, parameters = await admitted(request, services)
        found = await _within(services, project, parameters, ("fromDate", "toDate"))
        wanted = _numbers(parameters.text("tags").split(",")) if parameters.given("tags") else None
        if wanted is not None:
            found = [each for each in found if not wanted.isdisjoint(each.tags)]
        return ok_response(await _views(services, project, found))

    return listing


def _old_listing(services: Services) -> _Endpoint:
    async def listing(request: Request) -> Response:
        project, parameters = await admitted(request, services)
        found = await _within(services, project, parameters, ("from_date", "to_date"))
        told = [
            {"id": each.id, "project_id": project.id, "date": each.moment, "description": each.description}
            for each in found
        ]
        return json_response(orjson.dumps({"annotations": told, "error": False}))

    return listing


async def _within(
    services: Services, project: Project, parameters: Parameters, names: tuple[str, str]
) -> list[Annotation]:
    """The annotations of the days that the parameters name, both inclusive."""
    days = date_range(parameters, names=names)
    since = "" if days.first is None else days.first.isoformat()
    until = "" if days.last is None or days.last == date.max else (days.last + timedelta(days=1)).isoformat()

    def call() -> list[Annotation]:
        return services.store.annotations.listing(project.id, since=since, until=until)

    return await in_thread(services, call)


def _show(services: Services) -> _Endpoint:
    async def show(request: Request) -> Response:
        project, _ = await admitted(request, services)
        number = _number_in_path(request)
        found = await in_thread(services, services.store.annotations.get, project.id, number)
        if found is None:
            raise RequestError(f"annotation, there is no annotation {number}", status=404)
        return ok_response((await _views(services, project, [found]))[0])

    return show


def _tags(services: Services) -> _Endpoint:
    async def tags(request: Request) -> Response:
        project, _ = await admitted(request, services)
        found = await in_thread(services, services.store.annotations.tags, project.id)
        return ok_response([_tag_view(tag) for tag in found])

    return tags


async def _views(services: Services, project: Project, found: list[Annotation]) -> list[dict[str, Any]]:
    """Annotations as Mixpanel shows them."""
    tags = await in_thread(services, services.store.annotations.tags, project.id)
    names = {tag.id: tag.name for tag in tags}
    view = await in_thread(services, services.catalog.current)
    return [_view(each, names, view.accounts) for each in found]


def _view(found: Annotation, names: Mapping[int, str], accounts: Mapping[str, Account]) -> dict[str, Any]:
    account = accounts.get(found.creator)
    return {
        "id": found.id,
        "project_id": found.project,
        "date": found.moment,
        "description": found.description,
        "user": {"id": account.id if account else 0, "first_name": found.creator, "last_name": ""},
        "tags": [{"id": tag, "name": names[tag]} for tag in found.tags if tag in names],
    }


def _tag_view(tag: Tag) -> dict[str, Any]:
    return {"id": tag.id, "name": tag.name, "project_id": tag.project, "has_annotations": tag.is_used}


# --- writing


def _create(services: Services) -> _Endpoint:
    async def create(request: Request) -> Response:
        caller, project, parameters = await _writing(request, services)
        wanted = Annotation(
            project=project.id,
            moment=_moment(parameters, project),
            description=_description(parameters),
            creator=caller.name,
            created_ms=services.now_ms(),
            tags=_tags_of(parameters) or (),
        )
        made = await _changed(services, lambda: services.store.annotations.create(wanted), status=400)
        return ok_response((await _views(services, project, [made]))[0], status=201)

    return create


def _change(services: Services) -> _Endpoint:
    async def change(request: Request) -> Response:
        _refuse_tags(request)
        _, project, parameters = await _writing(request, services)
        number = _number_in_path(request)
        description = _description(parameters) if parameters.given("description") else None
        tags = _tags_of(parameters)
        if description is None and tags is None:
            raise QueryError(NOTHING, status=400)
        held = await in_thread(services, services.store.annotations.get, project.id, number)

        def call() -> Annotation:
            return services.store.annotations.change(project.id, number, description=description, tags=tags)

        changed = await _changed(services, call, status=404 if held is None else 400)
        return ok_response((await _views(services, project, [changed]))[0])

    return change


def _delete(services: Services) -> _Endpoint:
    async def delete(request: Request) -> Response:
        _refuse_tags(request)
        _, project, _ = await _writing(request, services)
        number = _number_in_path(request)
        await _changed(services, lambda: services.store.annotations.delete(project.id, number), status=404)
        return ok_response({"id": number})

    return delete


def _create_tag(services: Services) -> _Endpoint:
    async def create(request: Request) -> Response:
        _, project, parameters = await _writing(request, services)
        name = clean_text(parameters.text("name")).strip()
        if not name or len(name) > TAG_LIMIT_CHARS or not name.isprintable():
            raise QueryError(f"name, must be 1 to {TAG_LIMIT_CHARS} printable characters", status=400)
        tag = Tag(project.id, name)
        made = await _changed(services, lambda: services.store.annotations.create_tag(tag), status=400)
        return ok_response(_tag_view(made))

    return create


def _old_create(services: Services) -> _Endpoint:
    """Old clients write by GET, whether or not that is good manners; what is asked is what `POST` takes."""

    async def create(request: Request) -> Response:
        caller, project, parameters = await _writing(request, services)
        wanted = Annotation(
            project=project.id,
            moment=_moment(parameters, project),
            description=_description(parameters),
            creator=caller.name,
            created_ms=services.now_ms(),
        )
        made = await _changed(services, lambda: services.store.annotations.create(wanted), status=400)
        return _old_done(made.id)

    return create


def _old_update(services: Services) -> _Endpoint:
    async def update(request: Request) -> Response:
        _, project, parameters = await _writing(request, services)
        number = _old_number(parameters)
        moment = _moment(parameters, project) if parameters.given("date") else None
        description = _description(parameters) if parameters.given("description") else None
        if moment is None and description is None:
            raise QueryError(NOTHING_OLD, status=400)

        def call() -> Annotation:
            return services.store.annotations.change(
                project.id, number, moment=moment, description=description
            )

        return _old_done((await _changed(services, call, status=400)).id)

    return update


def _old_delete(services: Services) -> _Endpoint:
    async def delete(request: Request) -> Response:
        _, project, parameters = await _writing(request, services)
        number = _old_number(parameters)
        await _changed(services, lambda: services.store.annotations.delete(project.id, number), status=400)
        return _old_done(number)

    return delete


def _old_done(number: int) -> Response:
    return json_response(orjson.dumps({"error": False, "id": number}))


def _old_number(parameters: Parameters) -> int:
    number = parameters.integer("id", 0, low=1, high=ID_LIMIT)
    if not number:
        raise QueryError(NO_ID, status=400)
    return number


async def _writing(request: Request, services: Services) -> tuple[Caller, Project, Parameters]:
    refuse_other_sites(request)
    return await admitted_caller(request, services, roles=ANALYSTS, what="write annotations")


async def _changed(services: Services, call: Callable[[], _T], *, status: int) -> _T:
    """Run a change of the catalog in a thread; what the catalog refuses is answered with `status`."""
    try:
        return await to_its_end(services, call)
    except CatalogError as error:
        raise RequestError(f"annotation, {error.message}", status=status) from None


# --- parameters


def _refuse_tags(request: Request) -> None:
    """Raises what a path answers to a method that it does not take, where the path is that of the tags."""
    if request.path_params["annotation_id"] == "tags":
        raise HTTPException(405, headers={"Allow": "GET, HEAD, POST"})


def _number_in_path(request: Request) -> int:
    text: str = request.path_params["annotation_id"]
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(ID_LIMIT)) and int(text)):
        raise QueryError("Not Found", status=404)
    return int(text)


def _moment(parameters: Parameters, project: Project) -> str:
    """A moment as it is kept: in the project's zone, to the second. Raises `QueryError` (400)."""
    text = parameters.text("date").strip()
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            found = found.astimezone(zone_of(project.timezone))
    except (ValueError, OverflowError):
        raise QueryError(BAD_MOMENT, status=400) from None
    if found.date() < EARLIEST:
        raise QueryError(BAD_MOMENT, status=400)
    whole = datetime.combine(found.date(), time(found.hour, found.minute, found.second))
    return whole.isoformat(sep=" ")


def _description(parameters: Parameters) -> str:
    text = clean_text(parameters.text("description")).strip()
    if not text or len(text) > DESCRIPTION_LIMIT_CHARS:
        raise QueryError(BAD_DESCRIPTION, status=400)
    return text


def _tags_of(parameters: Parameters) -> tuple[int, ...] | None:
    """The tags that are given; None where nothing is said of them."""
    texts = parameters.strings("tags", limit=TAGS_PER_PROJECT)
    if texts is None:
        return None
    found = tuple(sorted(_numbers(texts)))
    if len(found) > TAGS_PER_ANNOTATION:
        raise QueryError(f"tags, an annotation has at most {TAGS_PER_ANNOTATION}", status=400)
    return found


def _numbers(texts: Any) -> set[int]:
    """Raises `QueryError` (400) where one is no number of a tag."""
    found = set()
    for text in texts:
        bare = text.strip()
        if not (bare.isascii() and bare.isdecimal() and len(bare) <= len(str(ID_LIMIT))):
            raise QueryError(BAD_TAGS, status=400)
        found.add(int(bare))
    return found
