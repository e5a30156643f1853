"""The three reports that are measured: as a client asks for them, and in SQL as one would write it by hand.

A span of days enters; requests, and statements for DuckDB over the files and for PostgreSQL over its table,
leave. Each statement gives, by day, what the report counts; where there are several, the quickest is the
floor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final, NamedTuple

STEPS: Final = ("page view", "add to cart", "checkout")
WINDOW_DAYS: Final = 7
INTERVALS: Final = 30
QUESTIONS: Final = ("segmentation", "funnel", "retention")
_MANY: Final = 10_000_000
"""More persons than there are."""
_NAMED: Final = ", ".join(f"'{step}'" for step in STEPS)


class Days(NamedTuple):
    """The first and the last day."""

    first: date
    last: date


def days_of(first: date, count: int) -> Days:
    """So many days."""
    return Days(first, first + timedelta(days=count - 1))


def requests(days: Days) -> dict[str, tuple[str, dict[str, str]]]:
    """Path and parameters of each question."""
    span = {"from_date": days.first.isoformat(), "to_date": days.last.isoformat()}
    return {
        "segmentation": ("/api/query/segmentation", {"event": STEPS[0], "on": 'properties["plan"]', **span}),
        "funnel": (
            "/api/query/arb_funnels",
            {
                "steps": json.dumps([{"event": step} for step in STEPS]),
                "length": str(WINDOW_DAYS),
                "length_unit": "day",
                **span,
            },
        ),
        "retention": (
            "/api/query/retention",
            {
                "retention_type": "birth",
                "born_event": STEPS[0],
                "interval_count": str(INTERVALS),
                "unit": "day",
                **span,
            },
        ),
    }


def in_duckdb(source: str, days: Days) -> Mapping[str, tuple[str, ...]]:
    """Statements over a table function that reads the files."""
    until = days.last + timedelta(days=1)
    within = f"time >= TIMESTAMP '{days.first}' AND time < TIMESTAMP '{until}'"
    day = "date_trunc('day', time)"
    plan = f"SELECT {day}, plan, count(*) FROM {source} WHERE event = '{STEPS[0]}' AND {within} GROUP BY ALL"
    born = (
        f"born AS (SELECT distinct_id, min(time) AS born FROM {source} "
        f"WHERE event = '{STEPS[0]}' AND {within} GROUP BY 1)"
    )
    later = f"time > born AND time < born + INTERVAL {INTERVALS + 1} DAY"
    interval = "(epoch_ms(time) - epoch_ms(born)) // 86400000"
    distinct = (
        f"WITH {born} SELECT date_trunc('day', born), {interval}, count(DISTINCT distinct_id) "
        f"FROM {source} JOIN born USING (distinct_id) WHERE {later} GROUP BY ALL"
    )
    bits = (
        f"WITH {born}, came AS (SELECT distinct_id, born, bit_or(1::BIGINT << ({interval})::INT) AS bits "
        f"FROM {source} JOIN born USING (distinct_id) WHERE {later} GROUP BY ALL) "
        f"SELECT date_trunc('day', born), n, count(*) FILTER (bits >> n & 1 = 1) "
        f"FROM came, range({INTERVALS + 1}) AS told(n) GROUP BY ALL"
    )
    return {
        "segmentation": (plan,),
        "funnel": _funnels(source, within, days.first),
        "retention": (distinct, bits),
    }


def _funnels(source: str, within: str, first: date) -> tuple[str, ...]:
    """By joins, by windows, and by windows that run along one sort of numbers, or along lists of them."""
    seen = f"FROM {source} WHERE event IN ({_NAMED}) AND {within}"
    return *_matched(source, within), _by_one_sort(source, seen, within), _by_lists(seen, first)


def _matched(source: str, within: str) -> tuple[str, str]:
    """Each step beside the next of it: by joins, and by windows of each person."""
    day, window = "date_trunc('day', time)", f"INTERVAL {WINDOW_DAYS} DAY"

    def step(number: int) -> str:
        return f"SELECT distinct_id, time FROM {source} WHERE event = '{STEPS[number]}' AND {within}"

    def next_of(name: str, step_number: int) -> str:
        return (
            f"min(time) FILTER (WHERE event = '{STEPS[step_number]}') OVER "
            "(PARTITION BY distinct_id ORDER BY time ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) "
            f"AS {name}"
        )

    reached = (
        f"SELECT {day} AS day, count(DISTINCT distinct_id), "
        f"count(DISTINCT distinct_id) FILTER (WHERE second <= time + {window}), "
        f"count(DISTINCT distinct_id) FILTER (WHERE third <= time + {window}) FROM reached GROUP BY day"
    )
    asof = (
        f"WITH two AS (SELECT one.distinct_id, one.time, two.time AS second FROM ({step(0)}) AS one "
        f"ASOF LEFT JOIN ({step(1)}) AS two ON one.distinct_id = two.distinct_id AND one.time < two.time), "
        "reached AS (SELECT two.*, three.time AS third FROM two "
        f"ASOF LEFT JOIN ({step(2)}) AS three ON two.distinct_id = three.distinct_id "
        f"AND two.second < three.time) {reached}"
    )
    windows = (
        f"WITH told AS (SELECT distinct_id, time, event, {next_of('second', 1)}, {next_of('third', 2)} "
        f"FROM {source} WHERE event IN ({_NAMED}) AND {within}), "
        f"carts AS (SELECT distinct_id, time, min(third) AS third FROM told WHERE event = '{STEPS[1]}' "
        "GROUP BY ALL), "
        "reached AS (SELECT told.distinct_id, told.time, told.second, carts.third FROM told LEFT JOIN carts "
        f"ON carts.distinct_id = told.distinct_id AND carts.time = told.second "
        f"WHERE told.event = '{STEPS[0]}') {reached}"
    )
    return asof, windows


def _by_one_sort(source: str, seen: str, within: str) -> str:
    named = [f"'{step}'" for step in STEPS]
    return (
        f"WITH ids AS (SELECT distinct_id, row_number() OVER () AS n FROM (SELECT DISTINCT distinct_id "
        f"{seen})), "
        f"sorted AS (SELECT (n << 43) + epoch_ms(time) AS k, event, date_trunc('day', time) AS day "
        f"FROM {source} JOIN ids USING (distinct_id) WHERE event IN ({_NAMED}) AND {within} "
        f"ORDER BY k DESC, position DESC), {_along('event', named, 'k >> 43 AS n')}"
    )


def _by_lists(seen: str, first: date) -> str:
    packed = (
        f"((epoch_ms(time) - epoch_ms(TIMESTAMP '{first}')) << 28) | (position << 2) "
        f"| CASE event WHEN '{STEPS[0]}' THEN 0 WHEN '{STEPS[1]}' THEN 1 ELSE 2 END"
    )
    return (
        f"WITH gathered AS MATERIALIZED (SELECT row_number() OVER () AS n, list_reverse_sort(list({packed})) "
        f"AS seen {seen} GROUP BY distinct_id), "
        f"sorted AS (SELECT n, (({_MANY} - n) << 34) + (p >> 28) AS k, p & 3 AS step, "
        f"DATE '{first}' + ((p >> 28) // 86400000)::INTEGER AS day "
        f"FROM (SELECT n, unnest(seen) AS p FROM gathered)), {_along('step', ['0', '1', '2'], 'n')}"
    )


def _along(column: str, steps: Sequence[str], person: str) -> str:
    """Who went how far, of events `sorted` by person, the latest first: `column` says which step each is."""
    so_far = "IGNORE NULLS) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
    window_ms = WINDOW_DAYS * 86_400_000
    return (
        f"told AS (SELECT *, last_value(CASE {column} WHEN {steps[1]} THEN k END {so_far} AS second, "
        f"last_value(CASE {column} WHEN {steps[2]} THEN k END {so_far} AS third FROM sorted), "
        f"reached AS (SELECT *, last_value(CASE {column} WHEN {steps[1]} THEN third END {so_far} AS last "
        "FROM told) "
        f"SELECT day, count(*), count(*) FILTER (two), count(*) FILTER (three) FROM (SELECT {person}, "
        f"day, bool_or(second - k <= {window_ms}) AS two, bool_or(last - k <= {window_ms}) AS three "
        f"FROM reached WHERE {column} = {steps[0]} GROUP BY n, day) GROUP BY day"
    )


def in_postgres(days: Days) -> Mapping[str, str]:
    """Statements over the table `events`."""
    until = days.last + timedelta(days=1)
    within = f"time >= '{days.first}Z' AND time < '{until}Z'"
    following = "(PARTITION BY distinct_id ORDER BY time ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING)"
    window = f"interval '{WINDOW_DAYS} days'"
    return {
        "segmentation": "SELECT date_trunc('day', time, 'UTC'), properties->>'plan', count(*) FROM events "
        f"WHERE event = '{STEPS[0]}' AND {within} GROUP BY 1, 2",
        "funnel": "WITH told AS (SELECT distinct_id, time, event, "
        f"min(time) FILTER (WHERE event = '{STEPS[1]}') OVER {following} AS second, "
        f"min(time) FILTER (WHERE event = '{STEPS[2]}') OVER {following} AS third "
        f"FROM events WHERE event IN ({_NAMED}) AND {within}), "
        f"carts AS (SELECT distinct_id, time, min(third) AS third FROM told WHERE event = '{STEPS[1]}' "
        "GROUP BY 1, 2), "
        "reached AS (SELECT told.distinct_id, told.time, told.second, carts.third FROM told LEFT JOIN carts "
        "ON carts.distinct_id = told.distinct_id AND carts.time = told.second "
        f"WHERE told.event = '{STEPS[0]}') "
        "SELECT date_trunc('day', time, 'UTC'), count(DISTINCT distinct_id), "
        f"count(DISTINCT distinct_id) FILTER (WHERE second <= time + {window}), "
        f"count(DISTINCT distinct_id) FILTER (WHERE third <= time + {window}) FROM reached GROUP BY 1",
        "retention": "WITH born AS (SELECT distinct_id, min(time) AS born FROM events "
        f"WHERE event = '{STEPS[0]}' AND {within} GROUP BY 1) "
        "SELECT date_trunc('day', born, 'UTC'), floor(extract(epoch FROM time - born) / 86400), "
        "count(DISTINCT distinct_id) FROM events JOIN born USING (distinct_id) "
        f"WHERE time > born AND time < born + interval '{INTERVALS + 1} days' GROUP BY 1, 2",
    }


Figures = dict[str, list[int]]
"""What a report counts, by its key; what is nothing is left out, and zeros at the end are."""


def counted(question: str, rows: list[Any]) -> Figures:
    """The figures of a statement: those that the report gives as well."""
    found: dict[str, list[int]] = {}
    for key, *figures in rows:
        day = key.strftime("%Y-%m-%d")
        if question == "segmentation":
            found[f"{figures[0]} {day}"] = [figures[1]]
        elif question == "funnel":
            found[day] = figures
        else:
            counts = found.setdefault(day, [0] * (INTERVALS + 1))
            counts[int(figures[0])] = figures[1]
    return _bare(found)


def told(question: str, answer: Any) -> Figures:
    """The same figures in an answer over HTTP."""
    if question == "segmentation":
        values = answer["data"]["values"].items()
        return _bare({f"{value} {day}": [count] for value, days in values for day, count in days.items()})
    if question == "funnel":
        days = answer["data"].items()
        return _bare({day: [step["count"] for step in found["steps"]] for day, found in days})
    return _bare({day: found["counts"] for day, found in answer.items()})


def _bare(found: Figures) -> Figures:
    return {key: figures for key, figures in found.items() if any(figures)}
