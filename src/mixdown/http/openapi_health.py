"""How the server does, what a project takes, and backups, as OpenAPI has them.

Settings enter; operations by path and method leave.
"""

from __future__ import annotations

from typing import Any

from mixdown.http import backups, own_health
from mixdown.http.openapi_pieces import (
    READERS,
    Operation,
    content,
    operation,
    read_errors,
    ref,
    response,
)
from mixdown.http.own import PREFIX
from mixdown.settings import Settings


def operations(settings: Settings) -> dict[str, dict[str, Operation]]:
    """The operations of this family."""
    del settings
    storage = f"{PREFIX}/projects/{{project_id}}/storage"
    kept = operation(
        "projectStorage",
        "Mixdown",
        "What is kept of a project",
        "Profiles, events, files, refusals, lookup tables and cohorts, with bytes where they are known.",
        read_errors(storage)
        | {
            "200": response("As asked.", content(_envelope("Storage"))),
            "404": response("There is none of that number.", content(ref("ReadError"))),
        },
        security=READERS,
    )
    return {own_health.PATH: {"get": _health()}, storage: {"get": kept}, backups.PATH: {"post": _backup()}}


def _envelope(name: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"status": {"const": "ok"}, "results": ref(name)},
        "required": ["status", "results"],
    }


def _health() -> Operation:
    return operation(
        "health",
        "Mixdown",
        "How the server does",
        "A sentence for each thing looked at, and the figures behind them. An owner learns of the whole "
        "server; others whether records are taken, how fresh answers are, and what their projects hold.",
        read_errors(own_health.PATH) | {"200": response("As asked.", content(_envelope("Health")))},
        security=READERS,
    )


def _backup() -> Operation:
    return operation(
        "backup",
        "Mixdown",
        "An archive of the whole data folder",
        "As `mixdown backup -` writes it, sent while it is made: one without `manifest.json` at its end was "
        "cut off. It holds tokens, hashes of secrets, and all data. One at a time, else 503. Needs the role "
        "owner.",
        read_errors(backups.PATH)
        | {
            "200": response(
                "A tar archive.",
                content({"type": "string", "format": "binary"}, media=backups.MEDIA),
                Content_Disposition="Names the file.",
            )
        },
        security=[{"account": []}],
    )
