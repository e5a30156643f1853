"""The checks of this folder catch faults: each deliberate fault below must make the named check fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import zstandard

from mixdown.fold import profiles
from mixdown.model import history as changes
from mixdown.model.history import Taken, Trace
from mixdown.store import history, history_upkeep
from mixdown.store.history import HistoryFeed, HistoryRecord
from mixdown.store.protocols import ProfileKey
from tests.fold.conftest import record
from tests.history.support import all_at, step, tend
from tests.history.test_as_of import LONG, Run, a_way, check_as_of, check_history

pytestmark = pytest.mark.slow

Patch = pytest.MonkeyPatch


# --- the checks ----------------------------------------------------------------------------------

SENT: list[dict[str, Any]] = [
    {"set": {"a": 1, "list": [1, 2], "object": {"k": 1}}},
    {"set": {"a": "x", "b": LONG}},
    {"append": {"list": 3, "b": 1}},
    {"union": {"list": [3, 4], "a": [1]}},
    {"set": {"b": [*LONG, "y"]}},
    {"merge": {"object": {"k": 2, "l": 1}}},
    {"remove": {"list": 2}},
    {"set_once": {"a": 5, "c": [1]}},
    {"add": {"n": 1, "c": 1}},
    {"unset": ["b", "object"]},
    {"set": {"list": "none"}},
    {"delete": ""},
    {"set": {"a": 2}},
]
"""Each operator on what is there and what is not, with values that stand apart."""


def as_of() -> None:
    """A profile as of each time, with a step for each record, and with one for every four."""
    for together in (1, 4):
        run: Run = [(record(**sent), 1, number % together == 0) for number, sent in enumerate(SENT, start=1)]
        for at in range(len(SENT)):
            check_as_of(run, at, kept=False)


def one_step() -> None:
    """A list that one record of a step brings and the others fill."""
    with a_way(kept=False) as way:
        step(way, record(set={"list": [1]}), *[record(append={"list": number}) for number in range(20)])
        check_history(way)


def merging() -> None:
    """Segments of many profiles are merged in pieces; what each was like at each time stays."""
    with a_way(kept=True) as way:
        times = [
            step(way, *[record(f"u{number}", set={"n": turn, f"p{turn}": 1}) for number in range(4)])
            for turn in range(2 * history_upkeep.FANOUT)
        ]
        before = [all_at(way.store, at_ms) for at_ms in times]
        assert tend(way.store) > 1
        assert [all_at(way.store, at_ms) for at_ms in times] == before


# --- the faults ----------------------------------------------------------------------------------


def lines_lost(patch: Patch) -> None:
    """Every third line is not written."""
    added: Any = HistoryFeed.add
    count = iter(range(1, 10**9))

    def add(self: HistoryFeed, *arguments: Any, **options: Any) -> None:
        if next(count) % 3:
            added(self, *arguments, **options)

    patch.setattr(HistoryFeed, "add", add)


def lines_twice(patch: Patch) -> None:
    """Every line is written once more, as by a step that is folded again."""
    added: Any = HistoryFeed.add

    def add(self: HistoryFeed, *arguments: Any, **options: Any) -> None:
        added(self, *arguments, **options)
        added(self, *arguments, **options)

    patch.setattr(HistoryFeed, "add", add)


def records_cut(patch: Patch) -> None:
    """Of the records of a step only the last is kept."""
    added: Any = HistoryFeed.add

    def add(
        self: HistoryFeed, key: ProfileKey, taken: Taken | None, records: list[HistoryRecord], **options: Any
    ) -> None:
        added(self, key, taken, records[-1:], **options)

    patch.setattr(HistoryFeed, "add", add)


def _one(patch: Patch, change: Callable[[Taken], Taken]) -> None:
    told = changes.taken_by_one

    def taken_by_one(*arguments: Any) -> Taken | None:
        taken = told(*arguments)
        return taken and change(taken)

    patch.setattr(profiles, "taken_by_one", taken_by_one)


def one_forgets_values(patch: Patch) -> None:
    """Of a lone record it is not told what it replaced."""
    _one(patch, lambda taken: taken._replace(values={}))


def one_forgets_names(patch: Patch) -> None:
    """Nor which properties it made."""
    _one(patch, lambda taken: taken._replace(absent=[]))


def one_forgets_lists(patch: Patch) -> None:
    """Nor how long lists were that it filled."""
    _one(patch, lambda taken: taken._replace(more=[]))


def _several(patch: Patch, change: Callable[[Taken], Taken]) -> None:
    told = Trace.taken
    patch.setattr(Trace, "taken", lambda self, doc: change(told(self, doc)))


def several_forget_values(patch: Patch) -> None:
    """Of several records it is not told what they replaced."""
    _several(patch, lambda taken: taken._replace(values={}))


def several_forget_names(patch: Patch) -> None:
    """Nor which properties they made."""
    _several(patch, lambda taken: taken._replace(absent=[]))


def several_forget_insides(patch: Patch) -> None:
    """Nor what they did to lists and objects in place."""
    _several(patch, lambda taken: taken._replace(more=[]))


def nothing_noted_within(patch: Patch) -> None:
    """Lists and objects are looked at only after they were changed."""
    patch.setattr(Trace, "_note_within", lambda *_: None)


def large_values_lost(patch: Patch) -> None:
    """Values that stand apart come back as null."""
    nothing = zstandard.ZstdCompressor().compress(b"null")
    patch.setattr(
        "mixdown.store.memory_history.change_of", lambda line, _: history.change_of(line, lambda _: nothing)
    )


def records_used_up(patch: Patch) -> None:
    """Replayed records give profiles their own lists, which later records fill."""
    patch.setattr(changes, "_own", lambda operation: operation)


def _merged(patch: Patch, change: Callable[[Iterator[Any]], Iterator[Any]]) -> None:
    behind = history_upkeep._lines_behind
    patch.setattr(history_upkeep, "_lines_behind", lambda *arguments: change(behind(*arguments)))
    patch.setattr(history_upkeep, "PIECE_BYTES", 1000)


def pieces_lose_a_line(patch: Patch) -> None:
    """Each piece of a merge begins one line too late."""

    def later(lines: Iterator[Any]) -> Iterator[Any]:
        next(lines, None)
        yield from lines

    _merged(patch, later)


def merged_out_of_order(patch: Patch) -> None:
    """Lines of one id are merged in the order of what they say."""
    patch.setattr(history_upkeep, "_place_of", lambda pair: (pair[0], pair[1][::-1]))


class Mutant(NamedTuple):
    """A fault and the check that must catch it."""

    fault: Callable[[Patch], None]
    check: Callable[[], Any]


MUTANTS = [
    Mutant(lines_lost, as_of),
    Mutant(lines_twice, as_of),
    Mutant(records_cut, as_of),
    Mutant(one_forgets_values, as_of),
    Mutant(one_forgets_names, as_of),
    Mutant(one_forgets_lists, as_of),
    Mutant(several_forget_values, as_of),
    Mutant(several_forget_names, as_of),
    Mutant(several_forget_insides, as_of),
    Mutant(nothing_noted_within, as_of),
    Mutant(large_values_lost, as_of),
    Mutant(records_used_up, one_step),
    Mutant(pieces_lose_a_line, merging),
    Mutant(merged_out_of_order, merging),
]


@pytest.mark.parametrize("check", [as_of, one_step, merging])
def test_without_a_fault_the_checks_pass(check: Callable[[], Any]) -> None:
    check()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.fault.__name__)
def test_each_fault_is_caught(mutant: Mutant, monkeypatch: Patch) -> None:
    mutant.fault(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the check says, it does not pass
        mutant.check()
