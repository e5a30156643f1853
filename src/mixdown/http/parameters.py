"""The parameters of a read: one decoder for every read endpoint (contract query §1.3).

A request enters; `Parameters` leave: what query string, form body and JSON body say, merged, with typed
readers that raise `QueryError` (400) naming the parameter. It must never guess past what the
contract lists, nor read a body larger than the limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request

from mixdown.http.compression import decompress, too_large
from mixdown.model.errors import QueryError
from mixdown.model.updates import number_text
from mixdown.model.values import clean_text

FIELDS_LIMIT: Final = 20_000
_TRUE: Final = frozenset({"true", "1"})
_FALSE: Final = frozenset({"false", "0"})
_INTEGER_LIMIT_CHARS: Final = 19
_IN_THREAD_FROM_BYTES: Final = 65_536
_EMPTY_JSON: Final = frozenset({"", "null", "[]", "{}"})
_Default = TypeVar("_Default", bool, None)


class Parameters:
    """The merged parameters of one request: a tuple of texts (query, form) or a JSON value for each name."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def over(self, defaults: Mapping[str, Any]) -> Parameters:
        """These, and `defaults` where they say nothing."""
        return Parameters({**defaults, **self._values})

    def saying(self, name: str, text: str) -> Parameters:
        """These, but for one that says something else."""
        return Parameters({**self._values, name: (text,)})

    def value(self, name: str) -> Any:
        """The parameter as a JSON value, sent as such or as its text; None when absent."""
        value = self._values.get(name)
        text = value[-1] if type(value) is tuple else value
        if type(text) is not str:
            return value
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            raise _wrong(name, "must be JSON") from None

    def text(self, name: str) -> str:
        """The parameter as text, "" when absent; of repeated keys the last counts."""
        value = self._values.get(name)
        if type(value) is tuple:
            value = value[-1]
        if type(value) is bool:
            return "true" if value else "false"
        text = value if type(value) is str else number_text(value)
        if value is not None and not text:
            raise _wrong(name, "must be a text or a number")
        return text

    def integer(self, name: str, default: int, *, low: int, high: int) -> int:
        """The parameter as an integer from `low` to `high`, sent as a number or as its digits."""
        value = self._values.get(name)
        text = "" if type(value) is bool else self.text(name)
        if not text and value is None:
            return default
        bare = text.strip()
        digits = bare.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal()) or len(bare) > _INTEGER_LIMIT_CHARS:
            raise _wrong(name, f"must be an integer from {low} to {high}")
        number = int(bare)
        if not low <= number <= high:
            raise _wrong(name, f"must be an integer from {low} to {high}")
        return number

    def boolean(self, name: str, *, default: _Default) -> bool | _Default:
        """The parameter as a boolean: true, false, True, False, 1, 0; `default` where it is absent."""
        text = self.text(name).strip().lower()
        if not text:
            return default
        if text not in _TRUE and text not in _FALSE:
            raise _wrong(name, "must be true or false")
        return text in _TRUE

    def strings(self, name: str, *, limit: int) -> tuple[str, ...] | None:
        """The parameter as a list of at most `limit` texts, None when absent.

        Takes a JSON list, the text of one, repeated keys, and a bare scalar. Numbers become texts.
        """
        value = self._values.get(name)
        if value is None:
            return None
        if type(value) is tuple and len(value) == 1:
            value = value[0]
        if type(value) is not list and type(value) is not tuple:
            value = _items(value)
        if len(value) > limit:
            raise _wrong(name, f"must be a list of at most {limit} values")
        items = [clean_text(item) if type(item) is str else number_text(item) for item in value]
        if not all(type(item) is str or text for item, text in zip(value, items, strict=True)):
            raise _wrong(name, "must be a list of texts")
        return tuple(items)

    def given(self, name: str) -> bool:
        """Whether the parameter says anything: empty texts, lists and objects do not (query §1.3)."""
        value = self._values.get(name)
        texts = value if type(value) is tuple else (value,)
        return any(
            text.strip() not in _EMPTY_JSON if type(text) is str else text not in (None, [], {})
            for text in texts
        )


async def read_parameters(request: Request, *, body_limit_bytes: int) -> Parameters:
    """Decode query string and body. Raises `QueryError` (400) and `BodyError` (400, 413)."""
    query = request.scope["query_string"]
    body = b""
    if request.method not in ("GET", "HEAD") or "content-length" in request.headers:
        body = await _body(request, body_limit_bytes)
    content_type = request.headers.get("content-type", "").lower()
    encoding = request.headers.get("content-encoding", "")
    if len(query) + len(body) < _IN_THREAD_FROM_BYTES and not encoding:
        return Parameters(_merged(query, body, content_type, encoding, body_limit_bytes))
    return Parameters(await asyncio.to_thread(_merged, query, body, content_type, encoding, body_limit_bytes))


async def read_object(request: Request, *, body_limit_bytes: int) -> dict[str, Any]:
    """The JSON object that a body is, nulls and empty texts included; of no body, an empty one.

    Raises `QueryError` (400) and `BodyError` (400, 413).
    """
    body = await _body(request, body_limit_bytes)
    encoding = request.headers.get("content-encoding", "")

    def decode() -> dict[str, Any]:
        bare = decompress(body, encoding, body_limit_bytes).removeprefix(b"\xef\xbb\xbf").strip()
        return _object(bare) if bare else {}

    if len(body) < _IN_THREAD_FROM_BYTES and not encoding:
        return decode()
    return await asyncio.to_thread(decode)


async def _body(request: Request, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit_bytes:
            raise too_large(limit_bytes)
        parts.append(part)
    return b"".join(parts)


def _merged(
    query: bytes, body: bytes, content_type: str, content_encoding: str, limit_bytes: int
) -> dict[str, Any]:
    """Query string, then form, then JSON; the later source wins, an empty value says nothing."""
    body = decompress(body, content_encoding, limit_bytes)
    values: dict[str, Any] = dict(_fields(query))
    bare = body.removeprefix(b"\xef\xbb\xbf").strip()
    if not bare:
        return values
    if "json" in content_type or bare.startswith(b"{"):
        values.update((name, value) for name, value in _object(bare).items() if value not in (None, ""))
    elif content_type.startswith("multipart/"):
        raise QueryError("body, send parameters as JSON or as a form, not as multipart", status=400)
    else:
        values.update(_fields(bare))
    return values


def _fields(text: bytes) -> dict[str, tuple[str, ...]]:
    try:
        pairs = parse_qsl(text.decode("utf-8", "replace"), max_num_fields=FIELDS_LIMIT)
    except ValueError:
        raise QueryError(f"parameters, at most {FIELDS_LIMIT} fields are taken", status=400) from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: tuple(texts) for name, texts in found.items()}


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise QueryError(f"body, invalid JSON: {error}", status=400) from None
    if type(value) is not dict:
        raise QueryError("body, must be a JSON object", status=400)
    return value


def _items(value: Any) -> list[Any]:
    """A scalar, or the text of a JSON list, as a list."""
    if type(value) is str and value.lstrip().startswith("["):
        try:
            parsed = orjson.loads(value)
        except orjson.JSONDecodeError:
            return [value]
        if type(parsed) is list:
            return parsed
    return [value]


def _wrong(name: str, rule: str) -> QueryError:
    return QueryError(f"{name}, {rule}", status=400)
