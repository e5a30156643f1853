"""Ranges of days, as reports and the raw export take them (contract query §4).

Parameters enter; a first and a last day leave, both inclusive, or `QueryError` (400) naming the one that is
wrong. It must never refuse a day that is today somewhere on Earth: clients compute it in zones of their own.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Final, NamedTuple

from mixdown.http.parameters import Parameters
from mixdown.model.errors import QueryError

TOO_LATE: Final = "to_date cannot be later than today"
"""Mixpanel's own words, which clients look for (contract query §1.5, §4)."""
_DAY: Final = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})", re.ASCII)
_EASTERNMOST: Final = timezone(timedelta(hours=14))
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class DateRange(NamedTuple):
    """The days from `first` to `last`, both inclusive; None where that end was not given."""

    first: date | None
    last: date | None


def date_range(
    parameters: Parameters, *, required: bool = False, names: tuple[str, str] = ("from_date", "to_date")
) -> DateRange:
    """The days that are asked for. Raises `QueryError` (400): missing, malformed, or the wrong way round."""
    first, last = (_day(parameters.text(name), name, required=required) for name in names)
    if first is not None and last is not None and first > last:
        raise QueryError(f"{names[0]}, {first} is later than {names[1]}, {last}", status=400)
    return DateRange(first, last)


def refuse_days_to_come(days: DateRange, *, now_ms: int) -> None:
    """Raises `QueryError` (400) where the last day has begun nowhere on Earth yet (contract query §4)."""
    today = (_EPOCH + timedelta(milliseconds=now_ms)).astimezone(_EASTERNMOST).date()
    if days.last is not None and days.last > today:
        raise QueryError(TOO_LATE, status=400)


def _day(text: str, name: str, *, required: bool) -> date | None:
    """A day, written `2016-09-23` or unpadded, as some clients do: `2016-9-23`."""
    bare = text.strip()
    if not bare and not required:
        return None
    parts = _DAY.fullmatch(bare)
    if parts is not None:
        year, month, day = map(int, parts.groups())
        try:
            return date(year, month, day)
        except ValueError:
            pass
    what = "must be a day as YYYY-MM-DD" if bare else "missing: give a day as YYYY-MM-DD"
    raise QueryError(f"{name}, {what}", status=400)
