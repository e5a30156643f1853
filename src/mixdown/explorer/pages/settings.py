"""The settings of a project: its name and modes, its keys, what it keeps and for how long, who may see it.

Everything is asked of, and changed by, Mixdown's own API as the visitor: roles are its to judge. A secret is
shown once, as the answer to the form that made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from zoneinfo import available_timezones

import orjson
from starlette.responses import Response
from starlette.routing import Route

from mixdown.explorer.confirming import confirmed, still_seen
from mixdown.explorer.frame import Frame, Visit, see_other
from mixdown.http.admin import RATE_LIMITS
from mixdown.http.auth import ADMINS, OWNERS
from mixdown.model.names import ID_MERGE
from mixdown.settings import SETTINGS
from mixdown.store.bounds import REFUSAL_BYTES_PER_PROJECT, REFUSALS_PER_PROJECT

PROJECTS: Final = "/api/mixdown/projects"
ACCOUNTS: Final = "/api/mixdown/accounts"
KEPT: Final = (
    "event_retention_days",
    "history_retention_days",
    "history_limit_gb",
    "log_retention_hours",
    "string_limit_bytes",
    "unknown_token",
    "read_wait_ms",
)
"""Settings of the server that decide what is kept of every project, and how."""
_MODES: Final = {
    "simplified": "Simplified: a device belongs to the first user who signs in on it",
    "original": "Original: $identify, $create_alias and $merge, up to 500 ids a person",
    "legacy": "Legacy: an alias stands for a distinct_id",
}
_FIELDS: Final = ("name", "id_merge", "timezone", "late_events", "ci_strings")
_LIMIT_WORDS: Final = {
    "rate_limit_records_per_s": "Records a second",
    "rate_limit_requests_per_s": "Writing requests a second",
    "rate_limit_queries_per_hour": "Queries an hour",
}


def routes(frame: Frame) -> list[Route]:
    """The routes of this page."""

    async def rotate_secret(visit: Visit) -> Response:
        made = await _rotated(visit, "rotate-secret")
        values = {"title": "Settings", "section": "settings", **await build(visit)}
        return frame.render(visit, "settings/page.html", **{**values, "secret": made["secret"]})

    return [
        *frame.view("/settings", "settings/page.html", build, title="Settings", section="settings"),
        frame.fragment("/settings/storage", "settings/storage.html", storage),
        frame.fragment("/settings/zones", "settings/zones.html", zones, roles=ADMINS),
        frame.action("/settings/change", change, roles=ADMINS),
        frame.action("/settings/rotate-token", rotate_token, roles=ADMINS),
        frame.action("/settings/rotate-secret", rotate_secret, roles=ADMINS),
        frame.action("/settings/delete", delete, roles=OWNERS),
    ]


async def build(visit: Visit) -> Mapping[str, Any]:
    """The project as the API shows it to this visitor, and what the server decides for it."""
    project = (await visit.ask("GET", f"{PROJECTS}/{visit.project.id}")).good()["results"]
    accounts = await _accounts(visit) if visit.may(ADMINS) else []
    settings = visit.services.settings
    declared = {setting.name: setting for setting in SETTINGS}
    return {
        "project": project,
        "accounts": accounts,
        "modes": [(name, _MODES[name]) for name in ID_MERGE],
        "limits": [
            {
                "name": name,
                "label": _LIMIT_WORDS[name],
                "value": project[name],
                "server": getattr(settings, name),
            }
            for name in RATE_LIMITS
        ],
        "kept": [
            {
                "name": name,
                "value": getattr(settings, name),
                "variable": declared[name].env,
                "flag": declared[name].flag,
                "help": declared[name].help,
            }
            for name in KEPT
        ],
        "refusals_kept": {"records": REFUSALS_PER_PROJECT, "size_bytes": REFUSAL_BYTES_PER_PROJECT},
        "may_change": visit.may(ADMINS),
        "may_delete": visit.may(OWNERS),
        "alone_here": _alone_here(visit) if visit.may(OWNERS) else 0,
        "seen": visit.view.version,
        "shown": orjson.dumps(_values(project)).decode(),
        "secret": None,
    }


async def _accounts(visit: Visit) -> list[dict[str, Any]]:
    """Who may see this project: those with a role in it, and of owners those that the visitor may see."""
    listed = (await visit.ask("GET", ACCOUNTS)).good()["results"]
    found = []
    for account in listed:
        here = [held["role"] for held in account["projects"] if held["id"] == visit.project.id]
        role = "owner" if account["role"] == "owner" else here[0] if here else ""
        if role:
            found.append(
                {
                    "id": account["id"],
                    "username": account["username"],
                    "role": role,
                    "expires": account["expires"],
                }
            )
    return found


def _alone_here(visit: Visit) -> int:
    """How many accounts go with the project: those that are in no other."""
    return sum(
        [project for project, _ in account.grants] == [visit.project.id]
        for account in visit.view.accounts.values()
    )


async def storage(visit: Visit) -> Mapping[str, Any]:
    """What the project takes."""
    return {"storage": (await visit.ask("GET", f"{PROJECTS}/{visit.project.id}/storage")).good()["results"]}


async def zones(visit: Visit) -> Mapping[str, Any]:
    """The names of all time zones, for the field that takes one."""
    del visit
    return {"zones": sorted(name for name in available_timezones() if "/" in name or name == "UTC")}


def _values(project: Mapping[str, Any]) -> dict[str, Any]:
    """What the form of a project's settings says when nobody has touched it."""
    limits = {name: "default" if project[name] is None else str(project[name]) for name in RATE_LIMITS}
    return {name: project[name] for name in _FIELDS} | limits


def _shown(text: str) -> dict[str, Any]:
    """What the form said when it was shown; nothing where that is not known."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


async def change(visit: Visit) -> Response:
    """Change what in the form is not as it was shown: the rest somebody else may have changed meanwhile."""
    form = await visit.form()
    body: dict[str, Any] = {
        "name": form.text("name"),
        "id_merge": form.text("id_merge"),
        "timezone": form.text("timezone").strip(),
        "late_events": form.text("late_events") == "on",
        "ci_strings": form.text("ci_strings") == "on",
    }
    if visit.may(OWNERS):
        body |= {name: form.text(name).strip() or "default" for name in RATE_LIMITS if name in form.names()}
    shown = _shown(form.text("shown"))
    body = {name: value for name, value in body.items() if name not in shown or shown[name] != value}
    answer = await visit.ask("PATCH", f"{PROJECTS}/{visit.project.id}", body=body)
    answer.good()
    return see_other(visit.path("settings"), "The settings are saved.")


async def rotate_token(visit: Visit) -> Response:
    """Give the project a new token."""
    await _rotated(visit, "rotate-token")
    return see_other(
        visit.path("settings"), "The project has a new token. The old one is refused from now on."
    )


async def _rotated(visit: Visit, what: str) -> dict[str, Any]:
    form = await visit.form()
    confirmed(form, visit.project.name)
    still_seen(visit, form)
    answer = await visit.ask("POST", f"{PROJECTS}/{visit.project.id}/{what}", body={})
    made: dict[str, Any] = answer.good()["results"]
    return made


async def delete(visit: Visit) -> Response:
    """Delete the project."""
    form = await visit.form()
    confirmed(form, visit.project.name)
    (await visit.ask("DELETE", f"{PROJECTS}/{visit.project.id}", params={"project_id": None})).good()
    return see_other(visit.server_path("projects"), f"The project {visit.project.name} is deleted.")
