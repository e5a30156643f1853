# ruff: noqa: INP001 - Python imports it by this name from a folder on its path, not as part of a package
"""Put first on PYTHONPATH of a server under test: faults around the reply to a browser's call, in workers.

RESEND_MARKER   a request whose records name `linger` writes this file once they are on disk, and its reply is
                never written, so that a test can kill the worker between the two. Once only.
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
MUTANT = os.environ.get("RESEND_MUTANT", "")


def break_the_rule(calls: Any) -> None:
    """Put the mutant in force."""
    settled = calls.CallTable.settle
    claimed = calls.CallTable.claim

    def settle(self: Any, call: Any, *, answered: bool) -> None:
        del answered
        settled(self, call, answered=MUTANT == "all_answered")

    def claim(self: Any, digest: bytes, now_ms: int) -> Any:
        found = claimed(self, digest, now_ms)
        broken = found is calls.Verdict.WAIT if MUTANT == "no_waiting" else getattr(found, "again", False)
        return calls.Verdict.UNTRACKED if broken else found

    if MUTANT in ("all_answered", "none_answered"):
        calls.CallTable.settle = settle
    else:
        calls.CallTable.claim = claim


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
        if "linger" in str(submission.records) and note_pid():
            await asyncio.sleep(3600)
        return outcome

    pipeline.Ingest.submit = submit


if "worker" in sys.orig_argv:
    if MUTANT:
        from mixdown.store import calls

        break_the_rule(calls)
    if MARKER:
        from mixdown.ingest import pipeline

        never_reply_once(pipeline)
