"""The operators, rule by rule (contract ingestion §4, §5.4): product and reference satisfy the same rows."""

from __future__ import annotations

import pytest

from tests.model import operator_rows, product, reference, value_rows
from tests.model.operator_rows import Implementation, Row, check_row

IMPLEMENTATIONS: list[Implementation] = [product.update, reference.update]
each_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=["product", "reference"])


def sentence(row: Row) -> str:
    return row.sentence


@each_implementation
@pytest.mark.parametrize("row", operator_rows.ROWS, ids=sentence)
def test_operator_on_users(row: Row, implementation: Implementation) -> None:
    check_row(row, implementation)


@pytest.mark.parametrize("row", operator_rows.ROWS, ids=sentence)
def test_groups_take_every_operator_that_users_take(row: Row) -> None:
    check_row(row, product.update, kind="groups")


@each_implementation
@pytest.mark.parametrize("row", value_rows.ROWS, ids=sentence)
def test_stored_values(row: Row, implementation: Implementation) -> None:
    check_row(row, implementation)


def test_rows_have_different_sentences() -> None:
    sentences = [row.sentence for row in operator_rows.ROWS + value_rows.ROWS]
    assert len(set(sentences)) == len(sentences)


def test_list_of_bytes_is_exact() -> None:
    import json

    for size in (260, 300, 301, 302, 303, 304, 400, 1000, value_rows.LIMIT, value_rows.LIMIT + 1):
        text = json.dumps(value_rows.list_of_bytes(size), separators=(",", ":"))
        assert len(text) == size
