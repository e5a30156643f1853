"""Cohorts: saved filters, listed with who is in them now; made, renamed, changed and deleted.

What the API answers enters; a list and a form leave. What an expression means, and who may write, the API
decides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response
from starlette.routing import Route

from mixdown.explorer.frame import Form, Frame, Problem, Visit, see_other
from mixdown.http.auth import ANALYSTS

_OWN: Final = "/api/mixdown/cohorts"
_POSITION: Final = re.compile(r"at position (\d{1,9})")
_Fields = dict[str, Any]


def routes(frame: Frame) -> list[Route]:
    """The routes of this page."""

    async def save(visit: Visit) -> Response:
        return await _save(frame, visit)

    return [
        *frame.view("/cohorts", "cohorts/list.html", _list, title="Cohorts", section="cohorts"),
        frame.fragment("/cohorts/rows", "cohorts/rows.html", _rows),
        *frame.view(
            "/cohorts/new", "cohorts/form.html", _new, roles=ANALYSTS, title="New cohort", section="cohorts"
        ),
        *frame.view("/cohorts/edit", "cohorts/form.html", _edit, title="Cohort", section="cohorts"),
        frame.fragment("/cohorts/check", "cohorts/check.html", _check),
        frame.action("/cohorts/save", save, roles=ANALYSTS),
        frame.action("/cohorts/delete", _delete, roles=ANALYSTS),
    ]


# --- the list -------------------------------------------------------------------------------------


async def _list(visit: Visit) -> Mapping[str, Any]:
    counts = visit.text("counts") in ("1", "true")
    return await _listed(visit, counts=counts)


async def _rows(visit: Visit) -> Mapping[str, Any]:
    return await _listed(visit, counts=True)


async def _listed(visit: Visit, *, counts: bool) -> Mapping[str, Any]:
    wanted = visit.text("q").strip()
    answer = await visit.ask("GET", _OWN, params={"counts": counts})
    found = answer.good()["results"]
    shown = [cohort for cohort in found if _is_wanted(cohort, wanted)]
    return {
        "q": wanted,
        "total": len(found),
        "counted": counts,
        "cohorts": [{**cohort, "people": _people(visit, cohort)} for cohort in shown],
        "may_write": visit.may(ANALYSTS),
    }


def _is_wanted(cohort: Mapping[str, Any], wanted: str) -> bool:
    texts = (cohort["name"], cohort["description"], cohort["where"] or "", cohort["group_key"] or "")
    return any(wanted.casefold() in text.casefold() for text in texts)


def _people(visit: Visit, cohort: Mapping[str, Any]) -> str:
    """The address of the list of those who are in a cohort."""
    if cohort["group_key"] is None:
        return visit.path("users", cohort=cohort["id"])
    return visit.path("groups", key=cohort["group_key"], cohort=cohort["id"])


# --- the form -------------------------------------------------------------------------------------


async def _new(visit: Visit) -> Mapping[str, Any]:
    fields = {"id": 0, "name": visit.text("name"), "description": "", "where": visit.text("where")}
    return await _formed(visit, {**fields, "key": visit.text("key"), "ids": "", "is_list": False})


async def _edit(visit: Visit) -> Mapping[str, Any]:
    number = visit.integer("id", 0, low=1, high=2**53)
    found = await _one(visit, number)
    fields = {"id": number, "name": found["name"], "description": found["description"]}
    more = {"where": found["where"] or "", "key": found["group_key"] or "", "ids": ""}
    formed = await _formed(visit, {**fields, **more, "is_list": found["where"] is None})
    return {**formed, "title": found["name"], "people": _people(visit, found)}


async def _one(visit: Visit, number: int) -> Mapping[str, Any]:
    found: list[Mapping[str, Any]] = (await visit.ask("GET", _OWN, params={"counts": False})).good()[
        "results"
    ]
    for cohort in found:
        if cohort["id"] == number:
            return cohort
    raise Problem("There is no such cohort in this project.", status=404)


async def _formed(visit: Visit, fields: _Fields, problem: str = "") -> dict[str, Any]:
    """What the form shows: its fields, the group keys to choose from, and what was wrong."""
    answer = await visit.ask("GET", f"/api/app/projects/{visit.project.id}/data-groups")
    keys = [each["property_name"] for each in answer.good()["results"]]
    visit.group_keys = [(each["property_name"], each["data_group_id"]) for each in answer.data["results"]]
    return {
        "fields": fields,
        "keys": keys,
        "problem": problem,
        "place": place_of(problem, fields["where"]),
        "people": "",
        "may_write": visit.may(ANALYSTS),
    }


def place_of(problem: str, expression: str) -> Mapping[str, str] | None:
    """An expression cut at the position that an error names: what stands before it, there, and behind."""
    found = _POSITION.search(problem)
    if found is None:
        return None
    position = min(int(found[1]), len(expression))
    return {
        "before": expression[:position],
        "at": expression[position : position + 1] or " ",
        "after": expression[position + 1 :],
    }


async def _check(visit: Visit) -> Mapping[str, Any]:
    """How many an expression chooses, or what is wrong with it."""
    where, key = visit.text("where"), visit.text("key")
    if not where.strip():
        return {"count": None, "problem": "", "place": None, "key": key}
    params = {"action": "count()", "where": where, "data_group_id": key or None}
    answer = await visit.ask("GET", "/api/query/engage/stats", params=params)
    if answer.status >= 400:
        text = str(answer.data.get("error", "")) if type(answer.data) is dict else ""
        return {"count": None, "problem": text, "place": place_of(text, where), "key": key}
    return {"count": answer.data["results"], "problem": "", "place": None, "key": key}


async def _save(frame: Frame, visit: Visit) -> Response:
    form = await visit.form()
    fields = _fields(form)
    answer = await visit.ask(
        "PATCH" if fields["id"] else "POST", _OWN, body=_body(fields), params={"project_id": visit.project.id}
    )
    if answer.status < 400:
        done = "changed" if fields["id"] else "saved"
        return see_other(visit.path("cohorts"), f"The cohort “{answer.data['results']['name']}” was {done}.")
    if answer.status not in (400, 404) or type(answer.data) is not dict:
        answer.good()
    formed = await _formed(visit, fields, str(answer.data["error"]))
    title = fields["name"] if fields["id"] else "New cohort"
    values = {"title": title, "section": "cohorts", **formed}
    return frame.render(visit, "cohorts/form.html", status=answer.status, **values)


def _fields(form: Form) -> _Fields:
    number = form.text("id")
    return {
        "id": int(number) if number.isascii() and number.isdecimal() and len(number) < 17 else 0,
        "name": form.text("name"),
        "description": form.text("description"),
        "where": form.text("where"),
        "key": form.text("key"),
        "ids": form.text("ids"),
        "is_list": form.text("members") == "ids",
    }


def _body(fields: _Fields) -> dict[str, Any]:
    """What the API is told: on a change a blank clears the description, an empty text would say nothing."""
    told: dict[str, Any] = {"name": fields["name"] or " ", "description": fields["description"] or " "}
    if fields["id"]:
        told["id"] = fields["id"]
    elif fields["key"]:
        told["data_group_id"] = fields["key"]
    if not fields["is_list"]:
        told["where"] = fields["where"] or " "
    elif not fields["id"]:
        told["distinct_ids"] = [each for each in map(str.strip, fields["ids"].splitlines()) if each]
    return told


async def _delete(visit: Visit) -> Response:
    form = await visit.form()
    name = form.text("name")
    (await visit.ask("DELETE", _OWN, params={"id": form.text("id")})).good()
    return see_other(visit.path("cohorts"), f"The cohort “{name}” was deleted. No profile has changed.")
