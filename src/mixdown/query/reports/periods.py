"""The rows of funnels and retention: the place of an event among a report's buckets, and their bounds."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from mixdown.model.errors import QueryError
from mixdown.query.events.buckets import Buckets, local_of, offsets, start_of
from mixdown.query.events.figures import CELLS_LIMIT, TOO_MANY_CELLS

_EVEN_MS: Final = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000, "week": 7 * 86_400_000}
"""Units that have one length where the clocks stay as they are."""
_BARE_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - of local times, which have no zone
_MS: Final = timedelta(milliseconds=1)
NUMBER_BITS: Final = 62
"""Numbers of so many bits are BIGINT; longer ones are HUGEINT, which takes several times as long."""


def integer_of(bits: int) -> str:
    """The type of numbers that have so many bits."""
    return "BIGINT" if bits <= NUMBER_BITS else "HUGEINT"


def ms_sql(time: str) -> str:
    """SQL for a time in milliseconds, as a number.

    Times are whole milliseconds: what a double loses of their microseconds, rounding gives back. `epoch_ms`
    says the same and takes several times as long.
    """
    return f"CAST(epoch_us({time}) / 1000 AS BIGINT)"


def place_sql(buckets: Buckets, ms: str, since_ms: int = 0) -> str:
    """SQL for the place of a time among the buckets, from 0; it is given in milliseconds since `since_ms`."""
    first = next(buckets.starts(), None)
    if first is None:
        return "NULL::BIGINT"
    shifts = offsets(buckets.span, buckets.zone)
    if len(shifts) == 1 and buckets.unit in _EVEN_MS:  # a division takes a third of what the calendar does
        past_ms = since_ms + shifts[0][1] - (first - _BARE_EPOCH) // _MS
        return f"(({ms} + {past_ms:d}) // {_EVEN_MS[buckets.unit] * buckets.every:d})"
    time = f"CAST(make_timestamp_ms({ms} + {since_ms:d}) AS TIMESTAMP_MS)"
    since = f"TIMESTAMP '{first.isoformat(sep=' ')}'"
    return f"(date_diff('{buckets.unit}', {since}, {buckets.sql(time)}) // {buckets.every:d})"


def ascends(buckets: Buckets) -> bool:
    """Whether a later event never has an earlier place: not so where clocks go back past a bucket's begin."""
    changes = [at for at, _ in offsets(buckets.span, buckets.zone)][1:]
    around = [(local_of(at - 1, buckets.zone), local_of(at, buckets.zone)) for at in changes]
    return all(start_of(buckets.unit, old) <= start_of(buckets.unit, new) for old, new in around)


def refuse_too_many_cells(count: int) -> None:
    """Raises `QueryError` (400) where an answer would have more figures than it may."""
    if count > CELLS_LIMIT:
        raise QueryError(TOO_MANY_CELLS, status=400)
