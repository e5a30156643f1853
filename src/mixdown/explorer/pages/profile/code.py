"""The profile as JSON, and the curl commands that read it and would write it.

A token stands in them for those who may see it, not for consumers; nobody's password ever does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixdown.explorer.frame import Visit
from mixdown.explorer.pages.profile.commands import TOKEN, read_command, update_for, write_command
from mixdown.explorer.pages.profile.rows import NOT_EDITED
from mixdown.explorer.pages.profile.subject import (
    ENGAGE,
    Subject,
    moment_ms,
    shortened,
    standing,
    subject_of,
)
from mixdown.http.auth import ADMINS


async def build(visit: Visit) -> Mapping[str, Any]:
    """The profile, as it stands or `at` a time, in the shapes of the API."""
    subject = subject_of(visit)
    at_ms = moment_ms(visit.text("at"))
    found = await standing(visit, subject, at=str(at_ms) if at_ms else "")
    held = found.properties
    params = {"project_id": visit.project.id, **subject.read, **({"as_of": at_ms} if at_ms else {})}
    token = visit.project.token if visit.may(ADMINS) else TOKEN
    written = {name: value for name, value in (held or {}).items() if name not in NOT_EDITED}
    update = update_for(token, Subject(found.id, subject.group_key, subject.own), {"$set": written})
    return {
        "title": f"JSON of {shortened(subject.id)}",
        "section": "groups" if subject.group_key else "users",
        "asked": subject.asked,
        "at_ms": at_ms or None,
        "profile": None if held is None else {"$distinct_id": found.id, "$properties": held},
        "read": read_command(visit.address, ENGAGE, params),
        "write": write_command(visit.address, subject, update) if written else None,
        "with_token": visit.may(ADMINS),
    }
