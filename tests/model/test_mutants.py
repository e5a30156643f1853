"""The checks of this folder catch faults: each deliberate fault below must make the named checks fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mixdown.model import limits, operators, payloads, times, updates, values
from mixdown.model.operators import Operator
from tests.model import operator_rows, product, record_rows, value_rows
from tests.model import test_last_seen_table as last_seen
from tests.model.operator_rows import check_row
from tests.model.record_rows import check_record_row
from tests.model.strategies import arrivals, geos, kinds, records, sequences
from tests.model.test_equality import wrong_pairs
from tests.model.test_meetings import check_meetings
from tests.model.test_records_table import GEO_ROWS, test_location_is_overwritten_unless_the_record_names_it
from tests.model.test_updates_hypothesis import check_record, check_sequence

Doc = dict[str, Any]
Patch = pytest.MonkeyPatch


# --- the checks ----------------------------------------------------------------------------------


def operator_table() -> None:
    for row in operator_rows.ROWS:
        check_row(row, product.update)


def value_table() -> None:
    for row in value_rows.ROWS:
        check_row(row, product.update)


def record_table() -> None:
    for row in record_rows.ROWS:
        check_record_row(row, product.update)


def geo_table() -> None:
    for record, before, after in GEO_ROWS:
        test_location_is_overwritten_unless_the_record_names_it(record, before, after, product.update)


def last_seen_table() -> None:
    for operator in last_seen.QUIET:
        last_seen.test_every_operator_touches_it_even_without_effect(operator, product.update)
        last_seen.test_ignore_time_leaves_it(operator, product.update)
        if operator != "$remove":
            last_seen.test_a_profile_made_under_ignore_time_gets_its_arrival(operator, product.update)
    for given_value, written in last_seen.GIVEN:
        last_seen.test_under_ignore_time_a_client_may_give_it(given_value, written, product.update)
    for time, written_time in last_seen.TIMES:
        last_seen.test_time_counts_unless_it_is_no_time_or_in_the_future(time, written_time, product.update)
    last_seen.test_unset_cannot_take_it(product.update)


def equality() -> None:
    assert wrong_pairs() == []


def set_meetings() -> None:
    check_meetings("$set")


def set_once_meetings() -> None:
    check_meetings("$set_once")


def merge_meetings() -> None:
    check_meetings("$merge")


def add_meetings() -> None:
    check_meetings("$add")


def add_strict_meetings() -> None:
    check_meetings("$add", strict=True)


def union_meetings() -> None:
    check_meetings("$union")


def append_meetings() -> None:
    check_meetings("$append")


def remove_meetings() -> None:
    check_meetings("$remove")


# Always the same examples, so that a mutant is caught in every run or in none; no shrinking, for speed.
_by_chance = settings(
    database=None,
    deadline=None,
    derandomize=True,
    max_examples=200,
    report_multiple_bugs=False,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@_by_chance
@given(st.data())
def chance_sequences(data: st.DataObject) -> None:
    kind = data.draw(kinds)
    check_sequence(data.draw(sequences(kind)), kind)


@_by_chance
@given(st.data())
def chance_records(data: st.DataObject) -> None:
    kind = data.draw(kinds)
    check_record(
        data.draw(records(kind)),
        kind=kind,
        strict=data.draw(st.booleans()),
        arrival=data.draw(arrivals),
        geo=data.draw(geos),
        hostile=data.draw(st.booleans()),
    )


Check = Callable[[], None]
CHECKS: list[Check] = [
    operator_table,
    value_table,
    record_table,
    geo_table,
    last_seen_table,
    equality,
    set_meetings,
    set_once_meetings,
    merge_meetings,
    add_meetings,
    add_strict_meetings,
    union_meetings,
    append_meetings,
    remove_meetings,
    chance_sequences,
    chance_records,
]


# --- the faults ----------------------------------------------------------------------------------

_canonical = values.canonical
_apply = operators.apply_operations


def patch_equality(patch: Patch, faulty: Callable[[Any], Any]) -> None:
    patch.setattr(values, "canonical", faulty)
    patch.setattr(operators, "canonical", faulty)


def true_is_one(patch: Patch) -> None:
    patch_equality(patch, lambda value: int(value) if value is True or value is False else _canonical(value))


def one_is_not_one_point_zero(patch: Patch) -> None:
    patch_equality(patch, lambda value: ("f", value) if type(value) is float else _canonical(value))


def text_is_a_number(patch: Patch) -> None:
    patch_equality(
        patch,
        lambda value: float(value) if type(value) is str and value.isdecimal() else _canonical(value),
    )


def order_of_a_list_is_lost(patch: Patch) -> None:
    patch_equality(
        patch,
        lambda value: frozenset(map(_canonical, value)) if type(value) is list else _canonical(value),
    )


def patch_operator(patch: Patch, operator: Operator, faulty: Callable[[Any, str, Any], Any]) -> None:
    """Replace an operator: `faulty` gives the new value of one property, or raises KeyError for none."""

    def apply(doc: Doc, payload: Doc, *, crowd: operators.Crowd | None) -> None:
        for name, value in payload.items():
            if name not in doc:
                _APPLY[operator](doc, {name: value}, crowd=crowd)
            else:
                doc[name] = faulty(doc[name], name, value)

    patch.setitem(operators.APPLY, operator, apply)


_APPLY = dict(operators.APPLY)


def union_keeps_payload_duplicates(patch: Patch) -> None:
    def new_elements(known: Any, payload: list[Any]) -> list[Any]:
        return [item for item in payload if _canonical(item) not in known]

    patch.setattr(operators, "_new_elements", new_elements)


def union_dedupes_what_is_stored(patch: Patch) -> None:
    new = operators._new_elements
    patch_operator(
        patch, Operator.UNION, lambda old, _, value: new((), old + value) if type(old) is list else old
    )


def union_replaces_a_scalar(patch: Patch) -> None:
    patch_operator(
        patch, Operator.UNION, lambda old, _, value: old + value if type(old) is list else [old, *value]
    )


def add_reads_stored_text(patch: Patch) -> None:
    patch_operator(
        patch,
        Operator.ADD,
        lambda old, _, value: int(old) + value if isinstance(old, str) and old.isdecimal() else old + value,
    )


def add_counts_stored_booleans(patch: Patch) -> None:
    patch_operator(
        patch, Operator.ADD, lambda old, _, value: old + value if isinstance(old, int | float) else old
    )


def add_keeps_integers_of_any_size(patch: Patch) -> None:
    patch.setattr(operators, "INT_MAX", 2**64 - 1)


def remove_takes_the_first_alone(patch: Patch) -> None:
    def remove(old: Any, _: str, value: Any) -> Any:
        if type(old) is list:
            for at, item in enumerate(old):
                if _canonical(item) == _canonical(value):
                    return old[:at] + old[at + 1 :]
        return old

    patch_operator(patch, Operator.REMOVE, remove)


def remove_takes_each_of_a_list(patch: Patch) -> None:
    def remove(old: Any, _: str, value: Any) -> Any:
        unwanted = {_canonical(item) for item in (value if type(value) is list else [value])}
        return [item for item in old if _canonical(item) not in unwanted] if type(old) is list else old

    patch_operator(patch, Operator.REMOVE, remove)


def remove_drops_the_empty_list(patch: Patch) -> None:
    def remove(doc: Doc, payload: Doc, *, crowd: operators.Crowd | None) -> None:
        _APPLY[Operator.REMOVE](doc, payload, crowd=crowd)
        for name in payload:
            if doc.get(name) == []:
                del doc[name]

    patch.setitem(operators.APPLY, Operator.REMOVE, remove)


def patch_apply(patch: Patch, change: Callable[[Any, Any, Doc], tuple[Any, Any]]) -> None:
    """Let `change` alter (doc, operations, the keyword arguments) before each record."""

    def apply(doc: Any, operations: Any, **rest: Any) -> Any:
        doc, operations = change(doc, operations, rest)
        return _apply(doc, operations, **rest)

    patch.setattr(operators, "apply_operations", apply)


def remove_makes_a_profile(patch: Patch) -> None:
    def change(doc: Any, operations: Any, _: Doc) -> tuple[Any, Any]:
        removes = any(code == Operator.REMOVE for code, _ in operations)
        return ({} if doc is None and removes else doc), operations

    patch_apply(patch, change)


def delete_leaves_an_empty_profile(patch: Patch) -> None:
    def apply(doc: Any, operations: Any, **rest: Any) -> Any:
        after = _apply(doc, operations, **rest)
        return {"$last_seen": rest["arrival"]} if after is None and doc is not None else after

    patch.setattr(operators, "apply_operations", apply)


def ignore_time_touches_last_seen(patch: Patch) -> None:
    def change(doc: Any, operations: Any, rest: Doc) -> tuple[Any, Any]:
        rest["seen"] = rest["seen"] or rest["arrival"]
        return doc, operations

    patch_apply(patch, change)


def ignore_time_makes_no_last_seen(patch: Patch) -> None:
    def apply(doc: Any, operations: Any, **rest: Any) -> Any:
        after = _apply(doc, operations, **rest)
        if doc is None and rest["seen"] is None and after is not None:
            after.pop("$last_seen", None)
        return after

    patch.setattr(operators, "apply_operations", apply)


def set_merges_objects(patch: Patch) -> None:
    patch_operator(
        patch,
        Operator.SET,
        lambda old, _, value: {**old, **value} if type(old) is dict and type(value) is dict else value,
    )


def set_drops_null(patch: Patch) -> None:
    def set_(doc: Doc, payload: Doc, *, crowd: operators.Crowd | None) -> None:
        kept = {name: value for name, value in payload.items() if value is not None}
        _APPLY[Operator.SET](doc, kept, crowd=crowd)

    patch.setitem(operators.APPLY, Operator.SET, set_)


def set_once_overwrites_null(patch: Patch) -> None:
    patch_operator(patch, Operator.SET_ONCE, lambda old, _, value: value if old is None else old)


def append_flattens(patch: Patch) -> None:
    def append(old: Any, _: str, value: Any) -> Any:
        return old + (value if type(value) is list else [value]) if type(old) is list else old

    patch_operator(patch, Operator.APPEND, append)


def append_skips_duplicates(patch: Patch) -> None:
    patch_operator(
        patch,
        Operator.APPEND,
        lambda old, _, value: [*old, value] if type(old) is list and value not in old else old,
    )


def merge_replaces_a_scalar(patch: Patch) -> None:
    patch_operator(
        patch, Operator.MERGE, lambda old, _, value: {**old, **value} if type(old) is dict else value
    )


def text_is_cut_by_characters(patch: Patch) -> None:
    patch.setattr(values, "cut_text", lambda text, limit: text[:limit])


def nul_is_kept(patch: Patch) -> None:
    patch.setattr(values, "clean_text", lambda text: text)


def address_is_stored(patch: Patch) -> None:
    patch.setattr(payloads, "DROPPED_NAMES", payloads.DROPPED_NAMES - {"$ip"})


def client_gives_any_last_seen(patch: Patch) -> None:
    patch.setattr(payloads, "canonical_timestamp", lambda value: value)


def operators_apply_as_written(patch: Patch) -> None:
    patch.setattr(updates, "_code_of", lambda _: 0)


def one_property_too_many(patch: Patch) -> None:
    patch.setattr(operators, "PROPERTIES_PER_PROFILE", 2001)


def one_byte_too_many(patch: Patch) -> None:
    patch.setattr(operators, "VALUE_LIMIT_BYTES", limits.VALUE_LIMIT_BYTES + 1)


def integers_of_any_size_are_stored(patch: Patch) -> None:
    patch.setattr(values, "INT_MAX", 2**64 - 1)


def infinity_is_stored(patch: Patch) -> None:
    patch.setattr(values, "isfinite", lambda _: True)


def location_beats_the_record(patch: Patch) -> None:
    left = updates.geo_names_left
    patch.setattr(updates, "geo_names_left", lambda update: None if left(update) is None else frozenset())


def location_goes_with_every_operator(patch: Patch) -> None:
    left = updates.geo_names_left
    patch.setattr(updates, "geo_names_left", lambda update: left(update) or frozenset())


def milliseconds_start_late(patch: Patch) -> None:
    patch.setattr(times, "MILLISECONDS_FROM", 1e12)


def quick_path_takes_everything(patch: Patch) -> None:
    patch.setattr(payloads, "_is_plain", lambda *_, **__: True)


def nesting_has_no_limit(patch: Patch) -> None:
    patch.setattr(payloads, "nested_too_deeply", lambda _: False)


def strict_lets_text_be_added(patch: Patch) -> None:
    patch.setattr(payloads._Rebuild, "_number", lambda _, raw, __: times.number_of(str(raw)))


def strict_has_no_shape(patch: Patch) -> None:
    patch.setattr(payloads._Rebuild, "_check_strict", lambda *_: None)


def placeholders_are_fine(patch: Patch) -> None:
    patch.setattr(updates, "PLACEHOLDER_IDS", frozenset())


class Mutant(NamedTuple):
    """A fault, and the checks that must notice it."""

    break_it: Callable[[Patch], None]
    caught_by: list[Check]


MUTANTS = [
    Mutant(true_is_one, [operator_table, equality, union_meetings, remove_meetings]),
    Mutant(one_is_not_one_point_zero, [operator_table, equality, union_meetings, remove_meetings]),
    Mutant(text_is_a_number, [operator_table, equality, union_meetings, remove_meetings]),
    Mutant(order_of_a_list_is_lost, [operator_table, equality, union_meetings, remove_meetings]),
    Mutant(union_keeps_payload_duplicates, [operator_table, union_meetings]),
    Mutant(union_dedupes_what_is_stored, [operator_table, union_meetings]),
    Mutant(union_replaces_a_scalar, [operator_table, union_meetings]),
    Mutant(add_reads_stored_text, [operator_table, add_meetings]),
    Mutant(add_counts_stored_booleans, [operator_table, add_meetings]),
    Mutant(add_keeps_integers_of_any_size, [operator_table]),
    Mutant(remove_takes_the_first_alone, [operator_table, remove_meetings]),
    Mutant(remove_takes_each_of_a_list, [operator_table, remove_meetings]),
    Mutant(remove_drops_the_empty_list, [operator_table, remove_meetings]),
    Mutant(remove_makes_a_profile, [operator_table, chance_sequences]),
    Mutant(delete_leaves_an_empty_profile, [operator_table]),
    Mutant(ignore_time_touches_last_seen, [last_seen_table, chance_sequences]),
    Mutant(ignore_time_makes_no_last_seen, [last_seen_table, chance_sequences]),
    Mutant(set_merges_objects, [operator_table, set_meetings]),
    Mutant(set_drops_null, [operator_table, set_meetings]),
    Mutant(set_once_overwrites_null, [operator_table, set_once_meetings]),
    Mutant(append_flattens, [operator_table, append_meetings]),
    Mutant(append_skips_duplicates, [operator_table, append_meetings]),
    Mutant(merge_replaces_a_scalar, [operator_table, merge_meetings]),
    Mutant(text_is_cut_by_characters, [value_table, set_meetings]),
    Mutant(nul_is_kept, [value_table, chance_sequences]),
    Mutant(address_is_stored, [operator_table, value_table]),
    Mutant(client_gives_any_last_seen, [last_seen_table]),
    Mutant(operators_apply_as_written, [operator_table]),
    Mutant(one_property_too_many, [value_table]),
    Mutant(one_byte_too_many, [value_table]),
    Mutant(integers_of_any_size_are_stored, [value_table, set_meetings]),
    Mutant(infinity_is_stored, [value_table, set_meetings]),
    Mutant(location_beats_the_record, [geo_table]),
    Mutant(location_goes_with_every_operator, [geo_table, chance_sequences]),
    Mutant(milliseconds_start_late, [last_seen_table]),
    Mutant(quick_path_takes_everything, [operator_table, value_table, record_table, chance_records]),
    Mutant(nesting_has_no_limit, [record_table]),
    Mutant(strict_lets_text_be_added, [record_table, add_strict_meetings]),
    Mutant(strict_has_no_shape, [record_table]),
    Mutant(placeholders_are_fine, [record_table]),
]

CAUGHT = [(mutant.break_it, check) for mutant in MUTANTS for check in mutant.caught_by]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_check_passes_on_the_product_as_it_is(check: Check) -> None:
    check()


@pytest.mark.parametrize(
    ("break_it", "check"), CAUGHT, ids=[f"{fault.__name__}-{check.__name__}" for fault, check in CAUGHT]
)
def test_fault_is_caught(break_it: Callable[[Patch], None], check: Check, monkeypatch: Patch) -> None:
    break_it(monkeypatch)
    # an unchecked fault may also make the product raise (a text that cannot be encoded, for one)
    with pytest.raises((AssertionError, TypeError, ValueError)):
        check()


def test_every_check_catches_something() -> None:
    assert {check.__name__ for _, check in CAUGHT} == {check.__name__ for check in CHECKS}
