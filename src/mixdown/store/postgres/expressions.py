"""Expressions as SQL for PostgreSQL: conditions on a profile's document, which is `jsonb`.

Enters: an `Expression`. Leaves: a `Compiled` condition with placeholders as psycopg has them (`%s`).

Documents must have been written by `documents.jsonb_of`: then numbers, which `jsonb` keeps as decimals,
compare as they do in Python. Texts compare by code point (`COLLATE "C"`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import Any, Final

from mixdown.model.expression import ID_NAMES, Context, Expression
from mixdown.model.expression_values import SECONDS_UP_TO
from mixdown.store.dialect import NEVER, Bound, Sql, every, none_of, some, sure
from mixdown.store.filters import Compiled, compile_with
from mixdown.store.moments import days_around, local_text, milliseconds_fit
from mixdown.store.postgres.documents import written

_PLAIN_TIME: Final = (
    "^[0-9]{4}-("
    "(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31"
    ")T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]$"
)
"""Times in the form that Mixdown writes; the 29th of February is for Python."""


def compile_filter(expression: Expression, context: Context) -> Compiled:
    """The condition that selects what `expression` matches, over `p.id` (text) and `p.document` (jsonb)."""
    return compile_with(_Postgres(), expression, context)


class _Postgres:
    """`Dialect` of PostgreSQL."""

    document = "p.document::text"

    # --- a property's value and type --------------------------------------------------------------

    @staticmethod
    def _json_of(name: str) -> Sql:
        given = "p.document -> %s::text"
        return Sql(f"coalesce({given}, to_jsonb(p.id))" if name in ID_NAMES else f"({given})", (name,))

    def _text_of(self, name: str) -> Sql:
        if name in ID_NAMES:
            value = self._json_of(name)
            return Sql(f"({value.text} #>> '{{}}')", value.bindings)
        return Sql("(p.document ->> %s::text)", (name,))

    def _is(self, name: str, rest: str, *bindings: Any) -> Bound:
        value = self._json_of(name)
        return sure(Sql(f"{value.text} {rest}", value.bindings + bindings))

    def _kind_is(self, name: str, rest: str) -> Bound:
        value = self._json_of(name)
        return sure(Sql(f"jsonb_typeof({value.text}) {rest}", value.bindings))

    def _text_is(self, name: str, rest: str, *bindings: Any) -> Bound:
        """A condition on its text, where it is one."""
        value = self._text_of(name)
        return every([self.is_text(name), sure(Sql(f"{value.text} {rest}", value.bindings + bindings))])

    # --- types ------------------------------------------------------------------------------------

    def is_absent(self, name: str) -> Bound:
        return self._is(name, "IS NULL")

    def is_null(self, name: str) -> Bound:
        return self._is(name, "= 'null'::jsonb")

    def is_boolean(self, name: str, *, value: bool) -> Bound:
        return self._is(name, f"= '{written(value)}'::jsonb")

    def is_no(self, name: str) -> Bound:
        value = self._json_of(name)
        return sure(Sql(f"coalesce({value.text}, 'null') IN ('null', 'false')", value.bindings))

    def is_text(self, name: str) -> Bound:
        return self._kind_is(name, "= 'string'")

    def is_list(self, name: str) -> Bound:
        return self._kind_is(name, "IN ('array', 'object')")

    def is_truthy(self, name: str) -> Bound:
        return self._is(name, """NOT IN ('null', '""', '"false"', '0', 'false')""")

    def present(self, name: str) -> Bound:
        return self._is(name, "<> 'null'::jsonb")

    # --- values -----------------------------------------------------------------------------------

    def _among(self, name: str, values: Sequence[Any]) -> Bound:
        if len(values) == 1:
            return self._is(name, "= %s::jsonb", written(values[0]))
        return self._is(name, "IN (SELECT jsonb_array_elements(%s::jsonb))", written(values))

    def text_in(self, name: str, values: Sequence[str]) -> Bound:
        return self._among(name, values)

    def number_in(self, name: str, values: Sequence[float]) -> Bound:
        return self._among(name, values)

    def text_order(self, name: str, operator: str, value: str) -> Bound:
        return self._text_is(name, f'COLLATE "C" {operator} %s::text', value)

    def number_order(self, name: str, operator: str, value: float) -> Bound:
        number = self._kind_is(name, "= 'number'")
        return every([number, self._is(name, f"{operator} %s::jsonb", written(value))])

    def has_part(self, name: str, part: str) -> Bound:
        value = self._text_of(name)
        found = Sql(f"strpos({value.text}, %s::text) > 0", (*value.bindings, part))
        return every([self.is_text(name), sure(found)])

    def has_element(self, name: str, value: Any) -> Bound:
        array = self._kind_is(name, "= 'array'")
        return every([array, self._is(name, "@> %s::jsonb", written([value]))])

    def has_affix(self, name: str, affix: str, *, at_end: bool) -> Bound:
        """ASCII is folded here; a text with other letters is for Python, unless it fits as it is."""
        value = self._text_of(name)
        folded = affix.casefold()
        if not folded:
            return self.is_text(name)
        source, wanted = (
            (f'lower({value.text} COLLATE "C")', folded) if folded.isascii() else (value.text, affix)
        )
        side = "right" if at_end else "left"
        fitting = Sql(f"{side}({source}, {len(wanted)}) = %s::text", (*value.bindings, wanted))
        fits = every([self.is_text(name), sure(fitting)])
        foreign = Sql(f"octet_length({value.text}) <> char_length({value.text})", value.bindings * 2)
        other = every([self.is_text(name), sure(foreign)])
        return some([fits, Bound(other.upper, NEVER.lower)])

    # --- times ------------------------------------------------------------------------------------

    def moment(self, name: str, begin: int | None, end: int | None, zone: tzinfo) -> Bound:
        return some([self._numeric_moment(name, begin, end), self._text_moment(name, begin, end, zone)])

    def _numeric_moment(self, name: str, begin: int | None, end: int | None) -> Bound:
        number = self._kind_is(name, "= 'number'")
        if not milliseconds_fit(begin, end):
            return Bound(number.upper, NEVER.lower)
        low = self._numbers(name, 1 if begin is None else max(begin, 1), end)
        seconds = every([low, self._is(name, "<= %s::jsonb", written(SECONDS_UP_TO))])
        high = self._numbers(
            name, None if begin is None else begin * 1000, None if end is None else end * 1000
        )
        milliseconds = every([high, self._is(name, "> %s::jsonb", written(SECONDS_UP_TO))])
        return every([number, some([seconds, milliseconds])])

    def _numbers(self, name: str, begin: int | None, end: int | None) -> Bound:
        bounds = [] if begin is None else [self._is(name, ">= %s::jsonb", written(begin))]
        if end is not None:
            bounds.append(self._is(name, "< %s::jsonb", written(end)))
        return every(bounds)

    def _texts(self, name: str, begin: str, end: str | None) -> Bound:
        value = self._text_of(name)
        limits = [(">=", begin)] if end is None else [(">=", begin), ("<", end)]
        return every(
            [
                sure(Sql(f'{value.text} COLLATE "C" {operator} %s::text', (*value.bindings, limit)))
                for operator, limit in limits
            ]
        )

    def _text_moment(self, name: str, begin: int | None, end: int | None, zone: tzinfo) -> Bound:
        """Texts in the form that Mixdown writes are compared as texts; all others are for Python."""
        plain = self._text_is(name, "~ %s::text", _PLAIN_TIME)
        near = every([self._texts(name, *days_around(begin, end)), self.is_text(name)])
        surely = every([self._texts(name, *local_text(begin, end, zone, wider=False)), plain])
        perhaps = some([self._texts(name, *local_text(begin, end, zone, wider=True)), none_of(plain)])
        return every([near, Bound(perhaps.upper, surely.lower)])
