"""The stream of what arrives: whole, in order, gone on with, filtered, sampled, ended when it must."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from mixdown.http import live as http_live
from mixdown.query.live import reader, tail, wanted
from tests.live.support import LIVE, Listener, Message, event, query
from tests.reads.support import (
    ADMIN,
    IMPORTER,
    OTHER_TOKEN,
    OWNER,
    READER,
    SECRET,
    STRANGER,
    TOKEN,
    World,
    basic,
    group,
    names,
    user,
)

BAD = {"$token": TOKEN, "$set": {"plan": "pro"}}


def name_of(message: Message) -> str:
    data = message.data
    if message.kind == "link":
        return str(data["ids"][0])
    if message.kind == "refusal":
        return "refused"
    return str(data["event"] if message.kind == "event" else data["id"])


def kinds(listener: Listener) -> list[str]:
    return [message.kind for message in listener.records]


def test_every_kind_of_record_is_heard_as_it_arrives_with_what_it_says(world: World) -> None:
    listener = Listener(world)
    assert listener.status == 200
    assert listener.headers["content-type"].startswith("text/event-stream")
    world.send(user("ada", plan="pro"))
    world.send(group("Company", "Acme", size=1), endpoint="groups")
    world.send(event("Signed in", "ada", **{"$device_id": "d1", "$user_id": "ada"}), endpoint="track")
    world.send(user("bob"), BAD)
    heard = listener.hear(6)
    update, of_group, link, signed_in, second, refused = heard
    assert update.data["operations"] == {"$set": {"plan": "pro"}}
    assert (of_group.data["group_key"], of_group.data["id"]) == ("Company", "Acme")
    assert (link.kind, link.data["verb"], link.data["ids"]) == ("link", "device", ["$device:d1", "ada"])
    assert signed_in.data["event"] == "Signed in"
    assert signed_in.data["properties"]["$insert_id"] == "Signed in-ada"
    assert second.data["id"] == "bob"
    assert (refused.data["index"], refused.data["field"]) == (1, "$distinct_id")
    assert refused.data["message"] == "$distinct_id, missing or empty"
    assert json.loads(refused.data["record"]) == {**BAD, "$token": "YOUR_TOKEN"}  # heard by a consumer


def test_whoever_comes_back_hears_what_came_meanwhile_and_nothing_twice(world: World) -> None:
    first = Listener(world)
    world.send(user("a"), user("b"), BAD)
    last = first.hear(3)[-1].id
    first.leave()
    world.send(user("c"), BAD)
    world.send(event("E", "d"), endpoint="track")
    for listener in (
        Listener(world, headers={"Last-Event-ID": last}),
        Listener(world, query(after=last)),
    ):
        assert listener.messages[0].data == {"resumed": True, "gap": False}
        heard = listener.hear(3)
        assert sorted(message.kind for message in heard) == ["event", "refusal", "update"]
        listener.leave()
    again = Listener(world, query(after=last))
    world.send(user("later"))
    assert [m.data.get("id") for m in again.hear(4) if m.kind == "update"] == ["c", "later"]


def test_each_id_is_the_place_behind_its_message(world: World) -> None:
    listener = Listener(world)
    world.send(user("a"), BAD, user("b"))
    world.send(BAD, user("c"))
    heard = listener.hear(5)
    listener.leave()
    for place, message in enumerate(heard):
        rest = Listener(world, query(after=message.id))
        left = heard[place + 1 :]
        if left:
            rest.hear(len(left))
        assert sorted(map(str, (m.data for m in rest.records))) == sorted(map(str, (m.data for m in left)))
        rest.leave()


def test_whoever_comes_back_to_a_worker_that_looks_late_hears_nothing_twice_and_loses_nothing(
    world: World,
) -> None:
    world.services.__dict__["live"] = tail.LiveTail(world.store, pause_s=0.3)
    other = Listener(world)
    world.send(user("a"), BAD)
    other.hear(2)  # it looks again in a while, and has not met the next records
    world.send(user("b"), BAD)
    place = f"{world.store.log.head()}-{world.store.refusals.newest_id()}"
    listener = Listener(world, query(after=place))
    assert listener.messages[0] == Message("begin", place, {"resumed": True, "gap": False})
    world.send(user("c"), BAD)
    assert sorted(map(name_of, listener.hear(2))) == ["c", "refused"]
    assert sorted(map(name_of, other.hear(6))) == ["a", "b", "c", "refused", "refused", "refused"]
    assert sorted(map(name_of, listener.records)) == ["c", "refused"]


def test_whoever_comes_back_after_the_newest_refusal_was_mended_hears_what_came_meanwhile(
    world: World,
) -> None:
    listener = Listener(world)
    world.send(user("a"), BAD)
    last = listener.hear(2)[-1].id
    listener.leave()
    world.store.refusals.remove([world.store.refusals.newest_id()])
    world.send(user("b"))
    back = Listener(world, query(after=last))
    assert back.messages[0].data == {"resumed": True, "gap": False}
    assert [name_of(message) for message in back.hear(1)] == ["b"]


def test_a_link_whose_event_is_not_wanted_is_heard_once(world: World) -> None:
    listener = Listener(world, query(kind="link"))
    world.send(event("Signed in", "ada", **{"$device_id": "d1", "$user_id": "ada"}), endpoint="track")
    last = listener.hear(1)[-1].id
    listener.leave()
    again = Listener(world, query(kind="link", after=last))
    world.send(event("Signed in", "bob", **{"$device_id": "d2", "$user_id": "bob"}), endpoint="track")
    assert [message.data["ids"][1] for message in again.hear(1)] == ["bob"]


def test_a_link_that_is_in_force_is_not_heard_again_with_each_event(world: World) -> None:
    listener = Listener(world)
    ids = {"$device_id": "d1", "$user_id": "ada"}
    world.send(event("One", "ada", **ids), event("Two", "ada", **ids), endpoint="track")
    assert sorted(map(name_of, listener.hear(3))) == ["$device:d1", "One", "Two"]
    world.fold_all()
    world.send(event("Three", "ada", **ids), endpoint="track")
    world.send(event("Four", "bob", **{"$device_id": "d2", "$user_id": "bob"}), endpoint="track")
    assert list(map(name_of, listener.hear(6)))[3:] == ["Three", "$device:d2", "Four"]
    recent = world.get("/api/mixdown/live/recent").json()["results"]["records"]
    assert [record["ids"][0] for record in recent if record["kind"] == "link"] == ["$device:d2", "$device:d1"]


def test_records_that_were_trimmed_before_anybody_looked_are_told_as_a_gap(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hearing = reader.Hearing(
        wanted.Share(wanted.Wanted(None), rate=100, now_s=0.0), http_live.RENDERING, lambda: 0
    )
    tailing = reader.TailReader(world.store)
    tailing.begin(hearing, None)
    world.send(user("lost"))
    monkeypatch.setattr(world.store.log, "tail_position", lambda: 1)
    world.send(user("held"))
    (messages,) = tailing.look([hearing], 5.0)
    text = b"".join(messages)
    assert b'"held"' in text
    assert b'"lost"' not in text
    assert b'"gap":true' in text


def test_what_came_meanwhile_is_bounded_and_the_newest_of_it_comes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "CATCH_UP_RECORDS", 30)
    monkeypatch.setattr(reader, "CAUGHT_UP_SHOWN", 4)
    for name in names(40):
        world.send(user(name))
    listener = Listener(world, query(after="0-0"))
    assert listener.messages[0].data == {"resumed": False, "gap": True}
    assert [message.data["id"] for message in listener.hear(4)] == names(40)[-4:]


@pytest.mark.parametrize("after", ["999999-0", "0-999999", "999999999999999999-999999999999999999"])
def test_an_id_of_another_server_begins_at_now(world: World, after: str) -> None:
    world.send(user("before"))
    listener = Listener(world, query(after=after))
    assert listener.messages[0].data == {"resumed": False, "gap": True}
    world.send(user("now"))
    assert [message.data["id"] for message in listener.hear(1)] == ["now"]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"kind": "update"}, ["a1", "b2", "Acme"]),
        ({"kind": "event"}, ["Signed in"]),
        ({"kind": '["link","refusal"]'}, ["$device:d1", "refused"]),
        ({"kind": "refusal"}, ["refused"]),
        ({"id": "a1"}, ["a1", "$device:d1", "Signed in", "refused"]),
        ({"id": "Acme"}, ["Acme"]),
        ({"id": "a"}, []),
        ({"text": "GREEN"}, ["b2"]),
        ({"text": "zoë"}, ["b2"]),
        ({"text": "company"}, ["Acme"]),
        ({"text": "signed"}, ["Signed in"]),
        ({"text": "must be an object"}, ["refused"]),
        ({"text": "nothing at all"}, []),
        ({"text": "green", "kind": "event"}, []),
    ],
)
def test_filters(plain_world: World, parameters: dict[str, str], expected: list[str]) -> None:
    world = plain_world
    listener = Listener(world, query(**parameters))
    raw = (
        b'[{"$token":"%b","$distinct_id":"b2","$set":{"colour":"Green","who":"Zo\\u00eb"}}]' % TOKEN.encode()
    )
    world.send(user("a1", plan="pro"))
    world.run(world.http.post("/engage?ip=0", content=raw))
    world.send(group("Company", "Acme"), endpoint="groups")
    world.send(event("Signed in", "a1", **{"$device_id": "d1", "$user_id": "a1"}), endpoint="track")
    world.send({"$token": TOKEN, "$distinct_id": "a1", "$set": 7})
    done = Listener(world, query(text="the end"))
    world.send(user("the end"))
    done.hear(1)
    found = [name_of(message) for message in listener.records]
    assert [name for name in found if name != "the end"] == expected


def test_a_project_never_hears_another_and_only_owners_hear_unknown_tokens(world: World) -> None:
    ours, theirs = Listener(world), Listener(world, user=STRANGER)
    everything = Listener(world, user=OWNER)
    one = Listener(world, query(project_id=world.project.id), user=OWNER)
    with_lost = Listener(world, query(project_id=world.project.id, unknown_tokens=1), user=OWNER)
    world.send(user("ours"), user("theirs", token=OTHER_TOKEN), user("lost", token="nobody"))
    world.send({"$token": OTHER_TOKEN, "$set": {}})
    world.send(user("end"), user("end", token=OTHER_TOKEN))
    everything.hear(6)
    with_lost.hear(3)

    def heard(listener: Listener) -> list[Any]:
        return [
            message.data.get("id") if message.kind == "update" else "refused" for message in listener.hear(2)
        ]

    assert heard(ours) == ["ours", "end"]
    assert sorted(heard(theirs)) == ["end", "refused", "theirs"]
    assert heard(one) == ["ours", "end"]
    assert sorted(heard(with_lost)) == ["end", "ours", "refused"]
    assert sorted(heard(everything)) == ["end", "end", "ours", "refused", "refused", "theirs"]
    assert all(message.data["project_id"] == world.other.id for message in theirs.records)


@pytest.mark.parametrize(
    ("who", "parameters", "status"),
    [
        (None, {}, 401),
        (IMPORTER, {}, 403),
        ("nobody", {}, 401),
        (READER, {"project_id": 2}, 403),
        (READER, {"unknown_tokens": "true"}, 403),
        (ADMIN, {"unknown_tokens": 1}, 403),
        (READER, {"kind": "updates"}, 400),
        (READER, {"kind": "[1,2]"}, 400),
        (READER, {"kind": "update,event"}, 200),
        (READER, {"rate": "0"}, 400),
        (READER, {"rate": "many"}, 400),
        (READER, {"rate": 1001}, 400),
        (READER, {"seconds": "-1"}, 400),
        (READER, {"after": "x"}, 400),
        (READER, {"after": "1-2-3"}, 400),
        (READER, {"after": "१-२"}, 400),
        (READER, {"after": "9" * 40 + "-1"}, 400),
        (READER, {"id": "x" * 1001}, 400),
        (READER, {"text": "x" * 1001}, 400),
        (READER, {"unknown_tokens": "perhaps"}, 400),
        (OWNER, {"project_id": 99}, 403),
    ],
)
def test_who_may_listen_and_what_is_no_parameter(
    shared_world: World, who: str | None, parameters: dict[str, Any], status: int
) -> None:
    listener = Listener(shared_world, query(**parameters), user=who)
    assert listener.status == status
    if status != 200:
        assert json.loads(listener.body)["status"] == "error"


def test_a_page_whose_session_has_ended_is_not_asked_for_a_password(shared_world: World) -> None:
    assert "www-authenticate" in Listener(shared_world, user=None).headers
    ended = Listener(shared_world, user=None, headers={"X-CSRF-Token": "0" * 64})
    assert ended.status == 401
    assert "www-authenticate" not in ended.headers


def test_a_garbled_last_event_id_is_refused_and_a_secret_may_listen(shared_world: World) -> None:
    assert Listener(shared_world, headers={"Last-Event-ID": "<script>"}).status == 400
    assert Listener(shared_world, user=None, headers={"Authorization": basic(f"{SECRET}:")}).status == 200


def test_head_answers_at_once(shared_world: World) -> None:
    reply = shared_world.run(shared_world.ask(LIVE, method="HEAD"))
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/event-stream")


def test_too_many_records_are_sampled_and_the_stream_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wanted, "TELL_EVERY_S", 0.0)
    listener = Listener(world, query(rate=5))
    world.send(*[user(name) for name in names(400)], *[BAD] * 3)
    listener.hear(5)
    told = listener.find("sample")
    assert told["matched"] == 403
    assert 8 <= told["shown"] <= 20
    heard = [message.data["id"] for message in listener.records if message.kind == "update"]
    assert heard == sorted(heard)
    assert heard[-1] > "u00300", "the sample is spread over all of them"
    assert kinds(listener).count("refusal") == 3, "refused records do not give way to stored ones"


def test_where_too_many_come_at_once_whole_requests_are_passed_over_and_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wanted, "TELL_EVERY_S", 0.0)
    monkeypatch.setattr(reader, "LOOK_RECORDS", 10)
    world.services.__dict__["live"]._pause_s = 0.3
    listener = Listener(world)
    for start in range(0, 100, 10):
        world.send(*[user(name) for name in names(100)[start : start + 10]])
    world.send(*[user(name, token=OTHER_TOKEN) for name in names(50)])

    def told(*names_of: str) -> int:
        samples = [message.data for message in listener.messages if message.kind == "sample"]
        return sum(sample[name] for sample in samples for name in names_of)

    listener.until(lambda: told("matched", "unread") >= 100)
    assert told("matched", "unread") == 100
    assert told("unread") >= 50
    assert told("shown") == len(listener.records)


def test_the_stream_ends_when_the_account_does(world: World) -> None:
    listener = Listener(world)
    world.store.catalog.delete_account(READER)
    assert listener.find("end") == {"why": tail.NOT_ALLOWED}
    assert listener.ended
    assert Listener(world).status == 401


def test_the_stream_ends_when_the_server_stops_and_nobody_can_come(world: World) -> None:
    listeners = [Listener(world), Listener(world, user=OWNER)]
    world.send(user("a"))
    listeners[0].hear(1)
    world.services.close_live()
    for listener in listeners:
        assert listener.find("end") == {"why": tail.CLOSING}
        listener.until(listener._task.done)
    assert Listener(world).status == 503


def test_the_stream_ends_after_the_seconds_that_were_asked_for(plain_world: World) -> None:
    listener = Listener(plain_world, query(seconds=1))
    assert listener.find("end") == {"why": "as long as was asked"}


def test_there_is_a_heartbeat(plain_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_live, "HEARTBEAT_S", 0.05)
    listener = Listener(plain_world)
    listener.until(lambda: listener.body.count(b"\n: ") + listener.body.count(b"\n\n: ") >= 2)


def test_listeners_are_bounded_and_a_place_is_free_again_when_one_leaves(
    plain_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "LISTENERS_LIMIT", 2)
    listeners = [Listener(plain_world), Listener(plain_world)]
    refused = Listener(plain_world)
    assert refused.status == 503
    assert "retry-after" not in refused.headers
    listeners[0].leave()
    assert Listener(plain_world).status == 200


def test_one_account_cannot_keep_all_others_from_listening(
    plain_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "LISTENERS_OF_ONE", 2)
    listeners = [Listener(plain_world), Listener(plain_world)]
    assert Listener(plain_world).status == 503
    assert Listener(plain_world, user=OWNER).status == 200
    listeners[0].leave()
    assert Listener(plain_world).status == 200


def test_nothing_is_read_while_nobody_listens(world: World) -> None:
    listener = Listener(world)
    world.send(user("a"))
    listener.hear(1)
    listener.leave()
    live = world.services.live
    world.loop.run_until_complete(asyncio.sleep(0.1))
    assert live._task is None
    world.send(*[user(name) for name in names(5)])
    late = Listener(world)
    world.send(user("b"))
    assert [message.data["id"] for message in late.hear(1)] == ["b"], "it begins at the log's head"


def test_a_large_record_is_cut_and_a_record_over_several_lines_is_one_message(world: World) -> None:
    listener = Listener(world)
    world.send(user("big", essay=["x" * 200] * 400))
    raw = b'[\n{\n"$token":"%b",\r\n"$distinct_id":"lines",\n"$set":{\n"a":\n1}}]' % TOKEN.encode()
    world.run(world.http.post("/engage?ip=0", content=raw))
    big, lines = listener.hear(2)
    assert big.data["operations"] is None
    assert big.data["cut"]["size_bytes"] > 80_000
    assert big.data["cut"]["start"].startswith('{"$set":{"essay":["xxx')
    assert lines.data["operations"] == {"$set": {"a": 1}}
