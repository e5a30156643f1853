"""The truth table and the strings that clients send, held against the Python form of the expressions."""

import orjson
import pytest

from mixdown.model.expression import (
    UNDEFINED,
    Context,
    ExpressionError,
    document_predicate,
    evaluate,
    matches,
    parse,
)
from tests.model.expression_rows import NOW_S, PROFILES, REFUSED, SENT_BY_CLIENTS, TABLE

CONTEXT = Context(NOW_S)
LETTERS = {True: "T", False: "F", UNDEFINED: "U"}


@pytest.mark.parametrize(
    ("text", "expected"), [row[1:] for row in TABLE] + SENT_BY_CLIENTS, ids=lambda value: str(value)[:60]
)
def test_an_expression_has_the_value_of_the_truth_table(text: str, expected: str) -> None:
    expression = parse(text)
    values = [evaluate(expression, profile, name, CONTEXT) for name, profile in PROFILES.items()]
    assert "".join(LETTERS[value] for value in values) == expected
    chosen = "".join(
        "T" if matches(expression, row, name, CONTEXT) else "-" for name, row in PROFILES.items()
    )
    assert chosen == expected.replace("F", "-").replace("U", "-")
    decide = document_predicate(expression, CONTEXT)
    assert [decide(name, orjson.dumps(row)) for name, row in PROFILES.items()] == [
        letter == "T" for letter in expected
    ]


@pytest.mark.parametrize(("text", "position", "reason"), REFUSED)
def test_a_text_that_is_no_expression_is_refused_with_reason_and_position(
    text: str, position: int, reason: str
) -> None:
    with pytest.raises(ExpressionError) as refused:
        parse(text)
    assert refused.value.position == position
    assert reason in refused.value.reason
    assert refused.value.status == 400
    assert refused.value.message.endswith(f"at position {position}")
