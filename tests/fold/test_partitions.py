"""Ingestion and the fold over several partitions: where records go, and when one of them cannot commit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import orjson
import pytest

from mixdown.fold.events import EventsReader
from mixdown.fold.profiles import ProfileFold
from mixdown.ingest.commit import Pending
from mixdown.ingest.direct import append_raw, resend
from mixdown.ingest.lanes import Lanes
from mixdown.ingest.pipeline import Ingest, rules_of
from mixdown.ingest.prepare import Submission, prepare
from mixdown.ingest.rows import Import, applied_before, judge
from mixdown.ingest.rows import append as append_rows
from mixdown.model import texts
from mixdown.model.errors import NodeDownError, OverloadedError, StoreDownError, StoreError
from mixdown.settings import Settings
from mixdown.store.catalog_cache import CatalogCache
from mixdown.store.chunk import Outcome, decode_whole
from mixdown.store.events import FIRST_MS, LAST_MS
from mixdown.store.memory import MemoryStore
from mixdown.store.places import all_views, first_of, partition_at, profile_key_text
from mixdown.store.protocols import Log, Project, Store

NOON_MS = 1_768_478_400_000
USERS = [f"user-{number}" for number in range(60)]


class Parted:
    """A store of three partitions with a large project and two small ones, and the way into it."""

    def __init__(self) -> None:
        self.store: Store = MemoryStore(partitions=3)
        self.large = self.store.catalog.enlarge_project(self._project("large").id)
        self.small, self.other = self._project("small"), self._project("other")
        self.executor = ThreadPoolExecutor(2)
        self.ingest = Ingest.open(
            Settings(disk_reserve_bytes=0, disk_reserve_percent=0),
            self.store,
            CatalogCache(self.store.catalog),
            executor=self.executor,
            now_ms=lambda: NOON_MS,
        )

    def _project(self, name: str) -> Project:
        return self.store.catalog.create_project(
            name, token=name, secret_hash=name.encode(), id_merge="simplified", now_ms=NOON_MS
        )

    def submit(self, *records: Any, endpoint: str = "engage", key: str = "", **options: Any) -> Outcome:
        submission = Submission(
            endpoint, list(records), ip_flag=False, idempotency_key=key, path=f"/{endpoint}", **options
        )
        return asyncio.run(self.ingest.submit(submission))

    def fold_all(self) -> None:
        for view in all_views(self.store):
            fold, events = ProfileFold(view), EventsReader(view)
            while fold.step() is not None:
                pass
            while events.step() is not None:
                pass
            events.finish()

    def updates(self, view: Store) -> list[str]:
        """The ids of a partition's updates, in log order."""
        return [update.id for segment in segments(view) for update in segment.updates]

    def value(self, project: Project, profile_id: str, name: str = "n") -> Any:
        (document,) = self.store.state.documents([(project.id, "", profile_id)])
        return None if document is None else orjson.loads(document).get(name)

    def close(self) -> None:
        self.ingest.close()
        self.executor.shutdown()
        self.store.close()


def segments(view: Store) -> list[Any]:
    """What stands in the log of a partition."""
    chunks = view.log.read(first_of(view.number), max_records=10**9, max_bytes=10**9)
    return [segment for chunk in chunks for segment in decode_whole(chunk.body)]


def add(token: str, profile_id: str, by: Any = 1) -> dict[str, Any]:
    return {"$token": token, "$distinct_id": profile_id, "$add": {"n": by}}


def event(token: str, **properties: Any) -> dict[str, Any]:
    return {"event": "seen", "properties": {"token": token, **properties}}


@contextmanager
def failing(log: Log, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let one partition's log refuse what is appended."""

    def append(*_: Any) -> None:
        raise StoreError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(log, "append", append)
        yield


@pytest.fixture
def parted() -> Iterator[Parted]:
    made = Parted()
    yield made
    made.close()


def test_records_of_a_project_stand_in_its_partition_and_of_a_large_one_in_that_of_their_profile(
    parted: Parted,
) -> None:
    assert parted.submit(*[add("large", each) for each in USERS], add("small", "ada")).good == 61
    for view in all_views(parted.store):
        own = [
            each
            for each in USERS
            if parted.store.partition_of(parted.large.id, profile_key_text("", each)) == view.number
        ]
        assert own
        small = ["ada"] if parted.store.partition_of(parted.small.id) == view.number else []
        assert sorted(parted.updates(view)) == sorted(own + small)
    parted.fold_all()
    assert [parted.value(parted.large, each) for each in USERS] == [1] * 60
    assert parted.value(parted.small, "ada") == 1
    assert parted.store.state.count(parted.large.id, "") == 60


def test_records_of_one_profile_apply_in_the_order_in_which_they_were_sent(parted: Parted) -> None:
    for number in range(5):
        own = {"$token": "large", "$append": {"n": number}}
        parted.submit(*[{**own, "$distinct_id": each} for each in USERS])
    parted.fold_all()
    assert all(parted.value(parted.large, each) == [0, 1, 2, 3, 4] for each in USERS)


def test_updates_of_a_large_project_address_the_very_id_that_they_name(parted: Parted) -> None:
    for token in ("large", "small"):
        parted.submit(event(token, **{"$device_id": "d", "$user_id": "ada"}), endpoint="track")
        parted.fold_all()
        parted.submit(add(token, "$device:d"))
        parted.fold_all()
    assert (parted.value(parted.small, "ada"), parted.value(parted.small, "$device:d")) == (1, None)
    assert (parted.value(parted.large, "ada"), parted.value(parted.large, "$device:d")) == (None, 1)
    assert parted.store.state.canonical(parted.large.id, ["$device:d"]) == {"$device:d": "ada"}


def test_all_that_is_said_of_a_device_is_in_one_partition(parted: Parted) -> None:
    names = [event("large", **{"$device_id": "d", "$user_id": user}) for user in USERS]
    assert parted.submit(*names, endpoint="track").good == 60
    parted.fold_all()
    assert parted.store.state.linked(parted.large.id, "$device:d") == ["user-0", "$device:d"]
    home = parted.store.partition_of(parted.large.id, profile_key_text("", "$device:d"))
    assert {view.number for view in all_views(parted.store) if segments(view)} == {home}
    refused = parted.store.refusals.listing([parted.large.id])
    assert {each.message for each in refused} == {texts.LINK_FIRST_USER}


def test_events_of_a_large_project_are_spread_and_read_together(parted: Parted) -> None:
    sent = [event("large", distinct_id=each, **{"$insert_id": each}) for each in USERS]
    assert parted.submit(*sent, endpoint="track").good == 60
    parted.fold_all()
    counts = [view.events.size(parted.large.id).hot_events for view in all_views(parted.store)]
    assert sum(counts) == 60
    assert all(counts)
    held = parted.store.events.parts(parted.large.id, FIRST_MS, LAST_MS)
    assert sum(lines.count(b"\n") for lines in held.hot) == 60


def test_refusals_go_to_the_partition_of_their_project_and_all_bad_requests_commit(parted: Parted) -> None:
    bad = [{"$token": token, "$distinct_id": "ada", "$set": 5} for token in ("large", "small", "nobody")]
    outcome = parted.submit(*bad)
    assert (outcome.good, [index for index, _, _ in outcome.failed]) == (0, [0, 1, 2])
    places = {each.project: partition_at(each.id) for each in parted.store.refusals.listing(None)}
    known = (0, parted.large.id, parted.small.id)
    assert places == {number: parted.store.partition_of(number) for number in known}


def test_where_one_partition_cannot_commit_the_answer_is_503_and_a_retry_with_a_key_applies_once(
    parted: Parted, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [add("large", each) for each in USERS]
    with (
        failing(parted.store.partition(1).log, monkeypatch),
        pytest.raises(OverloadedError, match=texts.NOT_WRITTEN),
    ):
        parted.submit(*records, key="once")
    parted.fold_all()
    kept = [parted.value(parted.large, each) for each in USERS]
    assert {1, None} == set(kept), "what the others have of it stays"
    for _ in range(3):
        assert parted.submit(*records, key="once").good == 60
        parted.fold_all()
    assert [parted.value(parted.large, each) for each in USERS] == [1] * 60


def test_a_retry_is_recognised_where_every_partition_has_taken_it(parted: Parted) -> None:
    records = [*[add("large", each) for each in USERS], {"$token": "large", "$distinct_id": "ada", "$set": 5}]
    first = parted.submit(*records, key="k")
    parted.fold_all()
    heads = [view.log.head() for view in all_views(parted.store)]
    assert parted.submit(*records, key="k") == first, "this worker remembers"
    parted.ingest._recent.clear()
    again = parted.submit(*records, key="k")
    assert (again.total, again.good) == (first.total, first.good)
    assert again.failed == ((60, "", texts.REFUSED_BEFORE),)
    assert [view.log.head() for view in all_views(parted.store)] == heads
    small = (add("small", "ada"), {"$token": "small", "$distinct_id": "b", "$set": 5})
    one = parted.submit(*small, key="s")
    parted.fold_all()
    parted.ingest._recent.clear()
    assert (
        parted.submit(add("small", "ada"), {"$token": "small", "$distinct_id": "b", "$set": 5}, key="s")
        == one
    )


def test_a_token_that_is_rotated_while_a_request_waits_is_refused_in_its_place(parted: Parted) -> None:
    answer: list[Any] = []
    home = parted.store.partition(parted.store.partition_of(parted.small.id))
    with home.log.turn():
        sender = threading.Thread(target=lambda: answer.append(parted.submit(add("small", "ada"))))
        sender.start()
        sender.join(0.1)
        parted.store.catalog.change_project(parted.small.id, token="NEW")
    sender.join(60)
    assert answer[0].failed == ((0, "$token", texts.TOKEN_UNKNOWN),)
    (kept,) = parted.store.refusals.listing([0])
    assert partition_at(kept.id) == parted.store.partition_of(0)
    assert [segments(view) for view in all_views(parted.store)] == [[], [], []]


def test_a_request_of_several_partitions_fails_when_its_projects_change_meanwhile(parted: Parted) -> None:
    failed: list[Any] = []

    def send() -> None:
        try:
            parted.submit(*[add("large", each) for each in USERS], add("small", "ada"))
        except OverloadedError as error:
            failed.append(error.message)

    with parted.store.partition(1).log.turn(), parted.store.partition(2).log.turn():
        sender = threading.Thread(target=send)
        sender.start()
        sender.join(0.1)
        parted.store.catalog.change_project(parted.small.id, token="NEW")
    sender.join(60)
    assert failed == [texts.CATALOG_CHANGED]


def test_a_change_of_the_catalog_that_is_not_about_a_request_leaves_it_as_it_is(parted: Parted) -> None:
    answer: list[Any] = []
    with parted.store.partition(1).log.turn():
        sender = threading.Thread(
            target=lambda: answer.append(parted.submit(*[add("large", each) for each in USERS]))
        )
        sender.start()
        sender.join(0.1)
        parted.store.catalog.change_project(parted.other.id, name="renamed")
    sender.join(60)
    assert answer[0].good == 60
    parted.fold_all()
    assert [parted.value(parted.large, each) for each in USERS] == [1] * 60


def test_partitions_commit_beside_each_other(parted: Parted) -> None:
    """A turn that somebody else holds in one partition holds up nobody in another."""
    assert isinstance(parted.ingest._committer, Lanes)
    held, free = parted.small, parted.other
    assert parted.store.partition_of(held.id) != parted.store.partition_of(free.id)
    with parted.store.partition(parted.store.partition_of(held.id)).log.turn():
        waiting = threading.Thread(target=lambda: parted.submit(add("small", "ada")))
        waiting.start()
        assert parted.submit(add("other", "ada")).good == 1
        assert waiting.is_alive()
    waiting.join(60)
    assert not waiting.is_alive()


@pytest.mark.parametrize(("fault", "taken"), [(NodeDownError, 1), (StoreDownError, 0)])
def test_a_partition_whose_node_is_down_fails_no_other_of_its_lane(
    parted: Parted, monkeypatch: pytest.MonkeyPatch, fault: type[StoreError], taken: int
) -> None:
    """A database that is down is waited for once; what lies on another node of a cluster is taken."""
    lanes = parted.ingest._committer
    assert isinstance(lanes, Lanes)
    down, near = (
        parted.store.partition(parted.store.partition_of(each.id)) for each in (parted.small, parted.other)
    )

    def lost() -> Any:
        raise fault("connection to the node failed")

    monkeypatch.setattr(down.log, "turn", lost)
    batch: list[Pending] = []
    loop = asyncio.new_event_loop()
    answers = [loop.create_future() for _ in range(2)]
    rules = parted.ingest._rules
    tokens = parted.ingest._tokens
    for token, answer in zip(("small", "other"), answers, strict=True):
        submission = Submission(
            "engage", [add(token, "ada")], ip_flag=False, idempotency_key="", path="/engage"
        )
        prepared = prepare(submission, tokens.tokens, rules, None, tokens.projects)
        batch.append(Pending(submission, None, prepared, tokens.version, answer))
    lanes._lanes[0]._commit(batch)
    loop.run_until_complete(asyncio.sleep(0))
    assert isinstance(answers[0].exception(), OverloadedError)
    assert (answers[1].exception() is None) == bool(taken)
    assert near.log.head() - first_of(near.number) == taken
    loop.close()


def test_the_command_line_and_resending_find_the_partitions_too(parted: Parted) -> None:
    rules = rules_of(Settings())
    outcome = append_raw(parted.store, rules, "engage", [add("large", each) for each in USERS], sdk="t")
    assert outcome.good == 60
    parted.submit({"$token": "nobody", "$distinct_id": "ada", "$add": {"n": 5}})
    (kept,) = parted.store.refusals.listing([0])
    assert resend(parted.store, rules, [kept.id], token="small") == [(kept.id, "")]
    parted.fold_all()
    assert parted.value(parted.small, "ada") == 5
    assert [parted.value(parted.large, each) for each in USERS] == [1] * 60
    assert parted.store.refusals.listing(None) == []


def test_an_imported_batch_is_spread_and_recognised(parted: Parted) -> None:
    placing = parted.ingest._rules.placing
    target = Import(parted.large.id, "large", placing=placing, held=parted.large)
    key = target.key("batch")
    judged = judge([(each, {"n": 2}) for each in USERS], [False] * 60, target, key, keep_refusals=True)
    assert {append.partition for append in judged.appends} == {0, 1, 2}
    append_rows(parted.store, parted.large.id, judged.appends[:2])
    parted.fold_all()
    assert applied_before(parted.store, parted.large.id, key) is None, "it was cut off"
    append_rows(parted.store, parted.large.id, judged.appends)
    parted.fold_all()
    assert applied_before(parted.store, parted.large.id, key) == judged.outcome
    assert [parted.value(parted.large, each) for each in USERS] == [2] * 60
