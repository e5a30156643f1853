"""mixpanel-import, unmodified, against a running server, which it reaches through the redirect helper."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.support import (
    NODE_MODULES,
    NODE_REDIRECT,
    run_client,
    run_node,
    stored_group,
    stored_user,
    written_now,
)
from tests.serving import Profile, Server, StartServer

pytestmark = pytest.mark.slow  # the first test may have to install it

Job = dict[str, Any]
Import = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def mixpanel_import(node_environment: Mapping[str, str], tmp_path: Path) -> Import:
    """Run jobs with the tool in one Node program; returns a summary of each."""

    def run(server: Server, *jobs: Job) -> list[dict[str, Any]]:
        environment = {
            **node_environment,
            "MIXDOWN_BASE": server.base_url,
            "NODE_OPTIONS": f"--require {NODE_REDIRECT}",
        }
        results: list[dict[str, Any]] = run_node(
            tmp_path, "mixpanel_import.js", jobs, environment=environment
        )
        return results

    return run


def service_account(server: Server) -> dict[str, Any]:
    user, password = server.account
    return {"acct": user, "pass": password, "project": server.project_id, "token": server.token}


def project_secret(server: Server) -> dict[str, Any]:
    return {"secret": server.secret, "token": server.token}


def token_alone(server: Server) -> dict[str, Any]:
    return {"token": server.token}


def job(credentials: dict[str, Any], record_type: str, data: object = None, **options: Any) -> Job:
    """One job as mixpanel-import takes it: credentials, data, options."""
    return {"credentials": credentials, "data": data, "options": {"recordType": record_type, **options}}


def complete(results: list[dict[str, Any]], *counts: int) -> None:
    """Each job stored so many records and reported no failure."""
    assert [(result["success"], result["failed"], result["errors"]) for result in results] == [
        (count, 0, {}) for count in counts
    ]


@pytest.mark.parametrize("transport", ["undici", "got"])
@pytest.mark.parametrize("credentials", [service_account, project_secret, token_alone])
def test_users_and_groups_are_imported_with_every_kind_of_credentials(
    server: Server, mixpanel_import: Import, credentials: Callable[[Server], dict[str, Any]], transport: str
) -> None:
    mark = f"{credentials.__name__} {transport}"
    users = [
        {"distinct_id": f"{mark} 1", "name": "Zoë + Ü", "plan": "pro", "tags": ["a", 1], "country": "de"},
        {"$distinct_id": f"{mark} 2", "$properties": {"$email": "b@example.com", "n": 1.5, "none": None}},
        {"$distinct_id": f"{mark} 3", "$set": {"deep": {"er": [True]}}, "$ignore_time": True},
    ]
    groups = [{"company": mark, "name": "Acme", "seats": 5, "regions": ["EU"]}]
    chosen = {"fixData": True, "transport": transport}
    complete(
        mixpanel_import(
            server,
            job(credentials(server), "user", users, **chosen),
            job({**credentials(server), "groupKey": "company"}, "group", groups, **chosen),
        ),
        3,
        1,
    )
    profiles = server.profiles()
    assert written_now(profiles[f"{mark} 1"]) == {
        "$name": "Zoë + Ü",
        "plan": "pro",
        "tags": ["a", 1],
        "$country_code": "DE",
    }
    assert written_now(profiles[f"{mark} 2"]) == {"$email": "b@example.com", "n": 1.5, "none": None}
    # With fixData the tool moves what it does not know into `$set`, `$ignore_time` included.
    assert written_now(profiles[f"{mark} 3"]) == {"deep": {"er": [True]}, "$ignore_time": True}
    assert stored_group(server, "company", mark) == {"$name": "Acme", "seats": 5, "regions": ["EU"]}


@pytest.mark.parametrize("transport", ["undici", "got"])
@pytest.mark.parametrize("credentials", [service_account, project_secret, token_alone])
def test_events_are_imported_compressed_with_every_kind_of_credentials(
    server: Server, mixpanel_import: Import, credentials: Callable[[Server], dict[str, Any]], transport: str
) -> None:
    mark = f"Import {credentials.__name__} {transport}"
    events = [
        {
            "event": mark,
            "properties": {"time": 1767225600000 + n, "distinct_id": f"u{n % 3}", "n": n, "text": "Zoë 東京"},
        }
        for n in range(2500)
    ]
    chosen = {"fixData": True, "compress": True, "transport": transport}
    complete(mixpanel_import(server, job(credentials(server), "event", events, **chosen)), 2500)
    stored = server.events(event=json.dumps([mark]))
    assert [event["properties"]["n"] for event in stored] == list(range(2500))
    assert {event["properties"]["text"] for event in stored} == {"Zoë 東京"}
    assert all(event["properties"]["$import"] is True for event in stored)
    complete(mixpanel_import(server, job(credentials(server), "event", events, **chosen)), 2500)
    assert len(server.events(event=json.dumps([mark]))) == 2500


STORED = {"n": 1, "tags": ["a", "b"], "old": "x", "kept": True}
DIRECTIVES: list[tuple[str, dict[str, Any], Profile]] = [
    ("$set", {"n": 2, "new": 1}, {**STORED, "n": 2, "new": 1}),
    ("$set_once", {"n": 2, "new": 1}, {**STORED, "new": 1}),
    ("$add", {"n": 2, "visits": -1}, {**STORED, "n": 3, "visits": -1}),
    ("$union", {"tags": ["b", "c"], "more": [1, 1]}, {**STORED, "tags": ["a", "b", "c"], "more": [1]}),
    ("$append", {"tags": "b", "more": 1}, {**STORED, "tags": ["a", "b", "b"], "more": [1]}),
    ("$remove", {"tags": "a"}, {**STORED, "tags": ["b"]}),
    ("$unset", {"old": 1, "never there": 1}, {"n": 1, "tags": ["a", "b"], "kept": True}),
]


@pytest.mark.parametrize("kind", ["user", "group"])
def test_every_directive_does_what_its_operator_promises(
    server: Server, mixpanel_import: Import, kind: str
) -> None:
    credentials = {**service_account(server), "groupKey": "team" if kind == "group" else ""}
    id_name = "group_id" if kind == "group" else "distinct_id"
    before = [{id_name: f"directive {name}", **STORED} for name, _, _ in DIRECTIVES]
    jobs = [job(credentials, kind, before, fixData=True)]
    jobs += [
        job(credentials, kind, [{id_name: f"directive {name}", **values}], fixData=True, directive=name)
        for name, values, _ in DIRECTIVES
    ]
    complete(mixpanel_import(server, *jobs), len(DIRECTIVES), *[1] * len(DIRECTIVES))
    profiles = server.groups("team") if kind == "group" else server.profiles()
    assert {name: written_now(profiles[f"directive {name}"]) for name, _, _ in DIRECTIVES} == {
        name: expected for name, _, expected in DIRECTIVES
    }


def test_raw_updates_are_imported_as_they_are(server: Server, mixpanel_import: Import) -> None:
    updates = [
        {"$distinct_id": "raw", "$set": {"a": 1, "list": [1]}, "$time": 1577934245},
        {"$distinct_id": "raw", "$add": {"a": 2}, "$ignore_time": True},
        {"$distinct_id": "raw", "$append": {"list": {"b": None}}, "$ignore_time": True},
    ]
    [result] = mixpanel_import(
        server, job(service_account(server), "user", updates, addToken=True, workers=1)
    )
    complete([result], 3)
    expected = {"a": 3, "list": [1, {"b": None}], "$last_seen": "2020-01-02T03:04:05"}
    assert server.profiles()["raw"] == expected


def test_records_that_are_refused_are_counted_as_failed_and_their_neighbours_stored(
    server: Server, mixpanel_import: Import
) -> None:
    mixed = [{"$distinct_id": "neighbour", "$token": server.token, "$set": {"a": 1}}, {"b": 2}]
    union = [{"distinct_id": "scalar", "tags": "not a list"}]
    first, second = mixpanel_import(
        server,
        job(service_account(server), "user", mixed),
        job(service_account(server), "user", union, fixData=True, directive="$union"),
    )
    assert (first["success"], first["failed"]) == (0, 2)  # the tool counts by batch
    assert (second["success"], second["failed"]) == (0, 1)
    assert first["responses"][0]["error"] is None
    assert first["responses"][0]["num_failed"] == 1
    assert first["responses"][0]["num_records_imported"] == 1
    assert stored_user(server, "neighbour") == {"a": 1}
    assert "scalar" not in server.profiles()


def test_many_batches_go_in_at_once_and_come_out_page_by_page(
    start_server: StartServer, mixpanel_import: Import, tmp_path: Path
) -> None:
    server = start_server()
    account = service_account(server)
    users = [{"distinct_id": f"user {number:04}", "number": number} for number in range(2500)]
    groups = [{"company": f"group {number:04}", "number": number} for number in range(1000)]
    stored, stored_groups, read, read_groups, on_disk = mixpanel_import(
        server,
        job(account, "user", users, fixData=True, recordsPerBatch=300, workers=5),
        job({**account, "groupKey": "company"}, "group", groups, fixData=True, recordsPerBatch=300),
        job(account, "profile-export", skipWriteToDisk=True),
        job(account, "profile-export", skipWriteToDisk=True, dataGroupId="company"),
        job(project_secret(server), "profile-export", where=str(tmp_path / "exported")),
    )
    complete([stored, stored_groups], 2500, 1000)
    assert stored["requests"] == 9
    rows = {row["$distinct_id"]: written_now(row["$properties"]) for row in read["read"]}
    assert len(read["read"]) == 2500
    assert rows == {row["distinct_id"]: {"number": row["number"]} for row in users}
    # 1,000 groups fill the first page, so that the tool asks for one page past the end.
    rows = {row["$distinct_id"]: written_now(row["$properties"]) for row in read_groups["read"]}
    assert rows == {row["company"]: {"number": row["number"]} for row in groups}
    assert on_disk["errors"] == {}
    files = sorted((tmp_path / "exported").iterdir())
    lines = [line for file in files for line in file.read_text().splitlines()]
    assert {json.loads(line)["$distinct_id"] for line in lines} == set(server.profiles())


def test_profile_delete_removes_all_users_or_all_groups_of_a_key(
    start_server: StartServer, mixpanel_import: Import
) -> None:
    server = start_server()
    account = service_account(server)
    people = [{"distinct_id": f"user {number}", "a": 1} for number in range(30)]
    companies = [{"company": f"group {number}", "a": 1} for number in range(20)]
    teams = [{"team": "stays", "a": 1}]
    mixpanel_import(
        server,
        job(account, "user", people, fixData=True),
        job({**account, "groupKey": "company"}, "group", companies, fixData=True),
        job({**account, "groupKey": "team"}, "group", teams, fixData=True),
    )
    assert len(server.groups("company")) == 20
    mixpanel_import(server, job({**account, "groupKey": "company"}, "profile-delete", dataGroupId="company"))
    assert server.groups("company") == {}
    assert len(server.profiles()) == 30
    mixpanel_import(server, job(account, "profile-delete"))
    assert server.profiles() == {}
    assert set(server.groups("team")) == {"stays"}


def test_profiles_are_copied_from_one_project_to_another(
    start_server: StartServer, mixpanel_import: Import
) -> None:
    server = start_server()
    other = server.command("project", "create", "copy", "--json")
    account = {**service_account(server), "secondToken": other["token"]}
    users = [{"distinct_id": f"user {number}", "$name": f"N{number}", "n": number} for number in range(12)]
    groups = [{"company": "Acme", "seats": 5}]
    mixpanel_import(
        server,
        job(account, "user", users, fixData=True),
        job({**account, "groupKey": "company"}, "group", groups, fixData=True),
    )
    copied, copied_groups = mixpanel_import(
        server,
        job(account, "export-import-profile", fixData=True),
        job({**account, "groupKey": "company"}, "export-import-profile", fixData=True, dataGroupId="company"),
    )
    complete([copied, copied_groups], 12, 1)
    copy = server.in_project(other["secret"])
    assert {user: written_now(values) for user, values in copy.profiles().items()} == {
        user: written_now(values) for user, values in server.profiles().items()
    }
    assert written_now(copy.groups("company")["Acme"]) == {"seats": 5}


def test_the_command_line_tool_reaches_mixdown_too(
    server: Server, node_environment: Mapping[str, str], tmp_path: Path
) -> None:
    rows = [{"distinct_id": f"line {number}", "name": f"N{number}"} for number in range(5)]
    file = tmp_path / "users.ndjson"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    user, password = server.account
    options = {
        "type": "user",
        "token": server.token,
        "acct": user,
        "pass": password,
        "project": server.project_id,
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    environment = {**node_environment, "MIXDOWN_BASE": server.base_url}
    environment["NODE_OPTIONS"] = f"--require {NODE_REDIRECT}"
    command = ["node", NODE_MODULES / ".bin" / "mixpanel-import", file.name, *arguments, "--fix"]
    ended = run_client(command, tmp_path, environment, timeout_s=200)
    assert ended.returncode == 0, ended.stderr
    profiles = server.profiles()
    assert [written_now(profiles[f"line {number}"]) for number in range(5)] == [
        {"$name": f"N{number}"} for number in range(5)
    ]


@pytest.mark.parametrize("transport", ["undici", "got"])
def test_a_lookup_table_is_replaced(server: Server, mixpanel_import: Import, transport: str) -> None:
    name = f"plans by {transport}"
    made = server.command("lookup-table", "create", name, "--project", str(server.project_id), "--json")
    rows = "plan,price\nfree,0\npro,12.5\n"
    given = {**service_account(server), "lookupTableId": made["id"]}
    [result] = mixpanel_import(server, job(given, "table", rows, transport=transport))
    assert (result["failed"], result["errors"]) == (0, {})
    shown = server.command("lookup-table", "show", name, "--project", str(server.project_id), "--json")
    assert (shown["columns"], shown["rows"]) == (["plan", "price"], 2)
