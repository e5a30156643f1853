"""Expressions as SQL for SQLite: conditions on a profile's document, which is JSON text.

Enters: an `Expression`. Leaves: a `Compiled` condition. Every condition extracts a property with `->>`, which
parses the document once a row, however many properties are asked of it.

What `->>` gives is told apart so: numbers sort before texts in SQLite, booleans look like 1 and 0, lists and
objects like texts that begin with a bracket; `json_type` is asked only where a value could be one of those.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import tzinfo
from typing import Any, Final

from mixdown.model.expression import ID_NAMES, Context, Expression
from mixdown.model.expression_values import SECONDS_UP_TO
from mixdown.store.dialect import NEVER, Bound, Sql, every, none_of, some, sure
from mixdown.store.filters import Compiled, compile_with
from mixdown.store.moments import LOCAL, days_around, local_text, milliseconds_fit

_LISTED_UP_TO: Final = 16
"""So many values stand as bindings of their own; more come as one JSON list."""
_PLAIN: Final = re.compile(r"[ !#-.0-\[\]-~]*", re.ASCII)
"""Texts that every JSON encoder writes alike."""
_NUMBERS: Final = "IN ('integer', 'real')"


def compile_filter(expression: Expression, context: Context) -> Compiled:
    """The condition that selects what `expression` matches, over `p.id` and `p.document`."""
    return compile_with(_Sqlite(), expression, context)


def _path(name: str) -> str:
    return f"$.{json.dumps(name, ensure_ascii=False)}"


class _Sqlite:
    """`Dialect` of SQLite; a placeholder of a name takes its path."""

    document = "CAST(p.document AS BLOB)"

    # --- a property's value and type --------------------------------------------------------------

    @staticmethod
    def _value(name: str) -> Sql:
        path = _path(name)
        if name in ID_NAMES:  # the plus takes from `p.id` the affinity of a column
            given = "iif(json_type(p.document, ?) IS NULL, +p.id, p.document ->> ?)"
            return Sql(given, (path, path))
        return Sql("p.document ->> ?", (path,))

    @staticmethod
    def _kind(name: str) -> Sql:
        given = "json_type(p.document, ?)"
        return Sql(f"coalesce({given}, 'text')" if name in ID_NAMES else given, (_path(name),))

    def _value_is(self, name: str, rest: str, *bindings: Any) -> Bound:
        value = self._value(name)
        return sure(Sql(f"({value.text}) {rest}", value.bindings + bindings))

    def _kind_is(self, name: str, rest: str, *bindings: Any) -> Bound:
        kind = self._kind(name)
        return sure(Sql(f"{kind.text} {rest}", kind.bindings + bindings))

    # --- types ------------------------------------------------------------------------------------

    def is_absent(self, name: str) -> Bound:
        return self._kind_is(name, "IS NULL")

    def is_null(self, name: str) -> Bound:
        return self._kind_is(name, "= 'null'")

    def is_boolean(self, name: str, *, value: bool) -> Bound:
        return self._kind_is(name, "= 'true'" if value else "= 'false'")

    def is_no(self, name: str) -> Bound:
        kind = self._kind(name)
        return sure(Sql(f"coalesce({kind.text}, 'null') IN ('null', 'false')", kind.bindings))

    def is_text(self, name: str) -> Bound:
        return self._kind_is(name, "= 'text'")

    def is_list(self, name: str) -> Bound:
        return self._kind_is(name, "IN ('array', 'object')")

    def is_truthy(self, name: str) -> Bound:
        return self._value_is(name, "NOT IN ('', 'false', 0)")

    def present(self, name: str) -> Bound:
        return self._value_is(name, "IS NOT NULL")

    # --- values -----------------------------------------------------------------------------------

    def _among(self, name: str, values: Sequence[Any]) -> Bound:
        if len(values) == 1:
            return self._value_is(name, "= ?", values[0])
        if len(values) <= _LISTED_UP_TO:
            return self._value_is(name, f"IN ({', '.join('?' * len(values))})", *values)
        return self._value_is(name, "IN (SELECT value FROM json_each(?))", json.dumps(values))

    def text_in(self, name: str, values: Sequence[str]) -> Bound:
        # what looks like a list or an object could be one
        plain = [value for value in values if not value.startswith(("[", "{"))]
        odd = [value for value in values if value.startswith(("[", "{"))]
        bounds = [self._among(name, plain)] if plain else []
        if odd:
            bounds.append(every([self._among(name, odd), self.is_text(name)]))
        return some(bounds)

    def number_in(self, name: str, values: Sequence[float]) -> Bound:
        plain = [value for value in values if value not in (0, 1)]
        odd = [value for value in values if value in (0, 1)]
        bounds = [self._among(name, plain)] if plain else []
        if odd:
            bounds.append(every([self._among(name, odd), self._kind_is(name, _NUMBERS)]))
        return some(bounds)

    def text_order(self, name: str, operator: str, value: str) -> Bound:
        found = self._value_is(name, f"{operator} ?", value)
        if operator in ("<", "<=") and value < "[":
            return every([found, self._value_is(name, ">= ''")])  # without numbers
        return every([found, self.is_text(name)])

    def number_order(self, name: str, operator: str, value: float) -> Bound:
        found = self._value_is(name, f"{operator} ?", value)
        boolean_too = (value > 0) if operator in ("<", "<=") else (value < 1)
        if boolean_too or value in (0, 1):
            return every([found, self._kind_is(name, _NUMBERS)])
        # all texts sort behind all numbers
        return found if operator in ("<", "<=") else every([found, self._value_is(name, "< ''")])

    def has_part(self, name: str, part: str) -> Bound:
        if not part:
            return self.is_text(name)
        value = self._value(name)
        found = sure(Sql(f"instr({value.text}, ?) > 0", (*value.bindings, part)))
        return every([found, self.is_text(name)])

    def has_element(self, name: str, value: Any) -> Bound:
        bounds = [self._kind_is(name, "= 'array'")]
        if type(value) is str and _PLAIN.fullmatch(value):
            # most lists are without it, and a look at their text is quicker than a walk through them
            text = self._value(name)
            bounds.append(sure(Sql(f"instr({text.text}, ?) > 0", (*text.bindings, f'"{value}"'))))
        bindings: tuple[Any, ...]
        if value is None or type(value) is bool:
            element, bindings = f"e.type = '{json.dumps(value)}'", ()
        elif type(value) is str:
            element, bindings = "e.type = 'text' AND e.value = ?", (value,)
        else:
            element, bindings = f"e.type {_NUMBERS} AND e.value = ?", (value,)
        walk = f"EXISTS (SELECT 1 FROM json_each(p.document, ?) AS e WHERE {element})"  # noqa: S608
        return every([*bounds, sure(Sql(walk, (_path(name), *bindings)))])

    def has_affix(self, name: str, affix: str, *, at_end: bool) -> Bound:
        """SQLite folds ASCII alone: a text with other letters is for Python, unless it fits as it is."""
        value = self._value(name)
        folded = affix.casefold()
        if not folded:
            return self.is_text(name)
        source, wanted = (f"lower({value.text})", folded) if folded.isascii() else (value.text, affix)
        where = f"-{len(wanted)}" if at_end else f"1, {len(wanted)}"
        fitting = Sql(f"substr({source}, {where}) = ?", (*value.bindings, wanted))
        fits = every([self.is_text(name), sure(fitting)])
        other = Sql(
            f"length(CAST({value.text} AS BLOB)) <> length({value.text})", value.bindings + value.bindings
        )
        foreign = every([self.is_text(name), sure(other)])
        return some([fits, Bound(foreign.upper, NEVER.lower)])

    # --- times ------------------------------------------------------------------------------------

    def moment(self, name: str, begin: int | None, end: int | None, zone: tzinfo) -> Bound:
        return some([self._text_moment(name, begin, end, zone), self._numeric_moment(name, begin, end)])

    def _within(self, name: str, begin: Any, end: Any) -> Bound:
        """It lies in [begin, end), as SQLite sorts."""
        bounds = [] if begin is None else [self._value_is(name, ">= ?", begin)]
        if end is not None:
            bounds.append(self._value_is(name, "< ?", end))
        return every(bounds)

    def _numeric_moment(self, name: str, begin: int | None, end: int | None) -> Bound:
        number = self._kind_is(name, _NUMBERS)
        if not milliseconds_fit(begin, end):
            return Bound(number.upper, NEVER.lower)
        low = self._within(name, 1 if begin is None else max(begin, 1), end)
        seconds = every([low, self._value_is(name, "<= ?", SECONDS_UP_TO)])
        high = self._within(
            name, None if begin is None else begin * 1000, None if end is None else end * 1000
        )
        milliseconds = every([high, self._value_is(name, "> ?", SECONDS_UP_TO)])
        return every([number, some([seconds, milliseconds])])

    def _text_moment(self, name: str, begin: int | None, end: int | None, zone: tzinfo) -> Bound:
        """Texts in the form that Mixdown writes are compared as texts; all others are for Python.

        The days around are looked at first, since the form takes longer to tell than they do.
        """
        value = self._value(name)
        plain = sure(Sql(f"strftime('{LOCAL}', {value.text}) = {value.text}", value.bindings * 2))
        near = every([self._within(name, *days_around(begin, end)), self.is_text(name)])
        first, last = local_text(begin, end, zone, wider=False)
        surely = every([self._within(name, first, last), plain])
        first, last = local_text(begin, end, zone, wider=True)
        perhaps = some([self._within(name, first, last), none_of(plain)])
        return Bound(every([near, perhaps]).upper, surely.lower)
