"""Links that stand in the log are not appended again, and never left out once something undid them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Self

import orjson
import pytest

from mixdown.ingest import links
from mixdown.ingest.links import SentLinks
from mixdown.ingest.prepare import Submission
from mixdown.model.errors import OverloadedError, StoreError
from mixdown.model.limits import Limits
from mixdown.model.quick_events import read_events_quickly
from mixdown.store import privacy
from mixdown.store.chunk import FOR_ALL, FOR_EVENTS, decode_body
from mixdown.store.protocols import Append
from mixdown.store.unmerging import append_unmerge
from tests.fold.conftest import Way

EVENT: dict[str, Any] = {"event": "seen", "properties": {"token": "TOK", "$device_id": "D", "$user_id": "u1"}}


def request(*events: Any, key: str = "") -> Submission:
    """A plain request, as the HTTP layer hands it over."""
    text = orjson.dumps(events)
    return Submission(
        "track",
        [],
        ip_flag=False,
        idempotency_key=key,
        path="/track",
        quick_events=read_events_quickly(text, Limits()),
        reread=lambda: (orjson.loads(text), True),
    )


def send(way: Way, *events: Any, key: str = "") -> None:
    submission = request(*events, key=key)
    if key:
        submission.take_long_way()
    assert asyncio.run(way.ingest.submit(submission)).good == len(events)


def linked(way: Way) -> list[list[tuple[str, str]]]:
    """The links in each chunk of the log."""
    chunks = way.store.log.read(0, max_records=1000, max_bytes=1 << 30)
    return [
        [(link.one, link.other) for segment in decode_body(chunk.body) for link in segment.links]
        for chunk in chunks
    ]


def canonical(way: Way) -> str:
    way.fold_all()
    return way.store.state.canonical(way.project.id, ["$device:D"])["$device:D"]


PAIR = [("$device:D", "u1")]


def test_a_link_is_appended_once_and_the_fold_passes_over_what_comes_behind(way: Way) -> None:
    send(way, EVENT)
    send(way, EVENT, {"event": "left", "properties": EVENT["properties"]})
    chunks = way.store.log.read(0, max_records=1000, max_bytes=1 << 30)
    assert linked(way) == [PAIR, []]
    assert [chunk.kinds for chunk in chunks] == [FOR_ALL, FOR_EVENTS]
    assert canonical(way) == "u1"


def test_another_user_of_the_device_is_appended(way: Way) -> None:
    send(way, EVENT)
    send(way, {"event": "seen", "properties": EVENT["properties"] | {"$user_id": "u2"}})
    assert linked(way) == [PAIR, [("$device:D", "u2")]]


def test_it_is_appended_anew_once_the_device_was_unmerged(way: Way) -> None:
    send(way, EVENT)
    append_unmerge(way.store, way.project.id, "$device:D", now_ms=way.now_ms)
    assert canonical(way) == "$device:D"
    send(way, EVENT)
    assert linked(way) == [PAIR, [], PAIR]
    assert canonical(way) == "u1"


def test_it_is_appended_anew_once_somebody_was_erased(way: Way) -> None:
    send(way, EVENT)
    way.fold_all()
    deletion = privacy.Deletion(
        "j", way.project.id, "", ("u1",), 1, privacy.PENDING, "tests", "GDPR", way.now_ms
    )
    way.store.privacy.add_deletion(deletion)
    assert privacy.begin(way.store, deletion, now_ms=way.now_ms)
    send(way, EVENT)
    assert linked(way)[-1] == PAIR
    assert canonical(way) == "u1"


def test_a_request_that_was_judged_before_an_unmerge_and_appended_behind_it_links(way: Way) -> None:
    """The request waits for its turn while another process unmerges."""
    send(way, EVENT)
    done = threading.Event()

    def late() -> None:
        send(way, EVENT)
        done.set()

    with way.store.log.turn() as turn:
        sender = threading.Thread(target=late)
        sender.start()
        assert not done.wait(0.2)
        unmerge = _unmerge_record(way)
        turn.append([unmerge], way.now_ms)
    sender.join(60)
    assert linked(way) == [PAIR, [], PAIR]
    assert canonical(way) == "u1"


def _unmerge_record(way: Way) -> Append:
    held: list[Append] = []

    class Catching:
        number = 0

        @property
        def log(self) -> Self:
            return self

        def partitions_of(self, _project: int) -> tuple[int, ...]:
            return (0,)

        def partition(self, _number: int) -> Self:
            return self

        def append(self, appends: list[Append], _now_ms: int) -> None:
            held.extend(appends)

        def turn(self) -> Self:
            return self

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

    append_unmerge(Catching(), way.project.id, "$device:D", now_ms=way.now_ms)  # type: ignore[arg-type]
    assert held[0].parts
    return held[0]


def test_what_a_request_with_a_key_brings_is_not_relied_on(way: Way) -> None:
    """The fold leaves such a request out where its key is known, with its links."""
    send(way, EVENT, key="k")
    send(way, EVENT)
    send(way, EVENT, key="other")
    assert linked(way) == [PAIR, PAIR, PAIR]


def test_a_commit_that_failed_teaches_nothing(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise StoreError("disk full")

    monkeypatch.setattr(way.store.log, "turn", broken)
    with pytest.raises(OverloadedError):
        send(way, EVENT)
    monkeypatch.undo()
    send(way, EVENT)
    assert linked(way) == [PAIR]


def test_pairs_are_known_for_two_spans_and_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    sent = SentLinks(lambda: now)
    sent.as_of(0)
    sent.appended(["a", "x" * (links.CHARS + 1)])
    assert (sent.known.young, sent.known.old) == ({"a"}, set())
    now = links.HELD_S
    sent.as_of(0)
    assert (sent.known.young, sent.known.old) == (set(), {"a"})
    now *= 2
    sent.as_of(0)
    assert (sent.known.young, sent.known.old) == (set(), set())
    monkeypatch.setattr(links, "HELD", 2)
    sent.appended(["a", "b"])
    sent.as_of(0)
    assert (sent.known.young, sent.known.old) == (set(), {"a", "b"})
    sent.as_of(7)
    assert sent.known == (7, set(), set())
