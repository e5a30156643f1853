"""What the tests of decoding share: encodings as SDKs write them, and `decode` with defaults."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote_from_bytes

from mixdown.http.body import Decoded, decode
from mixdown.model.limits import Limits

FORM = b"application/x-www-form-urlencoded"
JSON = b"application/json"
NDJSON = b"application/x-ndjson"
TEXT = b"text/plain;charset=UTF-8"


def read(
    body: bytes = b"",
    content_type: bytes = JSON,
    *,
    query: bytes = b"",
    encoding: bytes = b"",
    method: str = "POST",
    limits: Limits | None = None,
) -> Decoded:
    """Decode a request that is a POST of JSON unless told otherwise."""
    return decode(
        method=method,
        content_type=content_type,
        content_encoding=encoding,
        query=query,
        body=body,
        limits=limits or Limits(),
    )


def text(value: Any) -> bytes:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def base64_text(value: Any) -> bytes:
    """JSON in standard base64."""
    return base64.b64encode(text(value))


def urlsafe_text(value: Any) -> bytes:
    """JSON in URL-safe base64."""
    return base64.urlsafe_b64encode(text(value))


def quoted(value: bytes) -> bytes:
    """Everything that may be percent-encoded, percent-encoded."""
    return quote_from_bytes(value, safe="").encode()
