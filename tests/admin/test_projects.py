"""`/api/mixdown/projects`: projects, their keys and their limits by HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.reads.support import (
    ADMIN,
    ENGAGE,
    OTHER_TOKEN,
    OWNER,
    READER,
    SECRET,
    STRANGER,
    TOKEN,
    World,
    basic,
    user,
)

PROJECTS = "/api/mixdown/projects"


def call(world: World, method: str, target: str, by: str = OWNER, /, **fields: Any) -> httpx.Response:
    return world.run(world.ask(target, method=method, user=by, json=fields))


def results(reply: httpx.Response, status: int = 200) -> Any:
    assert reply.status_code == status, reply.text
    assert reply.headers["cache-control"] == "no-store"
    return reply.json()["results"]


def test_a_new_project_takes_records_and_its_secret_reads(world: World) -> None:
    made = results(call(world, "POST", PROJECTS, name="shop"), 201)
    assert (made["name"], made["id_merge"], made["role"]) == ("shop", "simplified", "owner")
    assert (len(made["token"]), len(made["secret"])) == (32, 64)
    world.send(user("ada", token=made["token"]))
    world.fold_all()
    reply = world.get(ENGAGE, headers={"Authorization": basic(made["secret"])})
    assert [row["$distinct_id"] for row in reply.json()["results"]] == ["ada"]
    shown = results(world.get(f"{PROJECTS}/{made['id']}", user=OWNER))
    assert shown == {**made, "secret": None}, "a secret is shown once"


def test_given_keys_are_taken(world: World) -> None:
    made = results(call(world, "POST", PROJECTS, name="shop", token="t-1", secret="s" * 40), 201)
    assert (made["token"], made["secret"]) == ("t-1", "s" * 40)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "cannot be a project's name"),
        ({"name": " shop"}, "cannot be a project's name"),
        ({"name": "12"}, "cannot be a project's name"),
        ({"name": "x" * 300}, "cannot be a project's name"),
        ({"name": ["shop"]}, "name, must be a text"),
        ({"name": "default"}, "taken by another project"),
        ({"name": "shop", "token": TOKEN}, "taken by another project"),
        ({"name": "shop", "secret": SECRET}, "taken by another project"),
        ({"name": "shop", "token": "a b"}, "cannot be a token"),
        ({"name": "shop", "secret": "ä"}, "cannot be a secret"),
        ({"name": "shop", "id_merge": "other"}, "id_merge, must be one of"),
        ({"name": "shop", "timezone": "Berlin"}, "timezone, must be the name of a time zone"),
    ],
)
def test_what_cannot_be_a_project_is_refused_with_the_reason(
    world: World, fields: dict[str, Any], error: str
) -> None:
    reply = call(world, "POST", PROJECTS, **fields)
    assert (reply.status_code, error in reply.json()["error"]) == (400, True), reply.text
    assert len(world.store.catalog.projects()) == 2


def test_a_caller_sees_their_own_projects_and_tokens_only_where_they_manage_keys(world: World) -> None:
    assert [each["id"] for each in results(world.get(PROJECTS, user=OWNER))] == [
        world.project.id,
        world.other.id,
    ]
    [read] = results(world.get(PROJECTS, user=READER))
    [managed] = results(world.get(PROJECTS, user=ADMIN))
    assert (read["id"], read["token"], read["secret"], read["role"]) == (
        world.project.id,
        None,
        None,
        "consumer",
    )
    assert (managed["token"], managed["secret"], managed["role"]) == (TOKEN, None, "admin")
    assert OTHER_TOKEN not in world.get(PROJECTS, user=ADMIN).text


def test_a_project_is_renamed_and_the_rest_stays(world: World) -> None:
    target = f"{PROJECTS}/{world.project.id}"
    before = results(world.get(target, user=ADMIN))
    assert results(call(world, "PATCH", target, ADMIN, name="store")) == {**before, "name": "store"}
    assert results(call(world, "PATCH", target, ADMIN, id_merge="legacy"))["id_merge"] == "legacy"
    assert results(call(world, "PATCH", target, ADMIN)) == {**before, "name": "store", "id_merge": "legacy"}
    assert "taken" in call(world, "PATCH", target, ADMIN, name="other").json()["error"]
    assert "cannot be" in call(world, "PATCH", target, ADMIN, name="77").json()["error"]


def test_a_project_is_given_a_time_zone_and_texts_without_case(world: World) -> None:
    made = results(call(world, "POST", PROJECTS, name="shop", timezone="Asia/Tokyo"), 201)
    assert (made["timezone"], made["ci_strings"]) == ("Asia/Tokyo", False)
    target = f"{PROJECTS}/{world.project.id}"
    before = results(world.get(target, user=ADMIN))
    assert (before["timezone"], before["ci_strings"]) == ("UTC", False)
    changed = results(call(world, "PATCH", target, ADMIN, timezone="Europe/Berlin", ci_strings=True))
    assert changed == {**before, "timezone": "Europe/Berlin", "ci_strings": True}
    assert results(call(world, "PATCH", target, ADMIN, ci_strings="false"))["ci_strings"] is False
    for wrong in (
        "europe/berlin",
        "CEST",
        "+02:00",
        "../../etc/passwd",
        "localtime",
        "right/UTC",
        "\0",
        "x" * 999,
    ):
        reply = call(world, "PATCH", target, ADMIN, timezone=wrong)
        assert (reply.status_code, "timezone, must be" in reply.json()["error"]) == (400, True), wrong
    assert call(world, "PATCH", target, ADMIN, ci_strings="perhaps").status_code == 400
    assert results(world.get(target, user=ADMIN))["timezone"] == "Europe/Berlin"


def test_an_owner_sets_rate_limits_and_an_admin_does_not(world: World) -> None:
    target = f"{PROJECTS}/{world.project.id}"
    name = "rate_limit_queries_per_hour"
    assert call(world, "PATCH", target, ADMIN, **{name: 5}).status_code == 403
    assert results(call(world, "PATCH", target, OWNER, **{name: 5}))[name] == 5
    assert results(call(world, "PATCH", target, OWNER, **{name: 0}))[name] == 0
    changed = results(
        call(world, "PATCH", target, OWNER, **{name: "default", "rate_limit_records_per_s": "7"})
    )
    assert (changed[name], changed["rate_limit_records_per_s"]) == (None, 7)
    for wrong in (-1, "x", 10**10, True):
        assert call(world, "PATCH", target, OWNER, **{name: wrong}).status_code == 400


def test_a_rotated_token_and_a_rotated_secret_stop_at_once(world: World) -> None:
    target = f"{PROJECTS}/{world.project.id}"
    old = {"Authorization": basic(SECRET)}
    assert world.get(ENGAGE, headers=old).status_code == 200
    made = results(call(world, "POST", f"{target}/rotate-secret", ADMIN))
    assert world.get(ENGAGE, headers=old).status_code == 401
    assert world.get(ENGAGE, headers={"Authorization": basic(made["secret"])}).status_code == 200
    token = results(call(world, "POST", f"{target}/rotate-token", ADMIN))["token"]
    assert token != TOKEN
    assert world.send(user("ada")).json()["error"] == "$token, no project has this token"
    assert world.send(user("ada", token=token)).json()["status"] == 1


def test_a_deleted_project_is_gone_with_its_accounts(world: World) -> None:
    target = f"{PROJECTS}/{world.project.id}"
    assert results(call(world, "DELETE", target)) == {"id": world.project.id, "deleted": True}
    assert world.get(ENGAGE).status_code == 401
    assert call(world, "DELETE", target).status_code == 403
    assert [each["id"] for each in results(world.get(PROJECTS, user=OWNER))] == [world.other.id]


@pytest.mark.parametrize("number", ["0", "x", "-1", "1.5", "9" * 30, "%31%20"])
def test_what_is_no_number_is_404(world: World, number: str) -> None:
    reply = world.get(f"{PROJECTS}/{number}", user=OWNER)
    assert (reply.status_code, reply.json()["error"]) == (404, "Not Found")


def test_another_admin_reaches_nothing_of_this_project(world: World) -> None:
    target = f"{PROJECTS}/{world.project.id}"
    before = world.store.catalog.projects()
    for method, path in (("GET", ""), ("PATCH", ""), ("POST", "/rotate-token"), ("POST", "/rotate-secret")):
        assert call(world, method, target + path, STRANGER, name="mine").status_code == 403
    assert world.store.catalog.projects() == before
