"""/engage and /groups: a request's body in, its records to the log, the reply out.

The order is the promise (DESIGN G1, G5): decode, store the good records and the refusals, and only
then reply. A body that is refused whole is kept as one refusal first. Nothing is judged here.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from mixdown.http.body import Decoded, decode
from mixdown.http.client_ip import client_ip
from mixdown.http.compression import GZIP_MAGIC
from mixdown.http.exchange import KEPT_BYTES, Body, BodyReader, Receive, Request
from mixdown.http.forms import NO_FIELDS, Params, form_fields, read_params, unquote
from mixdown.http.reply import (
    Reply,
    error_reply,
    outcome_reply,
    overloaded,
    problem_reply,
    rate_limited,
    too_large,
)
from mixdown.http.resends import caller_is_gone, digest_of, is_stamped
from mixdown.http.room import SMALL_BYTES, Room
from mixdown.http.services import Services
from mixdown.ingest.pipeline import LARGE_BYTES
from mixdown.ingest.prepare import Submission
from mixdown.model import texts
from mixdown.model.errors import BodyError, OverloadedError, RateLimitedError
from mixdown.model.values import clean_text
from mixdown.store.chunk import Outcome

ALLOW: Final = "GET, POST, OPTIONS"
IDEMPOTENCY_KEY_LIMIT_CHARS: Final = 255
SDK_LIMIT_CHARS: Final = 64
_LONG_WAY: Final = frozenset({b"content-encoding", b"idempotency-key", b"origin"})
_FORWARDED_FOR: Final = b"x-forwarded-for"
_TOKEN: Final = re.compile(rb'"\$token\\?"\s*:[\s+]*\\?"([^"\\]{1,255})')
_UNFOLDS_TO: Final = 1032  # as many times its size, at the worst, a compressed body becomes


class _Refused(NamedTuple):
    """A body that is refused whole: why, what to reply, its start, and a token where it names one."""

    message: str
    reply: Reply
    start: bytes
    token: str = ""


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
    """Answers writes of profiles; one for each worker."""

    def __init__(self, services: Services) -> None:
        self._ingest = services.ingest
        self._metrics = services.metrics
        self._limits = services.ingest.limits
        self._trusted = services.settings.trusted_networks()
        self._bodies = BodyReader(self._limits.body_limit_bytes)
        self._rates = services.rates
        self._room = Room()
        self._one_large = asyncio.Lock()  # decoding: so that `Room` is passed by one body, not by many

    async def answer(self, endpoint: str, request: Request, receive: Receive) -> tuple[Reply, bool]:
        """The reply to a GET or POST of `endpoint` ("engage" or "groups"), and whether to close after it.

        Raises `DisconnectedError`.
        """
        try:
            body = await self._bodies.read(receive)
        except OverloadedError as error:
            return overloaded(error.message, error.retry_after_s), False
        try:
            return await self._answer(endpoint, request, body), not body.complete
        except OverloadedError as error:
            return overloaded(error.message, error.retry_after_s), not body.complete
        except RateLimitedError as error:
            self._metrics.rate_limited(error.limit, error.project)
            return rate_limited(error.retry_after_s), not body.complete
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
                read = await self._ingest.beside(weight, lambda: self._read(endpoint, request, body))
                if isinstance(read, Decoded):
                    taken = len(read.text)
                    self._room.take(taken)
            if isinstance(read, Decoded):
                if self._rates.on_writes:
                    self._rates.admit_write(_tokens_of(read))
                return await self._submit(endpoint, request, read)
        finally:
            self._room.leave(taken)
        sdk = sdk_name(None, _query_params(request), request.headers.get(b"user-agent", b""))
        token = read.token or token_in(read.start)
        if self._rates.on_writes:
            self._rates.admit_write({token: 1})
        await self._ingest.refuse_body(endpoint, read.message, read.start, token=token, sdk=sdk)
        self._metrics.body_refused(endpoint, read.message)
        return read.reply

    def _read(self, endpoint: str, request: Request, body: Body) -> Decoded | _Refused:
        """Decode a body. What is refused whole leaves its first kilobyte and nothing else in memory."""
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
        start = decoded.text[:KEPT_BYTES]
        if len(headers.get(b"idempotency-key", b"")) > IDEMPOTENCY_KEY_LIMIT_CHARS:
            message = texts.IDEMPOTENCY_KEY_TOO_LONG
            return _Refused(message, error_reply(400, message), start, _first_token(decoded))
        if decoded.problem:
            return _Refused(decoded.problem, problem_reply(decoded.params, decoded.problem), start)
        if decoded.count > self._limits.records_per_request:
            message = texts.TOO_MANY_RECORDS.format(limit=self._limits.records_per_request)
            return _Refused(message, too_large(message), start, _first_token(decoded))
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
            if isinstance(read, Decoded) and read.quick is not None:
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

    async def _submit(self, endpoint: str, request: Request, decoded: Decoded) -> Reply:
        outcome = await self._ingest.submit(self._submission(endpoint, request, decoded))
        self._metrics.records(endpoint, outcome)
        return outcome_reply(decoded.params, outcome)

    def _submission(self, endpoint: str, request: Request, decoded: Decoded) -> Submission:
        params = decoded.params
        return Submission(
            endpoint=endpoint,
            records=decoded.records,
            strict=params.strict,
            hostile=decoded.hostile,
            ip_flag=params.ip,
            client_ip="" if params.ip is False else self._client_ip(request),
            sdk=sdk_name(decoded.first("mp_lib"), params, request.headers.get(b"user-agent", b"")),
            idempotency_key=request.headers.get(b"idempotency-key", b"").decode("latin-1"),
            path=endpoint,
            body_bytes=len(decoded.text),
            call=request.call,
            quick=decoded.quick,
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


def _first_token(decoded: Decoded) -> str:
    """The token of a request's first record, "" where it has none."""
    token = decoded.first("$token")
    return token if type(token) is str else ""


def _tokens_of(decoded: Decoded) -> Counter[str]:
    """How many records of a request bring which token; what is no token counts as ""."""
    if decoded.quick is not None:
        return Counter(record.token for record in decoded.quick)
    return Counter(_token_of(record) for record in decoded.records)


def _token_of(record: Any) -> str:
    token = record.get("$token") if type(record) is dict else None
    return token if type(token) is str else ""


def token_in(start: bytes) -> str:
    """The first `$token` in the start of a body that could not be read: JSON, plain or percent-encoded."""
    found = _TOKEN.search(unquote(start))
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
