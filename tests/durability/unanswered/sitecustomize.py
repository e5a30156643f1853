# ruff: noqa: INP001 - Python imports it by this name from a folder on its path, not as part of a package
"""Put first on PYTHONPATH of a server under test: faults around the reply to a browser's call, in workers.

RESEND_MARKER   a request whose records name `linger` writes this file once they are on disk, and its reply is
                never written, so that a test can kill the worker between the two. Once only.
RESEND_WINDOW_MS  for how long the same request is taken for the same call, in place of a minute.
RESEND_MUTANT   the rule broken on purpose, to show that the tests notice:
                all_answered    every call counts as answered, cut or not
                none_answered   no call counts as answered
                no_waiting      a twin that is in hand counts as another call
                dead_answered   a call whose worker died counts as answered
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

MARKER = os.environ.get("RESEND_MARKER", "")
WINDOW_MS = os.environ.get("RESEND_WINDOW_MS", "")
MUTANT = os.environ.get("RESEND_MUTANT", "")


def break_the_rule(calls: Any, resends: Any) -> None:
    """Put the mutant in force."""
    settled = calls.CallTable.settle
    claimed = calls.CallTable.claim

    def settle(self: Any, call: Any, *, answered: bool) -> None:
        del answered
        settled(self, call, answered=MUTANT == "all_answered")

    def claim_afresh(self: Any, digest: bytes, now_ms: int) -> Any:
        found = claimed(self, digest, now_ms)
        return calls.Verdict.UNTRACKED if getattr(found, "again", False) else found

    async def claim_at_once(self: Any, digest: bytes) -> Any:
        found = self._table.claim(digest, self._now_ms())
        return found if isinstance(found, calls.Call) else None

    def settle_alone(self: Any, call: Any, *, answered: bool) -> None:
        self._table.settle(call, answered=answered)

    if MUTANT in ("all_answered", "none_answered"):
        calls.CallTable.settle = settle
    elif MUTANT == "dead_answered":
        calls.CallTable.claim = claim_afresh
    elif MUTANT == "no_waiting":
        resends.Resends.claim = claim_at_once
        resends.Resends.settle = settle_alone


def never_reply_once(pipeline: Any) -> None:
    """Let the first request that names `linger` be stored and never answered."""
    submitted = pipeline.Ingest.submit
    marker = Path(MARKER)

    def note_pid() -> bool:
        if marker.exists():
            return False
        marker.write_text(str(os.getpid()))
        return True

    async def submit(self: Any, submission: Any) -> Any:
        outcome = await submitted(self, submission)
        if "linger" in repr(submission) and note_pid():
            await asyncio.sleep(3600)
        return outcome

    pipeline.Ingest.submit = submit


if "worker" in sys.orig_argv:
    if WINDOW_MS:
        from mixdown.store import calls

        calls.RESEND_WINDOW_MS = int(WINDOW_MS)  # type: ignore[misc]
    if MUTANT:
        from mixdown.ingest import resends
        from mixdown.store import calls

        break_the_rule(calls, resends)
    if MARKER:
        from mixdown.ingest import pipeline

        never_reply_once(pipeline)
