"""Erasing people from a running server: nothing of them is left in any file, and everything else stays."""

from __future__ import annotations

import time

import orjson
import pytest

from tests.erasure.people import (
    RETRIEVALS,
    Crowd,
    ask_erasure,
    wait_until_erased,
)
from tests.erasure.raw import KEPT, LOGGED, PLACES, found
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
    assert held.keys() >= PLACES

    began = time.monotonic()
    job = ask_erasure(server, gone)
    assert not set(server.profiles()).intersection(gone)
    assert time.monotonic() - began < 30
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
        assert KEPT in found(server.data_dir, {person})


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
    assert LOGGED in found(server.data_dir, {"again-marker"})


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
