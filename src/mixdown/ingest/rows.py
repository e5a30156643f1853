"""Rows of an import: whole profiles, judged as any record, appended in batches that are known again.

Enters: (id, properties) pairs and a key for each batch. Leaves: chunks of the log, refusals with reasons. A
batch whose key the fold has met is not applied a second time (DESIGN G2), so an import that was interrupted
can begin anew. No row makes a location lookup, and its `$last_seen` stays what it was.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from mixdown.ingest.placing import Envelope, Placing
from mixdown.ingest.prepare import REFUSED_TEXT_LIMIT_BYTES
from mixdown.model.errors import CatalogError
from mixdown.model.limits import KEY_WINDOW_MS, Limits
from mixdown.model.operators import Operator
from mixdown.model.payloads import Reading
from mixdown.model.updates import (
    IGNORE_ALIAS,
    Refusal,
    Unreadable,
    Update,
    digest_key,
    read_update,
    record_text,
)
from mixdown.store.chunk import Outcome, Segment, encode_filter, encode_segment
from mixdown.store.places import views_of
from mixdown.store.protocols import Append, Project, RefusedRecord, Store

SDK: Final = "mixdown import"
OPERATORS: Final = ("set", "set_once", "merge", "add", "union", "append", "remove")
BATCH_ROWS: Final = 2000
BATCH_BYTES: Final = 4 * 1024 * 1024
ROW_LIMIT_BYTES: Final = 8 * 1024 * 1024
"""More than a profile ever has."""

Row = tuple[Any, Any]
"""(id, properties), as they were read: what they are is judged here."""


class Import(msgspec.Struct, frozen=True):
    """Where rows go and what they do there.

    `replace` deletes each profile before its row is set. `string_limit_bytes` of 0 keeps texts whole. With
    `ignore_alias` a row is for the very id that it names, linked to others or not. `placing` spreads rows
    over partitions, None where there is one; it wants the project as it is `held`.
    """

    project: int
    token: str
    group_key: str = ""
    operator: str = "set"
    replace: bool = False
    string_limit_bytes: int = 0
    ignore_alias: bool = False
    placing: Placing | None = None
    held: Project | None = None

    def key(self, identity: str) -> bytes:
        """The key of a batch that `identity` tells apart from all others of such imports."""
        how = f"{self.operator} {self.replace} {self.string_limit_bytes}"
        how += " literally" if self.ignore_alias else ""
        return digest_key("import", str(self.project), self.group_key, how, identity)


class Judged(msgspec.Struct, frozen=True):
    """A batch ready to be appended, a share for each partition, and how it will turn out."""

    appends: tuple[Append, ...]
    outcome: Outcome


def judge(
    rows: Sequence[Row | Unreadable | Update],
    hostile: Sequence[bool],
    target: Import,
    key: bytes,
    *,
    keep_refusals: bool,
) -> Judged:
    """Judge every row that is no update yet. Pure.

    `hostile` says of each whether its texts may hold NUL or lone surrogates. `keep_refusals` puts the rows
    that are refused among the project's refusals.
    """
    updates, refusals, records = _read(rows, hostile, target)
    failed = tuple((each.index, each.field, each.message) for each in refusals)
    outcome = Outcome(len(rows), len(rows) - len(refusals), failed)
    endpoint = "groups" if target.group_key else "engage"
    kept = [_kept(*each, endpoint, target, key) for each in zip(refusals, records, strict=True)]
    if not updates and not (kept and keep_refusals):
        return Judged((), outcome)
    if not keep_refusals:
        kept = []
    if target.placing is not None:
        projects = {} if target.held is None else {target.project: target.held}
        envelope = Envelope(endpoint, SDK, key, outcome)
        return Judged(target.placing.updates(envelope, updates, kept, projects), outcome)
    append = Append(
        segment=encode_segment(Segment(endpoint, SDK, key, outcome, updates)) if updates else b"",
        count=len(updates),
        id_filter=encode_filter([update.id for update in updates]),
        refusals=tuple(kept),
    )
    return Judged((append,), outcome)


def _read(
    rows: Sequence[Row | Unreadable | Update], hostile: Sequence[bool], target: Import
) -> tuple[list[Update], list[Refusal], list[Any]]:
    """What rows do; the refusals of those that cannot be read, and what these were as records."""
    quick = Reading(
        projects={target.token: target.project},
        group=bool(target.group_key),
        limits=Limits(string_limit_bytes=target.string_limit_bytes),
    )
    careful = msgspec.structs.replace(quick, hostile=True)
    updates: list[Update] = []
    refusals: list[Refusal] = []
    records: list[Any] = []
    for index, row in enumerate(rows):
        record: Any = None
        result: Update | Refusal
        if isinstance(row, Update):
            result = row
        else:
            record = row if isinstance(row, Unreadable) else _record(row, target)
            result = read_update(record, index, careful if hostile[index] else quick)
        if type(result) is Update:
            if target.ignore_alias:
                result.flags |= IGNORE_ALIAS
            if target.replace:
                flags = result.flags & IGNORE_ALIAS
                gone = [(int(Operator.DELETE), None)]
                updates.append(Update(result.project, result.group_key, result.id, gone, flags=flags))
            updates.append(result)
        else:
            assert isinstance(result, Refusal)
            refusals.append(result)
            records.append(record)
    return updates, refusals, records


def append(store: Store, project: int, appends: Sequence[Append]) -> None:
    """Append a batch of rows for a project, each share to its partition's log; on disk on return.

    Raises `StoreError`; `CatalogError` when the project is gone.
    """
    for share in appends:
        with store.partition(share.partition).log.turn() as turn:
            if all(known.id != project for known in store.catalog.projects()):
                raise CatalogError(f"project {project} was deleted while rows were imported")
            turn.append([share], time.time_ns() // 1_000_000)


def applied_before(store: Store, project: int, key: bytes) -> Outcome | None:
    """How a batch with this key turned out, if one was folded within the window of idempotency keys.

    In a large project by all partitions: what one of them lacks it takes now, and the others leave out.
    """
    since_ms = time.time_ns() // 1_000_000 - KEY_WINDOW_MS
    found: Outcome | None = None
    for view in views_of(store, project):
        known = view.state.known_keys([key], since_ms=since_ms)
        found = known.get(key)
        if found is None:
            return None
    return found


def _record(row: Row, target: Import) -> dict[str, Any]:
    """A row as the record that a client would send."""
    profile_id, properties = row
    record: dict[str, Any] = {"$token": target.token, "$ignore_time": True, f"${target.operator}": properties}
    if target.group_key:
        record |= {"$group_key": target.group_key, "$group_id": profile_id}
    else:
        record["$distinct_id"] = profile_id
    return record


def _kept(refusal: Refusal, record: Any, endpoint: str, target: Import, key: bytes) -> RefusedRecord:
    text, whole = record_text(record, REFUSED_TEXT_LIMIT_BYTES)
    return RefusedRecord(
        project=target.project,
        endpoint=endpoint,
        index=refusal.index,
        field=refusal.field,
        message=refusal.message,
        record=text,
        whole=whole,
        sdk=SDK,
        request_key=key,
    )
