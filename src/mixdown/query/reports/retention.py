"""Retention: of those who did one thing, how many came back to do another, and how long after.

A `RetentionQuery` enters; for each stretch of days how many began in it, and how many of them came back in
each interval after their own beginning, leave (contract query §5.1). All of it is SQL: beginnings are a
table, what happens later is joined to it, and the intervals of one beginning are bits of a few numbers.

- Whoever is counted begins once, with their first event of `born` in the span ("birth"), or in each stretch
  with their first such event in it ("compounded").
- Interval 0 begins with that event, and each has the same length of time, whatever the calendar says: days of
  24 hours, weeks of seven of them, months of thirty.
- A return is an event later than the beginning, in the order of time and then of arrival. What follows the
  span counts.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from mixdown.model.expression import Expression
from mixdown.query.events.buckets import Buckets, Span
from mixdown.query.events.columns import labels_sql
from mixdown.query.events.figures import bounded
from mixdown.query.events.reader import EventReads
from mixdown.query.events.where import Selector
from mixdown.query.reports import periods
from mixdown.query.reports.periods import integer_of, ms_sql, place_sql, refuse_too_many_cells
from mixdown.query.reports.rows import ReportRows, Wanted, report_rows
from mixdown.store.duck.table import at_time
from mixdown.store.events import LAST_MS

UNIT_MS: Final = {"day": 86_400_000, "week": 7 * 86_400_000, "month": 30 * 86_400_000}
INTERVALS_LIMIT: Final = 366
_BITS: Final = 62
"""So many intervals are kept in one number."""


class RetentionQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Who begins in each of `buckets`, and returns in each of `intervals` intervals of `interval_ms`.

    With `unbounded`, who returns later counts in each interval before as well. With `on`, returns are told by
    the values that they have of it: at most `limit` values, those of most persons.
    """

    project: int
    born: Selector
    returning: Selector
    buckets: Buckets
    interval_ms: int
    intervals: int
    compounded: bool = False
    unbounded: bool = False
    on: Expression | None = None
    limit: int = 255
    group_key: str = ""


class Row(msgspec.Struct, frozen=True):
    """Who began in a stretch: how many, how many returned in each interval, and likewise with each value."""

    first: int
    counts: list[int]
    segments: dict[str, list[int]]


def retention(reads: EventReads, query: RetentionQuery, *, now_ms: int) -> dict[str, Row]:
    """A row for each stretch, by its key. Blocks. Raises `QueryError` (400), `StoreError`."""
    keys = query.buckets.keys()
    refuse_too_many_cells(len(keys) * query.intervals)
    span = query.buckets.span
    later_ms = query.intervals * query.interval_ms
    wanted = Wanted(
        project=query.project,
        span=Span(span.since_ms, min(span.until_ms + later_ms, LAST_MS)),
        selectors=(query.born, query.returning),
        values=() if query.on is None else (query.on,),
        group_key=query.group_key,
    )
    found = {place: Row(0, [0] * query.intervals, {}) for place in range(len(keys))}
    with report_rows(reads, wanted, now_ms=now_ms) as rows:
        moments = _moments_of(rows, query)
        _find_births(rows, query, moments)
        for place, first in rows.rows("SELECT place, count(*) FROM births GROUP BY place"):
            found[place] = Row(first, [0] * query.intervals, {})
        _find_returns(rows, query, moments)
        for place, *counts in rows.rows(_counts_sql(query, "place", _whole_sql(query))):
            found[place].counts[:] = counts
        if query.on is not None:
            _tell_values(rows, query, found)
    return {key: found[place] for place, key in enumerate(keys)}


class _Moments(NamedTuple):
    """SQL for the place of an event in the order of time and then of arrival, as one number: a moment.

    Its lowest `bits` are the `arrival`, what is above them the time since `since_ms`.
    """

    sql: str
    arrival: str
    bits: int
    since_ms: int

    @property
    def ms(self) -> str:
        """SQL for the time of a moment."""
        return f"((moment >> {self.bits})::BIGINT + {self.since_ms:d})"

    @property
    def arrived(self) -> str:
        """SQL for the arrival of a moment."""
        return f"(moment & {(1 << self.bits) - 1:d})::BIGINT"


def _moments_of(rows: ReportRows, query: RetentionQuery) -> _Moments:
    since_ms = query.buckets.span.since_ms
    length_ms = query.buckets.span.until_ms - since_ms + query.intervals * query.interval_ms
    time_bits = length_ms.bit_length()
    arrival, bits = rows.arrival(periods.NUMBER_BITS - time_bits)
    kind = integer_of(time_bits + bits)
    sql = f"((({ms_sql('time')} - {since_ms:d})::{kind} << {bits}) + {arrival})"
    return _Moments(sql, arrival, bits, since_ms)


def _find_births(rows: ReportRows, query: RetentionQuery, moments: _Moments) -> None:
    """Make the table `births`: person, their number n, place; us and arrival: see `_born_sql`."""
    until_ms = query.buckets.span.until_ms
    source = f"FROM {rows.relation.sql} WHERE match0 AND time < {at_time(until_ms)}"
    first = f"min({moments.sql}) AS moment"
    if query.compounded:
        place = place_sql(query.buckets, ms_sql("time"))
        begun = f"SELECT person, {place} AS place, {first} {source} GROUP BY 1, 2"
        rows.run(f"CREATE TEMP TABLE begun AS {begun}", rows.relation.parameters)
        numbers = "SELECT person, row_number() OVER () AS n FROM (SELECT DISTINCT person FROM begun)"
        told = f"SELECT *, {moments.ms} AS ms FROM begun JOIN ({numbers}) USING (person)"
        rows.run(f"CREATE TEMP TABLE births AS {_born_sql(told, moments)}")
        rows.run("DROP TABLE begun")
    else:
        begun = f"SELECT person, row_number() OVER () AS n, {first} {source} GROUP BY person"
        told = f"SELECT person, n, moment, {moments.ms} AS ms FROM ({begun})"
        placed = f"SELECT *, {place_sql(query.buckets, 'ms')} AS place FROM ({told})"
        rows.run(f"CREATE TEMP TABLE births AS {_born_sql(placed, moments)}", rows.relation.parameters)


def _born_sql(told: str, moments: _Moments) -> str:
    """SQL of beginnings with what each event is compared to.

    Microseconds, because DuckDB has times so and nothing is to be computed of each event; and the arrival
    apart, because it counts only where two times are equal.
    """
    return f"SELECT person, n, place, ms * 1000 AS us, {moments.arrived} AS arrival FROM ({told})"


def _find_returns(rows: ReportRows, query: RetentionQuery, moments: _Moments) -> None:
    """Make the table `returns`: n, place, value, and the intervals in which there was one as bits.

    An event is compared to the beginning by one number, `past`: the microseconds since then, and one more
    where it arrived later. It follows the beginning where that is not less than one, and as times are whole
    milliseconds, the one moves no event to another interval.
    """
    value = ", value0 AS value" if query.on is not None else ""
    interval_us = query.interval_ms * 1000
    by = ["n", *(["place"] if query.compounded else []), *(["value"] if query.on is not None else [])]
    names = ", ".join(by)
    source = f"FROM {rows.relation.sql} WHERE match1"
    if query.compounded:
        few = _outermost_sql(f"SELECT person, {moments.sql} AS moment{value} {source}", query, moments.bits)
        who, seen = "n", f"SELECT *, {moments.ms} * 1000 AS us, {moments.arrived} AS arrival FROM ({few})"
    else:
        who = "person"
        seen = f"SELECT person, epoch_us(time) AS us, {moments.arrival} AS arrival{value} {source}"
    past = "(seen.us - births.us) + (seen.arrival > births.arrival)::BIGINT AS past"
    told = (
        f"SELECT births.n, {', '.join([*by[1:], past])} "
        f"FROM ({seen}) AS seen JOIN births ON births.{who} = seen.{who}"
    )
    if query.compounded:  # most beginnings of a person are too early or too late for an event
        told = f"SELECT * FROM ({told}) WHERE past BETWEEN 1 AND {query.intervals * interval_us}"
    bits = _bits_sql(query, interval_us)
    found = f"SELECT {names}, {', '.join(bits)} FROM ({told}) GROUP BY {names}"
    if not query.compounded:  # each n has one place: to group by that as well costs something for each row
        found = f"SELECT found.*, place FROM ({found}) AS found JOIN births USING (n)"
    some = " OR ".join(f"bits{number} <> 0" for number in range(len(bits)))
    rows.run(f"CREATE TEMP TABLE returns AS SELECT * FROM ({found}) WHERE {some}", rows.relation.parameters)


def _bits_sql(query: RetentionQuery, interval_us: int) -> list[str]:
    """SQL of the intervals in which something happened, of the times `past` when it did, as `bits0`, ...

    What lies in no interval is no bit: to pass such rows by before they are grouped costs more, as nearly all
    are within.
    """
    return [
        f"bit_or(CASE WHEN past BETWEEN {max(1, low * interval_us)} "
        f"AND {min(low + _BITS, query.intervals) * interval_us - 1} "
        f"THEN 1::BIGINT << (past // {interval_us} - {low}) ELSE 0 END) AS bits{number}"
        for number, low in enumerate(range(0, query.intervals, _BITS))
    ]


def _outermost_sql(seen: str, query: RetentionQuery, bits: int) -> str:
    """SQL of the first and the last event of each person, and value, in each stretch of an interval's length.

    A stretch lies in two intervals of a beginning at most: where any of its events lies in the earlier one,
    so does its first, and in the later one, its last. Many beginnings meet fewer events so.
    """
    value = ", value" if query.on is not None else ""
    stretch = f"((moment >> {bits}) // {query.interval_ms:d})"
    return (
        f"SELECT n{value}, unnest([min(moment), max(moment)]) AS moment FROM ({seen}) "
        "JOIN (SELECT DISTINCT person, n FROM births) USING (person) "
        f"GROUP BY n, {stretch}{value}"
    )


def _whole_sql(query: RetentionQuery) -> str:
    """The returns of each beginning, whatever values they have."""
    if query.on is None:
        return "returns"
    return f"(SELECT place, {_together_sql(query)} FROM returns GROUP BY n, place)"


def _together_sql(query: RetentionQuery) -> str:
    numbers = range(-(-query.intervals // _BITS))
    return ", ".join(f"bit_or(bits{number}) AS bits{number}" for number in numbers)


def _counts_sql(query: RetentionQuery, by: str, source: str) -> str:
    """SQL of how many returned in each interval, by some columns."""
    return (
        f"SELECT {by}, {', '.join(_is_set(query, interval) for interval in range(query.intervals))} "
        f"FROM {source} GROUP BY {by}"
    )


def _is_set(query: RetentionQuery, interval: int) -> str:
    number, bit = divmod(interval, _BITS)
    if not query.unbounded:
        return f"count(*) FILTER ((bits{number} >> {bit}) & 1 = 1)"
    later = [f"bits{other} <> 0" for other in range(number + 1, -(-query.intervals // _BITS))]
    return f"count(*) FILTER ({' OR '.join([f'(bits{number} >> {bit}) <> 0', *later])})"


def _tell_values(rows: ReportRows, query: RetentionQuery, found: dict[int, Row]) -> None:
    """Add to the rows the returns with each of the most frequent values."""
    rows.run(
        "CREATE TEMP TABLE named AS SELECT value, unnest(labels) AS label FROM "
        f"(SELECT value, {labels_sql('value')} AS labels FROM (SELECT DISTINCT value FROM returns))"
    )
    rows.run(
        f"CREATE TEMP TABLE labelled AS SELECT label, n, place, {_together_sql(query)} FROM returns "
        "JOIN named ON named.value IS NOT DISTINCT FROM returns.value GROUP BY label, n, place"
    )
    most = rows.rows(
        "SELECT label FROM (SELECT label, count(DISTINCT n) AS persons FROM labelled GROUP BY label) "
        "ORDER BY persons DESC, label LIMIT ?",
        [query.limit],
    )
    labels = [label for (label,) in bounded(most)]
    refuse_too_many_cells((1 + len(labels)) * len(found) * query.intervals)
    for row in found.values():
        row.segments.update((label, [0] * query.intervals) for label in labels)
    rows.run("CREATE TEMP TABLE told AS SELECT unnest(?::VARCHAR[]) AS label", [labels])
    few = "(SELECT * FROM labelled SEMI JOIN told USING (label))"
    for label, place, *counts in rows.rows(_counts_sql(query, "label, place", few)):
        found[place].segments[label][:] = counts
