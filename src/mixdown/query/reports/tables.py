"""Answers of reports as tables, for files and terminals: names of columns, and rows of figures.

What a report was asked and what it answered, in the API's shapes, enter; a `Table` leaves. Every figure of
the answer is in it, and none that is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

OVERALL: Final = "$overall"
STEP_FIGURES: Final = (
    "count",
    "step_conv_ratio",
    "overall_conv_ratio",
    "avg_time",
    "avg_time_from_start",
)


class Table(NamedTuple):
    """Names of columns, and rows of texts, numbers and None."""

    columns: list[str]
    rows: list[list[Any]]


def table_of(kind: str, question: Mapping[str, Any], answer: Mapping[str, Any]) -> Table:
    """The answer of a report of a kind to a question (its parameters) as a table."""
    return _TABLES[kind](question, answer)


def series_of(
    question: Mapping[str, Any], answer: Mapping[str, Any]
) -> tuple[list[str], dict[str, list[float]]]:
    """The keys of a segmentation, and the figures of each name."""
    if "results" in answer:  # a figure for each key: a sum or an average
        found: Mapping[str, float] = answer["results"]
        return list(found), {str(question["event"]): list(found.values())}
    keys: list[str] = answer["data"]["series"]
    return keys, {name: [row[key] for key in keys] for name, row in answer["data"]["values"].items()}


def _segmentation(question: Mapping[str, Any], answer: Mapping[str, Any]) -> Table:
    keys, values = series_of(question, answer)
    rows = [[key, *(row[at] for row in values.values())] for at, key in enumerate(keys)]
    return Table(["date", *values], rows)


def _funnel(question: Mapping[str, Any], answer: Mapping[str, Any]) -> Table:
    del question
    rows = [
        [key, value, number, step["step_label"], *(step[name] for name in STEP_FIGURES)]
        for key in answer["meta"]["dates"]
        for value, steps in _groups(answer["data"][key]).items()
        for number, step in enumerate(steps, 1)
    ]
    return Table(["date", "value", "step", "event", *STEP_FIGURES], rows)


def _groups(row: Mapping[str, Any]) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """The steps of everybody, first, and those of each value."""
    if OVERALL not in row:
        return {OVERALL: row["steps"]}
    return {OVERALL: row[OVERALL]} | dict(row)


def interval_name(unit: str, interval: int, number: int) -> str:
    """How an interval of retention is called, by how far it is from the beginning."""
    if interval == 1:
        return f"{unit.capitalize()} {number}"
    return f"{unit.capitalize()}s {number * interval} to {(number + 1) * interval - 1}"


def _retention(question: Mapping[str, Any], answer: Mapping[str, Any]) -> Table:
    unit, interval = question.get("unit") or "day", int(question.get("interval") or 1)
    size = max((len(row["counts"]) for row in answer.values()), default=0)
    rows: list[list[Any]] = []
    for key, row in answer.items():
        rows.append([key, None, row["first"], *row["counts"]])
        rows += [[key, name, row["first"], *counts] for name, counts in row.get("segments", {}).items()]
    names = (interval_name(unit, interval, number) for number in range(size))
    return Table(["date", "value", "first", *names], rows)


def _addiction(question: Mapping[str, Any], answer: Mapping[str, Any]) -> Table:
    part = question.get("addiction_unit") or "hour"
    size = max(map(len, answer["data"].values()), default=0)
    lines = [(None, answer["data"]), *answer.get("segments", {}).items()]
    rows = [
        [key, name, *counts, *[None] * (size - len(counts))]
        for name, found in lines
        for key, counts in found.items()
    ]
    names = (f"{number} {part}s or more" for number in range(1, size + 1))
    return Table(["date", "value", *names], rows)


_TABLES: Final[Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Table]]] = {
    "segmentation": _segmentation,
    "funnels": _funnel,
    "retention": _retention,
    "addiction": _addiction,
}
