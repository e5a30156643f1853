"""`mixdown cohort`."""

from __future__ import annotations

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
        (["--where", "true", "--ids-from", "-"], 2, "either --where or --ids-from"),
        ([], 2, "either --where or --ids-from"),
        (["--ids-from", "/nowhere/ids"], 1, "No such file"),
    ],
)
def test_what_cannot_be_a_cohort_is_said(people: Cli, arguments: list[str], code: int, said: str) -> None:
    told = people("cohort", "create", "x", "--project", "shop", *arguments, code=code)
    assert said in told.stderr
    assert people.json("cohort", "list", "--project", "shop") == []
