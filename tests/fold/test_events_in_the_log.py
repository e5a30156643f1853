"""Events and the fold: it steps over them, its positions stay true, and their requests are recognised."""

from __future__ import annotations

import orjson

from mixdown.fold.profiles import ProfileFold
from mixdown.http.body import decode
from mixdown.ingest.pipeline import rules_of
from mixdown.ingest.prepare import Submission, prepare
from mixdown.model.limits import Limits
from mixdown.model.operators import Operator
from mixdown.model.updates import Update
from mixdown.settings import Settings
from mixdown.store.chunk import Outcome, Segment, encode_segment
from mixdown.store.protocols import Append
from tests.fold.conftest import Way, record
from tests.store.support import append, appending_events


def test_updates_keep_their_positions_beside_events_of_the_same_chunk(way: Way) -> None:
    def fault(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    updates = [Update(way.project.id, "", "u1", [(int(Operator.SET), {"a": 1})])]
    first = Append(encode_segment(Segment("engage", "test", None, None, updates)), 1, b"")
    append(way.store.log, appending_events("e", "f", key=b"k" * 16), first, appending_events("g"), first)
    way.fold = ProfileFold(way.store, apply=fault)
    assert way.fold_all() == 5
    assert [each.message for each in way.store.refusals.listing(None)] == [
        "internal error at position 4: ZeroDivisionError",
        "internal error at position 2: ZeroDivisionError",
    ]


def test_the_fold_passes_chunks_of_events_alone(way: Way) -> None:
    append(way.store.log, appending_events("a", "b"))
    append(way.store.log, appending_events("c"))
    assert way.fold_all() == 3
    assert way.store.state.watermark() == way.store.log.head() == 3
    way.submit(record(set={"a": 1}))
    way.fold_all()
    assert way.profile() == {"a": 1}


def test_the_key_of_a_request_of_events_is_kept_with_its_outcome(way: Way) -> None:
    append(way.store.log, appending_events("a", "b", key=b"k" * 16))
    append(way.store.log, appending_events("a", "b", key=b"k" * 16))
    folded = way.fold.step()
    assert folded is not None
    assert (folded.records, folded.recognised_by_request) == (4, 2)
    assert way.store.state.known_keys([b"k" * 16], since_ms=0) == {b"k" * 16: Outcome(2, 2)}


def test_a_request_that_is_judged_again_gives_the_same_events(way: Way) -> None:
    good = {"event": "E", "properties": {"token": "TOK", "$device_id": "D", "$user_id": "U"}}
    odd = {"event": "E", "properties": {"token": "TOK", "time": "1768478400", "a": "x" * 300}}
    for batch in ([good, good], [good, odd]):
        decoded = decode(
            method="POST",
            content_type=b"application/json",
            content_encoding=b"",
            query=b"",
            body=orjson.dumps(batch),
            limits=Limits(),
            quick_for="track",
        )
        assert decoded.reread is not None
        long = decoded.reread()
        submission = Submission(
            "track",
            decoded.records,
            ip_flag=False,
            quick_events=decoded.quick_events,
            reread=lambda long=long: (long.records, long.hostile),  # type: ignore[misc]
            now_ms=way.now_ms,
            fresh="fresh",
        )
        projects = {way.project.id: way.project}
        rules = rules_of(Settings())
        first = prepare(submission, {"TOK": way.project.id}, rules, None, projects)
        assert prepare(submission, {"TOK": way.project.id}, rules, None, projects) == first
        assert prepare(submission, {}, rules, None, projects).outcome.good == 0, "a token was taken away"


def test_events_are_stored_with_what_a_retry_is_known_by(way: Way) -> None:
    events = [{"event": "E", "properties": {"token": "TOK"}}, {"event": "E"}]
    first = way.submit(*events, endpoint="track", key="k")
    assert way.submit(*events, endpoint="track", key="k") == first
    way.fold_all()
    assert way.submit(*events, endpoint="track", key="k") == first
    assert (first.good, first.total) == (1, 2)
    assert way.fold_all() == 0
    assert len(way.store.refusals.listing(None)) == 1
