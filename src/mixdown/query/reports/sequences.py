"""The events of a funnel's steps in the order that its windows run along: by person, the latest first.

Rows of a report and a `FunnelQuery` enter; SQL leaves, in shares that DuckDB may work on side by side. There
are two ways to that order. Events *gathered* are a list for each person, of numbers made of time, place in
the log and steps: no person needs a number, and each list is sorted by itself. Lists stay in memory, so where
there is not enough of it, where such a number would be too long, and where values are told, events are
*sorted*, all of them, which may go by the disk.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mixdown.model.errors import TooMuchAtOnceError
from mixdown.query.reports import periods
from mixdown.query.reports.periods import integer_of, ms_sql, place_sql
from mixdown.query.reports.rows import ReportRows
from mixdown.store.duck.table import at_time

if TYPE_CHECKING:
    from mixdown.query.reports.funnels import FunnelQuery

_SHARES: Final = 2
"""Windows run along a share in one thread: so many shares as a read has threads."""


class Sequences(msgspec.Struct, frozen=True):
    """SQL of each share of the persons' events, the latest first, each with `parameters`.

    Columns: `k`, a number made of who it was and when, whose lowest `bits` are the moment; `place`, NULL
    where no attempt begins; `value`, where values are told; `match0`, ...
    """

    shares: tuple[str, ...]
    bits: int
    parameters: tuple[Any, ...] = ()


def sequences(rows: ReportRows, query: FunnelQuery) -> Sequences:
    """The events of the steps in their order. Raises `StoreError`."""
    if query.on is None:
        found = _gathered(rows, query)
        if found is not None:
            return found
    return _sorted(rows, query)


def _moment_bits(query: FunnelQuery) -> int:
    """Bits in which two persons' moments are further apart than a window is long."""
    span = query.buckets.span
    return (span.until_ms - span.since_ms + 2 * query.window_ms + 2).bit_length()


def _gathered(rows: ReportRows, query: FunnelQuery) -> Sequences | None:
    """Make the table `gathered`: a list for each person; None where that cannot be.

    Lists are sorted where a share reads them: DuckDB gives out what it has grouped by as many threads as
    memory has room for its partitions, which may be one.
    """
    span, steps, bits = query.buckets.span, range(len(query.steps)), _moment_bits(query)
    low = len(query.steps)
    arrival, arrival_bits = rows.arrival(periods.NUMBER_BITS - bits - low)
    high = low + arrival_bits
    if high + bits > periods.NUMBER_BITS:
        return None
    matches, names = _matches_sql(query)
    past_ms = f"({ms_sql('time')} - {span.since_ms:d})"
    packed = f"({past_ms} << {high}) | ({arrival} << {low}) | {matches}"
    try:
        rows.run(
            f"CREATE TEMP TABLE gathered AS SELECT list({packed}) AS seen "
            f"FROM {rows.relation.sql} GROUP BY person",
            (*names, *rows.relation.parameters),
        )
    except TooMuchAtOnceError:
        return None
    ((count,),) = rows.rows("SELECT count(*) FROM gathered")
    kind = integer_of(bits + int(count).bit_length())
    begins = f"ms < {span.until_ms - span.since_ms:d}" + (" AND match0" if query.order == "loose" else "")
    told = ", ".join(f"(packed & {1 << step}) <> 0 AS match{step}" for step in steps)
    ends = [count * share // _SHARES for share in range(_SHARES + 1)]
    shares = [
        f"SELECT (({count} - n)::{kind} << {bits}) + ms AS k, "
        f"CASE WHEN {begins} THEN {place_sql(query.buckets, 'ms', span.since_ms)} END AS place, "
        f"{', '.join(f'match{step}' for step in steps)} FROM (SELECT n, packed >> {high} AS ms, {told} FROM "
        f"(SELECT rowid AS n, unnest(list_reverse(list_sort(seen))) AS packed FROM gathered "
        f"WHERE rowid >= {first} AND rowid < {end}))"
        for first, end in pairwise(ends)
    ]
    return Sequences(tuple(shares), bits)


def _matches_sql(query: FunnelQuery) -> tuple[str, tuple[str, ...]]:
    """SQL for the steps that an event is of, as bits, and its parameters.

    Names alone are looked up by a function of nothing else: DuckDB asks it once for each different name of a
    group of rows, where it compares the texts of each row.
    """
    bits: dict[str, int] = {}
    for step, each in enumerate(query.steps):
        if not each.selector.where.is_blank or each.selector.events is None:
            return " | ".join(f"(match{place}::BIGINT << {place})" for place in range(len(query.steps))), ()
        for name in each.selector.events:
            bits[name] = bits.get(name, 0) | 1 << step
    values = ", ".join(map(str, bits.values()))
    names = ", ".join("?" * len(bits))
    return f"list_extract([{values}]::BIGINT[], list_position([{names}]::VARCHAR[], event))", tuple(bits)


def _sorted(rows: ReportRows, query: FunnelQuery) -> Sequences:
    """Number the persons, and sort all events by these numbers."""
    span, bits = query.buckets.span, _moment_bits(query)
    kind = integer_of(bits + rows.number_persons().bit_length())
    k = f"((n::{kind} << {bits}) + ({ms_sql('time')} - {span.since_ms:d}))"
    begins = f"time < {at_time(span.until_ms)}" + (" AND match0" if query.order == "loose" else "")
    value = ", value0 AS value" if query.on is not None else ""
    matches = "".join(f", match{step}" for step in range(len(query.steps)))
    share = (
        f"SELECT {k} AS k, CASE WHEN {begins} THEN {place_sql(query.buckets, ms_sql('time'))} END AS place"
        f"{value}{matches} FROM {rows.relation.sql} AS seen JOIN numbered ON numbered.person = seen.person "
        "ORDER BY k DESC, position DESC"
    )
    return Sequences((share,), bits, rows.relation.parameters)
