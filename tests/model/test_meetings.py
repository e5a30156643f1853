"""Every operator meets every kind of stored value with every kind of payload value: all pairs, no chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.model.reference import OPERATORS
from tests.model.strategies import ARRIVAL, MEETING_VALUES, STORED_VALUES
from tests.model.test_updates_hypothesis import check_record

if TYPE_CHECKING:
    from tests.model.reference import Document


def check_meetings(operator: str, *, crowded: bool = False, strict: bool = False) -> None:
    """Assert that product and reference agree on each stored value and each payload value of one operator."""
    for value in MEETING_VALUES:
        record: Document = {"$token": "TOK", "$distinct_id": "u1", operator: {"k": value}}
        for stored in STORED_VALUES[:1] if strict else STORED_VALUES:
            check_record(
                record,
                kind="engage",
                strict=strict,
                arrival=ARRIVAL,
                geo=None,
                stored={"k": stored, "other": 1, "$last_seen": "2025-12-31T00:00:00"},
                crowded=crowded,
                hostile=False,
            )


# $union and $append have a way of their own for profiles far from the limits.
@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("operator", OPERATORS)
def test_every_value_meets_every_stored_value(operator: str, crowded: bool) -> None:
    check_meetings(operator, crowded=crowded)


# What strict refuses does not depend on what is stored.
@pytest.mark.parametrize("operator", OPERATORS)
def test_every_value_is_judged_alike_when_strict(operator: str) -> None:
    check_meetings(operator, strict=True)
