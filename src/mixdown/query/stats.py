"""Figures over all profiles that a filter chooses: `engage/stats` (contract query §2.5).

An action such as `extremes(properties["x"])`, filters and cohorts to split by enter; a JSON answer leaves.
Only numbers count, and of a million values no more than eight bytes each are held.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from heapq import merge
from itertools import groupby, islice
from typing import Any, Final

import msgspec
import orjson

from mixdown.model.errors import QueryError
from mixdown.model.expression import Expression, document_values
from mixdown.model.lookup import Tables
from mixdown.query.choosing import Choice, Filters, choose, listed_ids, read_expression
from mixdown.query.events.reader import EventReads
from mixdown.store import patience
from mixdown.store.batches import documents_in_batches
from mixdown.store.protocols import Store
from mixdown.store.selection import judge

SEGMENTS_LIMIT: Final = 20
"""An answer is split by so many cohorts at most: each takes a pass of its own."""
_CALL: Final = re.compile(r"\s*(\w+)\s*\((.*)\)\s*", re.DOTALL)
_ACTIONS: Final = (
    'action, must be count(), extremes(properties["x"]), percentile(properties["x"], N) or'
    ' numeric_summary(properties["x"])'
)
_CHUNK: Final = 65_536
_IDS_AT_ONCE: Final = 10_000
_NO_DOCUMENT: Final = b"{}"
_EXACT_BELOW: Final = 2.0**53


class Action(msgspec.Struct, frozen=True):
    """What is computed, of which value; `rank` is the N of a percentile."""

    name: str
    value: Expression | None = None
    rank: float = 0.0


class StatsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """One call of `engage/stats` in one project; `segments` are cohorts to split by, None: do not."""

    project: int
    action: str = "count()"
    filters: Filters = Filters()
    segments: tuple[int, ...] | None = None


def stats_answer(store: Store, query: StatsQuery, *, now_ms: int, reads: EventReads | None = None) -> bytes:
    """The JSON answer. Blocks. Raises `QueryError` (400) naming the parameter that is wrong, `StoreError`."""
    action = read_action(query.action, store.lookup_tables.tables(query.project))
    results: Any
    if query.segments is None:
        results = _figure(store, query.project, [query.filters], action, now_ms, reads)
    else:
        results = {
            str(cohort): _figure(
                store,
                query.project,
                [query.filters, _members(query.filters, cohort)],
                action,
                now_ms,
                reads,
            )
            for cohort in query.segments
        }
    return orjson.dumps(
        {
            "status": "ok",
            "computed_at": datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="seconds"),
            "results": results,
        }
    )


def _members(filters: Filters, cohort: int) -> Filters:
    """The members of a cohort, of the kind of profile that `filters` choose."""
    return Filters(
        data_group_id=filters.data_group_id, include_all_users=filters.include_all_users, cohort=cohort
    )


def read_action(text: str, tables: Tables) -> Action:
    """An action as it was sent, in a project with these lookup tables.

    Raises `QueryError` (400), with the position of an expression's fault.
    """
    call = _CALL.fullmatch(text)
    if call is None:
        raise QueryError(_ACTIONS, status=400)
    name, inside = call[1], call[2]
    if name == "count" and not inside.strip():
        return Action(name)
    if name not in _FIGURES:
        raise QueryError(_ACTIONS, status=400)
    rank = 0.0
    if name == "percentile":
        inside, _, number = inside.rpartition(",")
        try:
            rank = float(number)
        except ValueError:
            rank = -1.0
        if not 0 <= rank <= 100:
            raise QueryError("action, percentile takes a value and a number from 0 to 100", status=400)
    if not inside.strip():
        raise QueryError(_ACTIONS, status=400)
    # blanks in front, so that a position counts from the start of the action
    return Action(name, read_expression("action", " " * call.start(2) + inside, tables), rank)


def _figure(
    store: Store,
    project: int,
    filters: list[Filters],
    action: Action,
    now_ms: int,
    reads: EventReads | None,
) -> Any:
    """The figure over profiles that all of `filters` choose."""
    choices = [choose(store, project, each, now_ms=now_ms, reads=reads) for each in filters]
    if len({choice.group_key for choice in choices}) > 1:
        raise QueryError("segment_by_cohorts, this cohort is one of other profiles", status=400)
    choice = choices[0]
    selection = msgspec.structs.replace(
        choice.selection,
        where=tuple(each for some in choices for each in some.selection.where),
        sort_key=action.value,
    )
    keeps_missing = all(some.keeps_missing for some in choices if some.is_listed)
    choice = Choice(choice.group_key, selection, keeps_missing=keeps_missing)
    listed = [ids for some in choices if (ids := listed_ids(store, some, None)) is not None]
    if action.value is None and not listed:
        if selection.takes_all:
            return store.state.count(project, choice.group_key)
        return store.state.tally(project, choice.group_key, [selection])[0]
    if listed:
        values = _of_listed(store, project, choice, action.value, _in_all(listed))
    else:
        pieces = store.state.values(project, choice.group_key, selection)
        values = (value for piece in pieces for value in piece)
    if action.value is None:
        return sum(1 for _ in values)
    return _FIGURES[action.name](_numbers(values), action.rank)


def _in_all(listed: list[Iterator[str]]) -> Iterator[str]:
    """The ids that every list has, ascending, as the lists are; each list has an id once."""
    together = groupby(merge(*listed))
    return (profile_id for profile_id, same in together if sum(1 for _ in same) == len(listed))


def _of_listed(
    store: Store, project: int, choice: Choice, value: Expression | None, ids: Iterator[str]
) -> Iterator[Any]:
    """The values of those of the ids that are wanted."""
    wants = judge(choice.selection) if choice.selection.where or choice.selection.search else None
    value_of = None if value is None else document_values(value, choice.selection.context)
    while some := list(islice(ids, _IDS_AT_ONCE)):
        batches = documents_in_batches(
            store.state.documents,
            [(project, choice.group_key, profile_id) for profile_id in some],
            first=16,
            most=1000,
            roomy_bytes=4 * 1024 * 1024,
        )
        for keys, documents in batches:
            patience.check()
            for key, document in zip(keys, documents, strict=True):
                if document is None and not choice.keeps_missing:
                    continue
                known = document or _NO_DOCUMENT
                if wants is None or wants(key[2], known):
                    yield None if value_of is None else value_of(key[2], known)


def _numbers(values: Iterable[Any]) -> Iterator[float]:
    return (value for value in values if type(value) is int or type(value) is float)


def _extremes(numbers: Iterator[float], _rank: float) -> dict[str, Any]:
    low: float | None = None
    high: float | None = None
    for number in numbers:
        low = number if low is None or number < low else low
        high = number if high is None or number > high else high
    return {"max": high, "min": low}


def _percentile(numbers: Iterator[float], rank: float) -> dict[str, Any]:
    """Between the two nearest values by how near they are, as spreadsheets have it."""
    chunks = []
    while chunk := array("d", sorted(islice(numbers, _CHUNK))):
        chunks.append(chunk)
    count = sum(map(len, chunks))
    value: float | None = None
    if count:
        place = (count - 1) * rank / 100
        below = math.floor(place)
        near = list(islice(merge(*chunks), below, below + 2))
        value = _between(near[0], near[-1], place - below)
    return {"percentile": _plain(rank), "value": _plain(value)}


def _between(low: float, high: float, share: float) -> float:
    """The number so far from `low` to `high`; their difference may be more than a double holds."""
    if low == high or not share:
        return low
    step = high - low
    return low + step * share if math.isfinite(step) else low * (1 - share) + high * share


def _summary(numbers: Iterator[float], _rank: float) -> dict[str, Any]:
    """Mean and variance as they come (Welford), so that large values lose nothing to each other."""
    count, mean, squares_from_mean = 0, 0.0, 0.0
    total: float = 0
    squares: float = 0
    for number in numbers:
        count += 1
        total += number
        squares += number * number
        step = number - mean
        mean += step / count
        squares_from_mean += step * (number - mean)
    return {
        "count": count,
        "sum": _finite(total),
        "sum_squares": _finite(squares),
        "avg": _finite(mean) if count else None,
        # squares that overflowed may end below 0, or as no number at all
        "stddev": _finite(math.sqrt(squares_from_mean / count)) if count and squares_from_mean >= 0 else None,
    }


def _finite(value: float) -> float | None:
    """A number as JSON has it: past a double there is none; integers past 64 bits become doubles."""
    near = float(value)
    if not math.isfinite(near):
        return None
    return value if type(value) is int and abs(value) < _EXACT_BELOW else _plain(near)


def _plain(value: float | None) -> float | None:
    """A whole number without its `.0`."""
    if value is None or not float(value).is_integer() or abs(value) >= _EXACT_BELOW:
        return value
    return int(value)


_FIGURES: Final = {"extremes": _extremes, "percentile": _percentile, "numeric_summary": _summary}
