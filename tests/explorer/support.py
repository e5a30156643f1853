"""Pages of the tests' own, on the explorer's foundation, and the habits of browsers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from typing import Any

import httpx
from jinja2 import ChoiceLoader, DictLoader
from starlette.responses import Response
from starlette.routing import BaseRoute

from mixdown.explorer import static_files
from mixdown.explorer.frame import Frame, Visit, not_found, see_other
from mixdown.explorer.session import Session
from mixdown.http.app import make_app
from mixdown.http.auth import ADMINS, ANALYSTS, OWNERS
from tests.reads.support import PASSWORD, World

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
HTMX = {"HX-Request": "true", "Accept": "*/*"}
SIGN_IN, SIGN_OUT = "/explorer/sign-in", "/explorer/sign-out"
NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
TEMPLATES = {
    "page.html": '{% extends "base.html" %}{% block main %}<p id="shown">{{ shown }}</p>{% endblock %}',
    "part.html": '<p id="part">{{ shown }}</p>',
}

Build = Callable[[Visit], Any]


class Site:
    """A world whose explorer has the pages of `made`, which gets the frame; the browser is `client`."""

    def __init__(self, world: World, made: Callable[[Frame], Sequence[BaseRoute]]) -> None:
        self.world = world
        self.frame = Frame(world.services)
        loader = self.frame.environment.loader
        assert loader is not None
        own = ChoiceLoader([DictLoader(TEMPLATES), loader])
        self.frame.environment = self.frame.environment.overlay(loader=own)
        session = Session(self.frame)
        self.routes = [*session.routes(), *static_files.routes(), *made(self.frame), *not_found(self.frame)]
        self.app = make_app(world.services, extra_routes=self.routes, page=session.home)
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.app, client=("192.0.2.7", 4711)),
            base_url="http://mixdown.test",
        )

    @property
    def here(self) -> str:
        """The address of the project's pages."""
        return f"/explorer/{self.world.project.id}"

    def sign_in(self, username: str) -> None:
        """Sign in as this account."""
        self.client.cookies.clear()
        form = {"username": username, "password": PASSWORD}
        reply = self.world.run(self.client.post(SIGN_IN, data=form))
        assert reply.status_code == 303, reply.text

    def get(self, target: str, **headers: str) -> httpx.Response:
        """GET as a browser does."""
        sent = {"Accept": BROWSER, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return self.world.run(self.client.get(target, headers=sent))

    def post(self, target: str, form: Mapping[str, str], **headers: str) -> httpx.Response:
        """Send a form."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.world.run(self.client.post(target, data=dict(form), headers=sent))

    def csrf(self) -> str:
        """The token of the session, as a page has it."""
        tags = tags_of(self.get(f"{self.here}/page"))
        return next(str(a["content"]) for tag, a in tags if tag == "meta" and a.get("name") == "csrf-token")

    def close(self) -> None:
        """End the browser."""
        self.world.loop.run_until_complete(self.client.aclose())


def plain_pages(frame: Frame) -> list[BaseRoute]:
    """A page, a part, a form and a stream: `seen` of the page is the parameter `q`."""

    async def build(visit: Visit) -> Mapping[str, Any]:
        await asyncio.sleep(0)
        return {"shown": visit.text("q"), "project": visit.project.id}

    async def server_build(visit: Visit) -> Mapping[str, Any]:
        await asyncio.sleep(0)
        return {"shown": visit.role}

    async def do(visit: Visit) -> Response:
        form = await visit.form()
        return see_other(visit.path("page"), notice=f"Kept {form.text('word')}.")

    async def raw(visit: Visit) -> Response:
        await asyncio.sleep(0)
        return Response(visit.text("q"), media_type="text/plain")

    return [
        *frame.view("/page", "page.html", build, title="A page", section="users"),
        *frame.view("/analysts", "page.html", build, roles=ANALYSTS, title="Analysts", section="users"),
        *frame.view("/whole", "page.html", server_build, title="Whole", section="health", server=True),
        *frame.view("/owned", "page.html", server_build, roles=OWNERS, title="O", section="", server=True),
        frame.fragment("/page/part", "part.html", build),
        frame.action("/page/keep", do, roles=ADMINS),
        frame.raw("/page/raw", raw),
    ]


class _Tags(HTMLParser):
    """Every tag with its attributes, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def tags_of(reply: httpx.Response) -> list[tuple[str, dict[str, str | None]]]:
    """The tags of an answer."""
    parser = _Tags()
    parser.feed(reply.text)
    return parser.tags
