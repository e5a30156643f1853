"""The profile of a user or a group: what it is, how it came to be so, what happened, and changing it.

`/explorer/P/profile?id=…[&group_key=…]`. What is slow comes as parts of the page, each of which has an
address, and JSON, of its own. Only admins get, and may send, what changes something.
"""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from mixdown.explorer.frame import Build, Do, Frame, Problem, Visit
from mixdown.explorer.pages.profile import (
    code,
    editing,
    erasing,
    known,
    properties,
    relations,
    revenue,
    timeline,
    undoing,
)
from mixdown.http.auth import ADMINS

_USERS = "users"


def routes(frame: Frame) -> list[Route]:
    """The routes of this page."""
    return [
        *frame.view("/profile", "profile/profile.html", properties.build, title="Profile", section=_USERS),
        frame.fragment("/profile/properties", "profile/properties.html", properties.build_part),
        frame.fragment("/profile/known", "profile/known.html", known.build_known),
        frame.fragment("/profile/event-names", "profile/event_names.html", timeline.build_names),
        *_tabs(frame),
        *_changes(frame),
    ]


def _tabs(frame: Frame) -> list[Route]:
    """What stands beside the properties: parts of the page, and pages of their own."""
    builds: dict[str, tuple[str, Build]] = {
        "history": ("History", timeline.build_history),
        "activity": ("Activity", timeline.build_activity),
        "groups": ("Groups", relations.build_groups),
        "members": ("Members", relations.build_members),
        "identity": ("Identity", relations.build_identity),
        "revenue": ("Revenue", revenue.build),
        "code": ("JSON", code.build),
    }
    return [
        route
        for name, (title, build) in builds.items()
        for route in frame.view(
            f"/profile/{name}", f"profile/{name}.html", build, title=title, section=_USERS
        )
    ]


def _changes(frame: Frame) -> list[Route]:
    """Dialogs and what they send."""
    dialogs: dict[str, tuple[str, Build]] = {
        "edit": ("edit", editing.build_editor),
        "unset": ("review", editing.build_unset),
        "restore": ("review", editing.build_restore),
        "undo": ("undo", undoing.build_undo),
        "unmerge": ("unmerge", relations.build_unmerge),
        "erase": ("erase", erasing.build_erase),
    }
    found = [
        route
        for name, (template, build) in dialogs.items()
        for route in frame.view(
            f"/profile/{name}", f"profile/{template}.html", build, roles=ADMINS, title="", section=_USERS
        )
    ]
    found.append(frame.fragment("/profile/erasure", "profile/erasure.html", erasing.build_job, roles=ADMINS))
    actions: dict[str, Do] = {
        **editing.actions_of(frame),
        **undoing.actions_of(frame),
        **relations.actions_of(frame),
        **erasing.actions_of(frame),
    }
    found += [
        frame.action(f"/profile/{name}", _in_dialog(frame, do), roles=ADMINS) for name, do in actions.items()
    ]
    return found


def _in_dialog(frame: Frame, do: Do) -> Do:
    """What went wrong is said in the dialog: a message elsewhere on the page would lie behind it."""

    async def told(visit: Visit) -> Response:
        try:
            return await do(visit)
        except Problem as problem:
            values = {"title": "That did not work", "section": _USERS, "problem_text": problem.text}
            return frame.render(visit, "profile/failed.html", status=problem.status, **values)

    return told
