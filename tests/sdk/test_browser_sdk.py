"""The browser SDK, unmodified, in headless Chromium against a running server, from a page of another origin.

All visits take place at the same time in one browser, so that the SDK's five seconds between batches are
waited for once; each test then looks at its own visit and at the profiles it left.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.npm import FLAGS
from tests.sdk.support import run_node, stored_group, stored_user, written_now
from tests.serving import Profile, Server

pytestmark = pytest.mark.slow  # the first test may have to install it

DAY = {"$date": "2026-01-02T03:04:05Z"}
AT_ONCE = {"batch_requests": False}
ACME = ["Acme Söhne & Co"]
LONG = "é" * 200  # 400 bytes in UTF-8, which the SDK's own cut at 255 characters lets through


@dataclass
class Visit:
    """What one visitor's page does, and what came of it."""

    steps: list[list[Any]]
    config: dict[str, Any] = field(default_factory=dict)
    answers: list[Any] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)


def write_once(user: str) -> list[list[Any]]:
    """Identify a visitor and update the profile once."""
    return [["identify", user], ["people.set", {"text": "Zoë + & = % 東京 🎉", "n": 1}]]


VISITS = {
    "people": Visit(
        [
            ["identify", "people"],
            ["people.set", "name", "Zoë + Łódź & 100 % = 東京 🎉"],
            [
                "people.set",
                {"plan": "premium", "age": 31, "vip": True, "none": None, "born": DAY, "scratch": 1},
            ],
            ["people.set", {"nested": {"list": [1, {"deep": "x"}]}, "tags": ["a", "b"], "long": LONG}],
            ["people.set_once", "plan", "free"],
            ["people.set_once", {"first": "2026-01-01", "age": 99}],
            ["people.increment", "visits", 4],
            ["people.increment", {"age": 1, "credits": -2.5}],
            ["people.append", "pages", "home"],
            ["people.append", {"pages": {"path": "/b"}, "tags": "a"}],
            ["people.union", "badges", "x"],
            ["people.union", {"tags": ["b", "c", 3], "badges": ["x", "y"]}],
            ["people.remove", "tags", "a"],
            ["people.remove", {"badges": "y", "pages": "never there"}],
            ["people.unset", "scratch"],
            ["people.unset", ["none", "never there"]],
            ["people.append", "$transactions", {"$amount": 5}],
            ["people.clear_charges"],
            ["people.track_charge", 50],
            ["set_group", "company", ["Acme", "Other"]],
            ["add_group", "company", "Third"],
            ["remove_group", "company", "Other"],
        ]
    ),
    "deleted": Visit([["identify", "deleted"], ["people.set", "a", 1], ["people.delete_user"]]),
    "groups": Visit(
        [
            ["group", "company", *ACME, "set", "name", "Acme"],
            ["group", "company", *ACME, "set", {"seats": 5, "products": ["anvil"], "old": 1, "since": DAY}],
            ["group", "company", *ACME, "set_once", "seats", 6],
            ["group", "company", *ACME, "set_once", {"founded": 1949}],
            ["group", "company", *ACME, "union", "products", ["anvil", "rocket"]],
            ["group", "company", *ACME, "union", {"segments": "coyotes"}],
            ["group", "company", *ACME, "remove", "products", "anvil"],
            ["group", "company", *ACME, "unset", "old"],
            ["group", "company", 77, "set", "n", 1],
            ["group", "company", "deleted", "set", "n", 1],
            ["group", "company", "deleted", "delete"],
        ]
    ),
    "queued": Visit(
        [
            ["people.set", {"a": 1, "b": "x"}],
            ["people.set_once", {"once": 1}],
            ["people.increment", "visits", 2],
            ["people.increment", "visits", 3],
            ["people.append", "pages", "first"],
            ["people.append", "pages", "second"],
            ["people.union", "tags", ["x", "y"]],
            ["people.remove", "stored", "unwanted"],
            ["people.unset", "gone"],
            ["identify", "queued"],
        ]
    ),
    "many": Visit([["identify", "many"], *(["people.append", "n", number] for number in range(70))]),
    "reloaded": Visit(
        [
            ["identify", "reloaded"],
            ["people.increment", "visits", 1],
            ["reload", {"batch_autostart": True}],
            ["requests", 1],
        ],
        # The first page is left before it has sent anything.
        {"batch_autostart": False, "batch_flush_interval_ms": 500},
    ),
    "callback": Visit(
        [
            *write_once("callback"),
            ["people.increment", "n", 1],
            ["people.append", "list", "x"],
            ["people.unset", "never there"],
            ["group", "company", "callback", "set", {"a": 1}],
        ],
        AT_ONCE,
    ),
    "verbose": Visit(write_once("verbose"), {**AT_ONCE, "verbose": True}),
    "refused": Visit(write_once("refused"), {**AT_ONCE, "token": "not-a-token"}),
    "refused verbosely": Visit(write_once("refused"), {**AT_ONCE, "token": "not-a-token", "verbose": True}),
    "beacon": Visit([*write_once("beacon"), ["requests", 2]], {**AT_ONCE, "api_transport": "sendBeacon"}),
    "json": Visit(write_once("json"), {**AT_ONCE, "api_payload_format": "json"}),
    "get": Visit(write_once("get"), {**AT_ONCE, "api_method": "GET"}),
    "image": Visit([*write_once("image"), ["requests", 2]], {**AT_ONCE, "api_method": "GET", "img": True}),
    "preflight": Visit(write_once("preflight"), {**AT_ONCE, "xhr_headers": {"X-Custom": "1"}}),
    "batched json": Visit(write_once("batched json"), {"api_payload_format": "json"}),
}


@pytest.fixture(scope="module")
def visits(
    server: Server,
    node_environment: Mapping[str, str],
    chromium: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Visit]:
    """All visits, made in one run of Chromium."""
    stored = {
        "$token": server.token,
        "$distinct_id": "queued",
        "$set": {"stored": ["unwanted", 1], "gone": 1},
    }
    assert server.post("/engage", stored).body == b"1"
    task = {
        "chromium": chromium,
        "flags": FLAGS,
        "token": server.token,
        "apiHost": server.base_url,
        "paths": ["/engage/", "/groups/"],
        "visits": [{"config": visit.config, "steps": visit.steps} for visit in VISITS.values()],
    }
    folder: Path = tmp_path_factory.mktemp("browser")
    results = run_node(folder, "browser_sdk.js", task, environment=node_environment)
    for visit, result in zip(VISITS.values(), results, strict=True):
        visit.answers, visit.requests = result["answers"], result["requests"]
    return VISITS


def set_by_the_visitor(server: Server, user: str) -> Profile:
    """The profile without what the SDK adds by itself, once that is shown to be there."""
    profile = stored_user(server, user)
    assert profile.pop("$os") == "Linux"
    assert profile.pop("$browser") == "Chrome"
    assert profile.pop("$browser_version") > 100
    return profile


@pytest.mark.usefixtures("visits")
def test_every_people_operation_gives_the_profile_it_promises(server: Server) -> None:
    assert set_by_the_visitor(server, "people") == {
        "$initial_referrer": "$direct",
        "$initial_referring_domain": "$direct",
        "name": "Zoë + Łódź & 100 % = 東京 🎉",
        "plan": "premium",
        "age": 32,
        "vip": True,
        "born": "2026-01-02T03:04:05",
        "nested": {"list": [1, {"deep": "x"}]},
        "tags": ["b", "c", 3],
        "long": "é" * 127,
        "first": "2026-01-01",
        "visits": 4,
        "credits": -2.5,
        "pages": ["home", {"path": "/b"}],
        "badges": ["x"],
        "$transactions": [],
        "company": ["Acme", "Third"],
    }


@pytest.mark.usefixtures("visits")
def test_every_group_operation_gives_the_profile_it_promises(server: Server) -> None:
    assert stored_group(server, "company", ACME[0]) == {
        "name": "Acme",
        "seats": 5,
        "since": "2026-01-02T03:04:05",
        "founded": 1949,
        "products": ["rocket"],
        "segments": ["coyotes"],
    }
    groups = server.groups("company")
    assert written_now(groups["77"]) == {"n": 1}
    assert "deleted" not in groups


def test_by_default_updates_come_in_batches_of_base64_in_a_form(visits: dict[str, Visit]) -> None:
    for name in ("people", "deleted", "groups", "queued", "many"):
        for request in visits[name].requests:
            assert request["method"] == "POST"
            assert request["type"] == "application/x-www-form-urlencoded"
            assert request["body"].startswith("data=W3si")  # base64 for [{"
            assert "verbose=1" in request["search"]
            assert request["status"] == 200
    assert {request["pathname"] for request in visits["people"].requests} == {"/engage/"}
    assert {request["pathname"] for request in visits["groups"].requests} == {"/groups/"}


@pytest.mark.usefixtures("visits")
def test_a_deleted_user_is_gone(server: Server) -> None:
    assert "deleted" not in server.profiles()


@pytest.mark.usefixtures("visits")
def test_updates_made_before_identify_reach_the_identified_user(server: Server) -> None:
    profile = set_by_the_visitor(server, "queued")
    # The SDK sends queued appends in an order of its own.
    assert sorted(profile.pop("pages")) == ["first", "second"]
    assert profile == {
        "$initial_referrer": "$direct",
        "$initial_referring_domain": "$direct",
        "a": 1,
        "b": "x",
        "once": 1,
        "visits": 5,
        "tags": ["x", "y"],
        "stored": [1],
    }


def test_more_updates_than_a_batch_holds_keep_their_order(visits: dict[str, Visit], server: Server) -> None:
    assert server.profiles()["many"]["n"] == list(range(70))
    assert len(visits["many"].requests) >= 2


@pytest.mark.usefixtures("visits")
def test_an_update_that_waited_for_the_next_page_is_applied_once(server: Server) -> None:
    assert stored_user(server, "reloaded")["visits"] == 1


def test_without_batches_each_callback_gets_the_servers_answer(
    visits: dict[str, Visit], server: Server
) -> None:
    assert visits["callback"].answers == [None, 1, 1, 1, 1, 1]
    profile = set_by_the_visitor(server, "callback")
    assert (profile["n"], profile["list"]) == (2, ["x"])
    assert stored_group(server, "company", "callback") == {"a": 1}
    assert visits["verbose"].answers == [None, {"error": None, "status": 1}]


def test_a_refusal_reaches_the_callback(visits: dict[str, Visit], server: Server) -> None:
    assert visits["refused"].answers == [None, 0]
    [_, told] = visits["refused verbosely"].answers
    assert told["status"] == 0
    assert "$token" in told["error"]
    assert "refused" not in server.profiles()


TRANSPORTS: list[tuple[str, str, str | None, str]] = [
    ("callback", "POST", "application/x-www-form-urlencoded", "data=eyI"),
    ("beacon", "POST", "text/plain;charset=UTF-8", "data=eyI"),
    ("json", "POST", "application/x-www-form-urlencoded", "data=%7B%22"),
    ("get", "GET", None, ""),
    ("image", "GET", None, ""),
    ("preflight", "POST", "application/x-www-form-urlencoded", "data=eyI"),
    ("batched json", "POST", "application/x-www-form-urlencoded", "data=%5B%7B%22"),
]


@pytest.mark.parametrize(("name", "method", "content_type", "body"), TRANSPORTS)
def test_every_transport_of_the_sdk_arrives(
    visits: dict[str, Visit], server: Server, name: str, method: str, content_type: str | None, body: str
) -> None:
    profile = set_by_the_visitor(server, name)
    assert profile["text"] == "Zoë + & = % 東京 🎉"
    sent = [request for request in visits[name].requests if request["pathname"] == "/engage/"]
    assert sent
    assert {request["status"] for request in sent if request["method"] != "OPTIONS"} == {200}
    for request in sent:
        if request["method"] == "OPTIONS":
            continue
        assert (request["method"], request["type"]) == (method, content_type)
        assert (request["body"] or "").startswith(body)
