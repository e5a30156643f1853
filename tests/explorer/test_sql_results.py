"""What the SQL page makes of an answer: cells within bounds, a chart where it fits, the line of an error."""

from __future__ import annotations

from typing import Any

import pytest

from mixdown.explorer import sql_results
from mixdown.explorer.sql_results import bars_of, chart_of, place_of_error, shown_result


def answer(columns: list[str], *rows: tuple[Any, ...]) -> dict[str, Any]:
    return {"columns": columns, "results": [dict(zip(columns, row, strict=True)) for row in rows]}


def test_a_large_answer_is_shown_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = [f"c{place}" for place in range(400)]
    shown = shown_result(answer(wide, *[tuple(range(400)) for _ in range(200)]))
    assert shown["count"] * 400 <= sql_results.CELLS_SHOWN
    assert shown["more"]
    long = shown_result(answer(["text"], *[("x" * 100_000,) for _ in range(300)]))
    held = sum(len(cell["long"]) + len(cell["text"]) for row in long["rows"] for cell in row)
    assert held < 2 * sql_results.LONG_TOTAL_CHARS
    monkeypatch.setattr(sql_results, "LONG_TOTAL_CHARS", 0)
    assert shown_result(answer(["text"], ("y" * 500,)))["rows"][0][0]["long"] == ""


_Rows = list[tuple[Any, ...]]


@pytest.mark.parametrize(
    ("rows", "has_chart", "has_bars"),
    [
        ([("2026-01-02", 3), ("2026-01-01", 1)], True, False),
        ([("2026-01-02T10:00:00", 3), ("2026-01-01 09:00:00", None)], True, False),
        ([("pro", 3), ("free", -1)], False, True),
        ([(None, 3), ("free", 1)], False, True),
        ([("pro", "many"), ("free", "few")], False, False),
        ([("pro", 3)], False, False),
        ([("2026-99-99", 3), ("2026-01-01", 1)], False, False),
        ([(1, True), (2, False)], False, False),
    ],
)
def test_a_chart_is_drawn_where_there_is_one(rows: _Rows, has_chart: bool, has_bars: bool) -> None:
    shown = shown_result(answer(["first", "n"], *rows))
    assert (shown["chart"] is not None, shown["bars"] is not None) == (has_chart, has_bars)


def test_times_of_a_chart_ascend_and_bars_are_parts_of_the_longest() -> None:
    chart = chart_of(["day", "n"], ["time", "number"], [["2026-01-02", 3], ["2026-01-01", 1]])
    series = [{"label": "n", "values": [1, 3]}]
    assert chart == {"x": [1767225600.0, 1767312000.0], "step": "day", "series": series}
    bars = bars_of(["plan", "n"], ["text", "number"], [["pro", 4], ["free", 1]])
    assert bars is not None
    assert [row["values"][0]["width"] for row in bars["rows"]] == [100, 25]


@pytest.mark.parametrize(
    ("text", "query", "line"),
    [
        ("query, near: syntax error (line 2, column 3)", "a\nb c", 2),
        ("Parser Error\n\nLINE 3: selec", "a\nb\nc", 3),
        ("an error (line 9, column 1)", "one line", 0),
        ("nothing of a place", "a", 0),
    ],
)
def test_the_line_of_an_error_is_one_of_the_query(text: str, query: str, line: int) -> None:
    assert place_of_error(text, query, "profiles")["line"] == line
