"""Profiles that a `Selection` wants, in its order, of what an engine reads piece by piece: the same for each.

Enters: an engine's `Pieces`, and a selection as the engine's SQL has it (`Filter`). Leaves: ids, or values.
What SQL cannot tell is judged here; what memory cannot hold is sorted on disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from mixdown.model.expression import ID_NAMES, PROFILE_ACCESSORS, Expression, document_values
from mixdown.model.expression_nodes import Access
from mixdown.store import patience
from mixdown.store.selection import Selection, judge, sort_key_of, value_bytes
from mixdown.store.sorting import FEW_LIMIT, Few, Keyed, Sorter

LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789 !#$%&'()*+,-./:;<=>?@[]^_`{|}~")
"""A search of these alone can be done in SQL: where a text has no others, case is that of ASCII."""
FILTERS_AT_ONCE: Final = 16
_BINDINGS_AT_ONCE: Final = 16_000
SURE: Final = b"null"
"""In the place of the document of a profile that SQL is sure of."""


class Filter(NamedTuple):
    """A condition over the table alias `p`. Where it is not exact, it lets through more than is wanted.

    `undecided` is then the document of what Python must decide, and `null` for what is surely wanted.
    """

    sql: str
    bindings: tuple[Any, ...]
    exact: bool
    undecided: str
    undecided_bindings: tuple[Any, ...]


def at_once(places: Sequence[int], filters: Sequence[Filter]) -> Iterator[list[int]]:
    """Places of filters that one statement can count: SQLite takes 32,766 bindings, PostgreSQL 65,535."""
    some: list[int] = []
    bindings = 0
    for place in places:
        own = len(filters[place].bindings)
        if some and (len(some) == FILTERS_AT_ONCE or bindings + own > _BINDINGS_AT_ONCE):
            yield some
            some, bindings = [], 0
        some.append(place)
        bindings += own
    if some:
        yield some


class Pieces(Protocol):
    """All profiles that meet the filter of one read, in no order, some at a time."""

    @property
    def filter(self) -> Filter:
        """The selection's."""

    def ids(self) -> Iterator[list[str]]:
        """Their ids."""

    def values(self, name: str) -> Iterator[list[tuple[str, Any]]]:
        """(id, value of a property: None where there is none)."""

    def documents(self, *, all_of_them: bool) -> Iterator[list[tuple[str, bytes]]]:
        """(id, document); `SURE` for what is surely wanted, unless `all_of_them` are asked for."""


def matching(pieces: Pieces, selection: Selection, folder: Path | None) -> Iterator[str]:
    """The ids of the profiles that are wanted, in the selection's order.

    What is sorted on disk lies in `folder` (None: where the system has temporary files).
    """
    if selection.sort_key is None:
        return _by_id(pieces, selection, folder)
    return _by_key(pieces, selection, folder)


def values(pieces: Pieces, selection: Selection) -> Iterator[list[Any]]:
    """What `selection.sort_key` is for each profile that is wanted, in no order, many at a time."""
    assert selection.sort_key is not None
    name = _name_of(selection.sort_key)
    if pieces.filter.exact and name:
        for pairs in pieces.values(name):
            yield [value for _, value in pairs]
    else:
        value_of = document_values(selection.sort_key, selection.context)
        for found in _wanted(pieces, selection, all_of_them=True):
            yield [value_of(*each) for each in found]


def count(pieces: Pieces, selection: Selection) -> int:
    """How many profiles are wanted, where SQL alone cannot tell."""
    return sum(map(len, _wanted(pieces, selection, all_of_them=False)))


def _by_id(pieces: Pieces, selection: Selection, folder: Path | None) -> Iterator[str]:
    sorter = Sorter[str](str, folder)
    try:
        if pieces.filter.exact:
            for ids in pieces.ids():
                sorter.add(ids)
        else:
            for found in _wanted(pieces, selection, all_of_them=False):
                sorter.add([profile_id for profile_id, _ in found])
        last = None
        for profile_id in sorter:
            if profile_id != last:  # deleted and made again meanwhile, it may be met twice
                yield profile_id
            last = profile_id
    finally:
        sorter.close()


def _by_key(pieces: Pieces, selection: Selection, folder: Path | None) -> Iterator[str]:
    few = 0 < selection.most <= FEW_LIMIT
    sorter = Few(selection.most) if few else Sorter[Keyed](Keyed, folder)
    try:
        name = _name_of(selection.sort_key)
        if pieces.filter.exact and name:
            for pairs in pieces.values(name):
                keys = [value_bytes(value, descending=selection.descending) for _, value in pairs]
                sorter.add([(key, pair[0]) for key, pair in zip(keys, pairs, strict=True)])
        else:
            key_of = sort_key_of(selection)
            for found in _wanted(pieces, selection, all_of_them=True):
                sorter.add([(key_of(*each), each[0]) for each in found])
        for _, profile_id in sorter:
            yield profile_id
    finally:
        sorter.close()


def _wanted(pieces: Pieces, selection: Selection, *, all_of_them: bool) -> Iterator[list[tuple[str, bytes]]]:
    """(id, document) of what is wanted, in no order; Python decides where SQL does not."""
    exact = pieces.filter.exact
    wants = judge(selection)
    for pairs in pieces.documents(all_of_them=all_of_them):
        wanted = []
        for profile_id, document in pairs:
            patience.check()
            if exact or document == SURE or wants(profile_id, document):
                wanted.append((profile_id, document))
        yield wanted


def _name_of(sort_key: Expression | None) -> str:
    """The one property that a sort key is; "" where it is more, or one that every profile has."""
    if sort_key is None or not isinstance(sort_key.tree, Access):
        return ""
    slot = sort_key.slots[sort_key.tree.place]
    return slot.name if slot.name not in ID_NAMES and slot.accessor in PROFILE_ACCESSORS else ""
