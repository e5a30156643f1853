"""mixpanel-utils, unmodified: what it changes, exports and merges is chosen by queries."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.seeding import create_cohort
from tests.sdk.support import stored_user, written_now
from tests.sdk.test_mixpanel_utils import (
    CONNECTIONS,
    Connect,
    fresh_users,
    in_a_folder_of_its_own,
    no_complaints,
    with_service_account,
)
from tests.serving import Profile, Server

__all__ = ["in_a_folder_of_its_own", "no_complaints"]  # fixtures


def matching(name: str, condition: str = "") -> dict[str, Any]:
    """Query parameters for the users that a test has made."""
    own = f'properties["test"] == "{name}"'
    return {"where": f"({own}) and {condition}" if condition else own}


def made_by(client: Any, name: str, *properties: Profile) -> list[str]:
    """Users that `matching` finds."""
    return fresh_users(client, name, *({"test": name, **values} for values in properties))


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(row["$distinct_id"] for row in rows)


@pytest.mark.parametrize("connect", CONNECTIONS)
def test_every_people_operation_changes_just_what_its_query_finds(server: Server, connect: Connect) -> None:
    client = connect(server)
    name = f"operations {connect.__name__}"
    users = made_by(
        client, name, {"n": 1, "tags": ["a"], "old": 1}, {"n": 10, "tags": ["a"], "old": 1}, {"n": 100}
    )
    chosen = {"query_params": matching(name, 'properties["n"] >= 10 and defined(properties["tags"])')}
    client.people_set({"plan": "pro"}, **chosen, backup=False)
    client.people_set_once({"plan": "free", "first": True}, **chosen)
    client.people_append({"tags": "z"}, **chosen)
    client.people_union({"tags": ["z", "q"]}, **chosen)
    client.people_remove({"tags": "a"}, **chosen)
    client.people_unset(["old"], **chosen, backup=False)
    client.people_add({"n": 5}, **chosen)
    changed = {"test": name, "n": 15, "plan": "pro", "first": True, "tags": ["z", "q"]}
    assert stored_user(server, users[1]) == changed
    assert stored_user(server, users[0]) == {"test": name, "n": 1, "tags": ["a"], "old": 1}
    assert stored_user(server, users[2]) == {"test": name, "n": 100}
    assert client.people_delete(**chosen, backup=False) == 1
    assert ids(client.query_engage(matching(name))) == [users[0], users[2]]


@pytest.mark.parametrize("connect", CONNECTIONS)
def test_a_query_finds_and_an_export_writes_what_matches(
    server: Server, connect: Connect, tmp_path: Path
) -> None:
    client = connect(server, read_pool_size=3)
    name = f"export {connect.__name__}"
    users = made_by(client, name, *({"n": number} for number in range(1201)))
    few = matching(name, 'properties["n"] < 2')
    assert ids(client.query_engage(few)) == users[:2]
    assert ids(client.query_engage({"selector": few["where"]})) == users[:2]
    found = client.query_engage(matching(name))  # two pages, read at once
    assert [
        row["$properties"]["n"] for row in sorted(found, key=lambda row: row["$properties"]["n"])
    ] == list(range(1201))
    cohort = create_cohort(server, name, matching(name, 'properties["n"] < 3')["where"])
    members = {"filter_by_cohort": json.dumps({"id": cohort}), "output_properties": ["n"]}
    rows = client.query_engage(members)
    assert {row["$distinct_id"]: row["$properties"] for row in rows} == {
        user: {"n": number} for number, user in enumerate(users[:3])
    }
    client.export_people(str(tmp_path / "few.json"), params=few)
    written = json.loads((tmp_path / "few.json").read_text())
    assert [written_now(row["$properties"]) for row in written] == [
        {"test": name, "n": 0},
        {"test": name, "n": 1},
    ]


def test_without_a_query_a_property_is_renamed_wherever_it_is(server: Server) -> None:
    client = with_service_account(server)
    users = made_by(client, "renaming", {"Odd Name": 1}, {"Odd Name": ["x"]}, {"other": 1})
    client.people_change_property_name("Odd Name", "even", backup=False)
    assert [stored_user(server, user) for user in users] == [
        {"test": "renaming", "even": 1},
        {"test": "renaming", "even": ["x"]},
        {"test": "renaming", "other": 1},
    ]


def test_without_a_query_revenue_is_summed_wherever_there_are_transactions(server: Server) -> None:
    client = with_service_account(server)
    charges = [{"$amount": 2, "$time": "2026-01-02T03:04:05"}, {"$amount": 0.5}]
    users = made_by(client, "revenue", {"$transactions": charges}, {"none": True})
    client.people_revenue_property_from_transactions(backup=False)
    assert stored_user(server, users[0]) == {"test": "revenue", "$transactions": charges, "Revenue": 2.5}
    assert stored_user(server, users[1]) == {"test": "revenue", "none": True}


def test_without_profiles_duplicates_are_looked_for_by_the_property(server: Server) -> None:
    client = with_service_account(server)
    users = made_by(
        client,
        "duplicates",
        {"phone": "+49 1", "$last_seen": "2026-01-01T00:00:00", "a": 1},
        {"phone": "+49 1", "$last_seen": "2026-03-01T00:00:00", "b": 2},
        {"phone": "+49 2", "$last_seen": "2026-01-01T00:00:00"},
        {"phone": "", "$last_seen": "2026-01-01T00:00:00"},
        {"phone": "", "$last_seen": "2026-01-01T00:00:00"},
    )
    assert client.deduplicate_people(prop_to_match="phone", merge_props=True, backup=False) == 1
    assert ids(client.query_engage(matching("duplicates"))) == users[1:]
    kept = server.profiles()[users[1]]
    assert kept == {
        "test": "duplicates",
        "phone": "+49 1",
        "$last_seen": "2026-03-01T00:00:00",
        "a": 1,
        "b": 2,
    }
