"""Annotations in charts: those of the days that a report shows; added, changed and deleted from its page.

The API's annotations enter; marks for a chart and lines for a list leave. Who may write the API decides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from starlette.responses import Response
from starlette.routing import Route

from mixdown.explorer.frame import Form, Frame, Problem, Visit, see_other
from mixdown.explorer.pages.reports.asking import Asked
from mixdown.http.auth import ANALYSTS
from mixdown.query.events.buckets import moment_of
from mixdown.store.zones import zone_of

SHOWN: Final = 100
BACK_LIMIT_CHARS: Final = 64_000
_PAGE: Final = re.compile(r"(?:/[a-z]{1,20})?")


def routes(frame: Frame) -> list[Route]:
    """The routes of this file."""
    return [
        frame.action("/reports/notes/add", _add, roles=ANALYSTS),
        frame.action("/reports/notes/change", _change, roles=ANALYSTS),
        frame.action("/reports/notes/delete", _delete, roles=ANALYSTS),
    ]


def _path(visit: Visit, number: str = "") -> str:
    below = f"/api/app/projects/{visit.project.id}/annotations"
    return f"{below}/{number}" if number else below


async def of_range(visit: Visit, asked: Asked) -> list[dict[str, Any]]:
    """The newest annotations of the days of a report, oldest first."""
    days = asked.range.params
    params = {"fromDate": days["from_date"], "toDate": days["to_date"]}
    answer = await visit.ask("GET", _path(visit), params=params)
    found: Sequence[Mapping[str, Any]] = answer.data["results"] if answer.status < 400 else ()
    zone = zone_of(visit.project.timezone)
    return [
        {
            "id": each["id"],
            "number": number,
            "x": moment_of(at, zone) // 1000,
            "date": each["date"],
            "text": each["description"],
            "who": each["user"]["first_name"],
            "tags": [tag["name"] for tag in each["tags"]],
        }
        for number, (each, at) in enumerate(_read(found)[-SHOWN:], 1)
    ]


def _read(found: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], datetime]]:
    """Annotations with their moments; without those of years that older versions kept unpadded."""
    read = []
    for each in found:
        with suppress(ValueError):
            read.append((each, datetime.fromisoformat(each["date"])))
    return read


def marks(noted: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Annotations as charts take them."""
    return [{name: each[name] for name in ("x", "number", "text")} for each in noted]


async def _add(visit: Visit) -> Response:
    form = await visit.form()
    body = {"date": form.text("date").replace("T", " "), "description": form.text("description")}
    (await visit.ask("POST", _path(visit), body=body)).good()
    return see_other(_back(visit, form), "The note was added.")


async def _change(visit: Visit) -> Response:
    form = await visit.form()
    body = {"description": form.text("description")}
    (await visit.ask("PATCH", _path(visit, _number(form)), body=body)).good()
    return see_other(_back(visit, form), "The note was changed.")


async def _delete(visit: Visit) -> Response:
    form = await visit.form()
    (await visit.ask("DELETE", _path(visit, _number(form)))).good()
    return see_other(_back(visit, form), "The note was deleted.")


def _number(form: Form) -> str:
    text = form.text("id")
    if not (text.isascii() and text.isdecimal() and len(text) < 17):
        raise Problem("There is no such note.", status=404)
    return text


def _back(visit: Visit, form: Form) -> str:
    return back_of(visit, form.text("back"))


def back_of(visit: Visit, wanted: str) -> str:
    """Where a form came from, as far as it is a page of reports; else the list of reports."""
    here = visit.path("reports")
    path, _, query = wanted.partition("?")
    plain = len(wanted) <= BACK_LIMIT_CHARS and query.isascii() and query.isprintable() and "\\" not in query
    return wanted if plain and _PAGE.fullmatch(path.removeprefix(here)) and path.startswith(here) else here
