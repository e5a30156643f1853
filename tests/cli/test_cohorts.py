"""`mixdown cohort`."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.cli.support import Cli, group, user


@pytest.fixture
def people(shop: Cli) -> Cli:
    shop.send(user("ada", plan="pro"), user("bob", plan="free"), user("cyd", plan="pro"))
    shop.send(group("Company", "Acme", size=3), endpoint="groups")
    return shop


def test_a_cohort_of_an_expression_counts_what_matches_now(people: Cli) -> None:
    made = people.json(
        "cohort", "create", "paying", "--project", "shop", "--where", 'properties["plan"] == "pro"'
    )
    assert made == {
        "id": 1,
        "project_id": 1,
        "name": "paying",
        "description": "",
        "group_key": None,
        "where": 'properties["plan"] == "pro"',
        "behaviors": None,
        "count": 2,
        "created": made["created"],
    }
    people.send(user("dan", plan="pro"))
    assert people.json("cohort", "list", "--project", "shop") == [{**made, "count": 3}]
    assert people.json("cohort", "show", "paying", "--project", "1")["count"] == 3
    assert people("cohort", "show", "1", "--project", "shop", "--ids").stdout == "ada\ncyd\ndan\n"
    assert people.json("cohort", "show", "1", "--project", "shop", "--ids") == ["ada", "cyd", "dan"]


def test_a_cohort_of_ids_is_read_from_a_file(people: Cli, tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text("bob\n\nzoë\r\nbob\n", encoding="utf-8")
    made = people.json("cohort", "create", "beta", "--project", "shop", "--ids-from", str(file))
    assert (made["where"], made["count"]) == (None, 2)
    assert people("cohort", "show", "beta", "--project", "shop", "--ids").stdout == "bob\nzoë\n"
    shown = people("cohort", "show", "beta", "--project", "shop").stdout
    assert "a list of ids" in shown


def test_a_cohort_of_groups(people: Cli) -> None:
    made = people.json(
        "cohort", "create", "firms", "--project", "shop", "--group-key", "Company", "--where",
        'properties["size"] > 1', "--description", "larger than one",
    )  # fmt: skip
    assert (made["group_key"], made["count"], made["description"]) == ("Company", 1, "larger than one")
    table = people("cohort", "list", "--project", "shop").stdout
    assert table.splitlines()[0].split("\t") == ["id", "name", "group_key", "count", "created", "where"]


def test_a_cohort_is_deleted_after_a_question(people: Cli) -> None:
    people("cohort", "create", "paying", "--project", "shop", "--where", "true")
    people("cohort", "delete", "paying", "--project", "shop", code=1, typed="n\n")
    assert len(people.json("cohort", "list", "--project", "shop")) == 1
    assert people.json("cohort", "delete", "paying", "--project", "shop", "--yes") == {
        "id": 1,
        "name": "paying",
    }
    assert people.json("cohort", "list", "--project", "shop") == []
    gone = people("cohort", "delete", "paying", "--project", "shop", "--yes", code=1)
    assert "there is no cohort 'paying'" in gone.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--where", 'properties["plan"] ='], 1, "where, "),
        (["--where", "true", "--ids-from", "-"], 2, "either --where"),
        ([], 2, "either --where"),
        (["--ids-from", "/nowhere/ids"], 1, "No such file"),
    ],
)
def test_what_cannot_be_a_cohort_is_said(people: Cli, arguments: list[str], code: int, said: str) -> None:
    told = people("cohort", "create", "x", "--project", "shop", *arguments, code=code)
    assert said in told.stderr
    assert people.json("cohort", "list", "--project", "shop") == []


def test_a_cohort_of_what_people_did(people: Cli) -> None:
    def event(name: str, who: str, number: int) -> dict[str, object]:
        own = {"token": "shop-token", "distinct_id": who, "time": time.time() - 60, "$insert_id": f"{number}"}
        return {"event": name, "properties": own}

    did = [
        ("Cart", "ada"),
        ("Cart", "ada"),
        ("Cart", "bob"),
        ("Cart", "cyd"),
        ("Cart", "cyd"),
        ("Buy", "cyd"),
    ]
    people.send(*(event(*each, number) for number, each in enumerate(did)), endpoint="track")
    asked = ("--did", "Cart", "--times", "2", "--did-not", "Buy", "--within", "1d")
    made = people.json("cohort", "create", "undecided", "--project", "shop", *asked)
    assert made["where"] == 'behaviors["1"] >= 2 and behaviors["2"] == 0'
    assert made["behaviors"] == [
        {"name": name, "event_selectors": [{"event": event}], "window": "1d"}
        for name, event in (("1", "Cart"), ("2", "Buy"))
    ]
    assert made["count"] == 1
    assert people("cohort", "show", "undecided", "--project", "shop", "--ids").stdout == "ada\n"
    assert people.json("cohort", "list", "--project", "shop") == [made]
    assert "event_selectors" in people("cohort", "show", "undecided", "--project", "shop").stdout
    own = ("--behaviors", '[{"name":"n","event_selectors":[{"event":"Cart"}]}]')
    where = ("--where", 'behaviors["n"] == 1 and properties["plan"] == "free"')
    assert people.json("cohort", "create", "once", "--project", "shop", *own, *where)["count"] == 1
    wrong = people("cohort", "create", "x", "--project", "shop", "--did", "a", "--within", "1y", code=1)
    assert "behaviors, window must be" in wrong.stderr
    wrong = people("cohort", "create", "x", "--project", "shop", *where, "--within", "1d", code=2)
    assert "--within" in wrong.stderr
