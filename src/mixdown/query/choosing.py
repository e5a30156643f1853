"""What a read of profiles chooses: expressions, cohort, search, order: a `Choice` (contract query §2.1).

What enters: parameters as texts and numbers, the store, and the time. What leaves: the kind of profile, a
`Selection`, and the ids where the read names them. It reads cohorts and group keys, and no profile.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import msgspec

from mixdown.model.errors import ExpressionError, QueryError
from mixdown.model.expression import Expression, no_tables, parse
from mixdown.model.expression_nodes import LOOKUP
from mixdown.model.lookup import Tables
from mixdown.query.behaviors import Acted, read_behaviors, split
from mixdown.query.contexts import context_of
from mixdown.query.events.reader import EventReads
from mixdown.store.protocols import Cohort, Store
from mixdown.store.selection import Selection

SEARCH_LIMIT_CHARS: Final = 1000
ONE_OF_BOTH: Final = "behaviors, give either these or filter_by_cohort"
NO_EVENTS: Final = "behaviors, what persons did cannot be asked here"
_KEYS_NAMED: Final = 20


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """What narrows and orders a read: all texts as they were sent, "" where they were not.

    `data_group_id` is "" for users, else the id or the name of a group key; `cohort` 0 is none. `behaviors`
    is JSON, counts of what persons did as of `as_of_ms` (0: now), which `where` may read. `include_all_users`
    says whether those without a profile are chosen too, of a list of ids and of those who did something; None
    is yes for a cohort, and no otherwise.
    """

    data_group_id: str = ""
    where: str = ""
    selector: str = ""
    search: str = ""
    cohort: int = 0
    include_all_users: bool | None = None
    sort_key: str = ""
    descending: bool = False
    behaviors: str = ""
    as_of_ms: int = 0

    @property
    def are_given(self) -> bool:
        """Whether anything but the kind of profile was asked for: all of them must be looked through then."""
        texts = (self.where, self.selector, self.search, self.sort_key, self.behaviors)
        return bool(self.cohort) or any(texts)

    @property
    def depend_on_more(self) -> bool:
        """Whether the same filters may choose others though no profile has changed."""
        texts = (self.where, self.selector, self.sort_key)
        return bool(self.cohort or self.behaviors) or any("NOW" in text or LOOKUP in text for text in texts)


class Choice(msgspec.Struct, frozen=True):
    """Profiles of the kind `group_key` ("": users) that `selection` wants.

    `cohort` is a cohort whose ids are listed, to which the choice is limited; with `keeps_missing` its ids
    without a profile are chosen too, as if they had one without properties. `acted` limits it to those who
    did what is asked for.
    """

    group_key: str
    selection: Selection
    cohort: Cohort | None = None
    keeps_missing: bool = False
    acted: Acted | None = None

    @property
    def is_listed(self) -> bool:
        """Whether `listed_ids` gives its ids: the profiles need not be looked through."""
        return self.cohort is not None or self.acted is not None


def choose(
    store: Store,
    project: int,
    filters: Filters,
    *,
    now_ms: int,
    reads: EventReads | None = None,
    cohort: Cohort | None = None,
) -> Choice:
    """The choice that these filters make; `cohort` stands for the one that they name, saved or not.

    `reads` is where events are read, for filters that count them. Raises `QueryError` (400) naming the
    parameter that is wrong.
    """
    if cohort is None and filters.cohort:
        cohort = find_cohort(store, project, filters.cohort)
    group_key = group_key_of(store, project, filters.data_group_id)
    if cohort is not None:
        if filters.data_group_id and cohort.group_key != group_key:
            kind = f"of the group key {cohort.group_key}" if cohort.group_key else "of users"
            raise QueryError(f"filter_by_cohort, cohort {cohort.id} is one {kind}", status=400)
        group_key = cohort.group_key
    tables = store.lookup_tables.tables(project)
    texts = [("where", filters.where), ("selector", filters.selector)]
    expressions = [(name, read_expression(name, text, tables)) for name, text in texts]
    if cohort is not None and cohort.expression is not None:
        expressions.append((f"cohort {cohort.id}", saved_expression(store, cohort)))
    context = context_of(store, project, now_ms=now_ms)
    wanted = [(name, each) for name, each in expressions if not each.is_blank]
    where, acted = tuple(each for _, each in wanted), None
    definitions = filters.behaviors or ("" if cohort is None else cohort.behaviors)
    if definitions:
        if filters.behaviors and cohort is not None:
            raise QueryError(ONE_OF_BOTH, status=400)
        if reads is None:
            raise QueryError(NO_EVENTS, status=400)
        as_of_ms, saved = filters.as_of_ms or now_ms, not filters.behaviors
        behaviors = read_behaviors(definitions, tables, as_of_ms=as_of_ms, zone=context.zone, lenient=saved)
        where, counting = split(wanted, frozenset(each.name for each in behaviors))
        if counting:
            who: dict[str, Any] = {"project": project, "group_key": group_key, "now_ms": now_ms}
            who["defined"] = (definitions, filters.as_of_ms)
            acted = Acted(reads=reads, behaviors=behaviors, counting=counting, context=context, **who)
    selection = Selection(
        context=context,
        where=where,
        search=filters.search,
        sort_key=read_expression("sort_key", filters.sort_key, tables) if filters.sort_key.strip() else None,
        descending=filters.descending,
    )
    listed = cohort is not None and cohort.expression is None
    keeps_missing = (listed or acted is not None) and (
        cohort is not None if filters.include_all_users is None else filters.include_all_users
    )
    return Choice(group_key, selection, cohort if listed else None, keeps_missing, acted)


def read_expression(name: str, text: str, tables: Tables = no_tables, *, lenient: bool = False) -> Expression:
    """The expression that the parameter `name` holds. Raises `QueryError` (400) that names it.

    `tables` are the project's lookup tables; see `parse`.
    """
    try:
        return parse(text, tables, lenient=lenient)
    except ExpressionError as error:
        raise QueryError(f"{name}, {error.message}", status=400) from None


def saved_expression(store: Store, cohort: Cohort) -> Expression:
    """A cohort's expression; a lookup table or column that has gone since is undefined."""
    tables = store.lookup_tables.tables(cohort.project)
    return read_expression(f"cohort {cohort.id}", cohort.expression or "", tables, lenient=True)


def find_cohort(store: Store, project: int, number: int) -> Cohort:
    """The project's cohort with this number. Raises `QueryError` (400)."""
    cohort = store.cohorts.get(project, number)
    if cohort is not None:
        return cohort
    raise QueryError(f"filter_by_cohort, there is no cohort {number} in this project", status=400)


def group_key_of(store: Store, project: int, asked: str) -> str:
    """The name of the group key that `data_group_id` gives by id or by name (contract query §7).

    "" gives users: "". Raises `QueryError` (400).
    """
    if not asked:
        return ""
    known = store.state.group_keys(project)
    by_id = {str(number): name for name, number in known.items()}
    name = by_id.get(asked, asked)
    if name not in known:
        some = islice(sorted(known.items()), _KEYS_NAMED)
        keys = ", ".join(f"{key} ({number})" for key, number in some) or "none"
        raise QueryError(
            f"data_group_id, no group key of this project has this id or name; its group keys: {keys}",
            status=400,
        )
    return name


def listed_ids(store: Store, choice: Choice, asked: tuple[str, ...] | None) -> Iterator[str] | None:
    """The ids that a read is limited to, ascending: those asked for, those of a list, or both; else None.

    Those who did something are a list as well. Raises `QueryError` (400), `StoreError`.
    """
    listed = None if choice.cohort is None else store.cohorts.ids(choice.cohort.id)
    if choice.acted is not None:
        listed = choice.acted.ids()
    if asked is None:
        return listed
    wanted = sorted(set(asked))
    if listed is None:
        return iter(wanted)
    held = set(wanted)
    return (profile_id for profile_id in listed if profile_id in held)
