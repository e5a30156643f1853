"""One request, judged and encoded: what the group commit appends for it, and what the reply says.

Pure but for the geolocation database. It may run twice for one request: again under the log's turn
when the catalog changed in between, so that a rotated or deleted token stops at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec
import orjson

from mixdown.ingest.geo import Geo, valid_ip
from mixdown.model import texts
from mixdown.model.limits import Limits
from mixdown.model.operators import Operator
from mixdown.model.payloads import Reading
from mixdown.model.quick import QuickRecord, quick_updates
from mixdown.model.updates import (
    Refusal,
    Update,
    digest_key,
    geo_names_left,
    read_update,
    record_ip,
    record_text,
)
from mixdown.store.calls import Call
from mixdown.store.chunk import Outcome, Segment, encode_filter, encode_segment
from mixdown.store.protocols import Append, RefusedRecord

REFUSED_TEXT_LIMIT_BYTES: Final = 1_048_576


class Submission(msgspec.Struct):
    """The records of one request and how to read them.

    `endpoint` is "engage" or "groups"; `ip_flag` is the `ip` parameter (None: absent);
    `hostile` and `strict` as in `Reading`; `body_bytes` the size of the decoded body (0: small);
    `idempotency_key` and `path` belong to the request's own key; without one, `call` gives the key of a
    request that a browser may send again.

    Where every record is plain, `quick` has them instead of `records`, and `reread` tells the records as
    they came and whether they are hostile: for the day that the quick way does not do.
    """

    endpoint: str
    records: list[Any]
    strict: bool = False
    hostile: bool = False
    ip_flag: bool | None = None
    client_ip: str = ""
    sdk: str = ""
    idempotency_key: str = ""
    path: str = ""
    body_bytes: int = 0
    call: Call | None = None
    quick: list[QuickRecord] | None = None
    reread: Callable[[], tuple[list[Any], bool]] | None = None

    def take_long_way(self) -> None:
        """Give up `quick` and read the records as they came."""
        self.quick = None
        if self.reread is not None:
            self.records, self.hostile = self.reread()


class Rules(msgspec.Struct, frozen=True):
    """What this server's settings say about reading records."""

    limits: Limits
    geo: Geo
    geo_from_request: bool = True
    accept_unknown_token: bool = False


class Prepared(msgspec.Struct, frozen=True):
    """A request ready to be appended; `append` is None where there is nothing to write."""

    append: Append | None
    outcome: Outcome


def request_key(submission: Submission) -> bytes | None:
    """The key of a request that carries an Idempotency-Key (DESIGN G2).

    It covers the path, the key and the decoded records, their tokens included: another body under
    the same key is a new request, and so is the same body for another project.
    """
    if not submission.idempotency_key:
        return None
    state = blake2b(digest_size=32)
    for index, record in enumerate(submission.records):
        text, _ = record_text(record, 1 << 30)
        state.update(f"{index}:{len(text)}:{text}".encode())
    return digest_key("request", submission.path, submission.idempotency_key, state.hexdigest())


def prepare(
    submission: Submission, tokens: Mapping[str, int], rules: Rules, key: bytes | None = None
) -> Prepared:
    """Judge every record of a request and encode the good ones.

    `tokens` maps tokens to project ids; `key` is the request's idempotency key, if it has one.
    """
    locator = _Locator(submission, rules)
    if submission.quick is not None:
        quick = quick_updates(submission.quick, tokens)
        if quick is not None:
            locator.locate_all(submission.quick, quick)
            return _assemble(submission, quick, [], rules, key)
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
            if weigh and _weight(raw) > rules.limits.record_limit_bytes:
                text = texts.RECORD_TOO_LARGE.format(limit=rules.limits.record_limit_bytes)
                refusals.append(Refusal(index, "", text, result.project))
                continue
            if result.operations[0][0] <= Operator.SET:
                locator.locate(record_ip(raw), result)
            updates.append(result)
        else:
            refusals.append(result)  # type: ignore[arg-type]
    return _assemble(submission, updates, refusals, rules, key)


def _weight(raw: Any) -> int:
    try:
        return len(orjson.dumps(raw))
    except (TypeError, ValueError):
        return len(record_text(raw, 1 << 30)[0])


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
    submission: Submission, updates: list[Update], refusals: list[Refusal], rules: Rules, key: bytes | None
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
    segment = b""
    if updates:
        kept = outcome if key is not None else None
        segment = encode_segment(Segment(submission.endpoint, submission.sdk, key, kept, updates))
    append = Append(
        segment=segment,
        count=len(updates),
        id_filter=encode_filter([update.id for update in updates]),
        refusals=tuple(_kept(submission, refusal, key) for refusal in refusals),
    )
    return Prepared(append, outcome)


def _kept(submission: Submission, refusal: Refusal, key: bytes | None) -> RefusedRecord:
    text, whole = record_text(submission.records[refusal.index], REFUSED_TEXT_LIMIT_BYTES)
    return RefusedRecord(
        project=refusal.project,
        endpoint=submission.endpoint,
        index=refusal.index,
        field=refusal.field,
        message=refusal.message,
        record=text,
        whole=whole,
        sdk=submission.sdk,
        request_key=key,
    )
