"""Events over HTTP: every case of the contract, what is stored of it, and what is kept of the rest."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mixdown.store.protocols import Store
from tests.contract import cases_of_events, cases_of_imports
from tests.contract.cases_of_events import HIDDEN, SA, EventCase, I, T, basic, imported, imports, track
from tests.contract.logged import LoggedEvent, logged
from tests.contract.support import TOKEN, ZERO, Reply, Sent, exact
from tests.engine import open_store
from tests.serving import Server, launch

CASES = [*cases_of_events.CASES, *cases_of_imports.CASES]


@pytest.fixture(scope="module")
def events_server(tmp_path_factory: pytest.TempPathFactory, geo_database: Path) -> Iterator[Server]:
    """The server of the cases, with the contract's token, secret and account."""
    running = launch(
        tmp_path_factory.mktemp("events") / "data",
        environment={
            "MIXDOWN_TOKEN": TOKEN,
            "MIXDOWN_SECRET": "SEC",
            "MIXDOWN_ACCOUNT": "sa:pw",
            "MIXDOWN_GEO_DATABASE": str(geo_database),
            "MIXDOWN_TRUSTED_PROXIES": "127.0.0.1",
        },
    )
    yield running
    running.stop()


@pytest.fixture(scope="module")
def opened(events_server: Server) -> Iterator[Store]:
    """The same server's data, beside it."""
    store = open_store(events_server.data_dir, role="cli", create=False)
    yield store
    store.close()


def set_project(store: Store, *, mode: str = "simplified", late: bool = False) -> None:
    """Set the project, where it is set otherwise; the server takes it in with its next commit."""
    project = store.catalog.projects()[0]
    if (project.id_merge, project.late_events) != (mode, late):
        store.catalog.change_project(project.id, id_merge=mode, late_events=late)


def compare(stored: LoggedEvent, wanted: Any, began_ms: int) -> None:
    """Hold a stored event to what a case says of it."""
    now_ms = time.time_ns() // 1_000_000
    assert stored.project == 1
    assert HIDDEN.isdisjoint(stored.properties)
    for name, value in wanted.items():
        if name == "arrived":
            assert began_ms <= stored.time <= now_ms
        elif name == "generated":
            assert len(stored.insert_id) > 20
        elif name == "hashed":
            assert len(stored.distinct_id) == 32
            assert "203" not in stored.distinct_id[:3]
        elif name == "count":
            assert len(stored.properties) == value
        elif name == "properties":
            assert exact(stored.properties) == exact(value)
        else:
            assert getattr(stored, name) == value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(events_server: Server, opened: Store, case: EventCase) -> None:
    set_project(opened, mode=case.mode, late=case.late)
    known = {refusal.id for refusal in opened.refusals.listing(None, limit=10_000)}
    began_ms = time.time_ns() // 1_000_000
    with logged(events_server) as found:
        for sent in [case.sent] if isinstance(case.sent, Sent) else case.sent:
            sent.reply.check(sent.send(events_server))
    assert len(found.events) == len(case.stored), found.events
    for stored, wanted in zip(found.events, case.stored, strict=True):
        compare(stored, wanted, began_ms)
    assert [(link.verb, link.one, link.other) for link in found.links] == list(case.links)
    assert all(link.mode == case.mode for link in found.links)
    if case.refused is not None:
        new = [kept for kept in opened.refusals.listing(None, limit=10_000) if kept.id not in known]
        assert [kept.message for kept in reversed(new) if not kept.message.startswith("identity,")] == list(
            case.refused
        )


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))


def refusal_of(store: Store) -> Any:
    return store.refusals.listing(None, limit=1)[0]


def test_a_refused_event_can_be_mended_and_sent_again(events_server: Server, opened: Store) -> None:
    set_project(opened)
    track(T("Mended", time="yesterday"), reply=ZERO).reply.check(
        track(T("Mended", time="yesterday"), reply=ZERO).send(events_server)
    )
    refusal = refusal_of(opened)
    assert (refusal.endpoint, refusal.project, refusal.field) == ("track", 1, "properties.time")
    account = events_server.authorization()
    body = {"ids": [str(refusal.id)], "record": T("Mended", time=int(time.time()))}
    with logged(events_server) as found:
        again = events_server.post("/api/mixdown/refusals/resend", body, account)
        assert again.json()["results"] == [{"id": refusal.id, "stored": True, "error": None}]
    [event] = found.events
    assert (event.event, event.insert_id) == ("Mended", f"refusal-{refusal.id}")
    assert not opened.refusals.by_ids([refusal.id])


def test_a_refused_import_goes_into_its_project_when_it_is_sent_again(
    events_server: Server, opened: Store
) -> None:
    set_project(opened)
    sent = imports(I("Again", **{"$insert_id": "a_b"}), reply=Reply(400, "application/json", lambda _: True))
    sent.reply.check(sent.send(events_server))
    refusal = refusal_of(opened)
    with logged(events_server) as found:
        body = {"ids": [str(refusal.id)]}
        events_server.post("/api/mixdown/refusals/resend", body, events_server.authorization())
    [event] = found.events
    assert (event.endpoint, event.project, event.event, event.insert_id) == ("import", 1, "Again", "a_b")


def test_a_retried_request_of_events_is_answered_as_the_first_and_stored_once(events_server: Server) -> None:
    key = {**SA, "Idempotency-Key": "events-1"}
    bad = [I("Once"), I("Once", **{"$insert_id": "x_y"})]
    with logged(events_server) as found:
        first = imports(*bad, headers=key).send(events_server)
        time.sleep(0.2)
        second = imports(*bad, headers=key).send(events_server)
    assert first.status == second.status == 400
    assert first.body == second.body
    assert len(found.events) == 1


def test_the_same_import_under_the_same_key_into_two_projects_is_stored_in_both(
    events_server: Server, opened: Store
) -> None:
    other = opened.catalog.create_project(
        "twin", token="TWIN", secret_hash=b"t" * 32, id_merge="simplified", now_ms=0
    )
    with logged(events_server) as found:
        for token in (TOKEN, "TWIN"):
            headers = {**basic(f"{token}:"), "Idempotency-Key": "both"}
            sent = imports(I("Both"), query="?strict=1", headers=headers)
            imported(1).check(sent.send(events_server))
            time.sleep(0.2)
    opened.catalog.delete_project(other.id)
    assert [event.project for event in found.events] == [1, other.id]


def test_a_time_so_long_ago_that_no_double_holds_its_milliseconds_is_refused(events_server: Server) -> None:
    with logged(events_server) as found:
        reply = track(T(time=-1e308), T(time="-1e308"), T("Now")).send(events_server)
    assert (reply.status, reply.body) == (200, b"1")
    assert [event.event for event in found.events] == ["Now"]


def test_a_browser_that_sends_again_after_an_answer_makes_two_events(events_server: Server) -> None:
    with logged(events_server) as found:
        for _ in range(2):
            assert track(T("Twice"), query="?_=1795310850065").send(events_server).body == b"1"
    assert len(found.events) == 2


def test_an_account_that_may_only_read_may_not_import(events_server: Server, opened: Store) -> None:
    from mixdown.store.credentials import secret_hash
    from mixdown.store.protocols import Account

    for role, status in (("consumer", 401), ("analyst", 401), ("ingest", 200), ("admin", 200)):
        opened.catalog.create_account(Account(f"of-{role}", secret_hash("pw"), 1, role))
        reply = imports(I("Roles"), headers=basic(f"of-{role}:pw")).send(events_server)
        assert (role, reply.status) == (role, status)
    reply = imports(I(), headers=basic("of-ingest:wrong")).send(events_server)
    assert reply.json()["error"] == "Not a valid service account username", "in the same words as for nobody"


def test_a_mixed_batch_goes_where_its_tokens_say(events_server: Server, opened: Store) -> None:
    other = opened.catalog.create_project(
        "other", token="TOK2", secret_hash=b"o" * 32, id_merge="original", now_ms=0
    )
    # a read makes the server know it: a batch of several partitions whose projects change meanwhile gets 503
    events_server.profiles()
    both = {"$device_id": "D", "$user_id": "U"}
    with logged(events_server) as found:
        sent = track(T(**both), T(token="TOK2", **both), T(token="NOPE"), T(token="TOK2"))
        sent.reply.check(sent.send(events_server))
    assert [(event.project, event.distinct_id) for event in found.events] == [
        (1, "U"), (other.id, "u1"), (other.id, "u1"),
    ]  # fmt: skip
    assert [(link.project, link.mode) for link in found.links] == [(1, "simplified")]
    opened.catalog.delete_project(other.id)
    assert track(T(token="TOK2"), reply=ZERO).send(events_server).body == b"0"


def test_a_large_import_is_stored_in_its_order(events_server: Server, opened: Store) -> None:
    set_project(opened)
    events = [I("Large", n=number, pad="x" * (300 if number % 100 == 7 else 200)) for number in range(2000)]
    assert len(json.dumps(events)) > 500_000
    with logged(events_server) as found:
        sent = imports(*events)
        imported(2000).check(sent.send(events_server))
    assert [event.properties["n"] for event in found.events] == list(range(2000))
    assert [event.position for event in found.events] == list(
        range(found.events[0].position, found.events[0].position + 2000)
    )
    assert len(found.events[7].properties["pad"]) == 255


def test_times_from_1970_to_2100_are_taken_or_refused_in_every_form(
    events_server: Server, opened: Store
) -> None:
    set_project(opened)
    now = int(time.time())
    years = [0, 86_400, 31_535_999, 31_536_000, 10**9, now - 1, now + 600, now + 4000, 4_102_444_800]
    for seconds in years:
        forms = [seconds, float(seconds), str(seconds), f"{seconds}.0"]
        if seconds * 1000 >= 10**11:
            forms += [seconds * 1000, seconds * 1000.0, str(seconds * 1000)]
        good = 31_536_000 <= seconds <= now + 3600
        for form in forms:
            sent = imports(I("Time", time=form), reply=imported(1))
            with logged(events_server) as found:
                reply = sent.send(events_server)
            assert (reply.status, len(found.events)) == ((200, 1) if good else (400, 0)), (seconds, form)
            if good and seconds <= now:
                assert found.events[0].time == seconds * 1000
