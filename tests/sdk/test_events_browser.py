"""The browser SDK, unmodified, in headless Chromium: tracking and identifying with its defaults and without.

All visits take place at the same time in one browser; each test then looks at its own.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.npm import FLAGS
from tests.sdk.support import run_node
from tests.sdk.test_browser_sdk import AT_ONCE, Visit
from tests.serving import Event, Server

pytestmark = pytest.mark.slow  # the first test may have to install it

TEXT = "Zoë + & = % 東京 🎉"


def once(name: str) -> list[list[Any]]:
    """Track one event."""
    return [["track", name, {"text": TEXT, "n": 1, "deep": {"list": [1]}}]]


VISITS = {
    "defaults": Visit([*once("defaults"), *(["track", "many", {"n": n}] for n in range(70))]),
    "identified": Visit(
        [
            ["track", "before", {}],
            ["identify", "browser-user"],
            ["track", "after", {}],
            ["people.set", "plan", "pro"],
        ]
    ),
    "reset": Visit([["identify", "first-user"], ["track", "mine", {}], ["reset"], ["track", "theirs", {}]]),
    "left": Visit([["identify", "leaver"], *once("left"), ["leave"]]),
    "callback": Visit(once("callback"), AT_ONCE),
    "beacon": Visit([*once("beacon"), ["requests", 1]], {**AT_ONCE, "api_transport": "sendBeacon"}),
    "get": Visit(once("get"), {**AT_ONCE, "api_method": "GET"}),
    "json": Visit(once("json"), {**AT_ONCE, "api_payload_format": "json"}),
    "batched json": Visit(once("batched json"), {"api_payload_format": "json"}),
    "image": Visit([*once("image"), ["requests", 1]], {**AT_ONCE, "api_method": "GET", "img": True}),
    "super": Visit([["register", {"campaign": "spring"}], *once("super")], AT_ONCE),
    "refused": Visit(once("refused"), {**AT_ONCE, "token": "not-a-token", "verbose": True}),
}


@pytest.fixture(scope="module")
def visits(
    server: Server,
    node_environment: Mapping[str, str],
    chromium: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Visit]:
    """All visits, made in one run of Chromium."""
    task = {
        "chromium": chromium,
        "flags": FLAGS,
        "token": server.token,
        "apiHost": server.base_url,
        "paths": ["/track/"],
        "visits": [{"config": visit.config, "steps": visit.steps} for visit in VISITS.values()],
    }
    folder: Path = tmp_path_factory.mktemp("browser")
    results = run_node(folder, "browser_sdk.js", task, environment=node_environment)
    for visit, result in zip(VISITS.values(), results, strict=True):
        visit.answers, visit.requests = result["answers"], result["requests"]
    return VISITS


def of(server: Server, name: str) -> list[Event]:
    """The stored events of a name."""
    return server.events(event=json.dumps([name]))


def test_with_defaults_events_come_in_batches_with_what_the_sdk_adds(
    visits: dict[str, Visit], server: Server
) -> None:
    (event,) = of(server, "defaults")
    properties = event["properties"]
    assert (properties["text"], properties["n"], properties["deep"]) == (TEXT, 1, {"list": [1]})
    assert (properties["mp_lib"], properties["$initial_referrer"]) == ("web", "$direct")
    assert properties["distinct_id"].startswith("$device:")
    assert properties["distinct_id"] == f"$device:{properties['$device_id']}"
    assert [each["properties"]["n"] for each in of(server, "many")] == list(range(70))
    requests = visits["defaults"].requests
    assert 2 <= len(requests) < 10
    assert {(one["method"], one["status"]) for one in requests} == {("POST", 200)}


@pytest.mark.usefixtures("visits")
def test_an_identified_visitor_is_one_person_from_the_first_event_on(server: Server) -> None:
    (before,), (after,) = of(server, "before"), of(server, "after")
    assert before["properties"]["distinct_id"] == after["properties"]["distinct_id"] == "browser-user"
    assert before["properties"]["$distinct_id_before_identity"].startswith("$device:")
    assert after["properties"]["$user_id"] == "browser-user"
    assert server.profiles()["browser-user"]["plan"] == "pro"
    identified = [
        event for event in of(server, "$identify") if event["properties"]["$user_id"] == "browser-user"
    ]
    assert len(identified) == 1


@pytest.mark.usefixtures("visits")
def test_after_a_reset_another_visitor_begins(server: Server) -> None:
    (mine,), (theirs,) = of(server, "mine"), of(server, "theirs")
    assert mine["properties"]["distinct_id"] == "first-user"
    assert theirs["properties"]["distinct_id"].startswith("$device:")
    assert theirs["properties"]["$device_id"] != mine["properties"]["$device_id"]


@pytest.mark.usefixtures("visits")
def test_events_of_a_page_that_is_left_are_not_lost(server: Server) -> None:
    (event,) = of(server, "left")
    assert event["properties"]["distinct_id"] == "leaver"


def test_callbacks_get_the_servers_answer(visits: dict[str, Visit], server: Server) -> None:
    assert visits["callback"].answers == [1]
    [told] = visits["refused"].answers
    assert told["status"] == 0
    assert "token" in told["error"]
    assert of(server, "refused") == []


TRANSPORTS: list[tuple[str, str, str]] = [
    ("callback", "POST", "data=eyJ"),
    ("beacon", "POST", "data=eyJ"),
    ("get", "GET", ""),
    ("image", "GET", ""),
    ("json", "POST", "data=%7B%22"),
    ("batched json", "POST", "data=%5B%7B%22"),
]


@pytest.mark.parametrize(("name", "method", "body"), TRANSPORTS)
def test_every_transport_of_the_sdk_arrives(
    visits: dict[str, Visit], server: Server, name: str, method: str, body: str
) -> None:
    (event,) = of(server, name)
    assert (event["properties"]["text"], event["properties"]["deep"]) == (TEXT, {"list": [1]})
    sent = visits[name].requests
    assert sent
    assert {(one["method"], one["status"]) for one in sent} == {(method, 200)}
    assert all((one["body"] or "").startswith(body) for one in sent)


@pytest.mark.usefixtures("visits")
def test_registered_properties_are_in_the_events_that_follow(server: Server) -> None:
    (event,) = of(server, "super")
    assert event["properties"]["campaign"] == "spring"
