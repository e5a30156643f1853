"""The paths beside ingestion that SDKs touch.

They answer benignly (contract ingestion §1.3): flags, remote settings and `decide` say that there is nothing;
session recordings are taken, counted and discarded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from mixdown.http.exchange import READ_ON_FACTOR, Receive, Request, discard_body
from mixdown.http.reply import Reply, json_reply
from mixdown.http.reply import too_large as too_large_reply
from mixdown.http.services import Services
from mixdown.model import texts

_TAKEN: Final[Mapping[str, Any]] = {"code": 200, "status": "OK"}
_NOTHING_DECIDED: Final[Mapping[str, Any]] = {
    "notifications": [],
    "config": {},
    "surveys": [],
    "event_bindings": [],
    "variants": [],
}


class Auxiliary(NamedTuple):
    """A path with one fixed reply: `name` is its name in metrics, `methods` what it takes."""

    name: str
    methods: tuple[str, ...]
    reply: Reply

    @property
    def allow(self) -> str:
        """The `Allow` header's text."""
        return ", ".join((*self.methods, "OPTIONS"))


PATHS: Final[Mapping[str, Auxiliary]] = {
    path.name: path
    for path in (
        Auxiliary("/flags", ("GET",), json_reply(200, {"flags": {}})),
        Auxiliary("/flags/definitions", ("GET",), json_reply(200, {"flags": []})),
        Auxiliary("/settings", ("GET",), json_reply(200, {"sdk_config": {"config": {}}})),
        Auxiliary("/record", ("POST",), json_reply(200, _TAKEN)),
        Auxiliary("/decide", ("GET",), json_reply(200, _NOTHING_DECIDED)),
    )
}
FIRST_TIME_EVENTS: Final = Auxiliary("/flags/{id}/first-time-events", ("POST",), json_reply(200, _TAKEN))


def auxiliary_path(path: str) -> Auxiliary | None:
    """What answers at a canonical path, None where it is no auxiliary path."""
    found = PATHS.get(path)
    if found is not None:
        return found
    parts = path.split("/")
    if len(parts) == 4 and parts[1] == "flags" and parts[3] == "first-time-events":
        return FIRST_TIME_EVENTS
    return None


class AuxiliaryPaths:
    """Answers auxiliary paths; what they are sent is read, counted and forgotten."""

    def __init__(self, services: Services) -> None:
        self._metrics = services.metrics
        self._limit_bytes = services.settings.body_limit_bytes

    async def answer(self, path: Auxiliary, request: Request, receive: Receive) -> tuple[Reply, bool]:
        """The reply, and whether to close the connection after it. Raises `DisconnectedError`."""
        if request.method == "GET":
            return path.reply, False
        body = await discard_body(receive, READ_ON_FACTOR * self._limit_bytes)
        self._metrics.auxiliary(path.name, body.size_bytes)
        if not body.complete:
            message = texts.BODY_TOO_LARGE.format(limit=READ_ON_FACTOR * self._limit_bytes)
            return too_large_reply(message), True
        return path.reply, False
