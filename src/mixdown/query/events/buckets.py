"""Time as reports cut it: spans of days, and buckets of a unit in a project's zone (contract query §5.1).

Days, units and a zone enter; bounds in milliseconds, the keys of a series, and the SQL that names an event's
bucket leave. Pure: what is today comes in as a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import islice
from typing import Final, NamedTuple

from mixdown.model.errors import QueryError

UNITS: Final = ("minute", "hour", "day", "week", "month")
BUCKETS_LIMIT: Final = 50_000
"""The most keys that a series may have: 34 days of minutes."""
EARLIEST: Final = date(1970, 1, 1)
LATEST: Final = date(2200, 1, 1)
TOO_MANY: Final = (
    f"unit, this range of days has more than {BUCKETS_LIMIT} units: ask for fewer days or a longer unit"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BARE_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - of local times, which have no zone
_DAY: Final = timedelta(days=1)
_MS: Final = timedelta(milliseconds=1)
_FIXED: Final = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": _DAY,
    "week": timedelta(weeks=1),
}
_FORMATS: Final = {"minute": "%Y-%m-%d %H:%M:00", "hour": "%Y-%m-%d %H:00:00"}
_MONTHS: Final = 12


class Span(NamedTuple):
    """A stretch of time, from `since_ms` up to and without `until_ms`."""

    since_ms: int
    until_ms: int


def span_of_days(first: date, last: date, zone: tzinfo = UTC) -> Span:
    """The days from `first` to `last`, inclusive, as they are in `zone`; none before 1970 and after 2200."""
    first = min(max(first, EARLIEST), LATEST + _DAY)
    last = min(max(last, EARLIEST - _DAY), LATEST)
    return Span(_midnight_ms(first, zone), _midnight_ms(last + _DAY, zone))


def days_before(day: date, count: int) -> date:
    """The day so many days before another, as far back as there are days."""
    return date.fromordinal(max(1, day.toordinal() - count))


def today(now_ms: int, zone: tzinfo = UTC) -> date:
    """The day that it is in `zone`."""
    return (_EPOCH + now_ms * _MS).astimezone(zone).date()


def _midnight_ms(day: date, zone: tzinfo) -> int:
    """When a day begins in a zone: its first moment, where midnight comes twice or never."""
    return moment_of(datetime(day.year, day.month, day.day), zone)  # noqa: DTZ001 - of local times


def local_of(ms: int, zone: tzinfo) -> datetime:
    """The local time, without a zone, that it is at a moment."""
    return (_EPOCH + ms * _MS).astimezone(zone).replace(tzinfo=None)


def moment_of(local: datetime, zone: tzinfo) -> int:
    """The moment in milliseconds of a local time without a zone: the first of two, where it comes twice."""
    return (local.replace(tzinfo=zone) - _EPOCH) // _MS


class Buckets(NamedTuple):
    """The buckets of a series: a unit, the span that is counted, and the zone that cuts it.

    Each is `every` units long, counted from the unit that the span begins in.
    """

    unit: str
    span: Span
    zone: tzinfo = UTC
    every: int = 1

    def keys(self) -> list[str]:
        """The key of each bucket, ascending. Raises `QueryError` (400) where they are too many."""
        self.refuse_too_many()
        return [self.key(start) for start in self.starts()]

    def refuse_too_many(self) -> None:
        """Raises `QueryError` (400) where a series would have too many keys."""
        if any(True for _ in islice(self.starts(), BUCKETS_LIMIT, None)):
            raise QueryError(TOO_MANY, status=400)

    def key(self, start: datetime) -> str:
        """How a bucket is called that begins at this local time (contract query §5.1)."""
        return start.strftime(_FORMATS.get(self.unit, "%Y-%m-%d"))

    def times(self) -> list[int]:
        """When each bucket begins, in unix seconds, ascending; call `keys` first: it bounds them."""
        return [moment_of(start, self.zone) // 1000 for start in self.starts()]

    def starts(self) -> Iterator[datetime]:
        """The local time at which each bucket begins, as `sql` gives it, ascending."""
        since_ms, until_ms = self.span
        if since_ms >= until_ms:
            return
        start = start_of(self.unit, local_of(since_ms, self.zone))
        last = local_of(until_ms - 1, self.zone)
        while start <= last:
            yield start
            start = following(self.unit, start, self.every)

    def sql(self, time: str) -> str:
        """SQL for the local start of the bucket of a column of times: a TIMESTAMP, to be given to `key`.

        Where clocks go back past midnight, what lies in the span and yet on the day before counts to its
        first bucket.
        """
        shifts = offsets(self.span, self.zone)
        first = start_of(self.unit, local_of(self.span.since_ms, self.zone)).isoformat(sep=" ")
        begun = " ".join(f"WHEN epoch_ms({time}) >= {at} THEN {shift}" for at, shift in reversed(shifts[1:]))
        offset = f"CASE {begun} ELSE {shifts[0][1]} END" if begun else str(shifts[0][1])
        if shifts == [(self.span.since_ms, 0)]:
            start = f"date_trunc('{self.unit}', {time})"
        else:
            local = f"date_trunc('{self.unit}', make_timestamp_ms(epoch_ms({time}) + {offset}))"
            start = f"greatest(TIMESTAMP '{first}', {local})"
        if self.every == 1:
            return start
        passed = f"date_diff('{self.unit}', TIMESTAMP '{first}', {start}) // {self.every:d} * {self.every:d}"
        return f"TIMESTAMP '{first}' + INTERVAL 1 {self.unit} * ({passed})"


def start_of(unit: str, moment: datetime) -> datetime:
    """The start of the unit that a local time lies in; weeks begin on Monday."""
    if unit == "minute":
        return moment.replace(second=0, microsecond=0)
    if unit == "hour":
        return moment.replace(minute=0, second=0, microsecond=0)
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if unit == "month" else day


def following(unit: str, start: datetime, count: int = 1) -> datetime:
    """The start of the unit `count` later, or earlier where it is negative."""
    if unit != "month":
        return start + count * _FIXED[unit]
    months = start.year * _MONTHS + start.month - 1 + count
    return start.replace(year=months // _MONTHS, month=months % _MONTHS + 1)


def span_of_interval(unit: str, interval: int, now_ms: int, zone: tzinfo = UTC) -> Span:
    """The current unit and the `interval - 1` before it, up to now (contract query §5.1)."""
    now = local_of(now_ms, zone)
    try:
        start = following(unit, start_of(unit, now), 1 - interval)
    except (OverflowError, ValueError):
        start = _BARE_EPOCH
    start = max(start, _BARE_EPOCH)
    return Span(moment_of(start, zone), now_ms + 1)


def offsets(span: Span, zone: tzinfo) -> list[tuple[int, int]]:
    """How local time differs from UTC within a span: (from when on, by how many ms), ascending."""
    found = [(span.since_ms, _offset_ms(span.since_ms, zone))]
    if zone is UTC:
        return found
    at = span.since_ms
    while at < span.until_ms:
        nxt = min(at + _DAY // _MS, span.until_ms)
        if _offset_ms(nxt, zone) != found[-1][1]:
            change = _first_with_other_offset(at, nxt, zone)
            found.append((change, _offset_ms(change, zone)))
        at = nxt
    return found


def _first_with_other_offset(low: int, high: int, zone: tzinfo) -> int:
    """The first millisecond after `low` whose offset is that of `high`."""
    wanted = _offset_ms(high, zone)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_ms(middle, zone) == wanted:
            high = middle
        else:
            low = middle
    return high


def _offset_ms(ms: int, zone: tzinfo) -> int:
    shift = (_EPOCH + ms * _MS).astimezone(zone).utcoffset()
    return 0 if shift is None else shift // _MS
