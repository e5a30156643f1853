"""Documents as PostgreSQL's `jsonb` must be given them, so that no number changes, and as it gives them back.

`jsonb` keeps decimals, and forgets how they were written: 1e23 comes back as an integer of 24 digits, which
is not the double. So a double from 2**53 on is written to its last digit, with `.0`: it then compares by its
very value, also with integers, and comes back as the double it was. Smaller ones sort in their shortest form
as they do as doubles. It also has an order of names of its own, and spaces.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import orjson

_WHOLE_FROM: Final = 2.0**53
_DIGITS: Final = bytes.maketrans(b"123456789+E", b"0000000000e")
# How doubles of that size begin, with each digit, and +, as 0: 9007199254740992.0 is the smallest in full.
_PERHAPS_LARGE: Final = (b"0e0", b"0" * 16 + b".")
_OF_NUMBERS: Final = b"0123456789.-+"
_BEFORE_NUMBERS: Final = b":,[ "
_BETWEEN_DOCUMENTS: Final = b"\n"
_LOOK_BACK: Final = 400
"""Where only digits stand before, that is perhaps a number: the longest double in full has 309."""
# As the fold encodes: what it has not changed compares equal.
_encode: Final = msgspec.json.Encoder().encode


def jsonb_of(document: bytes) -> str:
    """A stored document as the text to give to `jsonb`."""
    return bytes_for_jsonb(document).decode()


def bytes_for_jsonb(document: bytes) -> bytes:
    """The same in UTF-8."""
    if not _holds_large(document):
        return document
    return written(orjson.loads(document)).encode()


def all_for_jsonb(documents: Sequence[bytes]) -> Sequence[bytes]:
    """The same of many: one look for all of them, which tells of most that nothing is to be done."""
    if not _holds_large(_BETWEEN_DOCUMENTS.join(documents)):
        return documents
    return [bytes_for_jsonb(document) for document in documents]


def document_of(text: bytes) -> bytes:
    """A document as the fold encodes it, of what `jsonb` gives back."""
    return _encode(orjson.loads(text))


def _holds_large(document: bytes) -> bool:
    """Whether a double of `_WHOLE_FROM` or more may be in it, perhaps as a part of a text."""
    digits = document.translate(_DIGITS)
    for mark in _PERHAPS_LARGE:
        at = digits.find(mark)
        while at >= 0:
            # most are parts of texts, such as ids in hexadecimal digits
            before = document[max(0, at - _LOOK_BACK) : at + 1].rstrip(_OF_NUMBERS)
            if not before or before[-1] in _BEFORE_NUMBERS:
                return True
            at = digits.find(mark, at + 1)
    return False


def written(value: Any) -> str:
    """A JSON value as the text to give to `jsonb`."""
    kind = type(value)
    if kind is float and abs(value) >= _WHOLE_FROM:
        return f"{int(value)}.0"
    if kind is list:
        return f"[{','.join(map(written, value))}]"
    if kind is dict:
        return "{" + ",".join(f"{written(name)}:{written(item)}" for name, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)
