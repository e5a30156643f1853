"""Events of an import: judged as those of an /import request, appended in batches that are known again.

Enters: events as a client would send them, and a key for each batch. Leaves: a chunk's share, refusals with
reasons. A batch whose key is known is not stored a second time (DESIGN G2), and an event with an insert id is
stored once whatever brings it, so an import that was interrupted can begin anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from mixdown.ingest.prepare import prepare
from mixdown.ingest.rows import SDK, Judged
from mixdown.ingest.submission import Rules, Submission
from mixdown.model.limits import KEY_WINDOW_MS
from mixdown.model.updates import digest_key
from mixdown.store.chunk import Outcome
from mixdown.store.places import views_of
from mixdown.store.protocols import Project, Store


class EventImport(msgspec.Struct, frozen=True):
    """Where events go. `rules` say what an own address of an event tells, and how long a text may be."""

    project: Project
    rules: Rules

    def key(self, identity: str) -> bytes:
        """The key of a batch that `identity` tells apart from all others of such imports."""
        limit = self.rules.limits.string_limit_bytes
        return digest_key("import events", str(self.project.id), self.project.id_merge, str(limit), identity)

    def judge(self, rows: Sequence[Any], *, hostile: bool, key: bytes, keep_refusals: bool) -> Judged:
        """Judge every event, an `Unreadable` among them included.

        `hostile` says whether any text may hold NUL or lone surrogates. `keep_refusals` puts what is refused
        among the project's refusals.
        """
        submission = Submission(
            "import",
            list(rows),
            hostile=hostile,
            ip_flag=False,
            sdk=SDK,
            now_ms=time.time_ns() // 1_000_000,
            fresh=os.urandom(12).hex(),
            project=self.project.id,
            body_bytes=1 << 62,  # any of them may be larger than a record may be
        )
        prepared = prepare(submission, {}, self.rules, key, {self.project.id: self.project})
        appends = prepared.appends
        if not keep_refusals:
            appends = tuple(msgspec.structs.replace(append, refusals=()) for append in appends)
        kept = tuple(append for append in appends if append.count or append.refusals)
        return Judged(kept, prepared.outcome)


def stored_before(store: Store, project: int, key: bytes) -> Outcome | None:
    """How a batch with this key turned out, if one was stored within the window of idempotency keys.

    In a large project by all partitions, as `rows.applied_before` says.
    """
    since_ms = time.time_ns() // 1_000_000 - KEY_WINDOW_MS
    found: Outcome | None = None
    for view in views_of(store, project):
        found = view.events.known_keys([key], since_ms=since_ms).get(key)
        if found is None:
            return None
    return found
