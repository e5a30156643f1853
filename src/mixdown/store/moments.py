"""Times as texts and numbers that SQL can compare: the bounds that every engine's dialect shares.

Enters: a range of unix seconds and a time zone. Leaves: texts of local times, which sort as times do.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

LOCAL: Final = "%Y-%m-%dT%H:%M:%S"
"""The form in which Mixdown itself writes times."""
FIRST: Final = "0001-01-01T00:00:00"
_LAST: Final = ":"
"""Sorts behind every text that begins with a digit."""
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - only ever added to
_UTC_KEYS: Final = ("UTC", "Etc/UTC")
_EXACT_INT: Final = 2**53
# No zone is further than a day from UTC, and neither is any offset that a text may carry.
_FARTHEST_S: Final = 26 * 3600
_DAYS_AROUND_S: Final = 3 * 86_400


def milliseconds_fit(begin: int | None, end: int | None) -> bool:
    """Whether the range in milliseconds is made of numbers that doubles hold exactly."""
    return all(abs(limit) * 1000 <= _EXACT_INT for limit in (begin, end) if limit is not None)


def _text(seconds: int) -> str:
    try:
        return (_EPOCH + timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        return FIRST if seconds < 0 else _LAST


def days_around(begin: int | None, end: int | None) -> tuple[str, str | None]:
    """Between which texts every text must lie that is a time in the range, whatever offset it carries.

    None is no limit.
    """
    first = FIRST if begin is None else _text(begin - _DAYS_AROUND_S)
    return first[:10], None if end is None else _text(end + _DAYS_AROUND_S)


def local_text(begin: int | None, end: int | None, zone: tzinfo, *, wider: bool) -> tuple[str, str | None]:
    """Between which texts, from the first up to the last, a local time without offset lies in the range.

    Exact in UTC. In other zones one set of texts is `wider` than that, the other narrower, by more than any
    zone differs.
    """
    margin = 0 if zone is UTC or getattr(zone, "key", "") in _UTC_KEYS else _FARTHEST_S
    if wider:
        margin = -margin
    first = FIRST if begin is None else _text(begin + margin)
    return first, None if end is None else _text(end - margin)
