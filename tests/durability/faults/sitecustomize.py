# ruff: noqa: INP001 - Python imports it by this name from a folder on its path, not as part of a package
"""Put first on PYTHONPATH of a server under test: makes faults in its child processes.

FAULT_MARKER   the fold writes this file inside each of its transactions and lingers there, so that a
               test can kill it between its writes and its commit.
FAULT_MUTANT   a guarantee broken on purpose, to show that the test notices:
               keys_unchecked   the fold applies whatever comes, retries too
               reply_early      workers answer before the chunk is committed (and commit late)
               watermark_apart  the fold commits the watermark before the profiles
"""

import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

CHILD = next((word for word in ("worker", "fold") if word in sys.orig_argv), "")
MARKER = os.environ.get("FAULT_MARKER", "")
MUTANT = os.environ.get("FAULT_MUTANT", "")


def linger() -> None:
    """Stay in the transaction for a moment, with a file that tells so."""
    marker = Path(MARKER)
    marker.touch()
    time.sleep(0.03)
    marker.unlink(missing_ok=True)


def fault_fold() -> None:
    """Patch the fold's process."""
    from mixdown.store.protocols import FoldResult
    from mixdown.store.sqlite import state

    profiles: Any = import_module("mixdown.fold.profiles")
    opened: Any = state.SqliteState.__init__
    written: Any = state.SqliteState.write

    def initialise(self: Any, *arguments: Any, **options: Any) -> None:
        opened(self, *arguments, **options)
        if MARKER:
            self.before_commit = linger

    def write_watermark_first(self: Any, result: FoldResult) -> None:
        written(self, FoldResult(result.watermark, [], [], result.now_ms))
        written(self, result)

    state.SqliteState.__init__ = initialise  # type: ignore[method-assign]
    if MUTANT == "watermark_apart":
        state.SqliteState.write = write_watermark_first  # type: ignore[method-assign]
    if MUTANT == "keys_unchecked":
        planned: Any = profiles.ProfileFold._plan

        def plan_without_keys(self: Any, chunks: Any) -> Any:
            decode = profiles.decode_body

            def decode_keyless(body: bytes) -> Any:
                segments = decode(body)
                for segment in segments:
                    segment.key = None
                    for update in segment.updates:
                        update.key = None
                return segments

            profiles.decode_body = decode_keyless
            try:
                return planned(self, chunks)
            finally:
                profiles.decode_body = decode

        profiles.ProfileFold._plan = plan_without_keys


def fault_worker() -> None:
    """Patch a worker's process."""
    from mixdown.ingest import commit

    committed: Any = commit.Committer._commit

    def reply_then_commit(self: Any, batch: Any) -> None:
        commit._settle(batch, None)
        time.sleep(0.02)
        committed(self, batch)

    if MUTANT == "reply_early":
        commit.Committer._commit = reply_then_commit  # type: ignore[method-assign]


if CHILD == "fold" and (MARKER or MUTANT):
    fault_fold()
if CHILD == "worker" and MUTANT:
    fault_worker()
