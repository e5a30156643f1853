"""One HTTP connection, with bounds on everything that a client can make long or slow.

uvicorn has no limit on the size or time of headers, on the time of a body, or on a client that does not
read its answer (DESIGN G7). This room adds them to its httptools protocol and takes nothing away. Bytes
enter, requests to the ASGI application leave; it never looks into a body.

It leans on uvicorn's internals (`cycle`, `pipeline`, `flow`), so `pyproject.toml` caps uvicorn's version
and `tests/operations/test_connections.py` speaks to it through raw sockets.
"""

from __future__ import annotations

import asyncio
import enum
import json
import math
import select
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, ClassVar, Final, cast

import httptools
import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from mixdown.http.resends import CONNECTION
from mixdown.server.crowd import Crowd
from mixdown.settings import Settings

HEADER_COUNT_LIMIT: Final = 1000
URL_PARSER_LIMIT_BYTES: Final = 65_000
LINGER_S: Final = 2.0
_WRITE_PAUSE_S: Final = 0.001
_LONGEST_WRITE_PAUSE_S: Final = 0.05
_CLIENT_CLOSED: Final = getattr(select, "POLLRDHUP", 0)  # Linux alone tells that before the end is read
_HOP_HEADERS: Final = frozenset({b"upgrade", b"connection", b"http2-settings"})

App = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]],
    Awaitable[None],
]


class ConnectionLimits(msgspec.Struct, frozen=True):
    """How long, large and many: bytes of one request's head, seconds, connections of one worker."""

    header_bytes: int
    header_s: float
    body_s: float
    idle_s: float
    connections: int

    @classmethod
    def of(cls, settings: Settings) -> ConnectionLimits:
        """The limits that the settings name."""
        return cls(
            header_bytes=settings.header_limit_bytes,
            header_s=settings.header_timeout_s,
            body_s=settings.body_timeout_s,
            idle_s=settings.idle_timeout_s,
            connections=settings.connection_limit,
        )


class _Stage(enum.Enum):
    """What a connection waits for; every stage but BUSY has a deadline."""

    NEW = enum.auto()  # the first byte
    HEAD = enum.auto()  # the rest of a request's headers
    BODY = enum.auto()  # the rest of a request's body
    BUSY = enum.auto()  # our own answer
    IDLE = enum.auto()  # the next request
    LINGER = enum.auto()  # the client to read a refusal and close


class _RefusedError(Exception):
    """Raised inside a parser's callback to stop it: the request is answered with `status` at once."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class _Flow(FlowControl):
    """Does not read on while requests are queued, so that a connection queues at most one read's worth."""

    def __init__(self, transport: asyncio.Transport, pipeline: object) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if not self._pipeline:
            super().resume_reading()


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits. A worker has its `crowd` look at every connection once a second."""

    limits: ClassVar[ConnectionLimits]
    crowd: ClassVar[Crowd]
    busy_app: ClassVar[Callable[..., Awaitable[None]]]
    count_refusal: ClassVar[Callable[[int], None]]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, CONNECTION: self}, _loop)
        self._lost: Exception | bool = False  # what the connection was lost with, True for nothing
        self.part = 0  # the crowd's own
        self._stage = _Stage.NEW
        self._deadline = self.loop.time() + self.limits.header_s
        self._in_head = False  # between a request's first byte and the end of its headers
        self._in_message = False  # between a request's first byte and the end of its body
        self._begun = 0  # requests that began in the piece of data under way
        self._head_fed = 0  # at most so many bytes of the head under way have come
        self._head_bytes = 0  # at least so many
        self._measure_head = False
        self._upgrade = False
        self._refused = False
        self._refusal: _RefusedError | None = None
        self._stuck_since = math.inf  # when the client stopped reading

    # --- connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self.crowd.join(self)
        open_connections = len(self.connections)
        if open_connections > self.limits.connections and not self.crowd.make_room(self.loop.time()):
            self.app = type(self).busy_app
            type(self).count_refusal(HTTPStatus.SERVICE_UNAVAILABLE)
            if open_connections > self.limits.connections + self.limits.connections // 10 + 100:
                transport.abort()  # too many even to be told

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.crowd.leave(self)
        self._deadline = math.inf
        self._lost = exc or True

    def is_cut(self) -> bool:
        """Whether the client has closed or reset the connection, noticed by the event loop or not."""
        return self.transport.is_closing() or bool(self._poll(_CLIENT_CLOSED))

    async def has_written(self) -> bool:
        """Wait until all that was sent is with the system; false where the connection was lost before."""
        pause_s = 0.0
        while not self._lost:
            await asyncio.sleep(pause_s)  # uvloop writes at the end of each round
            left = self.transport.get_write_buffer_size()
            if left == 0 and not self.transport.is_closing() and not self._poll(0):
                return True
            pause_s = min(pause_s + _WRITE_PAUSE_S, _LONGEST_WRITE_PAUSE_S)
        # closed by us, after the reply, is no loss
        return self._lost is True and not self._stuck()

    def _stuck(self) -> bool:
        return self._stuck_since < math.inf

    def _poll(self, events: int) -> int:
        """What the system says of the socket: the asked events, errors and hang-ups."""
        sock = self.transport.get_extra_info("socket")
        fd = -1 if sock is None else sock.fileno()
        if fd < 0:
            return select.POLLHUP
        poller = select.poll()
        poller.register(fd, events)
        found = poller.poll(0)
        return found[0][1] if found else 0

    # --- bytes in

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        size = len(data)
        was_in_head, was_idle = self._in_head, not self._in_message
        self._begun = 0
        self._measure_head = self._head_fed + size > self.limits.header_bytes
        try:
            self._feed(data)
            if self._in_head:
                continued = was_in_head and not self._begun
                self._bound_head(size, continued=continued, alone=was_idle and self._begun == 1)
            else:
                self._head_fed = self._head_bytes = 0
        except _RefusedError as refusal:
            self._refuse(refusal.status, refusal.message)
        else:
            self._enter_stage()

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            raise self._refusal or _RefusedError(HTTPStatus.BAD_REQUEST, "this is not HTTP/1.1") from None

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read a request that offers an upgrade as if it did not.

        Java's HTTP client offers h2c with each first POST; httptools would skip its body (RFC 9110
        §7.8: a server may ignore the offer).
        """
        self._upgrade = False
        method: bytes = self.parser.get_method()
        if method == b"CONNECT":
            raise _RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "this is no proxy")
        version = self.parser.get_http_version().encode()
        lines = [name + b": " + value for name, value in self.headers if name not in _HOP_HEADERS]
        head = b"\r\n".join([method + b" " + self.url + b" HTTP/" + version, *lines, b"", b""])
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(head + rest)

    def _bound_head(self, size: int, *, continued: bool, alone: bool) -> None:
        """Bound a head that is still incomplete: the parser holds what it has not handed out.

        Args:
            size: bytes of the piece that came.
            continued: all of the piece belongs to a head that began before it.
            alone: all of the piece belongs to a head that began with it.
        """
        if continued:
            self._head_fed += size
            self._head_bytes += size
        else:
            self._head_fed = size
            self._head_bytes = size if alone else self._parsed_head_bytes()
        if self._head_bytes > self.limits.header_bytes:
            raise self._head_refusal()

    def _parsed_head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _head_refusal(self) -> _RefusedError:
        limit = self.limits.header_bytes
        if 2 * len(self.url) > limit:  # no header can tell better: the URL is most of it
            return _RefusedError(
                HTTPStatus.REQUEST_URI_TOO_LONG, f"URL and headers are longer than {limit} bytes"
            )
        return _RefusedError(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"the headers are larger than {limit} bytes or more than {HEADER_COUNT_LIMIT}",
        )

    # --- the parser's callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = self._in_message = True
        self._begun += 1
        self._stage = _Stage.NEW  # so that a request that follows at once gets a deadline of its own

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            self._upgrade = True
            return
        if len(self.headers) > HEADER_COUNT_LIMIT or (
            self._measure_head and self._parsed_head_bytes() > self.limits.header_bytes
        ):
            self._refusal = self._head_refusal()
            raise self._refusal
        try:
            self._start_request()
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
            self._refusal = _RefusedError(HTTPStatus.BAD_REQUEST, "the request's URL cannot be read")
            raise self._refusal from None
        self._in_head = False

    def _start_request(self) -> None:
        """As uvicorn's `on_headers_complete`, for a long URL as well (contract ingestion §2.2).

        Its parser of URLs takes 65,535 bytes; what can be long is the query, which it need not see.
        """
        url = self.url
        if len(url) < URL_PARSER_LIMIT_BYTES:
            super().on_headers_complete()
            return
        self.url, _, query = url.partition(b"?")
        if len(self.url) >= URL_PARSER_LIMIT_BYTES:
            self._refusal = _RefusedError(
                HTTPStatus.REQUEST_URI_TOO_LONG, f"the path is longer than {URL_PARSER_LIMIT_BYTES} bytes"
            )
            raise self._refusal
        super().on_headers_complete()
        # The application has not begun: its task runs after this callback.
        self.scope["query_string"] = query.partition(b"#")[0]

    def on_body(self, body: bytes) -> None:
        if not self._upgrade:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._upgrade:
            return
        self._in_message = False
        super().on_message_complete()

    # --- answers

    def on_response_complete(self) -> None:
        """As uvicorn's, but without a timer for each response: `expire` looks at the deadline instead."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        self.flow.resume_reading()
        self._enter_stage()

    def send_400_response(self, msg: str) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _open_cycle(self) -> RequestResponseCycle | None:
        """The newest request whose answer is not complete (uvicorn starts with none, whatever it says)."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return None if cycle is None or cycle.response_complete else cycle

    def _answering(self) -> bool:
        """Whether a request is whole and waits for our answer."""
        if self.pipeline:
            return True
        cycle = self._open_cycle()
        return cycle is not None and not cycle.more_body

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Answer outside the application and close; where an answer is under way, only close after it."""
        self._refused = True
        if self.transport.is_closing():
            return
        if self._answering():
            self.cycle.keep_alive = False
            return
        cycle = self._open_cycle()
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        answered = cycle.response_started if cycle is not None else not self._in_head and self._in_message
        if answered:
            self.transport.close()
            return
        self.transport.write(self._refusal_bytes(status, message))
        type(self).count_refusal(status)
        # Closing at once would reset the connection under a client that still sends, and it would not
        # read the answer: what it sends is thrown away until it closes or a moment has passed.
        self._stage = _Stage.LINGER
        self._deadline = self.loop.time() + LINGER_S
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _refusal_bytes(self, status: HTTPStatus, message: str) -> bytes:
        body = json.dumps({"error": message, "status": 0}, separators=(",", ":")).encode()
        own = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        lines = [name + b": " + value + b"\r\n" for name, value in [*self.server_state.default_headers, *own]]
        return b"".join([STATUS_LINE[status], *lines, b"\r\n", body])

    # --- time

    def _enter_stage(self) -> None:
        if self._answering():
            stage = _Stage.BUSY
        elif self._in_head:
            stage = _Stage.HEAD
        elif self._in_message:
            stage = _Stage.BODY
        else:
            stage = _Stage.IDLE
        if stage is not self._stage:
            self._stage = stage
            limits = self.limits
            if stage is _Stage.BUSY:
                self._deadline = math.inf
            elif stage is _Stage.IDLE:
                self._deadline = self.loop.time() + limits.idle_s
            else:
                self._deadline = self.loop.time() + (
                    limits.header_s if stage is _Stage.HEAD else limits.body_s
                )

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stuck_since = math.inf

    def idle_since(self) -> float:
        """Since when the client could begin a request and does not; infinity while it has begun one."""
        if self._stage is _Stage.IDLE:
            return self._deadline - self.limits.idle_s
        if self._stage is _Stage.NEW and not self._in_message:
            return self._deadline - self.limits.header_s
        return math.inf

    def make_room(self) -> None:
        """Close an idle connection as its time limit would; a client opens another when it needs one."""
        self.transport.close()
        self._deadline = self.loop.time() + LINGER_S

    def expire(self, now: float) -> None:
        """End the connection if the client has taken too long; `now` is the loop's time."""
        if now - self._stuck_since > self.limits.body_s:
            self.transport.abort()
            return
        if now < self._deadline:
            return
        if self._stage is _Stage.BODY and self.flow.read_paused:
            return  # it is our own side that does not read
        if self._stage in (_Stage.HEAD, _Stage.BODY):
            part = "headers" if self._stage is _Stage.HEAD else "body"
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"the {part} of the request took too long")
        elif self._stage is _Stage.LINGER or self.transport.is_closing():
            self.transport.abort()
        else:
            self.transport.close()
            self._deadline = now + LINGER_S  # an answer that nobody reads keeps a closed connection open


def bounded_protocol(
    limits: ConnectionLimits, busy: App, count_refusal: Callable[[int], None]
) -> type[BoundedProtocol]:
    """The protocol class of a worker.

    `busy` answers connections beyond the limit; `count_refusal` takes the status of each refusal.
    """
    members = {
        "limits": limits,
        "crowd": Crowd(),
        "busy_app": staticmethod(busy),
        "count_refusal": staticmethod(count_refusal),
    }
    return type("Protocol", (BoundedProtocol,), members)
