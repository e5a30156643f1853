"""Times on the wire (contract ingestion §7.2, §5.1): seconds or milliseconds in, ISO text out. Pure."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, Final

from mixdown.model.limits import INT_MAX, INT_MIN

MILLISECONDS_FROM: Final = 1e11
_NUMBER: Final = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
_TWO_DIGITS: Final = tuple(f"{number:02}" for number in range(60))
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_YEAR_9999_MS: Final = 253_402_300_799_999


def number_of(text: str) -> int | float | None:
    """The plain decimal number that `text` spells (blanks around it allowed), or None."""
    if not text.isascii() or len(text) > 400 or _NUMBER.fullmatch(text) is None:
        return None
    bare = text.strip()
    if bare.lstrip("+-").isdigit():
        whole = int(bare)
        if INT_MIN <= whole <= INT_MAX:
            return whole
    value = float(bare)
    return value if math.isfinite(value) else None


def epoch_ms(value: Any) -> int:
    """`$time` as milliseconds since 1970, 0 where it is absent or no time (contract ingestion §3.1).

    Below 1e11 the unit is seconds, from there on milliseconds.
    """
    kind = type(value)
    if kind is str:
        value = number_of(value)
        kind = type(value)
    if (kind is not int and kind is not float) or not 0 < value <= _YEAR_9999_MS:
        return 0
    return int(value * 1000) if value < MILLISECONDS_FROM else int(value)


@lru_cache(maxsize=1024)
def _date_text(day: int) -> str:
    return date.fromordinal(_EPOCH_DAY + day).isoformat()


def iso_seconds(ms: int) -> str:
    """`YYYY-MM-DDTHH:MM:SS` in UTC of a time in milliseconds, cut to whole seconds."""
    day, second = divmod(ms // 1000, 86_400)
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    return f"{_date_text(day)}T{_TWO_DIGITS[hour]}:{_TWO_DIGITS[minute]}:{_TWO_DIGITS[second]}"


def canonical_timestamp(value: Any) -> str | None:
    """A given `$last_seen` in the one form that readers accept, or None where it is no time.

    Takes ISO text (fraction, `Z` and offsets allowed; without offset it is UTC) or a unix time.
    """
    if type(value) is not str:
        ms = epoch_ms(value)
        return iso_seconds(ms) if ms else None
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        ms = epoch_ms(value)
        return iso_seconds(ms) if ms else None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    except OverflowError:
        return None
