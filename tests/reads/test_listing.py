"""`/api/mixdown/profiles`: pages in the order of ids, bounded in time, and the file of all profiles."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest
from click.testing import CliRunner

from mixdown.cli.root import root
from mixdown.query import listing, profiles_file
from mixdown.query.choosing import Filters
from mixdown.query.listing import ListQuery, list_answer
from tests.engine import ENGINE, variables
from tests.reads.support import ADMIN, IMPORTER, STRANGER, World, group, ids_of, names, user

PATH = "/api/mixdown/profiles"
FILE = f"{PATH}/export"
NASTY: dict[str, Any] = {
    "formula": "=1+1",
    "plus": "+49 30",
    "minus": "-3",
    "at": "@SUM(A1)",
    "tab": "\tx",
    "number": -5,
    "quoted": '"=1"',
    "=name": 1,
}


def page(world: World, **parameters: Any) -> Any:
    reply = world.get(PATH, params=parameters)
    assert reply.status_code == 200, reply.text
    return reply.json()


def all_ids(world: World, **parameters: Any) -> list[str]:
    """The ids of all pages, however short."""
    found: list[str] = []
    after = ""
    for _ in range(1000):
        answer = page(world, after=after, **parameters)
        found += ids_of(answer)
        if answer["next"] is None:
            return found
        after = answer["next"]
    raise AssertionError("it never ends")


def test_pages_hold_each_profile_once_in_the_order_of_ids(world: World) -> None:
    ids = [*names(120), "Ä", "é", "\U0001f389"]
    world.store_users(ids)
    assert all_ids(world) == ids
    assert all_ids(world, limit=7) == ids
    first = page(world, limit=2)
    assert first == {
        "status": "ok",
        "looked_at": 2,
        "next": "u00001",
        "results": first["results"],
    }
    assert first["results"][0]["$properties"]["n"] == 0


def test_a_filter_and_a_search_hold_over_all_pages(world: World) -> None:
    world.store_users(names(300))
    third = [name for place, name in enumerate(names(300)) if place % 3 == 0]
    assert all_ids(world, where='properties["n"] % 3 == 0', limit=11) == third
    assert all_ids(world, search="U0001", limit=3) == names(300)[10:20]
    assert all_ids(world, where='properties["n"] < 12', search="U0001", limit=3) == ["u00010", "u00011"]
    none = page(world, where="false")
    assert (none["results"], none["next"]) == ([], None)
    assert none["looked_at"] == 300


def test_groups_and_chosen_properties(world: World) -> None:
    world.send(group("Company", "acme", plan="pro", size=3), group("Company", "zeta"), endpoint="groups")
    world.store_users(["ada"])
    for name in ("group_key", "data_group_id"):
        assert all_ids(world, **{name: "Company"}) == ["acme", "zeta"]
    chosen = page(world, group_key="Company", limit=1, output_properties='["size", "nothing"]')
    assert chosen["results"] == [{"$distinct_id": "acme", "$properties": {"size": 3}}]


def test_the_members_of_a_cohort_are_paged_too(world: World) -> None:
    world.store_users(names(50))
    made = [
        world.post("/api/mixdown/cohorts", user=ADMIN, json=body).json()["results"]["id"]
        for body in (
            {"name": "few", "where": 'properties["n"] < 9'},
            {"name": "listed", "distinct_ids": ["u00003", "gone", "u00001", "u00002"]},
        )
    ]
    expression, listed = (json.dumps({"id": number}) for number in made)
    assert all_ids(world, filter_by_cohort=expression, limit=2) == names(9)
    assert all_ids(world, filter_by_cohort=listed, limit=2) == ["gone", "u00001", "u00002", "u00003"]
    without = {"filter_by_cohort": listed, "include_all_users": "false", "limit": 1}
    assert all_ids(world, **without) == ["u00001", "u00002", "u00003"]
    assert all_ids(world, filter_by_cohort=listed, where='properties["n"] > 1', limit=1) == [
        "u00002",
        "u00003",
    ]


def test_a_look_ends_when_its_time_is_over_and_goes_on_from_there(world: World) -> None:
    world.store_users(names(3000))
    times = iter(range(10_000))
    query = ListQuery(project=world.project.id, filters=Filters(where="false"), look_ms=500)
    found = json.loads(list_answer(world.store, query, now_ms=world.now_ms, clock=lambda: next(times)))
    assert (found["results"], found["looked_at"], found["next"]) == ([], 1000, "u00999")
    on = ListQuery(
        project=world.project.id, filters=Filters(where='properties["n"] == 2999'), after=found["next"]
    )
    later = json.loads(list_answer(world.store, on, now_ms=world.now_ms, clock=lambda: 0.0))
    assert ids_of(later) == ["u02999"]
    assert (later["looked_at"], later["next"]) == (2000, None)


def test_large_profiles_make_short_pages(plain_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_world.store_users(["a", "b", "c"])
    cohort = {"name": "listed", "distinct_ids": ["a", "b", "c"]}
    made = plain_world.post("/api/mixdown/cohorts", user=ADMIN, json=cohort).json()
    monkeypatch.setattr(listing, "_ROOM_BYTES", 10)
    asked = json.dumps({"id": made["results"]["id"]})
    assert len(page(plain_world, filter_by_cohort=asked)["results"]) == 1
    assert all_ids(plain_world, filter_by_cohort=asked) == ["a", "b", "c"]
    monkeypatch.setattr(listing, "_FIRST_ROWS", 1)
    asked = 'defined(properties["n"])'
    assert len(page(plain_world, where=asked)["results"]) == 1
    assert all_ids(plain_world, where=asked) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"where": 'properties["a"] = 1'}, "at position 16"),
        ({"sort_key": 'properties["a"]'}, "sort_key, this list goes by ids"),
        ({"group_key": "Team"}, "no group key of this project"),
        ({"group_key": "Company", "data_group_id": "Team"}, "group_key, give either this or data_group_id"),
        ({"limit": 1001}, "limit, must be an integer from 1 to 1000"),
        ({"look_ms": 0}, "look_ms, must be an integer"),
        ({"filter_by_cohort": '{"id": 7}'}, "there is no cohort 7"),
    ],
)
def test_what_cannot_be_listed_is_refused_by_name(
    plain_world: World, parameters: dict[str, Any], said: str
) -> None:
    reply = plain_world.get(PATH, params=parameters)
    assert reply.status_code == 400
    assert said in reply.json()["error"]


def test_who_may_not_read_gets_no_list_and_no_file(plain_world: World) -> None:
    plain_world.store_users(["ada"])
    for path in (PATH, FILE):
        assert plain_world.get(path, user=None).status_code == 401
        assert plain_world.get(path, user=IMPORTER).status_code == 403
        of_another = plain_world.get(path, user=STRANGER, params={"project_id": plain_world.project.id})
        assert of_another.status_code == 403
        assert "ada" not in plain_world.get(path, user=STRANGER).text


# --- files


def get_file(world: World, **parameters: Any) -> httpx.Response:
    reply = world.get(FILE, params=parameters)
    assert reply.status_code == 200, reply.text
    return reply


def lines(reply: httpx.Response) -> list[Any]:
    return [json.loads(line) for line in reply.text.splitlines()]


def table(reply: httpx.Response) -> list[list[str]]:
    return list(csv.reader(io.StringIO(reply.text, newline="")))


@pytest.fixture
def people(world: World) -> World:
    world.send(
        user("ada", plan="pro", age=36, tags=["red"]),
        user("bob", plan="free", age=17),
        user("cyd", age="36", note='say "hi", twice\n'),
        user("dan", nick=None, **{"$email": "dan@example.com"}),
    )
    world.fold_all()
    return world


def test_a_file_has_its_name_and_type(people: World) -> None:
    for form, media in (
        ("csv", "text/csv; charset=utf-8"),
        ("ndjson", "application/x-ndjson"),
        ("parquet", "application/vnd.apache.parquet"),
    ):
        reply = get_file(people, format=form)
        assert reply.headers["content-type"] == media
        named = f'attachment; filename="default-users-2026-01-15.{form}"'
        assert reply.headers["content-disposition"] == named


def test_a_file_keeps_the_filter_the_columns_and_the_order(people: World) -> None:
    asked = {
        "where": 'defined(properties["age"])',
        "sort_key": 'properties["plan"]',
        "sort_order": "descending",
    }
    chosen = {**asked, "output_properties": '["plan", "nothing", "age"]'}
    assert [line["$distinct_id"] for line in lines(get_file(people, format="ndjson", **asked))] == [
        "ada", "bob", "cyd",
    ]  # fmt: skip
    assert table(get_file(people, format="csv", **chosen)) == [
        ["$distinct_id", "plan", "nothing", "age"],
        ["ada", "pro", "", "36"],
        ["bob", "free", "", "17"],
        ["cyd", "", "", '"36"'],
    ]
    assert [line["$distinct_id"] for line in lines(get_file(people, format="ndjson", search="EXAMPLE"))] == [
        "dan"
    ]


def test_no_cell_of_a_csv_is_a_formula(world: World) -> None:
    world.send(user("=cmd", **NASTY), user("@ok", **NASTY))
    world.fold_all()
    for parameters in ({}, {"output_properties": json.dumps(list(NASTY))}):
        head, *rows = table(get_file(world, format="csv", **parameters))
        assert "'=name" in head
        for cell in (cell for row in (head, *rows) for cell in row):
            assert not cell.startswith(("=", "+", "@", "\t", "\r")), cell
            assert not cell.startswith("-") or cell == "-5", cell
        first = dict(zip(head, rows[0], strict=True))
        assert first["$distinct_id"] == "'=cmd"
        assert first["formula"] == "'=1+1"
    assert lines(get_file(world, format="ndjson"))[0]["$properties"]["formula"] == "=1+1"


@pytest.mark.parametrize("world", [ENGINE], indirect=True)  # the command line opens what others can open
def test_a_file_is_what_the_command_line_exports(tmp_path: Path, people: World) -> None:
    where = 'properties["age"] == 36 or properties["plan"] == "free"'

    def exported(name: str, *flags: str) -> bytes:
        target = tmp_path / name
        arguments = ["profiles", "export", str(target), "--project", "default", *flags]
        folder = tmp_path / "data"
        environment = {"MIXDOWN_DATA_DIR": str(folder), "MIXDOWN_READ_WAIT_MS": "0", **variables(folder)}
        result = CliRunner().invoke(root, arguments, env=environment)
        assert result.exit_code == 0, result.output
        return target.read_bytes()

    assert get_file(people, format="ndjson").content == exported("all.ndjson")
    assert get_file(people, format="csv").content == exported("all.csv")
    some = get_file(people, format="ndjson", where=where, output_properties='["plan"]')
    assert some.content == exported("some.ndjson", "--where", where, "--properties", "plan")
    (tmp_path / "got.parquet").write_bytes(get_file(people, format="parquet").content)
    exported("all.parquet")
    told = []
    with duckdb.connect() as database:
        for name in ("got.parquet", "all.parquet"):
            database.execute("SELECT * FROM read_parquet(?)", [str(tmp_path / name)])
            told.append((database.description, database.fetchall()))
    assert told[0] == told[1]


def test_a_file_of_nothing_is_whole(world: World) -> None:
    assert get_file(world, format="ndjson").text == ""
    assert table(get_file(world, format="csv")) == [["$distinct_id"]]
    assert table(get_file(world, format="csv", output_properties='["a"]')) == [["$distinct_id", "a"]]
    assert get_file(world, format="parquet").content.startswith(b"PAR1")


def test_a_file_that_takes_two_passes_leaves_nothing_behind(people: World) -> None:
    for form in ("csv", "parquet"):
        pieces = profiles_file.file_pieces(
            people.store,
            profiles_file.ProfilesFile(project=people.project.id, filters=Filters(), form=form),
            now_ms=people.now_ms,
        )
        assert next(pieces) == b""
        pieces.close()  # type: ignore[attr-defined]
        get_file(people, format=form)
    folder = getattr(people.store, "folder", None)
    if folder is not None:
        assert list((folder / "spill").iterdir()) == []


def test_a_wrong_file_is_refused_before_a_byte_is_sent(plain_world: World) -> None:
    for parameters, said in (
        ({"format": "xlsx"}, "format, must be one of csv, ndjson, parquet"),
        ({"where": "plan"}, "at position 0"),
    ):
        reply = plain_world.get(FILE, params=parameters)
        assert reply.status_code == 400
        assert said in reply.json()["error"]


def test_a_list_shows_what_the_query_shows(people: World) -> None:
    assert page(people)["results"] == people.page()["results"]
