"""History as it is told: what each record changed, newest first, a page at a time."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import pytest

from mixdown.fold.profiles import ProfileFold
from mixdown.model.errors import QueryError, ReadTimeoutError
from mixdown.query.history import PAGE_LIMIT_BYTES, as_of, history_page, read_time, require_reach
from mixdown.store import patience
from tests.fold.conftest import NOON_MS, Way, record
from tests.history.support import U1, entries, step, told

CHANGES: dict[str, tuple[list[dict[str, Any]], list[tuple[Any, ...]]]] = {
    "a profile comes to be": ([{"set": {"a": 1}}], [("a", "$set", None, 1)]),
    "a value is replaced": (
        [{"set": {"a": 1}}, {"set": {"a": "x"}}],
        [("a", "$set", 1, "x"), ("a", "$set", None, 1)],
    ),
    "numbers of two kinds are two values": (
        [{"set": {"a": 1}}, {"set": {"a": 1.0}}],
        [("a", "$set", 1, 1.0), ("a", "$set", None, 1)],
    ),
    "what stays is no change": ([{"set": {"a": 1}}, {"set_once": {"a": 2}}], [("a", "$set", None, 1)]),
    "what is set to the same is no change": (
        [{"set": {"a": 1}}, {"set": {"a": 1}}],
        [("a", "$set", None, 1)],
    ),
    "being seen is no change": (
        [{"set": {"a": 1}}, {"set": {"a": 1}, "time": 1_700_000_000}],
        [("a", "$set", None, 1)],
    ),
    "an operator that changes one of two": (
        [{"set": {"a": 1, "b": "x"}}, {"add": {"a": 2, "b": 2}}],
        [("a", "$add", 1, 3), ("a", "$set", None, 1), ("b", "$set", None, "x")],
    ),
    "a list grows and shrinks": (
        [{"append": {"l": 1}}, {"union": {"l": [1, 2]}}, {"remove": {"l": 1}}],
        [("l", "$remove", [1, 2], [2]), ("l", "$union", [1], [1, 2]), ("l", "$append", None, [1])],
    ),
    "an object is merged": (
        [{"set": {"o": {"k": 1}}}, {"merge": {"o": {"l": 2}}}],
        [("o", "$merge", {"k": 1}, {"k": 1, "l": 2}), ("o", "$set", None, {"k": 1})],
    ),
    "a profile goes with all it had": (
        [{"set": {"a": 1}}, {"delete": ""}],
        [("a", "$delete", 1, None), ("a", "$set", None, 1)],
    ),
    "a profile without anything comes and goes": (
        [{"unset": ["a"]}, {"delete": ""}],
        [("", "$delete", None, None), ("", "$unset", None, None)],
    ),
}


@pytest.mark.parametrize("together", [True, False], ids=["in one step", "in steps of their own"])
@pytest.mark.parametrize("case", CHANGES)
def test_history_tells_what_each_record_changed(way: Way, case: str, *, together: bool) -> None:
    operations, expected = CHANGES[case]
    for each in operations:
        way.submit(record(**each))
        if not together:
            way.fold_all()
    way.fold_all()
    assert told(way.store) == expected


def test_an_entry_says_when_and_by_what_it_was_sent(way: Way) -> None:
    way.submit(record(set={"a": 1}), sdk="python 4.10")
    way.fold_all()
    (entry,) = entries(way.store)
    assert (entry.position, entry.time_ms, entry.endpoint, entry.sdk) == (0, NOON_MS, "engage", "python 4.10")
    assert entry.whole == "created"


def test_lists_and_objects_say_in_short_what_came_and_went(way: Way) -> None:
    step(way, record(set={"l": [1, 2, 1, 3], "o": {"k": 1, "l": 2}}))
    step(way, record(remove={"l": 1}, append={"l": 4}, merge={"o": {"k": 2, "m": 3}}))
    by_name = {entry.property: entry for entry in entries(way.store)[:2]}
    assert (by_name["l"].added, by_name["l"].removed) == ([4], [1, 1])
    assert (by_name["o"].added, by_name["o"].removed) == ({"k": 2, "m": 3}, {"k": 1})


def test_pages_follow_one_another_without_gap_and_choose_properties(way: Way) -> None:
    for number in range(5):
        step(way, record(set={"a": number, "b": -number}))
    whole = entries(way.store)
    assert len(whole) == 10
    paged, before = [], None
    while True:
        found, before = history_page(way.store, U1, before=before, limit=3)
        paged += found
        if before is None:
            break
    assert paged == whole
    assert told(way.store, names=["b"], limit=2) == [("b", "$set", -3, -4), ("b", "$set", -2, -3)]


def test_pages_go_on_within_a_record_whatever_came_meanwhile(way: Way) -> None:
    """What comes later may change the order of a profile's properties, as it stands and as it is rebuilt."""
    names = ["d", "a", "c", "b"]
    step(way, record(set=dict.fromkeys(names, 0)))
    step(way, record(set=dict.fromkeys(names, 1)))
    whole = [(entry.position, entry.property) for entry in entries(way.store)]
    first, following = history_page(way.store, U1, limit=2)
    step(way, record(unset=["d", "a"]))
    step(way, record(set={"a": 2, "d": 2}))
    rest, _ = history_page(way.store, U1, before=following)
    assert [(entry.position, entry.property) for entry in [*first, *rest]] == whole


def test_a_page_of_large_values_ends_earlier_and_the_next_goes_on(way: Way) -> None:
    for number in range(60):
        step(way, record(set={"texts": [number, *["x" * 200] * 1000]}))
    paged, sizes, before = [], [], None
    while True:
        found, before = history_page(way.store, U1, before=before, limit=1000)
        paged += [entry.new[0] for entry in found]
        sizes.append(len(found))
        if before is None:
            break
    assert paged == list(range(59, -1, -1))
    assert max(sizes) <= PAGE_LIMIT_BYTES / 400_000 + 1


def test_many_records_of_one_step_are_told_without_holding_every_state(way: Way) -> None:
    """Each of them makes a list of its own: all at once they would take memory with the square of them."""
    records = 4000
    step(way, record(set={"n": 0}))
    for at in range(0, records, 1000):
        way.submit(*(record(append={"list": number}) for number in range(at, at + 1000)))
    way.fold_all()
    tracemalloc.start()
    page = told(way.store, limit=100)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [len(new) for _, _, _, new in page] == list(range(records, records - 100, -1))
    assert peak_bytes < records * records * 8 / 4
    with pytest.raises(ReadTimeoutError), patience.until(time.monotonic() + 0.01, 0.01):
        told(way.store, limit=1000)


def test_a_list_that_a_record_brought_and_others_filled_is_told_as_it_was_each_time(way: Way) -> None:
    """Told newest first, records of one step are applied more than once: what they bring stays as it came."""
    step(way, record(set={"old": 1}))
    step(way, record(set={"list": ["a"]}), *[record(append={"list": number}) for number in range(20)])
    lists = [new for name, _, _, new in told(way.store, limit=100) if name == "list"]
    assert lists == [["a", *range(number)] for number in range(20, -1, -1)]


def test_a_record_that_is_turned_away_or_fails_leaves_no_history(way: Way) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        from mixdown.model.operators import apply_operations

        if any(payload == {"bad": 1} for _, payload in arguments[1]):
            raise ValueError("a fault")
        return apply_operations(*arguments, **options)

    way.fold = ProfileFold(way.store, apply=broken)
    way.submit(record(set={"a": 1}), record(set={"bad": 1}), record(set={"a": 2}))
    way.fold_all()
    assert told(way.store) == [("a", "$set", 1, 2), ("a", "$set", None, 1)]


def test_a_large_value_is_kept_once_however_often_it_comes_and_goes(way: Way) -> None:
    # of letters that no compression makes small
    large = ["".join(f"{number * place * 7919 % 100_003:05x}" for number in range(9)) for place in range(900)]
    first = step(way, record(set={"a": large}))
    once = way.store.state.history_size().size_bytes
    for number in range(20):
        step(way, record(set={"a": number}))
        step(way, record(set={"a": large}))
    assert way.store.state.history_size().size_bytes < once + 20_000
    assert (as_of(way.store.state, U1, first) or {})["a"] == large
    assert told(way.store, limit=1) == [("a", "$set", 19, large)]


def test_without_history_nothing_is_told_and_asking_back_is_refused(way: Way) -> None:
    early = step(way, record(set={"a": 1}))
    way.fold = ProfileFold(way.store, history=False)
    step(way, record(set={"a": 2}))
    assert told(way.store) == []
    with pytest.raises(QueryError, match="no history is kept"):
        require_reach(way.store.state, early, "as_of")
    way.fold = ProfileFold(way.store)
    again = step(way, record(set={"a": 3}))
    assert told(way.store) == [("a", "$set", 2, 3)]
    require_reach(way.store.state, again, "as_of")
    with pytest.raises(QueryError, match="reaches back to"):
        require_reach(way.store.state, again - 1, "as_of")


TIMES = {
    "2026-01-15T12:00:00": NOON_MS,
    "2026-01-15T12:00:00Z": NOON_MS,
    "2026-01-15T13:00:00+01:00": NOON_MS,
    "2026-01-15T13:00:00 01:00": NOON_MS,
    "2026-01-15 12:00:00": NOON_MS,
    "2026-01-15T12:00:00.250": NOON_MS + 250,
    "2026-01-15": NOON_MS - 12 * 3600 * 1000,
    str(NOON_MS // 1000): NOON_MS,
    str(NOON_MS): NOON_MS,
}


@pytest.mark.parametrize("text", TIMES)
def test_times_are_read_as_people_write_them(text: str) -> None:
    assert read_time(text, "as_of") == TIMES[text]


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-13-01", "0", "-5", "1e400", "9999-12-31T23:59:59-14:00"]
)
def test_what_is_no_time_is_refused_by_name(text: str) -> None:
    with pytest.raises(QueryError, match=r"^--to, is no time"):
        read_time(text, "--to")
