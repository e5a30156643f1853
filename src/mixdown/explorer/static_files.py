"""Style sheets, scripts and icons of the explorer, from memory.

A name below `static/` enters; its bytes leave, gzipped where the browser takes that, with an ETag. Under
the address that `asset` gives, which names the contents, a file is kept for good. Only files that were in
the folder when the server started are served: no name is ever opened as a path.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mixdown.explorer.policy import STATIC
from mixdown.http.paths import ANY_TEXT

FOLDER: Final = Path(__file__).parent / "static"
_TYPES: Final[Mapping[str, str]] = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
}
_FOR_GOOD: Final = "public, max-age=31536000, immutable"
_HASH_CHARS: Final = 12


class File(NamedTuple):
    """A file that is served: `zipped` is b"" where that saves nothing."""

    media_type: str
    body: bytes
    zipped: bytes
    digest: str


@cache
def files() -> Mapping[str, File]:
    """All files that are served, by their names; read once."""
    found = {}
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix in _TYPES and path.is_file():
            body = path.read_bytes()
            zipped = gzip.compress(body, 9, mtime=0)
            found[path.relative_to(FOLDER).as_posix()] = File(
                media_type=_TYPES[path.suffix],
                body=body,
                zipped=zipped if len(zipped) < len(body) and path.suffix != ".png" else b"",
                digest=sha256(body).hexdigest()[:_HASH_CHARS],
            )
    return found


def asset(name: str) -> str:
    """The address of a file, which changes with its contents. Raises `KeyError` for one that is not there."""
    return f"{STATIC}/{name}?v={files()[name].digest}"


def routes() -> list[Route]:
    """The route of this file."""
    return [Route(f"{STATIC}/{{name:{ANY_TEXT}}}", static_file, methods=["GET"])]


async def static_file(request: Request) -> Response:
    """One file."""
    file = (await asyncio.to_thread(files)).get(request.path_params["name"])
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    }
    if file is None:
        return Response("Not Found", 404, headers | {"Cache-Control": "no-store"}, media_type="text/plain")
    tag = f'"{file.digest}"'
    for_good = request.query_params.get("v") == file.digest
    headers |= {
        "Cache-Control": _FOR_GOOD if for_good else "no-cache",
        "ETag": tag,
        "Vary": "Accept-Encoding",
    }
    if tag in [
        given.strip().removeprefix("W/") for given in request.headers.get("if-none-match", "").split(",")
    ]:
        return Response(status_code=304, headers=headers)
    body = file.body
    if file.zipped and "gzip" in request.headers.get("accept-encoding", "").lower():
        headers["Content-Encoding"] = "gzip"
        body = file.zipped
    return Response(body, headers={**headers, "Content-Type": file.media_type})
