"""The official Node SDK, unmodified, against a running server: every people and groups operation."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.sdk.support import NODE_REDIRECT, run_node, stored_group, stored_user, written_now
from tests.serving import Certificate, Server

pytestmark = pytest.mark.timeout(900)  # the first test may have to install the SDK

Calls = Sequence[Sequence[Any]]
Node = Callable[..., list[str | None]]

DAY = {"$date": "2026-01-02T03:04:05.678Z"}


@pytest.fixture
def node(node_environment: Mapping[str, str], tmp_path: Path) -> Node:
    """Call the SDK in a Node program; returns what each call's callback got, None for success."""

    def call(server: Server, calls: Calls, *, at_once: bool = False, **config: Any) -> list[str | None]:
        address = urlsplit(server.base_url)
        settings = {"host": address.hostname, "port": address.port, "protocol": address.scheme, **config}
        trust = server.certificate
        extra = {} if trust is None else {"NODE_EXTRA_CA_CERTS": str(trust.certificate_file)}
        task = {"token": server.token, "config": settings, "calls": calls, "atOnce": at_once}
        outcomes: list[str | None] = run_node(
            tmp_path, "node_sdk.js", task, environment={**node_environment, **extra}
        )
        return outcomes

    return call


def people_operations(user: str) -> list[list[Any]]:
    """Every people operation, each in every form that the SDK's documentation shows."""
    return [
        ["people.set", user, "name", "Zoë + Łódź & 100 % = 東京 🎉"],
        ["people.set", user, {"plan": "premium", "age": 31, "vip": True, "none": None, "born": DAY}],
        ["people.set", user, {"nested": {"list": [1, {"deep": "x"}]}, "tags": ["a", "b"], "scratch": 1}],
        ["people.set_once", user, "plan", "free"],
        ["people.set_once", user, {"first": "2026-01-01", "age": 99}],
        ["people.increment", user, "visits"],
        ["people.increment", user, "visits", 4],
        ["people.increment", user, {"age": 1, "credits": -2.5, "text": "7"}],
        ["people.append", user, "pages", "home"],
        ["people.append", user, {"pages": {"path": "/b"}, "tags": "a"}],
        ["people.union", user, {"tags": ["b", "c", 3], "badges": "x"}],
        ["people.remove", user, {"tags": "a", "badges": "never there"}],
        ["people.unset", user, "scratch"],
        ["people.unset", user, ["none", "never there"]],
        ["people.track_charge", user, 29.99],
        ["people.track_charge", user, "19", {"$time": DAY, "sku": "p-1"}],
        ["people.track_charge", user, 5, {"sku": "p-2"}, {"$ip": "0"}],
    ]


PEOPLE_RESULT = {
    "name": "Zoë + Łódź & 100 % = 東京 🎉",
    "plan": "premium",
    "age": 32,
    "vip": True,
    "born": "2026-01-02T03:04:05.678Z",
    "nested": {"list": [1, {"deep": "x"}]},
    "tags": ["b", "c", 3],
    "first": "2026-01-01",
    "visits": 5,
    "credits": -2.5,
    "text": 7,
    "pages": ["home", {"path": "/b"}],
    "badges": ["x"],
    "$transactions": [
        {"$amount": 29.99},
        {"$time": "2026-01-02T03:04:05.678Z", "sku": "p-1", "$amount": 19},
        {"sku": "p-2", "$amount": 5},
    ],
}


@pytest.mark.parametrize("verbose", [False, True])
def test_every_people_operation_gives_the_profile_it_promises(
    server: Server, node: Node, verbose: bool
) -> None:
    user = f"node-{verbose}"
    calls = people_operations(user)
    assert node(server, calls, verbose=verbose) == [None] * len(calls)
    assert stored_user(server, user) == PEOPLE_RESULT

    assert node(server, [["people.clear_charges", user]], verbose=verbose) == [None]
    assert stored_user(server, user) == {**PEOPLE_RESULT, "$transactions": []}

    assert node(server, [["people.delete_user", user]], verbose=verbose) == [None]
    assert user not in server.profiles()


@pytest.mark.parametrize("verbose", [False, True])
def test_every_groups_operation_gives_the_profile_it_promises(
    server: Server, node: Node, verbose: bool
) -> None:
    acme = ["company", f"Acme + Söhne {verbose}"]
    calls = [
        ["groups.set", *acme, "$name", "Acme"],
        [
            "groups.set",
            *acme,
            {"industry": "widgets", "seats": 5, "products": ["anvil"], "old": 1, "since": DAY},
        ],
        ["groups.set_once", *acme, "seats", 6],
        ["groups.set_once", *acme, {"founded": 1949}],
        ["groups.union", *acme, {"products": ["anvil", "rocket"], "segments": "coyotes"}],
        ["groups.remove", *acme, {"products": "anvil"}],
        ["groups.unset", *acme, "old"],
        ["groups.unset", *acme, ["industry", "never there"]],
    ]
    assert node(server, calls, verbose=verbose) == [None] * len(calls)
    assert stored_group(server, *acme) == {
        "$name": "Acme",
        "seats": 5,
        "since": "2026-01-02T03:04:05.678Z",
        "founded": 1949,
        "products": ["rocket"],
        "segments": ["coyotes"],
    }

    assert node(server, [["groups.delete_group", *acme]], verbose=verbose) == [None]
    assert acme[1] not in server.groups("company")


def test_modifiers_set_the_time_of_an_update_or_leave_the_old_one(server: Server, node: Node) -> None:
    calls = [
        ["people.set", "node-time", {"a": 1}, {"$time": {"$date": "2020-01-02T03:04:05Z"}, "$ip": "0"}],
        ["people.set", "node-time", "a", 2, {"$ignore_time": True, "$ignore_alias": True}],
        ["people.set", "node-time", {"b": 1, "$ignore_time": True, "ip": 0}],
        ["people.increment", "node-time", "visits", {"$ignore_time": True}],
        ["people.append", "node-time", "list", 1, {"$ignore_time": True}],
        ["people.union", "node-time", {"list": 2}, {"$ignore_time": True}],
        ["people.remove", "node-time", {"list": 1}, {"$ignore_time": True}],
        ["people.unset", "node-time", "b", {"$ignore_time": True}],
    ]
    assert node(server, calls) == [None] * len(calls)
    expected = {"a": 2, "visits": 1, "list": [2], "$last_seen": "2020-01-02T03:04:05"}
    assert server.profiles()["node-time"] == expected


def test_a_numeric_id_is_the_same_as_its_text(server: Server, node: Node) -> None:
    calls = [["people.set", 99, "a", 1], ["people.set", "99", "b", 2], ["groups.set", "team", 7, "c", 3]]
    assert node(server, calls) == [None] * 3
    assert stored_user(server, "99") == {"a": 1, "b": 2}
    assert stored_group(server, "team", "7") == {"c": 3}


def test_a_property_too_large_for_most_servers_request_line_arrives(server: Server, node: Node) -> None:
    words = [f"{number:05} ünïcödé & + / =" for number in range(1000)]  # about 40 KB of request line
    assert node(server, [["people.set", "node-large", "words", words]]) == [None]
    assert stored_user(server, "node-large") == {"words": words}


def test_calls_in_flight_at_once_are_each_applied_once(server: Server, node: Node) -> None:
    calls = [["people.increment", "node-many", {"count": 1, f"n{number % 7}": 1}] for number in range(300)]
    assert node(server, calls, at_once=True) == [None] * 300
    counts = {f"n{number}": len(range(number, 300, 7)) for number in range(7)}
    assert stored_user(server, "node-many") == {"count": 300, **counts}


@pytest.mark.parametrize(
    ("verbose", "told"), [(False, "Mixpanel Server Error: 0"), (True, "$distinct_id, missing or empty")]
)
def test_a_refused_update_reaches_the_callback_as_an_error(
    server: Server, node: Node, verbose: bool, told: str
) -> None:
    [outcome] = node(server, [["people.set", "", "a", 1]], verbose=verbose)
    assert outcome is not None
    assert told in outcome


def test_a_project_secret_goes_over_tls(tls_server: Server, node: Node) -> None:
    server = tls_server
    calls = [["people.set", "node-tls", "a", 1], ["groups.set", "company", "node-tls", "b", 2]]
    assert node(server, calls, secret=server.secret, host="localhost") == [None, None]
    assert stored_user(server, "node-tls") == {"a": 1}
    assert stored_group(server, "company", "node-tls") == {"b": 2}


@pytest.mark.parametrize("tls", [False, True])
def test_the_redirect_helper_brings_the_default_host_to_mixdown(
    request: pytest.FixtureRequest,
    certificate: Certificate,
    node_environment: Mapping[str, str],
    tmp_path: Path,
    tls: bool,
) -> None:
    server: Server = request.getfixturevalue("tls_server" if tls else "server")
    environment = {
        **node_environment,
        "MIXDOWN_BASE": server.base_url,
        "NODE_OPTIONS": f"--require {NODE_REDIRECT}",
        "NODE_EXTRA_CA_CERTS": str(certificate.certificate_file),
    }
    calls = [["people.set", "node-redirect", "a", 1], ["people.increment", "node-redirect", "visits"]]
    for config in ({}, {"host": "api-eu.mixpanel.com", "verbose": True, "secret": server.secret}):
        task = {"token": server.token, "config": config, "calls": calls}
        assert run_node(tmp_path, "node_sdk.js", task, environment=environment) == [None, None]
    assert written_now(server.profiles()["node-redirect"]) == {"a": 1, "visits": 2}
