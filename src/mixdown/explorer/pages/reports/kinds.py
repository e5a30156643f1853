"""The kinds of reports that have a page: what each asks for, shows and hands out, as one table.

Each kind's own module enters; routes leave, the same ones for each: the page and its `.json`, its figures as
a part, and the figures as CSV.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from starlette.responses import Response
from starlette.routing import Route

from mixdown.explorer.frame import Build, Frame, Visit
from mixdown.explorer.pages.reports import asking, frequency, funnel, retention, segmentation
from mixdown.explorer.pages.reports.asking import KINDS, Asked
from mixdown.query.reports.tables import table_of


class Kind(NamedTuple):
    """A kind of report: its question, its page and the figures on it, and a saved definition's parameters."""

    asked: Callable[[Visit], Asked]
    page: Build
    figures: Build
    own_of: Callable[[Mapping[str, Any]], dict[str, Any]]
    about: str


TABLE: Final[Mapping[str, Kind]] = {
    "segmentation": Kind(
        segmentation.Segmentation,
        segmentation.page,
        segmentation.answered,
        segmentation.own_of,
        "How often something happens, by whom and by which values, over time.",
    ),
    "funnels": Kind(
        funnel.Funnel,
        funnel.page,
        funnel.answered,
        funnel.own_of,
        "How many come from step to step, how many drop off, and how long it takes.",
    ),
    "retention": Kind(
        retention.Retention,
        retention.page,
        retention.answered,
        retention.own_of,
        "Of those who began, how many come back, week by week.",
    ),
    "addiction": Kind(
        frequency.Frequency,
        frequency.page,
        frequency.answered,
        frequency.own_of,
        "On how many days of a week, or in how many hours of a day, people come.",
    ),
}


def routes(frame: Frame) -> list[Route]:
    """The routes of all kinds; templates are called as their paths are."""
    found = []
    for name, (path, title) in KINDS.items():
        kind = TABLE[name]
        found += frame.view(f"/{path}", f"{path}.html", kind.page, title=title, section="reports")
        found.append(frame.fragment(f"/{path}/figures", f"{path}_figures.html", kind.figures))
        found.append(frame.raw(f"/{path}/figures.csv", _file_of(kind)))
    return [*found, *funnel.routes(frame)]


def _file_of(kind: Kind) -> Callable[[Visit], Any]:
    """What hands out the figures of a kind as CSV."""

    async def file(visit: Visit) -> Response:
        asked = kind.asked(visit)
        asking.ready(visit, asked)
        told = await asking.ask(visit, asked.endpoint, asked.params)
        return await asking.csv_of(asked.file_name, *table_of(asked.kind, asked.params, told.data))

    return file
