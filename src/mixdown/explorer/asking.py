"""Asking this server's own API, in process, as somebody who has signed in.

A request of a page, a caller and what is asked enter; the API's own answer leaves: its roles, limits,
waiting and errors are the only ones there are. The caller stands in the ASGI scope, which no client can
set. An answer is held whole, up to a limit; what may be longer is passed on as it comes (`relay`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlencode

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from mixdown.explorer.decoding import PIECE_BYTES, decoded
from mixdown.explorer.problems import Problem
from mixdown.http.app import APP_KEY
from mixdown.http.auth import CALLER_KEY, Caller
from mixdown.http.openapi import path_of

ANSWER_LIMIT_BYTES: Final = 32 * 1024 * 1024
GRACE_S: Final = 10
LIST_LIMIT_BYTES: Final = 8 * 1024 * 1024
"""Of profiles in a list: their values are decoded, and take thirty times the memory where they are small."""
TOO_LARGE: Final = (
    "This answer is larger than a page can take ({limit} MB). Ask for less: a filter, fewer days or columns,"
    " a smaller page."
)
TOO_LONG: Final = "The server took too long to answer. Ask for less, or try again later."
FAILED: Final = "The server could not answer this. Its log says why."
_KEPT: Final = ("content-type", "content-disposition", "x-mixdown-behind", "retry-after", "last-modified")
_SHOWN_FAILURES: Final = 5
_log = structlog.get_logger(__name__)
_Message = MutableMapping[str, Any]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


class Answer(NamedTuple):
    """What the API answered: JSON decoded, other types as text, None where there is no body."""

    status: int
    data: Any
    headers: Mapping[str, str]

    def good(self) -> Any:
        """The data; raises `Problem` with the API's own words where it is an error.

        A write says in its body whether it was stored: a verbose reply's `status` of 0 is an error too.
        """
        refused = type(self.data) is dict and self.data.get("status") == 0 and bool(self.data.get("error"))
        if self.status < 400 and not refused:
            return self.data
        raise Problem(error_text(self.data), status=max(self.status, 400))


def error_text(data: object) -> str:
    """The words of an error answer: its `error` and, of a batch, what was wrong with the first records."""
    if type(data) is not dict:
        return data if type(data) is str and data else FAILED
    text = data.get("error")
    told = [text] if type(text) is str and text else []
    failed = data.get("failed_records")
    for one in failed[:_SHOWN_FAILURES] if type(failed) is list else ():
        if type(one) is dict:
            field, message = one.get("field"), one.get("message")
            told.append(f"{field}: {message}" if field and field not in str(message) else str(message))
    return " ".join(told) or FAILED


def query_string(params: Mapping[str, Any] | None) -> str:
    """Parameters as a query string: None is left out, JSON stands for lists, objects and booleans."""
    return urlencode({name: _text(value) for name, value in (params or {}).items() if value is not None})


def _text(value: Any) -> str:
    return value if type(value) is str else orjson.dumps(value).decode()


class Inside(NamedTuple):
    """One request to the API that a page asks for: built by `inside`, run by `answer` or `relay`."""

    app: Asgi
    scope: Scope
    body: bytes
    outer: Request

    async def answer(self, *, limit_s: float, limit_bytes: int = 0) -> Answer:
        """The whole answer. Raises `Problem`: larger than a page takes (413), or too late (504)."""
        limit_bytes = limit_bytes or ANSWER_LIMIT_BYTES
        gathered = _Gathered(limit_bytes)
        receive = _receiver(self.body, self.outer, gathered.left)
        try:
            async with asyncio.timeout(limit_s or None):
                await self.app(self.scope, receive, gathered.send)
        except TimeoutError:
            raise Problem(TOO_LONG, status=504) from None
        except Exception as error:  # noqa: BLE001 - whatever it is, the page says so and goes on
            # the API has logged and answered what it raises on purpose: this is a fault of ours
            _log.exception("a page's question failed", path=route_of(self.outer), exc_info=error)
            if not gathered.status:
                raise Problem(FAILED, status=500) from None
        if gathered.left.is_set():
            raise Problem(TOO_LARGE.format(limit=limit_bytes // (1024 * 1024)), status=413)
        if gathered.size_bytes > PIECE_BYTES:
            return await asyncio.to_thread(gathered.answer)
        return gathered.answer()

    def relay(self, headers: Mapping[str, str], *, streamed: bool) -> Response:
        """A response that passes the API's answer on as it comes; `streamed`: the outer body goes in."""
        return _Relay(self, headers, streamed=streamed)


def inside(
    outer: Request,
    caller: Caller,
    method: str,
    path: str,
    *,
    params: Mapping[str, Any] | None = None,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
) -> Inside:
    """A request to the API as `caller`, in the course of the request `outer`."""
    raw = b"" if body is None else body if type(body) is bytes else orjson.dumps(body)
    sent = {"host": outer.headers.get("host", ""), "content-type": "application/json"}
    if body is None:
        del sent["content-type"]
    sent |= {name.lower(): value for name, value in (headers or {}).items()}
    if body is not None:
        sent["content-length"] = str(len(raw))
    scope: Scope = {
        "type": "http",
        "asgi": outer.scope.get("asgi", {"version": "3.0"}),
        "http_version": "1.1",
        "method": method,
        "scheme": outer.scope.get("scheme", "http"),
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query_string(params).encode(),
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in sent.items()],
        "client": outer.scope.get("client"),
        "server": outer.scope.get("server"),
        CALLER_KEY: caller,
    }
    return Inside(outer.scope[APP_KEY], scope, raw, outer)


def route_of(request: Request) -> str:
    """The path of a request's route, as the log names it: nothing that was sent is in it."""
    route = request.scope.get("route")
    return path_of(route) if isinstance(route, Route) else ""


class _Gathered:
    """Takes an answer as ASGI messages; past the limit it keeps nothing and says that it has left."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.status = 0
        self.left = asyncio.Event()
        self._headers: Iterable[tuple[bytes, bytes]] = ()
        self._pieces: list[bytes] = []
        self.size_bytes = 0

    async def send(self, message: _Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._headers = message.get("headers", ())
            return
        piece = message.get("body", b"")
        self.size_bytes += len(piece)
        if self.size_bytes > self._limit_bytes:
            self._pieces.clear()
            self.left.set()
        else:
            self._pieces.append(piece)

    def answer(self) -> Answer:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self._headers}
        body = b"".join(self._pieces)
        data: Any = None
        if body and "json" in headers.get("content-type", "").partition(";")[0]:
            try:
                data = decoded(body)
            except ValueError:
                data = body.decode("utf-8", "replace")  # one JSON text a line, say
        elif body:
            data = body.decode("utf-8", "replace")
        return Answer(self.status, data, headers)


def _receiver(body: bytes, outer: Request, left: asyncio.Event) -> Receive:
    """What the API receives: the body, then the word that nobody listens any more, once that is so."""
    given = False

    async def receive() -> _Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        leaving = asyncio.ensure_future(left.wait())
        gone = asyncio.ensure_future(_gone(outer))
        try:
            await asyncio.wait({leaving, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            gone.cancel()
        return {"type": "http.disconnect"}

    return receive


async def _gone(outer: Request) -> None:
    """Return once the browser has gone, or has its answer."""
    while (await outer.receive())["type"] != "http.disconnect":
        pass


class _Relay(Response):
    """Passes an answer on as it comes, under the headers of this room."""

    def __init__(self, asked: Inside, headers: Mapping[str, str], *, streamed: bool) -> None:
        super().__init__()
        self._asked = asked
        self._own = headers
        self._streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the API answers."""
        del scope

        async def passing(message: _Message) -> None:
            if message["type"] == "http.response.start":
                kept = [
                    pair for pair in message.get("headers", ()) if pair[0].decode("latin-1").lower() in _KEPT
                ]
                names = {name.lower() for name, _ in kept}
                own = ((name.lower().encode(), value.encode("latin-1")) for name, value in self._own.items())
                message = {**message, "headers": [*kept, *(pair for pair in own if pair[0] not in names)]}
            await send(message)

        taken = receive if self._streamed else _receiver(self._asked.body, self._asked.outer, asyncio.Event())
        await self._asked.app(self._asked.scope, taken, passing)
