"""Jobs of erasure and retrieval over HTTP, on each store: who may, what is taken, how a job goes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from mixdown.fold.erasure import Eraser
from mixdown.fold.events import take_all
from mixdown.fold.events_erasure import EventsEraser
from mixdown.store import privacy
from mixdown.store.chunk import Link
from mixdown.store.memory import MemoryStore
from mixdown.store.postgres import open_postgres
from mixdown.store.privacy import (
    RETRIEVAL_LIFE_MS,
    RETRIEVALS_KEPT,
    STAGING,
    STALE_STAGING_MS,
    UNFINISHED_LIMIT,
    Erasures,
    begin,
)
from mixdown.store.protocols import Cohort, Store
from mixdown.store.sqlite.store import open_store
from tests.engine import TRIED
from tests.erasure.people import DELETIONS, RETRIEVALS
from tests.reads.support import (
    ADMIN,
    DAY_MS,
    IMPORTER,
    OTHER_TOKEN,
    OWNER,
    PASSWORD,
    READER,
    SECRET,
    STRANGER,
    TOKEN,
    World,
    basic,
    group,
    user,
)
from tests.store.conftest import postgresql
from tests.store.support import append, appending_events

__all__ = ["postgresql"]  # a fixture

BODY = {"distinct_ids": ["ada"]}


def made_world(request: pytest.FixtureRequest, folder: Path, **settings: Any) -> World:
    fold_store: Store | None = None
    store: Store = MemoryStore()
    if request.param == "postgres":
        server = request.getfixturevalue("postgresql")
        store = cast("Store", open_postgres(server.migrated(), role="fold", create=False))
    elif request.param == "sqlite":
        store = open_store(folder / "data", role="worker", create=True)
        fold_store = open_store(folder / "data", role="fold", create=False)
    return World(store, fold_store, read_wait_ms=0, **settings)


@pytest.fixture(params=TRIED)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A server whose fold and eraser run when the test says so."""
    made = made_world(request, tmp_path)
    yield made
    made.close()


@pytest.fixture(params=TRIED)
def patient_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """One whose erasures wait for an hour."""
    made = made_world(request, tmp_path, erasure_delay_minutes=60)
    yield made
    made.close()


def ask(world: World, body: dict[str, Any], *, path: str = DELETIONS, token: str = TOKEN) -> Any:
    reply = world.post(path, user=ADMIN, params={"token": token}, json=body)
    assert reply.status_code == 201, reply.text
    return reply.json()["results"]


def job(world: World, asked: dict[str, Any], *, path: str = DELETIONS) -> Any:
    reply = world.get(f"{path}/{asked['task_id']}", user=ADMIN, params={"token": TOKEN})
    assert reply.status_code == 200, reply.text
    return reply.json()["results"]


def cancel(world: World, asked: dict[str, Any]) -> int:
    target = f"{DELETIONS}/{asked['task_id']}/"
    return world.run(world.ask(target, method="DELETE", user=ADMIN, params={"token": TOKEN})).status_code


def erase(world: World) -> None:
    """Fold, and do what erasing there is to do."""
    eraser = Eraser(world.fold_store, now_ms=world.clock)
    events = EventsEraser(world.fold_store)
    for _ in range(100):
        world.fold_all()
        take_all(world.fold_store)
        events.go_on()
        eraser.go_on(busy=False)
        eraser._due = 0.0


def test_more_linked_ids_than_one_deletion_may_have_are_refused_before_there_is_a_job(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [Link(0, world.project.id, "original", "create_alias", "ada", f"alias {n}") for n in range(3)]
    append(world.store.log, appending_events("ada", links=asked), now_ms=world.now_ms)
    world.fold_all()
    monkeypatch.setattr(privacy, "LINKED_LIMIT", 3)
    reply = world.post(DELETIONS, user=ADMIN, params={"token": TOKEN}, json=BODY)
    assert (reply.status_code, "more than 3 ids are linked" in reply.text) == (400, True), reply.text
    assert not world.store.privacy.unfinished()
    monkeypatch.setattr(privacy, "LINKED_LIMIT", 4)
    ask(world, BODY)


def test_only_admins_of_the_project_erase_and_retrieve(world: World) -> None:
    callers = {
        "nobody": ({}, 401),
        "the token": ({"Authorization": basic(f"{TOKEN}:")}, 401),
        "the secret": ({"Authorization": basic(f"{SECRET}:")}, 403),
        "a wrong password": ({"Authorization": basic(f"{ADMIN}:x")}, 401),
        **{
            name: ({"Authorization": basic(f"{name}:{PASSWORD}")}, status)
            for name, status in ((READER, 403), (IMPORTER, 403), (STRANGER, 403), (ADMIN, 201), (OWNER, 201))
        },
    }
    asked = ask(world, BODY)
    fetched = ask(world, BODY, path=RETRIEVALS)
    paths = (
        f"{DELETIONS}/{asked['task_id']}",
        f"{RETRIEVALS}/{fetched['task_id']}",
        f"{RETRIEVALS}/{fetched['task_id']}/file",
    )
    for who, (headers, status) in callers.items():
        for path in (DELETIONS, f"{DELETIONS}/", RETRIEVALS):
            reply = world.post(path, user=None, headers=headers, params={"token": TOKEN}, json=BODY)
            assert reply.status_code == status, (who, path, reply.text)
        for path in paths:
            reply = world.get(path, user=None, headers=headers, params={"token": TOKEN})
            assert reply.status_code == (200 if status == 201 else status), (who, path, reply.text)
        if status != 201:
            gone = world.run(
                world.ask(paths[0], method="DELETE", user=None, headers=headers, params={"token": TOKEN})
            )
            assert gone.status_code == status, (who, gone.text)
    for token in (OTHER_TOKEN, "unknown"):
        reply = world.post(DELETIONS, user=ADMIN, params={"token": token}, json=BODY)
        assert reply.status_code == 403
        assert reply.json()["error"] == "no access to the project of this token"


def test_a_job_of_one_project_is_none_of_anothers(world: World) -> None:
    asked = ask(world, BODY)
    fetched = ask(world, BODY, path=RETRIEVALS)
    for path in (f"{DELETIONS}/{asked['task_id']}", f"{RETRIEVALS}/{fetched['task_id']}/file"):
        assert world.get(path, user=STRANGER, params={"token": OTHER_TOKEN}).status_code == 404
        assert world.get(path, user=OWNER, params={"token": OTHER_TOKEN}).status_code == 404
        assert world.get(path, user=OWNER, params={"project_id": world.project.id}).status_code == 200


def test_the_same_id_in_another_project_stays(world: World) -> None:
    world.send(user("ada", n=1))
    world.send(user("ada", token=OTHER_TOKEN, n=2))
    world.send({"$token": OTHER_TOKEN, "$distinct_id": "ada", "$set": 5})
    ask(world, BODY)
    erase(world)
    assert world.store.state.documents([(world.project.id, "", "ada")]) == [None]
    assert world.store.state.documents([(world.other.id, "", "ada")]) != [None]
    assert [refusal.project for refusal in world.store.refusals.listing(None)] == [world.other.id]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "distinct_ids"),
        ({"distinct_ids": []}, "distinct_ids"),
        ({"distinct_ids": [""]}, "distinct_ids"),
        ({"distinct_ids": [{}]}, "distinct_ids"),
        ({"distinct_ids": [None]}, "distinct_ids"),
        ({"distinct_ids": [str(number) for number in range(2001)]}, "distinct_ids"),
        ({"distinct_ids": ["a"], "compliance_type": "HIPAA"}, "compliance_type"),
        ({"distinct_ids": ["a"], "group_key": ["b"]}, "group_key"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused_by_name(body: dict[str, Any], named: str) -> None:
    world = World(MemoryStore())
    for path in (DELETIONS, RETRIEVALS):
        reply = world.post(path, user=ADMIN, params={"token": TOKEN}, json=body)
        assert reply.status_code == 400
        assert reply.json()["error"].startswith(named)
        assert reply.json()["status"] == "error"
    world.close()


def test_ids_are_taken_as_numbers_and_once_and_two_thousand_of_them(world: World) -> None:
    assert ask(world, {"distinct_ids": [17, "17", "b"]})["distinct_ids"] == ["17", "b"]
    asked = ask(world, {"distinct_ids": [f"p{number}" for number in range(2000)], "compliance_type": "ccpa"})
    assert (asked["distinct_id_count"], asked["compliance_type"]) == (2000, "CCPA")


def test_another_sites_page_cannot_make_a_browser_erase(world: World) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    for path in (DELETIONS, RETRIEVALS):
        reply = world.post(path, user=ADMIN, headers=headers, params={"token": TOKEN}, json=BODY)
        assert reply.status_code == 403
    asked = ask(world, BODY)
    target = f"{DELETIONS}/{asked['task_id']}"
    assert world.run(world.ask(target, method="DELETE", user=ADMIN, headers=headers)).status_code == 403


def test_a_job_goes_from_started_to_success_and_forgets_its_ids(world: World) -> None:
    world.send(user("ada", n=1), user("bob", n=2))
    world.fold_all()
    own = partial(world.store.privacy.erasures, world.project.id)
    assert own() == Erasures(under_way=0, last_ms=0)
    asked = ask(world, BODY)
    assert (asked["status"], asked["distinct_ids"], asked["report"]) == ("STARTED", ["ada"], None)
    assert own() == Erasures(under_way=1, last_ms=0)
    assert asked["task_id"] == asked["tracking_id"]
    assert (asked["requesting_user"], asked["compliance_type"]) == (ADMIN, "GDPR")
    assert cancel(world, asked) == 405
    erase(world)
    assert own() == Erasures(under_way=0, last_ms=world.now_ms)
    assert world.store.privacy.erasures(world.other.id) == Erasures(0, 0)
    done = job(world, asked)
    assert (done["status"], done["distinct_ids"], done["distinct_id_count"]) == ("SUCCESS", [], 1)
    assert (done["report"]["people"], done["report"]["records"]) == (1, 2)
    assert [row["$distinct_id"] for row in world.page()["results"]] == ["bob"]
    assert cancel(world, asked) == 405


def test_a_group_is_erased_by_its_key(world: World) -> None:
    world.send(user("Acme", n=1))
    world.send(group("Company", "Acme", n=1), group("Company", "Node", n=1), endpoint="groups")
    world.send({"$token": TOKEN, "$group_key": "Company", "$group_id": "Acme", "$set": 5}, endpoint="groups")
    world.send({"$token": TOKEN, "$group_key": "Team", "$group_id": "Acme", "$set": 5}, endpoint="groups")
    ask(world, {"distinct_ids": ["Acme"], "group_key": "Company"})
    erase(world)
    project = world.project.id
    assert world.store.state.documents([(project, "Company", "Acme")]) == [None]
    assert None not in world.store.state.documents([(project, "Company", "Node"), (project, "", "Acme")])
    (refusal,) = world.store.refusals.listing(None)
    assert "Team" in refusal.record


def test_cohorts_retrievals_and_refusals_without_a_project_forget_them_too(world: World) -> None:
    cohort = world.store.cohorts.create(Cohort(world.project.id, "listed"), ["ada", "bob"])
    fetched = ask(world, {"distinct_ids": ["ada", "bob"]}, path=RETRIEVALS)
    world.send({"$token": "nobodys", "$distinct_id": "ada", "$set": {"a": 1}})
    world.send({"$token": "nobodys", "$distinct_id": "bob", "$set": {"a": 1}})
    ask(world, BODY)
    erase(world)
    assert list(world.store.cohorts.ids(cohort.id)) == ["bob"]
    missing = world.get(f"{RETRIEVALS}/{fetched['task_id']}", user=ADMIN, params={"token": TOKEN})
    assert missing.status_code == 404
    assert [json.loads(each.record)["$distinct_id"] for each in world.store.refusals.listing(None)] == ["bob"]


def test_a_job_that_waits_can_be_cancelled_until_its_time_comes(patient_world: World) -> None:
    world = patient_world
    world.send(user("ada", n=1), user("bob", n=2))
    asked, other = ask(world, BODY), ask(world, {"distinct_ids": ["bob"]})
    erase(world)
    assert (job(world, asked)["status"], job(world, asked)["distinct_ids"]) == ("PENDING", ["ada"])
    assert cancel(world, asked) == 204
    assert (job(world, asked)["status"], job(world, asked)["distinct_ids"]) == ("REVOKED", [])
    world.now_ms += 3600 * 1000
    erase(world)
    assert job(world, other)["status"] == "SUCCESS"
    assert cancel(world, other) == 405
    assert [row["$distinct_id"] for row in world.page()["results"]] == ["ada"]


def test_a_job_whose_process_died_before_the_log_had_it_is_begun_again(patient_world: World) -> None:
    world = patient_world
    world.send(user("ada", n=1))
    asked = ask(world, BODY)
    jobs = world.fold_store.privacy
    assert jobs.claim(asked["task_id"], now_ms=world.now_ms, stale_ms=0)
    assert not jobs.claim(asked["task_id"], now_ms=world.now_ms, stale_ms=world.now_ms)
    assert job(world, asked)["status"] == STAGING
    assert cancel(world, asked) == 405
    world.now_ms += 60_000
    erase(world)
    assert job(world, asked)["status"] == "SUCCESS"
    assert world.store.state.documents([(world.project.id, "", "ada")]) == [None]


def test_who_waited_too_long_for_the_log_leaves_a_job_to_the_one_that_took_it_over(
    patient_world: World,
) -> None:
    """A second deletion in the log would take what came behind the first, which was answered."""
    world = patient_world
    world.send(user("ada", n=1))
    asked = ask(world, BODY)
    store, jobs = world.store, world.store.privacy
    waiting = jobs.deletion(world.project.id, asked["task_id"])
    assert waiting is not None
    late = world.now_ms + STALE_STAGING_MS + 1
    with ThreadPoolExecutor(1) as threads:
        with store.log.turn():
            first = threads.submit(begin, store, waiting, now_ms=world.now_ms)
            while job(world, asked)["status"] != STAGING:
                time.sleep(0.005)
            assert jobs.claim(waiting.id, now_ms=late, stale_ms=late - STALE_STAGING_MS)
        head = store.log.head()
        assert not first.result(10)
        assert store.log.head() == head
    world.now_ms = late + STALE_STAGING_MS + 1
    erase(world)
    assert job(world, asked)["status"] == "SUCCESS"
    assert store.log.head() == head + 1


def test_jobs_are_bounded(patient_world: World) -> None:
    world = patient_world
    for _ in range(UNFINISHED_LIMIT):
        ask(world, BODY)
    reply = world.post(DELETIONS, user=ADMIN, params={"token": TOKEN}, json=BODY)
    assert reply.status_code == 429
    assert "Retry-After" not in reply.headers
    first = ask(world, BODY, path=RETRIEVALS)
    for _ in range(RETRIEVALS_KEPT):
        world.now_ms += 1
        last = ask(world, BODY, path=RETRIEVALS)
    status = {
        name: world.get(f"{RETRIEVALS}/{asked['task_id']}", user=ADMIN, params={"token": TOKEN}).status_code
        for name, asked in (("first", first), ("last", last))
    }
    assert status == {"first": 404, "last": 200}
    world.now_ms += RETRIEVAL_LIFE_MS
    assert (
        world.get(f"{RETRIEVALS}/{last['task_id']}", user=ADMIN, params={"token": TOKEN}).status_code == 404
    )


def test_a_retrieval_hands_out_everything_that_is_kept(world: World) -> None:
    cohort = world.store.cohorts.create(Cohort(world.project.id, "listed"), ["ada", "bob"])
    world.send(user("ada", plan="pro"), user("bob", plan="free"))
    world.send({"$token": TOKEN, "$distinct_id": "ada", "$set": 5})
    body = {"distinct_ids": ["ada", "nobody"], "compliance_type": "CCPA", "disclosure_type": "sources"}
    asked = ask(world, body, path=RETRIEVALS)
    found = job(world, asked, path=RETRIEVALS)
    assert (found["status"], found["disclosure_type"]) == ("SUCCESS", "Sources")
    assert found["result"] == found["results"] == found["destination_url"]
    world.fold_all()
    link = found["results"].removeprefix("http://mixdown.test")
    fetched = world.get(link, user=ADMIN)
    file = orjson.loads(fetched.content)
    assert (file["ids"], file["group_key"]) == (["ada", "nobody"], None)
    assert [(row["$distinct_id"], row["$properties"]["plan"]) for row in file["profiles"]] == [("ada", "pro")]
    assert file["cohorts"] == [{"id": cohort.id, "name": "listed", "ids": ["ada"]}]
    assert [json.loads(each["record"])["$set"] for each in file["refusals"]] == [5]
    assert [each["operations"] for each in file["records"]] == [{"$set": {"plan": "pro"}}]
    assert fetched.headers["content-disposition"].startswith("attachment")
    assert fetched.headers["cache-control"] == "no-store"


def test_the_last_records_show_no_tombstones(world: World) -> None:
    world.send(user("ada", n=1), user("bob", n=2))
    ask(world, BODY)
    erase(world)
    for who in (OWNER, READER):
        reply = world.get("/api/mixdown/records", user=who)
        assert [record["id"] for record in reply.json()["results"]] == ["bob"]


def test_a_session_is_kept_whole_but_for_them(world: World) -> None:
    world.store_users([f"u{number}" for number in range(9)])
    first = world.page(page_size=3)
    ask(world, {"distinct_ids": ["u1", "u4"]})
    erase(world)
    pages = [world.page(page_size=3, page=page, session_id=first["session_id"]) for page in range(3)]
    ids = [[row["$distinct_id"] for row in page["results"]] for page in pages]
    assert ids == [["u0", "u2"], ["u3", "u5"], ["u6", "u7", "u8"]]
    assert {page["total"] for page in pages} == {9}
    world.now_ms += DAY_MS
    assert world.page(page_size=3)["total"] == 7
