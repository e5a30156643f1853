"""One event: a chart of it by a property over time, its properties with their values, and some of it.

The API's answers enter; parts of a page leave, each loaded on its own, and the figures of the chart as CSV.
Everything that is chosen stands in the address.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response
from starlette.routing import Route

from mixdown.explorer.frame import Frame, Problem, Visit
from mixdown.explorer.pages.event_asking import (
    PRESETS,
    WAIT,
    Fault,
    Range,
    as_curl,
    equals,
    fault_of,
    range_of,
)
from mixdown.explorer.pages.events import is_whole, recent_row
from mixdown.http.events_own import NEWEST, PROPERTIES, SERIES, VALUES
from mixdown.http.reading import in_thread
from mixdown.query.events.buckets import UNITS
from mixdown.query.events.columns import PERSON

KINDS: Final = {"general": "Events", "unique": "Users", "average": "Events a user"}
CHARTS: Final = ("bars", "area", "line")
TOPS: Final = (5, 10, 20, 50)
DEFAULT_TOP: Final = 10
SAMPLES: Final = 20
PROPERTIES_SHOWN: Final = 60
EVENTS_LOOKED_AT: Final = 100_000
"""Of how many events the properties are counted, where there are more: the newest, by whole days."""
VALUES_SHOWN: Final = 10
NAME_LIMIT_CHARS: Final = 1000
WHERE_LIMIT_CHARS: Final = 20_000
NOT_SET: Final = "(not set)"
OTHERS: Final = "All others"
NO_EVENT: Final = "Which event? Choose one from the list of events."
_PERSONAL: Final = (*PERSON, "$user_id")


def routes(frame: Frame) -> list[Route]:
    """The routes of this page."""
    return [
        *frame.view("/event", "events/event.html", _page, title="Event", section="events"),
        frame.fragment("/event/figures", "events/figures.html", _figures),
        frame.raw("/event/figures.csv", _csv),
        frame.fragment("/event/properties", "events/properties.html", _properties),
        frame.fragment("/event/values", "events/values.html", _values),
        frame.fragment("/event/samples", "events/samples.html", _samples),
    ]


class _Asked:
    """What the page shows, from its address."""

    def __init__(self, visit: Visit) -> None:
        self.name = visit.text("name")
        if not self.name or len(self.name) > NAME_LIMIT_CHARS:
            raise Problem(NO_EVENT, status=400)
        self.range: Range = range_of(visit)
        self.unit = _one_of(visit, "unit", UNITS) or self.range.unit
        self.kind = _one_of(visit, "type", tuple(KINDS)) or "general"
        self.by = visit.text("by")
        self.where = visit.text("where")
        if len(self.by) > NAME_LIMIT_CHARS or len(self.where) > WHERE_LIMIT_CHARS:
            raise Problem(f"A filter has at most {WHERE_LIMIT_CHARS} characters.", status=400)
        self.top = visit.integer("top", DEFAULT_TOP, low=1, high=TOPS[-1])
        self.chart = _one_of(visit, "chart", CHARTS)

    @property
    def own(self) -> dict[str, Any]:
        """The parameters of this page's addresses; what is as it comes is left out."""
        return {
            "name": self.name,
            **self.range.own,
            "unit": None if self.unit == self.range.unit else self.unit,
            "type": None if self.kind == "general" else self.kind,
            "by": self.by or None,
            "where": self.where if self.where.strip() else None,
            "top": None if self.top == DEFAULT_TOP else self.top,
            "chart": self.chart or None,
        }

    @property
    def drawn(self) -> str:
        """The kind of chart: the one chosen, or the one that suits the figures."""
        if self.chart:
            return self.chart
        if self.kind != "general":
            return "line"
        return "bars" if self.by else "area"

    @property
    def selected(self) -> dict[str, Any]:
        """The events, as the API takes them."""
        return {
            "event": [self.name],
            "where": self.where if self.where.strip() else None,
            **self.range.params,
        }

    @property
    def series(self) -> dict[str, Any]:
        """The parameters of the chart's figures."""
        return {
            **self.selected,
            "by": self.by or None,
            "type": self.kind,
            "unit": self.unit,
            "limit": self.top if self.by else None,
        }


def _one_of(visit: Visit, name: str, known: tuple[str, ...]) -> str:
    text = visit.text(name)
    if text and text not in known:
        raise Problem(f"{name} is one of {', '.join(known)}.", status=400)
    return text


# --- the page


async def _page(visit: Visit) -> Mapping[str, Any]:
    asked = _Asked(visit)
    fault = await fault_of(visit, asked.where)
    found = _choices(visit, asked) | {
        "fault": None if fault is None else fault._asdict(),
        "parts_of": _parts(visit, asked),
        "figures": None,
        "properties": None,
        "samples": None,
    }
    if fault is not None:
        return found
    if is_whole(visit):
        for part in (_figures, _properties, _samples):
            found |= await part(visit)
    return found


def _choices(visit: Visit, asked: _Asked) -> dict[str, Any]:
    own = asked.own
    ranged = {name: value for name, value in own.items() if name not in ("days", "from", "to", "unit")}
    return {
        "title": asked.name,
        "name": asked.name,
        "span": {"days": asked.range.days, **asked.range.params},
        "unit": asked.unit,
        "units": UNITS,
        "type": asked.kind,
        "types": KINDS,
        "by": asked.by,
        "where": asked.where,
        "top": asked.top,
        "tops": [str(top) for top in sorted({*TOPS, asked.top})],
        "charts": CHARTS,
        "chart_kind": asked.chart,
        "presets": [
            {"days": days, "label": label, "url": visit.path("event", **ranged, days=days)}
            for days, label in PRESETS
        ],
        "unfiltered_url": visit.path("event", **{**own, "where": None}),
        "curl": as_curl(visit, SERIES, asked.series),
    }


def _parts(visit: Visit, asked: _Asked) -> dict[str, str]:
    own = asked.own
    selected = {"name": asked.name, **asked.range.own, "where": own["where"]}
    return {
        "figures": visit.path("event/figures", **own),
        "csv": visit.path("event/figures.csv", **own),
        "properties": visit.path("event/properties", **own),
        "samples": visit.path("event/samples", **selected),
        "whole": visit.path("event", **own, whole="1"),
    }


# --- the chart


async def _figures(visit: Visit) -> Mapping[str, Any]:
    asked = _Asked(visit)
    answer = await visit.ask("GET", SERIES, params=asked.series, headers=WAIT)
    found = answer.good()["results"]
    lines = await _lines(visit, asked, asked.by, found)
    return {
        "figures": {"whole": _total(found["whole"]), "lines": lines, "count": found["whole"]["count"]},
        "name": asked.name,
        "by": asked.by,
        "type": asked.kind,
        "types": KINDS,
        "unit": asked.unit,
        "top": asked.top,
        "drawn": asked.drawn,
        "chart": _chart(asked, found),
        "behind": int(answer.headers.get("x-mixdown-behind", "0")),
    }


def _chart(asked: _Asked, found: Mapping[str, Any]) -> dict[str, Any]:
    series: list[dict[str, Any]] = [
        {
            "label": NOT_SET if line["value"] is None else line["value"],
            "values": line["figures"],
            "total": line["total"],
            "absent": line["value"] is None,
        }
        for line in found["values"]
    ]
    if found["other"] is not None:
        other = found["other"]
        series.append({"label": OTHERS, "values": other["figures"], "total": other["total"], "other": True})
    if not asked.by:
        series = [{"label": asked.name, "values": found["whole"]["figures"]}]
    return {
        "x": found["times"],
        "series": series,
        "unit": KINDS[asked.kind].lower(),
        "step": found["unit"],
        "zone": found["timezone"],
    }


def _total(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != "figures"}


async def _lines(visit: Visit, asked: _Asked, by: str, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Values with their shares of all events, and where each leads."""
    if not by:
        return []
    keys = await _group_keys(visit)
    whole = max(found["whole"]["count"], 1)
    most = max([line["count"] for line in found["values"]], default=1)
    lines = []
    for line in found["values"]:
        value, only = line["value"], equals(by, line["value"], line["kind"], asked.where)
        lines.append(
            _total(line)
            | {
                "share": line["count"] / whole,
                "bar": round(100 * line["count"] / max(most, 1), 2),
                "profile_url": _profile_url(visit, by, value, keys),
                "only_url": None if only is None else visit.path("event", **{**asked.own, "where": only}),
            }
        )
    if found["other"] is not None:
        other = found["other"]
        lines.append(_total(other) | {"share": other["count"] / whole, "other": True})
    return lines


async def _group_keys(visit: Visit) -> frozenset[str]:
    state = visit.services.store.state
    return frozenset(await in_thread(visit.services, state.group_keys, visit.project.id))


def _profile_url(visit: Visit, by: str, value: str | None, keys: frozenset[str]) -> str | None:
    """The profile that a value names, where the property is one that names people or groups."""
    if value is None or value == "":
        return None
    if by in _PERSONAL:
        return visit.path("profile", id=value)
    return visit.path("profile", id=value, group_key=by) if by in keys else None


async def _csv(visit: Visit) -> Response:
    asked = _Asked(visit)
    return visit.relay(
        "GET", SERIES, params={**asked.series, "format": "csv"}, filename=f"{asked.name[:60] or 'event'}.csv"
    )


# --- properties and samples


async def _properties(visit: Visit) -> Mapping[str, Any]:
    asked = _Asked(visit)
    params = {"event": [asked.name], "recent": EVENTS_LOOKED_AT, **asked.range.params}
    found = (await visit.ask("GET", PROPERTIES, params=params, headers=WAIT)).good()["results"]
    whole = max(found["events"], 1)
    own = asked.own
    selected = {"name": asked.name, **asked.range.own, "where": own["where"], "type": own["type"]}
    for one in found["properties"]:
        one["share"] = one["count"] / whole
        one["bar"] = round(100 * one["count"] / whole, 2)
        one["by_url"] = visit.path("event", **{**own, "by": one["name"]})
        one["values_url"] = visit.path("event/values", **selected, by=one["name"])
    return {
        "properties": found,
        "by": asked.by,
        "shown": PROPERTIES_SHOWN,
    }


async def _values(visit: Visit) -> Mapping[str, Any]:
    asked = _Asked(visit)
    params = {**asked.selected, "by": asked.by, "type": asked.kind, "limit": VALUES_SHOWN}
    found = (await visit.ask("GET", VALUES, params=params, headers=WAIT)).good()["results"]
    return {
        "lines": await _lines(visit, asked, asked.by, found),
        "by": asked.by,
        "type": asked.kind,
        "types": KINDS,
        "count": found["whole"]["count"],
    }


async def _samples(visit: Visit) -> Mapping[str, Any]:
    asked = _Asked(visit)
    before = visit.text("before")
    params = {**asked.selected, "limit": SAMPLES, "before": before or None}
    answer = (await visit.ask("GET", NEWEST, params=params, headers=WAIT)).good()
    following = answer["next"]
    own = {"name": asked.name, **asked.range.own, "where": asked.own["where"]}
    return {
        "samples": [recent_row(visit, line) for line in answer["results"]],
        "samples_curl": as_curl(visit, NEWEST, {**asked.selected, "limit": SAMPLES}),
        "older_url": visit.path("event/samples", **own, before=following) if following else None,
        "is_first": not before,
    }


__all__ = ["Fault", "routes"]
