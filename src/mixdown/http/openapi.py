"""`/openapi.json`: what this server answers, as an OpenAPI 3.1 document built from its own declarations.

The paths and methods that are served, and the settings, enter; a document leaves that names those and no
others. Shapes of bodies stand in `openapi_schemas*.json`, operations in `openapi_operations.py` and the files
that it puts together. It must never promise what no route keeps: `tests/hostile` compares it with the routes,
and with what the server answers.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mixdown import __version__
from mixdown.http.auxiliary import FIRST_TIME_EVENTS, PATHS, Auxiliary
from mixdown.http.ingestion import ENDPOINTS
from mixdown.http.lookup_tables import LISTING, REPLACING, LookupPath
from mixdown.http.openapi_operations import TAGS, operations
from mixdown.http.openapi_pieces import path_parameter
from mixdown.http.reading import COOKIE_PREFIX
from mixdown.settings import Settings

PATH: Final = "/openapi.json"
DESCRIPTION: Final = (
    "Mixdown is a self-hosted server that speaks Mixpanel's HTTP API. Writes name their project by the "
    "`$token` in each record; reads take a service account or the project's secret by Basic authentication. "
    "A path is known with or without a trailing slash and with doubled slashes, and is never redirected. "
    "A path that is not listed answers 404 (400 below `/api/query` and `/api/2.0`), a method that is not "
    "listed 405 with `Allow`. No credentials are looked at where none are listed."
)
SHARED_FROM: Final = 3
_KIND: Final = re.compile(r":\w+\}")
Document = dict[str, Any]
Served = Mapping[str, set[str]]


def routes() -> list[Route]:
    """The route of this file; the application keeps the document in its state."""
    return [Route(PATH, _openapi, methods=["GET"])]


async def _openapi(request: Request) -> Response:
    return Response(
        document_bytes(request.app.state.openapi),
        headers={"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"},
        media_type="application/json",
    )


@cache
def document_bytes(describe: Callable[[], Document]) -> bytes:
    """The document as it is sent; made once for each application."""
    return orjson.dumps(describe())


def path_of(route: Route) -> str:
    """A route's path as it is described and counted: without a slash at its end, or kinds of parameters."""
    return _KIND.sub("}", route.path).rstrip("/") or "/"


def served_paths(routes: list[BaseRoute], *, takes_writes: bool) -> dict[str, set[str]]:
    """Each path that an application with these routes answers, and its methods."""
    served: dict[str, set[str]] = {}
    for route in routes:
        assert isinstance(route, Route)
        if route.include_in_schema:  # the explorer's pages are for people
            served.setdefault(path_of(route), set()).update(route.methods or ())
    if takes_writes:
        served |= {path: {"GET", "POST", "OPTIONS"} for path in (f"/{name}" for name in ENDPOINTS)}
        auxiliary: tuple[Auxiliary | LookupPath, ...]
        auxiliary = (*PATHS.values(), FIRST_TIME_EVENTS, LISTING, REPLACING)
        served |= {path.name: {*path.methods, "OPTIONS"} for path in auxiliary}
    return served


def document(settings: Settings, served: Served) -> Document:
    """The OpenAPI document of a server with these settings that answers these paths."""
    described = operations(settings)
    paths: dict[str, Any] = {}
    for path, item in described.items():
        kept = {method: told for method, told in item.items() if method.upper() in served.get(path, ())}
        if "HEAD" in served.get(path, ()) and "get" in kept:
            kept["head"] = _head(kept["get"])
        if path.startswith(COOKIE_PREFIX):
            kept = {method: _with_cookie(told) for method, told in kept.items()}
        if kept:
            paths[path] = {**_path_parameters(path), **kept}
    used = {
        tag for item in paths.values() for told in item.values() if type(told) is dict for tag in told["tags"]
    }
    shared = _share_responses(paths)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Mixdown",
            "version": __version__,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "the server that this document came from"}],
        "tags": [tag for tag in TAGS if tag["name"] in used],
        "paths": paths,
        "components": {
            "schemas": _schemas(settings),
            "responses": shared,
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


SECURITY_SCHEMES: Final[Mapping[str, Any]] = {
    "account": {
        "type": "http",
        "scheme": "basic",
        "description": "A service account's name and password (`mixdown account create`).",
    },
    "secret": {
        "type": "http",
        "scheme": "basic",
        "description": "The project's secret as name, with an empty password. Reads its own project only.",
    },
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "mixdown_explorer",
        "description": "The explorer's cookie. It opens the explorer and, beside the header `X-CSRF-Token`, "
        "`/api/mixdown`; nothing else.",
    },
    "csrfToken": {
        "type": "apiKey",
        "in": "header",
        "name": "X-CSRF-Token",
        "description": "The token of the explorer's session, as its pages have it; beside the cookie.",
    },
}


def _with_cookie(told: Mapping[str, Any]) -> dict[str, Any]:
    """An operation of Mixdown's own API, which scripts of the explorer may ask too."""
    return {**told, "security": [*told["security"], {"cookie": [], "csrfToken": []}]}


def _share_responses(paths: Mapping[str, Any]) -> dict[str, Any]:
    """Move the responses that several operations have in common out of `paths`; returns them by name."""
    shared: dict[str, Any] = {}
    names: dict[bytes, str] = {}
    told = [
        operation["responses"]
        for item in paths.values()
        for method, operation in item.items()
        if method != "parameters"
    ]
    counts = Counter(orjson.dumps(response) for responses in told for response in responses.values())
    for responses in told:
        for status, response in responses.items():
            text = orjson.dumps(response)
            if counts[text] < SHARED_FROM:
                continue
            if text not in names:
                kin = sum(name.startswith(f"Status{status}") for name in shared)
                names[text] = f"Status{status}{chr(ord('A') + kin)}"
                shared[names[text]] = response
            responses[status] = {"$ref": f"#/components/responses/{names[text]}"}
    return shared


def _head(get: Mapping[str, Any]) -> dict[str, Any]:
    """The same without a body."""
    told = copy.deepcopy(dict(get))
    told["operationId"] += "Head"
    told["summary"] += " (headers only)"
    for response in told["responses"].values():
        response.pop("content", None)
    return told


def _path_parameters(path: str) -> dict[str, Any]:
    told = [path_parameter(part[1:-1]) for part in path.split("/") if part.startswith("{")]
    return {"parameters": told} if told else {}


def _schemas(settings: Settings) -> dict[str, Any]:
    schemas: dict[str, Any] = {}
    for text in _schema_texts():
        schemas |= orjson.loads(text)
    for name in ("UserRecords", "GroupRecords", "EventRecords", "ImportRecords"):
        schemas[name]["anyOf"][0]["maxItems"] = settings.records_per_request
    return schemas


@cache
def _schema_texts() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(Path(__file__).parent.glob("openapi_schemas*.json")))
