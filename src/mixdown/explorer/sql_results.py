"""An answer of SQL as a page shows it: typed columns, cells short enough to read, a chart where there is one.

The API's answer enters; values for the template leave. What is shown is bounded, whatever was asked for: so
many cells, and so much text behind those that are folded. Nothing here knows the project.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson

ROWS_SHOWN: Final = 500
CELLS_SHOWN: Final = 20_000
ROWS_AT_LEAST: Final = 20
CELL_CHARS: Final = 160
LONG_CHARS: Final = 4000
LONG_TOTAL_CHARS: Final = 400_000
BARS_SHOWN: Final = 40
SERIES_SHOWN: Final = 6
BAR_SERIES_SHOWN: Final = 3
_DAY_S: Final = 86_400
_CUT: Final = "\n… (cut here: a download has all of it)"
_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})?)?")
_SQLITE_PLACE: Final = re.compile(r"\(line (\d+), column (\d+)\)$")
_DUCKDB_PLACE: Final = re.compile(r"^LINE (\d+):", re.MULTILINE)


def shown_result(data: Mapping[str, Any]) -> dict[str, Any]:
    """The result for the template: columns with their kinds, rows of cells, a chart or bars."""
    names: list[str] = data["columns"]
    objects: list[dict[str, Any]] = data["results"]
    rows = [[row.get(name) for name in names] for row in objects]
    kinds = [_kind_of([row[at] for row in rows]) for at in range(len(names))]
    fit = max(ROWS_AT_LEAST, CELLS_SHOWN // max(1, len(names)))
    budget = [LONG_TOTAL_CHARS]
    return {
        "columns": [{"name": name, "kind": kind} for name, kind in zip(names, kinds, strict=True)],
        "rows": [[_cell(value, budget) for value in row] for row in rows[:fit]],
        "count": min(len(rows), fit),
        "more": bool(data.get("more")) or len(rows) > fit,
        "chart": chart_of(names, kinds, rows),
        "bars": bars_of(names, kinds, rows),
    }


def _kind_of(values: Sequence[Any]) -> str:
    """What a column holds: number, time, boolean, or text; what is null does not count."""
    held = [value for value in values if value is not None]
    if not held:
        return "text"
    if all(type(value) is bool for value in held):
        return "boolean"
    if all(type(value) in (int, float) for value in held):
        return "number"
    if all(type(value) is str and _TIME.fullmatch(value) for value in held):
        return "time"
    return "text"


def _cell(value: Any, budget: list[int]) -> dict[str, Any]:
    """A cell: its kind, the text to show, and what is folded behind it ("" where nothing is)."""
    if value is None:
        return {"kind": "null", "text": "null", "long": ""}
    if type(value) is bool:
        return {"kind": "boolean", "text": "true" if value else "false", "long": ""}
    if type(value) in (int, float):
        return {"kind": "number", "text": str(value), "long": ""}
    text = str(value)
    if not text:
        return {"kind": "null", "text": "empty text", "long": ""}
    kind = "json" if text[:1] in "{[" else "text"
    if len(text) <= CELL_CHARS:
        return {"kind": kind, "text": text, "long": ""}
    whole = _pretty(text)
    if len(whole) > LONG_CHARS:
        whole = whole[:LONG_CHARS] + _CUT
    if len(whole) > budget[0]:
        return {"kind": kind, "text": text[:CELL_CHARS] + "…", "long": ""}
    budget[0] -= len(whole)
    return {"kind": kind, "text": text[:CELL_CHARS] + "…", "long": whole}


def _pretty(text: str) -> str:
    """JSON indented, where it is short enough to be worth it; other text as it is."""
    if text[:1] not in "{[" or len(text) > 16 * LONG_CHARS:
        return text
    try:
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return text


# --- charts


def chart_of(
    names: Sequence[str], kinds: Sequence[str], rows: Sequence[Sequence[Any]]
) -> dict[str, Any] | None:
    """Lines over time, where the first column holds times and others numbers; None where it does not."""
    series = [at for at, kind in enumerate(kinds) if at and kind == "number"][:SERIES_SHOWN]
    if not series or kinds[0] != "time":
        return None
    placed = sorted(
        ((at_s, row) for row in rows if row[0] is not None and (at_s := seconds_of(row[0])) is not None),
        key=lambda each: each[0],
    )
    if len(placed) < 2:
        return None
    days = all(not at_s % _DAY_S for at_s, _ in placed)
    return {
        "x": [at_s for at_s, _ in placed],
        **({"step": "day"} if days else {}),
        "series": [{"label": names[at], "values": [row[at] for _, row in placed]} for at in series],
    }


def seconds_of(text: str) -> float | None:
    """A time as text in unix seconds, UTC where it says nothing; None where it is none."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def bars_of(
    names: Sequence[str], kinds: Sequence[str], rows: Sequence[Sequence[Any]]
) -> dict[str, Any] | None:
    """A bar for each row, where the first column names it and others hold numbers; None where it does not."""
    series = [at for at, kind in enumerate(kinds) if at and kind == "number"][:BAR_SERIES_SHOWN]
    if not series or kinds[0] == "time" or len(rows) < 2:
        return None
    tops = {
        at: max((abs(row[at]) for row in rows[:BARS_SHOWN] if row[at] is not None), default=0)
        for at in series
    }
    return {
        "first": names[0],
        "series": [names[at] for at in series],
        "more": max(0, len(rows) - BARS_SHOWN),
        "rows": [
            {
                "label": _label(row[0]),
                "values": [
                    {
                        "text": "" if row[at] is None else str(row[at]),
                        "width": round(100 * abs(row[at] or 0) / tops[at], 2) if tops[at] else 0,
                        "negative": (row[at] or 0) < 0,
                    }
                    for at in series
                ],
            }
            for row in rows[:BARS_SHOWN]
        ],
    }


def _label(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= CELL_CHARS else text[:CELL_CHARS] + "…"


# --- errors


def place_of_error(text: str, query: str, over: str) -> dict[str, Any]:
    """What was wrong in words, its line and column (0 where they are not known), and that line."""
    line = column = 0
    words = text.removeprefix("query, ")
    found = _SQLITE_PLACE.search(words)
    if found:
        line, column = int(found[1]), int(found[2])
    else:
        found = _DUCKDB_PLACE.search(words)
        line = int(found[1]) if found else 0
    lines = query.split("\n")
    if not 0 < line <= len(lines):
        line = column = 0
    excerpt = lines[line - 1][:LONG_CHARS] if line else ""
    return {
        "text": words,
        "line": line,
        "column": column,
        "excerpt": excerpt if over == "profiles" else "",
        "caret": " " * (min(column, len(excerpt) + 1) - 1) + "^" if column and over == "profiles" else "",
        "hint": _hint(words, over),
    }


def _hint(text: str, over: str) -> str:
    if over == "profiles" and "no such table: events" in text:
        return "Events are asked in DuckDB's SQL: choose “Events” above the editor."
    if over == "events" and ('not from "history"' in text or 'not from "refusals"' in text):
        return "History and refusals are asked in SQLite's SQL: choose “Profiles” above the editor."
    return ""
