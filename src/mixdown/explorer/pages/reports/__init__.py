"""Reports: segmentation, funnels, retention and frequency, saved and shared by their addresses."""

from __future__ import annotations

from starlette.routing import Route

from mixdown.explorer.frame import Frame
from mixdown.explorer.pages.reports import dashboards, filters, kinds, notes, saved


def routes(frame: Frame) -> list[Route]:
    """The routes of these pages."""
    return [
        *saved.routes(frame),
        *dashboards.routes(frame),
        *kinds.routes(frame),
        *filters.routes(frame),
        *notes.routes(frame),
    ]
