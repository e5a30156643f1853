"""`mixdown identity`: who is who, taking ids apart; and commands on profiles by any id of a person."""

from __future__ import annotations

import pytest

from mixdown.store.chunk import Link
from tests.cli.support import Cli, user
from tests.engine import open_store
from tests.store.support import append, appending_events

SHOP = ("--project", "shop")


def link(shop: Cli, verb: str, one: str, other: str, mode: str = "original") -> None:
    """An event that links two ids, as a server would append it."""
    store = open_store(shop.folder, role="worker", create=False)
    try:
        (project,) = [each.id for each in store.catalog.projects() if each.name == "shop"]
        append(store.log, appending_events(one, links=[Link(0, project, mode, verb, one, other)]))
    finally:
        store.close()


@pytest.fixture
def people(shop: Cli) -> Cli:
    """`a1`, once with a profile of its own, is `u1`."""
    shop.send(user("a1", own=1), user("u1", plan="free"))
    link(shop, "create_alias", "u1", "a1")
    shop.send(user("a1", plan="pro"))
    return shop


def test_a_person_is_shown_by_any_id(people: Cli) -> None:
    shown = people.json("identity", "show", "a1", *SHOP)
    assert (shown["canonical"], shown["ids"], shown["more"]) == ("u1", ["u1", "a1"], False)
    assert [(told["id"], told["linked_to"], told["verb"]) for told in shown["links"]] == [
        ("a1", "u1", "create_alias")
    ]
    told = people("identity", "show", "u1", *SHOP)
    assert "u1: a1" in told.stderr
    assert "create_alias" in told.stdout
    assert "linked to no other id" in people("identity", "show", "stranger", *SHOP).stderr


def test_an_unmerge_asks_first_and_is_told_afterwards(people: Cli) -> None:
    people("identity", "unmerge", "a1", *SHOP, typed="n\n", code=1)
    assert people.json("identity", "show", "a1", *SHOP)["canonical"] == "u1"
    apart = people.json("identity", "unmerge", "a1", "--yes", *SHOP)
    assert (apart["canonical"], apart["ids"]) == ("a1", ["a1"])
    assert apart["links"][0]["unmerged"] is not None
    said = people("identity", "unmerge", "a1", "--yes", *SHOP, code=1).stderr
    assert "linked to no other id" in said
    people.send(user("a1", later=1))
    assert people.json("profiles", "get", "a1", *SHOP)["$properties"].keys() >= {"own", "later"}


def test_profiles_are_read_and_deleted_by_any_id_of_a_person(people: Cli) -> None:
    read = people.json("profiles", "get", "a1", *SHOP)
    assert (read["$distinct_id"], read["$properties"]["plan"]) == ("u1", "pro")
    literal = people.json("profiles", "get", "a1", "--ignore-alias", *SHOP)
    assert (literal["$distinct_id"], literal["$properties"]["own"]) == ("a1", 1)
    told = people.json("profiles", "history", "a1", "--property", "plan", *SHOP)["results"]
    assert [entry["new"] for entry in told] == ["pro", "free"]
    assert people.json("profiles", "delete", "a1", "--yes", *SHOP) == {"deleted": ["u1"], "missing": []}
    people("profiles", "get", "u1", *SHOP, code=1)
    deleted = people.json("profiles", "delete", "a1", "--ignore-alias", "--yes", *SHOP)
    assert deleted == {"deleted": ["a1"], "missing": []}


def test_a_profile_is_put_back_under_its_own_id(people: Cli) -> None:
    then = people.json("profiles", "history", "u1", *SHOP)["results"][0]["time_ms"]
    people.send(user("u1", plan="wrong"))
    people("profiles", "undo", "a1", "--to", str(then), "--yes", *SHOP)
    assert people.json("profiles", "get", "u1", *SHOP)["$properties"]["plan"] == "pro"
    people("profiles", "undo", "a1", "--ignore-alias", "--to", str(then), "--yes", *SHOP)
    assert people.json("profiles", "get", "a1", "--ignore-alias", *SHOP)["$properties"]["own"] == 1


def test_an_export_holds_every_profile_under_its_own_id_and_an_import_may_put_it_there(people: Cli) -> None:
    file = str(people.folder.parent / "users.ndjson")
    people("profiles", "export", file, *SHOP)
    for each in ("u1", "a1"):
        people("profiles", "delete", each, "--ignore-alias", "--yes", *SHOP)
    people("profiles", "import", file, "--ignore-alias", *SHOP)
    assert people.json("profiles", "get", "a1", "--ignore-alias", *SHOP)["$properties"]["own"] == 1
    assert "own" not in people.json("profiles", "get", "u1", *SHOP)["$properties"]
    people("profiles", "import", file, *SHOP)  # which counts as another import
    assert "own" in people.json("profiles", "get", "u1", *SHOP)["$properties"]
