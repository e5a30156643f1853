"""Retention: of those who began in each stretch of days, how many came back, interval by interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from mixdown.explorer.frame import Visit
from mixdown.explorer.pages.reports import asking
from mixdown.explorer.pages.reports.asking import QUERY, Asked, ask, expression_of, name_of, one_of
from mixdown.explorer.pages.reports.page import page_of
from mixdown.http.journeys import DEFAULT_VALUES
from mixdown.query.events.buckets import BUCKETS_LIMIT, following, moment_of
from mixdown.query.reports.retention import INTERVALS_LIMIT, UNIT_MS
from mixdown.query.reports.tables import interval_name
from mixdown.store.zones import zone_of

RETENTION: Final = f"{QUERY}/retention"
UNITS: Final = ("day", "week", "month")
COMPOUNDED: Final = "compounded"
TYPES: Final = (("birth", "the first time"), (COMPOUNDED, "in each stretch"))
MOST_INTERVALS: Final = 12
WEEKS_FROM: Final = 21
MONTHS_FROM: Final = 150
HEAT: Final = 10
_DAYS: Final = {"day": 1, "week": 7, "month": 30}


class Retention(Asked):
    """What the page asks for."""

    kind = "retention"

    def __init__(self, visit: Visit) -> None:
        super().__init__(visit)
        length = (self.range.last - self.range.first).days + 1
        self.type = one_of(visit, "retention_type", dict(TYPES), TYPES[0][0])
        self.born_event = "" if self.is_compounded else name_of(visit, "born_event")
        self.born_where = "" if self.is_compounded else expression_of(visit, "born_where")
        self.event = name_of(visit, "event")
        self.unit_of_range = "day" if length < WEEKS_FROM else "week" if length < MONTHS_FROM else "month"
        self.unit = one_of(visit, "unit", UNITS, self.unit_of_range)
        self.interval = visit.integer("interval", 1, low=1, high=BUCKETS_LIMIT)
        self.usual = max(1, min(MOST_INTERVALS, length // (_DAYS[self.unit] * self.interval)))
        self.count = visit.integer("interval_count", self.usual, low=1, high=INTERVALS_LIMIT)
        self.unbounded = visit.text("unbounded_retention") in ("1", "true")

    @property
    def endpoint(self) -> str:
        """Whom the API's figures are asked of."""
        return RETENTION

    @property
    def is_compounded(self) -> bool:
        """Whether each return is a beginning as well: nothing else is one then."""
        return self.type == COMPOUNDED

    @property
    def is_ready(self) -> bool:
        """What people begin with, unless each return, of any event if need be, is a beginning as well."""
        return self.is_compounded or bool(self.born_event)

    @property
    def events(self) -> list[str]:
        """The events that it names."""
        return [name for name in (self.born_event, self.event) if name]

    @property
    def question(self) -> dict[str, Any]:
        """The parameters of its own."""
        return {
            **super().question,
            "born_event": self.born_event or None,
            "born_where": self.born_where or None,
            "event": self.event or None,
            "retention_type": None if self.type == TYPES[0][0] else self.type,
            "unit": None if self.unit == self.unit_of_range else self.unit,
            "interval": None if self.interval == 1 else self.interval,
            "interval_count": None if self.count == self.usual else self.count,
            "unbounded_retention": "1" if self.unbounded else None,
        }

    @property
    def filters(self) -> dict[str, str]:
        """What begins, and what is a return."""
        beginning = {} if self.is_compounded else {"born_where": self.born_where}
        return {**beginning, "where": self.where}

    @property
    def params(self) -> dict[str, Any]:
        """What the API is asked."""
        return {
            **super().params,
            "born_event": self.born_event or None,
            "born_where": self.born_where or None,
            "event": self.event or None,
            "retention_type": self.type,
            "unit": self.unit,
            "interval": self.interval,
            "interval_count": self.count,
            "unbounded_retention": self.unbounded,
        }


class _Cohort(NamedTuple):
    """Those who began in a stretch: how many intervals have begun for any of them, and are over for all."""

    key: str
    first: int
    counts: list[int]
    begun: int
    over: int


def own_of(definition: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the page that shows what a definition says."""
    begun = () if definition.get("retention_type") == COMPOUNDED else ("born_event", "born_where")
    return {
        **{name: definition.get(name) or None for name in begun},
        "event": definition.get("event") or None,
        "where": definition.get("where") or None,
        **asking.on_in(definition, DEFAULT_VALUES),
        "retention_type": definition.get("retention_type"),
        "unit": definition.get("unit", "day"),
        "interval": definition.get("interval"),
        "interval_count": definition.get("interval_count", 1),
        "unbounded_retention": "1" if definition.get("unbounded_retention") is True else None,
        "data_group_id": definition.get("data_group_id") or None,
    }


async def page(visit: Visit) -> Mapping[str, Any]:
    """The question; with its figures where all of it is wanted at once."""
    asked = Retention(visit)
    found = await page_of(visit, asked, own_of)
    found |= {
        "born_event": asked.born_event,
        "born_where": asked.born_where,
        "event": asked.event,
        "type": asked.type,
        "types": TYPES,
        "is_compounded": asked.is_compounded,
        "unit": asked.unit,
        "units": UNITS,
        "interval": asked.interval,
        "interval_count": asked.count,
        "unbounded": asked.unbounded,
        "figures": None,
    }
    if asking.is_whole(visit):
        found |= await answered(visit)
    return found


async def answered(visit: Visit) -> Mapping[str, Any]:
    """The figures, why there are none, or what is still to be chosen."""
    asked = Retention(visit)
    asking.ready(visit, asked)
    if not asked.is_ready:
        return {"figures": {"missing": True}}
    told = await ask(visit, asked.endpoint, asked.drawn_params)
    if told.trouble is not None:
        return {"figures": {"trouble": told.trouble}}
    cohorts = _cohorts(visit, asked, told.data)
    columns = [interval_name(asked.unit, asked.interval, number) for number in range(asked.count + 1)]
    mean = _mean(cohorts, asked.count + 1)
    groups = _groups(told.data, cohorts, asked.count + 1)
    series = [{"label": name, "values": [_percent(each) for each in line]} for name, line in groups.items()]
    figures: dict[str, Any] = {
        "columns": columns,
        "people": asking.people_of(asked.group),
        "is_compounded": asked.is_compounded,
        "first": sum(each.first for each in cohorts),
        "mean": [_cell(ratio, None, is_over=True) for ratio in mean],
        "rows": [_row(each) for each in cohorts],
        "on": asked.on,
        "groups": [
            {"name": name, "cells": [_cell(ratio, None, is_over=True) for ratio in line]}
            for name, line in groups.items()
        ],
        "chart": {
            "x": list(range(len(columns))),
            "labels": columns,
            "series": series or [{"label": "All", "values": [_percent(ratio) for ratio in mean]}],
            "unit": "came back",
            "percent": True,
        },
        "is_unfinished": any(each.over <= asked.count for each in cohorts),
        **asking.cut_of(asked, len(groups)),
        "behind": told.behind,
        "is_small": visit.text("small") == "1",
        "csv": visit.path("reports/retention/figures.csv", **asked.own),
        "empty": None,
    }
    if not figures["first"]:
        figures["empty"] = await asking.empty_of(visit, asked)
    return {"figures": figures}


def _cohorts(visit: Visit, asked: Retention, data: Mapping[str, Any]) -> list[_Cohort]:
    zone, now_ms = zone_of(visit.project.timezone), visit.services.now_ms()
    length_ms = asked.interval * UNIT_MS[asked.unit]
    found = []
    for key, row in data.items():
        start = datetime.fromisoformat(key)
        since = now_ms - moment_of(start, zone)
        until = now_ms - moment_of(following(asked.unit, start, asked.interval), zone)
        begun = min(len(row["counts"]), max(0, -(-since // length_ms)))
        over = min(len(row["counts"]), max(0, until // length_ms))
        found.append(_Cohort(key, row["first"], row["counts"], begun, over))
    return found


def _mean(cohorts: Sequence[_Cohort], size: int) -> list[float | None]:
    """Of everybody for whom an interval is over, which part came back in it: else it would seem to fall."""
    found: list[float | None] = []
    for number in range(size):
        over = [each for each in cohorts if number < each.over]
        first = sum(each.first for each in over)
        found.append(sum(each.counts[number] for each in over) / first if first else None)
    return found


def _groups(data: Mapping[str, Any], cohorts: Sequence[_Cohort], size: int) -> dict[str, list[float | None]]:
    """The same for those who came back with each value."""
    names = list(dict.fromkeys(name for row in data.values() for name in row.get("segments", ())))
    return {
        name: _mean([each._replace(counts=_counts(data[each.key], name, size)) for each in cohorts], size)
        for name in names
    }


def _counts(row: Mapping[str, Any], name: str, size: int) -> list[int]:
    found: list[int] = row["segments"].get(name, [0] * size)
    return found


def _row(cohort: _Cohort) -> dict[str, Any]:
    cells = [
        _cell(count / cohort.first if cohort.first else None, count, is_over=number < cohort.over)
        if number < cohort.begun
        else _cell(None, None, is_over=False)
        for number, count in enumerate(cohort.counts)
    ]
    return {"key": cohort.key, "first": cohort.first, "cells": cells}


def _cell(ratio: float | None, count: int | None, *, is_over: bool) -> dict[str, Any]:
    """A cell of the grid: the darker, the more came back; the number says it as well."""
    return {
        "percent": _percent(ratio),
        "count": count,
        "heat": heat(ratio),
        "is_over": is_over,
    }


def heat(ratio: float | None) -> int:
    """How dark a cell is, from 0 to 10."""
    return 0 if not ratio else max(1, min(HEAT, round(ratio * HEAT)))


def _percent(ratio: float | None) -> float | None:
    return None if ratio is None else round(100 * ratio, 1)
