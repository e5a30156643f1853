"""`mixdown index`: what is asked for, listed and removed; the fold builds it while the server runs."""

from __future__ import annotations

import pytest

from tests.cli.support import Cli, group, user
from tests.engine import open_store

PLAN = 'properties["plan"]'


def test_an_index_is_asked_for_listed_built_and_removed(shop: Cli) -> None:
    shop.send(user("u1", plan="pro"), user("u2", plan="free"))
    made = shop.json("index", "add", PLAN, "--project", "shop")
    assert made == {"property": "plan", "group_key": "", "profiles": 0, "complete": False}
    assert "already" in shop("index", "add", PLAN, "--project", "shop", code=1).stderr
    shop("profiles", "get", "u1", "--project", "shop")  # folds, and keeps the index for what it writes
    build(shop)
    [listed] = shop.json("index", "list", "--project", "shop")
    assert listed == {"property": "plan", "group_key": "", "profiles": 2, "complete": True}
    assert "plan" in shop("index", "list", "--project", "shop").stdout
    shop("index", "remove", PLAN, "--project", "shop")
    assert shop.json("index", "list", "--project", "shop") == []
    assert "no index" in shop("index", "remove", PLAN, "--project", "shop", code=1).stderr


def build(shop: Cli) -> None:
    store = open_store(shop.folder, role="fold", create=False)
    try:
        while store.state.build_indexes(100):
            pass
    finally:
        store.close()


def test_an_index_on_groups_wants_a_group_key_that_is_there(shop: Cli) -> None:
    asked = ("index", "add", 'properties["industry"]', "--project", "shop", "--group-key", "Company")
    assert "group key" in shop(*asked, code=1).stderr
    shop.send(group("Company", "Acme", industry="tools"), endpoint="groups")
    shop("profiles", "get", "Acme", "--group-key", "Company", "--project", "shop")
    assert shop.json(*asked)["group_key"] == "Company"


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("plan", "position"),
        ('properties["a"] == 1', "only a property"),
        ('event["a"]', "only a property"),
        ('properties["$distinct_id"]', "is the id"),
        (r'properties["a\"b"]', "not indexed"),
    ],
)
def test_only_a_property_can_be_indexed(shop: Cli, expression: str, said: str) -> None:
    assert said in shop("index", "add", expression, "--project", "shop", code=1).stderr
