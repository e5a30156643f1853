"""The data dictionary over HTTP: Lexicon schemas in each call's shape, errors, what is observed beside."""

from __future__ import annotations

from typing import Any

import pytest

from mixdown.model import dictionary as model
from mixdown.query.schemas import SAME_LIMIT
from tests.reads.support import (
    ADMIN,
    IMPORTER,
    OTHER_SECRET,
    READER,
    SECRET,
    STRANGER,
    World,
    basic,
    group,
    user,
)

BOUGHT: dict[str, Any] = {
    "description": "Somebody bought something.",
    "properties": {"amount": {"type": "number", "description": "In euros."}},
    "metadata": {"com.mixpanel": {"displayName": "Purchase", "tags": ["core"]}},
}
OWN = "/api/mixdown/dictionary"


def path(world: World, rest: str = "") -> str:
    return f"/api/app/projects/{world.project.id}/schemas{rest}"


def call(world: World, method: str, rest: str = "", *, who: str | None = ADMIN, **options: Any) -> Any:
    return world.run(world.ask(path(world, rest), method=method, user=who, **options))


def results(world: World, method: str, rest: str = "", **options: Any) -> Any:
    reply = call(world, method, rest, **options)
    assert reply.status_code == 200, reply.text
    assert reply.json()["status"] == "ok"
    return reply.json()["results"]


def entry(name: str = "bought", schema: Any = None, entity_type: str = "event") -> dict[str, Any]:
    return {"entityType": entity_type, "name": name, "schemaJson": BOUGHT if schema is None else schema}


def upload(world: World, *entries: Any, **more: Any) -> Any:
    return results(world, "POST", json={"entries": entries, **more})


def test_schemas_are_uploaded_listed_and_shown_in_the_shapes_of_each_call(world: World) -> None:
    user_schema = {"properties": {"plan": {"type": "string"}}}
    assert upload(world, entry(), entry("$user", user_schema, "profile")) == {"added": 2, "deleted": 0}
    both = [entry(), entry("$user", user_schema, "profile")]
    for rest in ("", "/"):
        assert results(world, "GET", rest, who=READER) == both
    assert results(world, "GET", "/event/") == both[:1]
    assert results(world, "GET", "/profile") == both[1:]
    assert results(world, "GET", "/event?entity_name=bought") == BOUGHT
    one = call(world, "GET", "/event/bought").json()
    assert one == {**BOUGHT, "status": "ok", "results": both[:1]}


def test_an_upload_may_take_the_place_of_the_whole_dictionary(world: World) -> None:
    upload(world, entry("a"), entry("b"))
    assert upload(world, entry("c"), truncate=True) == {"added": 1, "deleted": 2}
    assert [each["name"] for each in results(world, "GET")] == ["c"]
    assert upload(world, truncate=True) == {"added": 0, "deleted": 1}


def test_one_schema_named_again_and_again_in_an_upload_is_no_way_to_keep_the_server_busy(
    world: World,
) -> None:
    again = [entry("a", {"description": str(number)}) for number in range(SAME_LIMIT)]
    upload(world, *again)
    assert results(world, "GET", "/event?entity_name=a") == {"description": str(SAME_LIMIT - 1)}
    for method in ("POST", "PATCH"):
        reply = call(world, method, json={"entries": [*again, entry("a", {"description": "x"})]})
        assert reply.status_code == 400
        assert reply.json()["error"] == f"entries, name event 'a' at most {SAME_LIMIT} times"


def test_a_schema_that_is_replaced_keeps_only_the_metadata_that_is_not_named(world: World) -> None:
    upload(world, entry())
    amount = {"type": "integer", "metadata": {"com.mixpanel": {"hidden": True}}}
    reply = call(world, "POST", "/event/bought", json={"properties": {"amount": amount}})
    assert reply.json() == {"status": "ok"}
    kept = {"com.mixpanel": {"displayName": "Purchase", "tags": ["core"]}}
    assert results(world, "GET", "/event?entity_name=bought") == {
        "properties": {"amount": amount},
        "metadata": kept,
    }
    sent = {"metadata": {"com.mixpanel": {"tags": None}}, "properties": {"amount": {"type": "number"}}}
    call(world, "POST", "/event/bought", json=sent)
    assert results(world, "GET", "/event?entity_name=bought") == {
        "properties": {"amount": {"type": "number", "metadata": {"com.mixpanel": {"hidden": True}}}},
        "metadata": {"com.mixpanel": {"displayName": "Purchase"}},
    }


def test_blanks_around_a_name_are_no_part_of_it_wherever_it_is_given(world: World) -> None:
    upload(world, entry(" bought "))
    for name in ("bought", "%20bought%20", "bought%20"):
        assert call(world, "GET", f"/event/{name}").json()["description"] == "Somebody bought something."
        assert results(world, "GET", f"/event?entity_name={name}") == entry()["schemaJson"]
    call(world, "PATCH", "/event/%20bought", json={"description": "Paid."})
    assert call(world, "GET", "/event/bought").json()["description"] == "Paid."
    assert call(world, "GET", "/event/%20").status_code == 400
    assert call(world, "DELETE", "/event/bought%20").json()["results"]["delete_count"] == 1


def test_an_event_named_with_blanks_around_has_the_words_of_its_name(world: World) -> None:
    upload(world, entry("page"))
    known = {"distinct_id": "ada", "time": world.now_ms, "insert_id": "one", "properties": {}}
    world.store_events([{"event": " page ", **known}])
    (row,) = world.get(OWN, params={"of": "events"}).json()["results"]
    assert (row["name"], row["count"], row["documented"]) == (" page ", 1, True)


def test_a_patch_merges_and_null_clears(world: World) -> None:
    upload(world, entry())
    patch = {
        "description": None,
        "properties": {"amount": {"description": None}, "tax": {"type": "number"}},
        "metadata": {"com.mixpanel": {"displayName": None, "hidden": True}},
    }
    merged = {
        "properties": {"amount": {"type": "number"}, "tax": {"type": "number"}},
        "metadata": {"com.mixpanel": {"tags": ["core"], "hidden": True}},
    }
    assert results(world, "PATCH", "/event/bought", json=patch) == entry(schema=merged)
    told = results(world, "PATCH", json={"entries": [entry("new", {"description": "x"})]})
    assert told == [{"entityType": "event", "name": "new", "status": "ok"}]
    gone = {"properties": {"amount": None, "tax": None}, "metadata": None}
    assert results(world, "PATCH", "/event/bought", json=gone) == entry(schema={})


def test_all_of_a_type_or_one_schema_may_be_deleted(world: World) -> None:
    upload(world, entry("a"), entry("b"), entry("c"), entry("$user", {}, "profile"))
    gone = {"delete_count": 1, "deleteCount": 1}
    assert results(world, "DELETE", "/event/a") == gone
    assert results(world, "DELETE", "/event?entity_name=b") == gone
    assert results(world, "DELETE", "/event/a") == {"delete_count": 0, "deleteCount": 0}
    assert call(world, "DELETE", "/event?entity_name=").status_code == 400, (
        "not all of them for an empty name"
    )
    assert results(world, "DELETE", "/event/") == gone
    assert results(world, "DELETE") == gone
    assert results(world, "GET") == []


def test_a_name_of_any_letters_is_found_again(plain_world: World) -> None:
    for name in ("a/b", "a//b", "a b", "é#?%", ".", "x/", "\U0001f389", "a\nb", "schemas"):
        upload(plain_world, entry(name))
        assert results(plain_world, "GET", "/event", params={"entity_name": name}) == BOUGHT
        quoted = "".join(f"%{byte:02X}" for byte in name.encode())
        if name != "." and not name.endswith("/"):  # the client takes these for parts of the path
            assert call(plain_world, "GET", f"/event/{quoted}").json()["results"] == [entry(name)]


@pytest.mark.parametrize(
    ("entries", "error"),
    [
        (None, "entries, must be a list"),
        ({}, "entries, must be a list"),
        ([1], "entries[0], must be an object"),
        ([entry(), {**entry(), "more": 1}], "entries[1].more, is no part of an entry"),
        ([{**entry(), "entityType": "custom_event"}], "entries[0].entityType, must be one of event, profile"),
        ([{**entry(), "name": " "}], "entries[0].name, must be a text of 1 to 255"),
        ([{**entry(), "name": "x" * 256}], "entries[0].name, must be a text of 1 to 255"),
        ([{**entry(), "schemaJson": []}], "entries[0].schemaJson, must be an object"),
        ([entry(schema={"description": 1})], "entries[0].schemaJson.description, must be a text"),
        ([entry(schema={"properties": {"p": {}}})], "entries[0].schemaJson.properties.p.type, missing"),
        (
            [entry(schema={"properties": {"p": {"type": "text"}}})],
            "entries[0].schemaJson.properties.p.type, must be one of array,",
        ),
        (
            [entry(schema={"properties": {"p": {"type": "string", "x": 1}}})],
            "entries[0].schemaJson.properties.p.x, is no part of a schema",
        ),
        (
            [entry(schema={"metadata": {"com.mixpanel": {"x": 1}}})],
            "entries[0].schemaJson.metadata.com.mixpanel.x, is no part",
        ),
        (
            [entry(schema={"metadata": {"com.mixpanel": {"dropped": True}}})],
            "entries[0].schemaJson.metadata.com.mixpanel.dropped, nothing is dropped here",
        ),
        (
            [entry(schema={"metadata": {"com.mixpanel": {"tags": "core"}}})],
            "entries[0].schemaJson.metadata.com.mixpanel.tags, must be a list",
        ),
        (
            [entry(schema={"metadata": {"com.mixpanel": {"hidden": 1}}})],
            "entries[0].schemaJson.metadata.com.mixpanel.hidden, must be true or false",
        ),
        ([entry(schema={"description": "x" * 10_001})], "entries[0].schemaJson.description, must be a text"),
    ],
)
def test_what_is_no_schema_is_refused_with_its_place_and_nothing_is_stored(
    plain_world: World, entries: Any, error: str
) -> None:
    upload(plain_world, entry("kept"))
    reply = call(plain_world, "POST", json={"entries": entries, "truncate": True})
    assert reply.status_code == 400
    assert reply.json()["error"].startswith(error)
    assert [each["name"] for each in results(plain_world, "GET")] == ["kept"]


def test_requests_that_mean_nothing_are_refused(plain_world: World) -> None:
    for body, error in (
        ({"entries": [], "truncat": True}, "truncat, is no part of an upload"),
        ({"entries": [], "truncate": "yes"}, "truncate, must be true or false"),
    ):
        reply = call(plain_world, "POST", json=body)
        assert (reply.status_code, reply.json()["error"][: len(error)]) == (400, error)
    assert call(plain_world, "PATCH", json={"entries": [], "truncate": True}).status_code == 400
    assert call(plain_world, "POST", content=b"[1]").json()["error"] == "body, must be a JSON object"
    assert call(plain_world, "GET", "/nothing").status_code == 400
    assert call(plain_world, "POST", "/nothing/x", json={}).status_code == 400
    missing = call(plain_world, "GET", "/event/none")
    assert (missing.status_code, missing.json()["error"]) == (404, "name, there is no schema of event 'none'")
    assert call(plain_world, "GET", "/event?entity_name=none").status_code == 404


def test_unknown_parts_of_a_schema_are_left_out(plain_world: World) -> None:
    sent = {"$schema": "http://json-schema.org/draft-07/schema", "required": ["x"], **BOUGHT}
    upload(plain_world, entry(schema={**sent, "metadata": {**BOUGHT["metadata"], "org.other": {"a": 1}}}))
    assert results(plain_world, "GET") == [entry()]


def test_schemas_and_uploads_are_bounded(plain_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = call(plain_world, "POST", json={"entries": [entry()] * 4001})
    assert reply.json()["error"] == "entries, must be a list of at most 4000 objects"
    monkeypatch.setattr(model, "SCHEMA_LIMIT_BYTES", 100)
    reply = call(plain_world, "POST", json={"entries": [entry()]})
    assert reply.json()["error"] == "entries[0].schemaJson, must be at most 100 bytes of JSON"
    monkeypatch.setattr("mixdown.store.dictionary.SCHEMAS_PER_PROJECT", 1)
    small = {"description": "x"}
    reply = call(plain_world, "POST", json={"entries": [entry("a", small), entry("b", small)]})
    assert reply.json()["error"].startswith("entries, a project has at most 1 schemas")
    assert results(plain_world, "GET") == []


def test_who_may_read_and_who_may_write(world: World) -> None:
    world.add_account("analyst.mp-service-account", "analyst")
    for who, secret, reads, writes in (
        ("analyst.mp-service-account", "", 200, 200),
        (READER, "", 200, 403),
        (None, SECRET, 200, 403),
        (None, OTHER_SECRET, 403, 403),
        (IMPORTER, "", 403, 403),
        (STRANGER, "", 403, 403),
    ):
        headers = {"Authorization": basic(f"{secret}:")} if secret else {}
        body = {"entries": [entry()]}
        assert call(world, "POST", who=who, headers=headers, json=body).status_code == writes, who
        assert call(world, "GET", who=who, headers=headers).status_code == reads, who
        assert call(world, "DELETE", "/event/bought", who=who, headers=headers).status_code == writes, who


# --- what is observed -----------------------------------------------------------------------------


def rows(world: World, **asked: Any) -> dict[str, Any]:
    reply = world.get(OWN, params=asked)
    assert reply.status_code == 200, reply.text
    return {row["name"]: row for row in reply.json()["results"]}


def test_profile_properties_are_told_with_counts_types_examples_and_words(world: World) -> None:
    world.send(user("ada", plan="pro", seats=3), user("bob", plan="", seats="many"))
    world.send(group("Company", "Acme", size=3), endpoint="groups")
    world.fold_all()
    of_users = {"plan": {"type": "string", "description": "x"}, "gone": {"type": "null"}}
    of_firms = {"size": {"type": "number", "description": "Staff."}}
    upload(world, entry("$user", {"properties": of_users}, "profile"))
    upload(world, entry("Company", {"properties": of_firms}, "profile"))
    users = rows(world)
    assert list(users) == ["$last_seen", "plan", "seats", "gone"]
    plan = users["plan"]
    assert (plan["count"], plan["type"], plan["example"], plan["description"]) == (2, "string", "pro", "x")
    assert (plan["documented"], users["seats"]["documented"]) == (True, False)
    assert users["seats"]["types"] == {"number": 1, "string": 1}
    assert (users["gone"]["count"], users["gone"]["type"]) == (0, "null")
    assert rows(world, of="groups", data_group_id="Company")["size"]["description"] == "Staff."


def test_events_and_their_properties_are_told(world: World) -> None:
    def event(name: str, ago_ms: int, **properties: Any) -> dict[str, Any]:
        time_ms = world.now_ms - ago_ms
        known = {"event": name, "time": time_ms, "distinct_id": "ada", "insert_id": f"{ago_ms}"}
        return {**known, "properties": properties}

    bought = [event("bought", 60_000, amount=3, note="x" * 500), event("bought", 1000, amount=4.5)]
    world.store_events([*bought, event("left", 2000)])
    upload(world, entry(), entry("planned", {"description": "To come."}))
    upload(world, entry("$all_events", {"properties": {"note": {"type": "string", "description": "Free."}}}))
    events = rows(world, of="events")
    assert list(events) == ["bought", "left", "planned"]
    assert (events["bought"]["count"], events["bought"]["display_name"]) == (2, "Purchase")
    assert events["bought"]["first_seen"] < events["bought"]["last_seen"]
    assert (events["planned"]["count"], events["planned"]["description"]) == (0, "To come.")
    every = rows(world, of="event_properties")
    assert (every["amount"]["count"], every["amount"]["type"], every["amount"]["description"]) == (
        2,
        "number",
        "",
    )
    assert (every["note"]["description"], len(every["note"]["example"])) == ("Free.", 121)
    of_one = rows(world, of="event_properties", event="bought")
    assert (of_one["amount"]["description"], of_one["note"]["description"]) == ("In euros.", "Free.")
    assert "amount" not in {
        name for name, row in rows(world, of="event_properties", event="left").items() if row["count"]
    }


def test_properties_of_many_events_are_counted_over_fewer_days(
    plain_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def event(days_ago: int, number: int) -> dict[str, Any]:
        time_ms = plain_world.now_ms - days_ago * 24 * 3600 * 1000
        known = {"event": "e", "time": time_ms, "distinct_id": "ada", "insert_id": f"{days_ago}-{number}"}
        return {**known, "properties": {f"d{days_ago}": number}}

    plain_world.store_events([event(days_ago, number) for days_ago in (0, 1, 2) for number in range(3)])
    for limit, days, names in ((9, 31, ["d0", "d1", "d2"]), (8, 2, ["d0", "d1"]), (1, 1, ["d0"])):
        monkeypatch.setattr("mixdown.http.dictionary.RECENT_EVENTS", limit)
        answer = plain_world.get(OWN, params={"of": "event_properties"}).json()
        assert (answer["days"], [row["name"] for row in answer["results"]]) == (days, names)


def test_an_empty_project_has_an_empty_dictionary(world: World) -> None:
    for of in ("users", "events", "event_properties"):
        assert rows(world, of=of) == {}
    for asked in (
        {"of": "x"},
        {"of": "groups"},
        {"data_group_id": "Company"},
        {"of": "groups", "data_group_id": "no"},
    ):
        assert world.get(OWN, params=asked).status_code == 400
