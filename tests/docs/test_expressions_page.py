"""The page on expressions: each example chooses what the page says, and the limits are those in force."""

import json
import re
from pathlib import Path

import pytest

from mixdown.model import limits
from mixdown.model.errors import ExpressionError
from mixdown.model.expression import Context, matches, parse
from mixdown.model.expression_nodes import ACCESSORS, FUNCTIONS, QUANTIFIERS
from tests.docs.snippets import blocks

PAGE = (Path(__file__).parent.parent.parent / "docs" / "expressions.md").read_text("utf-8")
PROFILES = next(json.loads(block.code) for block in blocks(PAGE) if block.language == "json")
EXAMPLES = re.findall(r"^\| `(.+?)` \| ((?:ada|bob|eve|-)[^|]*) \|", PAGE, re.MULTILINE)


def test_the_page_has_its_examples() -> None:
    assert len(EXAMPLES) > 15


@pytest.mark.parametrize(("text", "chosen"), EXAMPLES)
def test_an_example_chooses_what_the_page_says(text: str, chosen: str) -> None:
    expression = parse(text)
    found = [name for name, row in PROFILES.items() if matches(expression, row, name, Context(1_773_187_200))]
    assert (", ".join(found) or "-") == chosen


def test_the_page_names_every_function_and_accessor() -> None:
    for name in (*FUNCTIONS, *QUANTIFIERS):
        assert f"`{name}(" in PAGE
    for name in ACCESSORS:
        assert f'`{name}["name"]`' in PAGE


def test_the_page_shows_an_error_as_it_is() -> None:
    shown = next(block.code for block in blocks(PAGE) if block.language == "text")
    with pytest.raises(ExpressionError) as refused:
        parse("plan == 1")
    assert refused.value.message == shown.strip()


def test_the_page_tells_the_limits_in_force() -> None:
    for limit in (
        limits.EXPRESSION_LIMIT_CHARS,
        limits.EXPRESSION_NESTING_LIMIT,
        limits.EXPRESSION_PROPERTIES_LIMIT,
        limits.EXPRESSION_SUMS_LIMIT,
    ):
        assert f"{limit:,}" in PAGE
