"""Expressions as SQL for DuckDB: conditions on values of a row, which SQL of the row gives.

Enters: an `Expression` whose slots name *sources*, and SQL for each of these. Leaves: a `Compiled` condition.
A source is SQL three times: as JSON, as a text and as a number (a double), so that a comparison with a column
of a file reads that column and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Any, Final, Protocol

from mixdown.model.expression import Context, Expression
from mixdown.model.expression_values import SECONDS_UP_TO
from mixdown.store.dialect import NEVER, Bound, Sql, every, none_of, some, sure
from mixdown.store.filters import Compiled, compile_with
from mixdown.store.moments import LOCAL, days_around, local_text, milliseconds_fit

UNDECIDED: Final = "'?'"
_EXACT: Final = 2**53
"""Integers below this are exact as doubles."""


class Source(Protocol):
    """A value as SQL: `json` is NULL where it is absent, `text` and `number` where it is none."""

    @property
    def json(self) -> str:
        """It as JSON."""

    @property
    def text(self) -> str:
        """It as VARCHAR."""

    @property
    def number(self) -> str:
        """It as DOUBLE."""


def compile_filter(expression: Expression, sources: Mapping[str, Source], context: Context) -> Compiled:
    """The condition that selects what `expression` matches; `undecided` is not null where Python decides."""
    return compile_with(_Duck(sources), expression, context)


class _Duck:
    """`Dialect` of DuckDB."""

    document = UNDECIDED

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = sources

    def _json_is(self, name: str, rest: str) -> Bound:
        return sure(Sql(f"CAST({self._sources[name].json} AS VARCHAR) {rest}"))

    def _text_is(self, name: str, rest: str, *bindings: Any) -> Bound:
        return sure(Sql(f"{self._sources[name].text} {rest}", bindings))

    def _number_is(self, name: str, rest: str, *bindings: Any) -> Bound:
        return sure(Sql(f"{self._sources[name].number} {rest}", bindings))

    # --- types ------------------------------------------------------------------------------------

    def is_absent(self, name: str) -> Bound:
        return sure(Sql(f"{self._sources[name].json} IS NULL"))

    def is_null(self, name: str) -> Bound:
        return self._json_is(name, "= 'null'")

    def is_boolean(self, name: str, *, value: bool) -> Bound:
        return self._json_is(name, "= 'true'" if value else "= 'false'")

    def is_no(self, name: str) -> Bound:
        return sure(
            Sql(f"coalesce(CAST({self._sources[name].json} AS VARCHAR), 'null') IN ('null', 'false')")
        )

    def is_text(self, name: str) -> Bound:
        return self._text_is(name, "IS NOT NULL")

    def is_list(self, name: str) -> Bound:
        return sure(Sql(f"json_type({self._sources[name].json}) IN ('ARRAY', 'OBJECT')"))

    def is_truthy(self, name: str) -> Bound:
        source = self._sources[name]
        return sure(
            Sql(
                f"coalesce({source.text} NOT IN ('', 'false'), {source.number} <> 0, "
                f"CAST({source.json} AS VARCHAR) NOT IN ('null', 'false'))"
            )
        )

    def present(self, name: str) -> Bound:
        return self._json_is(name, "<> 'null'")

    # --- values -----------------------------------------------------------------------------------

    def text_in(self, name: str, values: Sequence[str]) -> Bound:
        return self._text_is(name, f"IN ({', '.join(['?::VARCHAR'] * len(values))})", *values)

    def number_in(self, name: str, values: Sequence[float]) -> Bound:
        """Integers from 2^53 on are looked at by Python: as doubles they may be equal to others."""
        near = [value for value in values if abs(value) < _EXACT]
        bounds = [self._number_is(name, f"IN ({', '.join(['?::DOUBLE'] * len(near))})", *map(float, near))]
        if len(near) < len(values):
            far = self._number_is(name, f"NOT BETWEEN {1 - _EXACT} AND {_EXACT - 1}")
            bounds.append(Bound(far.upper, NEVER.lower))
        return some(bounds if near else bounds[1:])

    def text_order(self, name: str, operator: str, value: str) -> Bound:
        return self._text_is(name, f"{operator} ?::VARCHAR", value)

    def number_order(self, name: str, operator: str, value: float) -> Bound:
        if abs(value) < _EXACT:
            return self._number_is(name, f"{operator} ?::DOUBLE", float(value))
        return Bound(self._number_is(name, "IS NOT NULL").upper, NEVER.lower)

    def has_part(self, name: str, part: str) -> Bound:
        if not part:
            return self.is_text(name)
        return sure(Sql(f"contains({self._sources[name].text}, ?::VARCHAR)", (part,)))

    def has_element(self, name: str, value: Any) -> Bound:
        if type(value) in (int, float) and abs(value) >= _EXACT:
            return Bound(self.is_list(name).upper, NEVER.lower)
        bindings: tuple[Any, ...] = (value,)
        if value is None or type(value) is bool:
            word = {None: "null", True: "true", False: "false"}[value]
            element, bindings = f"CAST(item AS VARCHAR) = '{word}'", ()
        elif type(value) is str:
            element = "json_type(item) = 'VARCHAR' AND item ->> '$' = ?::VARCHAR"
        else:
            element, bindings = "TRY_CAST(CAST(item AS VARCHAR) AS DOUBLE) = ?::DOUBLE", (float(value),)
        items = f"json_extract({self._sources[name].json}, '$[*]')"
        found = sure(Sql(f"len(list_filter({items}, lambda item: {element})) > 0", bindings))
        return every([sure(Sql(f"json_type({self._sources[name].json}) = 'ARRAY'")), found])

    def has_affix(self, name: str, affix: str, *, at_end: bool) -> Bound:
        """What is not ASCII has rules of its own for case: it is for Python."""
        folded = affix.casefold()
        if not folded:
            return self.is_text(name)
        text = self._sources[name].text
        function = "ends_with" if at_end else "starts_with"
        foreign = sure(Sql(f"strlen({text}) <> length({text})"))
        if not folded.isascii():
            return Bound(foreign.upper, NEVER.lower)
        fits = every([none_of(foreign), sure(Sql(f"{function}(lower({text}), ?::VARCHAR)", (folded,)))])
        return some([every([self.is_text(name), fits]), Bound(foreign.upper, NEVER.lower)])

    # --- times ------------------------------------------------------------------------------------

    def moment(self, name: str, begin: int | None, end: int | None, zone: tzinfo) -> Bound:
        return some([self._text_moment(name, begin, end, zone), self._numeric_moment(name, begin, end)])

    def _numeric_moment(self, name: str, begin: int | None, end: int | None) -> Bound:
        if not milliseconds_fit(begin, end):
            return Bound(self._number_is(name, "IS NOT NULL").upper, NEVER.lower)
        low = [self._number_is(name, ">= ?::DOUBLE", float(1 if begin is None else max(begin, 1)))]
        low.append(self._number_is(name, f"<= {SECONDS_UP_TO}"))
        high = [self._number_is(name, f"> {SECONDS_UP_TO}")]
        if begin is not None:
            high.append(self._number_is(name, ">= ?::DOUBLE", begin * 1000.0))
        if end is not None:
            low.append(self._number_is(name, "< ?::DOUBLE", float(end)))
            high.append(self._number_is(name, "< ?::DOUBLE", end * 1000.0))
        return some([every(low), every(high)])

    def _text_moment(self, name: str, begin: int | None, end: int | None, zone: tzinfo) -> Bound:
        """Texts in the form that Mixdown writes are compared as texts; all others are for Python."""
        text = self._sources[name].text
        plain = sure(Sql(f"strftime(try_strptime({text}, '{LOCAL}'), '{LOCAL}') = {text}"))
        near = self._between(name, *days_around(begin, end))
        surely = every([self._between(name, *local_text(begin, end, zone, wider=False)), plain])
        perhaps = some([self._between(name, *local_text(begin, end, zone, wider=True)), none_of(plain)])
        return Bound(every([near, perhaps]).upper, every([near, surely]).lower)

    def _between(self, name: str, first: str, last: str | None) -> Bound:
        bounds = [self._text_is(name, ">= ?::VARCHAR", first)]
        if last is not None:
            bounds.append(self._text_is(name, "< ?::VARCHAR", last))
        return every(bounds)
