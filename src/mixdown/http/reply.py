"""The one place where the reply to a write is shaped (contract ingestion §6).

Parameters and an outcome enter; a `Reply` leaves, byte for byte as SDKs compare it. Nothing is
decided here about what was stored.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import orjson

from mixdown.http.forms import Params
from mixdown.model import texts
from mixdown.store.chunk import Outcome

Headers = list[tuple[bytes, bytes]]

NO_OP_CALLBACK: Final = "(function(){})"
GIF: Final = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00"
    b",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
WELCOME: Final = "Welcome. Get started with our API by visiting https://developer.mixpanel.com/"

_CALLBACK: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$.\[\]]{0,127}")
_NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
_NO_STORE: Final = (b"cache-control", b"no-cache, no-store")


class Reply(NamedTuple):
    """A whole HTTP reply; `headers` is shared between requests and must not be changed."""

    status: int
    headers: Headers
    body: bytes


def _reply(status: int, content_type: bytes, body: bytes, *more: tuple[bytes, bytes]) -> Reply:
    length = (b"content-length", str(len(body)).encode())
    return Reply(status, [(b"content-type", content_type), length, _NOSNIFF, *more], body)


def json_reply(status: int, content: Any, *more: tuple[bytes, bytes]) -> Reply:
    """A reply with `content` as compact JSON, its keys in the order given."""
    return _reply(status, b"application/json", orjson.dumps(content), *more)


PLAIN_GOOD: Final = _reply(200, b"text/plain", b"1")
PLAIN_BAD: Final = _reply(200, b"text/plain", b"0")
VERBOSE_GOOD: Final = json_reply(200, {"error": None, "status": 1})
PIXEL: Final = _reply(200, b"image/gif", GIF, _NO_STORE)


def error_reply(status: int, message: str, *more: tuple[bytes, bytes]) -> Reply:
    """The common shape of an error: `{"error": message, "status": 0}`."""
    return json_reply(status, {"error": message, "status": 0}, *more)


NOT_FOUND: Final = error_reply(404, "Not Found")
WELCOME_REPLY: Final = json_reply(200, {"error": WELCOME})
INTERNAL: Final = error_reply(500, texts.INTERNAL)


def not_allowed(allow: str) -> Reply:
    """405 with the methods that are allowed."""
    return error_reply(405, "Method Not Allowed", (b"allow", allow.encode()))


def too_large(message: str) -> Reply:
    """413 in the shape that Mixpanel documents (contract ingestion §6.2)."""
    return json_reply(413, {"code": 413, "error": message, "status": "Request Entity Too Large"})


def overloaded(message: str, retry_after_s: int) -> Reply:
    """503, to be tried again after whole seconds."""
    return error_reply(503, message, (b"retry-after", str(retry_after_s).encode()))


def rate_limited(retry_after_s: int) -> Reply:
    """429 in the shape that Mixpanel documents (contract ingestion §6.2), to be tried again after seconds."""
    content = {"code": 429, "error": texts.RATE_LIMITED, "status": "Too Many Requests"}
    return json_reply(429, content, (b"retry-after", str(retry_after_s).encode()))


def outcome_reply(params: Params, outcome: Outcome) -> Reply:
    """The reply to a batch that was judged; its good records are on disk."""
    if params.img:
        return PIXEL
    if params.callback:
        function = callback_name(params.callback)
        if function:
            return _callback_reply(function, params, outcome)
    if params.strict:
        return _strict_reply(outcome)
    if params.verbose:
        return VERBOSE_GOOD if outcome.good else error_reply(200, _first_error(outcome))
    return PLAIN_GOOD if outcome.good else PLAIN_BAD


def import_reply(params: Params, outcome: Outcome) -> Reply:
    """The reply to an /import that was judged (contract ingestion §6.3)."""
    if params.img or callback_name(params.callback):
        return outcome_reply(params, outcome)
    if params.strict:
        if not outcome.failed:
            return json_reply(200, {"code": 200, "num_records_imported": outcome.good, "status": "OK"})
        return _import_failed(texts.SOME_FAILED, _failed_records(outcome), outcome.good, "Bad Request")
    if not params.verbose:
        return PLAIN_GOOD if outcome.good else PLAIN_BAD
    error = texts.SOME_FAILED if outcome.failed else None
    return _import_verbose(error, outcome.good)


def import_problem(params: Params, message: str) -> Reply:
    """The reply to an /import whose body held no records (contract ingestion §6.4)."""
    if message == texts.DATA_MISSING and not params.strict:
        return _import_verbose(message, 0) if params.verbose else PLAIN_BAD
    return _import_failed(message, [], 0, "Bad Request" if params.strict else 0)


def unauthorized(message: str) -> Reply:
    """401 in the shape that Mixpanel's clients read (contract ingestion §6.5)."""
    return json_reply(401, {"code": 401, "error": message, "status": "Unauthorized"})


def _import_verbose(error: str | None, good: int) -> Reply:
    return json_reply(
        200, {"code": 200, "error": error, "num_records_imported": good, "status": 1 if good else 0}
    )


def _import_failed(error: str, failed: list[Any], good: int, status: str | int) -> Reply:
    content = {
        "code": 400,
        "error": error,
        "failed_records": failed,
        "num_records_imported": good,
        "status": status,
    }
    return json_reply(400, content)


def _failed_records(outcome: Outcome) -> list[Any]:
    """Why records failed: a list of texts where identity events cost the whole batch (§8.4)."""
    if any(message == texts.IDENTITY_NOT_ALLOWED for _, _, message in outcome.failed):
        return [message for _, field, message in outcome.failed if field]
    insert_ids = outcome.insert_ids or ("",) * len(outcome.failed)
    return [
        {"index": index, "insert_id": sent, "$insert_id": sent, "field": field, "message": message}
        for (index, field, message), sent in zip(outcome.failed, insert_ids, strict=True)
    ]


def problem_reply(params: Params, message: str) -> Reply:
    """The reply to a body that held no records (contract ingestion §6.4): status 0 in every shape."""
    if params.strict and not params.img and not callback_name(params.callback):
        return _strict_json(message, [], 0, 0)
    return outcome_reply(params, Outcome(1, 0, ((0, "", message),)))


def callback_name(given: str) -> str:
    """`given` if it is a function's name or the browser SDK's no-op, else "" (contract ingestion §6.1)."""
    if given == NO_OP_CALLBACK or _CALLBACK.fullmatch(given):
        return given
    return ""


def _callback_reply(function: str, params: Params, outcome: Outcome) -> Reply:
    argument = b"1" if outcome.good else b"0"
    if params.verbose:
        error = None if outcome.good else _first_error(outcome)
        argument = orjson.dumps({"error": error, "status": 1 if outcome.good else 0})
    return _reply(200, b"text/javascript", b"%b(%b);" % (function.encode(), argument))


def _strict_reply(outcome: Outcome) -> Reply:
    if not outcome.failed:
        return _strict_json(None, None, outcome.good, 1)
    failed = [
        {"index": index, "field": field, "message": message} for index, field, message in outcome.failed
    ]
    return _strict_json(texts.SOME_FAILED, failed, outcome.good, 0)


def _strict_json(error: str | None, failed: list[dict[str, Any]] | None, good: int, status: int) -> Reply:
    content: dict[str, Any] = {"code": 200, "error": error}
    if failed is not None:
        content["failed_records"] = failed
    content |= {"num_good_events": good, "num_records_imported": good, "status": status}
    return json_reply(200, content)


def _first_error(outcome: Outcome) -> str:
    return outcome.failed[0][2] if outcome.failed else texts.DATA_MISSING
