"""A team's events go in through the official Python SDK, and come out of the raw export equal."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import mixpanel
import pytest

from tests.serving import Server, StartServer

pytestmark = pytest.mark.slow
SAMPLE = Path(__file__).parents[1] / "data" / "sample" / "events.ndjson.gz"
DAY_S = 24 * 3600
SERVER_OWN = ("mp_processing_time_ms", "$mp_api_endpoint", "$mp_api_timestamp_ms", "$import")
SDK_OWN = ("mp_lib", "$lib_version")
Event = dict[str, Any]


@pytest.fixture(scope="module")
def sample() -> list[Event]:
    """The events, moved in time so that the newest is a day old."""
    events = [json.loads(line) for line in gzip.decompress(SAMPLE.read_bytes()).splitlines()]
    shift = int(time.time()) - DAY_S - max(event["properties"]["time"] for event in events)
    for event in events:
        event["properties"]["time"] += shift
    return events


@pytest.fixture(scope="module")
def filled(start_module_server: StartServer, sample: list[Event]) -> Server:
    """A server that has them all, sent by the SDK in its order and its batches."""
    server = start_module_server()
    consumer = mixpanel.BufferedConsumer(
        max_size=2000,
        events_url=f"{server.base_url}/track",
        people_url=f"{server.base_url}/engage",
        groups_url=f"{server.base_url}/groups",
        import_url=f"{server.base_url}/import",
    )
    sdk = mixpanel.Mixpanel(server.token, consumer=consumer)
    for event in sample:
        own = dict(event["properties"])
        sdk.import_data(
            None, own.pop("distinct_id"), event["event"], own.pop("time"), own, api_secret=server.secret
        )
    consumer.flush()
    return server


def exported(server: Server, events: list[Event], **asked: object) -> Iterator[Event]:
    """What the raw export gives of these days."""
    times = [event["properties"]["time"] for event in events]
    days = {
        name: time.strftime("%Y-%m-%d", time.gmtime(at))
        for name, at in (("from_date", min(times)), ("to_date", max(times)))
    }
    query = urlencode({**days, "project_id": server.project_id, **asked})
    headers = {**server.authorization(), "Accept-Encoding": "gzip"}
    reply = server.request("GET", f"/api/2.0/export?{query}", headers=headers)
    assert reply.status == 200, reply.body[:300]
    assert "x-mixdown-behind" not in {name.lower() for name, _ in reply.headers}
    for line in gzip.decompress(reply.body).splitlines():
        yield json.loads(line)


def whose(events: list[Event]) -> dict[str, str]:
    """The first user of each device: who an anonymous id stands for."""
    users: dict[str, str] = {}
    for event in events:
        own = event["properties"]
        if own.get("$device_id") and own.get("$user_id"):
            users.setdefault(f"$device:{own['$device_id']}", own["$user_id"])
    return users


def test_what_went_in_by_the_sdk_comes_out_of_the_export_equal(filled: Server, sample: list[Event]) -> None:
    users = whose(sample)
    expected = {}
    for event in sample:
        own = dict(event["properties"])
        sent = own["distinct_id"]
        own["distinct_id"] = users.get(sent, sent)
        if own["distinct_id"] != sent:
            own["$distinct_id_before_identity"] = sent
        expected[event["event"], own["$insert_id"]] = own
    assert len(expected) == len(sample) == 20_000
    found = list(exported(filled, sample))
    times = [event["properties"]["time"] for event in found]
    assert times == sorted(times)
    by_key = {}
    for event in found:
        own = event["properties"]
        assert own["$import"] is True
        by_key[event["event"], own["$insert_id"]] = {
            name: value for name, value in own.items() if name not in (*SERVER_OWN, *SDK_OWN)
        }
    assert len(by_key) == len(found)
    assert by_key == expected


def test_an_export_by_name_and_expression_has_those_of_the_sample(
    filled: Server, sample: list[Event]
) -> None:
    where = 'properties["platform"] == "iOS" and number(properties["amount"]) > 100'
    found = exported(filled, sample, event=json.dumps(["add to cart"]), where=where)
    wanted = {
        event["properties"]["$insert_id"]
        for event in sample
        if event["event"] == "add to cart"
        and event["properties"].get("platform") == "iOS"
        and event["properties"].get("amount", 0) > 100
    }
    assert wanted
    assert {event["properties"]["$insert_id"] for event in found} == wanted
