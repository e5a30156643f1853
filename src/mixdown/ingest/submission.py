"""What a request brings to ingestion, and what becomes of it: the words that `prepare` and `events` share.

Nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final

import msgspec
import orjson

from mixdown.ingest.geo import Geo
from mixdown.ingest.links import SentLinks
from mixdown.ingest.placing import Placing
from mixdown.model.limits import Limits
from mixdown.model.quick import QuickRecord
from mixdown.model.quick_events import QuickEvents
from mixdown.model.updates import Refusal, digest_key, record_text
from mixdown.store.calls import Call
from mixdown.store.chunk import Outcome
from mixdown.store.protocols import Append, Project, RefusedRecord

EVENT_ENDPOINTS: Final = frozenset({"track", "import"})
NO_PROJECT: Final = 0
"""What refusals are filed under where no project has the token."""
NO_PROJECTS: Final[Mapping[int, Project]] = MappingProxyType({})
REFUSED_TEXT_LIMIT_BYTES: Final = 1_048_576


class Submission(msgspec.Struct):
    """The records of one request and how to read them.

    `endpoint` is "engage", "groups", "track" or "import"; `ip_flag` is the `ip` parameter (None: absent);
    `hostile` and `strict` as in `Reading`; `body_bytes` the size of the decoded body (0: small);
    `idempotency_key` and `path` belong to the request's own key; without one, `call` gives the key of a
    request that a browser may send again.

    Of events, `now_ms` is when they arrived, `fresh` what new insert ids begin with, and `project` that of an
    /import (0: on /track each event names its own).

    Where every record is plain, `quick` has them instead of `records`, or `quick_events` those that are, and
    `reread` tells the records as they came and whether they are hostile: for what the quick way does not do.
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
    quick_events: QuickEvents | None = None
    reread: Callable[[], tuple[list[Any], bool]] | None = None
    now_ms: int = 0
    fresh: str = ""
    project: int = 0

    def take_long_way(self) -> None:
        """Give up the quick way and read the records as they came."""
        self.quick = self.quick_events = None
        if self.reread is not None:
            self.records, self.hostile = self.reread()


class Rules(msgspec.Struct, frozen=True):
    """What this server's settings say about reading records, and what of the store bears on it.

    `links` are those that stand in the log of each partition; `placing` spreads records over partitions, None
    where there is one.
    """

    limits: Limits
    geo: Geo
    geo_from_request: bool = True
    accept_unknown_token: bool = False
    links: tuple[SentLinks, ...] = ()
    placing: Placing | None = None


class Prepared(msgspec.Struct, frozen=True):
    """A request ready to be appended; `append` is None where there is nothing to write.

    Where its records are of several partitions, `more` has the shares of all but the first.
    `links` are the names of those that it appends for others to leave out. Where it leaves some out itself,
    `parted` is the position up to which that was looked at; -1 where it leaves out none.
    """

    append: Append | None
    outcome: Outcome
    links: tuple[str, ...] = ()
    parted: int = -1
    more: tuple[Append, ...] = ()

    @property
    def appends(self) -> tuple[Append, ...]:
        """What is to be appended: a share for each partition."""
        return () if self.append is None else (self.append, *self.more)

    def share(self, partition: int) -> Prepared:
        """What of it is of one partition."""
        own = next((each for each in self.appends if each.partition == partition), None)
        return Prepared(own, self.outcome, self.links, self.parted)


def request_key(submission: Submission) -> bytes | None:
    """The key of a request that carries an Idempotency-Key (DESIGN G2).

    It covers the path, the key and the decoded records, their tokens included, and the project of an /import,
    whose records name none: another body under the same key is a new request, and so is the same body for
    another project.
    """
    if not submission.idempotency_key:
        return None
    state = blake2b(digest_size=32)
    for index, record in enumerate(submission.records):
        text, _ = record_text(record, 1 << 30)
        state.update(f"{index}:{len(text)}:{text}".encode())
    into = (str(submission.project),) if submission.project else ()
    return digest_key("request", submission.path, submission.idempotency_key, state.hexdigest(), *into)


def weight(raw: Any) -> int:
    """How many bytes of JSON a record has."""
    try:
        return len(orjson.dumps(raw))
    except (TypeError, ValueError):
        return len(record_text(raw, 1 << 30)[0])


def kept(submission: Submission, refusal: Refusal, key: bytes | None) -> RefusedRecord:
    """A refusal as it is kept, with the record as it came."""
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
