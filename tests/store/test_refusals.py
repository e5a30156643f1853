"""Refusals: kept with the chunk they came with, listed, counted, bounded (DESIGN G5). For every store."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mixdown.store import bounds
from mixdown.store.protocols import Log, RefusalFilter, Refusals, RefusedRecord
from tests.store.support import NOW_MS, append, appending, refusal


def indexes(refusals: Refusals, *projects: int) -> list[int]:
    """The indexes of kept refusals, oldest first."""
    return [kept.index for kept in reversed(refusals.listing(projects or None, limit=100_000))]


def test_a_refusal_is_kept_as_it_is_with_an_id_and_the_chunk_time(log: Log, refusals: Refusals) -> None:
    given = refusal(3, 7, key=b"k" * 16)
    append(log, appending("a", refused=[given]), now_ms=NOW_MS)
    [kept] = refusals.listing([3])
    assert kept == msgspec.structs.replace(given, id=kept.id, time_ms=NOW_MS)
    assert kept.id > 0
    assert refusals.by_ids([kept.id]) == [kept]


def test_listing_is_newest_first_and_pages_by_id(log: Log, refusals: Refusals) -> None:
    for number in range(5):
        append(log, appending(refused=[refusal(1, number)]))
    newest = refusals.listing([1], limit=2)
    assert [kept.index for kept in newest] == [4, 3]
    older = refusals.listing([1], before_id=newest[-1].id, limit=2)
    assert [kept.index for kept in older] == [2, 1]
    assert [kept.index for kept in refusals.listing([1], before_id=older[-1].id)] == [0]


def test_a_project_sees_its_own_refusals_alone(log: Log, refusals: Refusals) -> None:
    append(log, appending(refused=[refusal(1, 1), refusal(2, 2), refusal(0, 3)]))
    assert indexes(refusals, 1) == [1]
    assert indexes(refusals, 2) == [2]
    assert indexes(refusals, 0) == [3]
    assert indexes(refusals, 1, 0) == [1, 3]
    assert indexes(refusals) == [1, 2, 3]
    assert refusals.listing([]) == []


def test_refusals_by_id_come_in_the_order_of_their_ids(log: Log, refusals: Refusals) -> None:
    append(log, appending(refused=[refusal(1, number) for number in range(3)]))
    ids = [kept.id for kept in refusals.listing(None)]
    assert [kept.id for kept in refusals.by_ids([*ids, 10**9, ids[0]])] == sorted(ids)


def test_a_retried_request_counts_its_refusals_once(log: Log, refusals: Refusals) -> None:
    request = [refusal(1, 0, key=b"r" * 16), refusal(1, 4, key=b"r" * 16)]
    append(log, appending("a", refused=request))
    append(log, appending("a", refused=request))
    append(log, appending("a", refused=[refusal(1, 4, key=b"s" * 16)]))
    append(log, appending("a", refused=[refusal(1, 4), refusal(1, 4)]))
    assert indexes(refusals) == [0, 4, 4, 4, 4]
    assert refusals.counts()[1][0] == 5


def test_counts_follow_what_is_added_and_removed(log: Log, refusals: Refusals) -> None:
    append(log, appending(refused=[refusal(1, 0), refusal(1, 1), refusal(2, 0)]))
    size = bounds.refusal_bytes(refusal())
    assert refusals.counts() == {1: (2, 2 * size), 2: (1, size)}
    gone = [kept.id for kept in refusals.listing([1], limit=1)]
    assert refusals.remove([*gone, *gone, 10**9]) == 1
    assert refusals.counts() == {1: (1, size), 2: (1, size)}
    assert refusals.remove([kept.id for kept in refusals.listing(None)]) == 2
    assert refusals.counts() == {}


def test_an_id_is_not_used_again(log: Log, refusals: Refusals) -> None:
    append(log, appending(refused=[refusal()]))
    [kept] = refusals.listing(None)
    refusals.remove([kept.id])
    append(log, appending(refused=[refusal()]))
    assert refusals.listing(None)[0].id > kept.id


def test_refusals_can_be_added_apart_from_the_log(log: Log, refusals: Refusals) -> None:
    append(log, appending("a"), now_ms=NOW_MS)
    refusals.add([refusal(1, 1, key=b"f" * 16)], 0)
    refusals.add([refusal(1, 1, key=b"f" * 16), refusal(1, 2)], NOW_MS + 9)
    assert [(kept.index, kept.time_ms) for kept in refusals.listing([1])] == [(2, NOW_MS + 9), (1, NOW_MS)]
    assert log.head() == 1


@pytest.mark.parametrize(("project", "bound"), [(1, 10_000), (0, 1_000)])
def test_a_project_keeps_its_newest_up_to_the_bound(
    log: Log, refusals: Refusals, project: int, bound: int
) -> None:
    append(log, appending(refused=[refusal(project, number) for number in range(bound - 1)]))
    append(log, appending(refused=[refusal(7, -1)]))
    append(log, appending(refused=[refusal(project, bound + number) for number in range(5)]))
    kept = indexes(refusals, project)
    assert len(kept) == bound == refusals.counts()[project][0]
    assert kept == [*range(4, bound - 1), *range(bound, bound + 5)]
    assert indexes(refusals, 7) == [-1], "other projects' refusals stay"


def test_one_commit_over_the_bound_keeps_its_newest(log: Log, refusals: Refusals) -> None:
    append(log, appending(refused=[refusal(0, number) for number in range(1500)]))
    assert indexes(refusals, 0) == list(range(500, 1500))


@pytest.mark.parametrize(("project", "bound_mib"), [(1, 64), (0, 8)])
def test_a_project_keeps_its_newest_up_to_the_bytes(
    log: Log, refusals: Refusals, project: int, bound_mib: int
) -> None:
    megabyte = "x" * 1024 * 1024
    append(log, appending(refused=[refusal(project, number, record=megabyte) for number in range(bound_mib)]))
    append(log, appending(refused=[refusal(project, bound_mib)]))
    records, size = refusals.counts()[project]
    assert size <= bound_mib * 1024 * 1024
    assert indexes(refusals, project) == list(range(bound_mib + 1 - records, bound_mib + 1))
    assert records == bound_mib, "one gave way to the overhead, not more"


def test_texts_that_no_store_can_hold_are_mended(log: Log, refusals: Refusals) -> None:
    append(log, appending(refused=[msgspec.structs.replace(refusal(), field="$set.\ud800", sdk="a\0b")]))
    [kept] = refusals.listing(None)
    assert (kept.field, kept.sdk) == ("$set.\ufffd", "a\ufffdb")


def test_heads_come_oldest_first_from_behind_an_id_and_tell_the_newest(log: Log, refusals: Refusals) -> None:
    assert refusals.newest_id() == 0
    assert refusals.heads(0, limit=10) == []
    append(log, appending(refused=[refusal(1, 0), refusal(0, 1)]))
    append(log, appending(refused=[refusal(2, 2)]), now_ms=NOW_MS + 5)
    heads = refusals.heads(0, limit=10)
    assert [(project, time_ms) for _, project, time_ms in heads] == [
        (1, NOW_MS),
        (0, NOW_MS),
        (2, NOW_MS + 5),
    ]
    assert refusals.newest_id() == heads[-1][0]
    assert refusals.heads(heads[0][0], limit=1) == heads[1:2]
    refusals.remove([heads[-1][0]])
    assert refusals.newest_id() == heads[-1][0], "one that was mended came all the same"
    append(log, appending(refused=[refusal(3, 3)]))
    assert refusals.newest_id() > heads[-1][0], "an id is never used again"


def filtered(refusals: Refusals, **wanted: Any) -> list[int]:
    """The indexes of the refusals that a filter wants, newest first."""
    return [kept.index for kept in refusals.listing([1], wanted=RefusalFilter(**wanted))]


def test_refusals_are_chosen_by_what_is_known_of_them(log: Log, refusals: Refusals) -> None:
    def kept(index: int, **fields: Any) -> RefusedRecord:
        return msgspec.structs.replace(refusal(1, index), **fields)

    told = [
        kept(0, message="a, missing", field="a", record='{"x":"100% É_"}'),
        kept(1, message="b, missing", field="b", record='{"x":"Straße"}'),
        kept(2, message="a, missing", field="a", endpoint="groups", record="{}"),
    ]
    for number, each in enumerate(told):
        append(log, appending(refused=[each]), now_ms=NOW_MS + number * 1000)
    assert filtered(refusals) == [2, 1, 0]
    assert filtered(refusals, messages=("a, missing",)) == [2, 0]
    assert filtered(refusals, messages=()) == []
    assert filtered(refusals, endpoint="groups") == [2]
    assert filtered(refusals, field="b") == [1]
    assert filtered(refusals, since_ms=NOW_MS + 1000) == [2, 1]
    assert filtered(refusals, until_ms=NOW_MS + 1000) == [0]
    for text, found in (("100% é_", []), ("100% É_", [0]), ("B, MISS", [1]), ("straß", [1]), ("%", [0])):
        assert filtered(refusals, text=text) == found, text
    assert filtered(refusals, messages=("a, missing",), endpoint="groups", text="{}") == [2]


def test_reasons_are_counted_by_message_and_endpoint(log: Log, refusals: Refusals) -> None:
    one = refusal(1, 0)
    others = [msgspec.structs.replace(one, index=index, endpoint="groups") for index in (1, 2)]
    append(log, appending(refused=[one, *others, refusal(2, 3)]))
    ids = [kept.id for kept in refusals.listing([1])]
    found = sorted(refusals.reasons([1]), key=lambda count: count.endpoint)
    assert [(each.endpoint, each.count, each.newest_id) for each in found] == [
        (one.endpoint, 1, ids[2]),
        ("groups", 2, ids[0]),
    ]
    assert {each.message for each in found} == {one.message}
    assert sum(each.count for each in refusals.reasons([1, 2])) == 4
    assert refusals.reasons([]) == []
