"""`/docs`: the server's OpenAPI document as a page to read.

The document that the application keeps enters; HTML leaves, made on the server, with the policy of the
page at `/`: nothing from elsewhere, no script. It must never show what `/openapi.json` does not say.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson
from jinja2 import Environment, FileSystemLoader, Template
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown import __version__
from mixdown.explorer.policy import page_response, server_host
from mixdown.explorer.static_files import asset
from mixdown.http.services import Services

Document = Mapping[str, Any]
_CODE: Final = re.compile(r"`([^`]*)`")
_SHOWN: Final = ("get", "post", "put", "patch", "delete", "options")
_FOLDER: Final = Path(__file__).parent


def routes(services: Services) -> list[Route]:
    """The route of this file."""

    async def docs(request: Request) -> Response:
        """The page; made once for each application."""
        html = await asyncio.to_thread(_page, request.app.state.openapi)
        return page_response(html, server_host(request, services.settings))

    return [Route("/docs", docs, methods=["GET"])]


@cache
def _page(describe: Callable[[], dict[str, Any]]) -> str:
    document = describe()
    return _template().render(
        asset=asset,
        version=__version__,
        document=document,
        sections=list(sections(document)),
        schemas=document["components"]["schemas"],
    )


def sections(document: Document) -> Iterator[tuple[Mapping[str, Any], list[dict[str, Any]]]]:
    """Each tag with its operations, in the document's order; HEAD says nothing that GET does not."""
    told = [
        {
            **operation,
            "path": path,
            "method": method,
            "parameters": _parameters(item, operation),
            "responses": {
                status: _resolved(document, response) for status, response in operation["responses"].items()
            },
        }
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in _SHOWN
    ]
    for tag in document["tags"]:
        yield tag, [operation for operation in told if tag["name"] in operation["tags"]]


def _resolved(document: Document, response: Mapping[str, Any]) -> Mapping[str, Any]:
    """A reply, looked up where it is one that many operations share."""
    shared: Mapping[str, Any] = document["components"]["responses"]
    return shared[response["$ref"].rpartition("/")[2]] if "$ref" in response else response


def _parameters(item: Mapping[str, Any], operation: Mapping[str, Any]) -> list[Any]:
    return [*item.get("parameters", ()), *operation.get("parameters", ())]


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"prose": prose, "kind": kind, "pretty": pretty}
    return environment.get_template("docs.html")


def prose(text: str) -> Markup:
    """A sentence with its `code` marked up; everything else is escaped."""
    pieces = _CODE.split(text)
    return Markup().join(
        Markup("<code>{}</code>").format(piece) if at % 2 else escape(piece)
        for at, piece in enumerate(pieces)
    )


def kind(schema: Mapping[str, Any]) -> Markup:
    """What a schema allows, in a few words; named schemas are linked."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return Markup('<a href="#schema-{0}">{0}</a>').format(name)
    for key, word in (("anyOf", escape(" or ")), ("allOf", escape(" and "))):
        if key in schema:
            shown = [kind(one) for one in schema[key] if set(one) != {"required"}]
            if shown:
                return word.join(dict.fromkeys(shown))
    if "const" in schema:
        return Markup("<code>{}</code>").format(orjson.dumps(schema["const"]).decode())
    if "enum" in schema:
        return Markup(" or ").join(Markup("<code>{}</code>").format(one) for one in schema["enum"])
    return _plain_kind(schema)


def _plain_kind(schema: Mapping[str, Any]) -> Markup:
    types = schema.get("type", "any")
    word = escape(types if type(types) is str else " or ".join(types))
    if "items" in schema:
        word += Markup(" of ") + kind(schema["items"])
    if type(schema.get("additionalProperties")) is dict:
        word += Markup(" of ") + kind(schema["additionalProperties"])
    bounds = [f"{schema[key]}" if key in schema else "" for key in ("minimum", "maximum")]
    if any(bounds):
        word += escape(f", {bounds[0] or '…'} to {bounds[1] or '…'}")
    for key, text in (("maxLength", "at most {} characters"), ("maxItems", "at most {}")):
        if key in schema:
            word += escape(", " + text.format(schema[key]))
    return word


def pretty(value: object) -> str:
    """An example as text: JSON indented, texts as they are."""
    return value if type(value) is str else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
