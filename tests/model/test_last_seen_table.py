"""`$last_seen`: which updates touch it and what they write (contract ingestion §3.1, §5.1, §7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.model import product, reference
from tests.model.strategies import ARRIVAL

if TYPE_CHECKING:
    from tests.model.operator_rows import Implementation
    from tests.model.reference import Document, Json

NOW = "2026-01-15T12:00:00"
BEFORE = "2025-12-31T00:00:00"

#: Every operator but $delete, each with a payload that changes nothing.
QUIET: Document = {
    "$set": {},
    "$set_once": {},
    "$add": {"n": "x"},
    "$append": [],
    "$union": {},
    "$remove": {"l": 1},
    "$merge": {},
    "$unset": ["zzz"],
}

IMPLEMENTATIONS: list[Implementation] = [product.update, reference.update]
pytestmark = pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=["product", "reference"])


def last_seen(
    implementation: Implementation, stored: Document | None, fields: Document, arrival: float = ARRIVAL
) -> Json:
    outcome = implementation(
        {"$token": "TOK", "$distinct_id": "u1", **fields},
        kind="engage",
        strict=False,
        arrival=arrival,
        geo=None,
        stored=stored,
    )
    assert isinstance(outcome, reference.Applied)
    assert outcome.profile is not None
    return outcome.profile.get("$last_seen")


@pytest.mark.parametrize("operator", sorted(QUIET))
def test_every_operator_touches_it_even_without_effect(operator: str, implementation: Implementation) -> None:
    assert last_seen(implementation, {"$last_seen": BEFORE}, {operator: QUIET[operator]}) == NOW


@pytest.mark.parametrize("operator", sorted(QUIET))
def test_ignore_time_leaves_it(operator: str, implementation: Implementation) -> None:
    fields: Document = {operator: QUIET[operator], "$ignore_time": True, "$time": ARRIVAL - 60}
    assert last_seen(implementation, {"$last_seen": BEFORE}, fields) == BEFORE


@pytest.mark.parametrize("operator", sorted(set(QUIET) - {"$remove"}))
def test_a_profile_made_under_ignore_time_gets_its_arrival(
    operator: str, implementation: Implementation
) -> None:
    fields: Document = {operator: QUIET[operator], "$ignore_time": "true", "$time": ARRIVAL - 60}
    assert last_seen(implementation, None, fields) == NOW


TIMES: list[tuple[Json, str]] = [
    (1768392000, "2026-01-14T12:00:00"),
    (1768392000_000, "2026-01-14T12:00:00"),
    (1768392000.999, "2026-01-14T12:00:00"),
    (1768392000_999, "2026-01-14T12:00:00"),
    ("1768392000", "2026-01-14T12:00:00"),
    ("1768392000999.5", "2026-01-14T12:00:00"),
    (ARRIVAL, NOW),
    (ARRIVAL + 1, NOW),
    ((ARRIVAL + 1) * 1000, NOW),
    (99_999_999_999, NOW),
    (1e11, "1973-03-03T09:46:40"),
    (1, "1970-01-01T00:00:01"),
    (0, NOW),
    (-1768392000, NOW),
    (True, NOW),
    (None, NOW),
    ("", NOW),
    ("soon", NOW),
    ("2026-01-14T12:00:00", NOW),
    (float("inf"), NOW),
    (10**400, NOW),
    ([], NOW),
]


@pytest.mark.parametrize(("time", "written"), TIMES)
def test_time_counts_unless_it_is_no_time_or_in_the_future(
    time: Json, written: str, implementation: Implementation
) -> None:
    assert last_seen(implementation, {"$last_seen": BEFORE}, {"$set": {}, "$time": time}) == written


def test_time_may_go_back(implementation: Implementation) -> None:
    assert last_seen(implementation, {"$last_seen": NOW}, {"$set": {}, "$time": 1}) == "1970-01-01T00:00:01"


def test_arrival_is_cut_to_whole_seconds(implementation: Implementation) -> None:
    assert last_seen(implementation, None, {"$set": {}}, arrival=ARRIVAL + 0.999) == NOW


GIVEN: list[tuple[Json, str | None]] = [
    ("2020-02-29T01:02:03", "2020-02-29T01:02:03"),
    ("2020-02-29T01:02:03Z", "2020-02-29T01:02:03"),
    ("2020-02-29T01:02:03.999", "2020-02-29T01:02:03"),
    ("2020-02-29T01:02:03.999Z", "2020-02-29T01:02:03"),
    ("2020-02-29T01:02:03.123456789Z", "2020-02-29T01:02:03"),
    ("2020-02-29T01:02:03+02:00", "2020-02-28T23:02:03"),
    ("2020-02-29T01:02:03-0130", "2020-02-29T02:32:03"),
    ("2020-02-29 01:02:03", "2020-02-29T01:02:03"),
    ("2020-02-29", "2020-02-29T00:00:00"),
    ("2030-01-01T00:00:00", "2030-01-01T00:00:00"),
    ("0999-01-01T00:00:00", "0999-01-01T00:00:00"),
    (1_600_000_000, "2020-09-13T12:26:40"),
    (1_600_000_000_999, "2020-09-13T12:26:40"),
    (1_600_000_000.9, "2020-09-13T12:26:40"),
    ("2021-02-29T00:00:00", None),
    ("2020-02-29T25:00:00", None),
    ("0001-01-01T00:00:00+02:00", None),
    ("yesterday", None),
    ("", None),
    (-1, None),
    (0, None),
    (10**400, None),
    (float("inf"), None),
    (None, None),
    (True, None),
    ([], None),
    ({}, None),
]


@pytest.mark.parametrize(("given", "written"), GIVEN)
def test_under_ignore_time_a_client_may_give_it(
    given: Json, written: str | None, implementation: Implementation
) -> None:
    fields: Document = {"$set": {"$last_seen": given}, "$ignore_time": True}
    assert last_seen(implementation, {"$last_seen": BEFORE}, fields) == (written or BEFORE)
    assert last_seen(implementation, None, fields) == (written or NOW)


def test_set_once_gives_it_to_a_new_profile_only(implementation: Implementation) -> None:
    fields: Document = {"$set_once": {"$last_seen": "2020-01-01T00:00:00Z"}, "$ignore_time": 1}
    assert last_seen(implementation, None, fields) == "2020-01-01T00:00:00"
    assert last_seen(implementation, {"$last_seen": BEFORE}, fields) == BEFORE


@pytest.mark.parametrize("operator", ["$merge", "$append", "$union", "$add", "$remove"])
def test_no_other_operator_gives_it(operator: str, implementation: Implementation) -> None:
    fields: Document = {operator: {"$last_seen": "2020-01-01T00:00:00"}, "$ignore_time": True}
    assert last_seen(implementation, {"$last_seen": BEFORE}, fields) == BEFORE


def test_unset_cannot_take_it(implementation: Implementation) -> None:
    fields: Document = {"$unset": ["$last_seen"], "$ignore_time": True}
    assert last_seen(implementation, {"$last_seen": BEFORE}, fields) == BEFORE
