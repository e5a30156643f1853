"""One request, judged and encoded: what the group commit appends for it, and what the reply says.

Pure but for the geolocation database. It may run twice for one request: again under the log's turn
when the catalog changed in between, so that a rotated or deleted token stops at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixdown.ingest.events import prepare_events
from mixdown.ingest.geo import valid_ip
from mixdown.ingest.placing import Envelope
from mixdown.ingest.submission import (
    EVENT_ENDPOINTS,
    NO_PROJECTS,
    REFUSED_TEXT_LIMIT_BYTES,
    Prepared,
    Rules,
    Submission,
    kept,
    request_key,
    weight,
)
from mixdown.model import texts
from mixdown.model.operators import Operator
from mixdown.model.payloads import Reading
from mixdown.model.quick import QuickRecord, quick_updates
from mixdown.model.updates import Refusal, Update, geo_names_left, read_update, record_ip
from mixdown.store.chunk import Outcome, Segment, encode_filter, encode_segment
from mixdown.store.protocols import Append, Project

__all__ = ["REFUSED_TEXT_LIMIT_BYTES", "Prepared", "Rules", "Submission", "prepare", "request_key"]


def prepare(
    submission: Submission,
    tokens: Mapping[str, int],
    rules: Rules,
    key: bytes | None = None,
    projects: Mapping[int, Project] = NO_PROJECTS,
) -> Prepared:
    """Judge every record of a request and encode the good ones.

    `tokens` maps tokens to project ids, `projects` those to projects, which events want, and whatever is
    spread over partitions; `key` is the request's idempotency key, if it has one.
    """
    if submission.endpoint in EVENT_ENDPOINTS:
        return prepare_events(submission, tokens, projects, rules, key)
    locator = _Locator(submission, rules)
    if submission.quick is not None:
        quick = quick_updates(submission.quick, tokens)
        if quick is not None:
            locator.locate_all(submission.quick, quick)
            return _assemble(submission, quick, [], rules, key, projects)
        submission.take_long_way()
    reading = Reading(
        projects=tokens,
        group=submission.endpoint == "groups",
        strict=submission.strict,
        hostile=submission.hostile,
        limits=rules.limits,
    )
    weigh = submission.body_bytes > rules.limits.record_limit_bytes
    updates: list[Update] = []
    refusals: list[Refusal] = []
    for index, raw in enumerate(submission.records):
        result = read_update(raw, index, reading)
        if type(result) is Update:
            if weigh and weight(raw) > rules.limits.record_limit_bytes:
                text = texts.RECORD_TOO_LARGE.format(limit=rules.limits.record_limit_bytes)
                refusals.append(Refusal(index, "", text, result.project))
                continue
            if result.operations[0][0] <= Operator.SET:
                locator.locate(record_ip(raw), result)
            updates.append(result)
        else:
            refusals.append(result)  # type: ignore[arg-type]
    return _assemble(submission, updates, refusals, rules, key, projects)


class _Locator:
    """Adds geolocation to updates; the request's own address is looked up once."""

    def __init__(self, submission: Submission, rules: Rules) -> None:
        group = submission.endpoint == "groups"
        flag = submission.ip_flag
        wanted = flag if flag is not None else (rules.geo_from_request and not group)
        self._request_ip = valid_ip(submission.client_ip) if wanted else ""
        self._geo = rules.geo
        self._request_geo: dict[str, str] | None = None

    def locate_all(self, records: list[QuickRecord], updates: list[Update]) -> None:
        """Locate each of a plain request's updates that may want it."""
        for record, update in zip(records, updates, strict=True):
            if (self._request_ip or record.ip) and update.operations[0][0] <= Operator.SET:
                self.locate(record.ip, update)

    def locate(self, own: Any, update: Update) -> None:
        """Fill in `update.geo` as contract ingestion §10.1-10.7 says; `own` is the record's own `$ip`."""
        if own is None:
            if not self._request_ip:
                return
            if self._request_geo is None:
                self._request_geo = self._geo.lookup(self._request_ip)
            found = self._request_geo
        else:
            ip = valid_ip(own)
            if not ip:
                return
            found = self._geo.lookup(ip)
        left = geo_names_left(update)
        if not found or left is None:
            return
        geo = {name: value for name, value in found.items() if name not in left}
        if geo:
            update.geo = geo


def _assemble(
    submission: Submission,
    updates: list[Update],
    refusals: list[Refusal],
    rules: Rules,
    key: bytes | None,
    projects: Mapping[int, Project],
) -> Prepared:
    # a plain request has none but updates
    total = len(submission.records) if submission.quick is None else len(updates)
    good = len(updates)
    if rules.accept_unknown_token:
        dropped = [refusal for refusal in refusals if refusal.message == texts.TOKEN_UNKNOWN]
        good += len(dropped)
        refusals = [refusal for refusal in refusals if refusal.message != texts.TOKEN_UNKNOWN]
    outcome = Outcome(total, good, tuple((item.index, item.field, item.message) for item in refusals))
    if not updates and not refusals:
        return Prepared(None, outcome)
    if rules.placing is not None:
        envelope = Envelope(submission.endpoint, submission.sdk, key, outcome)
        told_why = [kept(submission, refusal, key) for refusal in refusals]
        first, *more = rules.placing.updates(envelope, updates, told_why, projects)
        return Prepared(first, outcome, more=tuple(more))
    segment = b""
    if updates:
        told = outcome if key is not None else None
        segment = encode_segment(Segment(submission.endpoint, submission.sdk, key, told, updates))
    append = Append(
        segment=segment,
        count=len(updates),
        id_filter=encode_filter([update.id for update in updates]),
        refusals=tuple(kept(submission, refusal, key) for refusal in refusals),
    )
    return Prepared(append, outcome)
