"""Funnels: how many persons, or groups, go through steps in a given time (contract query §5.1).

A `FunnelQuery` enters; counts and times by stretch of days, and by the values of a property, leave. All of
it is SQL: the events of the steps stand in one order, by person and latest first, and windows that run along
that order tell for each event which come next. Persons are gathered with a list of their events each, or,
where that takes more memory than there is, and where values are told, all events are sorted
(`query/reports/sequences.py`). What leaves is bounded by stretches, steps and values.

- An *attempt* begins with any event of the first step in the span, and reaches each next step with the first
  event of it that comes later, in the order of time and then of arrival, within the window that begins with
  the attempt. No event serves two steps of an attempt. What follows the span counts.
- In the order "any" it begins with an event of any step, and reaches as many steps as there are different
  ones done within the window, that event's included; an event serves all steps that it is of.
- Whoever is counted counts once in each stretch: by the attempt that got furthest, of several the earliest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import msgspec

from mixdown.model.errors import StoreError
from mixdown.model.expression import Expression
from mixdown.query.events.buckets import Buckets, Span
from mixdown.query.events.columns import labels_sql
from mixdown.query.events.figures import bounded
from mixdown.query.events.reader import EventReads
from mixdown.query.events.where import Selector
from mixdown.query.reports.periods import ascends, refuse_too_many_cells
from mixdown.query.reports.rows import ReportRows, Wanted, report_rows
from mixdown.query.reports.sequences import sequences

STEPS_LIMIT: Final = 20
ORDERS: Final = ("loose", "any")
_SO_FAR: Final = "OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
_RANK_BITS: Final = 48
"""So many attempts are told apart by a rank; far fewer could be sorted in any time."""
OUT_OF_ORDER: Final = "events did not come in their order"

Order = Literal["loose", "any"]


class Step(msgspec.Struct, frozen=True):
    """A step: the events that reach it, and how people call it."""

    selector: Selector
    event: str
    label: str = ""


class FunnelQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A funnel over the days of `buckets`. With `on`, also by the values that the first events have of it.

    At most `limit` values are told, those of most persons.
    """

    project: int
    steps: tuple[Step, ...]
    window_ms: int
    buckets: Buckets
    order: Order = "loose"
    on: Expression | None = None
    limit: int = 255
    group_key: str = ""


class Reached(msgspec.Struct, frozen=True):
    """How many reached each step, and sums of their times in ms: from the step before, and from the first."""

    counts: tuple[int, ...]
    from_before_ms: tuple[int, ...]
    from_start_ms: tuple[int, ...]


class FunnelFigures(msgspec.Struct, frozen=True):
    """Keys of the stretches; for each what was reached, overall and under each value, those of most first."""

    keys: list[str]
    overall: list[Reached]
    segments: dict[str, list[Reached]]


def funnel(reads: EventReads, query: FunnelQuery, *, now_ms: int) -> FunnelFigures:
    """The figures of a funnel. Blocks. Raises `QueryError` (400), `StoreError`."""
    keys = query.buckets.keys()
    steps = len(query.steps)
    refuse_too_many_cells(len(keys) * steps)
    span = query.buckets.span
    wanted = Wanted(
        project=query.project,
        span=Span(span.since_ms, span.until_ms + query.window_ms),
        selectors=tuple(step.selector for step in query.steps),
        values=() if query.on is None else (query.on,),
        group_key=query.group_key,
    )
    nothing = Reached((0,) * steps, (0,) * steps, (0,) * steps)
    with report_rows(reads, wanted, now_ms=now_ms, ordered=True) as rows:
        attempts = _attempts(rows, query)
        if query.on is None and ascends(query.buckets):
            found = rows.rows(_best_sql(attempts, query), attempts.all_parameters)
        else:
            rows.run(f"CREATE TEMP TABLE attempts AS {_ranked_sql(attempts, query)}", attempts.all_parameters)
            found = rows.rows(_figures_sql(steps, "attempts", "place"))
        overall = _overall(found, steps, len(keys))
        if query.on is None:
            return FunnelFigures(keys, overall, {})
        return FunnelFigures(keys, overall, _by_value(rows, query, nothing, len(keys)))


class _Attempts(msgspec.Struct, frozen=True):
    """SQL of the attempts of each share of persons, by person, the latest first; each takes `parameters`.

    Columns: `n` and `moment` of who began and when, as one number `k` too, whose lowest `bits` are the
    moment; `place`, `value`; and `next1`, ...: the `k` of the event with which each step is reached, or one
    that is further away than any window is long.
    """

    shares: tuple[str, ...]
    parameters: tuple[Any, ...]

    @property
    def all_parameters(self) -> tuple[Any, ...]:
        """What a statement over all shares takes."""
        return self.parameters * len(self.shares)


def _attempts(rows: ReportRows, query: FunnelQuery) -> _Attempts:
    """Who began when, and which events came next."""
    found, steps = sequences(rows, query), len(query.steps)
    kept = "k, place" + (", value" if query.on is not None else "")
    shares = []
    for share in found.shares:
        if query.order == "loose":
            sql = _ordered_sql(share, steps, kept, apart=_are_apart(query))
        else:
            sql = _unordered_sql(share, steps, kept)
        shares.append(f"SELECT *, k >> {found.bits} AS n FROM ({sql}) WHERE place IS NOT NULL")
    return _Attempts(tuple(shares), found.parameters)


def _are_apart(query: FunnelQuery) -> bool:
    """Whether no event can be one of two steps, as their names say."""
    names = [step.selector.events for step in query.steps]
    every = [name for each in names for name in set(each or ())]
    return None not in names and len(every) == len(set(every))


def _ordered_sql(seen: str, steps: int, kept: str, *, apart: bool) -> str:
    """SQL of when each next step is reached, in their order; `apart`: no event is one of two steps.

    From the last step to the second: whoever does a step next is known by then with all that follows it.
    """
    found = seen
    for step in range(steps - 1, 0, -1):
        matches = "".join(f", match{earlier}" for earlier in range(step))
        passed = "next" if apart else "passed"
        last = [_last_sql(f"match{step}", "k", f"{passed}{step}")]
        last += [
            _last_sql(f"match{step}", f"next{later}", f"{passed}{later}") for later in range(step + 1, steps)
        ]
        found = f"SELECT {kept}{matches}, {', '.join(last)} FROM ({found})"
        if not apart:  # what an event reaches comes after it: the row before has it
            nexts = "".join(f", lag(passed{later}) OVER () AS next{later}" for later in range(step, steps))
            found = f"SELECT {kept}{matches}{nexts} FROM ({found})"
    return found


def _unordered_sql(seen: str, steps: int, kept: str) -> str:
    """SQL of when steps are reached, in any order: when each is done first from an event on, sorted."""
    done = ", ".join(_last_sql(f"match{step}", "k", f"done{step}") for step in range(steps))
    times = f"list_sort([{', '.join(f'done{step}' for step in range(steps))}], 'ASC', 'NULLS LAST')"
    nexts = "".join(f", times[{step + 1}] AS next{step}" for step in range(1, steps))
    sorted_sql = f"SELECT {kept}, {times} AS times FROM (SELECT {kept}, {done} FROM ({seen}))"
    return f"SELECT {kept}{nexts} FROM ({sorted_sql})"


def _last_sql(condition: str, value: str, name: str) -> str:
    return f"last_value(CASE WHEN {condition} THEN {value} END IGNORE NULLS) {_SO_FAR} AS {name}"


def _best_sql(attempts: _Attempts, query: FunnelQuery) -> str:
    """SQL of the figures of each place, maybe several rows of one, as attempts follow upon each other."""
    return " UNION ALL ".join(_best_of_share_sql(share, query) for share in attempts.shares)


def _best_of_share_sql(attempts: str, query: FunnelQuery) -> str:
    """The same for one share.

    Attempts of one person in one place follow upon each other, the latest first: of those that reached a step
    the last is the earliest.
    """
    later = range(1, len(query.steps))
    own = "place, k" + "".join(f", next{step}" for step in later)
    stretch = f"n * {len(query.buckets.keys())} + place AS stretch"
    marked = (
        f"SELECT {own}, lag(stretch) OVER () IS DISTINCT FROM stretch AS begins, "
        "lead(stretch) OVER () IS DISTINCT FROM stretch AS ends, "
        "coalesce(lag(k) OVER () >= k, true) AS in_order "
        f"FROM (SELECT {own}, {stretch} FROM ({attempts}))"
    )
    best = [
        f"last_value(CASE WHEN next{reached} - k <= {query.window_ms:d} THEN next{step} - k "
        f"WHEN begins THEN -1 END IGNORE NULLS) {_SO_FAR} AS best{reached}_{step}"
        for reached in later
        for step in range(1, reached + 1)
    ]
    told = f"SELECT {', '.join(['place', 'ends', 'in_order', *best])} FROM ({marked})"
    counts = [f"count(*) FILTER (best{step}_1 >= 0)" for step in later]
    furthest = {
        step: " ".join(
            f"WHEN best{reached}_1 >= 0 THEN best{reached}_{step}"
            for reached in range(len(later), step - 1, -1)
        )
        for step in later
    }
    timed = "".join(f", CASE {times} END AS time{step}" for step, times in furthest.items())
    sums = [f"sum(time{step}" + (f" - time{step - 1})" if step > 1 else ")") for step in later]
    sums += [f"sum(time{step})" for step in later]
    return (
        f"SELECT {', '.join(['place', 'bool_and(in_order)', 'count(*) FILTER (ends)', *counts, *sums])} "
        f"FROM (SELECT *{timed} FROM ({told}) WHERE ends OR NOT in_order) GROUP BY place"
    )


def _ranked_sql(attempts: _Attempts, query: FunnelQuery) -> str:
    """SQL of the attempts with the number of the last step in time, and a rank: the best has the highest."""
    later = range(1, len(query.steps))
    times = "".join(f", next{step} - k AS ms{step}" for step in later)
    reached = " ".join(f"WHEN next{step} - k <= {query.window_ms:d} THEN {step}" for step in reversed(later))
    reached = f"CASE {reached} ELSE 0 END" if reached else "0"
    value = ", value" if query.on is not None else ""
    # earlier attempts come later here
    return " UNION ALL ".join(
        f"SELECT *, (reached::BIGINT << {_RANK_BITS}) + number AS rank FROM (SELECT n, place{value}{times}, "
        f"{reached} AS reached, row_number() OVER () AS number, "
        f"coalesce(lag(k) OVER () >= k, true) AS in_order FROM ({share}))"
        for share in attempts.shares
    )


def _figures_sql(steps: int, attempts: str, by: str) -> str:
    """SQL of what was reached by the best attempt of each that is counted, by some columns."""
    later = range(1, steps)
    best = "".join(f", arg_max(ms{step}, rank) AS ms{step}" for step in later)
    counts = [f"count(*) FILTER (reached >= {step})" for step in later]
    before = [f"ms{step}" + (f" - ms{step - 1}" if step > 1 else "") for step in later]
    sums = [f"sum({time}) FILTER (reached >= {step})" for step, time in zip(later, before, strict=True)]
    sums += [f"sum(ms{step}) FILTER (reached >= {step})" for step in later]
    return (
        f"SELECT {', '.join([by, 'bool_and(in_order)', 'count(*)', *counts, *sums])} FROM (SELECT {by}, n, "
        f"bool_and(in_order) AS in_order, max(rank) >> {_RANK_BITS} AS reached{best} "
        f"FROM {attempts} GROUP BY {by}, n) GROUP BY {by}"
    )


def _overall(found: Iterable[tuple[Any, ...]], steps: int, periods: int) -> list[Reached]:
    """What was reached in each stretch, of rows that tell it, maybe several of one. Raises `StoreError`."""
    sums: dict[int, list[int]] = {}
    for place, in_order, *figures in found:
        if not in_order:
            raise StoreError(OUT_OF_ORDER, hint="Please report it, with the request that was sent.")
        before = sums.get(place, [0] * len(figures))
        sums[place] = [one + int(more or 0) for one, more in zip(before, figures, strict=True)]
    nothing = [0] * (3 * steps - 2)
    return [_reached(sums.get(place, nothing), steps) for place in range(periods)]


def _reached(figures: Sequence[Any], steps: int) -> Reached:
    """Counts of all steps, then sums of times from the step before, then from the first: for all but that."""
    sums = [int(figure or 0) for figure in figures[steps:]]
    return Reached(tuple(figures[:steps]), (0, *sums[: steps - 1]), (0, *sums[steps - 1 :]))


def _by_value(
    rows: ReportRows, query: FunnelQuery, nothing: Reached, periods: int
) -> dict[str, list[Reached]]:
    """What was reached under each of the most frequent values."""
    rows.run(
        "CREATE TEMP TABLE named AS SELECT value, unnest(labels) AS label FROM "
        f"(SELECT value, {labels_sql('value')} AS labels FROM (SELECT DISTINCT value FROM attempts))"
    )
    rows.run(
        "CREATE TEMP TABLE labelled AS SELECT label, attempts.* FROM attempts "
        "JOIN named ON named.value IS NOT DISTINCT FROM attempts.value"
    )
    most = rows.rows(
        "SELECT label FROM (SELECT label, count(DISTINCT n) AS persons FROM labelled GROUP BY label) "
        "ORDER BY persons DESC, label LIMIT ?",
        [query.limit],
    )
    found = {label: [nothing] * periods for (label,) in bounded(most)}
    refuse_too_many_cells((1 + len(found)) * periods * len(query.steps))
    rows.run("CREATE TEMP TABLE told AS SELECT unnest(?::VARCHAR[]) AS label", [list(found)])
    steps = len(query.steps)
    few = "(SELECT * FROM labelled SEMI JOIN told USING (label))"
    for label, place, _, *figures in rows.rows(_figures_sql(steps, few, "label, place")):
        found[label][place] = _reached(figures, steps)
    return found
