"""The profile query: what it takes and what it answers (contract query §2.1, §2.2, §7, §9.1)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.reads.support import ENGAGE, OWNER, READER, World, basic, group, ids_of, names, user

PATHS = ("/api/query/engage", "/api/2.0/engage", "/api/2.0/engage/query")


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_spelling_of_the_path_answers_without_a_redirect(
    plain_world: World, method: str, path: str, slash: str
) -> None:
    plain_world.store_users(["ada"])
    reply = plain_world.run(plain_world.ask(path + slash, method=method))
    assert reply.status_code == 200
    assert ids_of(reply.json()) == ["ada"]


def test_an_empty_project_has_no_rows_and_all_keys(world: World) -> None:
    answer = world.page()
    assert answer.pop("session_id")
    assert answer.pop("computed_at") == "2026-01-15T12:00:00+00:00"
    assert answer == {"status": "ok", "page": 0, "page_size": 1000, "total": 0, "results": []}


def test_rows_hold_the_id_as_text_and_all_properties(world: World) -> None:
    world.send(user(4242, plan="pro", tags=["a", 1, 1.5, None], nested={"a": {"b": "Ålesund \u2028 😀"}}))
    world.fold_all()
    (row,) = world.page()["results"]
    last_seen = row["$properties"].pop("$last_seen")
    assert row == {
        "$distinct_id": "4242",
        "$properties": {
            "plan": "pro",
            "tags": ["a", 1, 1.5, None],
            "nested": {"a": {"b": "Ålesund \u2028 😀"}},
        },
    }
    assert len(last_seen) == len("2026-01-15T12:00:00")


def test_rows_come_in_code_point_order_of_their_ids(world: World) -> None:
    world.store_users(["b", "a", "Z", "10", "9", "é", "😀", "\uffff"])
    assert ids_of(world.page()) == ["10", "9", "Z", "a", "b", "é", "\uffff", "😀"]


def test_no_reply_carries_retry_after_or_may_be_cached(world: World) -> None:
    for target in (ENGAGE, f"{ENGAGE}?page_size=0", "/api/query/nothing"):
        reply = world.get(target)
        assert "retry-after" not in reply.headers
    assert world.get(ENGAGE).headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"distinct_id": "a"}, ["a"]),
        ({"distinct_id": "nobody"}, []),
        ({"distinct_ids": '["c","a","nobody","a"]'}, ["a", "c"]),
        ({"distinct_ids": ["c", "a"]}, ["a", "c"]),
        ({"distinct_ids": "b"}, ["b"]),
        ({"distinct_ids": "[]"}, []),
        ({"distinct_ids": "[7]"}, ["7"]),
        ({"distinct_ids": ""}, ["7", "a", "b", "c"]),
        ({"distinct_id": ""}, ["7", "a", "b", "c"]),
        ({"distinct_id": "a", "distinct_ids": '["a","b"]'}, ["a"]),
        ({"distinct_id": "a", "distinct_ids": '["b"]'}, []),
        ({"limit": "2"}, ["7", "a"]),
        ({"where": "", "filter_by_cohort": "", "include_all_users": "false"}, ["7", "a", "b", "c"]),
        ({"as_of_timestamp": "1700000000", "query_origin": "x", "format": "json"}, ["7", "a", "b", "c"]),
    ],
)
def test_ids_choose_profiles(world: World, parameters: dict[str, Any], found: list[str]) -> None:
    world.store_users(["a", "b", "c", "7"])
    answer = world.page(**parameters)
    assert ids_of(answer) == found
    assert answer["total"] == len(found)


def test_ids_in_a_json_body_may_be_a_list_or_the_text_of_one(world: World) -> None:
    world.store_users(["hl-1", "hl-2", '["hl-1"]'])
    for sent, found in (
        ('["hl-1", "hl-2", "nope"]', ["hl-1", "hl-2"]),
        (["hl-1", "nope"], ["hl-1"]),
        (['["hl-1"]'], ['["hl-1"]']),
    ):
        reply = world.post(f"{ENGAGE}/", json={"page": 0, "distinct_ids": sent})
        assert ids_of(reply.json()) == found


def test_ten_thousand_ids_are_taken_and_one_more_is_refused(world: World) -> None:
    world.store_users(["u00003"])
    assert ids_of(world.post(ENGAGE, json={"distinct_ids": names(10_000)}).json()) == ["u00003"]
    reply = world.post(ENGAGE, json={"distinct_ids": names(10_001)})
    assert reply.status_code == 400
    assert "distinct_ids" in reply.json()["error"]


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ('["plan"]', {"plan": "pro"}),
        ('["plan","n","absent"]', {"plan": "pro", "n": 1.0}),
        (["plan", "n"], {"plan": "pro", "n": 1.0}),
        ("plan", {"plan": "pro"}),
        ("[]", {}),
        ('["$last_seen"]', {"$last_seen": "2026-01-15T12:00:00"}),
    ],
)
def test_output_properties_keep_only_what_is_named(world: World, asked: Any, kept: dict[str, Any]) -> None:
    world.send({**user("ada", plan="pro", n=1.0, rest=[1]), "$time": 1_768_478_400})
    world.fold_all()
    (row,) = world.page(output_properties=asked)["results"]
    assert row == {"$distinct_id": "ada", "$properties": kept}


@pytest.mark.parametrize("page_size", [1, 2, 250, 5000, 10_000])
def test_page_size_is_honoured_exactly(world: World, page_size: int) -> None:
    world.store_users(names(300))
    answer = world.page(page_size=page_size)
    assert answer["page_size"] == page_size
    assert len(answer["results"]) == min(page_size, 300)
    assert answer["total"] == 300


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("page_size", "0"),
        ("page_size", "-1"),
        ("page_size", "10001"),
        ("page_size", "many"),
        ("page_size", "1.5"),
        ("page_size", "9" * 30),
        ("page", "-1"),
        ("page", "first"),
        ("page", "9" * 30),
        ("limit", "0"),
        ("limit", "x"),
        ("project_id", "default"),
        ("output_properties", '[{"a":1}]'),
        ("distinct_ids", "[null]"),
        ("distinct_ids", '[["a"]]'),
        ("data_group_id", "Nowhere"),
        ("data_group_id", "-1405123841946871899"),
    ],
)
def test_a_parameter_out_of_bounds_is_400_and_named(plain_world: World, name: str, value: str) -> None:
    reply = plain_world.get(ENGAGE, params={name: value})
    assert reply.status_code == 400
    assert reply.json()["error"].startswith(name)


def test_groups_are_asked_for_by_id_number_or_name(world: World) -> None:
    world.send(group("Company", "Acme", size=3), group("Company", 77, size=4), endpoint="groups")
    world.send(user("ada"))
    world.fold_all()
    number = world.store.state.group_keys(world.project.id)["Company"]
    for asked in ("Company", str(number)):
        answer = world.page(data_group_id=asked)
        assert ids_of(answer) == ["77", "Acme"]
        assert answer["results"][1]["$properties"]["size"] == 3
        assert "$last_seen" in answer["results"][0]["$properties"]
    reply = world.post("/api/2.0/engage", data={"data_group_id": "Company", "distinct_id": "Acme"})
    assert ids_of(reply.json()) == ["Acme"]
    assert ids_of(world.post(ENGAGE, json={"data_group_id": number}).json()) == ["77", "Acme"]
    assert ids_of(world.page()) == ["ada"]


def test_an_unknown_group_key_is_400_and_the_text_names_the_known_ones(world: World) -> None:
    world.send(group("Company", "Acme"), endpoint="groups")
    world.fold_all()
    reply = world.get(ENGAGE, params={"data_group_id": "company"})
    assert reply.status_code == 400
    assert "Company (" in reply.json()["error"]


def test_errors_have_the_one_shape_that_every_client_reads(world: World) -> None:
    reply = world.get(f"{ENGAGE}/?page_size=x&project_id={world.project.id}")
    assert reply.status_code == 400
    body = reply.json()
    assert body["status"] == "error"
    assert body["request"] == f"{ENGAGE}/?page_size=x&project_id={world.project.id}"
    assert "page_size" in body["error"]


@pytest.mark.parametrize("path", ["/api/query/dashboards", "/api/2.0/nothing", "/api/query/engage/unknown"])
def test_an_unknown_query_endpoint_is_400_invalid_api_endpoint(plain_world: World, path: str) -> None:
    for method in ("GET", "POST"):
        reply = plain_world.run(plain_world.ask(path, method=method))
        assert reply.status_code == 400
        assert reply.json() == {"request": path, "error": "Invalid API endpoint", "status": "error"}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{broken", {}),
        (b"[1]", {"Content-Type": "application/json"}),
        (b"page=1", {"Content-Type": "application/json"}),
        (b"--x\r\n", {"Content-Type": "multipart/form-data; boundary=x"}),
        (b"{}", {"Content-Encoding": "br"}),
        (b'{"a":' + b"[" * 5000, {}),
    ],
)
def test_a_body_that_cannot_be_read_is_400(plain_world: World, body: bytes, headers: dict[str, str]) -> None:
    reply = plain_world.post(ENGAGE, content=body, headers=headers)
    assert reply.status_code == 400
    assert reply.json()["status"] == "error"


def test_a_body_over_the_limit_is_413_in_the_same_shape(world: World) -> None:
    reply = world.post(ENGAGE, content=b'{"a":"' + b"x" * 11_000_000 + b'"}')
    assert reply.status_code == 413
    assert reply.json()["status"] == "error"


def test_project_id_may_come_twice_as_text_and_in_the_query(world: World) -> None:
    world.store_users(["ada"])
    project = world.project.id
    reply = world.post(
        f"{ENGAGE}/?project_id={project}&query_origin=mixpanel-headless",
        content=json.dumps({"project_id": str(project), "page": 0}),
        headers={"Content-Type": "application/json"},
    )
    assert ids_of(reply.json()) == ["ada"]


def test_an_owner_names_the_project_and_an_account_need_not(world: World) -> None:
    world.store_users(["ada"])
    assert ids_of(world.page()) == ["ada"]
    missing = world.get(ENGAGE, user=OWNER)
    assert missing.status_code == 400
    assert missing.json()["error"].startswith("project_id")
    assert ids_of(world.get(f"{ENGAGE}?project_id={world.project.id}", user=OWNER).json()) == ["ada"]
    assert ids_of(world.get(f"{ENGAGE}?project_id={world.other.id}", user=OWNER).json()) == []


def test_a_profile_deleted_before_the_read_is_gone(world: World) -> None:
    world.store_users(["a", "b"])
    world.send({"$token": world.project.token, "$distinct_id": "a", "$delete": ""})
    world.fold_all()
    assert ids_of(world.page()) == ["b"]


def test_an_answer_past_the_bound_in_bytes_asks_for_smaller_pages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixdown.query.engage.ANSWER_LIMIT_BYTES", 4000)
    world.store_users(names(200))
    reply = world.get(ENGAGE, headers={"Authorization": basic(f"{READER}:pa55" + "0" * 60)})
    assert reply.status_code == 400
    assert reply.json()["error"].startswith("page_size")
    assert len(world.page(page_size=20)["results"]) == 20
