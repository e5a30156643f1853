"""Saved reports: the list of them, and what saves, renames, changes, opens and deletes one.

The API's saved reports enter; a list leaves, with the address of each that says all that it asks for. What
may be saved, and by whom, the API decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response
from starlette.routing import Route

from mixdown.explorer.frame import Form, Frame, Problem, Visit, see_other
from mixdown.explorer.pages.event_asking import DAYS
from mixdown.explorer.pages.reports.asking import KINDS, NUMBER_LIMIT
from mixdown.explorer.pages.reports.kinds import TABLE
from mixdown.explorer.pages.reports.notes import back_of
from mixdown.explorer.pages.reports.retention import COMPOUNDED
from mixdown.http.auth import ANALYSTS
from mixdown.http.dashboards import PATH as DASHBOARDS
from mixdown.http.saved_reports import PATH


def routes(frame: Frame) -> list[Route]:
    """The routes of this file."""
    return [
        *frame.view("/reports", "reports/list.html", _list, title="Reports", section="reports"),
        frame.fragment("/reports/rows", "reports/rows.html", _list),
        frame.raw("/reports/open", _open),
        frame.action("/reports/save", _save, roles=ANALYSTS),
        frame.action("/reports/change", _change, roles=ANALYSTS),
        frame.action("/reports/rename", _rename, roles=ANALYSTS),
        frame.action("/reports/delete", _delete, roles=ANALYSTS),
    ]


def own_of(kind: str, definition: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the page that shows what a definition of a kind says, days apart."""
    return TABLE[kind].own_of(definition)


def address_of(visit: Visit, report: Mapping[str, Any]) -> str:
    """The page of a saved report: all that it asks for stands in the address."""
    kind, definition = report["kind"], report["definition"]
    days = definition.get("days", DAYS)
    own = {"days": None if days == DAYS else days, **own_of(kind, definition), "report": report["id"]}
    return visit.path(KINDS[kind][0], **own)


async def _list(visit: Visit) -> Mapping[str, Any]:
    wanted = visit.text("q").strip()
    found = (await visit.ask("GET", PATH)).good()["results"]
    boards = (await visit.ask("GET", DASHBOARDS)).good()["results"]
    known = [report for report in found if report["kind"] in KINDS]
    shown = [report for report in known if _is_wanted(report, wanted)]
    return {
        "q": wanted,
        "total": len(known),
        "reports": [_line(visit, report) for report in sorted(shown, key=_changed, reverse=True)],
        "kinds": [
            {"kind": kind, "title": title, "about": TABLE[kind].about, "url": visit.path(path)}
            for kind, (path, title) in KINDS.items()
        ],
        "dashboards": [
            {
                "title": each["title"],
                "count": len(each["reports"]),
                "url": visit.path("reports/dashboard", id=each["id"]),
            }
            for each in boards
        ],
        "may_write": visit.may(ANALYSTS),
    }


def _changed(report: Mapping[str, Any]) -> str:
    return str(report["changed"])


def _is_wanted(report: Mapping[str, Any], wanted: str) -> bool:
    texts = (report["name"], report["description"], report["creator"], KINDS[report["kind"]][1])
    return any(wanted.casefold() in text.casefold() for text in texts)


def _line(visit: Visit, report: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **report,
        "kind_title": KINDS[report["kind"]][1],
        "asks": summary(report["kind"], report["definition"]),
        "url": address_of(visit, report),
    }


def summary(kind: str, definition: Mapping[str, Any]) -> list[str]:
    """What a report is about, as a few names."""
    if kind == "funnels":
        return [step.get("label") or step["event"] for step in definition["steps"]]
    if kind == "retention" and definition.get("retention_type") != COMPOUNDED:
        return [definition.get("born_event") or "anything", definition.get("event") or "anything"]
    return [definition.get("event") or "anything"]


async def _open(visit: Visit) -> Response:
    """A short address for a saved report: it leads to the one that says all."""
    number = visit.integer("id", 0, low=1, high=NUMBER_LIMIT)
    answer = await visit.ask("GET", PATH, params={"id": number or None})
    report = answer.good()["results"] if number else None
    if report is None or report["kind"] not in KINDS:
        raise Problem("There is no such report in this project.", status=404)
    return see_other(address_of(visit, report))


# --- changing


async def _save(visit: Visit) -> Response:
    form = await visit.form()
    body = {
        "kind": form.text("kind"),
        "name": form.text("name"),
        "description": form.text("description"),
        "definition": _definition(form),
    }
    made = (await visit.ask("POST", PATH, body=body)).good()["results"]
    return see_other(_with_report(visit, form, made["id"]), f"The report “{made['name']}” was saved.")


async def _change(visit: Visit) -> Response:
    form = await visit.form()
    body = {"id": _number(form), "definition": _definition(form)}
    made = (await visit.ask("PATCH", PATH, body=body)).good()["results"]
    return see_other(_with_report(visit, form, made["id"]), f"The report “{made['name']}” was changed.")


async def _rename(visit: Visit) -> Response:
    form = await visit.form()
    body = {
        "id": _number(form),
        "name": form.text("name") or " ",
        "description": form.text("description") or " ",
    }
    made = (await visit.ask("PATCH", PATH, body=body)).good()["results"]
    return see_other(back_of(visit, form.text("back")), f"The report is called “{made['name']}” now.")


async def _delete(visit: Visit) -> Response:
    form = await visit.form()
    (await visit.ask("DELETE", PATH, params={"id": _number(form)})).good()
    return see_other(visit.path("reports"), f"The report “{form.text('name')}” was deleted.")


def _definition(form: Form) -> Any:
    try:
        return orjson.loads(form.text("definition"))
    except orjson.JSONDecodeError:
        raise Problem("The report cannot be read. Load its page again, then repeat.", status=400) from None


def _number(form: Form) -> int:
    text = form.text("id")
    if not (text.isascii() and text.isdecimal() and len(text) < 17 and int(text)):
        raise Problem("There is no such report in this project.", status=404)
    return int(text)


def _with_report(visit: Visit, form: Form, number: int) -> str:
    back = back_of(visit, form.text("back"))
    return f"{back}{'&' if '?' in back else '?'}report={number}"
