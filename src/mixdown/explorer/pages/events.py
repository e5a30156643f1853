"""The events of a project: their names with volumes, and what came last.

The API's volumes and newest events enter; two parts of a page leave, loaded on their own: the page itself
reads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.routing import Route

from mixdown.explorer.frame import Frame, Problem, Visit
from mixdown.explorer.pages.event_asking import PRESETS, WAIT, Range, range_of
from mixdown.http.events_own import NEWEST, SEARCH_LIMIT_CHARS, SORT_ORDERS, VOLUMES
from mixdown.query.events.volumes import SORTS, WINDOWS

PAGE: Final = 100
RECENT: Final = 50
CHARTED: Final = 7
OTHER: Final = "All others"
OFFSET_LIMIT: Final = 10_000_000
COLUMNS: Final = (
    ("name", "Event"),
    ("total", "In this range"),
    ("today", "Today"),
    ("week", "7 days"),
    ("month", "30 days"),
    ("last", "Last seen"),
)


def routes(frame: Frame) -> list[Route]:
    """The routes of this page."""
    return [
        *frame.view("/events", "events/list.html", _page, title="Events", section="events"),
        frame.fragment("/events/volumes", "events/volumes.html", _volumes),
        frame.fragment("/events/more", "events/rows.html", _volumes),
        frame.fragment("/events/recent", "events/recent.html", _recent),
    ]


class _Asked:
    """What the page shows, from its address."""

    def __init__(self, visit: Visit) -> None:
        self.range: Range = range_of(visit)
        self.search = visit.text("q")
        if len(self.search) > SEARCH_LIMIT_CHARS:
            raise Problem(f"Search for at most {SEARCH_LIMIT_CHARS} characters.", status=400)
        self.sort = visit.text("sort", SORTS[0])
        self.order = visit.text("order") or SORT_ORDERS[self.sort == "name"]
        if self.sort not in SORTS or self.order not in SORT_ORDERS:
            raise Problem(
                f"sort is one of {', '.join(SORTS)}; order is {' or '.join(SORT_ORDERS)}.", status=400
            )

    @property
    def own(self) -> dict[str, Any]:
        """The parameters of this page's addresses; what is as it comes is left out."""
        return {
            **self.range.own,
            "q": self.search or None,
            "sort": None if self.sort == SORTS[0] else self.sort,
            "order": None if self.order == SORT_ORDERS[self.sort == "name"] else self.order,
        }

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the API."""
        return {
            **self.range.params,
            "search": self.search or None,
            "sort": self.sort,
            "sort_order": self.order,
            "limit": PAGE,
        }


def is_whole(visit: Visit) -> bool:
    """Whether all of a page is wanted at once: as data, or where no script will load its parts."""
    return visit.request.url.path.endswith(".json") or visit.text("whole") == "1"


async def _page(visit: Visit) -> Mapping[str, Any]:
    asked = _Asked(visit)
    own = asked.own
    found: dict[str, Any] = {
        "span": {"days": asked.range.days, **asked.range.params},
        "search": asked.search,
        "sort": asked.sort,
        "order": asked.order,
        "presets": [
            {"days": days, "label": label, "url": visit.path("events", **_ranged(own, days=days))}
            for days, label in PRESETS
        ],
        "parts_of": {
            "volumes": visit.path("events/volumes", **own),
            "recent": visit.path("events/recent"),
            "whole": visit.path("events", **own, whole="1"),
        },
        "volumes": None,
        "recent": None,
    }
    if is_whole(visit):
        found |= await _volumes(visit)
        found |= await _recent(visit)
    return found


def _ranged(own: Mapping[str, Any], **range_: Any) -> dict[str, Any]:
    kept = {name: value for name, value in own.items() if name not in ("days", "from", "to")}
    return {**kept, **range_}


async def _volumes(visit: Visit) -> Mapping[str, Any]:
    asked = _Asked(visit)
    offset = visit.integer("offset", 0, low=0, high=OFFSET_LIMIT)
    answer = await visit.ask("GET", VOLUMES, params={**asked.params, "offset": offset}, headers=WAIT)
    volumes = answer.good()["results"]
    seen = offset + len(volumes["events"])
    own = asked.own
    for volume in volumes["events"]:
        volume["url"] = visit.path("event", name=volume["event"], **asked.range.own)
        for name in WINDOWS:
            volume[name]["change"] = change(**volume[name])
    return {
        "volumes": volumes,
        "search": asked.search,
        "chart": _chart(volumes) if not offset else None,
        "more_url": visit.path("events/more", **own, offset=seen) if seen < volumes["names"] else None,
        "columns": [_column(visit, asked, name, label) for name, label in COLUMNS],
    }


def _column(visit: Visit, asked: _Asked, name: str, label: str) -> dict[str, Any]:
    """A heading: where a click on it leads, and which way it sorts now."""
    is_sorted = asked.sort == name
    first, other = SORT_ORDERS if name != "name" else SORT_ORDERS[::-1]
    order = other if is_sorted and asked.order == first else first
    own = {**asked.own, "sort": name, "order": None if order == first else order}
    return {
        "name": name,
        "label": label,
        "url": visit.path("events", **own),
        "sorted": asked.order if is_sorted else None,
    }


def change(count: int, before: int) -> dict[str, Any]:
    """How a window differs from the one before it, in words and as a part: None where nothing was before."""
    if not before:
        return {"text": "new" if count else "", "part": None}
    part = (count - before) / before
    if abs(part) < 0.005:
        return {"text": "±0 %", "part": 0.0}
    text = f"{count / before:.0f} times" if part >= 9.995 else f"{part:+.0%}".replace("%", " %")
    return {"text": text, "part": part}


def _chart(volumes: Mapping[str, Any]) -> dict[str, Any]:
    """The first names of a page, and all others together."""
    shown = sorted(volumes["events"], key=lambda volume: -volume["total"])[:CHARTED]
    shown = [volume for volume in shown if volume["total"]]
    series = [
        {"label": volume["event"], "values": volume["figures"], "total": volume["total"]} for volume in shown
    ]
    sums = [sum(each) for each in zip(*(volume["figures"] for volume in shown), strict=True)]
    rest = [whole - part for whole, part in zip(volumes["figures"], sums, strict=True)] if sums else []
    if any(rest):
        series.append({"label": OTHER, "values": rest, "total": sum(rest), "other": True})
    return {
        "x": volumes["times"],
        "series": series,
        "unit": "events",
        "step": "day",
        "zone": volumes["timezone"],
    }


async def _recent(visit: Visit) -> Mapping[str, Any]:
    answer = await visit.ask("GET", NEWEST, params={"limit": RECENT}, headers=WAIT)
    return {"recent": [recent_row(visit, line) for line in answer.good()["results"]], "more": None}


def recent_row(visit: Visit, line: Mapping[str, Any]) -> dict[str, Any]:
    """An event as lists of them show it."""
    properties = line["properties"]
    person = properties["distinct_id"]
    shown = [name for name in properties if name not in _OWN]
    return {
        "event": line["event"],
        "time_ms": properties["time"] * 1000,
        "person": person,
        "person_url": visit.path("profile", id=person),
        "url": visit.path("event", name=line["event"]),
        "names": shown[:_NAMES_SHOWN],
        "more_names": max(0, len(shown) - _NAMES_SHOWN),
        "line": line,
    }


_NAMES_SHOWN: Final = 6
_OWN: Final = frozenset(
    {
        "time",
        "distinct_id",
        "$distinct_id",
        "$distinct_id_before_identity",
        "$insert_id",
        "mp_processing_time_ms",
        "$mp_api_endpoint",
        "$mp_api_timestamp_ms",
    }
)
