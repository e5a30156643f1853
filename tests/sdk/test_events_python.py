"""The official Python SDK, unmodified, against a running server: tracking, importing, and who is who."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import mixpanel
import pytest

from tests.sdk.support import sent_now
from tests.sdk.test_python_sdk import CONSUMERS, MakeConsumer, flush, sdk
from tests.serving import Event, Server

LIBRARY = ("mp_lib", "$lib_version")


def of(server: Server, name: str) -> list[Event]:
    """The stored events of a name."""
    return server.events(event=f'["{name}"]')


@pytest.mark.parametrize("make_consumer", CONSUMERS)
def test_an_event_is_stored_with_all_that_it_was_tracked_with(
    server: Server, make_consumer: MakeConsumer
) -> None:
    mp = sdk(server, make_consumer)
    name = f"Track {make_consumer.__name__}"
    properties: dict[str, Any] = {
        "text": "Zoë + Łódź & 100 % = 東京 🎉",
        "n": 31,
        "ratio": 0.5,
        "vip": True,
        "none": None,
        "tags": ["a", 1],
        "deep": {"er": [{"n": 1}]},
    }
    at = datetime(1990, 1, 2, 3, 4, 5)  # noqa: DTZ001 - as SDK users pass it
    mp.track("ada", name, {**properties, "born": at})
    mp.track("ada", name)
    flush(mp)
    first, second = (sent_now(event, *LIBRARY) for event in of(server, name))
    assert first == {
        "event": name,
        "properties": {"distinct_id": "ada", **properties, "born": "1990-01-02T03:04:05"},
    }
    assert second == {"event": name, "properties": {"distinct_id": "ada"}}


def test_more_events_than_the_buffered_consumer_holds_all_arrive(server: Server) -> None:
    mp = sdk(server, mixpanel.BufferedConsumer)
    for number in range(120):
        mp.track(f"u{number % 3}", "Buffered", {"n": number})
    flush(mp)
    assert sorted(event["properties"]["n"] for event in of(server, "Buffered")) == list(range(120))


def by_secret(mp: mixpanel.Mixpanel, server: Server, name: str) -> None:
    mp.import_data("", "ada", name, 1767225600, {"n": 1}, api_secret=server.secret)


def by_token(mp: mixpanel.Mixpanel, server: Server, name: str) -> None:
    mp.import_data("", "ada", name, 1767225600, {"n": 1}, api_secret=server.token)


@pytest.mark.parametrize("send", [by_secret, by_token])
@pytest.mark.parametrize("make_consumer", CONSUMERS)
def test_an_old_event_is_imported(
    server: Server, make_consumer: MakeConsumer, send: Callable[[mixpanel.Mixpanel, Server, str], None]
) -> None:
    mp = sdk(server, make_consumer)
    name = f"Import {send.__name__} {make_consumer.__name__}"
    send(mp, server, name)
    flush(mp)
    (event,) = of(server, name)
    assert event["properties"]["time"] == 1767225600000
    assert (event["properties"]["n"], event["properties"]["$import"]) == (1, True)


def test_a_device_and_its_user_are_one_person_also_backwards(server: Server) -> None:
    mp = sdk(server)
    mp.track("$device:py-1", "Visit", {"$device_id": "py-1"})
    mp.track("py-user", "Sign In", {"$device_id": "py-1", "$user_id": "py-user"})
    (visit,), (signed_in,) = of(server, "Visit"), of(server, "Sign In")
    assert visit["properties"]["distinct_id"] == signed_in["properties"]["distinct_id"] == "py-user"
    assert visit["properties"]["$distinct_id_before_identity"] == "$device:py-1"


def test_a_wrong_token_raises_with_the_reason(server: Server) -> None:
    mp = sdk(server)
    mp._token = "not-a-token-of-this-server"
    with pytest.raises(mixpanel.MixpanelException, match="token"):
        mp.track("ada", "Refused")
    assert of(server, "Refused") == []
