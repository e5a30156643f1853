"""Service accounts: who there is, making one, its roles, its password, its end.

An owner meets all of them, an admin those of their projects, as the API has it. A password is shown once, as
the answer to the form that made it. Nobody takes away their own access without being told so first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response
from starlette.routing import Route

from mixdown.explorer.confirming import confirmed, still_seen
from mixdown.explorer.frame import Frame, Problem, Visit, see_other
from mixdown.explorer.pages.settings import ACCOUNTS
from mixdown.http.accounts import NEVER
from mixdown.http.auth import ADMINS
from mixdown.model.names import PROJECT_ROLES
from mixdown.store.accounts import OWNER_ROLE

SHOWN: Final = 200
_NUMBER_LIMIT: Final = 2**53
ROLE_WORDS: Final = {
    "consumer": "reads",
    "analyst": "also writes cohorts and the dictionary",
    "admin": "also edits profiles, manages keys and accounts, erases",
    "ingest": "only imports events and replaces lookup tables",
    "owner": "everything, in every project",
}


def routes(frame: Frame) -> list[Route]:
    """The routes of these pages."""

    async def create(visit: Visit) -> Response:
        made = await _created(visit)
        values = {"title": "Accounts", "section": "accounts", **await build(visit)}
        return frame.render(visit, "accounts/page.html", **{**values, "made": made})

    async def rotate(visit: Visit) -> Response:
        made = await _rotated(visit)
        if made["username"] == visit.account.username:  # the cookie went with the old password
            return frame.render(
                visit, "accounts/own_password.html", title="Your new password", section="", made=made
            )
        values = {"title": made["username"], "section": "accounts", **await _one(visit, made["id"])}
        return frame.render(visit, "accounts/one.html", **{**values, "made": made})

    common: dict[str, Any] = {"roles": ADMINS, "server": True}
    return [
        *frame.view("/accounts", "accounts/page.html", build, title="Accounts", section="accounts", **common),
        *frame.view("/account", "accounts/one.html", one, title="Account", section="accounts", **common),
        frame.action("/accounts/create", create, **common),
        frame.action("/account/rotate", rotate, **common),
        frame.action("/account/end", end, **common),
        frame.action("/account/grant", grant, **common),
        frame.action("/account/revoke", revoke, **common),
        frame.action("/account/delete", delete, **common),
    ]


async def build(visit: Visit) -> Mapping[str, Any]:
    """The accounts that this visitor may manage; `q` is a part of a name."""
    listed = (await visit.ask("GET", ACCOUNTS)).good()["results"]
    wanted = visit.text("q").strip().casefold()
    found = [account for account in listed if wanted in account["username"].casefold()]
    return {
        "accounts": [_shown(visit, account) for account in found[:SHOWN]],
        "more": max(0, len(found) - SHOWN),
        "q": visit.text("q").strip(),
        **_choices(visit),
        "made": None,
    }


def _choices(visit: Visit) -> dict[str, Any]:
    """What a form of this visitor may offer."""
    roles = (*PROJECT_ROLES, OWNER_ROLE) if visit.caller.is_owner else PROJECT_ROLES
    return {
        "administered": [
            {"id": project.id, "name": project.name}
            for project in visit.projects
            if visit.caller.sees(project.id, ADMINS)
        ],
        "roles": [(role, f"{role}: {ROLE_WORDS[role]}") for role in roles],
        "project_roles": [(role, f"{role}: {ROLE_WORDS[role]}") for role in PROJECT_ROLES],
        "seen": visit.view.version,
    }


def _shown(visit: Visit, account: Mapping[str, Any]) -> dict[str, Any]:
    names = {project.id: project.name for project in visit.view.projects.values()}
    known = visit.view.accounts.get(account["username"])
    return {
        "id": account["id"],
        "username": account["username"],
        "is_owner": account["role"] == OWNER_ROLE,
        "projects": [{**held, "name": names.get(held["id"], "")} for held in account["projects"]],
        "created": account["created"],
        "expires": account["expires"],
        "is_over": known.is_expired(visit.services.now_ms()) if known else False,
        "is_me": account["username"] == visit.account.username,
    }


async def one(visit: Visit) -> Mapping[str, Any]:
    """One account, with what this visitor may do with it."""
    return await _one(visit, visit.integer("id", 0, low=1, high=_NUMBER_LIMIT))


async def _one(visit: Visit, number: int) -> dict[str, Any]:
    account = (await visit.ask("GET", f"{ACCOUNTS}/{number}")).good()["results"]
    shown = _shown(visit, account)
    known = visit.view.accounts.get(account["username"])
    held = {grant["id"] for grant in account["projects"]}
    choices = _choices(visit)
    return {
        "account": shown,
        "title": account["username"],
        **choices,
        "addable": [project for project in choices["administered"] if project["id"] not in held],
        "may_change": visit.caller.is_owner
        or (known is not None and all(visit.caller.sees(project, ADMINS) for project, _ in known.grants)),
        "leaves_no_owner": _leaves_no_owner(visit, account["username"]),
        "made": None,
    }


def _leaves_no_owner(visit: Visit, username: str) -> bool:
    """Whether every owner that is left without this one ends some day."""
    left = [each for each in visit.view.accounts.values() if each.is_owner and each.username != username]
    taken = visit.view.accounts.get(username)
    return taken is not None and taken.is_owner and not any(not each.expires_ms for each in left)


async def _created(visit: Visit) -> dict[str, Any]:
    form = await visit.form()
    still_seen(visit, form)
    body: dict[str, Any] = {
        "username": form.text("username").strip(),
        "role": form.text("role"),
        "expires": form.text("expires").strip(),
    }
    if body["role"] != OWNER_ROLE:
        body["projects"] = [{"id": number} for number in form.texts("project")]
    made: dict[str, Any] = (await visit.ask("POST", ACCOUNTS, body=body)).good()["results"]
    return made


async def _rotated(visit: Visit) -> dict[str, Any]:
    account = await _named(visit)
    form = await visit.form()
    confirmed(form, account["username"])
    still_seen(visit, form)
    answer = await visit.ask("POST", f"{ACCOUNTS}/{account['id']}/rotate-password", body={})
    made: dict[str, Any] = answer.good()["results"]
    return made


async def _named(visit: Visit) -> dict[str, Any]:
    """The account that the form is about. Raises `Problem` where it is none that the visitor may see."""
    text = (await visit.form()).text("id")
    if not (text.isascii() and text.isdecimal() and len(text) < 17):
        raise Problem("There is no such account.", status=404)
    found: dict[str, Any] = (await visit.ask("GET", f"{ACCOUNTS}/{text}")).good()["results"]
    return found


async def _confirmed_if_own(visit: Visit, account: Mapping[str, Any]) -> None:
    """Whoever changes their own access types their name first."""
    if account["username"] == visit.account.username:
        confirmed(await visit.form(), account["username"])


async def grant(visit: Visit) -> Response:
    """Let an account into a project, or change its role there."""
    account, form = await _named(visit), await visit.form()
    await _confirmed_if_own(visit, account)
    answer = await visit.ask(
        "PUT",
        f"{ACCOUNTS}/{account['id']}/projects/{_project(form.text('project'))}",
        body={"role": form.text("role")},
    )
    answer.good()
    return _back(visit, account, "The role is set.")


async def end(visit: Visit) -> Response:
    """Let an account end at another time, or never."""
    account, form = await _named(visit), await visit.form()
    await _confirmed_if_own(visit, account)
    given = form.text("expires").strip()
    answer = await visit.ask("PATCH", f"{ACCOUNTS}/{account['id']}", body={"expires": given or NEVER})
    answer.good()
    return _back(visit, account, "Its end is set." if given else "It has no end any more.")


async def revoke(visit: Visit) -> Response:
    """Take an account out of a project."""
    account, form = await _named(visit), await visit.form()
    await _confirmed_if_own(visit, account)
    path = f"{ACCOUNTS}/{account['id']}/projects/{_project(form.text('project'))}"
    left = (await visit.ask("DELETE", path)).good()["results"]
    if not left["projects"]:
        return see_other(
            visit.server_path("accounts"), f"{account['username']} is in none of your projects any more."
        )
    return _back(visit, account, "It is taken out of the project.")


async def delete(visit: Visit) -> Response:
    """Delete an account, or take it out of the visitor's projects."""
    account = await _named(visit)
    confirmed(await visit.form(), account["username"])
    (await visit.ask("DELETE", f"{ACCOUNTS}/{account['id']}")).good()
    return see_other(visit.server_path("accounts"), f"The account {account['username']} is deleted.")


def _project(text: str) -> str:
    if text.isascii() and text.isdecimal() and len(text) < 17:
        return text
    raise Problem("Choose a project.")


def _back(visit: Visit, account: Mapping[str, Any], notice: str) -> Response:
    if account["username"] == visit.account.username:  # the pages of accounts may be theirs no more
        return see_other("/", notice)
    return see_other(visit.server_path("account", id=account["id"]), notice)
