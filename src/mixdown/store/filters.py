"""Expressions as SQL: what every engine's compiler gives (`store/*/expressions.py`).

Enters: an `Expression` and a `Context`. Leaves: a `Compiled` condition over the columns `id` and `document`
of the table alias `p`. No value of an expression ever stands in the SQL itself: all are bindings.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Compiled(msgspec.Struct, frozen=True):
    """An expression as a SQL condition.

    `sql` selects every row that matches, and, unless `exact`, perhaps some that do not: those Python
    decides (`document_predicate`), and `undecided` tells which. `undecided` is a SQL column: null for a row
    that `sql` selects and that surely matches, else the document as bytes. Bindings stand in the order of the
    placeholders, so that those of `undecided` come first where it stands in the list of columns:

        SELECT p.id, {undecided} FROM profiles AS p WHERE ... AND ({sql}) ORDER BY ...
    """

    sql: str
    bindings: tuple[Any, ...]
    exact: bool
    undecided: str = "NULL"
    undecided_bindings: tuple[Any, ...] = ()
