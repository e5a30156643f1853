"""`mixdown refusals`: listing, mending, sending again."""

from __future__ import annotations

import json

import pytest

from mixdown.store.protocols import RefusedRecord
from tests.cli.support import Cli, group, user
from tests.engine import open_store

NO_ID = {"$token": "shop-token", "$set": {"plan": "pro"}}


def test_refusals_are_listed_newest_first_with_their_reasons(shop: Cli) -> None:
    shop.send(user("u1"), NO_ID, user("u2", token="unknown"))
    first, second = shop.json("refusals", "list")
    assert (first["id"], first["project_id"], first["message"]) == (
        2,
        None,
        "$token, no project has this token",
    )
    assert (second["id"], second["project_id"], second["message"]) == (1, 1, "$distinct_id, missing or empty")
    assert set(first) == {
        "id", "time", "project_id", "endpoint", "index", "field", "message", "record", "whole", "sdk",
    }  # fmt: skip
    assert json.loads(second["record"]) == NO_ID
    assert (second["index"], second["field"], second["whole"]) == (1, "$distinct_id", True)


def test_refusals_are_listed_by_project_and_up_to_a_limit(shop: Cli) -> None:
    shop.send(*[NO_ID] * 5, user("u2", token="unknown"))
    assert [each["id"] for each in shop.json("refusals", "list", "--project", "shop")] == [5, 4, 3, 2, 1]
    assert [each["id"] for each in shop.json("refusals", "list", "--project", "0")] == [6]
    assert [each["id"] for each in shop.json("refusals", "list", "--limit", "2")] == [6, 5]


def test_a_list_outside_a_terminal_has_whole_records_on_one_line(shop: Cli) -> None:
    shop.send({"$token": "shop-token", "$set": {"long": "x" * 300, "evil": "\n\x1b[31m"}})
    header, row = shop("refusals", "list").stdout.splitlines()
    assert header.split("\t") == ["id", "time", "project", "endpoint", "message", "record"]
    assert "x" * 255 in row
    assert "\x1b" not in row


def test_a_refusal_comes_good_with_the_right_token(shop: Cli) -> None:
    shop.send(user("u1", token="old-token", plan="pro"))
    answer = shop.json("refusals", "resend", "1", "--set-token", "shop-token")
    assert answer == {"stored": [1], "refused": []}
    assert shop.json("refusals", "list") == []
    assert shop.json("profiles", "get", "u1", "--project", "shop")["$properties"]["plan"] == "pro"


def test_a_refusal_comes_good_with_another_record(shop: Cli) -> None:
    shop.send(NO_ID)
    mended = json.dumps({**NO_ID, "$distinct_id": "u9"})
    assert "stored 1 of 1" in shop("refusals", "resend", "1", "--record", mended).stderr
    assert shop.json("profiles", "get", "u9", "--project", "shop")["$properties"]["plan"] == "pro"


def test_a_refused_group_record_is_sent_to_groups_again(shop: Cli) -> None:
    shop.send({**group("Company", "Acme", plan="pro"), "$token": "old"}, endpoint="groups")
    shop("refusals", "resend", "1", "--set-token", "shop-token")
    shop("profiles", "get", "Acme", "--group-key", "Company", "--project", "shop")


def test_those_that_are_still_bad_stay_once_with_the_reason(shop: Cli) -> None:
    shop.send(user("u1", token="old"), NO_ID)
    answer = shop.json("refusals", "resend", "1", "2", "--set-token", "shop-token", code=1)
    assert answer == {"stored": [1], "refused": [{"id": 2, "message": "$distinct_id, missing or empty"}]}
    assert [each["id"] for each in shop.json("refusals", "list")] == [2]
    result = shop("refusals", "resend", "2", code=1)
    assert "2 stays: $distinct_id, missing or empty" in result.stderr
    assert "--record" in result.stderr


def test_an_unknown_token_never_counts_as_stored(shop: Cli) -> None:
    shop.send(user("u1", token="old"))
    answer = shop.json("refusals", "resend", "1", code=1, env={"MIXDOWN_UNKNOWN_TOKEN": "accept"})
    assert answer["refused"] == [{"id": 1, "message": "$token, no project has this token"}]
    assert len(shop.json("refusals", "list")) == 1


def test_a_token_that_became_known_frees_all_its_refusals(shop: Cli) -> None:
    shop.send(*[user(f"u{number}", token="late-token") for number in range(20)])
    shop("project", "create", "late", "--token", "late-token")
    answer = shop.json("refusals", "resend", "--all", "--project", "0")
    assert len(answer["stored"]) == 20
    assert shop("sql", "select count(*) from users").stdout.splitlines() == ["count(*)", "20"]


def test_all_touches_the_refusals_of_its_project_alone(shop: Cli) -> None:
    shop.send(user("u1", token="old"), NO_ID)
    shop("refusals", "resend", "--all", "--project", "0", "--set-token", "shop-token")
    assert [each["id"] for each in shop.json("refusals", "list")] == [2]


def test_a_record_kept_in_part_needs_the_whole_one(shop: Cli) -> None:
    store = open_store(shop.folder, role="worker", create=False)
    cut = RefusedRecord(1, "engage", 0, "", "record, too large", '{"$token":"shop-', whole=False)
    store.refusals.add([cut], 1_768_478_400_000)
    store.close()
    answer = shop.json("refusals", "resend", "1", code=1)
    assert "give the whole record" in answer["refused"][0]["message"]
    shop("refusals", "resend", "1", "--record", json.dumps(user("u1")))
    assert shop.json("refusals", "list") == []


def test_an_id_that_is_not_there_sends_nothing(shop: Cli) -> None:
    shop.send(user("u1", token="old"))
    result = shop("refusals", "resend", "1", "99", "--set-token", "shop-token", code=1)
    assert "there is no refusal 99" in result.stderr
    assert len(shop.json("refusals", "list")) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--all"],
        ["1", "--all", "--project", "1"],
        ["1", "--project", "1"],
        ["1", "2", "--record", "{}"],
        ["1", "--record", "{}", "--set-token", "t"],
        ["1", "--record", "[]"],
        ["1", "--record", "{"],
        ["zero"],
        ["0"],
    ],
)
def test_resend_says_what_it_needs(shop: Cli, arguments: list[str]) -> None:
    assert "Usage:" in shop("refusals", "resend", *arguments, code=2).stderr
