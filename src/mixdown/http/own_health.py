"""`/api/mixdown/health`: how the server does, in sentences and in figures, as `mixdown doctor` has it.

Requests with a service account or a project's secret enter. An owner learns all about the server; everyone
else whether records are taken, how fresh answers are, and what their own projects hold. No secret is told.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown import __version__
from mixdown.http import metrics
from mixdown.http.auth import READERS, require
from mixdown.http.health import SHARED_VARIABLE
from mixdown.http.own import PREFIX, project_view
from mixdown.http.read_errors import answering
from mixdown.http.reading import authenticated, in_thread, ok_response
from mixdown.http.services import Services
from mixdown.http.tally import Metric
from mixdown.query.findings import Finding, worst
from mixdown.query.health import (
    Counted,
    Seen,
    server_facts,
    server_findings,
    shared_findings,
    waiting_of,
)
from mixdown.query.processes import server_processes
from mixdown.settings import Settings
from mixdown.store.protocols import Account, Project, Store

PATH: Final = f"{PREFIX}/health"
_WANTED: Final[tuple[Metric, ...]] = (
    metrics.PROCESS_UP,
    metrics.PROCESS_START,
    metrics.PROCESS_RESTARTS,
    metrics.FOLD_FAULTS,
    metrics.FOLD_FAILED,
    metrics.EVENTS_FAULTS,
    metrics.CERTIFICATE_END,
)
_Values = dict[str, dict[str, float]]


def routes(services: Services) -> list[Route]:
    """The route of this file."""

    async def health(request: Request) -> Response:
        caller, view = await authenticated(request, services)
        require(caller, READERS, "read")
        if caller.is_owner:
            accounts = list(view.accounts.values())
            return ok_response(await in_thread(services, of_server, services, accounts))
        seen = [project for project in view.projects.values() if caller.sees(project.id)]
        return ok_response(await in_thread(services, of_projects, services, seen))

    return [Route(PATH, answering(health), methods=["GET"])]


def of_server(services: Services, accounts: Sequence[Account]) -> dict[str, Any]:
    """All that an owner learns. Blocks."""
    readers = waiting_of(services.store, services.now_ms())
    seen = Seen(
        store=services.store,
        settings=_placed(services),
        now_ms=services.now_ms(),
        closed_because=services.ingest.closed_because(),
        accounts=accounts,
        counted=counted(),
        processes=server_processes(),
    )
    return {
        **_told("server", server_findings(seen, readers)),
        "readers": [msgspec.to_builtins(each) for each in readers],
        **server_facts(seen, readers),
        "versions": {
            "mixdown": __version__,
            "python": platform.python_version(),
            "sqlite": apsw.sqlite_lib_version(),
            "apsw": apsw.apsw_version(),
        },
    }


def _placed(services: Services) -> Settings:
    """The settings, with the folder that the store really has."""
    folder = getattr(services.store, "folder", None)
    return services.settings if folder is None else replace(services.settings, data_dir=folder)


def of_projects(services: Services, projects: Sequence[Project]) -> dict[str, Any]:
    """What those learn who see some projects alone. Blocks."""
    store: Store = services.store
    readers = waiting_of(store, services.now_ms())
    refused = store.refusals.counts()
    return {
        **_told("projects", list(shared_findings(services.ingest.closed_because(), readers))),
        "readers": [
            {
                "reader": each.reader,
                "behind_records": each.behind_records,
                "behind_seconds": each.behind_seconds,
            }
            for each in readers
        ],
        "projects": [
            project_view(store, project, refused.get(project.id, (0, 0))[0]) for project in projects
        ],
    }


def _told(scope: str, findings: list[Finding]) -> dict[str, Any]:
    return {
        "scope": scope,
        "verdict": worst(findings),
        "checks": [msgspec.to_builtins(finding) for finding in findings],
    }


def counted() -> Counted:
    """What all processes of this server count, where they share it. Blocks."""
    shared = os.environ.get(SHARED_VARIABLE)
    if not shared or not Path(shared).is_dir():
        return Counted()
    values = _values(Path(shared))

    def total(metric: Metric) -> int:
        return int(sum(values.get(metric.name, {}).values()))

    def by_process(metric: Metric) -> dict[str, float]:
        return values.get(metric.name, {})

    return Counted(
        starts=by_process(metrics.PROCESS_START),
        up={name: bool(up) for name, up in by_process(metrics.PROCESS_UP).items()},
        restarts={name: int(times) for name, times in by_process(metrics.PROCESS_RESTARTS).items()},
        fold_faults=total(metrics.FOLD_FAULTS),
        fold_failed=total(metrics.FOLD_FAILED),
        events_faults=total(metrics.EVENTS_FAULTS),
        certificate_end_s=max(values.get(metrics.CERTIFICATE_END.name, {}).values(), default=0.0),
    )


def _values(shared: Path) -> _Values:
    """The metrics that are wanted, each with its values by process ("" where it has no label)."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(shared))  # type: ignore[no-untyped-call]
    wanted = {metric.name for metric in _WANTED}
    found: _Values = {}
    for family in registry.collect():
        for sample in family.samples:
            if sample.name in wanted:
                values = found.setdefault(sample.name, {})
                name = sample.labels.get("process", "")
                values[name] = values.get(name, 0.0) + sample.value
    return found
