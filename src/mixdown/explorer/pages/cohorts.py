"""Cohorts: saved filters, listed with who is in them now; made, renamed, changed and deleted.

What the API answers enters; a list and a form leave: what members did, as rows, what they are, as an
expression, or a list of ids. What these mean, and who may write, the API decides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson
from starlette.responses import Response
from starlette.routing import Route

from mixdown.explorer.deeds import (
    ALL,
    UNITS,
    Deed,
    DeedError,
    Deeds,
    Fields,
    deeds_in,
    read_deeds,
    words,
    written,
)
from mixdown.explorer.frame import Form, Frame, Problem, Visit, see_other
from mixdown.explorer.pages.reports.filters import filter_of
from mixdown.http.auth import ANALYSTS
from mixdown.http.reading import in_thread
from mixdown.model.expression import parse
from mixdown.query.behaviors import BEHAVIORS_LIMIT

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
        "cohorts": [await _line(visit, cohort) for cohort in shown],
        "may_write": visit.may(ANALYSTS),
    }


def _is_wanted(cohort: Mapping[str, Any], wanted: str) -> bool:
    texts = (cohort["name"], cohort["description"], cohort["where"] or "", cohort["group_key"] or "")
    return any(wanted.casefold() in text.casefold() for text in texts)


async def _line(visit: Visit, cohort: Mapping[str, Any]) -> dict[str, Any]:
    """A cohort in the list; of one that counts events, what its members did in words."""
    deeds = await _read(visit, cohort) if cohort["behaviors"] else None
    did = None if deeds is None else {"words": words(deeds), "joined": deeds.joined, "where": deeds.where}
    return {**cohort, "people": _people(visit, cohort), "did": did}


def _people(visit: Visit, cohort: Mapping[str, Any]) -> str:
    """The address of the list of those who are in a cohort."""
    if cohort["group_key"] is None:
        return visit.path("users", cohort=cohort["id"])
    return visit.path("groups", key=cohort["group_key"], cohort=cohort["id"])


# --- the form -------------------------------------------------------------------------------------


async def _new(visit: Visit) -> Mapping[str, Any]:
    fields = {"id": 0, "name": visit.text("name"), "description": "", "behaviors": visit.text("behaviors")}
    more = {"key": visit.text("key"), "ids": "", "is_list": False}
    return await _formed(visit, {**fields, **more, "where": visit.text("where")}, deeds_in(visit))


async def _edit(visit: Visit) -> Mapping[str, Any]:
    number = visit.integer("id", 0, low=1, high=2**53)
    found = await _one(visit, number)
    deeds = await _read(visit, found)
    fields = {
        "id": number,
        "name": found["name"],
        "description": found["description"],
        "where": (found["where"] or "") if deeds is None else deeds.where,
        "behaviors": _as_text(found["behaviors"]) if deeds is None else "",
        "key": found["group_key"] or "",
        "ids": "",
        "is_list": found["where"] is None,
    }
    formed = await _formed(visit, fields, deeds)
    return {**formed, "title": found["name"], "people": _people(visit, found)}


async def _one(visit: Visit, number: int) -> Mapping[str, Any]:
    found: list[Mapping[str, Any]] = (await visit.ask("GET", _OWN, params={"counts": False})).good()[
        "results"
    ]
    for cohort in found:
        if cohort["id"] == number:
            return cohort
    raise Problem("There is no such cohort in this project.", status=404)


async def _read(visit: Visit, cohort: Mapping[str, Any]) -> Deeds | None:
    """What a cohort counts of events, as rows; None where rows cannot say it."""
    if not cohort["behaviors"]:
        return Deeds(where=cohort["where"] or "")
    tables = visit.services.store.lookup_tables.tables(visit.project.id)

    def read() -> Deeds | None:
        return read_deeds(cohort["where"], cohort["behaviors"], lambda text: parse(text, tables))

    return await in_thread(visit.services, read)


def _as_text(behaviors: Any) -> str:
    return orjson.dumps(behaviors, option=orjson.OPT_INDENT_2).decode() if behaviors else ""


async def _formed(
    visit: Visit, fields: _Fields, deeds: Deeds | None, problem: str = "", *, more: int = 0
) -> dict[str, Any]:
    """What the form shows: its fields and rows (`more` blank ones), group keys, and what was wrong."""
    answer = await visit.ask("GET", f"/api/app/projects/{visit.project.id}/data-groups")
    keys = [each["property_name"] for each in answer.good()["results"]]
    visit.group_keys = [(each["property_name"], each["data_group_id"]) for each in answer.data["results"]]
    rows = [] if deeds is None or fields["behaviors"] else [*deeds.said]
    blank = 0 if fields["id"] and not visit.may(ANALYSTS) else max(more, 0 if rows or fields["id"] else 1)
    rows += [Deed()] * max(0, min(blank, BEHAVIORS_LIMIT - len(rows)))
    return {
        "fields": fields,
        "deeds": [
            {**row._asdict(), "filter": await filter_of(visit, f"where{number}", row.where)}
            for number, row in enumerate(rows, 1)
        ],
        "joined": ALL if deeds is None else deeds.joined,
        "is_full": len(rows) >= BEHAVIORS_LIMIT,
        "units": [*UNITS.items()],
        "events_named": [row.event for row in rows if row.event],
        "keys": keys,
        "problem": problem,
        "place": place_of(problem, fields["where"]),
        "check": None,
        "people": "",
        "may_write": visit.may(ANALYSTS),
    }


def place_of(problem: str, expression: str) -> Mapping[str, str] | None:
    """An expression cut at the position that an error names: what stands before it, there, and behind."""
    found = _POSITION.search(problem)
    if found is None or problem.startswith("behaviors,"):
        return None
    position = min(int(found[1]), len(expression))
    return {
        "before": expression[:position],
        "at": expression[position : position + 1] or " ",
        "after": expression[position + 1 :],
    }


# --- how many it would be


async def _check(visit: Visit) -> Mapping[str, Any]:
    """How many a form chooses, or what is wrong with it."""
    return {"check": await _counted(visit, _asked(visit, visit.text("behaviors")), visit.text("key"))}


def _asked(fields: Fields, behaviors: str) -> tuple[str, Any] | str:
    """What a form asks for: an expression and counts of events. A text says what is wrong with it."""
    if behaviors.strip():
        try:
            return fields.text("where"), orjson.loads(behaviors)
        except orjson.JSONDecodeError:
            return "Counts of events: this is no JSON."
    try:
        return written(deeds_in(fields))
    except DeedError as error:
        return str(error)


async def _counted(visit: Visit, asked: tuple[str, Any] | str, key: str) -> dict[str, Any]:
    """How many match: `count` None where nothing is asked, or with a `problem`."""
    told: dict[str, Any] = {"count": None, "problem": "", "place": None, "key": key}
    if isinstance(asked, str):
        return told | {"problem": asked}
    where, behaviors = asked
    if not where.strip():
        return told
    params = {"action": "count()", "where": where, "data_group_id": key or None}
    if behaviors:  # as the cohort will have them: who did something may have no profile
        params |= {"behaviors": orjson.dumps(behaviors).decode(), "include_all_users": "true"}
    answer = await visit.ask("GET", "/api/query/engage/stats", params=params)
    if answer.status < 400:
        return told | {"count": answer.data["results"]}
    text = str(answer.data.get("error", "")) if type(answer.data) is dict else ""
    return told | {"problem": text, "place": place_of(text, where)}


# --- what is done with it


async def _save(frame: Frame, visit: Visit) -> Response:
    """Save what the form says; or show it again with a row more or less, or counted, without a script."""
    form = await visit.form()
    fields, deeds = _fields(form), deeds_in(form)
    asked = _asked(form, fields["behaviors"])
    done, _, number = form.text("do").partition("-")
    if done == "remove":
        deeds = _without(deeds, form, number)
    if done:
        formed = await _formed(visit, fields, deeds, more=1 if done == "add" else 0)
        if done == "count":
            formed["check"] = await _counted(visit, asked, fields["key"])
        return _shown(frame, visit, fields, formed)
    if isinstance(asked, str) and not fields["is_list"]:
        return _shown(frame, visit, fields, await _formed(visit, fields, deeds, asked), status=400)
    body = _body(fields, asked)
    answer = await visit.ask(
        "PATCH" if fields["id"] else "POST", _OWN, body=body, params={"project_id": visit.project.id}
    )
    if answer.status < 400:
        done = "changed" if fields["id"] else "saved"
        return see_other(visit.path("cohorts"), f"The cohort “{answer.data['results']['name']}” was {done}.")
    if answer.status not in (400, 404) or type(answer.data) is not dict:
        answer.good()
    formed = await _formed(visit, fields, deeds, str(answer.data["error"]))
    formed["place"] = place_of(formed["problem"], str(body.get("where", "")))
    return _shown(frame, visit, fields, formed, status=answer.status)


def _without(deeds: Deeds, form: Form, number: str) -> Deeds:
    """The rows but for one, by its number in the form, in which some may be blank."""
    said = [n for n in range(1, BEHAVIORS_LIMIT + 1) if form.text(f"event{n}").strip()]
    kept = [row for n, row in zip(said, deeds.rows, strict=True) if str(n) != number]
    return deeds._replace(rows=tuple(kept))


def _shown(
    frame: Frame, visit: Visit, fields: _Fields, formed: Mapping[str, Any], *, status: int = 200
) -> Response:
    title = fields["name"] if fields["id"] else "New cohort"
    return frame.render(
        visit, "cohorts/form.html", status=status, **{"title": title, "section": "cohorts", **formed}
    )


def _fields(form: Form) -> _Fields:
    number = form.text("id")
    return {
        "id": int(number) if number.isascii() and number.isdecimal() and len(number) < 17 else 0,
        "name": form.text("name"),
        "description": form.text("description"),
        "where": form.text("where"),
        "behaviors": form.text("behaviors"),
        "key": form.text("key"),
        "ids": form.text("ids"),
        "is_list": form.text("members") == "ids",
    }


def _body(fields: _Fields, asked: tuple[str, Any] | str) -> dict[str, Any]:
    """What the API is told: on a change a blank clears the description, an empty text would say nothing."""
    told: dict[str, Any] = {"name": fields["name"] or " ", "description": fields["description"] or " "}
    if fields["id"]:
        told["id"] = fields["id"]
    elif fields["key"]:
        told["data_group_id"] = fields["key"]
    if not fields["is_list"] and not isinstance(asked, str):
        told["where"] = asked[0] or " "
        if asked[1]:
            told["behaviors"] = asked[1]
    elif not fields["id"]:
        told["distinct_ids"] = [each for each in map(str.strip, fields["ids"].splitlines()) if each]
    return told


async def _delete(visit: Visit) -> Response:
    form = await visit.form()
    name = form.text("name")
    (await visit.ask("DELETE", _OWN, params={"id": form.text("id")})).good()
    return see_other(visit.path("cohorts"), f"The cohort “{name}” was deleted. No profile has changed.")
