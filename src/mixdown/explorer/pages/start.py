"""The start page of a project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.routing import Route

from mixdown.explorer.frame import Frame, Visit
from mixdown.http.auth import ANALYSTS


def routes(frame: Frame) -> list[Route]:
    """The routes of this page."""
    return frame.view("", "start/start.html", build, title="Start", section="start")


async def build(visit: Visit) -> Mapping[str, Any]:
    """What the project holds."""
    status = (await visit.ask("GET", "/api/mixdown/status")).good()["results"]
    token = visit.project.token if visit.may(ANALYSTS) else ""
    return {"project": status["projects"][0], "token": token}
