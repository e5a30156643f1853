"""Tokens taken out of what somebody reads who does not manage keys: the one place that decides how.

Tokens and a text enter; the text leaves with `STAND_IN` where one of them stood, however the client wrote it:
plain, percent-encoded, with JSON's escapes, within base64, or begun where a text was cut. Pure.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

STAND_IN: Final = "YOUR_TOKEN"
_SURE_CHARS: Final = 4
"""So many characters of a token at the end of a cut text are taken for its beginning."""
_LONG_CHARS: Final = 64
_REST: Final = r"[!#-%'-~]*"
_CUT: Final = r'(?=\Z|"\})'
_ALIKE: Final = {"+": "-", "/": "_"}


class Mask:
    """What takes these tokens out of texts; of none, it leaves them as they are."""

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        self._tokens = tuple(sorted(set(tokens)))

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and other._tokens == self._tokens

    def __hash__(self) -> int:
        return hash(self._tokens)

    @property
    def pattern(self) -> str:
        """The regular expression of what is taken out, for a process of its own; "" of no token."""
        return _pattern(self._tokens)

    def text(self, text: str) -> str:
        """The text without the tokens."""
        return _compiled(self._tokens).sub(STAND_IN, text) if self._tokens else text


NOTHING_HIDDEN: Final = Mask()


@lru_cache(maxsize=64)
def _compiled(tokens: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(_pattern(tokens))


@lru_cache(maxsize=64)
def _pattern(tokens: tuple[str, ...]) -> str:
    return "|".join(_written(form) for token in tokens for form in (token, *_in_base64(token)))


def _in_base64(token: str) -> list[str]:
    """What is sure of a token within base64, for each of the three places at which it may begin."""
    raw = token.encode()
    found = []
    for before in range(3):
        whole = base64.b64encode(bytes(before) + raw + bytes(2)).decode()
        found.append(whole[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6])
    return [form for form in found if len(form) > _SURE_CHARS]


def _written(form: str) -> str:
    """A form of a token, whole, or its first characters where the text was cut behind them."""
    chars = [_char(char) for char in form[:_LONG_CHARS]]
    sure, more = "".join(chars[:_SURE_CHARS]), chars[_SURE_CHARS:]
    end = _REST if len(form) > _LONG_CHARS else ""
    if not more:
        return sure
    cut = _CUT
    for char in reversed(more[:-1]):
        cut = f"(?:{char}{cut}|{_CUT})"
    return f"{sure}(?:{''.join(more)}{end}|{cut})"


def _char(char: str) -> str:
    """A character in every way in which a client may write it."""
    ways = {char.lower(), char.upper(), _ALIKE.get(char, char)}
    plain = "[" + "".join(re.escape(way) for way in sorted(ways)) + "]"
    escapes = {f"{ord(way):02x}" for way in ways}
    coded = "|".join(f"%{_digits(code)}|{re.escape(chr(92))}u00{_digits(code)}" for code in sorted(escapes))
    slash = "|" + re.escape("\\/") if "/" in ways else ""
    return f"(?:{plain}|{coded}{slash})"


def _digits(code: str) -> str:
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in code)
