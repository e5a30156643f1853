"""How a text becomes an expression: tokens, precedence, what is refused and where, and the bounds."""

from typing import Any

import pytest

from mixdown.model.errors import ExpressionError, QueryError
from mixdown.model.expression import UNDEFINED, Context, Slot, evaluate, matches, parse
from mixdown.model.limits import (
    EXPRESSION_LIMIT_CHARS,
    EXPRESSION_NESTING_LIMIT,
    EXPRESSION_PROPERTIES_LIMIT,
    EXPRESSION_SUMS_LIMIT,
    VALUE_LIMIT_BYTES,
)

CONTEXT = Context(1_773_187_200)


def value(text: str, **properties: Any) -> Any:
    return evaluate(parse(text), properties, "ada", CONTEXT)


LITERALS: list[tuple[str, Any]] = [
    ("42", 42),
    ("007", 7),
    ("1.5", 1.5),
    (".5", 0.5),
    ("1e3", 1000.0),
    ("2.5E-1", 0.25),
    ("9223372036854775807", 9223372036854775807),
    ("9223372036854775808", 9.223372036854775808e18),
    ("-3", -3),
    ("true", True),
    ("TRUE", True),
    ("FALSE", False),
    ("null", None),
    ("undefined", UNDEFINED),
    ("NOW", 1_773_187_200),
    ("NOW -604800", 1_772_582_400),
    ('"a b"', "a b"),
    ("'single \"quotes\"'", 'single "quotes"'),
    (r'"say \"hi\" \\ \n\t\/ é \'"', 'say "hi" \\ \n\t/ é \''),
    (r'"\ud83d\ude00"', "😀"),
    (r'"\ud83d"', "�"),
    ('"nul \x00"', "nul �"),
    ('"grün 日本"', "grün 日本"),
    ("[]", []),
    ('[1, "a", [true], undefined]', [1, "a", [True], None]),
    ("\n 1\t+\r\n2 ", 3),
]


@pytest.mark.parametrize(("text", "expected"), LITERALS)
def test_a_literal_means_what_it_says(text: str, expected: Any) -> None:
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


PRECEDENCE: list[tuple[str, Any]] = [
    ("1 + 2 * 3", 7),
    ("(1 + 2) * 3", 9),
    ("10 - 2 - 3", 5),
    ("100 / 10 / 2", 5),
    ("7 % 4 * 2", 6),
    ("-2 * 3", -6),
    ("2 * -3", -6),
    ("--2", 2),
    ("-7 % 4", -3),
    ("7 % -4", 3),
    ("1 + 1 == 2", True),
    ("not 1 == 2", True),
    ("not false and false", False),
    ("not (false and false)", True),
    ("not not true", True),
    ("true or true and false", True),
    ("(true or true) and false", False),
    ("1 < 2 == true", True),
    ('not "x" in "abc"', True),
    ('"x" not in "abc"', True),
    ('"b" not in "abc"', False),
    ("3 in [1, 1 + 2]", True),
    ("defined properties['a'] == true", True),
    ("defined (properties['b']) or false", False),
    ("any(x, [1, 2], x == 2)", True),
    ("all(x, [1, 2], any(y, [2, 3], y == x + 1))", True),
    ("any(x, [[1], [2]], any(x, x, x == 2))", True),
    ("any(plan, [1], plan == 1) and properties['a'] == 1", True),
]


@pytest.mark.parametrize(("text", "expected"), PRECEDENCE)
def test_operators_bind_as_the_grammar_has_it(text: str, expected: Any) -> None:
    assert value(text, a=1) == expected


REFUSED: list[tuple[str, int, str]] = [
    ("1 +", 3, "expected a value, found the end"),
    ("1 2", 2, "expected an operator or the end, found 2"),
    ("== 1", 0, "expected a value"),
    ("1 == not true", 5, "expected a value"),
    ("(1", 2, "expected `)`"),
    ("1)", 1, "expected an operator or the end"),
    ("[1, ]", 4, "expected a value"),
    ("[1", 2, "expected `]`"),
    ('"abc', 0, "closing quote"),
    (r'"a\qb"', 2, "unknown escape"),
    ("1 & 2", 2, 'unexpected character "&"'),
    ("1abc", 1, "runs into a letter"),
    ("1e999", 0, "too large"),
    ("AND", 0, 'unknown word "AND"'),
    ("true AND true", 5, "expected an operator or the end"),
    ("len('a')", 0, 'unknown function "len"'),
    ("group['k'] == 1", 0, 'unknown accessor "group"'),
    ("profile['k'] == 1", 0, 'unknown accessor "profile"'),
    ("properties", 10, "expected `[`"),
    ("properties.plan", 10, "unexpected character"),
    ("properties[1]", 11, "name in quotes"),
    ("properties['a'", 14, "expected `]`"),
    ("number()", 7, "takes 1 value, not 0"),
    ("has_prefix('a')", 11, "takes 2 values, not 1"),
    ("number 5", 7, "expected `(`"),
    ("any(true, [1], true)", 4, "a name of your own"),
    ("any(x [1], true)", 6, "expected `,`"),
    ("x == 1 and any(x, [1], true)", 0, 'unknown word "x"'),
    ("'a' and true", 0, "joins conditions"),
    ("true or 5", 8, "joins conditions"),
    ("true or -5", 8, "joins conditions"),
    ("true and [1]", 9, "joins conditions"),
    ("NOW or true", 0, "joins conditions"),
    ("properties['a'] == 'é' or plan", 26, 'unknown word "plan"'),
]


@pytest.mark.parametrize(("text", "position", "reason"), REFUSED)
def test_what_cannot_be_read_is_refused_where_it_stands(text: str, position: int, reason: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        parse(text)
    assert (refused.value.position, reason in refused.value.reason) == (position, True), refused.value.reason


def test_a_refusal_is_a_bad_request() -> None:
    with pytest.raises(QueryError, match="at position 5") as refused:
        parse("1 == ")
    assert refused.value.status == 400


@pytest.mark.parametrize("text", ["", "  \n\t"])
def test_a_blank_expression_matches_every_row(text: str) -> None:
    expression = parse(text)
    assert expression.is_blank
    assert matches(expression, {}, "ada", CONTEXT)


def test_an_expression_tells_which_properties_it_reads() -> None:
    expression = parse('properties["a"] == user["b"] or event["c"] == behaviors["d"] or properties["a"] > 1')
    assert expression.names() == {"a", "b"}
    assert expression.slots == (
        Slot("properties", "a"),
        Slot("user", "b"),
        Slot("event", "c"),
        Slot("behaviors", "d"),
    )


@pytest.mark.parametrize(
    ("opening", "middle", "closing"),
    [
        ("(", "1", ")"),
        ("[", "1", "]"),
        ("not ", "true", ""),
        ("-", "1", ""),
        ("number(", "1", ")"),
        ("", "1", "+1"),
        ("defined ", "1", ""),
    ],
)
def test_nesting_is_bounded(opening: str, middle: str, closing: str) -> None:
    deep = EXPRESSION_NESTING_LIMIT - 3
    parse(opening * deep + middle + closing * deep)
    deep = 10_000
    with pytest.raises(ExpressionError, match="nested at most 100 levels"):
        parse((opening * deep + middle + closing * deep)[:EXPRESSION_LIMIT_CHARS])


def test_a_long_run_of_conditions_is_not_deep() -> None:
    text = " or ".join(f'properties["a"] == {number}' for number in range(5000))
    assert value(text, a=4999) is True
    assert value(text, a=5000) is False


def test_length_and_the_number_of_properties_are_bounded() -> None:
    with pytest.raises(ExpressionError, match="at most 262144 characters"):
        parse("1" * (EXPRESSION_LIMIT_CHARS + 1))
    names = [f'properties["p{number}"]' for number in range(EXPRESSION_PROPERTIES_LIMIT + 1)]
    parse(f"[{', '.join(names[:-1])}]")
    with pytest.raises(ExpressionError, match="at most 1000 properties"):
        parse(f"[{', '.join(names)}]")


def test_what_texts_joined_by_plus_take_is_bounded() -> None:
    sums = [f'properties["a"] + "{number}"' for number in range(EXPRESSION_SUMS_LIMIT + 1)]
    parse(f"[{', '.join(sums[:-1])}]")
    with pytest.raises(ExpressionError, match=r"at most 250 `\+`"):
        parse(f"[{', '.join(sums)}]")
    long = "x" * (VALUE_LIMIT_BYTES - 1)
    assert value('properties["a"] + "y"', a=long) == long + "y"
    assert value('properties["a"] + "yz"', a=long) is UNDEFINED


@pytest.mark.parametrize("text", ['datetime(properties["a"])', 'number(datetime(properties["a"]))'])
def test_a_time_past_64_bits_is_a_double(text: str) -> None:
    assert value(text, a=1e300) == 1e297
    assert type(value(text, a=1e300)) is float
    assert value(f"{text} * {text} * {text} * {text}", a=1e300) is UNDEFINED


@pytest.mark.parametrize(
    "text",
    [
        'properties["a"] == properties["b"]',
        '[properties["a"]] != [properties["b"]]',
        '"x" in properties["a"]',
        'properties["a"] in [1, 2]',
        'has_prefix(properties["c"], "x")',
        'has_suffix(properties["c"], "x")',
    ],
)
def test_what_looks_through_a_value_can_be_ended(text: str) -> None:
    class EndedError(Exception):
        pass

    def end() -> None:
        raise EndedError

    row = {"a": [1], "b": [2], "c": "text"}
    matches(parse(text), row, "ada", CONTEXT)
    with pytest.raises(EndedError):
        matches(parse(text), row, "ada", Context(CONTEXT.now_s, pause=end))


def test_a_loop_over_elements_can_be_ended() -> None:
    class EndedError(Exception):
        pass

    steps = []

    def pause() -> None:
        steps.append(1)
        if len(steps) > 100:
            raise EndedError

    elements = 'properties["a"]'
    text = f"all(x, {elements}, all(y, {elements}, all(z, {elements}, all(w, {elements}, w < 1))))"
    with pytest.raises(EndedError):
        matches(parse(text), {"a": [0] * 50_000}, "ada", Context(0, pause=pause))


def test_ci_strings_makes_equality_of_texts_blind_to_case() -> None:
    for text in (
        'properties["a"] == "PRO"',
        'properties["a"] in ["x", "PRO"]',
        '"RO" in properties["a"]',
        '"PRO" in properties["b"]',
        'not properties["a"] != "PRO"',
    ):
        row = {"a": "pro", "b": ["pro"]}
        assert matches(parse(text), row, "ada", Context(0, ci_strings=True))
        assert not matches(parse(text), row, "ada", Context(0))
