"""Cohorts over HTTP: `cohorts/list` as Mixpanel has it (contract query §5.1), and `/api/mixdown/cohorts`.

Requests with a service account or a project secret enter; cohorts of one project leave, with their counts.
Readers list, analysts and above make and delete. What a cohort means is decided by `query.cohorts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import orjson
from msgspec import structs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.auth import ANALYSTS, refuse_other_sites
from mixdown.http.parameters import Parameters
from mixdown.http.read_errors import answering
from mixdown.http.reading import (
    admitted,
    begin_read,
    in_event_thread,
    in_scan_thread,
    in_thread,
    json_response,
    ok_response,
    to_its_end,
)
from mixdown.http.services import Services
from mixdown.model.errors import CatalogError, QueryError, ReadTimeoutError, RequestError
from mixdown.query.choosing import group_key_of
from mixdown.query.cohorts import (
    CohortChange,
    Counted,
    checked_change,
    checked_ids,
    cohort_view,
    counted,
    new_cohort,
)
from mixdown.store.bounds import COHORT_IDS
from mixdown.store.chunk import FOR_ALL
from mixdown.store.protocols import Cohort, Project, Store

LIST_PATHS: Final = ("/api/query/cohorts/list", "/api/2.0/cohorts/list")
OWN_PATH: Final = "/api/mixdown/cohorts"
ID_LIMIT: Final = 2**53
TOO_LONG: Final = "cohorts, counting them took longer than {limit} s: make their expressions simpler"
FIXED: Final = "distinct_ids and data_group_id, these stay as they are: make another cohort"
ONE_OF_TWO: Final = "where, give either an expression or distinct_ids"
_T = TypeVar("_T")


def routes(services: Services) -> list[Route]:
    """The routes of this family."""
    return [
        *(Route(path, answering(_as_mixpanel(services)), methods=["GET", "POST"]) for path in LIST_PATHS),
        Route(OWN_PATH, answering(_own(services)), methods=["GET", "POST", "PATCH", "DELETE"]),
    ]


def _as_mixpanel(services: Services) -> Callable[[Request], Any]:
    async def listing(request: Request) -> Response:
        read = await begin_read(request, services, kinds=FOR_ALL)
        found = await _counts(services, read.project)
        keys = await in_thread(services, services.store.state.group_keys, read.project.id)
        body = orjson.dumps([mixpanel_view(each, keys) for each in found])
        return json_response(body, behind=read.behind)

    return listing


def _own(services: Services) -> Callable[[Request], Any]:
    async def listing(request: Request) -> Response:
        read = await begin_read(request, services, kinds=FOR_ALL)
        if read.parameters.boolean("counts", default=True):
            found = await _counts(services, read.project)
            return ok_response([cohort_view(each) for each in found], behind=read.behind)
        listed = await in_thread(services, services.store.cohorts.listing, read.project.id)
        return ok_response([cohort_view(Counted(cohort, None)) for cohort in listed], behind=read.behind)

    async def create(request: Request) -> Response:
        project, parameters = await _writing(request, services)
        now_ms = services.now_ms()

        def call() -> Cohort:
            cohort, ids = _asked(services.store, project.id, parameters, now_ms)
            return services.store.cohorts.create(cohort, ids)

        made = await _changed(services, call, status=400)
        try:
            found = await _count(services, [made])
        except (ReadTimeoutError, QueryError) as error:
            # nobody would ever see a figure of one that cannot be counted
            await _changed(services, lambda: services.store.cohorts.delete(project.id, made.id), status=404)
            raise (error if isinstance(error, QueryError) else _took_too_long(services)) from None
        return ok_response(cohort_view(found[0]))

    async def change(request: Request) -> Response:
        project, parameters = await _writing(request, services)
        number = _number(parameters)
        held = await in_thread(services, services.store.cohorts.get, project.id, number)
        wanted = await in_thread(services, _change_of, services, project.id, parameters, held)
        if held is not None:
            await _try(services, held, wanted)

        def call() -> Cohort:
            return services.store.cohorts.change(project.id, number, **wanted._asdict())

        changed = await _changed(services, call, status=404 if held is None else 400)
        found = await _count(services, [changed], lenient=True)
        return ok_response(cohort_view(found[0]))

    async def delete(request: Request) -> Response:
        project, parameters = await _writing(request, services)
        number = _number(parameters)
        await _changed(services, lambda: services.store.cohorts.delete(project.id, number), status=404)
        return ok_response({"id": number})

    by_method = {"GET": listing, "HEAD": listing, "POST": create, "PATCH": change, "DELETE": delete}

    async def own(request: Request) -> Response:
        return await by_method[request.method](request)

    return own


def _number(parameters: Parameters) -> int:
    number = parameters.integer("id", 0, low=1, high=ID_LIMIT)
    if not number:
        raise QueryError("id, missing: name the cohort", status=400)
    return number


def _change_of(services: Services, project: int, parameters: Parameters, held: Cohort | None) -> CohortChange:
    """What is to change: an empty text says nothing (contract query §1.3), a blank clears a description."""
    if parameters.given("distinct_ids") or parameters.given("data_group_id"):
        raise QueryError(FIXED, status=400)
    wanted = CohortChange(
        name=parameters.text("name") or None,
        description=parameters.text("description") or None,
        expression=parameters.text("where") or None,
        behaviors=parameters.value("behaviors") if parameters.given("behaviors") else None,
    )
    if not any(each is not None for each in wanted):
        raise QueryError("name, description, where, behaviors: give what is to change", status=400)
    return checked_change(services.store, project, wanted, held, now_ms=services.now_ms())


async def _writing(request: Request, services: Services) -> tuple[Project, Parameters]:
    refuse_other_sites(request)
    return await admitted(request, services, roles=ANALYSTS, what="write cohorts")


async def _counts(services: Services, project: Project) -> list[Counted]:
    try:
        listed = await in_thread(services, services.store.cohorts.listing, project.id)
        return await _count(services, listed, lenient=True)
    except ReadTimeoutError:
        raise _took_too_long(services) from None


async def _try(services: Services, held: Cohort, wanted: CohortChange) -> None:
    """Count a cohort as it is to be: of one that cannot be counted nobody would ever see a figure."""
    if held.expression is None or (wanted.expression is None and wanted.behaviors is None):
        return
    trial = structs.replace(
        held,
        expression=wanted.expression or held.expression,
        behaviors=held.behaviors if wanted.behaviors is None else wanted.behaviors,
    )
    try:
        await _count(services, [trial])
    except ReadTimeoutError:
        raise _took_too_long(services) from None


async def _count(services: Services, cohorts: Sequence[Cohort], *, lenient: bool = False) -> list[Counted]:
    """Cohorts with their counts; those that count events where events are read. Raises as `counted` does."""
    thread = in_event_thread if any(cohort.behaviors for cohort in cohorts) else in_scan_thread
    reads = services.event_reads
    told: dict[str, Any] = {"now_ms": services.now_ms(), "reads": reads, "lenient": lenient}
    return await thread(services, counted, services.store, cohorts, **told)


def _took_too_long(services: Services) -> QueryError:
    return QueryError(TOO_LONG.format(limit=f"{services.settings.read_timeout_s:g}"), status=400)


async def _changed(services: Services, call: Callable[[], _T], *, status: int) -> _T:
    """Run a change of the catalog in a thread; what the catalog refuses is answered with `status`."""
    try:
        return await to_its_end(services, call)
    except CatalogError as error:
        raise RequestError(f"cohort, {error.message}", status=status) from None


def _asked(store: Store, project: int, parameters: Parameters, now_ms: int) -> tuple[Cohort, list[str]]:
    """The cohort that the parameters describe, and its ids where it is a list."""
    ids = parameters.strings("distinct_ids", limit=COHORT_IDS)
    expression = parameters.text("where") or None
    if (ids is None) == (expression is None):
        raise QueryError(ONE_OF_TWO, status=400)
    cohort = new_cohort(
        store,
        project,
        parameters.text("name"),
        description=parameters.text("description"),
        group_key=group_key_of(store, project, parameters.text("data_group_id")),
        expression=expression,
        behaviors=parameters.value("behaviors") if parameters.given("behaviors") else None,
        now_ms=now_ms,
    )
    return cohort, checked_ids(ids or ())


def mixpanel_view(counted: Counted, group_keys: Mapping[str, int]) -> dict[str, Any]:
    """A cohort as Mixpanel's `cohorts/list` shows it; a count that is not known is 0 to its clients."""
    cohort = counted.cohort
    created = datetime.fromtimestamp(cohort.created_ms / 1000, UTC)
    return {
        "id": cohort.id,
        "name": cohort.name,
        "description": cohort.description,
        "count": counted.count or 0,
        "is_visible": 1,
        "created": created.strftime("%Y-%m-%d %H:%M:%S"),
        "project_id": cohort.project,
        "data_group_id": group_keys.get(cohort.group_key) if cohort.group_key else None,
    }
