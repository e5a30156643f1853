"""Put its folder and the repository's on PYTHONPATH of a server under test: faults for its processes.

FAULT_MARKER   the fold writes this file inside each of its transactions and lingers there, so that a
               test can kill it between its writes and its commit.
FAULT_MUTANT   a guarantee broken on purpose (`mutants.py`).
FAULT_FOLDER   the folder of a `control.Control`: clock, lossy disk and deaths follow it.
FAULT_DATA     with it: the data folder whose files lie on the lossy disk.
FAULT_HASTE    1: checkpoints and trimming come after little, so that there are many of them; the fold
               takes small steps, reads few profiles at once, and does both in two threads; events are
               closed, split, merged and unlinked a few at a time.
"""

import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

CHILD = next((word for word in ("worker", "fold", "events") if word in sys.orig_argv), "")
MARKER = os.environ.get("FAULT_MARKER", "")
MUTANT = os.environ.get("FAULT_MUTANT", "")
FOLDER = os.environ.get("FAULT_FOLDER", "")
STEP_RECORDS = 24


def linger() -> None:
    """Stay in the transaction for a moment, with a file that tells so."""
    marker = Path(MARKER)
    marker.touch()
    time.sleep(0.03)
    marker.unlink(missing_ok=True)


def before_each_commit(call: Any) -> None:
    """Have the fold call something inside each of its transactions, just before the COMMIT."""
    from tests.durability.faults.mutants import state_class

    state_class().before_commit = staticmethod(call)


def follow_control() -> None:
    """The clock, the disk and the deaths that a `Control` decides."""
    from tests.durability.faults.control import Control
    from tests.durability.faults.disk import LossyVfs

    control = Control(Path(FOLDER), role=CHILD)
    true_ns = time.time_ns
    time.time_ns = lambda: true_ns() + control.clock_offset_ns
    time.time = lambda: time.time_ns() / 1e9
    follow_control.vfs = LossyVfs(Path(os.environ["FAULT_DATA"]), control)  # type: ignore[attr-defined]
    if CHILD == "events":
        follow_events(control)
    if CHILD == "worker":
        follow_replies(control)
    if CHILD == "fold":

        def in_transaction() -> None:
            if control.doomed("fold transaction"):
                control.die("fold transaction", "before")

        before_each_commit(in_transaction)


def follow_replies(control: Any) -> None:
    """The deaths of a worker between a commit and the replies to what is in it."""
    from mixdown.ingest import commit

    settle: Any = commit._settle

    def settle_or_die(batch: Any, error: Any) -> None:
        if error is None and control.doomed("worker reply"):
            control.die("worker reply", "before")
        settle(batch, error)

    commit._settle = settle_or_die


def follow_events(control: Any) -> None:
    """The deaths of the events reader: before its commits, and between the steps of what happens to files."""
    from mixdown.store.sqlite.events import SqliteEvents
    from tests.durability.faults.disk import Synced, note_syncs

    def at(place: str) -> None:
        if control.doomed(place):
            control.die(place, "before")

    SqliteEvents.before_commit = staticmethod(lambda: at("events transaction"))
    SqliteEvents.at_step = staticmethod(lambda _: at("events file"))
    note_syncs(Synced(Path(os.environ["FAULT_DATA"]), Path(FOLDER)))


def make_haste() -> None:
    """Checkpoints after a few dozen pages, trimming twice a second; small steps, in two threads."""
    from mixdown.fold import events, events_loop, loop, profiles
    from mixdown.store import event_upkeep
    from mixdown.store.sqlite import event_listing, log, state, turns
    from mixdown.store.sqlite.events import SqliteEvents

    for module, name, value in (
        (loop, "TRIM_EVERY_S", 0.5),
        (events_loop, "TEND_EVERY_S", 0.02),
        (event_listing, "_CHECKPOINT_PAGES", 60),
        (event_upkeep, "CLOSED_EVENTS", 30),
        (event_upkeep, "GATHERED_BATCHES", 4),
        (event_upkeep, "SPLIT_EVENTS", 40),
        (event_upkeep, "MANY_RECENT_FILES", 3),
        (profiles, "OVERLAP_FROM_PROFILES", 2),
        (profiles, "FIRST_AT_ONCE", 4),
        (profiles, "PROFILES_AT_ONCE", 4),
        (log, "_CHECKPOINT_AFTER_BYTES", 16 * 1024),
        (state, "_CHECKPOINT_PAGES", 60),
        (turns, "_CHECKPOINT_PAGES", 60),
    ):
        assert hasattr(module, name), f"{module.__name__} has no {name} any more"
        setattr(module, name, value)
    for reader in (profiles.ProfileFold, events.EventsReader):
        defaults = reader.__init__.__kwdefaults__
        assert defaults is not None
        assert "max_records" in defaults, "a reader's steps have no bound in records any more"
        defaults["max_records"] = STEP_RECORDS  # so that much waits, and the fold takes its next step ahead
    SqliteEvents.grace_ms = 0  # files are unlinked at once: no read of a test lasts so long


def fault() -> None:
    """All that the environment asks for."""
    if FOLDER:
        follow_control()
    if CHILD == "fold" and MARKER:
        before_each_commit(linger)
    if CHILD and os.environ.get("FAULT_HASTE"):
        make_haste()
    if MUTANT:
        from tests.durability.faults.mutants import MUTANTS

        role, mutate = MUTANTS[MUTANT]
        if role in {"", CHILD}:
            mutate()


try:
    fault()
except BaseException:  # noqa: BLE001 - Python would go on without the faults, and the test prove nothing
    traceback.print_exc()
    os._exit(97)
