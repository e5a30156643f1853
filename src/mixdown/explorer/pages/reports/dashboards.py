"""Dashboards: saved reports on one page, each drawn by its own part; made, arranged and deleted.

The dashboards and reports of the API enter; a grid leaves, each place with the address of a report's figures.
Days that the page's address names, or the dashboard, go before those of each report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response
from starlette.routing import Route

from mixdown.explorer.frame import Form, Frame, Problem, Visit, see_other
from mixdown.explorer.pages.event_asking import DAYS, PRESETS
from mixdown.explorer.pages.reports.asking import KINDS, NUMBER_LIMIT
from mixdown.explorer.pages.reports.saved import own_of
from mixdown.http.auth import ANALYSTS
from mixdown.http.dashboards import PATH
from mixdown.http.saved_reports import PATH as REPORTS
from mixdown.query.reports.dashboards import WIDTH as PAGE_WIDTH
from mixdown.query.reports.saved import DAYS_LIMIT

WIDTHS: Final = ((4, "a third"), (6, "half"), (12, "whole"))
_HALF: Final = 6


def routes(frame: Frame) -> list[Route]:
    """The routes of this file."""
    return [
        *frame.view(
            "/reports/dashboard", "reports/dashboard.html", _page, title="Dashboard", section="reports"
        ),
        frame.action("/reports/dashboard/new", _create, roles=ANALYSTS),
        frame.action("/reports/dashboard/save", _save, roles=ANALYSTS),
        frame.action("/reports/dashboard/delete", _delete, roles=ANALYSTS),
    ]


async def _one(visit: Visit, number: int) -> dict[str, Any]:
    if not number:
        raise Problem("Which dashboard? Choose one from the list of reports.", status=400)
    found: dict[str, Any] = (await visit.ask("GET", PATH, params={"id": number})).good()["results"]
    return found


async def _page(visit: Visit) -> Mapping[str, Any]:
    board = await _one(visit, visit.integer("id", 0, low=1, high=NUMBER_LIMIT))
    days = visit.integer("days", board["days"] or 0, low=1, high=DAYS_LIMIT)
    listed = (await visit.ask("GET", REPORTS)).good()["results"]
    saved = {report["id"]: report for report in listed if report["kind"] in KINDS}
    places = [
        {
            **place,
            "span": _span(place["width"]),
            "widths": _widths(place["width"]),
            **_addresses(visit, saved[place["id"]], days),
        }
        for place in board["reports"]
        if place["id"] in saved
    ]
    return {
        "title": board["title"],
        "board": {name: board[name] for name in ("id", "title", "description", "days", "creator")},
        "days": days,
        "presets": [
            {"days": each, "label": label, "url": visit.path("reports/dashboard", id=board["id"], days=each)}
            for each, label in PRESETS
        ],
        "places": places,
        "choices": [{"id": each["id"], "name": each["name"]} for each in saved.values()],
        "may_write": visit.may(ANALYSTS),
    }


def _span(width: int) -> int:
    """The room of a place on the page: a third, a half or the whole of its width."""
    return next((size for size, _ in WIDTHS if width <= size), WIDTHS[-1][0])


def _widths(width: int) -> list[tuple[int, str]]:
    """The widths that may be chosen for a place, its own among them."""
    known = dict(WIDTHS)
    return sorted({**known, width: known.get(width, f"{width} of {PAGE_WIDTH} columns")}.items())


def _addresses(visit: Visit, report: Mapping[str, Any], days: int) -> dict[str, str]:
    """The page of a report, and its figures, about these days."""
    path = KINDS[report["kind"]][0]
    days = days or report["definition"].get("days", DAYS)
    own = {
        "days": None if days == DAYS else days,
        **own_of(report["kind"], report["definition"]),
        "report": report["id"],
    }
    return {"url": visit.path(path, **own), "figures_url": visit.path(f"{path}/figures", **own, small="1")}


async def _create(visit: Visit) -> Response:
    form = await visit.form()
    made = (await visit.ask("POST", PATH, body={"title": form.text("title")})).good()["results"]
    return see_other(visit.path("reports/dashboard", id=made["id"]), f"“{made['title']}” was made.")


async def _save(visit: Visit) -> Response:
    form = await visit.form()
    board = await _one(visit, _number(form.text("id")))
    days = form.text("days").strip()
    body = {
        "id": board["id"],
        "title": form.text("title"),
        "description": form.text("description"),
        "days": days or None,
        "reports": _arranged(form),
    }
    (await visit.ask("PUT", PATH, body=body)).good()
    return see_other(visit.path("reports/dashboard", id=board["id"]), "The dashboard was changed.")


def _arranged(form: Form) -> list[dict[str, int]]:
    """The reports of the form in the order that it gives, without those that are to go, and the new one."""
    numbers, orders, widths = form.texts("report"), form.texts("order"), form.texts("width")
    heights = form.texts("height")
    if not len(numbers) == len(orders) == len(widths) == len(heights):
        raise Problem("The form is not whole. Load the page again, then repeat.", status=400)
    gone = set(form.texts("gone"))
    lines = [
        (_number(order or "0"), {"id": _number(number), "width": _number(width), "height": _number(height)})
        for place, (number, order, width, height) in enumerate(
            zip(numbers, orders, widths, heights, strict=True), 1
        )
        if str(place) not in gone
    ]
    found = [line for _, line in sorted(lines, key=lambda line: line[0])]
    if form.text("added"):
        found.append({"id": _number(form.text("added")), "width": _HALF})
    return found


async def _delete(visit: Visit) -> Response:
    form = await visit.form()
    (await visit.ask("DELETE", PATH, params={"id": _number(form.text("id"))})).good()
    return see_other(visit.path("reports"), f"The dashboard “{form.text('title')}” was deleted.")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 17):
        raise Problem("A number is missing. Load the page again, then repeat.", status=400)
    return int(text)
