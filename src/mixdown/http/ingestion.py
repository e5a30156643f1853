"""/engage, /groups, /track and /import: a request's body in, its records to the log, the reply out.

The order is the promise (DESIGN G1, G5): decode, store the good records and the refusals, and only
then reply. A body that is refused whole is kept as one refusal first, but for one without credentials.
Nothing is judged here.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import structlog

from mixdown.http.auth import caller_inside
from mixdown.http.body import Decoded, decode
from mixdown.http.client_ip import client_ip
from mixdown.http.compression import GZIP_MAGIC
from mixdown.http.exchange import KEPT_BYTES, Body, BodyReader, Receive, Request
from mixdown.http.forms import NO_FIELDS, Params, form_fields, read_params, unquote
from mixdown.http.import_auth import import_project
from mixdown.http.reply import (
    Reply,
    error_reply,
    import_problem,
    import_reply,
    outcome_reply,
    overloaded,
    problem_reply,
    rate_limited,
    too_large,
    unauthorized,
)
from mixdown.http.resends import caller_is_gone, digest_of, is_stamped
from mixdown.http.room import SMALL_BYTES, Room
from mixdown.http.services import Services
from mixdown.ingest.pipeline import LARGE_BYTES
from mixdown.ingest.submission import EVENT_ENDPOINTS, Submission
from mixdown.model import texts
from mixdown.model.errors import AuthError, BodyError, OverloadedError, RateLimitedError, StoreError
from mixdown.model.values import clean_text
from mixdown.store.chunk import Outcome
from mixdown.store.protocols import Project

ALLOW: Final = "GET, POST, OPTIONS"
ENDPOINTS: Final = ("engage", "groups", "track", "import")
IMPORT: Final = "import"
IDEMPOTENCY_KEY_LIMIT_CHARS: Final = 255
SDK_LIMIT_CHARS: Final = 64
RETRY_S: Final = 5
"""When to come again where the store cannot be asked (503)."""
_LONG_WAY: Final = frozenset({b"content-encoding", b"idempotency-key", b"origin"})
_FORWARDED_FOR: Final = b"x-forwarded-for"
_TOKEN: Final = re.compile(rb'"\$token\\?"\s*:[\s+]*\\?"([^"\\]{1,255})')
_EVENT_TOKEN: Final = re.compile(rb'"token\\?"\s*:[\s+]*\\?"([^"\\]{1,255})')
_UNFOLDS_TO: Final = 1032  # as many times its size, at the worst, a compressed body becomes
_log = structlog.get_logger(__name__)


class _Refused(NamedTuple):
    """A body that is refused whole: why, what to reply, its start, and a token where it names one.

    What came without the right credentials is not `kept`.
    """

    message: str
    reply: Reply
    start: bytes
    token: str = ""
    kept: bool = True


class _Importing(NamedTuple):
    """A body that was decoded, and the project that its credentials open."""

    decoded: Decoded
    project: Project


class _Waiting:
    """Stands for the future of a request that was taken at once (`ingest.commit.Done`)."""

    __slots__ = ("_answer", "_endpoint", "_ingestion", "_loop", "_params", "_size")

    def __init__(
        self, ingestion: Ingestion, endpoint: str, params: Params, size: int, answer: Callable[[Reply], None]
    ) -> None:
        self._ingestion = ingestion
        self._endpoint = endpoint
        self._params = params
        self._size = size
        self._answer = answer
        self._loop = asyncio.get_running_loop()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that the reply is written on."""
        return self._loop

    def done(self) -> bool:
        """Never before it is settled: whoever went away, the bytes must be let go."""
        return False

    def set_result(self, outcome: Outcome, /) -> None:
        """The records are on disk."""
        self._answer(self._ingestion.settle(self._endpoint, self._params, self._size, outcome))

    def set_exception(self, error: BaseException, /) -> None:
        """They are not."""
        if not isinstance(error, OverloadedError):
            error = OverloadedError(texts.INTERNAL, retry_after_s=1)
        self._answer(self._ingestion.settle(self._endpoint, self._params, self._size, error))


class Ingestion:
    """Answers writes; one for each worker."""

    def __init__(self, services: Services) -> None:
        self._catalog = services.catalog
        self._now_ms = services.now_ms
        self._ingest = services.ingest
        self._metrics = services.metrics
        self._limits = services.ingest.limits
        self._trusted = services.settings.trusted_networks()
        self._bodies = BodyReader(self._limits.body_limit_bytes)
        self._rates = services.rates
        self._room = Room()
        self._failing = False
        self._one_large = asyncio.Lock()  # decoding: so that `Room` is passed by one body, not by many

    async def answer(self, endpoint: str, request: Request, receive: Receive) -> tuple[Reply, bool]:
        """The reply to a GET or POST of `endpoint` (one of `ENDPOINTS`), and whether to close after it.

        Raises `DisconnectedError`.
        """
        try:
            body = await self._bodies.read(receive)
        except OverloadedError as error:
            return overloaded(error.message, error.retry_after_s), False
        try:
            reply = await self._answer(endpoint, request, body)
            self._failing = False
            return reply, not body.complete
        except OverloadedError as error:
            return overloaded(error.message, error.retry_after_s), not body.complete
        except RateLimitedError as error:
            self._metrics.rate_limited(error.limit, error.project)
            return rate_limited(error.retry_after_s), not body.complete
        except StoreError as error:  # before the records were on their way: credentials, keys that are known
            if not self._failing:  # said once, not for every request while a database is away
                self._failing = True
                _log.error(texts.NOT_WRITTEN, exc_info=error)
            return overloaded(texts.NOT_WRITTEN, RETRY_S), not body.complete
        finally:
            self._bodies.release(body)

    async def _answer(self, endpoint: str, request: Request, body: Body) -> Reply:
        taken = 0
        weight = _weight(request, body)
        if is_stamped(request.query) and not body.oversized:  # before there is room to hold while it waits
            await self._claim(request, body)
        try:
            async with self._one_large if weight > LARGE_BYTES else contextlib.nullcontext():
                await self._room.wait(weight)
                read = await self._ingest.beside(
                    weight, lambda: self._read(endpoint, request, body), asks=endpoint == IMPORT
                )
                if not isinstance(read, _Refused):
                    taken = len(read.decoded.text if isinstance(read, _Importing) else read.text)
                    self._room.take(taken)
            if not isinstance(read, _Refused):
                if self._rates.on_writes:
                    self._rates.admit_write(_tokens_of(endpoint, read))
                return await self._submit(endpoint, request, read)
        finally:
            self._room.leave(taken)
        if not read.kept:
            return read.reply
        sdk = sdk_name(None, _query_params(request), request.headers.get(b"user-agent", b""))
        token = read.token or token_in(read.start, events=endpoint in EVENT_ENDPOINTS)
        if self._rates.on_writes:
            self._rates.admit_write({token: 1})
        await self._ingest.refuse_body(endpoint, read.message, read.start, token=token, sdk=sdk)
        self._metrics.body_refused(endpoint, read.message)
        return read.reply

    def _read(self, endpoint: str, request: Request, body: Body) -> Decoded | _Importing | _Refused:
        """Decode a body, and see to the credentials of an /import.

        What is refused whole leaves its first kilobyte and nothing else in memory.
        """
        read = self._decoded(endpoint, request, body)
        if endpoint != IMPORT:
            return read
        params = read.params if isinstance(read, Decoded) else _query_params(request)
        header = request.headers.get(b"authorization", b"").decode("latin-1")
        try:
            project = import_project(
                header,
                params,
                self._catalog.current(),
                now_ms=self._now_ms(),
                inside=caller_inside(request.scope),
            )
        except AuthError as error:
            return _Refused(error.message, unauthorized(error.message), b"", kept=False)
        if isinstance(read, Decoded):
            return _Importing(read, project)
        return read._replace(token=project.token)

    def _decoded(self, endpoint: str, request: Request, body: Body) -> Decoded | _Refused:
        if body.oversized:
            message = texts.BODY_TOO_LARGE.format(limit=self._limits.body_limit_bytes)
            return _Refused(message, too_large(message), body.data)
        headers = request.headers
        try:
            decoded = decode(
                method=request.method,
                content_type=headers.get(b"content-type", b""),
                content_encoding=headers.get(b"content-encoding", b""),
                query=request.query,
                body=body.data,
                limits=self._limits,
                # the key of a request is reckoned over its records as they came
                quick_for="" if b"idempotency-key" in headers else endpoint,
            )
        except BodyError as error:
            reply = too_large(error.message) if error.status == 413 else error_reply(400, error.message)
            return _Refused(error.message, reply, body.data[:KEPT_BYTES])
        events = decoded.quick_events
        if self._rates.on_writes and events is not None and decoded.reread and None in events.events:
            decoded = decoded.reread()  # a limit must know whose each of them is
        start = decoded.text[:KEPT_BYTES]
        if len(headers.get(b"idempotency-key", b"")) > IDEMPOTENCY_KEY_LIMIT_CHARS:
            message = texts.IDEMPOTENCY_KEY_TOO_LONG
            return _Refused(message, error_reply(400, message), start, _first_token(endpoint, decoded))
        if decoded.problem:
            shaped = import_problem if endpoint == IMPORT else problem_reply
            return _Refused(decoded.problem, shaped(decoded.params, decoded.problem), start)
        if decoded.count > self._limits.records_per_request:
            message = texts.TOO_MANY_RECORDS.format(limit=self._limits.records_per_request)
            return _Refused(message, too_large(message), start, _first_token(endpoint, decoded))
        return decoded

    def take_at_once(
        self, endpoint: str, request: Request, data: bytes, answer: Callable[[Reply], None]
    ) -> bool:
        """Take a small request of plain records without a task of its own; false where it wants `answer`.

        `answer` gets the reply on the event loop, once the records are on disk. Nothing has happened to a
        request that is not taken.
        """
        size = len(data)
        headers = request.headers
        if (
            not 0 < size <= SMALL_BYTES
            or endpoint == IMPORT
            or data[:2] == GZIP_MAGIC
            or self._rates.on_writes
            or not self._room.has_some
            or is_stamped(request.query)
            or _LONG_WAY.intersection(headers)
            or not self._bodies.try_hold(size)
        ):
            return False
        queued = False
        try:
            read = self._read(endpoint, request, Body(data, size))
            if isinstance(read, Decoded) and read.is_quick:
                waiting = _Waiting(self, endpoint, read.params, size, answer)
                queued = self._ingest.submit_at_once(self._submission(endpoint, request, read), waiting)
        finally:
            if queued:
                self._room.take(size)
            else:
                self._bodies.let_go(size)
        return queued

    def settle(self, endpoint: str, params: Params, size: int, result: Outcome | OverloadedError) -> Reply:
        """The reply to a request that was taken at once; its `size` bytes are needed no more."""
        self._room.leave(size)
        self._bodies.let_go(size)
        if isinstance(result, OverloadedError):
            return overloaded(result.message, result.retry_after_s)
        self._metrics.records(endpoint, result)
        return outcome_reply(params, result)

    async def _submit(self, endpoint: str, request: Request, read: Decoded | _Importing) -> Reply:
        decoded, project = read if isinstance(read, _Importing) else (read, None)
        submission = self._submission(endpoint, request, decoded)
        if project is not None:
            submission.project = project.id
        outcome = await self._ingest.submit(submission)
        self._metrics.records(endpoint, outcome)
        return (import_reply if project is not None else outcome_reply)(decoded.params, outcome)

    def _submission(self, endpoint: str, request: Request, decoded: Decoded) -> Submission:
        params = decoded.params
        lib = decoded.first_property("mp_lib") if endpoint in EVENT_ENDPOINTS else decoded.first("mp_lib")
        return Submission(
            endpoint=endpoint,
            records=decoded.records,
            strict=params.strict,
            hostile=decoded.hostile,
            ip_flag=params.ip,
            client_ip="" if params.ip is False else self._client_ip(request),
            sdk=sdk_name(lib, params, request.headers.get(b"user-agent", b"")),
            idempotency_key=request.headers.get(b"idempotency-key", b"").decode("latin-1"),
            path=endpoint,
            body_bytes=len(decoded.text),
            call=request.call,
            quick=decoded.quick,
            quick_events=decoded.quick_events,
            reread=None if decoded.reread is None else _records_of(decoded.reread),
        )

    async def _claim(self, request: Request, body: Body) -> None:
        """Take a request in hand that a browser may send again, unless it has a key of its own.

        Raises `OverloadedError` where the client is gone: it may have been answered by another connection.
        """
        if request.headers.get(b"idempotency-key"):
            return
        resends = self._ingest.resends
        digest = await self._ingest.beside(len(body.data), lambda: digest_of(resends, request, body.data))
        request.call = await resends.claim(digest)
        if request.call is not None and caller_is_gone(request.scope):
            raise OverloadedError(texts.CALLER_GONE, retry_after_s=1)

    def _client_ip(self, request: Request) -> str:
        if not self._trusted:
            return request.peer
        forwarded_for = [value for name, value in request.scope["headers"] if name == _FORWARDED_FOR]
        real_ip = request.headers.get(b"x-real-ip", b"")
        return client_ip(request.peer, forwarded_for, real_ip, self._trusted)


def _records_of(reread: Callable[[], Decoded]) -> Callable[[], tuple[list[Any], bool]]:
    """`Submission.reread`: a plain request's records as they came, and whether they are hostile."""

    def read() -> tuple[list[Any], bool]:
        decoded = reread()
        return decoded.records, decoded.hostile

    return read


def _first_token(endpoint: str, decoded: Decoded) -> str:
    """The token of a request's first record, "" where it has none."""
    events = endpoint in EVENT_ENDPOINTS
    token = decoded.first_property("token") if events else decoded.first("$token")
    return token if type(token) is str else ""


def _tokens_of(endpoint: str, read: Decoded | _Importing) -> Counter[str]:
    """How many records of a request bring which token; what is no token counts as ""."""
    if isinstance(read, _Importing):
        return Counter({read.project.token: read.decoded.count})
    if read.quick is not None:
        return Counter(record.token for record in read.quick)
    if read.quick_events is not None:
        return Counter(_text(event and event.properties.get("token")) for event in read.quick_events.events)
    token_of = _event_token if endpoint in EVENT_ENDPOINTS else _token_of
    return Counter(_text(token_of(record)) for record in read.records)


def _token_of(record: Any) -> Any:
    return record.get("$token") if type(record) is dict else None


def _event_token(record: Any) -> Any:
    properties = record.get("properties") if type(record) is dict else None
    return properties.get("token") if type(properties) is dict else None


def _text(value: Any) -> str:
    return value if type(value) is str else ""


def token_in(start: bytes, *, events: bool = False) -> str:
    """The first `$token` in the start of a body that could not be read: JSON, plain or percent-encoded.

    Of `events` it is the first `token`.
    """
    found = (_EVENT_TOKEN if events else _TOKEN).search(unquote(start))
    return found[1].decode("utf-8", "replace") if found else ""


def _weight(request: Request, body: Body) -> int:
    """How many bytes there may be to decode."""
    size = len(body.data)
    encoded = request.headers.get(b"content-encoding") or body.data[:2] == GZIP_MAGIC
    return size * _UNFOLDS_TO if encoded else size


def _query_params(request: Request) -> Params:
    return read_params(form_fields(request.query), NO_FIELDS)


def sdk_name(lib: Any, params: Params, user_agent: bytes) -> str:
    """What sent a request: `mp_lib` of its first record or of the request, else the User-Agent's product."""
    if type(lib) is not str or not lib:
        lib = params.lib or user_agent.partition(b" ")[0].decode("latin-1")
    return clean_text(lib[:SDK_LIMIT_CHARS])
