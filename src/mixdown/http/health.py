"""`/livez`, `/readyz` and `/metrics`: what a machine asks to learn how the server does.

A request enters; a small JSON body or Prometheus' text leaves. `/readyz` means "can append" and says why
not; a late fold shows in `/metrics`. Nothing here tells about records, and `/metrics` wants a service
account unless it is asked from this machine (DESIGN §7).
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
from pathlib import Path
from typing import Final

import orjson
import structlog
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.exposition import Seen, exposition
from mixdown.http.metrics import Metrics
from mixdown.http.read_errors import answering
from mixdown.http.reading import authenticated
from mixdown.http.services import Services
from mixdown.model.errors import StoreError

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SHARED_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
_log = structlog.get_logger(__name__)
_FORWARDED: Final = ("x-forwarded-for", "forwarded", "x-real-ip")


def routes(services: Services) -> list[Route]:
    """The routes of this file."""

    async def livez(request: Request) -> Response:
        del request
        return _json(200, {"status": "ok"})

    async def readyz(request: Request) -> Response:
        del request
        try:
            reason = await asyncio.to_thread(services.ingest.closed_because)  # reads may keep theirs busy
        except StoreError as error:
            _log.error("the store cannot be read", exc_info=error)
            reason = "the store cannot be read: the server's log says why"
        if reason:
            return _json(503, {"status": "unavailable", "reasons": [reason]})
        return _json(200, {"status": "ok", "reasons": []})

    async def metrics(request: Request) -> Response:
        if not asked_from_here(request):
            await authenticated(request, services)
        body = await asyncio.to_thread(_exposition, services)
        return Response(body, headers={"Content-Type": METRICS_TYPE, "Cache-Control": "no-store"})

    return [
        Route("/livez", livez, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", answering(metrics), methods=["GET"]),
    ]


def asked_from_here(request: Request) -> bool:
    """Whether the peer is this machine itself, and not a proxy on it that speaks for somebody else."""
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    try:
        address = ipaddress.ip_address(request.client.host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _exposition(services: Services) -> bytes:
    shared = os.environ.get(SHARED_VARIABLE)
    counters = services.metrics
    seen = Seen(
        store=services.store,
        settings=services.settings,
        now_ms=services.now_ms(),
        ready=not services.ingest.closed_because(),
    )
    own = counters.registry if isinstance(counters, Metrics) else CollectorRegistry()
    return exposition(own, Path(shared) if shared else None, seen)


def _json(status: int, content: object) -> Response:
    return Response(
        orjson.dumps(content),
        status_code=status,
        headers={"Cache-Control": "no-store"},
        media_type="application/json",
    )
