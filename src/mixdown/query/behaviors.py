"""What persons did, as counts that a filter over profiles may read: `behaviors["name"] > 0`.

Definitions enter as clients send them (contract query §2.1), a list of names, windows and events; ids leave:
those of the persons, or groups, whose counts a filter wants, ascending by code point. Events are counted as
reports count them (`query/reports/rows.py`): once each, by the person that they are of as ids are linked now,
in bounded memory and time. Counts are sorted on the disk where they are many; ids are taken from them, and
from the profiles, side by side, so that never more than a batch of either is held.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date, timedelta, timezone, tzinfo
from itertools import islice
from typing import Any, Final

import msgspec
import orjson

from mixdown.model.errors import ExpressionError, QueryError
from mixdown.model.expression import Context, Expression, parse, row_of
from mixdown.model.expression_nodes import LOOKUP, Access, Logical, Node, parts_of
from mixdown.model.lookup import Tables
from mixdown.model.values import clean_text
from mixdown.query.contexts import rules_in
from mixdown.query.events.buckets import Span, span_of_days, today
from mixdown.query.events.reader import EventReads
from mixdown.query.events.where import Selector
from mixdown.query.reports.rows import ReportRows, Wanted, report_rows
from mixdown.store import patience

BEHAVIORS: Final = "behaviors"
BEHAVIORS_LIMIT: Final = 20
SELECTORS_LIMIT: Final = 20
NAME_LIMIT_CHARS: Final = 255
DEFINITION_LIMIT_BYTES: Final = 64 * 1024
DAYS_LIMIT: Final = 3660
BAD: Final = (
    f"behaviors, must be a list of 1 to {BEHAVIORS_LIMIT} objects as "
    '{"name": "bought", "window": "30d", "event_selectors": [{"event": "Purchase"}]}'
)
BAD_WINDOW: Final = (
    f"behaviors, window must be a number of days, hours or weeks as 30d, 12h or 4w, up to {DAYS_LIMIT} days"
)
BAD_DATES: Final = "behaviors, from_date and to_date must be days as YYYY-MM-DD, and stand without a window"
BAD_ORDER: Final = "behaviors, from_date is later than to_date, or than the time that is asked about"
BAD_NAME: Final = f"behaviors, each needs a name of its own of 1 to {NAME_LIMIT_CHARS} characters"
BAD_SELECTORS: Final = (
    f"behaviors, event_selectors must be a list of 1 to {SELECTORS_LIMIT} objects as "
    '{"event": "Purchase", "selector": "…"}'
)
UNKNOWN: Final = "{name}, there is no behavior {behavior}: name it in behaviors"
_HOUR_MS: Final = 3_600_000
_UNITS: Final = {"h": _HOUR_MS, "d": 24 * _HOUR_MS, "w": 7 * 24 * _HOUR_MS}
_WINDOW: Final = re.compile(r"([0-9]{1,6})([hdw])")
_FIELDS: Final = frozenset({"name", "window", "event_selectors", "from_date", "to_date"})
_SELECTOR_FIELDS: Final = frozenset({"event", "selector"})
_EARLIEST_MS: Final = 0
_EASTERNMOST: Final = timezone(timedelta(hours=14))
"""Where a day begins first: whoever asks may be there."""
_ROWS_AT_ONCE: Final = 1000
_KEPT: Final = 10_000
QUESTION_LIMIT_CHARS: Final = 8192


class Behavior(msgspec.Struct, frozen=True):
    """A count: how many events in [since_ms, until_ms) one of `selectors` matches."""

    name: str
    selectors: tuple[Selector, ...]
    since_ms: int
    until_ms: int


def read_definitions(text: str) -> list[dict[str, Any]]:
    """The definitions in a text of JSON, their shape checked. Raises `QueryError` (400)."""
    if len(text.encode("utf-8", "replace")) > DEFINITION_LIMIT_BYTES:
        raise QueryError(f"behaviors, must have at most {DEFINITION_LIMIT_BYTES} bytes", status=400)
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise QueryError("behaviors, must be JSON", status=400) from None
    if not isinstance(given, list) or not 0 < len(given) <= BEHAVIORS_LIMIT:
        raise QueryError(BAD, status=400)
    if not all(isinstance(each, dict) and each.keys() <= _FIELDS for each in given):
        raise QueryError(BAD, status=400)
    names = [each.get("name") for each in given]
    for name in names:
        if not isinstance(name, str) or not 0 < len(name) <= NAME_LIMIT_CHARS or names.count(name) > 1:
            raise QueryError(BAD_NAME, status=400)
    return given


def read_behaviors(
    text: str, tables: Tables, *, as_of_ms: int, zone: tzinfo, lenient: bool = False
) -> tuple[Behavior, ...]:
    """The behaviors that a text of JSON defines, as of a time. Raises `QueryError` (400).

    Lookup tables and columns that are not there are refused, or, where it is `lenient`, undefined: what was
    saved may outlive the tables that it names.
    """
    found = []
    for each in read_definitions(text):
        selectors = _selectors(each.get("event_selectors"), tables, lenient=lenient)
        span = _span(each, as_of_ms, zone, lenient=lenient)
        found.append(Behavior(each["name"], selectors, *span))
    return tuple(found)


def _span(given: dict[str, Any], as_of_ms: int, zone: tzinfo, *, lenient: bool) -> Span:
    """The window that ends with `as_of_ms`, both ends in it; or days of the zone; or all time till then.

    A first day that comes after the last is refused, or, where it is `lenient`, one on which nothing is.
    """
    window = given.get("window")
    dates = [given.get(name) for name in ("from_date", "to_date")]
    if any(each is not None for each in dates):
        if window is not None:
            raise QueryError(BAD_DATES, status=400)
        first, last = (_day(each) for each in dates)
        if not lenient and first is not None and first > (last or today(as_of_ms, _EASTERNMOST)):
            raise QueryError(BAD_ORDER, status=400)
        days = span_of_days(first or date.min, last or date.max, zone)
        return Span(days.since_ms, days.until_ms if last else min(days.until_ms, as_of_ms + 1))
    if window is None:
        return Span(_EARLIEST_MS, as_of_ms + 1)
    found = _WINDOW.fullmatch(window.strip()) if isinstance(window, str) else None
    length_ms = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < length_ms <= DAYS_LIMIT * _UNITS["d"]:
        raise QueryError(BAD_WINDOW, status=400)
    return Span(max(_EARLIEST_MS, as_of_ms - length_ms), as_of_ms + 1)


def _day(given: Any) -> date | None:
    if given is None:
        return None
    try:
        return date.fromisoformat(given.strip())
    except (ValueError, AttributeError):
        raise QueryError(BAD_DATES, status=400) from None


def _selectors(given: Any, tables: Tables, *, lenient: bool) -> tuple[Selector, ...]:
    if not isinstance(given, list) or not 0 < len(given) <= SELECTORS_LIMIT:
        raise QueryError(BAD_SELECTORS, status=400)
    found = []
    for each in given:
        if not isinstance(each, dict) or not each.keys() <= _SELECTOR_FIELDS:
            raise QueryError(BAD_SELECTORS, status=400)
        event, text = each.get("event"), each.get("selector")
        if not isinstance(event, str) or not event or not isinstance(text, str | None):
            raise QueryError(BAD_SELECTORS, status=400)
        try:
            found.append(Selector(parse(text or "", tables, lenient=lenient), (clean_text(event),)))
        except ExpressionError as error:
            raise QueryError(f"behaviors, selector, {error.message}", status=400) from None
    return tuple(found)


# --- what of a filter reads counts


def split(
    expressions: Sequence[tuple[str, Expression]], names: frozenset[str]
) -> tuple[tuple[Expression, ...], tuple[Expression, ...]]:
    """What of filters reads profiles alone, and what reads counts: all of both must be true.

    `expressions` come with the name of the parameter that each was; `names` are those of the behaviors.
    Raises `QueryError` (400) where another one is read.
    """
    plain: list[Expression] = []
    counting: list[Expression] = []
    for parameter, expression in expressions:
        for slot in expression.slots:
            if slot.accessor == BEHAVIORS and slot.name not in names:
                told = UNKNOWN.format(name=parameter, behavior=orjson.dumps(slot.name).decode())
                raise QueryError(told, status=400)
        for part in _conjuncts(expression.tree):
            one = Expression(expression.text, part, expression.slots)
            (counting if BEHAVIORS in _accessors(one) else plain).append(one)
    return tuple(plain), tuple(counting)


def _conjuncts(node: Node) -> tuple[Node, ...]:
    """Nodes that are all true where a node is."""
    if isinstance(node, Logical) and node.operator == "and":
        return tuple(part for operand in node.operands for part in _conjuncts(operand))
    return (node,)


def _accessors(expression: Expression) -> frozenset[str]:
    """Of what an expression's tree reads something."""
    found, left = set(), [expression.tree]
    while left:
        node = left.pop()
        if isinstance(node, Access):
            found.add(expression.slots[node.place].accessor)
        left += parts_of(node)
    return frozenset(found)


# --- who


class Acted(msgspec.Struct, frozen=True, kw_only=True):
    """Those whose counts are wanted: `counting` holds expressions over counts, all of which must be true.

    `defined` is what the behaviors were read from: their text, and the time that they end with (0: now).
    """

    reads: EventReads
    project: int
    group_key: str
    behaviors: tuple[Behavior, ...]
    counting: tuple[Expression, ...]
    context: Context
    now_ms: int
    defined: tuple[str, int] = ("", 0)

    @property
    def question(self) -> tuple[Any, ...] | None:
        """All that is asked but for the time; None where it depends on more, or is too long to be kept."""
        texts = (self.defined[0], *(one.text for one in self.counting))
        if any(LOOKUP in text for text in texts) or sum(map(len, texts)) > QUESTION_LIMIT_CHARS:
            return None
        return (self.project, self.group_key, *self.defined, texts, rules_in(self.context))

    def ids(self) -> Iterator[str]:
        """Their ids, ascending; an id may have no profile. Blocks. Raises `QueryError`, `StoreError`."""
        alone = [one for one in self.counting if _accessors(one) == {BEHAVIORS}]
        mixed = [one for one in self.counting if one not in alone]
        wants = self._judge(alone)
        nothing = (0,) * len(self.behaviors)
        with self._counts() as rows:
            counted = self._stored(rows)
            # those who did nothing have profiles, and no counts
            found = self._beside_profiles(counted, nothing) if wants("", nothing, b"") else counted
            some = ((one, counts) for one, counts in found if wants(one, counts, b""))
            yield from self._matching(some, mixed) if mixed else (one for one, _ in some)

    def _counts(self) -> Any:
        spans = [(each.since_ms, each.until_ms) for each in self.behaviors]
        wanted = Wanted(
            project=self.project,
            span=Span(min(since for since, _ in spans), max(until for _, until in spans)),
            selectors=tuple(selector for each in self.behaviors for selector in each.selectors),
            group_key=self.group_key,
        )
        return report_rows(self.reads, wanted, now_ms=self.now_ms)

    def _stored(self, rows: ReportRows) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Counts by person, ascending: of those who did anything that is counted."""
        columns, place = [], 0
        for number, each in enumerate(self.behaviors):
            matches = " OR ".join(f"match{place + at}" for at in range(len(each.selectors)))
            place += len(each.selectors)
            within = f"epoch_ms(time) >= {each.since_ms:d} AND epoch_ms(time) < {each.until_ms:d}"
            columns.append(f"count(*) FILTER (WHERE ({matches}) AND {within}) AS n{number}")
        rows.run(
            f"CREATE TEMP TABLE counts AS SELECT person, {', '.join(columns)} "  # noqa: S608 - ours
            f"FROM {rows.relation.sql} "
            f"GROUP BY person HAVING {' OR '.join(f'n{number} > 0' for number in range(len(columns)))}",
            rows.relation.parameters,
        )
        for person, *counts in rows.rows("SELECT * FROM counts ORDER BY person"):
            yield person, tuple(counts)

    def _beside_profiles(
        self, counted: Iterator[tuple[str, tuple[int, ...]]], nothing: tuple[int, ...]
    ) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Counts of all who have a profile or did anything, ascending."""
        ahead = next(counted, None)
        for number, one in enumerate(self.reads.state.ids(self.project, self.group_key)):
            if number % _ROWS_AT_ONCE == 0:
                patience.check()
            while ahead is not None and ahead[0] < one:
                yield ahead
                ahead = next(counted, None)
            if ahead is not None and ahead[0] == one:
                yield ahead
                ahead = next(counted, None)
            else:
                yield one, nothing
        if ahead is not None:
            yield ahead
            yield from counted

    def _judge(self, expressions: Sequence[Expression]) -> Any:
        """Whether an id with these counts and this document is one of those whom all expressions match."""
        runs = [(one, one.predicate(self.context)) for one in expressions]
        names = [each.name for each in self.behaviors]
        known: dict[tuple[int, ...], bool] = {}

        def wants(one: str, counts: tuple[int, ...], document: bytes) -> bool:
            if not document and counts in known:
                return known[counts]
            properties = orjson.loads(document) if document else {}
            by_name = dict(zip(names, counts, strict=True))
            told = all(run(row_of(each, properties, one, by_name)) for each, run in runs)
            if not document and len(known) < _KEPT:
                known[counts] = told
            return told

        return wants

    def _matching(
        self, found: Iterator[tuple[str, tuple[int, ...]]], mixed: Sequence[Expression]
    ) -> Iterator[str]:
        """Those whom expressions match that read counts and profiles at once."""
        wants = self._judge(mixed)
        while some := list(islice(found, _ROWS_AT_ONCE)):
            patience.check()
            keys = [(self.project, self.group_key, one) for one, _ in some]
            documents = self.reads.state.documents(keys)
            for (one, counts), document in zip(some, documents, strict=True):
                if wants(one, counts, document or b"{}"):
                    yield one
