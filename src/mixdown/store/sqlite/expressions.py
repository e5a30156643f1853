"""Expressions as SQL for SQLite, over JSON text."""

from __future__ import annotations

from mixdown.model.expression import Context, Expression
from mixdown.store.filters import Compiled


def compile_filter(expression: Expression, context: Context) -> Compiled:
    """The condition that selects what `expression` matches, over `p.id` and `p.document`."""
    code = expression.code(context)
    if code.constant:
        return Compiled("1" if code.value is True else "0", (), exact=True)
    return Compiled("1", (), exact=False, undecided="CAST(p.document AS BLOB)")
