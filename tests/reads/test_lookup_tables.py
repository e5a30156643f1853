"""Lookup tables over HTTP: made, replaced by CSV as Mixpanel takes it, and joined in expressions."""

from __future__ import annotations

import errno
import gzip
import tempfile
import time
from typing import Any

import httpx
import orjson
import pytest

from mixdown.http import lookup_tables
from mixdown.model.errors import StoreError
from mixdown.store.lookup_tables import REPLACEMENTS_A_DAY
from tests.reads.support import (
    ADMIN,
    DAY_MS,
    ENGAGE,
    IMPORTER,
    OTHER_SECRET,
    OWNER,
    READER,
    SECRET,
    STRANGER,
    World,
    basic,
    ids_of,
    user,
)

OWN = "/api/mixdown/lookup-tables"
PLANS = (
    b'plan,price,since,trial,regions\nfree,0,2024-01-01T00:00:00Z,TRUE,\npro,12.5,,false,"[""EU"",""US""]"\n'
)
UNKNOWN = "f077cb07-008a-4955-8a4a-b4c163db3a87"
AS_SECRET = {"Authorization": basic(f"{SECRET}:")}


def make(world: World, name: str = "plans") -> str:
    reply = world.post(OWN, json={"name": name}, user=ADMIN)
    assert reply.status_code == 201, reply.text
    return str(reply.json()["results"]["id"])


def put(world: World, table_id: str, content: bytes, **options: Any) -> httpx.Response:
    headers = {"Content-Type": "text/csv", **options.pop("headers", {})}
    target = options.pop("target", f"/lookup-tables/{table_id}?project_id={world.project.id}")
    method = options.pop("method", "PUT")
    return world.run(world.ask(target, method=method, headers=headers, content=content, **options))


def failure(code: int, message: str, status: str) -> dict[str, Any]:
    return {"code": code, "error": message, "status": status}


def test_a_table_is_listed_and_replaced_as_mixpanel_has_it(world: World) -> None:
    table_id = make(world)
    reply = put(world, table_id, PLANS, user=IMPORTER)
    assert (reply.status_code, reply.json()) == (200, {"code": 200, "status": "OK"})
    listed = world.get(f"/lookup-tables?project_id={world.project.id}")
    assert listed.json() == {"code": 200, "status": "OK", "results": [{"id": table_id, "name": "plans"}]}
    assert world.get(f"/lookup-tables/?project_id={world.project.id}", user=IMPORTER).json() == listed.json()


@pytest.mark.parametrize(
    "options",
    [
        {"user": ADMIN},
        {"user": OWNER},
        {"user": IMPORTER, "method": "POST"},
        {"headers": AS_SECRET},
        {"headers": AS_SECRET, "target": "/lookup-tables/{id}"},
        {"headers": {"Authorization": basic(SECRET)}, "target": "/lookup-tables//{id}/"},
        {"user": ADMIN, "content": gzip.compress(PLANS), "headers": {"Content-Encoding": "gzip"}},
        {"user": ADMIN, "content": gzip.compress(PLANS[:20]) + gzip.compress(PLANS[20:])},
        {"user": ADMIN, "content": b"\xef\xbb\xbf" + PLANS.replace(b"\n", b"\r\n")},
    ],
)
def test_every_way_to_replace_a_table(world: World, options: dict[str, Any]) -> None:
    table_id = make(world)
    given = {**options}
    content = given.pop("content", PLANS)
    if "target" in given:
        given["target"] = given["target"].format(id=table_id)
    reply = put(world, table_id, content, **given)
    assert (reply.status_code, reply.text) == (200, '{"code":200,"status":"OK"}')
    fetched = world.get(f"{OWN}/{table_id}")
    assert fetched.headers["content-type"] == "text/csv; charset=utf-8"
    assert fetched.content == PLANS.replace(b"\n", b"\r\n")


INVALID = failure(401, "Not a valid service account username", "Unauthorized")
OUTSIDE = failure(401, "not a project member", "Unauthorized")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"user": None}, failure(401, "Invalid credentials", "Unauthorized")),
        ({"headers": {"Authorization": basic("nobody:pw")}}, INVALID),
        ({"headers": {"Authorization": basic("T0" * 16 + ":")}}, INVALID),
        ({"user": READER}, OUTSIDE),
        ({"user": STRANGER}, OUTSIDE),
        (
            {"user": ADMIN, "target": "/lookup-tables/{id}"},
            failure(
                401, "Invalid credentials: a service account needs the parameter project_id", "Unauthorized"
            ),
        ),
        (
            {"headers": {"Authorization": basic(OTHER_SECRET)}},
            failure(401, "Credentials in request did not match project_id URL parameter", "Unauthorized"),
        ),
    ],
)
def test_others_may_not_replace_a_table(world: World, options: dict[str, Any], expected: Any) -> None:
    table_id = make(world)
    given = {**options}
    if "target" in given:
        given["target"] = given["target"].format(id=table_id)
    reply = put(world, table_id, PLANS, **given)
    assert (reply.status_code, reply.json()) == (401, expected)
    assert "www-authenticate" not in reply.headers
    assert world.store.lookup_tables.listing(world.project.id)[0].rows == 0


def test_a_secret_lists_nothing_and_other_projects_are_not_seen(world: World) -> None:
    table_id = make(world)
    listing = f"/lookup-tables?project_id={world.project.id}"
    assert world.get(listing, headers=AS_SECRET).json() == INVALID
    assert world.get(listing, user=STRANGER).json() == OUTSIDE
    assert world.get(f"/lookup-tables?project_id={world.other.id}", user=STRANGER).json()["results"] == []
    missing = failure(404, f"Lookup table with id '{table_id}' was not found.", "Not Found")
    theirs = f"/lookup-tables/{table_id}?project_id={world.other.id}"
    reply = put(world, table_id, PLANS, user=STRANGER, target=theirs)
    assert (reply.status_code, reply.json()) == (404, missing)
    for method in ("GET", "DELETE"):
        reply = world.run(world.ask(f"{OWN}/{table_id}", method=method, user=STRANGER))
        assert (reply.status_code, reply.json()["error"]) == (404, missing["error"])


def test_replacing_makes_no_table(world: World) -> None:
    reply = put(world, UNKNOWN, PLANS, user=ADMIN)
    message = f"Lookup table with id '{UNKNOWN}' was not found."
    assert (reply.status_code, reply.json()) == (404, failure(404, message, "Not Found"))


BLANK, COUNT = "primary key is required and cannot be blank", "invalid row: wrong number of fields"


@pytest.mark.parametrize(
    ("content", "failed"),
    [
        (b"id,n\n,1\nb\nc,3,4\n", [(1, BLANK), (2, COUNT), (3, COUNT)]),
        (b"id,n\na,1\na,2\n", [(2, "invalid row: row indexes 1 and 2 have the same primary key")]),
        (b"", [(0, "invalid header: a row with the names of the columns is required")]),
        (b"\n\n", [(0, "invalid header: a row with the names of the columns is required")]),
        (b"id, ,n\n", [(0, "invalid header: the name of column 2 is blank")]),
        (b"id,n,id\n", [(0, "invalid header: columns 1 and 3 have the same name")]),
        (b"id,n\n\na,1\n\nb,\xff\n", [(2, "invalid row: text must be valid UTF-8")]),
        (b'id,n\n"a"b,1\n', [(1, "invalid row: ',' expected after '\"'")]),
        (b'id,n\na,"1\n', [(1, "invalid row: unexpected end of data")]),
        (b"id\n" + b"x" * 131_073 + b"\n", [(1, "invalid row: a field has at most 131072 characters")]),
        (b"id\n" + b"x" * 1_048_577, [(1, "invalid row: a row has at most 1048576 bytes")]),
        (b"id,n\na," + b'"\n",' * 300_000, [(1, "invalid row: a row has at most 1048576 bytes")]),
        (b"id,n\n" + b",1\n" * 20, [(row, BLANK) for row in range(1, 11)]),
    ],
    ids=lambda value: str(value)[:60],
)
def test_bad_rows_are_named_and_nothing_is_changed(
    world: World, content: bytes, failed: list[tuple[int, str]]
) -> None:
    table_id = make(world)
    put(world, table_id, PLANS, user=ADMIN)
    reply = put(world, table_id, content, user=ADMIN)
    assert reply.status_code == 400
    assert reply.json() == {
        "code": 400,
        "error": "Some data points in the request failed validation.",
        "failed_records": [{"index": index, "message": message} for index, message in failed],
        "status": "Bad Request",
    }
    assert world.get(f"{OWN}/{table_id}").content.startswith(b"plan,price")


def test_a_table_that_is_too_long_is_413_however_it_is_packed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup_tables, "BYTES_LIMIT", 200_000)
    table_id = make(world)
    content = b"k\n" + b"".join(b"%d\n" % number for number in range(40_000))
    expected = failure(413, "request exceeds max limit of 200000 bytes", "Request Entity Too Large")
    for body, headers in ((content, {}), (gzip.compress(content), {"Content-Encoding": "gzip"})):
        reply = put(world, table_id, body, user=ADMIN, headers=headers)
        assert (reply.status_code, reply.json()) == (413, expected)
    broken = put(world, table_id, gzip.compress(PLANS)[:-9], user=ADMIN)
    assert (broken.status_code, broken.json()["error"]) == (400, "could not decompress request body")
    assert world.store.lookup_tables.listing(world.project.id)[0].rows == 0


def test_tables_are_replaced_so_often_in_24_hours(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup_tables, "REPLACEMENTS_A_DAY", 3)
    one, two = make(world), make(world, "other")
    for table_id in (one, two, one):
        assert put(world, table_id, PLANS, user=ADMIN).status_code == 200
        world.now_ms += 1000
    reply = put(world, two, PLANS, user=ADMIN)
    assert (reply.status_code, reply.json()["code"]) == (429, 429)
    assert reply.headers["retry-after"] == str(DAY_MS // 1000 - 3 + 1)
    world.now_ms += DAY_MS - 2000
    assert put(world, two, PLANS, user=ADMIN).status_code == 200
    assert REPLACEMENTS_A_DAY == 100


def test_uploads_that_came_at_once_count_one_after_the_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup_tables, "REPLACEMENTS_A_DAY", 3)
    table_id = make(world)
    target = f"/lookup-tables/{table_id}?project_id={world.project.id}"
    asked = [world.ask(target, method="PUT", content=PLANS, user=ADMIN) for _ in range(12)]
    replies = world.at_once(*asked)
    assert sorted(reply.status_code for reply in replies) == [200] * 3 + [429] * 9
    assert all("retry-after" in reply.headers for reply in replies if reply.status_code == 429)


def test_tables_that_wait_to_be_replaced_hold_one_thread_of_reads(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    table_id = make(world)
    target = f"/lookup-tables/{table_id}?project_id={world.project.id}"
    inside: list[int] = []
    most: list[int] = []
    replaced = world.store.lookup_tables.replace

    def slowly(*args: Any, **kwargs: Any) -> Any:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()
        return replaced(*args, **kwargs)

    monkeypatch.setattr(world.store.lookup_tables, "replace", slowly)
    asked = [world.ask(target, method="PUT", content=PLANS, user=ADMIN) for _ in range(6)]
    assert all(reply.status_code == 200 for reply in world.at_once(*asked))
    assert most == [1] * 6


@pytest.mark.parametrize("at", ["the body", "the rows"])
def test_on_a_full_disk_a_table_stays_as_it_was_and_can_be_sent_again(
    world: World, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    table_id = make(world)
    put(world, table_id, PLANS, user=ADMIN)

    def full(*args: object, **kwargs: object) -> None:
        del args, kwargs
        raise OSError(errno.ENOSPC, "No space left on device") if at == "the body" else StoreError("full")

    with monkeypatch.context() as patch:
        if at == "the body":
            patch.setattr(tempfile, "TemporaryFile", full)
        else:
            patch.setattr(world.store.lookup_tables, "replace", full)
        reply = put(world, table_id, b"id\n1\n", user=ADMIN)
    expected = {"error": "the lookup table could not be written", "status": 0}
    assert (reply.status_code, reply.json(), reply.headers["retry-after"]) == (503, expected, "5")
    assert world.get(f"{OWN}/{table_id}").content.startswith(b"plan,price")


def test_tables_are_made_shown_and_deleted_by_admins(world: World) -> None:
    for reader in (READER, IMPORTER):
        reply = world.post(OWN, json={"name": "plans"}, user=reader)
        assert reply.status_code == 403
    table_id = make(world)
    again = world.post(OWN, json={"name": " plans "}, user=ADMIN)
    assert (again.status_code, again.json()["error"]) == (
        400,
        "name, this name is taken by another lookup table: Choose another.",
    )
    assert world.post(OWN, json={"name": "\u200b"}, user=ADMIN).status_code == 400
    put(world, table_id, PLANS, user=ADMIN)
    [shown] = world.get(OWN, headers=AS_SECRET).json()["results"]
    assert shown == {
        "id": table_id,
        "project_id": world.project.id,
        "name": "plans",
        "key": "plan",
        "columns": ["plan", "price", "since", "trial", "regions"],
        "rows": 2,
        "size_bytes": len(PLANS),
        "created": "2026-01-15T12:00:00",
        "replaced": "2026-01-15T12:00:00",
    }
    gone = world.run(world.ask(f"{OWN}/{table_id}", method="DELETE", user=ADMIN))
    assert gone.json() == {"status": "ok", "results": {"id": table_id, "deleted": True}}
    assert world.get(OWN).json()["results"] == []
    assert world.get(f"{OWN}/{table_id}").status_code == 404


# --- joined


@pytest.fixture
def people(world: World) -> World:
    world.send(
        user("ada", plan="pro"),
        user("bob", plan="free"),
        user("cyd", plan="none"),
        user("dan", current="pro"),
    )
    world.fold_all()
    put(world, make(world), PLANS, user=ADMIN)
    return world


@pytest.mark.parametrize(
    ("where", "chosen"),
    [
        ('lookup["plans"]["price"] > 10', ["ada"]),
        ('lookup["plans"]["price"] == 0', ["bob"]),
        ('not lookup["plans"]["price"] > 10', ["bob", "cyd", "dan"]),
        ('lookup["plans", properties["current"]]["price"] > 10', ["dan"]),
        ('lookup["plans"]["trial"]', ["bob"]),
        ('"EU" in lookup["plans"]["regions"]', ["ada"]),
        ('lookup["plans"]["since"] < datetime("2024-06-01")', ["bob"]),
        ('defined(lookup["plans"]["plan"])', ["ada", "bob"]),
        ('lookup["plans", "pro"]["price"] == 12.5 and properties["plan"] == "none"', ["cyd"]),
    ],
)
def test_expressions_join_a_table(people: World, where: str, chosen: list[str]) -> None:
    assert ids_of(people.page(where=where)) == chosen


def test_profiles_are_sorted_and_figures_made_by_a_table(people: World) -> None:
    ordered = people.page(sort_key='lookup["plans"]["price"]', sort_order="descending")
    assert ids_of(ordered) == ["ada", "bob", "cyd", "dan"]
    figure = people.get(
        "/api/query/engage/stats", params={"action": 'extremes(lookup["plans"]["price"])'}
    ).json()
    assert (figure["results"]["min"], figure["results"]["max"]) == (0, 12.5)


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ('lookup["plan"]["price"] > 1', 'there is no lookup table "plan" in this project, at position 7'),
        (
            '1 < lookup["plans"]["cost"]',
            'the lookup table "plans" has no column "cost"; its columns: "plan", "price", "since", "trial"',
        ),
        ('lookup["empty"]["k"]', 'the lookup table "empty" has no column "k"; it has not been filled yet'),
        ('lookup["plans"] > 1', 'expected `[` before the name of its column, found ">", at position 16'),
        ("lookup[plans]", 'expected a lookup table\'s name in quotes, found "plans", at position 7'),
    ],
)
def test_tables_and_columns_that_are_not_there_are_refused_with_their_place(
    people: World, where: str, reason: str
) -> None:
    make(people, "empty")
    reply = people.get(ENGAGE, params={"where": where})
    assert reply.status_code == 400
    assert reply.json()["error"].startswith(f"where, {reason}")
    theirs = people.get(ENGAGE, params={"where": 'lookup["plans"]["price"] > 1'}, user=STRANGER)
    assert "there is no lookup table" in theirs.json()["error"]


def test_what_a_table_says_changes_with_it_though_no_profile_does(people: World) -> None:
    where = 'lookup["plans"]["price"] > 10'
    made = people.post("/api/mixdown/cohorts", json={"name": "dear", "where": where}, user=ADMIN).json()[
        "results"
    ]
    assert made["count"] == 1
    assert people.page(where=where, page_size=1, page=0)["total"] == 1
    [table] = people.store.lookup_tables.listing(people.project.id)
    put(people, table.id, b"plan,price\nfree,99\npro,11\n", user=ADMIN)
    assert people.page(where=where)["total"] == 2
    assert people.get("/api/mixdown/cohorts").json()["results"][0]["count"] == 2
    assert ids_of(people.page(filter_by_cohort=f'{{"id":{made["id"]}}}')) == ["ada", "bob"]


def test_a_cohort_outlives_its_table(people: World) -> None:
    where = 'lookup["plans"]["price"] > 10 or properties["plan"] == "none"'
    made = people.post("/api/mixdown/cohorts", json={"name": "dear", "where": where}, user=ADMIN).json()[
        "results"
    ]
    [table] = people.store.lookup_tables.listing(people.project.id)
    people.run(people.ask(f"{OWN}/{table.id}", method="DELETE", user=ADMIN))
    assert people.get("/api/mixdown/cohorts").json()["results"][0]["count"] == 1
    assert ids_of(people.page(filter_by_cohort=f'{{"id":{made["id"]}}}')) == ["cyd"]


def test_a_cohort_that_counts_events_outlives_the_table_that_it_joins_them_with(people: World) -> None:
    people.store_events(
        [
            {
                "position": number,
                "arrived": people.now_ms,
                "event": "buy",
                "time": people.now_ms - 1000,
                "distinct_id": who,
                "insert_id": who,
                "properties": {"plan": plan},
            }
            for number, (who, plan) in enumerate([("ada", "pro"), ("bob", "free"), ("eve", "none")])
        ]
    )
    dear = {"event": "buy", "selector": 'lookup["plans"]["price"] > 10 or properties["plan"] == "none"'}
    counts = [{"name": "dear", "window": "1d", "event_selectors": [dear]}]
    given = {"name": "dear", "where": 'behaviors["dear"] > 0', "behaviors": counts}
    path = "/api/mixdown/cohorts"
    made = people.post(path, json=given, user=ADMIN).json()["results"]
    plain = people.post(path, json={"name": "plain", "where": "true"}, user=ADMIN).json()["results"]
    assert made["count"] == 2
    [table] = people.store.lookup_tables.listing(people.project.id)
    people.run(people.ask(f"{OWN}/{table.id}", method="DELETE", user=ADMIN))
    assert people.get(path).json()["results"] == [{**made, "count": 1}, plain]
    for target in ("/api/query/cohorts/list", "/api/2.0/cohorts/list"):
        assert [each["count"] for each in people.get(target).json()] == [1, 4]
    assert ids_of(people.page(filter_by_cohort=f'{{"id":{made["id"]}}}')) == ["eve"]
    asked = {"where": given["where"], "behaviors": orjson.dumps(counts).decode()}
    refused = people.get("/api/query/engage", params=asked)
    assert "there is no lookup table" in refused.json()["error"], "what is asked now is refused"


def test_the_first_rows_may_be_fetched_alone(world: World) -> None:
    table_id = make(world, "a plan/ü")
    assert put(world, table_id, b"k,v\nz,1\na,2\nm,3\n", user=ADMIN).status_code == 200
    reply = world.get(f"{OWN}/{table_id}", params={"limit": 2})
    assert reply.text == "k,v\r\nz,1\r\na,2\r\n"
    assert reply.headers["content-disposition"] == 'attachment; filename="a_plan_.csv"'
    assert world.get(f"{OWN}/{table_id}", params={"limit": 1001}).status_code == 400
