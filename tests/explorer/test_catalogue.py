"""Cohorts, lookup tables, refusals and the data dictionary in the explorer: what each role may do."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.engine import plain_store
from tests.explorer.support import NASTY, tags_of
from tests.explorer.test_session import csrf_of, sign_in
from tests.reads.support import ADMIN, OTHER_TOKEN, OWNER, READER, TOKEN, World, group, user

ANALYST = "analyst.mp-service-account"


@pytest.fixture
def world() -> Iterator[World]:
    """A server with an account of each role, signed in as admin."""
    made = World(plain_store())
    made.add_account(ANALYST, "analyst")
    as_user(made, ADMIN)
    yield made
    made.close()


def as_user(world: World, who: str) -> None:
    world.http.cookies.clear()
    assert sign_in(world, who).status_code == 303


def at(world: World, rest: str) -> str:
    return f"/explorer/{world.project.id}/{rest}"


def page(world: World, rest: str, *, status: int = 200) -> str:
    reply = world.get(at(world, rest), user=None)
    assert reply.status_code == status, reply.text[-900:]
    return html.unescape(reply.text)


def data(world: World, rest: str) -> Any:
    name, _, query = rest.partition("?")
    reply = world.get(at(world, f"{name}.json?{query}"), user=None)
    assert reply.status_code == 200, reply.text[-900:]
    return reply.json()


def act(world: World, rest: str, *, token: str | None = None, **fields: Any) -> httpx.Response:
    """Send a form of a page, as a browser that has read it."""
    csrf = csrf_of(world.get(at(world, "cohorts"), user=None)) if token is None else token
    return world.post(at(world, rest), user=None, data={"csrf": csrf, **fields})


def done(world: World, rest: str, **fields: Any) -> str:
    """Send a form that works; the notice of the page that follows."""
    reply = act(world, rest, **fields)
    assert reply.status_code == 303, reply.text
    after = world.get(reply.headers["location"], user=None)
    found = re.search(r'<p class="(?:notice|problem)"[^>]*>([^<]*)', after.text)
    assert found, after.text
    return html.unescape(found[1])


def refuse(world: World, *records: Any, endpoint: str = "engage") -> None:
    world.send(*records, endpoint=endpoint)


@pytest.mark.parametrize("who", [READER, OWNER])
def test_every_page_opens_for_everyone_who_reads_and_teaches_while_it_is_empty(
    world: World, who: str
) -> None:
    as_user(world, who)
    for rest in ("cohorts", "lookup-tables", "refusals", "dictionary", "dictionary/rows?of=events"):
        assert 'class="empty"' in page(world, rest), rest
    for rest in ("cohorts", "lookup-tables", "refusals", "dictionary?of=events"):
        assert data(world, rest), rest


@pytest.mark.parametrize(
    "rest",
    ["cohorts/save", "cohorts/delete", "lookup-tables/create", "lookup-tables/delete", "refusals/resend",
     "dictionary/save"],
)  # fmt: skip
def test_nothing_changes_without_the_role_or_the_token_of_the_form(world: World, rest: str) -> None:
    assert act(world, rest, token="0" * 64).status_code == 403
    as_user(world, READER)
    page(world, "cohorts")
    token = csrf_of(world.get(at(world, "cohorts"), user=None))
    reply = act(world, rest, token=token)
    assert reply.status_code == 403
    assert "Your role does not include this" in reply.text


# --- cohorts --------------------------------------------------------------------------------------


def test_a_cohort_is_made_counted_changed_and_deleted(world: World) -> None:
    world.send(user("ada", plan="pro"), user("bob", plan="free"))
    world.fold_all()
    as_user(world, ANALYST)
    where = 'properties["plan"] == "pro"'
    assert "was saved" in done(world, "cohorts/save", name="Payers", where=where, members="where")
    assert 'hx-trigger="load"' in page(world, "cohorts")
    rows = page(world, "cohorts/rows")
    assert where in rows
    assert re.search(r'href="/explorer/1/users\?cohort=1">1</a>', rows)
    assert data(world, "cohorts?counts=1")["cohorts"][0]["count"] == 1
    form = page(world, "cohorts/edit?id=1")
    assert "Payers" in form
    changed = done(
        world, "cohorts/save", id="1", name="All", description="Everyone", where="true", members="where"
    )
    assert "All" in changed
    [cohort] = data(world, "cohorts?counts=1")["cohorts"]
    assert (cohort["name"], cohort["description"], cohort["where"], cohort["count"]) == (
        "All",
        "Everyone",
        "true",
        2,
    )
    done(world, "cohorts/save", id="1", name="All", description="", where="true", members="where")
    assert data(world, "cohorts")["cohorts"][0]["description"] == ""
    assert "deleted" in done(world, "cohorts/delete", id="1", name="All")
    assert data(world, "cohorts")["total"] == 0


def test_a_wrong_expression_is_shown_where_it_is_wrong_and_nothing_is_lost(world: World) -> None:
    reply = act(world, "cohorts/save", name="Mine", description="kept", where="plan == 1", members="where")
    assert reply.status_code == 400
    text = html.unescape(reply.text)
    assert "at position" in text
    assert "<mark>" in reply.text
    for kept in ("Mine", "kept", "plan == 1"):
        assert kept in text
    checked = world.get(at(world, "cohorts/check"), user=None, params={"where": "1 ="})
    assert checked.status_code == 200
    assert "<mark>" in checked.text
    counted = world.get(at(world, "cohorts/check"), user=None, params={"where": "true"})
    assert "match now" in counted.text


def test_a_cohort_of_groups_and_a_list_of_ids_lead_to_their_people(world: World) -> None:
    world.send(group("Company", "Acme", size=3), endpoint="groups")
    world.fold_all()
    done(world, "cohorts/save", name="firms", where="true", key="Company", members="where")
    done(world, "cohorts/save", name="beta", ids="ada\nb,o b\n\n", members="ids")
    firms, beta = data(world, "cohorts?counts=1")["cohorts"]
    assert firms["people"] == "/explorer/1/groups?key=Company&cohort=1"
    assert (beta["where"], beta["count"]) == (None, 2)
    assert list(world.store.cohorts.ids(2)) == ["ada", "b,o b"]
    assert "list of ids" in page(world, "cohorts/edit?id=2")
    done(world, "cohorts/save", id="2", name="beta 2", members="ids")
    assert data(world, "cohorts?q=BETA")["cohorts"][0]["name"] == "beta 2"
    assert "no such cohort" in page(world, "cohorts/edit?id=77", status=404)


# --- lookup tables --------------------------------------------------------------------------------


def upload(world: World, table_id: str, csv: bytes, **headers: str) -> httpx.Response:
    token = csrf_of(world.get(at(world, "cohorts"), user=None))
    sent = {"X-CSRF-Token": token, "Content-Type": "text/csv", **headers}
    return world.post(at(world, f"lookup-tables/upload?id={table_id}"), user=None, content=csv, headers=sent)


def test_a_lookup_table_is_made_filled_looked_into_fetched_and_deleted(world: World) -> None:
    assert "was made" in done(world, "lookup-tables/create", name="plans")
    [table] = data(world, "lookup-tables")["tables"]
    reply = upload(world, table["id"], b"plan,price\npro,12.5\nfree,0\n")
    assert (reply.status_code, reply.json()) == (200, {"code": 200, "status": "OK"})
    shown = page(world, f"lookup-tables/table?id={table['id']}")
    assert 'lookup["plans"]["price"]' in shown
    first = page(world, f"lookup-tables/first-rows?id={table['id']}")
    assert first.index("plan") < first.index("12.5") < first.index("free")
    fetched = world.get(at(world, f"lookup-tables/download?id={table['id']}"), user=None)
    assert fetched.text == "plan,price\r\npro,12.5\r\nfree,0\r\n"
    assert 'filename="plans.csv"' in fetched.headers["content-disposition"]
    assert "deleted" in done(world, "lookup-tables/delete", id=table["id"], name="plans")
    assert data(world, "lookup-tables")["tables"] == []


def test_rows_that_are_wrong_come_back_with_their_index_and_reason(world: World) -> None:
    done(world, "lookup-tables/create", name="plans")
    [table] = data(world, "lookup-tables")["tables"]
    reply = upload(world, table["id"], b"plan,price\npro,1\n,2\n")
    assert reply.status_code == 400
    assert reply.json()["failed_records"] == [
        {"index": 2, "message": "primary key is required and cannot be blank"}
    ]
    assert upload(world, "none", b"a\n1\n").status_code == 404
    assert upload(world, table["id"], b"a\n", **{"X-CSRF-Token": "0" * 64}).status_code == 403
    assert "A name" not in act(world, "lookup-tables/create", name="").text
    assert act(world, "lookup-tables/create", name="plans").status_code == 400


def test_readers_see_tables_and_no_control_that_would_be_refused(world: World) -> None:
    done(world, "lookup-tables/create", name="plans")
    [table] = data(world, "lookup-tables")["tables"]
    for who in (READER, ANALYST):
        as_user(world, who)
        for rest in ("lookup-tables", f"lookup-tables/table?id={table['id']}"):
            reply = world.get(at(world, rest), user=None)
            actions = {a.get("action") for tag, a in tags_of(reply) if tag == "form"}
            assert {action for action in actions if "lookup" in (action or "")} == set()
            assert 'type="file"' not in reply.text


# --- refusals -------------------------------------------------------------------------------------


def test_refusals_are_told_with_index_field_reason_record_and_what_to_do(world: World) -> None:
    refuse(world, user("ada"), {"$token": TOKEN, "$set": {"plan": "pro"}})
    text = page(world, "refusals")
    for told in ("$distinct_id, missing or empty", "index 1", '"plan": "pro"', "/engage"):
        assert told in text
    assert "curl 'http://mixdown.test/engage?verbose=1&strict=1'" in text
    assert "Give a non-empty text or a number." in page(world, "refusals/reasons")
    [refusal] = data(world, "refusals")["refusals"]
    assert (refusal["index"], refusal["field"]) == (1, "$distinct_id")
    fetched = world.get(at(world, f"refusals/record?id={refusal['id']}"), user=None)
    assert fetched.json() == {"$token": TOKEN, "$set": {"plan": "pro"}}


def test_refusals_are_filtered_by_reason_endpoint_field_text_and_time(world: World) -> None:
    refuse(world, {"$token": TOKEN, "$set": {"plan": "pro"}})
    refuse(world, {"$token": TOKEN, "$group_key": "Company", "$set": {"a": 1}}, endpoint="groups")

    def endpoints(query: str) -> list[str]:
        return [each["endpoint"] for each in data(world, f"refusals?{query}")["refusals"]]

    assert endpoints("") == ["groups", "engage"]
    assert endpoints("reason=distinct_id_missing") == ["engage"]
    assert endpoints("endpoint=groups") == ["groups"]
    assert endpoints("field=%24distinct_id") == ["engage"]
    assert endpoints("text=PRO") == ["engage"]
    assert endpoints("since=2026-01-15T12:00:00&until=2026-01-15T12:00:01") == ["groups", "engage"]
    assert endpoints("until=2026-01-15T12:00:00") == []
    assert 'hx-trigger="load"' in page(world, "refusals?text=pro")
    assert "is no time" in page(world, "refusals?since=x", status=400)
    assert "No refusal fits" in page(world, "refusals/list?text=nothing")


def test_refusals_are_read_a_page_at_a_time(world: World) -> None:
    refuse(world, *({"$token": TOKEN, "$set": {"n": n}} for n in range(40)))
    first = data(world, "refusals")
    second = data(world, first["more"].partition("/explorer/1/")[2])
    assert (len(first["refusals"]), len(second["refusals"]), second["more"]) == (25, 15, "")
    assert not {each["id"] for each in first["refusals"]} & {each["id"] for each in second["refusals"]}


def test_an_admin_mends_one_and_sends_many_again(world: World) -> None:
    refuse(world, *({"$token": TOKEN, "$set": {"n": n}} for n in range(3)))
    third, second, first = [each["id"] for each in data(world, "refusals")["refusals"]]
    mended = json.dumps({"$token": TOKEN, "$distinct_id": "ada", "$set": {"n": 7}})
    assert done(world, "refusals/resend", ids=str(first), record=mended) == "1 record was stored."
    world.fold_all()
    assert world.page(distinct_id="ada")["results"][0]["$properties"]["n"] == 7
    told = done(world, "refusals/resend", ids=[str(second), str(third)], back="endpoint=engage&x=1")
    assert told == "2 records are still refused: $distinct_id, missing or empty"
    assert "no JSON yet" in done(world, "refusals/resend", ids=str(second), record="{")
    assert "one JSON object" in done(world, "refusals/resend", ids=str(second), record="[1]")
    assert "Choose at least one" in done(world, "refusals/resend")
    assert len(data(world, "refusals")["refusals"]) == 2
    token = csrf_of(world.get(at(world, "cohorts"), user=None))
    fields = {"csrf": token, "ids": str(second), "record": "{}"}
    part = world.post(at(world, "refusals/resend"), user=None, data=fields, headers={"HX-Request": "true"})
    assert (part.status_code, "still refused" in part.text, "<html" in part.text) == (200, True, False)


def test_readers_see_no_token_in_a_record_and_cannot_send_it(world: World) -> None:
    refuse(world, {"$token": TOKEN, "$set": {"plan": "pro"}})
    as_user(world, READER)
    for rest in ("refusals", "refusals.json"):
        text = world.get(at(world, rest), user=None).text
        assert TOKEN not in text
        assert "YOUR_TOKEN" in text
    [refusal] = data(world, "refusals")["refusals"]
    assert TOKEN not in world.get(at(world, f"refusals/record?id={refusal['id']}"), user=None).text
    assert "refusals/resend" not in page(world, "refusals")


def test_the_owner_alone_sees_unknown_tokens_and_brings_their_records_home(world: World) -> None:
    refuse(world, user("lost", token="nobody's", plan="pro"))
    refuse(world, {"$token": OTHER_TOKEN, "$set": {"theirs": 1}})
    assert data(world, "refusals?unknown=1")["refusals"] == []
    assert "Unknown token" not in page(world, "refusals")
    as_user(world, OWNER)
    assert data(world, "refusals")["refusals"] == []
    [lost] = data(world, "refusals?unknown=1")["refusals"]
    assert (lost["project_id"], "nobody's" in lost["record"]) == (None, True)
    assert done(world, "refusals/resend", ids=str(lost["id"]), unknown="1") == "1 record was stored."
    world.fold_all()
    assert [row["$distinct_id"] for row in world.page(distinct_id="lost")["results"]] == ["lost"]


# --- the dictionary -------------------------------------------------------------------------------


def test_properties_are_searched_described_and_cleared_again(world: World) -> None:
    world.send(user("ada", plan="pro", seats=3))
    world.fold_all()
    as_user(world, ANALYST)
    text = page(world, "dictionary")
    for told in ("plan", "seats", "pro", "Describe"):
        assert told in text
    fields = {"of": "users", "name": "plan", "type": "string"}
    told = done(
        world,
        "dictionary/save",
        **fields,
        description="What they pay.",
        display_name="Plan",
        tags="core, money",
        owners="ada@example.com",
        hidden="1",
    )
    assert "plan" in told
    [row] = data(world, "dictionary?q=MONEY")["rows"]
    assert (row["name"], row["display_name"], row["tags"]) == ("plan", "Plan", ["core", "money"])
    assert (row["hidden"], row["owners"], row["declared_type"]) == (True, ["ada@example.com"], "string")
    names = [row["name"] for row in data(world, "dictionary?only=undocumented")["rows"]]
    assert sorted(names) == ["$last_seen", "seats"]
    assert "What they pay." in page(world, "dictionary/entry?of=users&name=plan")
    assert "pro" in page(world, "dictionary/facts?of=users&name=plan")
    done(world, "dictionary/save", **fields)
    assert data(world, "dictionary?only=documented")["rows"] == []
    assert world.store.dictionary.listing(world.project.id)[0].schema == b"{}"


def test_events_and_their_properties_are_described(world: World) -> None:
    event = {"event": "bought", "time": world.now_ms, "distinct_id": "ada", "insert_id": "1"}
    world.store_events([{**event, "properties": {"amount": 3}}])
    done(world, "dictionary/save", of="events", name="bought", description="A sale.")
    done(world, "dictionary/save", of="event_properties", name="amount", type="number", description="Euros.")
    rows = page(world, "dictionary/rows?of=events")
    assert "A sale." in rows
    assert "Euros." in page(world, "dictionary/rows?of=event_properties&event=bought")
    facts = page(world, "dictionary/facts?of=event_properties&name=amount")
    assert "Top values" in facts
    kept = {
        entry.name: json.loads(entry.schema) for entry in world.store.dictionary.listing(world.project.id)
    }
    assert kept["bought"] == {"description": "A sale."}
    assert kept["$all_events"]["properties"]["amount"] == {"type": "number", "description": "Euros."}


def test_readers_see_what_is_written_and_cannot_write(world: World) -> None:
    world.send(user("ada", plan="pro"))
    world.fold_all()
    as_user(world, READER)
    text = page(world, "dictionary/entry?of=users&name=plan")
    assert "Save" not in text
    assert "readonly" in text
    assert "Describe" not in page(world, "dictionary")


def test_a_long_dictionary_is_read_a_piece_at_a_time(world: World) -> None:
    for start in (0, 150):
        properties: dict[str, Any] = {f"p{n:04}": n for n in range(start, start + 150)}
        world.send(user("ada", **properties))
    world.fold_all()
    first = page(world, "dictionary")
    more = re.search(r'hx-get="([^"]+offset=200[^"]*)"', world.get(at(world, "dictionary"), user=None).text)
    assert more
    rest = world.get(html.unescape(more[1]), user=None).text
    assert first.count('<th scope="row"') + rest.count('<th scope="row"') == 301
    assert len(data(world, "dictionary")["rows"]) == 301


@pytest.mark.parametrize("rest", ["dictionary?of=x", "dictionary?of=groups", "dictionary/rows?offset=x"])
def test_what_is_no_part_of_the_dictionary_is_refused_in_words(world: World, rest: str) -> None:
    page(world, rest, status=400)


# --- what is hostile ------------------------------------------------------------------------------


def test_hostile_texts_stay_text_on_every_page(world: World) -> None:
    world.send(user(NASTY, **{NASTY: NASTY}), {"$token": TOKEN, NASTY: NASTY, "$set": {NASTY: "\ud800"}})
    hostile: dict[str, Any] = {NASTY: 1}
    world.send(group(NASTY, NASTY, **hostile), endpoint="groups")
    world.fold_all()
    known = {"event": NASTY, "time": world.now_ms, "distinct_id": "ada", "insert_id": "1"}
    world.store_events([{**known, "properties": {NASTY: NASTY}}])
    done(world, "cohorts/save", name=NASTY, description=NASTY, where="true", members="where")
    done(world, "lookup-tables/create", name=NASTY)
    [table] = data(world, "lookup-tables")["tables"]
    assert (
        upload(world, table["id"], f'"{NASTY.replace(chr(34), chr(34) * 2)}"\n1\n'.encode()).status_code
        == 200
    )
    done(world, "dictionary/save", of="users", name=NASTY, type="string", description=NASTY, tags=NASTY)
    for rest, params in (
        ("cohorts", {}),
        ("cohorts/rows", {"q": "<"}),
        ("cohorts/edit", {"id": 1}),
        ("lookup-tables", {}),
        ("lookup-tables/table", {"id": table["id"]}),
        ("lookup-tables/first-rows", {"id": table["id"]}),
        ("refusals", {}),
        ("refusals/reasons", {}),
        ("dictionary", {}),
        ("dictionary", {"of": "groups", "key": NASTY}),
        ("dictionary/rows", {"of": "events"}),
        ("dictionary/rows", {"of": "event_properties", "event": NASTY}),
        ("dictionary/entry", {"of": "users", "name": NASTY}),
        ("dictionary/facts", {"of": "event_properties", "name": NASTY}),
    ):
        reply = world.get(at(world, rest), user=None, params=params)
        assert reply.status_code == 200, (rest, reply.text[-900:])
        tags = tags_of(reply)
        assert "<img src=x" not in reply.text
        assert all(tag != "img" or "onerror" not in attributes for tag, attributes in tags), rest
        assert all("src" in attributes for tag, attributes in tags if tag == "script"), rest
        assert not any(name.startswith("on") for _, attributes in tags for name in attributes), rest
        assert not any("style" in attributes for _, attributes in tags), rest
