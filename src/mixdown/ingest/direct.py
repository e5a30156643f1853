"""Appending from outside an event loop: what the command line and the admin API send.

The same judging, the same log, the same refusals as for a request over HTTP.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import msgspec

from mixdown.ingest.placing import placing_of
from mixdown.ingest.prepare import Prepared, Rules, Submission, prepare
from mixdown.ingest.submission import EVENT_ENDPOINTS
from mixdown.model.updates import digest_key
from mixdown.store.chunk import Outcome
from mixdown.store.protocols import RefusedRecord, Store


def append_raw(
    store: Store,
    rules: Rules,
    endpoint: str,
    records: list[Any],
    *,
    sdk: str,
    keep_refusals: bool = True,
    project: int = 0,
    key: bytes | None = None,
) -> Outcome:
    """Judge `records` by the catalog as it stands and append the good ones; on disk on return.

    `endpoint` is "engage", "groups", "track" or "import"; that goes into `project`. No location by request
    address (there is none). `keep_refusals=False` leaves refused records out of the refusals (they are there
    already). What has a `key` is stored once within the window of idempotency keys. Raises `StoreError`.
    """
    # `unknown_token = "accept"` drops records: one that is sent again would be forgotten as if it were stored
    rules = msgspec.structs.replace(rules, accept_unknown_token=False, placing=placing_of(store))
    submission = Submission(endpoint, records, hostile=True, ip_flag=False, sdk=sdk, project=project)
    submission.now_ms, submission.fresh = time.time_ns() // 1_000_000, os.urandom(12).hex()

    def judged() -> Prepared:
        projects = {known.id: known for known in store.catalog.projects()}
        tokens = {known.token: known.id for known in projects.values()}
        prepared = prepare(submission, tokens, rules, key, projects)
        if keep_refusals:
            return prepared
        good = [append for append in prepared.appends if append.count]
        appends = [msgspec.structs.replace(append, refusals=()) for append in good]
        return msgspec.structs.replace(prepared, append=next(iter(appends), None), more=tuple(appends[1:]))

    if store.partition_count > 1:
        prepared = judged()
        for append in prepared.appends:
            with store.partition(append.partition).log.turn() as turn:
                turn.append([append], time.time_ns() // 1_000_000)
        return prepared.outcome
    with store.log.turn() as turn:
        prepared = judged()
        if prepared.append is not None:
            turn.append([prepared.append], time.time_ns() // 1_000_000)
    return prepared.outcome


def resend(
    store: Store, rules: Rules, ids: list[int], *, record: Any = None, token: str = ""
) -> list[tuple[int, str]]:
    """Send refused records again; the good ones leave the refusals.

    `record` replaces the record of a single refusal, `token` the token of every one. Returns
    (refusal id, "" or why it is still refused), in the order of the ids. A record that was kept in
    part, or a body that could not be read, cannot be sent again unless `record` is given.
    """
    answers: list[tuple[int, str]] = []
    for refusal in store.refusals.by_ids(ids):
        raw = record if record is not None else parse_kept(refusal.record) if refusal.whole else None
        if raw is None:
            answers.append((refusal.id, "only the start of this record was kept: give the whole record"))
            continue
        key = None
        project = 0
        if refusal.endpoint in EVENT_ENDPOINTS:
            raw, project = _event_again(store, refusal, raw, token)
            key = digest_key("resend", str(refusal.id), str(refusal.time_ms))
        elif isinstance(raw, dict):
            # a crash between append and removal leaves the refusal: sent once more, it is recognised
            raw = {"$insert_id": f"refusal-{refusal.id}", **raw}
            if token:
                raw["$token"] = token
        outcome = append_raw(
            store,
            rules,
            refusal.endpoint,
            [raw],
            sdk=refusal.sdk or "mixdown",
            keep_refusals=False,
            project=project,
            key=key,
        )
        if outcome.good:
            store.refusals.remove([refusal.id])
            answers.append((refusal.id, ""))
        else:
            answers.append((refusal.id, outcome.failed[0][2]))
    return answers


def _event_again(store: Store, refusal: RefusedRecord, raw: Any, token: str) -> tuple[Any, int]:
    """A refused event as it is sent again, and the project that an /import goes into."""
    properties = raw.get("properties") if isinstance(raw, dict) else None
    if isinstance(properties, dict):
        more = {"token": token} if token else {}
        raw = {**raw, "properties": {"$insert_id": f"refusal-{refusal.id}", **properties, **more}}
    if refusal.endpoint != "import":
        return raw, 0
    of_token = [each.id for each in store.catalog.projects() if token and each.token == token]
    return raw, of_token[0] if of_token else refusal.project


def parse_kept(text: str) -> Any:
    """A kept record as it was sent, or None where the text is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
