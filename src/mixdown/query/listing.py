"""Lists of profiles that are quick on millions: a page by the order of ids, found within a bounded time.

Enters: filters, the id to go on behind, how many profiles are wanted and how long may be looked for them.
Leaves: the answer's bytes, with the id that the next page goes on behind. Nothing is kept from page to page
but who did what is asked for (`query.members`): while no profile changes, each comes exactly once. Everything
here blocks and belongs in a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

import msgspec
import orjson

from mixdown.query.choosing import Choice, Filters, choose, listed_ids
from mixdown.query.engage import renderer
from mixdown.query.events.reader import EventReads
from mixdown.query.members import Members
from mixdown.store import patience
from mixdown.store.batches import documents_in_batches
from mixdown.store.protocols import Store
from mixdown.store.selection import Looked, judge

DEFAULT_LIMIT: Final = 50
LIMIT_LIMIT: Final = 1000
DEFAULT_LOOK_MS: Final = 500
LOOK_LIMIT_MS: Final = 5000
STRETCH_S: Final = 0.05
_FIRST_ROWS: Final = 1000
MOST_ROWS: Final = 100_000
_NO_DOCUMENT: Final = b"{}"
_AT_ONCE: Final = 100
_ROOM_BYTES: Final = 32 * 1024 * 1024


class ListQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a list: `limit` profiles behind the id `after`, looked for `look_ms` long at most.

    The order that the filters may name counts for nothing here: a list goes by ids.
    """

    project: int
    filters: Filters = Filters()
    output_properties: tuple[str, ...] | None = None
    after: str = ""
    limit: int = DEFAULT_LIMIT
    look_ms: int = DEFAULT_LOOK_MS


def list_answer(
    store: Store,
    query: ListQuery,
    *,
    now_ms: int,
    clock: Callable[[], float] = time.monotonic,
    reads: EventReads | None = None,
    members: Members | None = None,
) -> bytes:
    """The JSON answer: the profiles, how many were looked at, and `next` where there may be more.

    `members` keeps who did what is asked for, from page to page; without it each counts them anew.
    Raises `QueryError` (400) naming the parameter that is wrong, `StoreError`.
    """
    choice = choose(store, query.project, query.filters, now_ms=now_ms, reads=reads)
    if choice.is_listed:
        looked = _look_at_listed(store, query, choice, clock, members)
    else:
        looked = _look(store, query, choice, clock)
    render = renderer(query.output_properties)
    rows = [render(*profile) for profile in looked.profiles]
    head = {"status": "ok", "looked_at": looked.looked_at, "next": looked.last}
    return b'%b,"results":[%b]}' % (orjson.dumps(head)[:-1], b",".join(rows))


def _look(store: Store, query: ListQuery, choice: Choice, clock: Callable[[], float]) -> Looked:
    """Stretch after stretch, until the page is full, the time is over, or there is no more."""
    selection = msgspec.structs.replace(choice.selection, sort_key=None)
    began = clock()
    found: list[tuple[str, bytes]] = []
    looked_at, after, rows, room = 0, query.after, _FIRST_ROWS, _ROOM_BYTES
    while True:
        patience.check()
        begun = clock()
        some = store.state.look(
            query.project,
            choice.group_key,
            selection,
            after=after,
            limit=query.limit - len(found),
            rows=rows,
        )
        found += some.profiles
        looked_at += some.looked_at
        room -= sum(len(document) for _, document in some.profiles)
        now = clock()
        if some.last is None or len(found) == query.limit or now - began >= query.look_ms / 1000:
            return Looked(found, looked_at, some.last)
        if room < 0 or (some.profiles and some.looked_at < rows):  # they are large: no more in one answer
            return Looked(found, looked_at, some.last)
        after = some.last
        rows = max(1, min(2 * rows, MOST_ROWS, int(rows * STRETCH_S / max(now - begun, 1e-6))))


def _look_at_listed(
    store: Store, query: ListQuery, choice: Choice, clock: Callable[[], float], members: Members | None
) -> Looked:
    """The same in a cohort that lists ids, or of those who did something."""
    wants = judge(choice.selection)
    began, room = clock(), _ROOM_BYTES
    found: list[tuple[str, bytes]] = []
    looked_at = 0
    for profile_id, document in _documents(store, query, choice, members):
        patience.check()
        if choice.acted is not None and not looked_at:
            began = clock()  # events have been counted: what follows is looking
        looked_at += 1
        known = document or _NO_DOCUMENT
        there = document is not None or choice.keeps_missing
        if there and (choice.selection.takes_all or wants(profile_id, known)):
            found.append((profile_id, known))
            room -= len(known)
        if len(found) == query.limit or room < 0 or clock() - began >= query.look_ms / 1000:
            return Looked(found, looked_at, profile_id)
    return Looked(found, looked_at, None)


def _documents(
    store: Store, query: ListQuery, choice: Choice, members: Members | None
) -> Iterator[tuple[str, bytes | None]]:
    if choice.acted is not None and members is not None:
        listed: Iterator[str] | None = members.ids(choice.acted, query.after)
    else:
        listed = listed_ids(store, choice, None)
    assert listed is not None
    ids = (profile_id for profile_id in listed if profile_id > query.after)
    while some := list(islice(ids, _AT_ONCE)):
        keys = [(query.project, choice.group_key, profile_id) for profile_id in some]
        for batch, documents in documents_in_batches(
            store.state.documents, keys, first=16, most=_AT_ONCE, roomy_bytes=4 * 1024 * 1024
        ):
            for key, document in zip(batch, documents, strict=True):
                yield key[2], document
