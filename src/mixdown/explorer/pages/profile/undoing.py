"""Putting a profile back: what would change, and doing it by the API that the command line shares.

A time enters by `at`; a table of what is and what would be leaves, with the very operators. They are sent
only while they are still the ones that were shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from starlette.responses import Response

from mixdown.explorer.frame import Do, Frame, Problem, Visit, see_other
from mixdown.explorer.pages.profile.commands import update_for, write_command
from mixdown.explorer.pages.profile.rows import compared_rows
from mixdown.explorer.pages.profile.subject import Subject, moment_ms, standing, subject_of
from mixdown.model.times import iso_seconds

UNDO: Final = "/api/mixdown/undo"


async def build_undo(visit: Visit) -> Mapping[str, Any]:
    """What putting the profile back would send and change."""
    subject = subject_of(visit)
    at = visit.text("at")
    if not at:
        raise Problem("at: missing. Choose a time in the profile's history.", status=400)
    return await shown(visit, subject, moment_ms(at))


async def shown(visit: Visit, subject: Subject, at_ms: int, *, conflict: bool = False) -> dict[str, Any]:
    """The confirmation: the operators that would be sent now, and the profile now beside it then."""
    told = (await visit.ask("GET", UNDO, params={**subject.read, "to": at_ms})).good()["results"]
    operators = told["operators"] or {}
    now = await standing(visit, subject)
    own = Subject(told["distinct_id"], subject.group_key, own=True)
    then = await standing(visit, own, at=str(at_ms))
    update = update_for(visit.project.token, own, operators)
    rows = [
        row
        for row in compared_rows(then.properties or {}, now.properties or {})
        if row["difference"] and _is_named(operators, row["name"])
    ]
    return {
        "title": "Put this profile back?",
        "section": "groups" if subject.group_key else "users",
        "asked": subject.asked,
        "at_ms": at_ms,
        "at": iso_seconds(at_ms),
        "operators": operators,
        "expected": orjson.dumps(operators).decode(),
        "rows": rows,
        "deletes": "$delete" in operators,
        "creates": now.properties is None and bool(operators),
        "update": [update],
        "command": write_command(visit.address, subject, update),
        "conflict": conflict,
    }


def _is_named(operators: Mapping[str, Any], name: str) -> bool:
    return "$delete" in operators or name in operators.get("$set", {}) or name in operators.get("$unset", ())


def actions_of(frame: Frame) -> dict[str, Do]:
    """The action of this file: `undo` puts a profile back."""

    async def undo(visit: Visit) -> Response:
        form = await visit.form()
        subject = subject_of(form)
        at_ms = moment_ms(form.text("at"))
        try:
            expected = orjson.loads(form.text("expected"))
        except orjson.JSONDecodeError:
            raise Problem("This form is not whole. Please try again.", status=400) from None
        answer = await visit.ask("POST", UNDO, body={**subject.read, "to": at_ms, "expected": expected})
        if answer.status == 409:
            values = await shown(visit, subject, at_ms, conflict=True)
            return frame.render(visit, "profile/undo.html", status=409, **values)
        told = answer.good()["results"]
        back = visit.path("profile", **subject.asked)
        if not told["sent"]:
            return see_other(back, "The profile stands as it stood then: nothing was sent.")
        return see_other(back, f"The profile is back as it stood at {told['to'].replace('T', ' ')} UTC.")

    return {"undo": undo}
