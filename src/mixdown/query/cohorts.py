"""Cohorts as readers see them: each with how many profiles it has now; and new ones, checked.

What enters: a store, a project, and the time. What leaves: cohorts with counts. A count is exact as of the
watermark that it was made at; where counting took long, it may be older, by at most 20 times what that took
and never by more than a minute. Everything here blocks and belongs in a thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import msgspec
import orjson

from mixdown.model.errors import QueryError, ReadTimeoutError, TooMuchAtOnceError
from mixdown.model.expression import Context
from mixdown.model.expression_nodes import LOOKUP
from mixdown.model.times import iso_seconds
from mixdown.model.values import clean_text
from mixdown.query.behaviors import BEHAVIORS, read_behaviors, split
from mixdown.query.choosing import Filters, choose, read_expression, saved_expression
from mixdown.query.contexts import Rules, context_of, rules_in
from mixdown.query.engage import ProfileQueries, ProfileQuery
from mixdown.query.events.reader import EventReads
from mixdown.store import bounds
from mixdown.store.lookup_tables import LookupTable
from mixdown.store.protocols import Cohort, Cohorts, Store
from mixdown.store.selection import Selection

KEPT_TIMES: Final = 20
KEPT_LIMIT_S: Final = 60.0
COUNTS_KEPT: Final = 10_000
NO_WHERE: Final = "behaviors, where must say what they are to be: a list of ids has none"
NAME_LIMIT_CHARS: Final = 255
DESCRIPTION_LIMIT_CHARS: Final = 2000


class Counted(msgspec.Struct, frozen=True):
    """A cohort and how many profiles it has; for a list of ids, how many ids. None: that is not known."""

    cohort: Cohort
    count: int | None


class _Kept(msgspec.Struct, frozen=True):
    """A count, the watermark and second it was made at, when it was begun, and how long it took.

    `contents` are those of the project's lookup tables, where the expression names one; `rules` are how the
    project read times and texts. Where counting `failed`, the count is the last that was
    known, if one was, and the time that of its end.
    """

    count: int | None
    watermark: int
    now_s: int
    at_s: float
    took_s: float
    contents: frozenset[int]
    rules: Rules
    expression: str | None
    failed: bool = False


_guard: Final = threading.Lock()
_kept: Final[WeakKeyDictionary[Cohorts, dict[int, _Kept]]] = WeakKeyDictionary()


def counted(
    store: Store,
    cohorts: Sequence[Cohort],
    *,
    now_ms: int,
    reads: EventReads | None = None,
    clock: Callable[[], float] = time.monotonic,
    lenient: bool = False,
) -> list[Counted]:
    """These cohorts of one project with their counts, made in as few passes over the profiles as can be.

    `reads` is where events are read, for cohorts that count them: each of these takes a pass of its own, and
    is counted once all others are. Where it is `lenient`, one that cannot be counted in the time and memory
    that there are has the count that was last known, or none, and its turn comes again later; so none of
    these keeps the others from being listed.
    Raises `StoreError`, `ReadTimeoutError`, `QueryError` (400).
    """
    if not cohorts:
        return []
    counting = _Counting.of(store, cohorts, now_ms, reads, clock)
    began = clock()
    counts: dict[int, int | None] = {}
    wanted: dict[str, list[Cohort]] = {}
    acting: list[Cohort] = []
    for cohort in cohorts:
        kept = counting.kept(cohort, began)
        if cohort.expression is None:
            counts[cohort.id] = sum(1 for _ in store.cohorts.ids(cohort.id))
        elif kept is not None and (lenient or not kept.failed):
            counts[cohort.id] = kept.count
        elif cohort.behaviors:
            acting.append(cohort)
        else:
            wanted.setdefault(cohort.group_key, []).append(cohort)
    for group_key, some in wanted.items():
        began = clock()
        selections = [_selection(store, cohort, counting.context) for cohort in some]
        tallied = store.state.tally(some[0].project, group_key, selections)
        took = clock() - began
        if len(counting.known) >= COUNTS_KEPT:
            counting.known.clear()
        for cohort, count in zip(some, tallied, strict=True):
            counts[cohort.id] = count
            counting.keep(cohort, count, began, took)
    for cohort in sorted(acting, key=counting.took_s):  # what there is time for comes first
        counts[cohort.id] = counting.count_acting(cohort, lenient=lenient)
    return [Counted(cohort, counts[cohort.id]) for cohort in cohorts]


class _Counting(msgspec.Struct, frozen=True):
    """What cohorts of one project are counted by, and what is known of them."""

    store: Store
    now_ms: int
    reads: EventReads | None
    clock: Callable[[], float]
    context: Context
    watermark: int
    tables: list[LookupTable]
    known: dict[int, _Kept]

    @classmethod
    def of(
        cls,
        store: Store,
        cohorts: Sequence[Cohort],
        now_ms: int,
        reads: EventReads | None,
        clock: Callable[[], float],
    ) -> _Counting:
        """As things stand now."""
        context = context_of(store, cohorts[0].project, now_ms=now_ms)
        with _guard:
            known = _kept.setdefault(store.cohorts, {})
        watermark = store.state.watermark()
        projects = {cohort.project for cohort in cohorts if LOOKUP in _asked(cohort)}
        tables = [table for project in projects for table in store.lookup_tables.listing(project)]
        return cls(store, now_ms, reads, clock, context, watermark, tables, known)

    def kept(self, cohort: Cohort, at_s: float) -> _Kept | None:
        """What is known of a cohort, where that is still good."""
        kept = self._last(cohort)
        if kept is None or (kept.contents, kept.rules) != (
            _contents(self.tables, cohort),
            rules_in(self.context),
        ):
            return None
        return kept if _is_good(kept, cohort, self.watermark, self.now_ms // 1000, at_s) else None

    def keep(
        self, cohort: Cohort, count: int | None, at_s: float, took_s: float, *, failed: bool = False
    ) -> None:
        """Keep a count."""
        contents, rules = _contents(self.tables, cohort), rules_in(self.context)
        self.known[cohort.id] = _Kept(
            count, self.watermark, self.now_ms // 1000, at_s, took_s, contents, rules, _asked(cohort), failed
        )

    def took_s(self, cohort: Cohort) -> float:
        """How long it took to count a cohort, or to find that it could not be done; 0 where it was not."""
        last = self._last(cohort)
        return 0.0 if last is None else last.took_s

    def count_acting(self, cohort: Cohort, *, lenient: bool) -> int | None:
        """A cohort that counts events. Where it is `lenient`, what was last known of one that cannot be."""
        began = self.clock()
        try:
            found = members(self.store, cohort, now_ms=self.now_ms, reads=self.reads)
            count = sum(1 for _ in found)
        except (QueryError, ReadTimeoutError, TooMuchAtOnceError):
            if not lenient:
                raise
            last, ended = self._last(cohort), self.clock()
            known = None if last is None else last.count
            self.keep(cohort, known, ended, ended - began, failed=True)
            return known
        self.keep(cohort, count, began, self.clock() - began)
        return count

    def _last(self, cohort: Cohort) -> _Kept | None:
        """What was found when what a cohort asks for was last counted."""
        kept = self.known.get(cohort.id)
        return kept if kept is not None and kept.expression == _asked(cohort) else None


def cohort_view(counted: Counted) -> dict[str, Any]:
    """A cohort as Mixdown's own API and its command line show it; `where` is null for a list of ids."""
    cohort = counted.cohort
    return {
        "id": cohort.id,
        "project_id": cohort.project,
        "name": cohort.name,
        "description": cohort.description,
        "group_key": cohort.group_key or None,
        "where": cohort.expression,
        "behaviors": orjson.loads(cohort.behaviors) if cohort.behaviors else None,
        "count": counted.count,
        "created": iso_seconds(cohort.created_ms),
    }


def members(store: Store, cohort: Cohort, *, now_ms: int, reads: EventReads | None = None) -> Iterator[str]:
    """The ids of a cohort's members, ascending: for a list all of its ids.

    `reads` is where events are read, for one that counts them. Raises `StoreError`, `QueryError` (400).
    """
    if cohort.expression is None:
        return store.cohorts.ids(cohort.id)
    if cohort.behaviors:
        choice = choose(store, cohort.project, Filters(), now_ms=now_ms, reads=reads, cohort=cohort)
        return ProfileQueries(store).matching(ProfileQuery(project=cohort.project), choice)
    context = context_of(store, cohort.project, now_ms=now_ms)
    return store.state.matching(cohort.project, cohort.group_key, _selection(store, cohort, context))


def new_cohort(
    store: Store,
    project: int,
    name: str,
    *,
    description: str,
    group_key: str,
    expression: str | None,
    behaviors: Any = None,
    now_ms: int,
) -> Cohort:
    """A cohort to be made, its texts checked. Raises `QueryError` (400) naming the field that is wrong.

    `behaviors` are counts of events that the expression reads, None or a list as JSON has it.
    """
    name, description = _checked_name(name), _checked_description(description)
    if expression is not None:
        _check_expression(store, project, expression)
    held = "" if behaviors is None else _checked_behaviors(store, project, expression, behaviors, now_ms)
    made = Cohort(project, name, description, clean_text(group_key), expression, now_ms)
    return msgspec.structs.replace(made, behaviors=held)


def _checked_behaviors(
    store: Store, project: int, expression: str | None, behaviors: Any, now_ms: int
) -> str:
    """Behaviors as they are kept. Raises `QueryError` (400)."""
    if expression is None:
        raise QueryError(NO_WHERE, status=400)
    text = orjson.dumps(behaviors).decode()
    tables = store.lookup_tables.tables(project)
    found = read_behaviors(text, tables, as_of_ms=now_ms, zone=context_of(store, project, now_ms=now_ms).zone)
    where = read_expression("where", expression, tables)
    split([("where", where)], frozenset(each.name for each in found))
    return text


class CohortChange(NamedTuple):
    """What of a cohort is to change; None leaves it."""

    name: str | None = None
    description: str | None = None
    expression: str | None = None
    behaviors: Any = None


def checked_change(
    store: Store, project: int, change: CohortChange, held: Cohort | None, *, now_ms: int
) -> CohortChange:
    """A change of the cohort `held`, checked as a new one is. Raises `QueryError` (400)."""
    where = change.expression or (None if held is None else held.expression)
    if change.expression is not None:
        _check_expression(store, project, change.expression)
    return CohortChange(
        name=None if change.name is None else _checked_name(change.name),
        description=None if change.description is None else _checked_description(change.description),
        expression=change.expression,
        behaviors=_changed_behaviors(store, project, change, held, where, now_ms),
    )


def _changed_behaviors(
    store: Store, project: int, change: CohortChange, held: Cohort | None, where: str | None, now_ms: int
) -> str | None:
    """Behaviors after a change, None where they stay: an expression that reads none drops them."""
    if change.behaviors is not None:
        return _checked_behaviors(store, project, where, change.behaviors, now_ms)
    if change.expression is None or held is None or not held.behaviors:
        return None
    read = read_expression("where", change.expression, store.lookup_tables.tables(project))
    if all(slot.accessor != BEHAVIORS for slot in read.slots):
        return ""
    return _checked_behaviors(store, project, where, orjson.loads(held.behaviors), now_ms)


def _checked_name(name: str) -> str:
    name = clean_text(name).strip()
    if not name or len(name) > NAME_LIMIT_CHARS or not name.isprintable():
        raise QueryError(f"name, must be 1 to {NAME_LIMIT_CHARS} printable characters", status=400)
    return name


def _checked_description(description: str) -> str:
    if len(description) > DESCRIPTION_LIMIT_CHARS:
        raise QueryError(f"description, must be at most {DESCRIPTION_LIMIT_CHARS} characters", status=400)
    return clean_text(description).strip()


def _check_expression(store: Store, project: int, expression: str) -> None:
    tables = store.lookup_tables.tables(project)
    if read_expression("where", expression, tables).is_blank:
        raise QueryError("where, an expression is missing", status=400)


def checked_ids(ids: Sequence[str]) -> list[str]:
    """Ids for a list, cleaned as stored ids are. Raises `QueryError` (400)."""
    if len(ids) > bounds.COHORT_IDS:
        raise QueryError(f"distinct_ids, a cohort lists at most {bounds.COHORT_IDS} ids", status=400)
    return [profile_id for profile_id in map(clean_text, ids) if profile_id]


def _selection(store: Store, cohort: Cohort, context: Context) -> Selection:
    return Selection(context=context, where=(saved_expression(store, cohort),))


def _contents(tables: Sequence[LookupTable], cohort: Cohort) -> frozenset[int]:
    """What its project's lookup tables hold, for a cohort that may name one."""
    if LOOKUP not in _asked(cohort):
        return frozenset()
    return frozenset([table.content for table in tables if table.project == cohort.project])


def _asked(cohort: Cohort) -> str:
    """What a cohort asks for."""
    return f"{cohort.expression}\0{cohort.behaviors}"


def _is_good(kept: _Kept, cohort: Cohort, watermark: int, now_s: int, at_s: float) -> bool:
    if cohort.behaviors:  # events come and windows move while no profile changes
        return at_s - kept.at_s < min(KEPT_TIMES * kept.took_s, KEPT_LIMIT_S)
    same_time = kept.now_s == now_s or "NOW" not in (cohort.expression or "")
    age_s = at_s - kept.at_s
    return (kept.watermark == watermark and same_time) or age_s < min(KEPT_TIMES * kept.took_s, KEPT_LIMIT_S)
