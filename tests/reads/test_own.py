"""Mixdown's own API: status, last records, refusals, sending them again (DESIGN §6 roles, G5, G6)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.reads.support import (
    ADMIN,
    ENGAGE,
    OTHER_SECRET,
    OTHER_TOKEN,
    OWNER,
    READER,
    SECRET,
    STRANGER,
    TOKEN,
    World,
    basic,
    group,
    ids_of,
    names,
    user,
)

STATUS, RECORDS, REFUSALS, RESEND = (
    f"/api/mixdown/{name}" for name in ("status", "records", "refusals", "refusals/resend")
)


def results(reply: Any) -> Any:
    assert reply.status_code == 200, reply.text
    assert reply.json()["status"] == "ok"
    return reply.json()["results"]


def test_status_tells_how_far_the_fold_is_and_what_a_project_holds(world: World) -> None:
    world.store_users(["a", "b"])
    world.send(group("Company", "Acme"), endpoint="groups")
    world.fold_all()
    world.send(user("c"), {"$token": TOKEN, "$set": {}})
    found = results(world.get(STATUS))
    assert (found["head"], found["watermark"], found["behind"]) == (4, 3, 1)
    (project,) = found["projects"]
    assert project == {
        "id": world.project.id,
        "name": "default",
        "users": 2,
        "groups": {"Company": 1},
        "refusals": 1,
    }
    assert TOKEN not in json.dumps(found)


def test_the_owner_sees_every_project(world: World) -> None:
    found = results(world.get(STATUS, user=OWNER))
    assert [project["name"] for project in found["projects"]] == ["default", "other"]
    one = results(world.get(f"{STATUS}?project_id={world.other.id}", user=OWNER))
    assert [project["name"] for project in one["projects"]] == ["other"]


def test_the_last_records_come_newest_first_with_operators_and_values(world: World) -> None:
    world.send(*[user(name, n=place) for place, name in enumerate(names(60))])
    world.send(
        {"$token": TOKEN, "$distinct_id": "ada", "$set": {"é": "\u2028"}, "$unset": ["x"]},
        {"$token": TOKEN, "$distinct_id": "gone", "$delete": ""},
    )
    world.send(group("Company", "Acme", size=1), endpoint="groups")
    found = results(world.get(RECORDS))
    assert len(found) == 20
    newest, gone, ada, last_user = found[:4]
    assert (newest["endpoint"], newest["group_key"], newest["id"]) == ("groups", "Company", "Acme")
    assert newest["operations"] == {"$set": {"size": 1}}
    assert newest["position"] == 62
    assert gone["operations"] == {"$delete": None}
    assert ada["operations"] == {"$unset": ["x"], "$set": {"é": "\u2028"}}
    assert (last_user["id"], last_user["group_key"], last_user["time"]) == (
        "u00059",
        None,
        "2026-01-15T12:00:00",
    )
    assert len(results(world.get(f"{RECORDS}?limit=1000"))) == 63
    assert results(world.get(f"{RECORDS}?limit=1"))[0]["id"] == "Acme"


def test_records_of_a_quiet_project_are_found_behind_those_of_a_busy_one(world: World) -> None:
    world.send(user("quiet"))
    for start in range(0, 4000, 1000):
        world.send(*[user(name, token=OTHER_TOKEN) for name in names(start + 1000)[start:]])
    assert [record["id"] for record in results(world.get(RECORDS))] == ["quiet"]
    theirs = results(world.get(RECORDS, headers={"Authorization": basic(OTHER_SECRET)}))
    assert [record["id"] for record in theirs] == names(4000)[:-21:-1]


def test_refusals_are_listed_with_their_reason_and_paged(world: World) -> None:
    for number in range(5):
        world.send({"$token": TOKEN, "$set": {"n": number}})
    first = results(world.get(f"{REFUSALS}?limit=3"))
    assert [json.loads(refusal["record"])["$set"]["n"] for refusal in first] == [4, 3, 2]
    assert first[0]["message"] == "$distinct_id, missing or empty"
    assert (first[0]["field"], first[0]["index"], first[0]["whole"]) == ("$distinct_id", 0, True)
    rest = results(world.get(f"{REFUSALS}?before_id={first[-1]['id']}"))
    assert [json.loads(refusal["record"])["$set"]["n"] for refusal in rest] == [1, 0]


def test_the_owner_alone_sees_records_with_an_unknown_token(world: World) -> None:
    world.send(user("lost", token="nobody"))
    world.send({"$token": OTHER_TOKEN, "$set": {}})
    for user_name, count in ((OWNER, 2), (READER, 0), (ADMIN, 0), (STRANGER, 1)):
        assert len(results(world.get(REFUSALS, user=user_name))) == count
    assert results(world.get(f"{REFUSALS}?project_id={world.project.id}", user=OWNER)) == []


def refusal_ids(world: World, user_name: str = ADMIN) -> list[int]:
    return [refusal["id"] for refusal in results(world.get(REFUSALS, user=user_name))]


def test_an_admin_mends_a_refused_record_and_sends_it_again(world: World) -> None:
    world.send({"$token": TOKEN, "$set": {"plan": "pro"}})
    (refusal,) = refusal_ids(world)
    again = results(world.post(RESEND, user=ADMIN, json={"ids": [refusal]}))
    assert again == [{"id": refusal, "stored": False, "error": "$distinct_id, missing or empty"}]
    assert refusal_ids(world) == [refusal], "still there, once"
    mended = user("ada", plan="pro")
    stored = results(world.post(RESEND, user=ADMIN, json={"ids": [refusal], "record": mended}))
    assert stored == [{"id": refusal, "stored": True, "error": None}]
    assert refusal_ids(world) == []
    world.fold_all()
    assert world.page()["results"][0]["$properties"]["plan"] == "pro"


def test_only_admins_send_again_and_only_what_is_theirs(world: World) -> None:
    world.send({"$token": TOKEN, "$set": {}})
    (refusal,) = refusal_ids(world)
    asked = {"ids": [refusal], "record": user("ada")}
    assert world.post(RESEND, user=READER, json=asked).status_code == 403
    assert (
        world.post(RESEND, user=None, headers={"Authorization": basic(SECRET)}, json=asked).status_code == 403
    )
    assert world.post(RESEND, user=STRANGER, json=asked).status_code == 404
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    assert world.post(RESEND, user=ADMIN, json=asked, headers=elsewhere).status_code == 403
    assert refusal_ids(world) == [refusal]
    world.fold_all()
    assert ids_of(world.page()) == []
    assert results(world.post(RESEND, user=OWNER, json=asked))[0]["stored"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"ids": []},
        {"ids": ["x"]},
        {"ids": [-1]},
        {"ids": list(range(1, 200))},
        {"ids": [1, 2], "record": {}},
        {"ids": [1], "record": [1]},
    ],
)
def test_a_malformed_call_changes_nothing(plain_world: World, body: dict[str, Any]) -> None:
    reply = plain_world.post(RESEND, user=ADMIN, json=body)
    assert reply.status_code == 400
    assert reply.json()["status"] == "error"


@pytest.mark.parametrize("path", ["/api/mixdown/nothing", "/api/app/nothing"])
def test_an_unknown_path_is_404_in_the_same_shape(plain_world: World, path: str) -> None:
    reply = plain_world.get(path)
    assert reply.status_code == 404
    assert reply.json()["status"] == "error"
    assert plain_world.get(f"{ENGAGE}").status_code == 200


def test_refusals_are_filtered_and_counted_by_reason(world: World) -> None:
    world.send({"$token": TOKEN, "$set": {"plan": "pro"}})
    world.send({"$token": TOKEN, "$group_id": "a", "$set": {"a": 1}}, endpoint="groups")
    world.send({"$token": TOKEN, "$set": {"plan": "free"}})

    def records(**asked: Any) -> list[str]:
        reply = world.get("/api/mixdown/refusals", params=asked)
        assert reply.status_code == 200, reply.text
        return [json.loads(each["record"])["$set"].get("plan", "") for each in reply.json()["results"]]

    assert records(reason="distinct_id_missing") == ["free", "pro"]
    assert records(reason="nothing") == []
    assert records(endpoint="groups") == [""]
    assert records(field="$distinct_id", text="PRO") == ["pro"]
    assert records(since=world.now_ms // 1000, until=world.now_ms // 1000 + 1) == ["free", "", "pro"]
    assert records(until=world.now_ms // 1000) == []
    for asked in ({"since": "x"}, {"text": "x" * 1001}):
        assert world.get("/api/mixdown/refusals", params=asked).status_code == 400
    told = world.get("/api/mixdown/refusals/reasons").json()["results"]
    assert [(each["reason"], each["count"], each["endpoints"]) for each in told] == [
        ("distinct_id_missing", 2, ["engage"]),
        ("group_key_missing", 1, ["groups"]),
    ]
    assert told[0]["advice"] == "give a non-empty text or a number"


def test_records_with_an_unknown_token_are_brought_into_a_project_by_an_owner(world: World) -> None:
    world.send(user("lost", token="nobody's"))
    world.send({"$token": TOKEN, "$set": {"plan": "pro"}})
    asked = {"unknown_token": "true", "project_id": world.project.id}
    assert world.get("/api/mixdown/refusals", params=asked).status_code == 403
    [lost] = world.get("/api/mixdown/refusals", params=asked, user=OWNER).json()["results"]
    body = {"ids": [lost["id"]], "unknown_token": True, "to_project": world.project.id}
    assert world.post("/api/mixdown/refusals/resend", json=body, user=ADMIN).status_code == 403
    sent = world.post("/api/mixdown/refusals/resend", json=body, user=OWNER).json()["results"]
    assert sent == [{"id": lost["id"], "stored": True, "error": None}]
    elsewhere = {"ids": [2], "to_project": world.other.id}
    assert world.post("/api/mixdown/refusals/resend", json=elsewhere, user=ADMIN).status_code == 403
