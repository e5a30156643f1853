"""Erasing people from a running server: nothing of them is left in any file, and everything else stays."""

from __future__ import annotations

import time

import orjson
import pytest

from tests.erasure.people import (
    DELETIONS,
    RETRIEVALS,
    Crowd,
    ask_erasure,
    authorization,
    job_of,
    wait_until_erased,
)
from tests.erasure.raw import found
from tests.serving import Server, StartServer


@pytest.fixture(scope="module")
def crowd(start_module_server: StartServer) -> Crowd:
    """A server with people, some of whose records were refused, and a session that lists all of them."""
    server = start_module_server()
    made = Crowd(server, "p", 120)
    made.send(4)
    return made


def everybody(server: Server) -> dict[str, object]:
    return dict(server.profiles(page_size=50))


def test_nothing_is_left_of_erased_people_and_all_of_the_others(crowd: Crowd) -> None:
    server = crowd.server
    before = everybody(server)
    gone = crowd.ids[:60:2]
    kept = [person for person in crowd.ids if person not in gone]
    held = found(server.data_dir, {marker for person in gone for marker in crowd.markers(person)})
    assert {"log.db:chunks", "state.db:profiles", "log.db:refusals", "scratch.db:id_blocks"} <= held.keys()

    began = time.monotonic()
    job = ask_erasure(server, gone)
    assert not set(server.profiles()).intersection(gone)
    assert time.monotonic() - began < 5
    done = wait_until_erased(server, job["task_id"])

    assert done["distinct_ids"] == []
    assert done["distinct_id_count"] == len(gone)
    assert done["report"]["people"] == len(gone)
    assert done["report"]["records"] >= 4 * len(gone)
    assert any("backups" in each for each in done["report"]["not_reached"])
    assert found(server.data_dir, {marker for person in gone for marker in crowd.markers(person)}) == {}
    assert everybody(server) == {person: before[person] for person in kept}
    assert gone[0] not in server.log_text()
    for person in kept[:5]:
        assert "state.db" in found(server.data_dir, {person})


def test_a_session_skips_the_rows_of_erased_people_and_keeps_its_pages(crowd: Crowd) -> None:
    server = crowd.server
    project = server.project_id
    first = server.get("/api/query/engage", project_id=project, page_size=10).json()
    victim = first["results"][3]["$distinct_id"]
    second = server.get(
        "/api/query/engage", project_id=project, page=1, page_size=10, session_id=first["session_id"]
    ).json()
    wait_until_erased(server, ask_erasure(server, [victim])["task_id"])
    again = server.get(
        "/api/query/engage", project_id=project, page=0, page_size=10, session_id=first["session_id"]
    ).json()
    ids = [row["$distinct_id"] for row in first["results"]]
    ids.remove(victim)
    assert [row["$distinct_id"] for row in again["results"]] == ids
    assert (again["total"], again["page_size"]) == (first["total"], first["page_size"])
    same = server.get(
        "/api/query/engage", project_id=project, page=1, page_size=10, session_id=first["session_id"]
    ).json()
    assert [row["$distinct_id"] for row in same["results"]] == [
        row["$distinct_id"] for row in second["results"]
    ]


def test_an_id_can_be_used_again_at_once_while_its_job_runs(crowd: Crowd) -> None:
    server = crowd.server
    person = crowd.ids[81]
    job = ask_erasure(server, [person])
    crowd.post([{"$token": server.token, "$distinct_id": person, "$set": {"born": "again-marker"}}])
    wait_until_erased(server, job["task_id"])
    (profile,) = server.profiles(distinct_ids=f'["{person}"]').values()
    assert profile.pop("$last_seen")
    assert profile == {"born": "again-marker"}
    bare = person.removesuffix("-id")
    assert found(server.data_dir, {f"{bare}-value", f"{bare}-property"}) == {}
    assert "log.db" in found(server.data_dir, {"again-marker"})


def test_a_retry_from_before_the_erasure_does_not_bring_anybody_back(crowd: Crowd) -> None:
    server = crowd.server
    person = "p-retried-id"
    records = [
        {"$token": server.token, "$distinct_id": person, "$set": {"secret": "p-retried-value"}},
        {
            "$token": server.token,
            "$distinct_id": person,
            "$set": {"p-retried-property": 1},
            "$insert_id": "i",
        },
        {"$token": server.token, "$distinct_id": "p-other-id", "$set": {"n": 1}},
    ]
    first = crowd.post(records, key="once")
    assert set(server.profiles(distinct_ids=f'["{person}"]')) == {person}
    wait_until_erased(server, ask_erasure(server, [person])["task_id"])
    assert found(server.data_dir, {person, "p-retried-value", "p-retried-property"}) == {}
    again = crowd.post(records, key="once")
    crowd.post([records[1]])
    assert again.body == first.body
    assert server.profiles(distinct_ids=f'["{person}"]') == {}


def test_a_group_is_erased_and_the_user_of_the_same_id_stays(crowd: Crowd) -> None:
    server = crowd.server
    both = "p-double-id"
    crowd.post([{"$token": server.token, "$distinct_id": both, "$set": {"is": "a user"}}])
    server.post(
        "/groups",
        [
            {
                "$token": server.token,
                "$group_key": "Company",
                "$group_id": each,
                "$set": {"is": "p-group-value"},
            }
            for each in (both, "Acme")
        ],
    )
    job = ask_erasure(server, [both], group_key="Company")
    wait_until_erased(server, job["task_id"])
    assert set(server.groups("Company")) == {"Acme"}
    assert set(server.profiles(distinct_ids=f'["{both}"]')) == {both}


def test_a_retrieval_is_forgotten_with_its_people(crowd: Crowd) -> None:
    server = crowd.server
    person = crowd.ids[83]
    body = {"distinct_ids": [person]}
    retrieval = server.post(f"{RETRIEVALS}/?token={server.token}", body, server.authorization())
    task = retrieval.json()["results"]["task_id"]
    assert server.get(f"{RETRIEVALS}/{task}/", token=server.token).status == 200
    wait_until_erased(server, ask_erasure(server, [person])["task_id"])
    assert server.get(f"{RETRIEVALS}/{task}", token=server.token).status == 404


def test_numbers_and_repeated_ids_are_taken_and_bad_calls_are_refused(crowd: Crowd) -> None:
    server = crowd.server
    job = ask_erasure(server, [17, "17", "never seen"])  # type: ignore[list-item]
    assert job["distinct_id_count"] == 2
    wait_until_erased(server, job["task_id"])
    bad: tuple[tuple[dict[str, object], str], ...] = (
        ({}, "distinct_ids"),
        ({"distinct_ids": []}, "distinct_ids"),
        ({"distinct_ids": [""]}, "distinct_ids"),
        ({"distinct_ids": [{}]}, "distinct_ids"),
        ({"distinct_ids": [str(number) for number in range(2001)]}, "distinct_ids"),
        ({"distinct_ids": ["a"], "compliance_type": "HIPAA"}, "compliance_type"),
    )
    for body, named in bad:
        reply = server.post(f"{DELETIONS}?token={server.token}", body, server.authorization())
        assert reply.status == 400, (body, reply)
        assert reply.json()["error"].startswith(named)


def test_unknown_jobs_are_404_and_a_started_one_cannot_be_cancelled(crowd: Crowd) -> None:
    server = crowd.server
    token = {"token": server.token}
    for path in (
        f"{DELETIONS}/{'0' * 32}",
        f"{RETRIEVALS}/x",
        f"{RETRIEVALS}/x/file",
        f"{DELETIONS}/{'9' * 500}",
    ):
        assert server.get(path, **token).status == 404
    job = ask_erasure(server, ["p-uncancelled-id"])
    wait_until_erased(server, job["task_id"])
    path = f"{DELETIONS}/{job['task_id']}?token={server.token}"
    reply = server.request("DELETE", path, headers=server.authorization())
    assert reply.status == 405
    assert reply.header("Allow") == "GET"
    assert server.request("DELETE", f"{DELETIONS}/none", headers=server.authorization()).status in (400, 404)


def test_only_admins_of_the_project_erase_and_retrieve(crowd: Crowd) -> None:
    server = crowd.server
    body = {"distinct_ids": ["nobody"]}
    target = f"?token={server.token}"
    other = server.command("project", "create", "elsewhere", "--json")
    made = {
        role: server.command(
            "account", "create", f"{role}-eraser", "--project", "1", "--role", role, "--json"
        )
        for role in ("consumer", "analyst", "admin")
    }
    admin = (made["admin"]["username"], made["admin"]["password"])
    allowed = {
        "none": (None, 401),
        "the token": ((server.token, ""), 401),
        "the secret": ((server.secret, ""), 403),
        "consumer": ((made["consumer"]["username"], made["consumer"]["password"]), 403),
        "analyst": ((made["analyst"]["username"], made["analyst"]["password"]), 403),
        "admin": (admin, 201),
    }
    for who, (account, status) in allowed.items():
        headers = {} if account is None else authorization(account)
        for path in (DELETIONS, RETRIEVALS):
            reply = server.post(path + target, body, headers)
            assert reply.status == status, (who, path, reply)
            wrong = server.post(f"{path}?token={other['token']}", body, headers)
            assert wrong.status == (403 if status == 201 else status), (who, wrong)
    job = ask_erasure(server, ["p-hidden-id"])
    reply = server.request(
        "GET", f"{DELETIONS}/{job['task_id']}?token={other['token']}", headers=server.authorization()
    )
    assert reply.status == 404, "a job of one project is none of another's"


def test_the_data_of_a_person_comes_as_one_file_with_credentials(crowd: Crowd) -> None:
    server = crowd.server
    person = "p-retrieved-id"
    crowd.post([{"$token": server.token, "$distinct_id": person, "$set": {"plan": "pro"}}])
    crowd.post([{"$token": server.token, "$distinct_id": person, "$set": 5}])
    body = {"distinct_ids": [person], "compliance_type": "CCPA", "disclosure_type": "Data"}
    created = server.post(f"{RETRIEVALS}?token={server.token}", body, server.authorization())
    assert created.status == 201
    job = server.get(f"{RETRIEVALS}/{created.json()['results']['task_id']}/", token=server.token)
    results = job.json()["results"]
    assert results["status"] == "SUCCESS"
    assert results["result"] == results["results"]
    assert results["distinct_ids"] == [person]
    target = results["results"].removeprefix(server.base_url)
    assert target.startswith("/api/app/")
    assert server.request("GET", target).status == 401
    fetched = server.request("GET", target, headers=server.authorization())
    file = orjson.loads(fetched.body)
    assert [each["$properties"]["plan"] for each in file["profiles"]] == ["pro"]
    assert [each["operations"] for each in file["records"]] == [{"$set": {"plan": "pro"}}]
    assert [orjson.loads(each["record"])["$set"] for each in file["refusals"]] == [5]
    assert (
        fetched.header("Content-Disposition") == f'attachment; filename="mixdown-{results["task_id"]}.json"'
    )


def test_the_tail_and_the_page_show_no_tombstones(crowd: Crowd) -> None:
    server = crowd.server
    person = "p-tombstone-id"
    crowd.post([{"$token": server.token, "$distinct_id": person, "$set": {"plan": "pro"}}])
    wait_until_erased(server, ask_erasure(server, [person])["task_id"])
    reply = server.get("/api/mixdown/records", limit=1000)
    assert reply.status == 200
    assert all(record["project_id"] for record in reply.json()["results"])
    assert person not in reply.body.decode()


def test_a_job_can_wait_and_be_cancelled_while_it_does(start_server: StartServer) -> None:
    server = start_server(environment={"MIXDOWN_ERASURE_DELAY_MINUTES": "60"})
    crowd = Crowd(server, "w", 3)
    crowd.send(1)
    job = ask_erasure(server, crowd.ids)
    assert job["status"] == "PENDING"
    assert job_of(server, job["task_id"])["distinct_ids"] == crowd.ids
    path = f"{DELETIONS}/{job['task_id']}?token={server.token}"
    assert server.request("DELETE", path, headers=server.authorization()).status == 204
    revoked = job_of(server, job["task_id"])
    assert (revoked["status"], revoked["distinct_ids"]) == ("REVOKED", [])
    assert set(server.profiles()) == set(crowd.ids)
