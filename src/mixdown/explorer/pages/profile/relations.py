"""What a profile belongs to: a user's groups, a group's members, and the ids that are one person.

A visit enters; profiles that are named by properties, and links, leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from mixdown.explorer.frame import Do, Frame, Problem, Visit, see_other
from mixdown.explorer.pages.profile.subject import (
    ENGAGE,
    Subject,
    group_keys,
    is_typed,
    ms_of,
    shortened,
    standing,
    subject_of,
)
from mixdown.explorer.reserved import display_name
from mixdown.http.auth import ADMINS
from mixdown.model.expression_values import string
from mixdown.model.times import number_of

IDENTITY: Final = "/api/mixdown/identity"
UNMERGE: Final = f"{IDENTITY}/unmerge"
MEMBERS_AT_ONCE: Final = 25
PAGES_LIMIT: Final = 100_000
GROUPS_LIMIT: Final = 100
NAMES_READ: Final = ["$name", "$first_name", "$last_name", "$email"]


async def build_groups(visit: Visit) -> Mapping[str, Any]:
    """The groups that a user's properties name, for each group key of the project."""
    subject = subject_of(visit)
    keys = await group_keys(visit)
    held = (await standing(visit, subject)).properties or {}
    found = []
    for key in keys:
        named = ids_named(held.get(key))
        if named:
            groups = named[:GROUPS_LIMIT]
            names = await _names(visit, key, groups)
            shown = [{"id": one, "exists": one in names, "name": names.get(one, "")} for one in groups]
            found.append({"group_key": key, "groups": shown, "more": len(named) - len(groups)})
    return {
        "title": f"Groups of {shortened(subject.id)}",
        "section": "users",
        "asked": subject.asked,
        "keys": keys,
        "found": found,
    }


async def _names(visit: Visit, key: str, ids: list[str]) -> dict[str, str]:
    """What the groups that exist are called."""
    params = {"data_group_id": key, "distinct_ids": ids, "output_properties": NAMES_READ}
    rows = (await visit.ask("GET", ENGAGE, params=params)).good()["results"]
    return {row["$distinct_id"]: display_name(row["$properties"]) for row in rows}


def ids_named(value: object) -> list[str]:
    """The group ids that a property names: itself, or each element of a list, as texts."""
    items = value if type(value) is list else [value]
    texts = [string(item) for item in items if item is not None]
    return list(dict.fromkeys(text for text in texts if type(text) is str and text))


async def build_members(visit: Visit) -> Mapping[str, Any]:
    """A page of the users whose property names the group, and how many there are."""
    subject = subject_of(visit)
    if not subject.group_key:
        raise Problem("group_key: missing. Only groups have members.", status=400)
    where = members_where(subject.group_key, subject.id)
    page = visit.integer("page", 0, low=0, high=PAGES_LIMIT)
    params: dict[str, Any] = {
        "where": where,
        "page_size": MEMBERS_AT_ONCE,
        "page": page,
        "output_properties": [*NAMES_READ, "$last_seen"],
    }
    session = visit.text("session")
    if session:
        params["session_id"] = session
    answer = (await visit.ask("GET", ENGAGE, params=params)).good()
    total = answer["total"]
    return {
        "title": f"Members of {shortened(subject.id)}",
        "section": "groups",
        "asked": subject.asked,
        "members": [_member(row) for row in answer["results"]],
        "total": total,
        "page": page,
        "session": answer["session_id"],
        "more": (page + 1) * MEMBERS_AT_ONCE < total,
        "where": where,
    }


def _member(row: dict[str, Any]) -> dict[str, Any]:
    properties = row["$properties"]
    return {
        "id": row["$distinct_id"],
        "name": display_name(properties),
        "seen_ms": ms_of(properties.get("$last_seen")),
    }


def members_where(group_key: str, group_id: str) -> str:
    """The filter of those who belong to a group: by the value of a property, or one of a list.

    An id that spells a number or a boolean is that value's text too.
    """
    held = f"list(properties[{expression_text(group_key)}])"
    named = [expression_text(group_id)]
    if group_id in ("true", "false"):
        named.append(group_id)
    number = number_of(group_id)
    if number is not None and string(number) == group_id:
        named.append(group_id)
    return " or ".join(f"{one} in {held}" for one in named)


def expression_text(text: str) -> str:
    """A text as expressions have it, with every character that could end or bend it escaped."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{"".join(c if c >= " " and c != chr(127) else f"{chr(92)}u{ord(c):04x}" for c in plain)}"'


async def build_identity(visit: Visit) -> Mapping[str, Any]:
    """All ids of a person, and the links that made them one."""
    subject = subject_of(visit)
    if subject.group_key:
        raise Problem("group_key: groups have no identities.", status=400)
    told = (await visit.ask("GET", IDENTITY, params={"distinct_id": subject.id})).good()["results"]
    linked = {
        id_ for link in told["links"] if link["unmerged"] is None for id_ in (link["id"], link["linked_to"])
    }
    return {
        "title": f"Identity of {shortened(subject.id)}",
        "section": "users",
        "asked": subject.asked,
        "canonical": told["canonical"],
        "ids": [
            {"id": one, "canonical": one == told["canonical"], "linked": one in linked} for one in told["ids"]
        ],
        "links": [
            {**link, "time_ms": ms_of(link["time"]), "unmerged_ms": ms_of(link["unmerged"])}
            for link in told["links"]
        ],
        "more": told["more"],
        "may_edit": visit.may(ADMINS),
    }


async def build_unmerge(visit: Visit) -> Mapping[str, Any]:
    """The question whether an id shall be taken apart from all others."""
    subject = subject_of(visit)
    return unmerge_question(subject, visit.text("apart") or subject.id)


def unmerge_question(subject: Subject, one: str, *, problem: str = "") -> dict[str, Any]:
    """What the confirmation shows."""
    return {
        "title": "Take this id apart?",
        "section": "users",
        "asked": subject.asked,
        "apart": one,
        "problem_text": problem,
    }


def actions_of(frame: Frame) -> dict[str, Do]:
    """The action of this file: `unmerge` takes an id apart."""

    async def unmerge(visit: Visit) -> Response:
        form = await visit.form()
        subject, one = subject_of(form), form.text("apart")
        if not is_typed(form.text("confirm"), one):
            problem = "Type the id exactly as it stands above."
            values = unmerge_question(subject, one, problem=problem)
            return frame.render(visit, "profile/unmerge.html", status=400, **values)
        (await visit.ask("POST", UNMERGE, body={"distinct_id": one})).good()
        return see_other(visit.path("profile", id=one), f"{shortened(one)} is an id of its own now.")

    return {"unmerge": unmerge}
