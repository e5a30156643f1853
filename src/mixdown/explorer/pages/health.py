"""How the server does, as `mixdown doctor` says it: a sentence for each thing looked at, and the figures.

The API's answer enters; a page leaves, a part of which looks again by itself. An owner sees the server,
others their projects. A backup is passed on from the API as it is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from mixdown.explorer.frame import Frame, Problem, Visit
from mixdown.http.auth import OWNERS

HEALTH: Final = "/api/mixdown/health"
BACKUP: Final = "/api/mixdown/backup"
_ERROR_LIMIT_BYTES: Final = 65_536
_WORDS: Final = {"ok": "OK", "warn": "Look at this", "fail": "Broken"}
_VERDICTS: Final = {
    "ok": "All is well.",
    "warn": "It works; some things want a look.",
    "fail": "Something is broken.",
}


def routes(frame: Frame) -> list[Route]:
    """The routes of this page."""

    async def backup(visit: Visit) -> Response:
        return _OrPage(frame, visit, visit.relay("POST", BACKUP, body={}))

    page = frame.view("/health", "health/page.html", build, title="Health", section="health", server=True)
    return [
        *page,
        frame.fragment("/health/now", "health/now.html", build, server=True),
        frame.action("/health/backup", backup, roles=OWNERS, server=True),
    ]


async def build(visit: Visit) -> Mapping[str, Any]:
    """The answer of the API, with words for its states."""
    health = (await visit.ask("GET", HEALTH)).good()["results"]
    order = ("fail", "warn", "ok")
    health["checks"].sort(key=lambda check: order.index(check["status"]))
    return {
        "health": health,
        "words": _WORDS,
        "verdict": _VERDICTS[health["verdict"]],
        "may_back_up": health["scope"] == "server" and health.get("disk") is not None,
    }


class _OrPage(Response):
    """Passes an answer on, and makes a page of one that is an error."""

    def __init__(self, frame: Frame, visit: Visit, answer: Response) -> None:
        super().__init__()
        self._frame = frame
        self._visit = visit
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer as it comes, or the page that says why there is none."""
        failed = 0
        told = b""

        async def passing(message: Message) -> None:
            nonlocal failed, told
            if message["type"] == "http.response.start" and message["status"] >= 400:
                failed = message["status"]
            if not failed:
                await send(message)
            elif len(told) < _ERROR_LIMIT_BYTES:
                told += message.get("body", b"")

        await self._answer(scope, receive, passing)
        if failed:
            problem = Problem(_words_of(told), status=failed)
            page = await self._frame.error_page(self._visit.request, self._visit, problem)
            await page(scope, receive, send)


def _words_of(body: bytes) -> str:
    try:
        told = orjson.loads(body)
        return str(told["error"]).removeprefix("backup, ")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "The backup could not be made. The server's log says why."
