"""A funnel: how many come from step to step, how many drop off, and how long it takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from starlette.responses import Response
from starlette.routing import Route

from mixdown.explorer.frame import Frame, Problem, Visit
from mixdown.explorer.pages.reports import asking, notes
from mixdown.explorer.pages.reports.asking import QUERY, Asked, ask, expression_of, name_of, one_of
from mixdown.explorer.pages.reports.page import page_of
from mixdown.http.auth import ANALYSTS
from mixdown.http.journeys import DEFAULT_VALUES
from mixdown.query.events.buckets import BUCKETS_LIMIT, today
from mixdown.query.reports.funnels import ORDERS, STEPS_LIMIT
from mixdown.query.reports.saved import DEFAULT_LENGTH, LENGTH_MS
from mixdown.query.reports.tables import OVERALL, table_of
from mixdown.store.zones import zone_of

UNITS: Final = ("day", "week", "month")
FUNNEL: Final = f"{QUERY}/arb_funnels"
_WANTED: Final = 2
_DURATIONS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


class Step(NamedTuple):
    """A step of a funnel: an event, and what it is filtered by."""

    event: str
    where: str = ""
    label: str = ""


class Funnel(Asked):
    """What the page asks for: `event1`, `where1`, `event2` and so on."""

    kind = "funnels"

    def __init__(self, visit: Visit) -> None:
        super().__init__(visit)
        found = [_step(visit, number) for number in range(1, STEPS_LIMIT + 2)]
        self.steps = [step for step in found if step.event]
        if len(self.steps) > STEPS_LIMIT:
            raise Problem(f"A funnel has at most {STEPS_LIMIT} steps.", status=400)
        self.length = visit.integer("length", DEFAULT_LENGTH, low=1, high=90 * 86_400)
        self.length_unit = one_of(visit, "length_unit", LENGTH_MS, "day")
        self.order = one_of(visit, "order", ORDERS, ORDERS[0])
        self.unit = one_of(visit, "unit", ("", *UNITS), "")
        self.interval = visit.integer("interval", 1, low=1, high=BUCKETS_LIMIT)

    @property
    def endpoint(self) -> str:
        """Whom the API's figures are asked of."""
        return FUNNEL

    @property
    def is_ready(self) -> bool:
        """One step alone tells nothing."""
        return len(self.steps) >= _WANTED

    @property
    def window(self) -> str:
        """How long it may take, in words."""
        return f"{self.length} {self.length_unit}{'s' if self.length > 1 else ''}"

    @property
    def window_ms(self) -> int:
        """How long it may take."""
        return self.length * LENGTH_MS[self.length_unit]

    @property
    def events(self) -> list[str]:
        """The events that it names."""
        return [step.event for step in self.steps]

    @property
    def question(self) -> dict[str, Any]:
        """The parameters of its own."""
        return {
            **dict(step_params(self.steps)),
            **super().question,
            "length": None if self.length == DEFAULT_LENGTH else self.length,
            "length_unit": None if self.length_unit == "day" else self.length_unit,
            "order": None if self.order == ORDERS[0] else self.order,
            "unit": self.unit or None,
            "interval": None if self.interval == 1 else self.interval,
        }

    @property
    def params(self) -> dict[str, Any]:
        """What the API is asked: all days together."""
        return {
            **super().params,
            "steps": [
                {name: value for name, value in step._asdict().items() if value} for step in self.steps
            ],
            "length": self.length,
            "length_unit": self.length_unit,
            "order": self.order,
            **self.one_bucket,
        }

    @property
    def filters(self) -> dict[str, str]:
        """A filter for each step, those that are still blank included, and one for all."""
        size = min(STEPS_LIMIT, max(_WANTED, len(self.steps) + 1))
        wheres = [step.where for step in self.steps] + [""] * (size - len(self.steps))
        return {"where": self.where, **{f"where{number}": text for number, text in enumerate(wheres, 1)}}

    @property
    def over_time(self) -> dict[str, Any]:
        """The same, a stretch of days at a time."""
        return {**self.params, "on": None, "limit": None, "unit": self.unit, "interval": self.interval}

    @property
    def definition(self) -> dict[str, Any]:
        """What is saved."""
        found = super().definition
        del found["unit"], found["interval"]
        return {**found, **({"unit": self.unit, "interval": self.interval} if self.unit else {})}


def _step(visit: Visit, number: int) -> Step:
    return Step(
        name_of(visit, f"event{number}"),
        expression_of(visit, f"where{number}").strip(),
        name_of(visit, f"label{number}").strip(),
    )


def step_params(steps: Sequence[Step]) -> Iterator[tuple[str, str | None]]:
    """Steps as parameters of an address."""
    for number, step in enumerate(steps, 1):
        yield f"event{number}", step.event
        yield f"where{number}", step.where or None
        yield f"label{number}", step.label or None


def routes(frame: Frame) -> list[Route]:
    """The routes of a funnel's page that other kinds have none of."""
    return [
        frame.fragment("/reports/funnel/trend", "reports/funnel_trend.html", _trend),
        frame.raw("/reports/funnel/trend.csv", _trend_file),
    ]


def own_of(definition: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the page that shows what a definition says."""
    steps = [Step(**step) for step in definition["steps"]]
    length, interval = definition.get("length", DEFAULT_LENGTH), definition.get("interval")
    return {
        **dict(step_params(steps)),
        "where": definition.get("where") or None,
        **asking.on_in(definition, DEFAULT_VALUES),
        "length": None if length == DEFAULT_LENGTH else length,
        "length_unit": definition.get("length_unit"),
        "order": definition.get("order"),
        "unit": definition.get("unit") or (UNITS[0] if interval else None),
        "interval": interval,
        "data_group_id": definition.get("data_group_id") or None,
    }


async def page(visit: Visit) -> Mapping[str, Any]:
    """The question; with its figures where all of it is wanted at once."""
    asked = Funnel(visit)
    found = await page_of(visit, asked, own_of)
    found["parts_of"]["trend"] = visit.path("reports/funnel/trend", **asked.own)
    found |= {
        "steps": [step._asdict() for step in asked.steps],
        "length": asked.length,
        "length_unit": asked.length_unit,
        "length_units": tuple(LENGTH_MS),
        "order": asked.order,
        "orders": (("loose", "in this order"), ("any", "in any order")),
        "unit": asked.unit,
        "units": (("", "no"), *((unit, f"each {unit}") for unit in UNITS)),
        "interval": asked.interval,
        "figures": None,
        "trend": None,
    }
    if asking.is_whole(visit):
        found |= await answered(visit)
        found |= await _trend(visit) if asked.unit and asked.is_ready else {}
    return found


# --- all days together


async def answered(visit: Visit) -> Mapping[str, Any]:
    """The figures, why there are none, or what is still to be chosen."""
    asked = Funnel(visit)
    asking.ready(visit, asked)
    if not asked.is_ready:
        return {"figures": {"missing": len(asked.steps)}}
    told = await ask(visit, asked.endpoint, asked.drawn_params)
    if told.trouble is not None:
        return {"figures": {"trouble": told.trouble}}
    overall, groups = _groups(told.data)
    if not overall:
        return {"figures": {"empty": await asking.empty_of(visit, asked)}}
    steps = [_step_view(step, overall[place - 1] if place else None) for place, step in enumerate(overall)]
    figures: dict[str, Any] = {
        "steps": steps,
        "people": asking.people_of(asked.group),
        "began": overall[0]["count"],
        "done": overall[-1]["count"],
        "ratio": overall[-1]["overall_conv_ratio"],
        "took": duration(overall[-1]["avg_time_from_start"]),
        "any_order": asked.order == "any",
        "unfinished": asked.window if _goes_on(visit, asked) else "",
        "on": asked.on,
        "groups": [
            {"name": name, "steps": [_step_view(each, None) for each in found], "ratio": _overall(found)}
            for name, found in groups.items()
        ],
        **asking.cut_of(asked, len(groups)),
        "behind": told.behind,
        "number": asked.report,
        "is_small": visit.text("small") == "1",
        "csv": visit.path("reports/funnel/figures.csv", **asked.own),
        "empty": None,
    }
    if not overall[0]["count"]:
        figures["empty"] = await asking.empty_of(visit, asked)
    return {"figures": figures}


def _groups(data: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """The steps of everybody, and those of each value; no steps of days of which there are no events."""
    row: Mapping[str, Any] = next(iter(data["data"].values()), {OVERALL: []})
    if OVERALL not in row:
        return row["steps"], {}
    return row[OVERALL], {name: steps for name, steps in row.items() if name != OVERALL}


def _goes_on(visit: Visit, asked: Funnel) -> bool:
    """Whether somebody who began in these days may still go on."""
    zone = zone_of(visit.project.timezone)
    return today(visit.services.now_ms() - asked.window_ms, zone) <= asked.range.last


def _overall(steps: Sequence[Mapping[str, Any]]) -> float:
    return float(steps[-1]["overall_conv_ratio"]) if steps[0]["count"] else 0.0


def _step_view(step: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    lost = before["count"] - step["count"] if before else 0
    return {
        "label": step["step_label"],
        "event": step["event"],
        "count": step["count"],
        "ratio": step["step_conv_ratio"],
        "overall": step["overall_conv_ratio"],
        "lost": lost,
        "lost_ratio": 1 - step["step_conv_ratio"],
        "took": duration(step["avg_time"]),
        "took_from_start": duration(step["avg_time_from_start"]),
        "bar": round(100 * step["overall_conv_ratio"], 2),
        "bar_before": round(100 * before["overall_conv_ratio"], 2) if before else 100,
    }


def duration(seconds: int | None) -> str:
    """A length of time in at most two units: `1 d 4 h`; "" where there is none."""
    if seconds is None:
        return ""
    for place, (size, name) in enumerate(_DURATIONS):
        if seconds >= size:
            whole, rest = divmod(seconds, size)
            smaller, name_of_rest = _DURATIONS[place + 1] if place + 1 < len(_DURATIONS) else (1, "")
            more = f" {rest // smaller} {name_of_rest}" if rest // smaller else ""
            return f"{whole} {name}{more}"
    return "under 1 s"


# --- over time


async def _over_time(visit: Visit) -> tuple[Funnel, asking.Told]:
    asked = Funnel(visit)
    if not asked.unit:
        raise Problem("unit: name the stretch of days.", status=400)
    return asked, await ask(visit, FUNNEL, asked.over_time)


async def _trend_file(visit: Visit) -> Response:
    asked, told = await _over_time(visit)
    return await asking.csv_of(f"{asked.file_name}-over-time", *table_of(asked.kind, {}, told.data))


async def _trend(visit: Visit) -> Mapping[str, Any]:
    asked, told = await _over_time(visit)
    if told.trouble is not None:
        return {"trend": {"trouble": told.trouble}}
    keys: list[str] = told.data["meta"]["dates"]
    lines = [told.data["data"][key]["steps"] for key in keys]
    noted = await notes.of_range(visit, asked)
    ratios = [round(100 * _overall(steps), 2) for steps in lines]
    chart = {
        "x": asking.times_of(visit, keys),
        "series": [{"label": "Conversion", "values": ratios}],
        "unit": "conversion",
        "percent": True,
        "step": asked.unit,
        "zone": visit.project.timezone,
        "notes": notes.marks(noted),
    }
    whole = asking.are_whole(
        visit, asked, keys, asked.unit, interval=asked.interval, later_ms=asked.window_ms
    )
    rows = [
        {
            "key": key,
            "is_whole": is_whole,
            "began": steps[0]["count"],
            "done": steps[-1]["count"],
            "ratio": _overall(steps),
        }
        for key, steps, is_whole in zip(keys, lines, whole, strict=True)
    ]
    return {
        "trend": {
            "chart": chart,
            "rows": rows[::-1],
            "unit": asked.unit,
            "window": asked.window,
            "csv": visit.path(f"{asked.path}/trend.csv", **asked.own),
            "notes": noted,
            "may_write": visit.may(ANALYSTS),
            "back": visit.path(asked.path, **asked.own),
        }
    }
