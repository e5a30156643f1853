"""The official Node SDK, unmodified, against a running server: tracking, batches, importing."""

import pytest

from tests.sdk.support import sent_now
from tests.sdk.test_node_sdk import Node, node
from tests.serving import Event, Server

__all__ = ["node"]  # a fixture

pytestmark = pytest.mark.timeout(900)  # the first test may have to install the SDK

LIBRARY = ("mp_lib", "$lib_version")
DAY = {"$date": "2026-01-02T03:04:05.678Z"}


def of(server: Server, name: str) -> list[Event]:
    """The stored events of a name."""
    return server.events(event=f'["{name}"]')


@pytest.mark.parametrize("verbose", [False, True])
def test_events_are_tracked_one_by_one_and_in_batches(server: Server, node: Node, verbose: bool) -> None:
    name = f"Node {verbose}"
    batch = [{"event": name, "properties": {"distinct_id": f"u{n}", "n": n}} for n in range(120)]
    calls = [
        [
            "track",
            name,
            {"distinct_id": "ada", "text": "Zoë + & = % 東京 🎉", "deep": {"list": [1]}, "n": -1},
        ],
        ["track_batch", batch, {"max_batch_size": 50}],
    ]
    assert node(server, calls, verbose=verbose) == [None, None]
    stored = sorted(of(server, name), key=lambda event: event["properties"]["n"])
    first = sent_now(stored[0], *LIBRARY)
    assert first["properties"] == {
        "distinct_id": "ada",
        "text": "Zoë + & = % 東京 🎉",
        "deep": {"list": [1]},
        "n": -1,
    }
    assert [event["properties"]["n"] for event in stored[1:]] == list(range(120))


def test_old_events_are_imported_with_the_secret_over_tls(tls_server: Server, node: Node) -> None:
    server = tls_server
    batch = [
        {"event": "Node Import", "properties": {"time": DAY, "distinct_id": "ada", "n": n}} for n in (1, 2)
    ]
    calls = [["import", "Node Import", DAY, {"distinct_id": "ada", "n": 0}], ["import_batch", batch]]
    host = {"host": "localhost", "secret": server.secret}
    assert node(server, calls, **host) == [None, None]
    stored = of(server, "Node Import")
    assert [event["properties"]["n"] for event in stored] == [0, 1, 2]
    assert {event["properties"]["time"] // 1000 for event in stored} == {1767323045}


def test_an_alias_call_is_answered_as_mixpanel_answers_it(server: Server, node: Node) -> None:
    assert node(server, [["alias", "ada", "ada@example.com"]]) == [None]


def test_a_refused_event_reaches_the_callback_as_an_error(server: Server, node: Node) -> None:
    [outcome] = node(server, [["track", "", {"distinct_id": "ada"}]], verbose=True)
    assert outcome is not None
    assert "event" in outcome
