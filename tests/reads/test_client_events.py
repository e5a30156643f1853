"""What whole clients send when they read events, in their spelling: so that no change breaks one unnoticed.

`tests/sdk` runs the clients themselves, slowly; these are their requests as seen on the wire (contract query
§1.2, §4, §5.1).
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.engine import plain_store
from tests.reads.support import NOON_MS, PASSWORD, READER, SECRET, World, basic
from tests.reads.test_events import EVENTS, event
from tests.reads.test_reports import good

DAYS = "from_date=2026-01-01&to_date=2026-01-15"
LINES = len(EVENTS) + 30
SECRET_ALONE = "Basic " + base64.urlsafe_b64encode(SECRET.encode()).decode()
ACCOUNT = basic(f"{READER}:{PASSWORD}")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A server with a few events; more than 1,400 bytes of them, so that answers are compressed."""
    made = World(plain_store())
    made.store_events(EVENTS)
    made.store_events([event(100 + n, "View", properties={"n": n}) for n in range(30)])
    yield made
    made.close()


def lines(world: World, target: str, **headers: str) -> list[dict[str, Any]]:
    """The lines of an export, as every client reads them: times are whole seconds."""
    reply = good(world.get(target, headers=headers))
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.content.isascii()
    assert reply.content.endswith(b"\n")
    found = [json.loads(line) for line in reply.text.removesuffix("\n").split("\n")]
    assert all(type(one["properties"]["time"]) is int for one in found)
    return found


@pytest.mark.parametrize("authorization", [ACCOUNT, basic(f"{SECRET}:"), basic(SECRET)])
def test_airbyte_reads_days_and_then_those_since_its_state(world: World, authorization: str) -> None:
    project = f"&project_id={world.project.id}" if authorization == ACCOUNT else ""
    whole = lines(world, f"/api/2.0/export?{DAYS}{project}", authorization=authorization)
    assert len(whole) == LINES
    newest = whole[-1]["properties"]["time"]
    since = quote(f'properties["$time"]>=datetime({newest})')
    fresh = lines(world, f"/api/2.0/export?{DAYS}&where={since}{project}", authorization=authorization)
    assert {one["properties"]["time"] for one in fresh} == {newest}


def test_the_tap_reads_a_window_with_its_secret_alone(world: World) -> None:
    found = lines(world, f"/api/2.0/export?{DAYS}", authorization=SECRET_ALONE)
    assert len(found) == LINES
    assert good(
        world.get("/api/2.0/events/properties/top?limit=2000", headers={"Authorization": SECRET_ALONE})
    ).json()


def test_headless_streams_names_counts_and_follows(world: World) -> None:
    project = f"project_id={world.project.id}"

    def get(target: str) -> Any:
        return good(world.get(f"/api/query/{target}", headers={"Authorization": ACCOUNT})).json()

    named = quote(json.dumps(["View"]))
    where = quote('properties["n"] < 10')
    asked = f"/api/2.0/export?{project}&{DAYS}&event={named}&where={where}"
    packed = world.get(asked, headers={"Authorization": ACCOUNT, "Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert [json.loads(line)["properties"]["n"] for line in packed.text.split("\n")[:-1]] == list(
        range(9, -1, -1)
    )
    world.now_ms = NOON_MS
    assert {"View", "a", "b"} <= set(get(f"events/names?{project}&type=general"))
    assert "n" in get(f"events/properties/top?{project}&event=View&limit=500")
    assert isinstance(get(f"events/top?{project}&type=general")["events"], list)
    people = quote(json.dumps(["u0"]))
    feed = get(f"stream/query?{project}&distinct_ids={people}&{DAYS}")["results"]["events"]
    assert {one["properties"]["distinct_id"] for one in feed} == {"u0"}


def test_mixpanel_utils_asks_for_what_it_unpacks_itself(world: World) -> None:
    project = f"project_id={world.project.id}"
    headers = {"Authorization": ACCOUNT, "Accept-Encoding": "identity"}
    plain = lines(world, f"/api/2.0/export?{project}&{DAYS}&event={quote(json.dumps(['a']))}", **headers)
    assert len(plain) == 3
    one_name = lines(world, f"/api/2.0/export?{project}&{DAYS}&event=a", **headers)
    assert one_name == plain
    assert world.get(f"/api/2.0/export?{project}&{DAYS}&event=never", headers=headers).content == b""


def test_data_export_and_importers_write_slashes(world: World) -> None:
    headers = {"authorization": basic(f"{SECRET}:")}
    assert len(lines(world, f"/api/2.0/export/?{DAYS}", **headers)) == LINES
    assert len(lines(world, f"/api/2.0/export/?{DAYS}&limit=10&format=json", **headers)) == 10
    named = quote(json.dumps(["View"]))
    series = good(world.get(f"/api/2.0/events/?event={named}&type=general&unit=day&{DAYS}", headers=headers))
    assert sum(series.json()["data"]["values"]["View"].values()) == 30


def test_what_is_sent_compressed_is_what_is_sent_plain(world: World) -> None:
    plain = world.get(f"/api/2.0/export?{DAYS}", headers={"Authorization": SECRET_ALONE})
    asked = world.http.build_request(
        "GET",
        f"/api/2.0/export?{DAYS}",
        headers={"Authorization": SECRET_ALONE, "Accept-Encoding": "gzip"},
    )

    async def raw() -> bytes:
        reply = await world.http.send(asked, stream=True)
        return b"".join([piece async for piece in reply.aiter_raw()])

    assert gzip.decompress(world.loop.run_until_complete(raw())) == plain.content
