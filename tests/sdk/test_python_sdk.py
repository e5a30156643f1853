"""The official Python SDK, unmodified, against a running server: every people and group operation."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import mixpanel
import pytest

from tests.sdk.support import stored_group, stored_user, written_now
from tests.serving import Certificate, Server

MakeConsumer = Callable[..., Any]

CONSUMERS = [
    pytest.param(mixpanel.Consumer, id="Consumer"),
    pytest.param(mixpanel.BufferedConsumer, id="BufferedConsumer"),
]


def sdk(server: Server, make_consumer: MakeConsumer = mixpanel.Consumer) -> mixpanel.Mixpanel:
    """The SDK as its users set it up for a host of their own."""
    consumer = make_consumer(
        events_url=f"{server.base_url}/track",
        people_url=f"{server.base_url}/engage",
        groups_url=f"{server.base_url}/groups",
        import_url=f"{server.base_url}/import",
    )
    return mixpanel.Mixpanel(server.token, consumer=consumer)


def flush(mp: mixpanel.Mixpanel) -> None:
    """Send what the consumer still holds, as programs do before they end."""
    if isinstance(mp._consumer, mixpanel.BufferedConsumer):
        mp._consumer.flush()


def set_and_flush(mp: mixpanel.Mixpanel, user: str) -> None:
    mp.people_set(user, {"a": 1})
    flush(mp)


@pytest.mark.parametrize("make_consumer", CONSUMERS)
def test_every_people_operation_gives_the_profile_it_promises(
    server: Server, make_consumer: MakeConsumer
) -> None:
    mp = sdk(server, make_consumer)
    user = f"python-{make_consumer.__name__}"
    mp.people_set(
        user,
        {
            "$name": "Zoë + Łódź & 100 % = 東京 🎉",
            "age": 31,
            "ratio": 0.5,
            "vip": True,
            "referrer": None,
            "born": datetime(1990, 1, 2, 3, 4, 5),  # noqa: DTZ001 - as SDK users pass it
            "tags": ["a", "b"],
            "address": {"city": "Köln", "zip": 50667, "lines": [{"n": 1}]},
            "scratch": "gone soon",
        },
    )
    mp.people_set_once(user, {"age": 99, "first_seen": "2026-01-01T00:00:00"})
    mp.people_increment(user, {"age": 1, "visits": 5})
    mp.people_increment(user, {"visits": -2, "ratio": 0.25})
    mp.people_append(user, {"tags": "c", "pages": "home"})
    mp.people_append(user, {"tags": "a"})
    mp.people_union(user, {"tags": ["c", "d"], "badges": ["x", "x", "y"]})
    mp.people_remove(user, {"tags": "b", "badges": "y"})
    mp.people_unset(user, ["scratch", "never there"])
    mp.people_track_charge(user, 9.99, {"sku": "p-1"})
    mp.people_update({"$distinct_id": user, "$set": {"plan": "pro"}, "$add": {"visits": 10}})
    flush(mp)
    assert stored_user(server, user) == {
        "$name": "Zoë + Łódź & 100 % = 東京 🎉",
        "age": 32,
        "ratio": 0.75,
        "vip": True,
        "referrer": None,
        "born": "1990-01-02T03:04:05",
        "tags": ["a", "c", "a", "d"],
        "address": {"city": "Köln", "zip": 50667, "lines": [{"n": 1}]},
        "first_seen": "2026-01-01T00:00:00",
        "visits": 13,
        "pages": ["home"],
        "badges": ["x"],
        "$transactions": [{"sku": "p-1", "$amount": 9.99}],
        "plan": "pro",
    }

    mp.people_clear_charges(user)
    flush(mp)
    assert "$transactions" not in server.profiles()[user]

    mp.people_delete(user)
    flush(mp)
    assert user not in server.profiles()


@pytest.mark.parametrize("make_consumer", CONSUMERS)
def test_every_group_operation_gives_the_profile_it_promises(
    server: Server, make_consumer: MakeConsumer
) -> None:
    mp = sdk(server, make_consumer)
    group = f"Acme & Söhne {make_consumer.__name__}"
    mp.group_set("company", group, {"$name": group, "seats": 5, "regions": ["EU", "US"], "old": 1})
    mp.group_set_once("company", group, {"seats": 6, "founded": 1999})
    mp.group_union("company", group, {"regions": ["US", "APAC"], "plans": ["free"]})
    mp.group_remove("company", group, {"regions": "EU"})
    mp.group_unset("company", group, ["old"])
    mp.group_update({"$group_key": "company", "$group_id": group, "$add": {"seats": 2}})
    mp.group_update({"$group_key": "company", "$group_id": group, "$append": {"plans": "free"}})
    flush(mp)
    assert stored_group(server, "company", group) == {
        "$name": group,
        "seats": 7,
        "regions": ["US", "APAC"],
        "founded": 1999,
        "plans": ["free", "free"],
    }

    mp.group_delete("company", group)
    flush(mp)
    assert group not in server.groups("company")


def test_the_buffered_consumer_keeps_the_order_of_more_updates_than_it_holds(server: Server) -> None:
    mp = sdk(server, mixpanel.BufferedConsumer)
    for number in range(120):
        mp.people_append("python-buffered", {"numbers": number})
        mp.people_set(f"python-buffered-{number}", {"number": number})
    flush(mp)
    profiles = server.profiles()
    assert written_now(profiles["python-buffered"]) == {"numbers": list(range(120))}
    assert [written_now(profiles[f"python-buffered-{number}"]) for number in range(120)] == [
        {"number": number} for number in range(120)
    ]


def test_a_numeric_distinct_id_is_the_same_as_its_text(server: Server) -> None:
    mp = sdk(server)
    mp.people_set(4242, {"a": 1})
    mp.people_set("4242", {"b": 2})
    assert stored_user(server, "4242") == {"a": 1, "b": 2}


def test_meta_sets_the_time_of_an_update_or_leaves_the_old_one(server: Server) -> None:
    mp = sdk(server)
    mp.people_set("python-time", {"a": 1}, meta={"$time": 1577934245})
    assert server.profiles()["python-time"] == {"a": 1, "$last_seen": "2020-01-02T03:04:05"}
    mp.people_set("python-time", {"a": 2}, meta={"$ignore_time": True, "$ip": 0})
    assert server.profiles()["python-time"] == {"a": 2, "$last_seen": "2020-01-02T03:04:05"}


@pytest.mark.parametrize("make_consumer", CONSUMERS)
def test_a_wrong_token_raises_with_the_reason(server: Server, make_consumer: MakeConsumer) -> None:
    mp = sdk(server, make_consumer)
    mp._token = "not-a-token-of-this-server"
    with pytest.raises(mixpanel.MixpanelException, match=r"\$token"):
        set_and_flush(mp, "python-refused")
    assert "python-refused" not in server.profiles()


def test_a_batch_with_one_bad_record_stores_the_others(server: Server) -> None:
    mp = sdk(server, mixpanel.BufferedConsumer)
    mp.people_set("python-good-1", {"a": 1})
    mp.people_set("", {"a": 2})
    mp.people_set("python-good-2", {"a": 3})
    flush(mp)
    profiles = server.profiles()
    assert written_now(profiles["python-good-1"]) == {"a": 1}
    assert written_now(profiles["python-good-2"]) == {"a": 3}
    assert "" not in profiles


@pytest.mark.parametrize("make_consumer", CONSUMERS)
def test_api_host_reaches_a_server_with_tls(
    tls_server: Server, certificate: Certificate, monkeypatch: pytest.MonkeyPatch, make_consumer: MakeConsumer
) -> None:
    server = tls_server
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.certificate_file))
    host = server.base_url.removeprefix("https://")
    mp = mixpanel.Mixpanel(server.token, consumer=make_consumer(api_host=host))
    name = f"python-tls-{make_consumer.__name__}"
    mp.people_set(name, {"a": 1})
    mp.group_set("company", name, {"b": 2})
    flush(mp)
    assert stored_user(server, name) == {"a": 1}
    assert stored_group(server, "company", name) == {"b": 2}
