"""What real SDKs put on the wire at /track and /import, replayed; what is stored must be what they meant.

As `test_captures`, whose recordings these are. Only what the recording machine made up is replaced: the
project's number, since the server's own is 1.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mixdown.store.credentials import secret_hash
from mixdown.store.protocols import Account
from tests.contract.geo import BERLIN, CLIENT_IP
from tests.contract.logged import logged
from tests.contract.support import exact
from tests.contract.test_captures import OF_EVENTS, TOKEN, name_of, parameters_of, path_of
from tests.engine import open_store
from tests.model.event_reference import Setting, Stored, judge
from tests.serving import Server, launch

EVENTS = [capture for capture in OF_EVENTS if path_of(capture) in ("/track", "/import")]
EVENT_GEO = {
    "$city": BERLIN["$city"],
    "$region": BERLIN["$region"],
    "mp_country_code": BERLIN["$country_code"],
}
CLOCK_MS = 60_000


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, geo_database: Any) -> Iterator[Server]:
    """A server with the token, secret and accounts of the recordings, which takes events of any age."""
    running = launch(
        tmp_path_factory.mktemp("events") / "data",
        environment={
            "MIXDOWN_TOKEN": TOKEN,
            "MIXDOWN_SECRET": "secret123",
            "MIXDOWN_ACCOUNT": "sa.user.mp-service-account:sapass",
            "MIXDOWN_GEO_DATABASE": str(geo_database),
            "MIXDOWN_TRUSTED_PROXIES": "127.0.0.1",
        },
    )
    store = open_store(running.data_dir, role="cli", create=False)
    try:
        store.catalog.change_project(1, late_events=True)
        store.catalog.create_account(Account("sa.user", secret_hash("sapass"), 1, "ingest"))
    finally:
        store.close()
    yield running
    running.stop()


def has_credentials(capture: dict[str, Any]) -> bool:
    """Whether they are right: node names no project, and two recordings send a key or nothing at all."""
    if path_of(capture) == "/track":
        return True
    header = capture["headers"].get("authorization", "")
    account = base64.b64decode(header.partition(" ")[2]).startswith(b"sa.user")
    return bool(header) and (not account or "project_id=" in capture["target"])


def reply_to(capture: dict[str, Any], parameters: dict[str, str], bad: list[tuple[int, str]]) -> Any:
    """Status and body that contract ingestion §6 asks for; a body of None is looked at apart."""
    good = len(capture["records"]) - len(bad)
    if not has_credentials(capture):
        return 401, None
    if parameters.get("img") == "1":
        return 200, None
    importing = path_of(capture) == "/import"
    if importing and parameters.get("strict") == "1":
        assert not bad
        return 200, {"code": 200, "num_records_imported": good, "status": "OK"}
    if parameters.get("verbose", "0") == "0":
        return 200, int(good > 0)
    if importing:
        return 200, {"code": 200, "error": None, "num_records_imported": good, "status": 1}
    return 200, {"error": None, "status": 1}


@pytest.mark.parametrize("capture", EVENTS, ids=name_of)
def test_an_event_of_an_sdk(recorded: Server, capture: dict[str, Any]) -> None:
    body = base64.b64decode(capture["body_b64"])
    parameters = parameters_of(capture, b"" if body[:2] == b"\x1f\x8b" else body)
    importing = path_of(capture) == "/import"
    records = json.loads(json.dumps(capture["records"]).replace(f'"{TOKEN}"', '"TOK"'))
    target = capture["target"].replace("project_id=12345", "project_id=1")
    before_ms = time.time_ns() // 1_000_000
    with logged(recorded) as found:
        reply = recorded.request(
            capture["method"], target, body, {**capture["headers"], "X-Forwarded-For": CLIENT_IP}
        )
    how = Setting(now_ms=before_ms, importing=importing, strict=parameters.get("strict") == "1", late=True)
    judged = [judge(record, how) for record in records]
    bad = [(index, each.field) for index, each in enumerate(judged) if not isinstance(each, Stored)]
    status, content = reply_to(capture, parameters, bad)
    assert reply.status == status, reply
    if content is not None:
        assert json.loads(reply.body) == content
    assert reply.header("Access-Control-Allow-Origin") == capture["headers"].get("origin")

    wanted = [each for each in judged if isinstance(each, Stored)] if status == 200 else []
    assert len(found.events) == len(wanted)
    located = EVENT_GEO if parameters.get("ip", "1") != "0" else {}
    for stored, reference in zip(found.events, wanted, strict=True):
        assert (stored.event, stored.distinct_id) == (reference.event, reference.distinct_id)
        assert reference.insert_id in (None, stored.insert_id)
        assert abs(stored.time - reference.time) < (CLOCK_MS if reference.time == before_ms else 2)
        assert exact(stored.properties) == exact({**located, **reference.properties})
    links = {each.link for each in wanted if each.link is not None}
    assert {(link.verb, link.one, link.other) for link in found.links} == links


def test_the_recordings_are_of_every_kind() -> None:
    assert sum(map(has_credentials, EVENTS)) > 30
    assert {path_of(capture) for capture in EVENTS} == {"/track", "/import"}
