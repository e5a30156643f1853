"""`/api/mixdown/profiles`: a list of profiles that is quick on millions, and all of them as a file.

Requests with a service account or a project secret enter. A page of the list leaves, by `query.listing`, or a
file that is sent while it is made, by `query.profiles_file`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.engage import PROPERTIES_LIMIT, counts_events, filters_of, kinds_of
from mixdown.http.parameters import Parameters
from mixdown.http.read_errors import answering
from mixdown.http.reading import begin_read, in_event_thread, in_scan_thread, in_thread, json_response
from mixdown.http.services import Services
from mixdown.http.streaming import streamed
from mixdown.model.errors import QueryError
from mixdown.model.values import clean_text
from mixdown.query.choosing import Filters
from mixdown.query.listing import (
    DEFAULT_LIMIT,
    DEFAULT_LOOK_MS,
    LIMIT_LIMIT,
    LOOK_LIMIT_MS,
    ListQuery,
    list_answer,
)
from mixdown.query.profiles_file import FORMATS, ProfilesFile, file_pieces
from mixdown.store.protocols import Project

PATH: Final = "/api/mixdown/profiles"
FILE_PATH: Final = f"{PATH}/export"
ID_COLUMN: Final = "$distinct_id"
TYPES: Final = {
    "csv": "text/csv; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
UNSORTED: Final = "sort_key, this list goes by ids: /api/query/engage and /api/mixdown/profiles/export sort"


def routes(services: Services) -> list[Route]:
    """The routes of this family."""

    async def listing(request: Request) -> Response:
        read = await begin_read(request, services, kinds_of=kinds_of)
        query = list_query(read.project.id, read.parameters)
        thread = in_scan_thread if query.filters.are_given else in_thread
        if await counts_events(services, query.project, query.filters):
            thread = in_event_thread
        answer = await thread(
            services,
            list_answer,
            services.store,
            query,
            now_ms=services.now_ms(),
            reads=services.event_reads,
            members=services.members,
        )
        return json_response(answer, behind=read.behind)

    async def export(request: Request) -> Response:
        read = await begin_read(request, services, kinds_of=kinds_of)
        asked = _file(read.project.id, read.parameters)
        now_ms = services.now_ms()
        pieces = file_pieces(services.store, asked, now_ms=now_ms, reads=services.event_reads)
        response = await streamed(request, services, pieces, TYPES[asked.form], behind=read.behind)
        name = file_name(read.project, asked, now_ms=now_ms)
        response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return response

    return [
        Route(PATH, answering(listing), methods=["GET"]),
        Route(FILE_PATH, answering(export), methods=["GET"]),
    ]


def list_query(project: int, parameters: Parameters) -> ListQuery:
    """What the parameters ask for. Raises `QueryError` (400) naming the parameter that is wrong."""
    filters = _filters(parameters)
    if filters.sort_key:
        raise QueryError(UNSORTED, status=400)
    return ListQuery(
        project=project,
        filters=filters,
        output_properties=parameters.strings("output_properties", limit=PROPERTIES_LIMIT),
        after=clean_text(parameters.text("after")),
        limit=parameters.integer("limit", DEFAULT_LIMIT, low=1, high=LIMIT_LIMIT),
        look_ms=parameters.integer("look_ms", DEFAULT_LOOK_MS, low=1, high=LOOK_LIMIT_MS),
    )


def file_name(project: Project, asked: ProfilesFile, *, now_ms: int) -> str:
    """`shop-users-2026-11-22.csv`: what is neither letter nor digit nor safe in every system is a dash."""
    day = datetime.fromtimestamp(now_ms / 1000, UTC).date().isoformat()
    kind = asked.filters.data_group_id or "users"
    parts = [_plain(project.name) or f"project-{project.id}", _plain(kind) or "groups", day]
    return f"{'-'.join(parts)}.{asked.form}"


def _plain(text: str) -> str:
    found = "".join(c if c.isascii() and c.isalnum() else "-" for c in text[:60])
    return "-".join(part for part in found.split("-") if part).lower()


def _filters(parameters: Parameters) -> Filters:
    """As `engage` reads them; `group_key` is the clearer name of `data_group_id`."""
    filters = filters_of(parameters)
    group_key = parameters.text("group_key")
    if group_key and filters.data_group_id and group_key != filters.data_group_id:
        raise QueryError("group_key, give either this or data_group_id", status=400)
    return msgspec.structs.replace(filters, data_group_id=group_key) if group_key else filters


def _file(project: int, parameters: Parameters) -> ProfilesFile:
    form = parameters.text("format") or FORMATS[0]
    if form not in FORMATS:
        raise QueryError(f"format, must be one of {', '.join(FORMATS)}", status=400)
    names = parameters.strings("output_properties", limit=PROPERTIES_LIMIT)
    if names is not None:
        names = tuple(name for name in dict.fromkeys(names) if name != ID_COLUMN)
    return ProfilesFile(project=project, filters=_filters(parameters), form=form, names=names)
