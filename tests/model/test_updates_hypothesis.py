"""Product and reference, given the same records, say and store the same (contract ingestion §3-§5, §10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixdown.http.jsontext import parse_json
from mixdown.model import updates
from tests.model import product, reference
from tests.model.product import identical
from tests.model.reference import Applied, Refused
from tests.model.strategies import (
    ARRIVAL,
    arrivals,
    geos,
    json_text,
    kinds,
    records,
    sequences,
    values,
)

if TYPE_CHECKING:
    from tests.model.reference import Document, Json, Kind

Steps = list[tuple["Document", int, "Document | None"]]
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def explain(outcome: Refused | Applied, expected: Refused | Applied, raw: Json) -> str:
    return f"product {outcome}\nreference {expected}\nrecord {json_text(raw)[:2000]}"


def same(outcome: Refused | Applied, expected: Refused | Applied) -> bool:
    if isinstance(outcome, Applied) and isinstance(expected, Applied):
        return identical(outcome.profile, expected.profile)
    return outcome == expected


def check_record(
    raw: Json,
    *,
    kind: Kind,
    strict: bool,
    arrival: float,
    geo: Document | None,
    stored: Document | None = None,
    crowded: bool = True,
    hostile: bool = True,
) -> Applied | Refused:
    """Assert that product and reference agree on one record and one profile; give their answer."""
    expected = reference.update(raw, kind=kind, strict=strict, arrival=arrival, geo=geo, stored=stored)
    outcome = product.update(
        raw,
        kind=kind,
        strict=strict,
        arrival=arrival,
        geo=geo,
        stored=stored,
        crowded=crowded,
        hostile=hostile or None,
    )
    assert same(outcome, expected), explain(outcome, expected, raw)
    return expected


def check_sequence(steps: Steps, kind: Kind, *, crowded: bool = True, hostile: bool = True) -> None:
    """Assert that both agree after each record of a sequence, on every profile that it touches."""
    profiles: dict[tuple[str, str], Document | None] = {}
    for raw, arrival, geo in steps:
        key = reference.profile_key(raw, kind=kind)
        assert key is not None
        after = check_record(
            raw,
            kind=kind,
            strict=False,
            arrival=arrival,
            geo=geo,
            stored=profiles.get(key),
            crowded=crowded,
            hostile=hostile,
        )
        if isinstance(after, Applied):
            profiles[key] = after.profile


# The flags choose the product's quick paths; none of the two may change an outcome. Sequences are far
# from the limits that only a crowded profile is held to: those have their tables.
@settings(relaxed, max_examples=200)
@given(kinds.flatmap(lambda kind: st.tuples(sequences(kind), st.just(kind))), st.booleans(), st.booleans())
def test_sequences(drawn: tuple[Steps, Kind], crowded: bool, hostile: bool) -> None:
    steps, kind = drawn
    check_sequence(steps, kind, crowded=crowded, hostile=hostile)


@settings(relaxed, max_examples=150)
@given(
    kinds.flatmap(lambda kind: st.tuples(records(kind), st.just(kind))),
    st.booleans(),
    arrivals,
    geos,
    st.booleans(),
)
def test_any_record_is_judged_alike(
    drawn: tuple[Json, Kind], strict: bool, arrival: int, geo: Document | None, hostile: bool
) -> None:
    raw, kind = drawn
    check_record(raw, kind=kind, strict=strict, arrival=arrival, geo=geo, hostile=hostile)


@settings(relaxed, max_examples=200)
@given(kinds.flatmap(lambda kind: st.tuples(records(kind), st.just(kind))), st.booleans())
def test_any_good_record_names_the_same_profile(drawn: tuple[Json, Kind], strict: bool) -> None:
    raw, kind = drawn
    judged = product.read(raw, kind=kind, strict=strict)
    if isinstance(judged, updates.Update):
        assert isinstance(raw, dict)
        assert (judged.group_key, judged.id) == reference.profile_key(raw, kind=kind)


@settings(relaxed, max_examples=200)
@given(
    values, st.sampled_from(["$set", "$set_once", "$append", "$union", "$merge", "$remove"]), st.booleans()
)
def test_any_value_is_stored_alike(value: Json, operator: str, strict: bool) -> None:
    record: Document = {"$token": "TOK", "$distinct_id": "u1", operator: {"k": value}}
    check_record(record, kind="engage", strict=strict, arrival=ARRIVAL, geo=None)


@settings(relaxed, max_examples=150)
@given(st.one_of(st.text("0123456789.eE+- _x", max_size=8), st.text(max_size=6)), st.integers(-5, 5))
def test_any_text_adds_alike(text: str, stored: int) -> None:
    record: Document = {"$token": "TOK", "$distinct_id": "u1", "$add": {"n": text}}
    profile: Document = {"n": stored, "$last_seen": "2025-12-31T00:00:00"}
    check_record(record, kind="engage", strict=False, arrival=ARRIVAL, geo=None, stored=profile)


@settings(relaxed, max_examples=100)
@given(sequences("engage"))
def test_one_chunk_gives_what_many_give(steps: Steps) -> None:
    """A fold that takes all records at once, in memory, ends where one record at a time ends."""
    one_by_one: dict[str, Document | None] = {}
    for raw, arrival, _ in steps:
        judged = product.read(raw)
        if isinstance(judged, updates.Update):
            stored = one_by_one.get(judged.id)
            one_by_one[judged.id] = product.fold_one(judged, arrival=arrival, stored=stored)
    good = [(judged, at) for raw, at, _ in steps if isinstance(judged := product.read(raw), updates.Update)]
    for name, profile in one_by_one.items():
        mine = [(judged, at) for judged, at in good if judged.id == name]
        assert identical(product.fold_all(mine), profile)


@settings(relaxed, max_examples=200)
@given(kinds.flatmap(lambda kind: st.tuples(records(kind), st.just(kind))), st.booleans())
def test_any_record_is_judged_alike_as_the_server_parses_it(drawn: tuple[Json, Kind], strict: bool) -> None:
    """What the server's own parser makes of the record's bytes, and what it says of their text."""
    raw, kind = drawn
    parsed = parse_json(json_text(raw).encode())
    outcome = product.update(
        parsed.value,
        kind=kind,
        strict=strict,
        arrival=ARRIVAL,
        geo=None,
        stored=None,
        hostile=parsed.hostile,
    )
    expected = reference.update(raw, kind=kind, strict=strict, arrival=ARRIVAL, geo=None, stored=None)
    assert same(outcome, expected), explain(outcome, expected, raw)
