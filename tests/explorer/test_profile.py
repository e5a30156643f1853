"""The profile's page over HTTP: what it shows, whom it lets change something, and what changed meanwhile."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from mixdown.explorer import session
from mixdown.explorer.pages.profile.properties import ROWS_AT_ONCE
from tests.engine import open_store
from tests.explorer.test_session import csrf_of, sign_in
from tests.reads.support import ADMIN, NOON_MS, READER, SECRET, TOKEN, World, group, user

MINUTE_MS = 60_000
RTL = "مرحبا بالعالم"
HOSTILE = [
    "a/b/../c",
    "'\"><script>alert(1)</script>",
    RTL,
    "x" * 300,
    "__proto__",
    "a b&c=d#e?f+g%41",
    "[1]",
    "  blanks  ",
    "\u202eevil\n\ttabs",
    "$(rm -rf ~)'`\\",
]


def event(position: int, name: str, **properties: Any) -> dict[str, Any]:
    return {
        "position": position,
        "arrived": NOON_MS,
        "event": name,
        "time": NOON_MS - position * 3_600_000,
        "distinct_id": "ada",
        "insert_id": f"i{position}",
        "properties": properties,
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server that did not keep anybody waiting: people and groups that changed a minute after they came."""
    folder: Path = tmp_path_factory.mktemp("profile") / "data"
    store = open_store(folder, role="worker", create=True)
    fold = open_store(folder, role="fold", create=False)
    made = World(store, fold, read_wait_ms=0)
    charges = [
        {"$amount": 10, "$time": "2026-01-10T09:00:00"},
        {"$amount": 2.5, "$time": "2026-01-12T09:00:00"},
    ]
    ada: dict[str, Any] = {"$name": "Ada", "$email": "ada@example.com", "plan": "free", "gone": 1}
    ada["Company"] = ["Acme", 42]
    made.send(user("ada", **ada), {**user("ada"), "$append": {"$transactions": charges[0]}})
    made.send({**user("ada"), "$append": {"$transactions": charges[1]}})
    made.send(user("bob", Company="Acme"), user("shy", plan="x"), *[user(one, plan="odd") for one in HOSTILE])
    made.send(user("wide", **{f"p{number:04}": f"value {number}" for number in range(1990)}))
    made.send(group("Company", "Acme", **{"$name": "Acme Inc."}), group("Company", 42), endpoint="groups")
    made.send({"$token": TOKEN, "$distinct_id": "nobody", "$set": "no object"})
    made.fold_all()
    made.now_ms += MINUTE_MS
    made.send(user("ada", plan="pro", tags=["a"]), {**user("ada"), "$unset": ["gone"]})
    made.fold_all()
    made.now_ms += MINUTE_MS
    made.store_events(
        [event(1, "Signed in", plan="pro"), event(30, "Paid", amount=5), event(31, "<b>Odd</b>")]
    )
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _signed_in(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "FAILURE_PAUSE_S", 0.0)
    sign_in(world, ADMIN)


def look(
    world: World, rest: str = "", status: int = 200, /, *, htmx: bool = False, **asked: Any
) -> httpx.Response:
    """A page of the profile, or a part of one."""
    headers = {"Accept": "text/html", **({"HX-Request": "true"} if htmx else {})}
    target = f"/explorer/{world.project.id}/profile{rest}?{httpx.QueryParams(asked)}"
    reply = world.get(target, user=None, headers=headers)
    assert reply.status_code == status, reply.text
    return reply


def twin(world: World, rest: str = "", **asked: Any) -> Any:
    return look(world, f"{rest}.json", **asked).json()


def act(world: World, what: str, csrf: str | None = None, **fields: Any) -> httpx.Response:
    token = csrf_of(look(world, id="shy")) if csrf is None else csrf
    target = f"/explorer/{world.project.id}/profile/{what}"
    reply = world.post(target, user=None, data={"csrf": token, **fields}, headers={"Accept": "text/html"})
    world.fold_all()
    return reply


def fields_of(reply: httpx.Response, action: str) -> dict[str, str]:
    """What a form of the page would send."""
    form = re.search(rf'<form[^>]* action="[^"]*/profile/{action}".*?</form>', reply.text, re.DOTALL)
    assert form, reply.text
    pairs = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form[0])
    return {name: html.unescape(value) for name, value in pairs}


def held(world: World, profile_id: str, **asked: Any) -> dict[str, Any]:
    rows = world.page(distinct_id=profile_id, **asked)["results"]
    return dict(rows[0]["$properties"]) if rows else {}


# --- what it shows


def test_properties_are_shown_as_people_name_them_with_type_and_last_change(world: World) -> None:
    text = look(world, id="ada").text
    for shown in ("E-mail", "$email", "ada@example.com", "Ada"):
        assert shown in text
    rows = {row["name"]: row for row in twin(world, id="ada")["properties"]}
    assert [rows[name]["type"] for name in ("$email", "Company", "$last_seen")] == ["text", "list", "date"]
    assert rows["$email"]["label"] == "E-mail"
    assert rows["plan"]["changed"]["time_ms"] == NOON_MS + MINUTE_MS
    assert rows["$email"]["changed"]["time_ms"] == NOON_MS
    assert [*rows][:3] == ["$name", "$email", "$last_seen"]
    assert not rows["$last_seen"]["editable"]


def test_two_thousand_properties_come_in_pieces_and_are_searched(world: World) -> None:
    first = look(world, id="wide").text
    assert first.count('<th scope="row">') == ROWS_AT_ONCE
    rest = look(world, "/properties", htmx=True, **{"id": "wide", "from": ROWS_AT_ONCE}).text
    assert rest.count('<th scope="row">') == ROWS_AT_ONCE
    assert "<table" not in rest
    assert len(twin(world, id="wide")["properties"]) == 1991
    assert [row["name"] for row in twin(world, id="wide", find="VALUE 1234")["properties"]] == ["p1234"]
    assert twin(world, id="wide", find="p12")["total"] == 1991
    assert "Nothing found" in look(world, "/properties", id="wide", find="no such text").text


def test_a_profile_is_shown_as_it_stood_with_what_differs_from_now(world: World) -> None:
    shown = twin(world, id="ada", at=str(NOON_MS))
    differs = {row["name"]: row["difference"] for row in shown["properties"] if row["difference"]}
    assert differs.pop("$last_seen") == "changed"
    assert differs == {"gone": "gone since", "plan": "changed", "tags": "new since"}
    plan = next(row for row in shown["properties"] if row["name"] == "plan")
    assert (plan["value"], plan["now"]) == ("free", "pro")
    assert [stop["at_ms"] for stop in shown["history"]["stops"]] == [NOON_MS, NOON_MS + MINUTE_MS]
    only = twin(world, id="ada", at="2026-01-15T12:00:00", differing="1")["properties"]
    assert {row["name"] for row in only} == {*differs, "$last_seen"}
    assert not twin(world, id="ada", at=str(NOON_MS - 1))["stood"]
    assert "is no time" in look(world, "", 400, id="ada", at="then").text


def test_history_is_filtered_and_says_what_was_before_and_after(world: World) -> None:
    entries = twin(world, "/history", id="ada", property="plan")["entries"]
    assert [(one.get("old"), one["new"]) for one in entries] == [("free", "pro"), (None, "free")]
    assert {one["operator"] for one in twin(world, "/history", id="ada", operator="$append")["entries"]} == {
        "$append"
    }
    assert "operator: must be one of" in look(world, "/history", 400, id="ada", operator="x").text
    assert "Put this back" in look(world, "/history", htmx=True, id="ada").text


def test_activity_is_grouped_by_day_filtered_and_leads_to_the_event(world: World) -> None:
    days = twin(world, "/activity", id="ada")["days"]
    assert [(day["day"], len(day["events"])) for day in days] == [("2026-01-15", 1), ("2026-01-14", 2)]
    text = look(world, "/activity", htmx=True, id="ada").text
    assert f'href="/explorer/{world.project.id}/event?name=Signed+in"' in text
    assert "<b>Odd</b>" not in text

    def names(**filters: str) -> list[str]:
        days = twin(world, "/activity", id="ada", **filters)["days"]
        return [event["event"] for day in days for event in day["events"]]

    assert names(event="Paid") == ["Paid"]
    assert names(property="plan", search="PRO") == ["Signed in"]
    assert names(from_date="2026-01-15") == ["Signed in"]
    assert names(to_date="2026-01-14") == ["Paid", "<b>Odd</b>"]


def test_a_users_groups_and_a_groups_members_lead_to_one_another(world: World) -> None:
    (company,) = twin(world, "/groups", id="ada")["found"]
    assert [(one["id"], one["exists"], one["name"]) for one in company["groups"]] == [
        ("Acme", True, "Acme Inc."),
        ("42", True, ""),
    ]
    members = twin(world, "/members", id="Acme", group_key="Company")
    assert ([one["id"] for one in members["members"]], members["total"]) == (["ada", "bob"], 2)
    number = twin(world, "/members", id="42", group_key="Company")
    assert [one["id"] for one in number["members"]] == ["ada"]
    assert twin(world, id="Acme", group_key="Company")["tabs"] == ["activity", "history", "members", "code"]


def test_revenue_is_summed_listed_and_drawn_by_day(world: World) -> None:
    shown = twin(world, "/revenue", id="ada")
    assert (shown["sum"], shown["count"]) == (12.5, 2)
    assert [one["amount"] for one in shown["charges"]] == [2.5, 10]
    assert shown["chart"]["series"][0]["values"] == [10, 0, 2.5]
    assert "No revenue" in look(world, "/revenue", id="bob").text


def test_an_id_without_a_profile_tells_what_is_known_of_it(world: World) -> None:
    text = look(world, id="nobody").text
    assert "There is no such profile" in text
    assert twin(world, id="nobody")["profile"]["exists"] is False
    known = look(world, "/known", id="nobody").text
    assert "refused" in known
    assert "$set" in known
    assert "The user" in look(world, "/known", id="ada", group_key="Company").text
    assert "There is no such profile" in look(world, id="x", group_key="No such key").text
    for rest in ("/history", "/activity", "/members", "/code"):
        look(world, rest, id="x", group_key="No such key")


@pytest.mark.parametrize("profile_id", HOSTILE)
def test_an_id_of_any_kind_is_shown_as_text_and_leads_to_itself(world: World, profile_id: str) -> None:
    shown = twin(world, id=profile_id)
    assert shown["profile"] == {**shown["profile"], "id": profile_id, "exists": True}
    text = look(world, id=profile_id).text
    assert "<script>alert" not in text
    links = [html.unescape(link) for link in re.findall(r'hx-get="([^"]+)"', text)]
    named = [parse_qs(urlsplit(link).query, keep_blank_values=True) for link in links]
    assert {ids["id"][0] for ids in named if "id" in ids} == {profile_id}
    for rest in ("/properties", "/history", "/activity", "/groups", "/identity", "/revenue", "/code"):
        assert "<script>alert" not in look(world, rest, htmx=True, id=profile_id).text
    write = shlex.split(twin(world, "/code", id=profile_id)["write"])
    (record,) = json.loads(write[-1])
    assert (record["$distinct_id"], record["$set"]["plan"]) == (profile_id, "odd")


def test_a_page_without_an_id_says_so(world: World) -> None:
    for rest in ("", "/history", "/edit"):
        assert "id: missing" in look(world, rest, 400).text


# --- changing it


def test_an_edit_shows_the_update_then_sends_it_and_history_names_who(world: World) -> None:
    editor = look(world, "/edit", htmx=True, id="bob", name="Company")
    assert fields_of(editor, "review")["expected"] == '"Acme"'
    fields = {**fields_of(editor, "review"), "type": "number", "value": "12.5"}
    review = act(world, "review", **fields)
    assert review.status_code == 200
    assert "Company" not in held(world, "bob") or held(world, "bob")["Company"] == "Acme"
    assert "curl " in review.text
    assert "&#34;Company&#34;: 12.5" in review.text
    sent = act(world, "send", **fields_of(review, "send"))
    assert (sent.status_code, sent.headers["location"]) == (
        303,
        f"/explorer/{world.project.id}/profile?id=bob",
    )
    assert held(world, "bob")["Company"] == 12.5
    newest = twin(world, "/history", id="bob")["entries"][0]
    assert (newest["old"], newest["new"], newest["sdk"]) == ("Acme", 12.5, f"explorer {ADMIN}")
    assert held(world, "bob")["$last_seen"] == "2026-01-15T12:00:00"


def test_a_property_is_added_and_unset(world: World) -> None:
    added = {"id": "shy", "name": "likes", "is_new": "1", "expected": "", "type": "list", "value": '["tea"]'}
    act(world, "send", **fields_of(act(world, "review", **added), "send"))
    assert held(world, "shy")["likes"] == ["tea"]
    question = look(world, "/unset", htmx=True, id="shy", name="likes")
    assert "$unset" in question.text
    act(world, "send", **fields_of(question, "send"))
    assert "likes" not in held(world, "shy")
    look(world, "/unset", 404, id="shy", name="likes")


def test_a_value_that_changed_meanwhile_is_shown_and_not_overwritten(world: World) -> None:
    review = act(world, "review", id="shy", name="plan", type="text", value="mine", expected='"x"')
    fields = fields_of(review, "send")
    world.send(user("shy", plan="theirs"))
    world.fold_all()
    conflict = act(world, "send", **fields)
    assert conflict.status_code == 409
    for text in ("changed", "theirs", "mine", ">x<"):
        assert text in conflict.text
    assert held(world, "shy")["plan"] == "theirs"
    assert act(world, "send", **fields_of(conflict, "send")).status_code == 303
    assert held(world, "shy")["plan"] == "mine"
    new = act(world, "review", id="shy", name="plan", type="text", value="x", expected="")
    assert new.status_code == 409, "it was added meanwhile"
    restored = act(world, "send", **fields_of(new, "send"))
    assert restored.status_code == 303


def test_what_cannot_be_stored_is_said_beside_the_value_and_nothing_is_sent(world: World) -> None:
    bad = act(world, "review", id="shy", name="plan", type="number", value="many", expected='"x"')
    assert bad.status_code == 400
    assert "write a number" in bad.text
    assert 'value="many"' in bad.text
    assert act(world, "review", id="shy", name="$token", type="text", value="x").status_code == 400
    refused = act(world, "send", id="shy", name="plan", op="set", payload='{"a":{"b":{"c":{"d":1}}}}')
    assert refused.status_code == 400
    assert "plan" in refused.text
    broken = act(world, "send", id="shy", name="plan", op="set", payload="{")
    assert broken.status_code == 400


def test_one_property_is_put_back_from_history(world: World) -> None:
    review = look(world, "/restore", htmx=True, id="ada", name="plan", at=str(NOON_MS))
    assert fields_of(review, "send")["payload"] == '"free"'
    act(world, "send", **fields_of(review, "send"))
    assert held(world, "ada")["plan"] == "free"
    act(world, "send", id="ada", name="plan", op="set", payload='"pro"', expected='"free"')
    assert held(world, "ada")["plan"] == "pro"


def test_a_profile_is_put_back_after_what_would_change_was_shown(world: World) -> None:
    world.now_ms += MINUTE_MS
    at = str(world.now_ms - 1)
    before = held(world, "bob")
    act(world, "send", id="bob", name="late", op="set", payload="1", expected="")
    question = look(world, "/undo", htmx=True, id="bob", at=at)
    assert "late" in question.text
    fields = fields_of(question, "undo")
    act(world, "send", id="bob", name="later", op="set", payload="2", expected="")
    conflict = act(world, "undo", **fields)
    assert conflict.status_code == 409
    assert "later" in conflict.text
    assert "later" in held(world, "bob")
    done = act(world, "undo", **fields_of(conflict, "undo"))
    assert done.status_code == 303
    assert held(world, "bob") == before


def test_a_group_is_edited_too(world: World) -> None:
    act(world, "send", id="Acme", group_key="Company", name="seats", op="set", payload="9", expected="")
    assert held(world, "Acme", data_group_id="Company")["seats"] == 9


@pytest.mark.parametrize("profile_id", HOSTILE)
def test_an_id_of_any_kind_is_edited(world: World, profile_id: str) -> None:
    asked = {"id": profile_id, "name": "__proto__", "type": "object", "value": '{"a":1}', "expected": ""}
    review = act(world, "review", **asked)
    assert act(world, "send", **fields_of(review, "send")).status_code == 303
    assert held(world, profile_id) == {**held(world, profile_id), "plan": "odd", "__proto__": {"a": 1}}


# --- who may


def test_a_consumer_sees_no_controls_and_no_token_and_may_send_nothing(world: World) -> None:
    sign_in(world, READER)
    csrf = csrf_of(look(world, id="ada"))
    for rest in ("", "/properties", "/history", "/identity", "/code", "/activity"):
        text = look(world, rest, id="ada", changed="1", at="").text
        for control in ("/edit?", "/unset?", "/erase", "/undo", "/restore", "/unmerge", TOKEN, SECRET):
            assert control not in text, (rest, control)
    for rest in ("/edit", "/unset", "/undo", "/restore", "/erase", "/unmerge", "/erasure"):
        look(world, rest, 403, id="ada", name="plan", at=str(NOON_MS))
    before = held(world, "ada")
    for what in ("review", "send", "undo", "erase", "unmerge", "cancel"):
        fields = {
            "id": "ada",
            "name": "plan",
            "op": "set",
            "payload": "1",
            "confirm": "ada",
            "at": str(NOON_MS),
        }
        assert act(world, what, csrf, **fields).status_code == 403
    assert held(world, "ada") == before


def test_a_form_without_the_sessions_token_is_refused(world: World) -> None:
    for what in ("review", "send", "undo", "erase", "unmerge", "cancel"):
        assert act(world, what, "", id="ada", confirm="ada").status_code == 403
    assert held(world, "ada")["plan"] == "pro"


# --- identities, erasing


def test_linked_ids_are_one_person_until_an_admin_takes_one_apart(world: World) -> None:
    properties = {"token": TOKEN, "$device_id": "D1", "$user_id": "lin", "$insert_id": "l1"}
    world.send({"event": "Signed in", "properties": properties}, endpoint="track")
    world.send(user("lin", plan="pro"))
    world.fold_all()
    shown = twin(world, "/identity", id="$device:D1")
    assert (shown["canonical"], [one["id"] for one in shown["ids"]]) == ("lin", ["lin", "$device:D1"])
    page = twin(world, id="$device:D1")
    assert (page["profile"]["id"], page["is_alias"]) == ("lin", True)
    assert not twin(world, id="$device:D1", own="1")["profile"]["exists"]
    wrong = act(world, "unmerge", id="lin", apart="$device:D1", confirm="lin")
    assert wrong.status_code == 400
    assert act(world, "unmerge", id="lin", apart="$device:D1", confirm="$device:D1").status_code == 303
    assert twin(world, "/identity", id="$device:D1")["canonical"] == "$device:D1"


def test_erasing_takes_the_id_itself_and_shows_how_far_it_is(world: World) -> None:
    world.send(user("leaver", plan="x"))
    world.fold_all()
    assert "cannot be undone" in look(world, "/erase", htmx=True, id="leaver").text
    assert act(world, "erase", id="leaver", confirm="Leaver").status_code == 400
    breaks = "a\nb"
    assert act(world, "erase", id=breaks, confirm="ab").status_code == 303, "no field takes the line break"
    assert held(world, "leaver")
    ordered = act(world, "erase", id="leaver", confirm="leaver")
    assert ordered.status_code == 303
    job = parse_qs(urlsplit(ordered.headers["location"]).query)["erased"][0]
    assert not held(world, "leaver")
    state = look(world, "/erasure", htmx=True, id="leaver", job=job).text
    assert "under way" in state
    assert "every 1s" in state
    assert twin(world, id="leaver")["job"] == job, "the job is found again without its address"
    assert "no such job" in look(world, "/erasure", 404, id="leaver", job="0" * 32).text
    look(world, "/erasure", 400, id="leaver", job="../x")
