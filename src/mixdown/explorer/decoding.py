"""Large JSON decoded so that others get their turn: the lock of the interpreter is free between its pieces.

Bytes enter, the value leaves. Small ones are decoded at once. Nothing is known here of what they say.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import orjson

PIECE_BYTES: Final = 256 * 1024
"""A piece of so many bytes takes about a millisecond, in which nobody else can run."""
_objects: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_lists: Final = msgspec.json.Decoder(list[msgspec.Raw])


def decoded(body: bytes) -> Any:
    """The value of a JSON text, piece by piece where it is large. Raises `ValueError` for what is none."""
    if len(body) <= PIECE_BYTES:
        return orjson.loads(body)
    begin = body[:64].lstrip()[:1]
    try:
        if begin == b"{":
            return {name: decoded(bytes(part)) for name, part in _objects.decode(body).items()}
        if begin == b"[":
            return [decoded(bytes(part)) for part in _lists.decode(body)]
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    return orjson.loads(body)
