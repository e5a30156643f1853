"""The explorer put together: signing in, every page, static files, and the page that describes the API.

Services enter; routes for `make_app` leave, and the handler for browsers at `/`.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.explorer import docs, static_files
from mixdown.explorer.frame import Frame, not_found
from mixdown.explorer.pages import PAGES
from mixdown.explorer.session import Session
from mixdown.http.services import Services


class Explorer:
    """The explorer of one worker: `page` goes to `make_app` as its page, `routes()` as extra routes."""

    def __init__(self, services: Services) -> None:
        self._frame = Frame(services)
        self._session = Session(self._frame)

    def routes(self) -> list[Route]:
        """Every route of the explorer."""
        pages = [route for page in PAGES for route in page.routes(self._frame)]
        return [
            *self._session.routes(),
            *static_files.routes(),
            *docs.routes(self._frame.services),
            *pages,
            *not_found(self._frame),
        ]

    async def page(self, request: Request) -> Response:
        """What a browser gets at `/`."""
        return await self._session.home(request)
