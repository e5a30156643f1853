"""What people did as rows of a form: written as counts of events, read again, and told in words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixdown.explorer.deeds import (
    ALL,
    ANY,
    BETWEEN,
    DID,
    DID_NOT,
    EVER,
    LAST,
    UNITS,
    Deed,
    DeedError,
    Deeds,
    deeds_in,
    read_deeds,
    words,
    written,
)
from mixdown.explorer.visit import Form
from mixdown.model.expression import Expression, parse

OWN = 'properties["plan"] == 1 or true'
BOUGHT = {"name": "1", "event_selectors": [{"event": "Buy"}]}


def plainly(text: str) -> Expression:
    return parse(text, lambda _: None)


WRITTEN: list[tuple[Deeds, str, list[dict[str, Any]]]] = [
    (Deeds((Deed("Buy"),)), 'behaviors["1"] >= 1', [BOUGHT]),
    (Deeds((Deed("Buy", did=DID_NOT),)), 'behaviors["1"] == 0', [BOUGHT]),
    (Deeds((Deed("Buy", did=DID_NOT, times="3"),)), 'behaviors["1"] < 3', [BOUGHT]),
    (
        Deeds((Deed("Buy", times="2", when=LAST, length="4", unit="w"),), where=OWN),
        f'behaviors["1"] >= 2 and ({OWN})',
        [BOUGHT | {"window": "4w"}],
    ),
    (
        Deeds((Deed("Buy", when=BETWEEN, first="2026-01-01"), Deed("See", where="n > 1")), ANY),
        'behaviors["1"] >= 1 or behaviors["2"] >= 1',
        [
            BOUGHT | {"from_date": "2026-01-01"},
            {"name": "2", "event_selectors": [{"event": "See", "selector": "n > 1"}]},
        ],
    ),
    (
        Deeds((Deed("Buy"), Deed("See")), ANY, 'properties["a"] == 1'),
        '(behaviors["1"] >= 1 or behaviors["2"] >= 1) and (properties["a"] == 1)',
        [BOUGHT, {"name": "2", "event_selectors": [{"event": "See"}]}],
    ),
]


@pytest.mark.parametrize(("deeds", "where", "counts"), WRITTEN)
def test_rows_are_an_expression_over_counts_and_that_is_the_rows(
    deeds: Deeds, where: str, counts: list[dict[str, Any]]
) -> None:
    assert written(deeds) == (where, counts)
    assert read_deeds(where, counts, plainly) == deeds


ROWS = st.builds(
    lambda event, did, times, where: Deed(event=event, did=did, times=str(times), where=where),
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=5),
    st.sampled_from([DID, DID_NOT]),
    st.integers(1, 999_999),
    st.sampled_from(["", "n > 1", 'properties["x)"] == "and ("']),
)
DATED = st.one_of(
    ROWS,
    st.builds(lambda row, n, unit: row._replace(when=LAST, length=str(n), unit=unit), ROWS,
              st.integers(1, 999), st.sampled_from(list(UNITS))),
    st.builds(lambda row, last: row._replace(when=BETWEEN, last=last), ROWS, st.dates().map(str)),
)  # fmt: skip


@settings(max_examples=60)
@given(
    st.lists(DATED, min_size=1, max_size=4).map(tuple),
    st.sampled_from([ALL, ANY]),
    st.sampled_from(
        [
            "",
            "true",
            "(true) or (false)",
            'properties["x"] == ") and ("',
            'not defined(properties["behaviors"])',
        ]
    ),
)
def test_whatever_is_chosen_what_is_written_reads_as_the_same_rows(
    rows: tuple[Deed, ...], joined: str, where: str
) -> None:
    deeds = Deeds(rows, joined if len(rows) > 1 else ALL, where)
    assert read_deeds(*written(deeds), plainly) == deeds


OTHER: list[tuple[str, list[dict[str, Any]]]] = [
    ('behaviors["1"] == 2', [BOUGHT]),
    ('behaviors["1"] + 1 > 2', [BOUGHT]),
    ('not behaviors["1"] > 2', [BOUGHT]),
    ('behaviors["1"] > 2 or true', [BOUGHT]),
    ('behaviors["1"] > 2 and behaviors["1"] < 9', [BOUGHT]),
    ('behaviors["1"] > 2', [BOUGHT, BOUGHT | {"name": "2"}]),
    ('behaviors["1"] > 2 and (true) or (false)', [BOUGHT]),
    ('(behaviors["1"] > 2 or behaviors["2"] > 1) and (true) or (false)', [BOUGHT, BOUGHT | {"name": "2"}]),
    ('behaviors["1"] > 2 or behaviors["2"] > 1 and (true)', [BOUGHT, BOUGHT | {"name": "2"}]),
    ('behaviors["1"] > 2 and (behaviors["1"] < 9)', [BOUGHT]),
    ('behaviors["1"] > 2', [BOUGHT | {"event_selectors": [{"event": "a"}, {"event": "b"}]}]),
    ('behaviors["1"] > 2', [BOUGHT | {"window": "30 days"}]),
    ('behaviors["1"] >= 0', [BOUGHT]),
    ("true", [BOUGHT]),
]


@pytest.mark.parametrize(("where", "counts"), OTHER)
def test_what_rows_cannot_say_is_no_rows(where: str, counts: list[dict[str, Any]]) -> None:
    assert read_deeds(where, counts, plainly) is None


def test_comparisons_that_mean_the_same_are_the_same_rows() -> None:
    for where, row in (
        ('behaviors["b\\"y"] > 0', Deed("Buy")),
        ('behaviors["b\\"y"] <= 2', Deed("Buy", did=DID_NOT, times="3")),
    ):
        assert read_deeds(where, [BOUGHT | {"name": 'b"y'}], plainly) == Deeds((row,))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (Deed("a", times="0"), "Condition 1: how often is a whole number from 1"),
        (Deed("a", times="often"), "how often"),
        (Deed("a", when=LAST, length="1.5"), "how long is a whole number"),
        (Deed("a", when=BETWEEN), "between which days"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(row: Deed, said: str) -> None:
    with pytest.raises(DeedError, match=said):
        written(Deeds((row,)))


def test_rows_of_a_form_without_an_event_say_nothing() -> None:
    sent = {"event1": " ", "event3": "Buy", "did3": "did-not", "when3": "last", "length3": "", "unit3": "y"}
    found = deeds_in(Form({name: [text] for name, text in sent.items()}))
    assert found == Deeds((Deed("Buy", did=DID_NOT, when=LAST),))
    assert written(Deeds((Deed(" "),), where="true")) == ("true", [])


def test_rows_are_told_in_words() -> None:
    rows = (
        Deed("Buy", when=EVER),
        Deed("See", did=DID_NOT, times="2", when=LAST, length="1", unit="w", where="n > 1"),
        Deed("Go", when=BETWEEN, first="2026-01-01", last="2026-01-31"),
    )
    assert words(Deeds(rows)) == [
        "did “Buy”",
        "did not do “See” at least 2 times in the last 1 week, where n > 1",
        "did “Go” from 2026-01-01 until 2026-01-31",
    ]
