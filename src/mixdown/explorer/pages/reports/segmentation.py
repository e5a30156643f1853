"""An event over time: how often, by whom, by which values, and sums of a number, as chart, table and CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

from mixdown.explorer.frame import Visit
from mixdown.explorer.pages.reports import asking, notes
from mixdown.explorer.pages.reports.asking import QUERY, Asked, ask, name_of, one_of
from mixdown.explorer.pages.reports.page import page_of
from mixdown.http.auth import ANALYSTS
from mixdown.http.segmentation import DEFAULT_SEGMENTS
from mixdown.query.events.buckets import BUCKETS_LIMIT, UNITS
from mixdown.query.reports.saved import CHARTS
from mixdown.query.reports.tables import series_of


class Measure(NamedTuple):
    """What is counted: the words for it, and the API's `method` and `type`."""

    label: str
    method: str
    type: str
    figure: str

    @property
    def wants_number(self) -> bool:
        """Whether `on` names a number, not what events are told apart by."""
        return self.method != "count"


MEASURES: Final = {
    "general": Measure("Events", "count", "general", "events"),
    "unique": Measure("Different {people}", "count", "unique", "{people}"),
    "average": Measure("Events for each of them", "count", "average", "events each"),
    "sum": Measure("Sum of a number", "sum", "general", "sum of {on}"),
    "mean": Measure("Average of a number", "average", "general", "average of {on}"),
    "ranges": Measure("Events by ranges of a number", "numeric", "general", "events"),
    "ranges-unique": Measure("Different {people} by ranges of a number", "numeric", "unique", "{people}"),
    "ranges-average": Measure(
        "Events for each of them by ranges of a number", "numeric", "average", "events each"
    ),
}
_PATHS: Final = {
    "count": f"{QUERY}/segmentation",
    "numeric": f"{QUERY}/segmentation/numeric",
    "sum": f"{QUERY}/segmentation/sum",
    "average": f"{QUERY}/segmentation/average",
}
CELLS_SHOWN: Final = 12_000
ROWS_SHOWN: Final = 400


class Segmentation(Asked):
    """What the page asks for."""

    kind = "segmentation"

    def __init__(self, visit: Visit) -> None:
        super().__init__(visit)
        self.event = name_of(visit, "event")
        self.measure = one_of(visit, "measure", MEASURES, "general")
        self.unit = one_of(visit, "unit", UNITS, self.range.unit)
        self.interval = visit.integer("interval", 1, low=1, high=BUCKETS_LIMIT)
        self.chart = one_of(visit, "chart", ("", *CHARTS), "")

    @property
    def measured(self) -> Measure:
        """What is counted."""
        return MEASURES[self.measure]

    @property
    def is_by_value(self) -> bool:
        """Whether events are told apart by `on`."""
        return bool(self.on) and not self.measured.wants_number

    @property
    def counts_people(self) -> bool:
        """Whether it says how many different ones there were."""
        return self.measure == "unique"

    @property
    def endpoint(self) -> str:
        """Whom the API's figures are asked of."""
        return _PATHS[self.measured.method]

    @property
    def file_name(self) -> str:
        """What a file of its figures is called."""
        return self.event

    @property
    def is_ready(self) -> bool:
        """An event, and the number that is to be added up."""
        return bool(self.event and (self.on or not self.measured.wants_number))

    @property
    def events(self) -> list[str]:
        """The events that it names."""
        return [self.event] if self.event else []

    @property
    def question(self) -> dict[str, Any]:
        """The parameters of its own."""
        return {
            **super().question,
            "event": self.event or None,
            "measure": None if self.measure == "general" else self.measure,
            "unit": None if self.unit == self.range.unit else self.unit,
            "interval": None if self.interval == 1 else self.interval,
            "chart": self.chart or None,
        }

    @property
    def params(self) -> dict[str, Any]:
        """What the API is asked."""
        return {
            **super().params,
            "event": self.event,
            "type": self.measured.type,
            "unit": self.unit,
            "interval": self.interval,
        }

    @property
    def definition(self) -> dict[str, Any]:
        """What is saved: how it is counted and drawn as well."""
        more = {"method": self.measured.method, **({"chart": self.chart} if self.chart else {})}
        return {**super().definition, **more}

    @property
    def drawn(self) -> str:
        """The kind of chart: the one chosen, or the one that suits the figures."""
        if self.chart:
            return self.chart
        if self.measure in ("general", "ranges"):
            return "bars" if self.on else "area"
        return "line"


def own_of(definition: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the page that shows what a definition says."""
    counted = (definition.get("method", "count"), definition.get("type", "general"))
    chart = definition.get("chart")
    measure = next((name for name, each in MEASURES.items() if (each.method, each.type) == counted), None)
    if measure is None:  # sums and averages have no type
        measure = next((name for name, each in MEASURES.items() if each.method == counted[0]), "general")
    return {
        "event": definition.get("event"),
        "measure": None if measure == "general" else measure,
        "where": definition.get("where") or None,
        **asking.on_in(definition, DEFAULT_SEGMENTS),
        "unit": definition.get("unit", "day"),
        "interval": definition.get("interval"),
        "data_group_id": definition.get("data_group_id") or None,
        "chart": chart if chart in CHARTS else None,
    }


async def page(visit: Visit) -> Mapping[str, Any]:
    """The question; with its figures where all of it is wanted at once."""
    asked = Segmentation(visit)
    found = await page_of(visit, asked, own_of)
    people = found["people"]
    found |= {
        "event": asked.event,
        "measure": asked.measure,
        "measures": [(name, each.label.format(people=people)) for name, each in MEASURES.items()],
        "wants_number": asked.measured.wants_number,
        "unit": asked.unit,
        "units": UNITS,
        "interval": asked.interval,
        "chart_kind": asked.chart,
        "figures": None,
    }
    if asking.is_whole(visit):
        found |= await answered(visit)
    return found


async def answered(visit: Visit) -> Mapping[str, Any]:
    """The figures, why there are none, or what is still to be chosen."""
    asked = Segmentation(visit)
    asking.ready(visit, asked)
    if not asked.is_ready:
        return {"figures": {"missing": "number" if asked.event else "event"}}
    told = await ask(visit, asked.endpoint, asked.drawn_params)
    if told.trouble is not None:
        return {"figures": {"trouble": told.trouble}}
    keys, values = series_of(asked.params, told.data)
    is_empty = not any(any(each) for each in values.values())
    whole = 0 if is_empty else await _whole(visit, asked)
    noted = await notes.of_range(visit, asked)
    figures: dict[str, Any] = {
        "name": asked.event,
        "on": asked.on,
        "unit": asked.unit,
        "drawn": asked.drawn,
        "figure": _named(asked),
        "headline": _headline(asked, keys, values, whole),
        "people": whole if asked.counts_people else None,
        "table": _table(visit, asked, keys, values),
        "chart": _chart(visit, asked, keys, values) | {"notes": notes.marks(noted)},
        **asking.cut_of(asked, len(values) if asked.measured.method == "count" else 0),
        "notes": noted,
        "back": visit.path(asked.path, **asked.own),
        "behind": told.behind,
        "is_small": visit.text("small") == "1",
        "csv": visit.path(f"{asked.path}/figures.csv", **asked.own),
        "may_write": visit.may(ANALYSTS),
        "empty": None,
    }
    if is_empty:
        figures["empty"] = await asking.empty_of(visit, asked)
    return {"figures": figures}


def _named(asked: Segmentation) -> str:
    return asked.measured.figure.format(people=asking.people_of(asked.group), on=asked.on)


def _adds_up(asked: Segmentation) -> bool:
    """Whether figures of several times may be added: people who came on two days are not two people."""
    return asked.measured.type == "general" and asked.measured.method != "average"


async def _whole(visit: Visit, asked: Segmentation) -> float | None:
    """The figure of all days and values together, where those of the page do not add up to it.

    Rarer values are left out, an event with a list stands under several, and people come on many days.
    """
    if not (asked.counts_people or (asked.is_by_value and _adds_up(asked))):
        return None
    question = {**asked.params, **asked.one_bucket, "on": None, "limit": None}
    told = await ask(visit, asked.endpoint, question)
    if told.trouble is not None:
        return None
    return sum(sum(row) for row in series_of(question, told.data)[1].values())


def _headline(
    asked: Segmentation, keys: Sequence[str], values: Mapping[str, Sequence[float]], whole: float | None
) -> dict[str, Any]:
    if _adds_up(asked) and not asked.is_by_value:
        return {"number": sum(sum(each) for each in values.values()), "text": _named(asked)}
    if _adds_up(asked) and whole is not None:
        return {"number": whole, "text": _named(asked)}
    if asked.is_by_value:
        return {"number": None, "text": _capital(f"{_named(asked)}, by {asked.on}")}
    if asked.measured.method == "numeric" or not keys:
        return {"number": None, "text": _capital(_named(asked))}
    figures = next(iter(values.values()), [])
    each = f"{asked.interval} {asked.unit}s" if asked.interval > 1 else asked.unit
    return {"number": max(figures, default=0), "text": f"{_named(asked)} at most in a {each}"}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _table(
    visit: Visit, asked: Segmentation, keys: Sequence[str], values: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """Lines of figures, newest first, as many as a page can show."""
    most = max(10, min(ROWS_SHOWN, CELLS_SHOWN // max(len(values), 1)))
    summed = _adds_up(asked)
    columns = [
        {"name": name, "total": sum(row) if summed else _mean(row), "most": max(row, default=0)}
        for name, row in values.items()
    ]
    shown = range(len(keys) - 1, max(-1, len(keys) - 1 - most), -1)
    whole = asking.are_whole(visit, asked, keys, asked.unit, interval=asked.interval)
    return {
        "columns": columns,
        "summed": summed,
        "rows": [
            {"key": keys[at], "is_whole": whole[at], "figures": [row[at] for row in values.values()]}
            for at in shown
        ],
        "of": len(keys),
    }


def _mean(row: Sequence[float]) -> float:
    return sum(row) / len(row) if row else 0


def _chart(
    visit: Visit, asked: Segmentation, keys: Sequence[str], values: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """The figures at their times; an hour that clocks leave out begins with the next, and is not drawn."""
    x = asking.times_of(visit, keys)
    drawn = [at for at, (this, later) in enumerate(pairwise([*x, math.inf])) if this < later]
    return {
        "x": [x[at] for at in drawn],
        "series": [
            {
                "label": name,
                "values": [row[at] for at in drawn],
                **({"total": sum(row)} if _adds_up(asked) else {}),
            }
            for name, row in values.items()
        ],
        "unit": _named(asked),
        "step": asked.unit,
        "zone": visit.project.timezone,
    }
