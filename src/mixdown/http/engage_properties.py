"""`engage/properties`: the names and types of all properties (contract query §2.5). GET and POST.

Requests enter; the fold's counts leave, by `query.properties`. `where` and `limit`, which two clients add,
change nothing (contract query §1.3, §9.2 Q17).
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.http.read_errors import answering
from mixdown.http.reading import begin_read, in_thread, json_response
from mixdown.http.services import Services
from mixdown.query.properties import properties_answer

PATHS: Final = ("/api/query/engage/properties", "/api/2.0/engage/properties")
WAIT_LIMIT_MS: Final = 20
"""What is asked for here may be seconds old, so it waits for the fold no longer than this."""


def routes(services: Services) -> list[Route]:
    """The routes of the properties (slashes at their end are the application's business)."""

    async def properties(request: Request) -> Response:
        read = await begin_read(request, services, wait_limit_ms=WAIT_LIMIT_MS)
        body = await in_thread(
            services,
            properties_answer,
            services.store.state,
            read.project.id,
            read.parameters.text("data_group_id"),
            now_ms=services.now_ms(),
        )
        return json_response(body, behind=read.behind)

    return [
        Route(path + slash, answering(properties), methods=["GET", "POST"])
        for path in PATHS
        for slash in ("", "/")
    ]
