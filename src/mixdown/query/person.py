"""All that is kept of some people or groups, as one JSON file, written as it is read.

A store and ids enter; pieces of one JSON object leave, of them and of all ids that are linked with them:
profiles, their history, events, refused records, and the updates that still stand in the log. It never holds
more than a few documents, some events or one chunk at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
import orjson

from mixdown.model.errors import CorruptStoreError
from mixdown.model.mentions import mentions
from mixdown.model.operators import OPERATOR_NAMES
from mixdown.model.times import iso_seconds
from mixdown.query.events.buckets import Span
from mixdown.query.events.reader import EventReads
from mixdown.query.history import history_rows
from mixdown.query.identities import link_view
from mixdown.store.batches import documents_in_batches
from mixdown.store.chunk import LoggedUpdate, decode_body
from mixdown.store.events import FIRST_MS, LAST_MS
from mixdown.store.places import views_of
from mixdown.store.privacy import hashes_of, with_linked
from mixdown.store.protocols import Log, Project, Store

_REFUSALS_AT_ONCE: Final = 10
_LINKS_SHOWN: Final = 100_000
_EVENTS_BYTES: Final = 512 * 1024 * 1024
_NAMES: Final = {code: name for name, code in OPERATOR_NAMES.items()}


def person_file(
    store: Store, project: Project, group_key: str, ids: Sequence[str], *, now_ms: int
) -> Iterator[bytes]:
    """The pieces of the file. Raises `StoreError` in the middle of it where the store fails.

    The object has `project_id`, `created`, `group_key` (null for users), `ids` (those asked for and those
    linked with them), and the lists `profiles`, `identities`, `history`, `events`, `cohorts`, `refusals` and
    `records`.
    """
    ids = with_linked(store, project.id, group_key, ids)
    head = {
        "project_id": project.id,
        "created": iso_seconds(now_ms),
        "group_key": group_key or None,
        "ids": list(ids),
    }
    yield orjson.dumps(head)[:-1]
    sections: tuple[tuple[str, Callable[[], Iterable[bytes]]], ...] = (
        ("profiles", lambda: _profiles(store, project.id, group_key, ids)),
        ("identities", lambda: _identities(store, project.id, group_key, ids)),
        ("history", lambda: _history(store, project.id, group_key, ids)),
        ("events", lambda: _events(store, project.id, group_key, ids)),
        ("cohorts", lambda: _cohorts(store, project.id, group_key, ids)),
        ("refusals", lambda: _refusals(store, project.id, group_key, frozenset(ids))),
        ("records", lambda: _records(store, project.id, group_key, frozenset(ids))),
    )
    for name, items in sections:
        yield b',\n"%b":[' % name.encode()
        separator = b"\n"
        for item in items():
            yield separator + item
            separator = b",\n"
        yield b"]"
    yield b"}\n"


def _profiles(store: Store, project: int, group_key: str, ids: Sequence[str]) -> Iterator[bytes]:
    keys = [(project, group_key, each) for each in ids]
    read = documents_in_batches(store.state.documents, keys, first=16, most=200, roomy_bytes=2**20)
    for some, documents in read:
        for key, document in zip(some, documents, strict=True):
            if document is not None:
                yield b'{"$distinct_id":%b,"$properties":%b}' % (orjson.dumps(key[2]), document)


def _identities(store: Store, project: int, group_key: str, ids: Sequence[str]) -> Iterator[bytes]:
    """What links these ids, and what did."""
    if group_key:
        return
    named = set(ids)
    for link in store.state.links(project, ids, limit=_LINKS_SHOWN, undone=True):
        if link.one in named or link.other in named:
            yield orjson.dumps(link_view(link))


def _history(store: Store, project: int, group_key: str, ids: Sequence[str]) -> Iterator[bytes]:
    """What changed in their profiles, newest first for each."""
    for profile_id, entry in history_rows(store, project, group_key, ids):
        told = msgspec.to_builtins(entry)
        del told["time_ms"]
        yield msgspec.json.encode({"id": profile_id, "time": iso_seconds(entry.time_ms), **told})


def _events(store: Store, project: int, group_key: str, ids: Sequence[str]) -> Iterator[bytes]:
    """Their events, ids as they were sent; groups have none of their own."""
    if group_key:
        return
    reads = EventReads(store, memory_limit_bytes=_EVENTS_BYTES)
    try:
        with reads.open(project, Span(FIRST_MS, LAST_MS), persons=False) as table:
            columns = f"event, epoch_ms(time), distinct_id, insert_id, arrived, {table.columns.whole}"
            rows = table.rows(
                f"SELECT {columns} FROM events WHERE distinct_id IN (SELECT unnest(?::VARCHAR[]))"  # noqa: S608
                " ORDER BY time, position",
                [list(ids)],
            )
            for event, time_ms, distinct_id, insert_id, arrived_ms, properties in rows:
                yield msgspec.json.encode(
                    {
                        "event": event,
                        "time": time_ms,
                        "distinct_id": distinct_id,
                        "insert_id": insert_id,
                        "arrived": iso_seconds(arrived_ms),
                        "properties": msgspec.Raw(properties.encode()),
                    }
                )
    finally:
        reads.close()


def _cohorts(store: Store, project: int, group_key: str, ids: Sequence[str]) -> Iterator[bytes]:
    """The lists of ids in which they stand."""
    wanted = frozenset(ids)
    for cohort in store.cohorts.listing(project):
        if cohort.group_key == group_key and cohort.expression is None:
            held = sorted(wanted.intersection(store.cohorts.ids(cohort.id)))
            if held:
                yield orjson.dumps({"id": cohort.id, "name": cohort.name, "ids": held})


def _refusals(store: Store, project: int, group_key: str, ids: frozenset[str]) -> Iterator[bytes]:
    before: int | None = None
    while page := store.refusals.listing([project], before_id=before, limit=_REFUSALS_AT_ONCE):
        for refusal in page:
            if mentions(refusal.record, ids, group_key):
                yield orjson.dumps(
                    {
                        "time": iso_seconds(refusal.time_ms),
                        "endpoint": refusal.endpoint,
                        "field": refusal.field,
                        "message": refusal.message,
                        "record": refusal.record,
                        "whole": refusal.whole,
                        "sdk": refusal.sdk,
                    }
                )
        before = page[-1].id


def _records(store: Store, project: int, group_key: str, ids: frozenset[str]) -> Iterator[bytes]:
    """What the log still holds of them, as it arrived."""
    for view in views_of(store, project):
        yield from _records_in(view.log, project, group_key, ids)


def _records_in(log: Log, project: int, group_key: str, ids: frozenset[str]) -> Iterator[bytes]:
    hashes = hashes_of(ids)
    at, head = log.tail_position(), log.head()
    while at < head:
        firsts, at = log.holding(hashes, begin=at, below=head)
        for first in firsts:
            chunks = log.read(first, max_records=1, max_bytes=1)
            if not chunks or chunks[0].first != first:
                continue
            try:
                segments = decode_body(chunks[0].body)
            except CorruptStoreError:
                continue
            for segment in segments:
                for update in segment.updates:
                    if update.id in ids and (update.project, update.group_key) == (project, group_key):
                        yield _record(update, chunks[0].time_ms, segment.endpoint, segment.sdk)


def _record(update: LoggedUpdate, time_ms: int, endpoint: str, sdk: str) -> bytes:
    record: dict[str, Any] = {
        "time": iso_seconds(time_ms),
        "endpoint": endpoint,
        "sdk": sdk,
        "id": update.id,
        "operations": {_NAMES[code]: payload for code, payload in update.operations},
    }
    if update.geo is not None:
        record["location"] = update.geo
    return msgspec.json.encode(record)
