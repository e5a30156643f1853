"""The projects that a visitor sees, and, for owners, making one. Its secret is shown once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from mixdown.explorer.confirming import still_seen
from mixdown.explorer.frame import Frame, Visit
from mixdown.explorer.pages.settings import PROJECTS
from mixdown.http.auth import OWNERS
from mixdown.model.names import ID_MERGE


def routes(frame: Frame) -> list[Route]:
    """The routes of this page."""

    async def create(visit: Visit) -> Response:
        form = await visit.form()
        still_seen(visit, form)
        body = {
            "name": form.text("name").strip(),
            "timezone": form.text("timezone").strip(),
            "id_merge": form.text("id_merge"),
        }
        made = (await visit.ask("POST", PROJECTS, body=body)).good()["results"]
        values = {"title": "Projects", "section": "projects", **await build(visit)}
        return frame.render(visit, "projects/page.html", **{**values, "made": made})

    page = frame.view(
        "/projects", "projects/page.html", build, title="Projects", section="projects", server=True
    )
    return [*page, frame.action("/projects/create", create, roles=OWNERS, server=True)]


async def build(visit: Visit) -> Mapping[str, Any]:
    """The projects, as the API lists them."""
    listed = (await visit.ask("GET", PROJECTS)).good()["results"]
    return {
        "projects": [
            {name: each[name] for name in ("id", "name", "role", "timezone", "id_merge", "created")}
            for each in listed
        ],
        "modes": list(ID_MERGE),
        "may_make": visit.may(OWNERS),
        "seen": visit.view.version,
        "made": None,
    }
