"""`mixdown tail`: what was, and what comes while it runs."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cli.support import Cli, group, user
from tests.engine import of_a_folder, open_store

pytestmark = pytest.mark.slow


class Tail:
    """A running `mixdown tail`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(process.stdout, selectors.EVENT_READ)
        self._held = b""

    def lines(self, count: int, timeout_s: float = 90.0) -> list[str]:
        """The next lines, so many; fails when they do not come."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout_s
        while self._held.count(b"\n") < count:
            assert time.monotonic() < deadline, self._held
            if self._selector.select(0.1):
                self._held += os.read(self.process.stdout.fileno(), 65536)
        *taken, rest = self._held.split(b"\n", count)
        self._held = rest
        return [line.decode() for line in taken]

    def quiet(self, seconds: float = 0.5) -> bool:
        """Whether nothing more comes for a while."""
        return not self._held and not self._selector.select(seconds)

    def interrupt(self) -> tuple[int, str]:
        """Ctrl-C; the exit code and what stood on stderr."""
        self.process.send_signal(signal.SIGINT)
        try:
            _, errors = self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # it tells where it stands
            pytest.fail(f"it goes on: {self.process.communicate(timeout=60)[1]}")
        return self.process.returncode, errors


@contextmanager
def tailing(cli: Cli, *arguments: str, command: tuple[str, ...] = ("tail",)) -> Iterator[Tail]:
    process = cli.process(*command, *arguments)
    tail = Tail(process)
    try:
        yield tail
    finally:
        process.kill()
        process.communicate()
        tail._selector.close()


def test_the_last_ten_come_first_and_then_what_arrives(shop: Cli) -> None:
    shop.send(*[user(f"u{number}") for number in range(25)])
    with tailing(shop, "--json") as tail:
        assert [json.loads(line)["id"] for line in tail.lines(10)] == [f"u{n}" for n in range(15, 25)]
        shop.send(user("late", plan="pro"))
        (line,) = tail.lines(1)
        record = json.loads(line)
        assert record.pop("time")
        assert record == {
            "kind": "record",
            "position": 25,
            "project_id": 1,
            "endpoint": "engage",
            "sdk": "tests",
            "group_key": None,
            "id": "late",
            "operations": {"$set": {"plan": "pro"}},
        }
        assert tail.quiet()


def test_refusals_arrive_with_their_reason(shop: Cli) -> None:
    shop.send(user("before"))
    with tailing(shop, "--json") as tail:
        tail.lines(1)  # it has started
        shop.send(user("u1"), {"$token": "shop-token", "$set": {}}, user("u2", token="nope"))
        kinds = [(each["kind"], each["id"], each.get("message")) for each in map(json.loads, tail.lines(3))]
        assert kinds == [
            ("record", "u1", None),
            ("refusal", 1, "$distinct_id, missing or empty"),
            ("refusal", 2, "$token, no project has this token"),
        ]


def test_lines_for_people_have_time_project_kind_id_and_operators(shop: Cli) -> None:
    shop.send({"$token": "shop-token", "$distinct_id": "al\x1b[31mice", "$set": {"a": 1}, "$unset": ["b"]})
    shop.send(group("Company", "Acme", text="x" * 500), endpoint="groups")
    shop.send({"$token": "shop-token", "$distinct_id": "bob", "$delete": ""})
    shop.send(user("u2", token="nope"))
    with tailing(shop) as tail:
        first, second, third, fourth = tail.lines(4)
        assert tail.interrupt() == (0, "")
    assert first.split("  ", 1)[1] == 'shop  user  al\\x1b[31mice  $unset ["b"]  $set {"a":1}'
    assert second.split()[1:5] == ["shop", "Company", "Acme", "$set"]
    assert second.endswith("…")
    assert len(second) < 200
    assert third.split()[1:] == ["shop", "user", "bob", "$delete"]
    assert "-  refused  1  /engage  $token, no project has this token" in fourth


def test_refused_shows_refusals_alone_and_project_its_own(shop: Cli) -> None:
    shop("project", "create", "web", "--token", "web-token")
    shop.send(user("u1"), user("u2", token="web-token"), {"$token": "web-token"}, {"$token": "shop-token"})
    shop.send(user("u3", token="nope"))
    with tailing(shop, "--refused", "--json") as tail:
        assert [json.loads(line)["project_id"] for line in tail.lines(3)] == [2, 1, None]
        assert tail.quiet()
    with tailing(shop, "--project", "web", "--json") as tail:
        assert [json.loads(line)["kind"] for line in tail.lines(2)] == ["record", "refusal"]
        assert tail.quiet()
        shop.send(user("u4"), user("u5", token="web-token"), user("u6", token="nope"))
        assert [json.loads(line)["id"] for line in tail.lines(1)] == ["u5"]
        assert tail.quiet()
    with tailing(shop, "--project", "0", "--json") as tail:
        assert [json.loads(line)["message"][:6] for line in tail.lines(2)] == ["$token"] * 2


def event(name: str, user_id: str, **properties: object) -> dict[str, object]:
    reserved = {"token": "shop-token", "distinct_id": user_id, "$insert_id": f"{name}-{user_id}"}
    return {"event": name, "properties": {**reserved, **properties}}


def test_events_arrive_among_the_records_in_the_order_of_the_log(shop: Cli) -> None:
    shop.send(user("u1"))
    shop.send(event("View", "u1", page=3), event("View", "u2"), endpoint="track")
    shop.send(user("u3"))
    with tailing(shop, "--json") as tail:
        shown = [json.loads(line) for line in tail.lines(4)]
        kinds = [(each["kind"], each["position"]) for each in shown]
        assert kinds == [("record", 0), ("event", 1), ("event", 2), ("record", 3)]
        happened = shown[1]["properties"].pop("time")
        assert abs(happened / 1000 - time.time()) < 120
        assert shown[1].pop("time")
        assert shown[1] == {
            "kind": "event",
            "position": 1,
            "project_id": 1,
            "endpoint": "track",
            "sdk": "tests",
            "event": "View",
            "distinct_id": "u1",
            "properties": {"$insert_id": "View-u1", "page": 3},
        }
    with tailing(shop) as tail:
        line = tail.lines(2)[1]
    assert line.split("  ", 1)[1] == 'shop  event  View  u1  {"page":3}'


def test_events_tail_shows_the_events_that_are_wanted(shop: Cli) -> None:
    shop("project", "create", "web", "--token", "web-token")
    shop.send(*[event("View", f"u{n}", n=n) for n in range(30)], endpoint="track")
    flags = ("--project", "shop", "--event", "View", "--where", 'properties["n"] > 25', "--json")
    with tailing(shop, *flags, command=("events", "tail")) as tail:
        assert [json.loads(line)["properties"]["n"] for line in tail.lines(4)] == [26, 27, 28, 29]
        shop.send(user("u1"), user("u2", token="nope"))
        theirs = event("View", "late", n=99)
        shop.send(event("Login", "late", n=99), theirs, event("View", "late", n=1), endpoint="track")
        assert [json.loads(line)["distinct_id"] for line in tail.lines(1)] == ["late"]
        assert tail.quiet()
        assert tail.interrupt() == (0, "")


def test_a_burst_comes_whole_and_in_order(shop: Cli) -> None:
    shop.send(user("before"))
    with tailing(shop, "--json") as tail:
        tail.lines(1)  # it has started
        for start in range(0, 6000, 1500):
            shop.send(*[user(f"u{number}") for number in range(start, start + 1500)])
        assert [json.loads(line)["id"] for line in tail.lines(6000)] == [f"u{n}" for n in range(6000)]


@of_a_folder("checkpoints are those of its files")
def test_no_transaction_stays_open_so_that_checkpoints_complete(shop: Cli) -> None:
    shop.send(user("u1"))
    with tailing(shop, "--json") as tail:
        tail.lines(1)
        store = open_store(shop.folder, role="fold", create=False)
        try:
            for number in range(5):
                shop.send(user(f"x{number}"))
                time.sleep(0.12)
            log: Any = store.log
            busy, pages, moved = log._file.reader().execute("PRAGMA wal_checkpoint(TRUNCATE)").get
            assert (busy, pages, moved) == (0, 0, 0)
        finally:
            store.close()


def test_a_closed_pipe_ends_it(shop: Cli) -> None:
    shop.send(*[user(f"u{number}") for number in range(10)])
    process = shop.process("tail")
    assert process.stdout is not None
    try:
        process.stdout.readline()
        process.stdout.close()
        shop.send(user("late"))
        assert process.wait(60) != 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
