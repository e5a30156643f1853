"""What real SDKs put on the wire, replayed byte for byte; the profiles must be those of the reference.

`tests/data/captures.jsonl` holds requests recorded from mixpanel-python, mixpanel-utils, mixpanel (Node),
mixpanel-browser and mixpanel-import against a recorder, with the records that the recorder read in them.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest

from mixdown.http.body import decode
from mixdown.model.limits import Limits
from tests.contract.conftest import launch_located
from tests.contract.geo import BERLIN, CLIENT_IP
from tests.contract.support import assert_recent, exact
from tests.model.reference import Applied, Document, Kind, Refused, profile_key, refusal, update
from tests.serving import Profile, Server

TOKEN = "tok0123456789abcdef"
RECORDED = Path(__file__).parents[1] / "data" / "captures.jsonl"
CAPTURES: list[dict[str, Any]] = [json.loads(line) for line in RECORDED.read_text().splitlines()]


def path_of(capture: dict[str, Any]) -> str:
    return urlsplit(str(capture["target"])).path.rstrip("/")


def name_of(capture: dict[str, Any]) -> str:
    return f"{capture['client']} {capture['scenario']} {path_of(capture)}"


WRITES = [
    capture
    for capture in CAPTURES
    if path_of(capture) in ("/engage", "/groups") and capture["method"] != "OPTIONS"
]
PREFLIGHTS = [capture for capture in CAPTURES if capture["method"] == "OPTIONS"]
OF_EVENTS = [capture for capture in CAPTURES if capture not in WRITES and capture not in PREFLIGHTS]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, geo_database: Path) -> Iterator[Server]:
    """A server whose project has the token of the captures."""
    running = launch_located(tmp_path_factory.mktemp("captures") / "data", TOKEN, geo_database)
    yield running
    running.stop()


def parameters_of(capture: dict[str, Any], body: bytes) -> dict[str, str]:
    """The parameters as the SDK meant them: of the query, and of the form where the query has none."""
    found = {name: values[-1] for name, values in parse_qs(urlsplit(capture["target"]).query).items()}
    if b"data=" in body:
        form = parse_qs(body.decode())
        found = {name: values[-1] for name, values in form.items() if name != "data"} | found
    return found


def place_of(record: Document, kind: Kind, parameters: dict[str, str]) -> Document | None:
    """Where the reference believes the sender to be (contract ingestion §10)."""
    if "$ip" in record:
        return None  # the captures name addresses that the database does not know, or switch it off
    wanted = parameters.get("ip", "1" if kind == "engage" else "0") != "0"
    return cast("Document", BERLIN) if wanted else None


def reply_to(records: list[Any], kind: Kind, parameters: dict[str, str]) -> bytes:
    """The reply that contract ingestion §6 asks for, from the verdicts of the reference."""
    strict = parameters.get("strict") == "1"
    verdicts = [refusal(record, kind=kind, strict=strict) for record in records]
    failed = [
        {"index": index, "field": verdict.field, "message": verdict.message}
        for index, verdict in enumerate(verdicts)
        if verdict is not None
    ]
    good = len(records) - len(failed)
    content: dict[str, Any]
    if strict:
        content = {"code": 200, "error": None}
        if failed:
            content["error"] = "some data points in the request failed validation"
            content["failed_records"] = failed
        content |= {"num_good_events": good, "num_records_imported": good, "status": int(not failed)}
    elif parameters.get("verbose", "0") != "0":
        content = {"error": None if good else failed[0]["message"], "status": int(good > 0)}
    else:
        return b"1" if good else b"0"
    return json.dumps(content, separators=(",", ":")).encode()


def stored(server: Server, keys: set[tuple[str, str]]) -> dict[tuple[str, str], Profile | None]:
    """The stored profiles of these keys."""
    of_group = {
        group: server.groups(group) if group else server.profiles() for group in {key[0] for key in keys}
    }
    return {(group, name): of_group[group].get(name) for group, name in keys}


def expected(
    records: list[Any],
    kind: Kind,
    parameters: dict[str, str],
    before: dict[tuple[str, str], Profile | None],
    arrival: float,
) -> dict[tuple[str, str], Document | None]:
    """The profiles after these records, by the reference."""
    strict = parameters.get("strict") == "1"
    profiles: dict[tuple[str, str], Document | None] = dict(before)
    for record in records:
        key = profile_key(record, kind=kind)
        result = update(
            record,
            kind=kind,
            strict=strict,
            arrival=arrival,
            geo=place_of(record, kind, parameters),
            stored=profiles.get(key) if key else None,
        )
        if isinstance(result, Refused):
            continue
        assert isinstance(result, Applied)
        assert key is not None
        profiles[key] = result.profile
    return profiles


@pytest.mark.parametrize("capture", WRITES, ids=name_of)
def test_a_profile_update_of_an_sdk(recorded: Server, capture: dict[str, Any]) -> None:
    body = base64.b64decode(capture["body_b64"])
    kind: Kind = "groups" if path_of(capture) == "/groups" else "engage"
    parameters = parameters_of(capture, body)
    records = capture["records"]
    keys = {key for record in records if (key := profile_key(record, kind=kind)) is not None}
    before = stored(recorded, keys)

    arrival = time.time()
    reply = recorded.request(
        capture["method"], capture["target"], body, {**capture["headers"], "X-Forwarded-For": CLIENT_IP}
    )
    assert reply.status == 200
    assert reply.body == reply_to(records, kind, parameters)
    assert reply.header("Access-Control-Allow-Origin") == capture["headers"].get("origin")

    wanted = expected(records, kind, parameters, before, arrival)
    now = datetime.fromtimestamp(int(arrival), UTC)
    found = stored(recorded, keys)
    for key, profile in found.items():
        reference = wanted[key]
        if profile is None or reference is None:
            assert profile is reference
            continue
        profile_seen, reference_seen = profile.pop("$last_seen"), reference.pop("$last_seen")
        if reference_seen == now.strftime("%Y-%m-%dT%H:%M:%S"):
            assert_recent(profile_seen, now - timedelta(seconds=1))
        else:
            assert profile_seen == reference_seen
        assert exact(profile) == exact(reference)


@pytest.mark.parametrize("capture", WRITES, ids=name_of)
def test_the_records_in_a_capture_are_those_that_the_recorder_read(capture: dict[str, Any]) -> None:
    headers = {name.lower(): value.encode() for name, value in capture["headers"].items()}
    decoded = decode(
        method=capture["method"],
        content_type=headers.get("content-type", b""),
        content_encoding=headers.get("content-encoding", b""),
        query=urlsplit(capture["target"]).query.encode(),
        body=base64.b64decode(capture["body_b64"]),
        limits=Limits(),
    )
    assert decoded.records == capture["records"]


@pytest.mark.parametrize("capture", PREFLIGHTS, ids=name_of)
def test_a_preflight_of_the_browser_sdk(recorded: Server, capture: dict[str, Any]) -> None:
    reply = recorded.request("OPTIONS", capture["target"], b"", capture["headers"])
    asked = capture["headers"]
    assert (reply.status, reply.body) == (204, b"")
    assert reply.header("Access-Control-Allow-Origin") == asked["origin"]
    assert reply.header("Access-Control-Allow-Credentials") == "true"
    assert asked["access-control-request-method"] in (reply.header("Access-Control-Allow-Methods") or "")
    assert reply.header("Access-Control-Allow-Headers") == asked["access-control-request-headers"]


def test_the_captures_are_of_every_client_and_kind() -> None:
    assert {capture["client"] for capture in WRITES} == {
        "mixpanel-browser",
        "mixpanel-import",
        "mixpanel-node",
        "mixpanel-python",
        "mixpanel-utils",
    }
    assert (len(WRITES), len(PREFLIGHTS), len(OF_EVENTS)) == (122, 1, 38)
