"""How often people come: on how many days of a week, or in how many hours of a day (addiction)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mixdown.explorer.frame import Visit
from mixdown.explorer.pages.reports import asking
from mixdown.explorer.pages.reports.asking import QUERY, Asked, ask, name_of, one_of
from mixdown.explorer.pages.reports.page import page_of
from mixdown.explorer.pages.reports.retention import heat
from mixdown.http.journeys import DEFAULT_VALUES
from mixdown.query.reports.addiction import PART_UNITS, UNITS

ADDICTION: Final = f"{QUERY}/retention/addiction"
LINES_DRAWN: Final = 8
COLUMNS_SHOWN: Final = 31
"""More of them, the hours of a month, are in the file alone."""


class Frequency(Asked):
    """What the page asks for."""

    kind = "addiction"

    def __init__(self, visit: Visit) -> None:
        super().__init__(visit)
        self.event = name_of(visit, "event")
        self.unit = one_of(visit, "unit", UNITS, "week")
        self.part = one_of(visit, "addiction_unit", PART_UNITS, "day" if self.unit != "day" else "hour")

    @property
    def endpoint(self) -> str:
        """Whom the API's figures are asked of."""
        return ADDICTION

    @property
    def is_ready(self) -> bool:
        """Any event counts where none is named."""
        return True

    @property
    def events(self) -> list[str]:
        """The events that it names."""
        return [self.event] if self.event else []

    @property
    def question(self) -> dict[str, Any]:
        """The parameters of its own."""
        usual = "day" if self.unit != "day" else "hour"
        return {
            **super().question,
            "event": self.event or None,
            "unit": None if self.unit == "week" else self.unit,
            "addiction_unit": None if self.part == usual else self.part,
        }

    @property
    def params(self) -> dict[str, Any]:
        """What the API is asked."""
        return {
            **super().params,
            "event": self.event or None,
            "unit": self.unit,
            "addiction_unit": self.part,
        }


def own_of(definition: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the page that shows what a definition says."""
    return {
        "event": definition.get("event") or None,
        "where": definition.get("where") or None,
        **asking.on_in(definition, DEFAULT_VALUES),
        "unit": definition.get("unit", UNITS[0]),
        "addiction_unit": definition.get("addiction_unit", PART_UNITS[0]),
        "data_group_id": definition.get("data_group_id") or None,
    }


async def page(visit: Visit) -> Mapping[str, Any]:
    """The question; with its figures where all of it is wanted at once."""
    asked = Frequency(visit)
    found = await page_of(visit, asked, own_of)
    found |= {
        "event": asked.event,
        "unit": asked.unit,
        "units": UNITS,
        "part": asked.part,
        "part_units": PART_UNITS,
        "figures": None,
    }
    if asking.is_whole(visit):
        found |= await answered(visit)
    return found


async def answered(visit: Visit) -> Mapping[str, Any]:
    """The figures, why there are none, or what is still to be chosen."""
    asked = Frequency(visit)
    told = await ask(visit, asked.endpoint, asked.drawn_params)
    if told.trouble is not None:
        return {"figures": {"trouble": told.trouble}}
    data: dict[str, list[int]] = told.data["data"]
    size = max(map(len, data.values()), default=0)
    columns = [f"{number}+ {asked.part}s" for number in range(1, size + 1)]
    whole = dict(zip(data, asking.are_whole(visit, asked, data, asked.unit), strict=True))
    segments: Mapping[str, Mapping[str, list[int]]] = told.data.get("segments", {})
    figures: dict[str, Any] = {
        "columns": columns[:COLUMNS_SHOWN],
        "more_columns": max(0, size - COLUMNS_SHOWN),
        "people": asking.people_of(asked.group),
        "unit": asked.unit,
        "part": asked.part,
        "rows": [
            {"key": key, "is_whole": whole[key], **_row(counts, size)}
            for key, counts in reversed(data.items())
        ],
        "on": asked.on,
        "groups": _groups(segments, size, whole),
        "chart": {
            "x": list(range(size)),
            "labels": columns,
            "series": [
                {"label": key, "values": _ratios(counts, size)}
                for key, counts in list(data.items())[-LINES_DRAWN:]
                if counts and counts[0]
            ],
            "unit": "of them",
            "percent": True,
        },
        **asking.cut_of(asked, len(segments)),
        "behind": told.behind,
        "is_small": visit.text("small") == "1",
        "csv": visit.path("reports/frequency/figures.csv", **asked.own),
        "empty": None,
    }
    if not any(any(counts) for counts in data.values()):
        figures["empty"] = await asking.empty_of(visit, asked)
    return {"figures": figures}


def _row(counts: list[int], size: int) -> dict[str, Any]:
    first = counts[0] if counts else 0
    cells = [
        {
            "percent": round(100 * count / first, 1) if first else None,
            "count": count,
            "heat": heat(count / first if first else None),
            "is_over": True,
        }
        for count in counts
    ]
    absent = {"percent": None, "count": None, "heat": 0, "is_over": False}
    return {"first": first, "cells": (cells + [absent] * (size - len(cells)))[:COLUMNS_SHOWN]}


def _ratios(counts: list[int], size: int) -> list[float | None]:
    first = counts[0] or 1
    found: list[float | None] = [round(100 * count / first, 1) for count in counts]
    return found + [None] * (size - len(found))


def _groups(
    segments: Mapping[str, Mapping[str, list[int]]], size: int, whole: Mapping[str, bool]
) -> list[dict[str, Any]]:
    """Each value in each stretch in which it occurs."""
    return [
        {"name": name, "key": key, "is_whole": whole[key], **_row(counts, size)}
        for name, lines in segments.items()
        for key, counts in lines.items()
        if counts and counts[0]
    ]
