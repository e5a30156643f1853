"""Segmentation equals what plain Python makes of all events.

Events tie in time, repeat (in one batch and across them), lie in files, beside them or in both, and have ids
that were linked before or after them; zones put their clocks forward and back; days are empty.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mixdown.model.expression import no_tables, parse
from mixdown.query.events import buckets as buckets_module
from mixdown.query.events import columns, evaluating, figures, persons
from mixdown.query.events.buckets import UNITS, Buckets, span_of_days
from mixdown.query.events.figures import KINDS
from mixdown.query.reports import rows, segmentation
from mixdown.query.reports.rows import segment_by
from mixdown.query.reports.segmentation import (
    RANGES_LIMIT,
    Segmentation,
    average_of,
    edges_between,
    numeric_segmentation,
    range_name,
    sum_of,
)
from mixdown.store.duck import columns as duck_columns
from mixdown.store.duck import table
from tests.engine import PARTITIONS
from tests.reads import event_reference as book
from tests.reads.event_reference import Stored
from tests.reads.test_events_by_the_book import (
    GENERATED,
    MANY_STORES,
    MIDNIGHT_MS,
    NAMES,
    PROJECT,
    Kept,
    kept,
    links,
    stored,
)
from tests.reports import reference
from tests.reports.reference import Moment, moments

Found = dict[str, dict[str, float]]
Choose = Callable[[Sequence[Any]], Any]
"""Picks one of some."""


class Case:
    """A question, and all that answers it by the book."""

    def __init__(self, world: Kept, moment: Moment, choose: Choose) -> None:
        self.world, self.zone = world, ZoneInfo(moment.zone)
        first = moment.day + timedelta(days=choose([-1, 0, 1]))
        last = first + timedelta(days=choose([0, 1, 2, 3]))
        span = span_of_days(first, last, self.zone)
        unit = choose(UNITS[1:])
        self.buckets = Buckets(unit, span, self.zone, choose([1, 1, 2, 3]))
        begun = book.bucket(unit, span.since_ms, self.zone)
        self.keys = reference.keys_of(unit, first, last, self.buckets.every, begun=begun)
        self.kind = choose(KINDS)
        self.on = choose([*reference.ON])
        self.where = choose([*reference.WHERE])
        self.event = choose(NAMES[:2])
        self.group_key = choose(["", "", "plan"])

    def asked(self, **changes: Any) -> Segmentation:
        members: dict[str, Any] = {
            "project": PROJECT,
            "event": self.event,
            "where": segment_by(self.where, lambda _: None),
            "buckets": self.buckets,
            "on": segment_by(self.on, lambda _: None),
            "kind": self.kind,
            "limit": 100,
            "group_key": self.group_key,
        }
        return Segmentation(**(members | changes))

    def events(self) -> list[tuple[Stored, str, Any, str]]:
        """(event, person, value of `on`, key of its bucket) of each that counts."""
        found = []
        for each in self.world.within(self.buckets.span):
            person = self.world.person(each)
            if each.event == self.event and reference.WHERE[self.where](each, person):
                key = reference.key_of(self.keys, self.buckets.unit, each.time, self.zone)
                found.append((each, person, reference.ON[self.on](each, person), key))
        return found

    def series(self, under: Callable[[Any], set[str]]) -> Found:
        """Figures by the names that a value stands under."""
        counting: dict[str, dict[str, list[str]]] = {}
        for each, person, value, key in self.events():
            group_key = "" if self.kind == "general" else self.group_key
            for one in reference.counted(each, person, group_key):
                for name in under(value):
                    counting.setdefault(name, {}).setdefault(key, []).append(one)
        return {
            name: {key: reference.figure(self.kind, of_key.get(key, [])) for key in self.keys}
            for name, of_key in counting.items()
        }


def close(found: Found, wanted: Found) -> bool:
    return found.keys() == wanted.keys() and all(
        found[name].keys() == wanted[name].keys()
        and all(math.isclose(found[name][key], wanted[name][key]) for key in wanted[name])
        for name in wanted
    )


def check(case: Case) -> None:
    reads = case.world.reads
    found = segmentation.segmentation(reads, case.asked(on=None), now_ms=MIDNIGHT_MS)
    assert found.keys == case.keys
    whole = case.series(lambda _: {case.event}) or {case.event: dict.fromkeys(case.keys, 0)}
    assert close(found.values, whole)
    segments = segmentation.segmentation(reads, case.asked(), now_ms=MIDNIGHT_MS)
    by_value = case.series(reference.labels)
    assert close(segments.values, by_value)
    few = segmentation.segmentation(reads, case.asked(limit=1), now_ms=MIDNIGHT_MS)
    assert list(few.values) == list(segments.values)[:1]
    check_numbers(case)


def check_numbers(case: Case) -> None:
    reads = case.world.reads
    numbers = [value for *_, value, _ in case.events() if reference.is_number(value)]
    found = numeric_segmentation(reads, case.asked(), now_ms=MIDNIGHT_MS)
    assert found.keys == case.keys
    counted = [
        value
        for each, person, value, _ in case.events()
        if reference.is_number(value)
        and (case.kind == "general" or reference.counted(each, person, case.group_key))
    ]
    names: list[str] = []
    if counted:
        edges = edges_between(float(min(counted)), float(max(counted)))
        names = [range_name(*pair) for pair in pairwise(edges)]
        wanted = case.series(
            lambda value: {names[reference.range_of(value, edges)]} if reference.is_number(value) else set()
        )
        assert close(found.values, wanted)
        assert [name for name in names if name in found.values] == list(found.values)
    else:
        assert found.values == {}
    sums = sum_of(reads, case.asked(kind="general"), now_ms=MIDNIGHT_MS)
    means = average_of(reads, case.asked(kind="general"), now_ms=MIDNIGHT_MS)
    assert list(sums) == list(means) == case.keys
    size = sum(abs(float(number)) for number in numbers)
    for key in case.keys:
        values = [value for *_, value, own in case.events() if own == key]
        wanted_sum = reference.total(values)
        assert math.isclose(sums[key], wanted_sum, rel_tol=1e-12, abs_tol=1e-12 * size)
        mean = wanted_sum / len(values) if values else 0
        assert math.isclose(means[key], mean, rel_tol=1e-12, abs_tol=1e-12 * size)


cuts = st.lists(st.integers(1, 13), max_size=3)


@settings(GENERATED, max_examples=4)
@given(stored(), cuts, links, moments, st.data())
def test_segmentation_is_as_by_the_book(
    events: list[Stored],
    cuts: list[int],
    linked: list[tuple[str, str]],
    moment: Moment,
    data: st.DataObject,
) -> None:
    with kept(reference.moved(events, moment), cuts, linked) as world:
        check(Case(reference.with_profiles(world), moment, lambda some: data.draw(st.sampled_from(some))))


@pytest.mark.slow
@settings(GENERATED, max_examples=MANY_STORES)
@given(
    stored(), st.lists(st.tuples(st.integers(1, 14), st.booleans()), max_size=4), links, moments, st.data()
)
def test_segmentation_of_files_and_beside_them_is_as_by_the_book(
    events: list[Stored],
    cuts: list[tuple[int, bool]],
    linked: list[tuple[str, str]],
    moment: Moment,
    data: st.DataObject,
) -> None:
    places = [cut for cut, _ in cuts]
    closed = [cut for cut, closes in cuts if closes]
    moved = reference.moved(events, moment)
    with (
        TemporaryDirectory() as folder,
        kept(moved, places, linked, Path(folder) / "data", closed, partitions=PARTITIONS) as world,
    ):
        check(Case(reference.with_profiles(world), moment, lambda some: data.draw(st.sampled_from(some))))


numbers = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**6), 10**6).map(float))


@settings(GENERATED)
@given(numbers, numbers)
@example(1e17, 1e17 + 16)
@example(-1e17, math.nextafter(-1e17, 0))
@example(1.0, math.nextafter(1.0, 2.0))
@example(5e-324, 1e-323)
def test_ranges_are_few_and_of_one_round_width_and_hold_all(one: float, other: float) -> None:
    low, high = sorted((one, other))
    edges = edges_between(low, high)
    assert 2 <= len(edges) <= RANGES_LIMIT + 1
    assert edges[0] <= Decimal(repr(low))
    assert Decimal(repr(high)) < edges[-1]
    widths = {after - before for before, after in pairwise(edges)}
    assert len(widths) == 1
    assert widths.pop().normalize().as_tuple().digits in ((1,), (2,), (5,))
    assert len({float(edge) for edge in edges}) == len(edges)
    assume(high - low > 100 * math.ulp(max(abs(low), abs(high))))
    assert len(edges) > 5  # and yet they tell numbers apart


# --- mutants


def _local_time_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(buckets_module, "offsets", lambda span, _: [(span.since_ms, 0)])


def _one_offset_for_all(patch: pytest.MonkeyPatch) -> None:
    original = buckets_module.offsets
    patch.setattr(buckets_module, "offsets", lambda *given: original(*given)[:1])


def _buckets_of_one_unit(patch: pytest.MonkeyPatch) -> None:
    original = Buckets.sql
    patch.setattr(Buckets, "sql", lambda self, time: original(self._replace(every=1), time))


def _nobody_linked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(persons, "_LINKED", persons.ALONE)


def _doubles_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(table.EventTable, "_find_doubles", lambda _: None)


def _empty_buckets_left_out(patch: pytest.MonkeyPatch) -> None:
    original = figures.filled

    def filled(*given: Any) -> Any:
        found = original(*given)
        values = {name: {key: n for key, n in own.items() if n} for name, own in found.values.items()}
        return figures.Series(found.keys, values)

    patch.setattr(segmentation, "filled", filled)


def _lists_as_one(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(figures, "labels_sql", lambda value: f"[{columns.label_sql(value, 'NULL')}]")


def _events_of_no_group(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rows, "labels_sql", lambda value, **_: columns.labels_sql(value))


def _all_names(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rows, "names_sql", lambda _: ("event IS NOT NULL", []))


def _filter_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(evaluating.Evaluator, "condition", lambda *_: evaluating.Evaluated("TRUE"))


def _profiles_by_sent_id(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(evaluating, "PERSON_SQL", "distinct_id")


def _mean_of_numbers_alone(patch: pytest.MonkeyPatch) -> None:
    original = segmentation._figures
    patch.setattr(
        segmentation,
        "_figures",
        lambda reads, asked, figure, now_ms: original(
            reads, asked, figure.replace("count(*)", "greatest(count(number0), 1)"), now_ms
        ),
    )


def _range_with_its_end(patch: pytest.MonkeyPatch) -> None:
    original = rows.ReportRows.rows
    patch.setattr(
        rows.ReportRows,
        "rows",
        lambda self, sql, *given: original(self, sql.replace("number0 <", "number0 <="), *given),
    )


def _events_per_event(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(figures._SUMS, "unique", "sum(n)::BIGINT")


FAULTS = (
    _local_time_forgotten,
    _one_offset_for_all,
    _buckets_of_one_unit,
    _nobody_linked,
    _doubles_counted,
    _empty_buckets_left_out,
    _lists_as_one,
    _events_of_no_group,
    _all_names,
    _filter_forgotten,
    _profiles_by_sent_id,
    _mean_of_numbers_alone,
    _range_with_its_end,
    _events_per_event,
)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed(
    fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)
    with pytest.raises(Exception, match=r"."):
        ask_many(range(12))


@pytest.mark.slow
def test_many_questions_about_many_events_are_answered_as_by_the_book() -> None:
    ask_many(range(1), questions=3)


@pytest.mark.slow
def test_more_questions_about_many_events_are_answered_as_by_the_book() -> None:
    ask_many(range(12))


def ask_many(seeds: Sequence[int], *, questions: int = 10) -> None:
    """Ask some questions about a few hundred events in each of some worlds."""
    for seed in seeds:
        dice = random.Random(seed)
        moment = reference.MOMENTS[seed % len(reference.MOMENTS)]
        events = reference.moved(reference.drawn_events(dice, 200), moment)
        links = [("$device:d1", "u1"), ("alias", "u2"), ("$device:d2", "u1")][: dice.randrange(4)]
        with kept(events, [40, 90, 150], links) as world:
            reference.with_profiles(world)
            for _ in range(questions):
                check(Case(world, moment, dice.choice))


# --- faults that chance meets too rarely: an example for each, and what it must answer


def _asked_of(events: Sequence[Stored], linked: Sequence[tuple[str, str]], kind: str) -> dict[str, Any]:
    """One day's events by their person, and the sums of what they have as `n`."""
    day = reference.MOMENTS[0].day
    with kept(events, [], linked) as world:
        asked = Segmentation(
            project=PROJECT,
            event="a",
            where=parse(""),
            buckets=Buckets("day", span_of_days(day, day, ZoneInfo("UTC")), ZoneInfo("UTC")),
            on=segment_by('properties["distinct_id"]' if kind == "persons" else 'properties["n"]', no_tables),
        )
        if kind == "sums":
            return dict(sum_of(world.reads, asked, now_ms=MIDNIGHT_MS))
        found = segmentation.segmentation(world.reads, asked, now_ms=MIDNIGHT_MS)
        return {name: sum(own.values()) for name, own in found.values.items()}


def _event(position: int, who: str, **properties: Any) -> Stored:
    return Stored(position, MIDNIGHT_MS, "a", MIDNIGHT_MS + position, who, f"own{position}", properties)


def legacy_links_count_from_their_time_on() -> None:
    # the alias is linked at position 0: what was sent before is its own
    events = [_event(position, "alias") for position in range(3)]
    assert _asked_of(events, [("alias", "u2")], "persons") == {"alias": 1, "u2": 2}


def texts_of_digits_are_no_numbers() -> None:
    events = [_event(number, "u1", n=value) for number, value in enumerate([2, "4", "8.5", True, None, [16]])]
    assert list(_asked_of(events, [], "sums").values()) == [2]


def _legacy_from_the_start(patch: pytest.MonkeyPatch) -> None:
    changed = persons._LINKED.replace(" AND events.position >= persons.since", "")
    assert changed != persons._LINKED
    patch.setattr(persons, "_LINKED", changed)


def _text_as_number(patch: pytest.MonkeyPatch) -> None:
    original = duck_columns.in_form

    def in_form(value: str, form: duck_columns.Form) -> str:
        return f"TRY_CAST({value} ->> '$' AS DOUBLE)" if form == "number" else original(value, form)

    for module in (duck_columns, columns):
        patch.setattr(module, "in_form", in_form)


EXAMPLES: tuple[tuple[Callable[[], None], Callable[[pytest.MonkeyPatch], None]], ...] = (
    (legacy_links_count_from_their_time_on, _legacy_from_the_start),
    (texts_of_digits_are_no_numbers, _text_as_number),
)


@pytest.mark.parametrize(("example", "fault"), EXAMPLES)
def test_an_example_holds_and_its_fault_is_noticed(
    example: Callable[[], None], fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    example()
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        example()
