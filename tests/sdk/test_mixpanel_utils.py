"""mixpanel-utils, unmodified, against a running server: people operations, queries, export and import."""

import gzip
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mixpanel_utils import MixpanelUtils

from tests.sdk.support import stored_user, written_now
from tests.serving import Server

Connect = Callable[..., Any]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library drops backups and what it failed to send into the current folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def no_complaints(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The library never raises on a refused write, it only logs: so no test may leave a warning behind."""
    with caplog.at_level(logging.WARNING, logger="mixpanel_utils"):
        yield
    assert [record.getMessage() for record in caplog.records] == []


def with_service_account(server: Server, **options: Any) -> Any:
    """The library as its documentation sets it up with a service account."""
    user, password = server.account
    account = {"service_account_username": user, "project_id": server.project_id}
    return pointed_at(server, MixpanelUtils(password, token=server.token, **account, **options))


def with_project_secret(server: Server, **options: Any) -> Any:
    """The library as its documentation sets it up with the project's secret."""
    return pointed_at(server, MixpanelUtils(server.secret, token=server.token, **options))


def pointed_at(server: Server, client: Any) -> Any:
    """Set the three addresses that the library keeps, as its users do for a server of their own."""
    client.raw_api = f"{server.base_url}/api"
    client.formatted_api = f"{server.base_url}/api"
    client.import_api = server.base_url
    return client


CONNECTIONS = [
    pytest.param(with_service_account, id="service account"),
    pytest.param(with_project_secret, id="project secret"),
]


def fresh_users(client: Any, name: str, *properties: dict[str, Any]) -> list[str]:
    """Store one user for each set of properties, through `import_people`; returns their ids."""
    ids = [f"utils-{name}-{number}" for number in range(len(properties))]
    profiles = zip(ids, properties, strict=True)
    client.import_people([{"$distinct_id": user, "$properties": values} for user, values in profiles])
    return ids


@pytest.mark.parametrize("connect", CONNECTIONS)
def test_every_people_operation_gives_the_profile_it_promises(server: Server, connect: Connect) -> None:
    client = connect(server)
    name = connect.__name__
    ids = fresh_users(client, name, {"n": 1, "tags": ["a"], "old": True}, {"n": 10, "tags": ["b"]})
    profiles: list[dict[str, Any]] = [{"$distinct_id": user} for user in ids]
    chosen = {"distinct_ids": ids}

    assert client.people_set({"plan": "Pro + Ü", "none": None}, profiles=profiles, backup=False) == 2
    client.people_set(
        lambda profile: {"double": profile["$properties"]["n"] * 2}, query_params=dict(chosen), backup=False
    )
    client.people_set_once({"plan": "free", "first": 1}, query_params=dict(chosen))
    client.people_add({"n": 5, "visits": 1}, profiles=profiles)
    client.people_append({"tags": "z", "pages": {"path": "/"}}, profiles=profiles)
    client.people_union({"tags": ["a", "z", "q"]}, profiles=profiles)
    client.people_remove({"tags": "z"}, profiles=profiles)
    client.people_unset(["old", "none"], profiles=profiles, backup=False)

    same = {"plan": "Pro + Ü", "first": 1, "visits": 1, "pages": [{"path": "/"}]}
    assert stored_user(server, ids[0]) == {**same, "n": 6, "double": 2, "tags": ["a", "q"]}
    assert stored_user(server, ids[1]) == {**same, "n": 15, "double": 20, "tags": ["b", "a", "q"]}

    assert client.people_delete(query_params={"distinct_ids": ids[:1]}, backup=False) == 1
    assert ids[0] not in server.profiles()
    assert ids[1] in server.profiles()


def test_operations_leave_last_seen_alone_once_a_profile_has_it(server: Server) -> None:
    client = with_service_account(server)
    seen = "2024-05-06T07:08:09"
    [user] = fresh_users(client, "seen", {"$last_seen": seen})
    client.people_set({"a": 1}, profiles=[{"$distinct_id": user}], backup=False)
    assert server.profiles()[user] == {"a": 1, "$last_seen": seen}


def test_a_property_is_renamed_and_revenue_is_summed(server: Server, tmp_path: Path) -> None:
    client = with_service_account(server)
    charges = [{"$amount": 2.5, "$time": "2026-01-02T03:04:05"}, {"$amount": 4}]
    ids = fresh_users(client, "renamed", {"Colour": "red"}, {"Colour": ["blue"], "$transactions": charges})
    chosen = {"distinct_ids": ids}
    backup = tmp_path / "backup.json"
    client.people_change_property_name("Colour", "colour", query_params=dict(chosen), backup_file=str(backup))
    client.people_revenue_property_from_transactions(query_params=dict(chosen), backup=False)
    assert stored_user(server, ids[0]) == {"colour": "red", "Revenue": 0}
    assert stored_user(server, ids[1]) == {"colour": ["blue"], "$transactions": charges, "Revenue": 6.5}
    before = {row["$distinct_id"]: written_now(row["$properties"]) for row in json.loads(backup.read_text())}
    assert before[ids[0]] == {"Colour": "red"}


def test_duplicates_are_merged_into_the_one_seen_last(server: Server) -> None:
    client = with_service_account(server)
    ids = fresh_users(
        client,
        "duplicate",
        {"$email": "Ann@example.com", "$last_seen": "2026-01-01T00:00:00", "a": 1, "b": 1},
        {"$email": "ann@example.com", "$last_seen": "2026-03-01T00:00:00", "b": 3},
        {"$email": "ann@EXAMPLE.com", "$last_seen": "2026-02-01T00:00:00", "b": 2, "c": 2},
        {"$email": "bob@example.com", "$last_seen": "2026-01-01T00:00:00"},
    )
    profiles = client.query_engage({"distinct_ids": ids})
    assert client.deduplicate_people(profiles=profiles, merge_props=True, backup=False) == 2
    kept = {user: properties for user, properties in server.profiles().items() if user in ids}
    ann = {"$email": "ann@example.com", "$last_seen": "2026-03-01T00:00:00", "a": 1, "b": 3, "c": 2}
    bob = {"$email": "bob@example.com", "$last_seen": "2026-01-01T00:00:00"}
    assert kept == {ids[1]: ann, ids[3]: bob}


@pytest.mark.parametrize("connect", CONNECTIONS)
def test_queries_page_through_everything_and_keep_to_what_is_asked(server: Server, connect: Connect) -> None:
    client = connect(server, read_pool_size=3)
    numbers = [{"number": number, "parity": number % 2} for number in range(2500)]
    ids = fresh_users(client, "many", *numbers)
    everything = client.query_engage()
    assert len({row["$distinct_id"] for row in everything}) == len(everything)
    found = {row["$distinct_id"]: row["$properties"] for row in everything}
    assert [written_now(found[user]) for user in ids] == numbers

    some = client.query_engage({"distinct_ids": ids[7:9], "output_properties": ["parity", "$last_seen"]})
    assert [(row["$distinct_id"], written_now(row["$properties"])) for row in some] == [
        (ids[7], {"parity": 1}),
        (ids[8], {"parity": 0}),
    ]
    assert client.query_engage({"distinct_id": ids[1]})[0]["$properties"]["number"] == 1
    assert client.query_engage({"distinct_ids": ["nobody"]}) == []


@pytest.mark.parametrize("form", ["json", "csv", "json.gz"])
def test_what_is_exported_can_be_deleted_and_imported_again(
    server: Server, tmp_path: Path, form: str
) -> None:
    client = with_service_account(server)
    ids = fresh_users(
        client,
        f"trip-{form}",
        {"$name": 'Ann "A", Ü', "n": 1.5, "tags": ["x", 1, None], "$last_seen": "2026-01-02T03:04:05"},
        {"deep": {"er": [{"a": False}]}, "zero": 0, "$last_seen": "2026-01-02T03:04:06"},
    )
    before = {user: properties for user, properties in server.profiles().items() if user in ids}
    assert len(before) == 2
    file = tmp_path / f"people.{form.removesuffix('.gz')}"
    chosen = {"distinct_ids": ids}
    client.export_people(
        str(file), params=chosen, format=form.removesuffix(".gz"), compress=form.endswith(".gz")
    )
    if form.endswith(".gz"):
        file.write_bytes(gzip.decompress(file.with_suffix(".json.gz").read_bytes()))

    client.people_delete(profiles=str(file), backup=False)
    assert not set(ids) & set(server.profiles())
    client.import_people(str(file))
    assert {user: properties for user, properties in server.profiles().items() if user in ids} == before


def test_raw_updates_are_imported_as_they_are(server: Server) -> None:
    client = with_service_account(server)
    user = {"$token": server.token, "$distinct_id": "utils-raw"}
    updates = [
        {**user, "$set": {"a": 1}, "$time": 1767323045},
        {**user, "$append": {"list": {"b": 2}}, "$time": 1767323046},
    ]
    client.import_people(updates, raw_record_import=True)
    at = datetime.fromtimestamp(1767323046, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    assert server.profiles()["utils-raw"] == {"a": 1, "list": [{"b": 2}], "$last_seen": at}


def test_five_thousand_profiles_go_in_through_several_requests_at_once(server: Server) -> None:
    client = with_service_account(server, pool_size=4)
    ids = fresh_users(client, "bulk", *({"number": number} for number in range(5000)))
    client.people_add({"number": 1}, profiles=[{"$distinct_id": user} for user in ids])
    profiles = server.profiles()
    assert [profiles[user]["number"] for user in ids] == list(range(1, 5001))
