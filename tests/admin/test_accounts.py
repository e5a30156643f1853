"""Service accounts by HTTP: Mixdown's own API, and Mixpanel's (contract query §6.4)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from mixdown.model.times import iso_seconds
from tests.reads.support import (
    ADMIN,
    ENGAGE,
    IMPORTER,
    NOON_MS,
    OWNER,
    PASSWORD,
    READER,
    STRANGER,
    World,
    basic,
)

ACCOUNTS = "/api/mixdown/accounts"
APP = "/api/app/organizations/1/service-accounts"


def call(world: World, method: str, target: str, by: str = OWNER, **fields: Any) -> httpx.Response:
    return world.run(world.ask(target, method=method, user=by, json=fields))


def results(reply: httpx.Response, status: int = 200) -> Any:
    assert reply.status_code == status, reply.text
    return reply.json()["results"]


def made(world: World, by: str = ADMIN, **fields: Any) -> Any:
    return results(call(world, "POST", ACCOUNTS, by, **{"username": "tap", **fields}), 201)


def reads(world: World, account: Any, project: int) -> int:
    header = {"Authorization": basic(f"{account['username']}:{account['password']}")}
    return world.get(f"{ENGAGE}?project_id={project}", headers=header).status_code


def number(world: World, username: str) -> int:
    return next(each.id for each in world.store.catalog.accounts() if each.username == username)


def test_an_admin_makes_an_account_of_their_project_whose_password_is_shown_once(world: World) -> None:
    account = made(world)
    assert (account["project_id"], account["role"], len(account["password"])) == (
        world.project.id,
        "consumer",
        64,
    )
    assert reads(world, account, world.project.id) == 200
    assert reads(world, account, world.other.id) == 403
    shown = results(world.get(f"{ACCOUNTS}/{account['id']}", user=ADMIN))
    assert shown == {**account, "password": None}
    assert results(call(world, "DELETE", f"{ACCOUNTS}/{account['id']}", ADMIN))["deleted"] is True
    assert reads(world, account, world.project.id) == 401
    assert world.get(f"{ACCOUNTS}/{account['id']}", user=ADMIN).status_code == 404


def test_an_account_of_several_projects_has_its_role_in_each(world: World) -> None:
    projects = [{"id": world.project.id, "role": "analyst"}, {"id": world.other.id, "role": "ingest"}]
    account = made(world, OWNER, projects=projects)
    assert account["projects"] == projects
    assert (reads(world, account, world.project.id), reads(world, account, world.other.id)) == (200, 403)
    right = f"{ACCOUNTS}/{account['id']}/projects/{world.other.id}"
    assert results(call(world, "PUT", right, STRANGER, role="consumer"))["projects"] == [
        {"id": world.other.id, "role": "consumer"}
    ], "an admin is told of their own project alone"
    assert reads(world, account, world.other.id) == 200
    call(world, "DELETE", right, STRANGER)
    assert (reads(world, account, world.project.id), reads(world, account, world.other.id)) == (200, 403)


def test_an_admin_cannot_take_over_an_account_that_is_in_projects_of_others(world: World) -> None:
    projects = [{"id": world.project.id, "role": "consumer"}, {"id": world.other.id, "role": "admin"}]
    account = made(world, OWNER, projects=projects)
    one = f"{ACCOUNTS}/{account['id']}"
    refused = call(world, "POST", f"{one}/rotate-password", ADMIN)
    assert (refused.status_code, str(world.other.id) in refused.json()["error"]) == (403, False)
    assert call(world, "PUT", f"{one}/projects/{world.other.id}", ADMIN, role="admin").status_code == 403
    assert call(world, "DELETE", f"{one}/projects/{world.other.id}", ADMIN).status_code == 403
    assert call(world, "DELETE", one, ADMIN).status_code == 200
    assert reads(world, account, world.other.id) == 200, "it is out of the admin's project alone"
    assert world.get(one, user=ADMIN).status_code == 404


def test_a_new_password_takes_the_place_of_the_old_one_at_once(world: World) -> None:
    account = made(world)
    changed = results(call(world, "POST", f"{ACCOUNTS}/{account['id']}/rotate-password", ADMIN))
    assert changed["password"] not in (None, account["password"])
    assert reads(world, account, world.project.id) == 401
    assert reads(world, changed, world.project.id) == 200


def test_owners_are_seen_and_made_by_owners_alone(world: World) -> None:
    owner = number(world, OWNER)
    names = {each["username"] for each in results(world.get(ACCOUNTS, user=ADMIN))}
    assert names == {READER, ADMIN, IMPORTER}
    assert OWNER in {each["username"] for each in results(world.get(ACCOUNTS, user=OWNER))}
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/rotate-password")):
        assert call(world, method, f"{ACCOUNTS}/{owner}{path}", ADMIN).status_code == 404
    assert call(world, "POST", ACCOUNTS, ADMIN, username="root", role="owner").status_code == 403
    root = made(world, OWNER, username="root", role="owner")
    assert (root["project_id"], root["role"], root["projects"]) == (0, "owner", [])
    assert reads(world, root, world.other.id) == 200


def test_nobody_deletes_the_account_that_they_ask_with(world: World) -> None:
    reply = call(world, "DELETE", f"{ACCOUNTS}/{number(world, OWNER)}")
    assert (reply.status_code, "the account that asks" in reply.text) == (400, True)


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        ({"username": ""}, 400, "username"),
        ({"username": "a b"}, 400, "cannot be a user name"),
        ({"username": "a:b"}, 400, "cannot be a user name"),
        ({"username": READER}, 400, "taken by another account"),
        ({"role": "king"}, 400, "role, must be one of"),
        ({"projects": "x"}, 400, "projects, must be"),
        ({"projects": {"id": 1}}, 400, "projects, must be a list"),
        ({"projects": [7]}, 400, "projects, id must be a number"),
        ({"projects": [{"id": 10**30}]}, 400, "projects, id must be a number"),
        ({"projects": [{"id": 1, "role": "owner"}]}, 400, "projects, role, must be one of"),
        ({"projects": [{"id": 999}]}, 403, "no access to project 999"),
        ({"project_id": 2}, 403, "no access to project 2"),
        ({"projects": [{"id": 1}] * 1001}, 400, "at most 1000"),
        ({"expires": "tomorrow"}, 400, "expires, must be a time"),
        ({"expires": "2001-01-01"}, 400, "expires, must be a time to come"),
    ],
)
def test_what_cannot_be_an_account_is_refused_with_the_reason(
    world: World, fields: dict[str, Any], status: int, error: str
) -> None:
    before = world.store.catalog.accounts()
    reply = call(world, "POST", ACCOUNTS, ADMIN, **{"username": "tap", **fields})
    assert (reply.status_code, error in reply.json()["error"]) == (status, True), reply.text
    assert world.store.catalog.accounts() == before


def test_an_account_expires(world: World) -> None:
    account = made(world, expires=(NOON_MS + 60_000) // 1000)
    assert reads(world, account, world.project.id) == 200
    world.now_ms = NOON_MS + 60_000
    assert reads(world, account, world.project.id) == 401


def test_the_end_of_an_account_can_be_changed_by_those_who_manage_all_of_it(world: World) -> None:
    account = made(world)
    target = f"{ACCOUNTS}/{account['id']}"
    changed = results(call(world, "PATCH", target, ADMIN, expires=iso_seconds(NOON_MS + 60_000)))
    assert changed == {**account, "password": None, "expires": iso_seconds(NOON_MS + 60_000)}
    assert reads(world, account, world.project.id) == 200
    world.now_ms = NOON_MS + 60_000
    assert reads(world, account, world.project.id) == 401
    assert results(call(world, "PATCH", target, ADMIN, expires="never"))["expires"] is None
    assert reads(world, account, world.project.id) == 200
    for wrong in ({}, {"expires": ""}, {"expires": "soon"}, {"expires": "2001-01-31T00:00:00"}):
        assert call(world, "PATCH", target, ADMIN, **wrong).status_code == 400
    assert call(world, "PATCH", target, STRANGER, expires="never").status_code == 404
    results(call(world, "PUT", f"{target}/projects/{world.other.id}", OWNER, role="consumer"))
    assert call(world, "PATCH", target, ADMIN, expires="never").status_code == 403


# --- as Mixpanel has it


def test_a_service_account_lives_in_mixpanels_shapes(world: World) -> None:
    reply = call(
        world,
        "POST",
        f"{APP}/",
        username="tap",
        role="analyst",
        projects=[{"id": world.project.id, "role": "consumer"}],
    )
    entry = results(reply, 201)
    token = entry.pop("token")
    assert entry.keys() == {"id", "username", "last_used", "expires", "creator", "created", "user"}
    assert (entry["creator"], entry["created"]) == (number(world, OWNER), iso_seconds(NOON_MS) + "Z")
    header = {"Authorization": f"Bearer {token}"}
    assert world.get(ENGAGE, headers=header).status_code == 200
    assert world.get(f"{APP}/{entry['id']}", user=OWNER).json() == entry, "bare, without an envelope"
    assert entry in results(world.get(APP, user=OWNER))
    [member] = [
        each
        for each in results(world.get(f"/api/app/projects/{world.project.id}/service-accounts", user=ADMIN))
        if each["id"] == entry["id"]
    ]
    assert member == {
        **entry,
        "role": "consumer",
        "role_order": 0,
        "hasSensitiveAccess": False,
        "target_type": "individual",
        "email": "tap",
    }
    deleted = call(world, "DELETE", f"{APP}/{entry['id']}")
    assert (deleted.status_code, deleted.json()) == (200, {"status": "ok"})
    assert world.get(ENGAGE, headers=header).status_code == 401


def test_accounts_are_added_to_and_removed_from_projects(world: World) -> None:
    reader = number(world, READER)
    added = call(
        world,
        "POST",
        f"{APP}/add-to-project",
        projects=[{"id": world.other.id, "role": "consumer"}],
        service_account_ids=[reader],
    )
    assert added.json() == {"status": "ok"}
    assert world.get(f"{ENGAGE}?project_id={world.other.id}").status_code == 200
    removal = [{"id": world.project.id, "service_account_ids": [reader]}]
    removed = call(world, "POST", f"{APP}/remove-from-project", projects=removal)
    assert removed.json() == {"status": "ok"}
    assert world.get(f"{ENGAGE}?project_id={world.project.id}").status_code == 403
    again = call(world, "POST", f"{APP}/remove-from-project", projects=removal)
    assert (again.status_code, "is not in project" in again.text) == (400, True)


@pytest.mark.parametrize("path", ["add-to-project", "remove-from-project"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"projects": []},
        {"projects": [{"id": 1, "role": "consumer"}]},
        {"projects": [{"id": 1, "role": "consumer"}], "service_account_ids": "x"},
        {"projects": [{"id": 1, "role": "owner", "service_account_ids": ["x"]}], "service_account_ids": [3]},
        {"projects": [{"id": "1e9", "service_account_ids": [3]}], "service_account_ids": [3]},
    ],
)
def test_memberships_that_say_too_little_are_refused(world: World, path: str, fields: dict[str, Any]) -> None:
    reply = call(world, "POST", f"{APP}/{path}", **fields)
    assert reply.status_code == 400, reply.text


def test_an_admin_of_one_project_touches_no_membership_of_another(world: World) -> None:
    reader, stranger = number(world, READER), number(world, STRANGER)
    for fields, status in (
        ({"projects": [{"id": world.project.id, "role": "admin"}], "service_account_ids": [reader]}, 403),
        ({"projects": [{"id": world.other.id, "role": "admin"}], "service_account_ids": [reader]}, 404),
        ({"projects": [{"id": world.other.id, "role": "owner"}], "service_account_ids": [stranger]}, 400),
    ):
        assert call(world, "POST", f"{APP}/add-to-project", STRANGER, **fields).status_code == status
    removal = [{"id": world.project.id, "service_account_ids": [reader]}]
    assert call(world, "POST", f"{APP}/remove-from-project", STRANGER, projects=removal).status_code == 403
    assert world.get(f"{ENGAGE}?project_id={world.project.id}").status_code == 200


def test_there_is_one_organization(world: World) -> None:
    reply = world.get("/api/app/organizations/2/service-accounts", user=OWNER)
    assert (reply.status_code, reply.json()["error"]) == (403, "no access to organization 2")
    for path in ("add-to-project", "remove-from-project"):
        refused = world.get(f"{APP}/{path}", user=OWNER)
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


def test_no_answer_shows_a_password_hash_or_an_old_password(world: World) -> None:
    for target in (ACCOUNTS, APP, f"/api/app/projects/{world.project.id}/service-accounts"):
        text = world.get(target, user=OWNER).text
        assert PASSWORD not in text
        assert "hash" not in text
