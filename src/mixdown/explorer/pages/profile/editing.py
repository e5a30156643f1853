"""Changing one property: the editor, the update as it will be sent, sending it, and what changed meanwhile.

Forms of admins enter; an update goes out by `/engage` or `/groups`, as any client's does, once a person has
seen it. A value that changed since the person saw it is shown, and never overwritten unasked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import orjson
from starlette.responses import Response

from mixdown.explorer.frame import Do, Form, Frame, Problem, Visit, see_other
from mixdown.explorer.pages.profile.commands import endpoint_of, update_for, write_command
from mixdown.explorer.pages.profile.rows import NOT_EDITED, same, type_of
from mixdown.explorer.pages.profile.subject import Subject, moment_ms, shortened, standing, subject_of
from mixdown.explorer.pages.profile.values import (
    EDITORS,
    ValueProblem,
    editable_text,
    editor_for,
    read_name,
    read_value,
)
from mixdown.explorer.reserved import label_of

SET: Final = "set"
UNSET: Final = "unset"
ABSENT: Final = ""
"""What stands for a property that was not there: no JSON is empty."""
BEHIND: Final = (
    "What was sent of this profile last is not applied yet: nothing was sent. Try again in a moment."
)
_SDK_CHARS: Final = 64


class Edit(msgspec.Struct, frozen=True):
    """What somebody wants done to one property; `expected` is the JSON that they saw (None: nobody said)."""

    subject: Subject
    name: str
    is_unset: bool
    value: Any
    expected: str | None

    @property
    def operators(self) -> dict[str, Any]:
        """The update's operators."""
        return {"$unset": [self.name]} if self.is_unset else {"$set": {self.name: self.value}}


async def build_editor(visit: Visit) -> Mapping[str, Any]:
    """The editor of a property, or of a new one where no `name` is given."""
    subject = subject_of(visit)
    found = await standing(visit, subject)
    name, held = visit.text("name"), found.properties or {}
    if name in NOT_EDITED:
        raise Problem(f"{name} is written by the server and cannot be edited.", status=400)
    known = name in held
    kind = visit.text("type") or editor_for(type_of(held[name]) if known else "string")
    if kind not in EDITORS:
        raise Problem(f"type: must be one of {', '.join(EDITORS)}.", status=400)
    return {
        "title": f"Edit {shortened(label_of(name))}" if name else "Add a property",
        "section": _section(subject),
        "asked": subject.asked,
        "profile": {"id": found.id, "exists": found.properties is not None},
        "name": name,
        "is_new": not name,
        "type": kind,
        "types": list(EDITORS),
        "text": visit.text("value") or (editable_text(held[name]) if known else ""),
        "expected": json_text(held[name]) if known else ABSENT,
        "problem_text": "",
    }


async def build_unset(visit: Visit) -> Mapping[str, Any]:
    """The update that takes a property away, to be looked at."""
    subject = subject_of(visit)
    name = visit.text("name")
    held = (await standing(visit, subject)).properties or {}
    if name not in held:
        raise Problem(f"{shortened(name)} is not set.", status=404)
    edit = Edit(subject, name, is_unset=True, value=None, expected=json_text(held[name]))
    return review_of(visit, edit, held)


async def build_restore(visit: Visit) -> Mapping[str, Any]:
    """The update that sets a property to what it was `at` a time, to be looked at."""
    subject, name, at_ms = subject_of(visit), visit.text("name"), moment_ms(visit.text("at"))
    if not name or name in NOT_EDITED or not at_ms:
        raise Problem("name and at: name a property, and a time.", status=400)
    now = await standing(visit, subject)
    then = await standing(visit, Subject(now.id, subject.group_key, own=True), at=str(at_ms))
    held, stood = now.properties or {}, then.properties or {}
    expected = json_text(held[name]) if name in held else ABSENT
    edit = Edit(subject, name, is_unset=name not in stood, value=stood.get(name), expected=expected)
    return review_of(visit, edit, held)


def actions_of(frame: Frame) -> dict[str, Do]:
    """The actions of this file: `review` shows an update, `send` sends it."""

    async def review(visit: Visit) -> Response:
        form = await visit.form()
        try:
            edit = read_edit(form)
        except ValueProblem as error:
            return _editor_again(frame, visit, form, str(error))
        held = (await standing(visit, edit.subject)).properties or {}
        return _shown(frame, visit, edit, held)

    async def send(visit: Visit) -> Response:
        edit = read_payload(await visit.form())
        now = await standing(visit, edit.subject)
        if now.behind:
            raise Problem(BEHIND, status=503)
        held = now.properties or {}
        back = visit.path("profile", **edit.subject.asked)
        label = shortened(label_of(edit.name))
        if is_done(edit, held):
            return see_other(back, f"{label} is as you want it already: nothing was sent.")
        if is_conflict(edit, held):
            return _shown(frame, visit, edit, held)
        await send_update(visit, edit.subject, edit.operators)
        return see_other(back, f"{label} is {'unset' if edit.is_unset else 'set'}.")

    return {"review": review, "send": send}


async def send_update(visit: Visit, subject: Subject, operators: dict[str, Any]) -> None:
    """Send one update, strictly. Raises `Problem` in the API's words where it is refused."""
    update = update_for(visit.project.token, subject, operators)
    params = {"strict": 1, "ip": 0, "mp_lib": sender(visit)}
    (await visit.ask("POST", endpoint_of(subject), params=params, body=[update])).good()


def sender(visit: Visit) -> str:
    """What history names as the SDK of an update from here: the explorer, and who was at it."""
    return f"explorer {visit.account.username}"[:_SDK_CHARS]


def read_edit(form: Form) -> Edit:
    """What the editor's form says. Raises `ValueProblem`."""
    subject = subject_of(form)
    name = read_name(form.text("name"), is_new=form.text("is_new") == "1")
    expected = form.text("expected") if "expected" in form.names() else None
    value = read_value(form.text("type", "text"), form.text("value"))
    return Edit(subject, name, is_unset=False, value=value, expected=expected)


def read_payload(form: Form) -> Edit:
    """What the form below an update says: `payload` is the value as JSON. Raises `Problem`."""
    try:
        name = read_name(form.text("name"), is_new=False)
        is_unset = form.text("op") == UNSET
        value = None if is_unset else orjson.loads(form.text("payload"))
    except ValueError as error:
        raise Problem(str(error), status=400) from None
    expected = form.text("expected") if "expected" in form.names() else None
    return Edit(subject_of(form), name, is_unset=is_unset, value=value, expected=expected)


def json_text(value: object) -> str:
    """A value as forms carry it."""
    return orjson.dumps(value).decode()


def is_done(edit: Edit, held: Mapping[str, Any]) -> bool:
    """Whether the property is already as it is wanted."""
    if edit.is_unset:
        return edit.name not in held
    return edit.name in held and same(held[edit.name], edit.value)


def is_conflict(edit: Edit, held: Mapping[str, Any]) -> bool:
    """Whether the property is not any more what the person saw."""
    if edit.expected is None:
        return False
    if edit.expected == ABSENT or edit.name not in held:
        return (edit.expected == ABSENT) != (edit.name not in held)
    try:
        return not same(orjson.loads(edit.expected), held[edit.name])
    except orjson.JSONDecodeError:
        return True


def review_of(visit: Visit, edit: Edit, held: Mapping[str, Any]) -> dict[str, Any]:
    """An update as it will be sent, and what the property is and was when it was last looked at."""
    update = update_for(visit.project.token, edit.subject, edit.operators)
    conflict = is_conflict(edit, held)
    shown: dict[str, Any] = {
        "title": "The value has changed" if conflict else "Send this update?",
        "section": _section(edit.subject),
        "asked": edit.subject.asked,
        "name": edit.name,
        "label": label_of(edit.name),
        "op": UNSET if edit.is_unset else SET,
        "update": [update],
        "command": write_command(visit.address, edit.subject, update),
        "payload": ABSENT if edit.is_unset else json_text(edit.value),
        "expected": json_text(held[edit.name]) if edit.name in held else ABSENT,
        "conflict": conflict,
        "done": is_done(edit, held),
        "now": _side(held, edit.name),
        "then": {} if edit.is_unset else {"value": edit.value, "type": type_of(edit.value)},
        "seen": {},
    }
    if conflict and edit.expected:
        try:
            seen = orjson.loads(edit.expected)
        except orjson.JSONDecodeError:
            return shown
        shown["seen"] = {"value": seen, "type": type_of(seen)}
    return shown


def _side(held: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {"value": held[name], "type": type_of(held[name])} if name in held else {}


def _shown(frame: Frame, visit: Visit, edit: Edit, held: Mapping[str, Any]) -> Response:
    values = review_of(visit, edit, held)
    return frame.render(visit, "profile/review.html", status=409 if values["conflict"] else 200, **values)


def _editor_again(frame: Frame, visit: Visit, form: Form, problem: str) -> Response:
    """The editor as it was filled in, with what is wrong."""
    subject = subject_of(form)
    kind = form.text("type", "text")
    is_new = form.text("is_new") == "1"
    return frame.render(
        visit,
        "profile/edit.html",
        status=400,
        title="Add a property" if is_new else f"Edit {shortened(label_of(form.text('name')))}",
        section=_section(subject),
        asked=subject.asked,
        profile={"id": subject.id, "exists": True},
        name=form.text("name"),
        is_new=is_new,
        type=kind if kind in EDITORS else EDITORS[0],
        types=list(EDITORS),
        text=form.text("value"),
        expected=form.text("expected"),
        problem_text=problem,
    )


def _section(subject: Subject) -> str:
    return "groups" if subject.group_key else "users"
