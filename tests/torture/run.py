"""A run: rounds of faults under load, and after each the question whether all that was acknowledged is there.

A round strikes workers and the fold side by side, moves the clock, perhaps fills the disk, and ends with a
fault of the whole server. Then the clients carry through what they began, the fold catches up, and every
stored profile is held against the ledger, and its history against what is stored (`past`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from mixdown.model.errors import StoreError
from tests.torture.clients import Crowd, UnexpectedReplyError
from tests.torture.ledger import Account
from tests.torture.past import Past
from tests.torture.stage import RECOGNISED, STUCK_DRAINS, RefusedToStartError, Stage

CLIENTS: Final = 24
KILLS_WANTED: Final = 30

IN_COMMIT: Final = "worker, in a commit"
BEFORE_REPLY: Final = "worker, between commit and reply"
IN_TRANSACTION: Final = "fold, in a transaction"
IN_CHECKPOINT: Final = "fold, in a checkpoint"
WORKER_CHECKPOINT: Final = "worker, in a checkpoint"
EVENTS_TRANSACTION: Final = "events reader, in a transaction"
EVENTS_CHECKPOINT: Final = "events reader, in a checkpoint"
EVENTS_FILES: Final = "events reader, between steps of files"
INSIDE: Final = (
    IN_COMMIT,
    BEFORE_REPLY,
    IN_TRANSACTION,
    IN_CHECKPOINT,
    WORKER_CHECKPOINT,
    EVENTS_TRANSACTION,
    EVENTS_CHECKPOINT,
    EVENTS_FILES,
)
_EVENTS_LABELS: Final = {
    "events transaction": EVENTS_TRANSACTION,
    "events.db-wal write": EVENTS_TRANSACTION,
    "events.db-wal sync": EVENTS_TRANSACTION,
    "events file": EVENTS_FILES,
}
_EVENTS_PLACES: Final = (*_EVENTS_LABELS, "events file", "events.db write", "events.db sync")
_COMMIT_PLACES: Final = (
    "log.db-wal write",
    "log.db-wal write",
    "log.db-wal sync",
    "log.db write",
    "worker reply",
)
_TRANSACTION_PLACES: Final = ("fold transaction", "fold transaction", "state.db-wal write")
_CHECKPOINT_PLACES: Final = (
    "state.db write",
    "state.db-wal sync",
    "state.db sync",
    "log.db write",
    "log.db sync",
)

# What a mutant's run aims at, so that the fault meets the moment that the broken guarantee is for.
AIMS: Final[dict[str, tuple[str, ...]]] = {
    "keys_unchecked": (),
    "watermark_apart": ("fold", "fold"),
    "history_apart": ("fold", "fold"),
    "trim_early": ("power",),
    "position_kept": ("checkpoint",),
    "reply_early": ("worker", "worker"),
    "unsynced": ("power",),
    "events_twice": (),
    "events_apart": ("events", "events"),
    "files_unsynced": ("power",),
    "files_unlinked": ("window",),
}


@dataclass
class Report:
    """What a run did and found."""

    seed: int
    seconds: float = 0.0
    rounds: int = 0
    disk: str = ""
    kills: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    traffic: Counter[str] = field(default_factory=Counter)
    records: int = 0
    recognised: Counter[str] = field(default_factory=Counter)
    lost_writes: int = 0
    account: Account = field(default_factory=Account)
    changes: int = 0
    fault: str = ""
    log: str = ""

    @property
    def kills_inside(self) -> int:
        """Kills that struck inside a commit, a fold transaction or a checkpoint."""
        return sum(self.kills[label] for label in INSIDE)

    def failures(self, *, kills_wanted: int = KILLS_WANTED) -> list[str]:
        """Why the run proves nothing, or proves a fault; empty when all is well."""
        found = []
        if self.fault:
            found.append(f"the run ended early: {self.fault}")
        if self.account.losses:
            found.append(f"{self.account.losses} acknowledged records were lost")
        if self.account.duplicates:
            found.append(f"{self.account.duplicates} records were applied twice")
        if self.account.differences:
            found.append(f"{self.account.differences} profiles are not what their records make")
        if self.kills.total() < kills_wanted:
            found.append(f"only {self.kills.total()} kills took effect, {kills_wanted} are wanted")
        if not self.recognised.total():
            found.append("no retry of an acknowledged request was recognised")
        return found

    def figures(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "rounds": self.rounds,
            "disk_filled": self.disk,
            "kills": self.kills.total(),
            "kills_inside_commits_transactions_and_checkpoints": self.kills_inside,
            "kills_by_place": dict(sorted(self.kills.items())),
            "events": dict(sorted(self.events.items())),
            "unsynced_writes_lost_in_power_cuts": self.lost_writes,
            "records": self.records,
            "traffic": dict(sorted(self.traffic.items())),
            "recognised_retries": {name: self.recognised[name] for name in RECOGNISED.values()},
            "changes_taken_back": self.changes,
            "losses": self.account.losses,
            "duplicates": self.account.duplicates,
            "differences": self.account.differences,
        }

    def lines(self) -> list[str]:
        """The report for people."""
        rows: list[tuple[str, object]] = [
            ("seed", self.seed),
            ("seconds", f"{self.seconds:.1f}"),
            ("rounds", self.rounds),
            ("kills", f"{self.kills.total()}, {self.kills_inside} of them inside"),
            *((f"  {label}", count) for label, count in sorted(self.kills.items())),
            *sorted(self.events.items()),
            ("unsynced writes lost", self.lost_writes),
            ("records acknowledged", self.records),
            *sorted(self.traffic.items()),
            *((f"recognised {name}", self.recognised[name]) for name in RECOGNISED.values()),
            ("changes taken back and done again", self.changes),
            ("losses", self.account.losses),
            ("duplicates", self.account.duplicates),
            ("differences", self.account.differences),
        ]
        return [f"{name:38}{value}" for name, value in rows] + self.account.examples


class Run:
    """One run on one stage."""

    def __init__(self, stage: Stage, crowd: Crowd, report: Report, *, mutant: str = "") -> None:
        self._stage = stage
        self._crowd = crowd
        self._report = report
        self._mutant = mutant
        self._random = random.Random(f"{report.seed}/rounds")
        self._ends = self._shuffled_ends()
        self._past = Past()

    async def rounds(self, seconds: float) -> None:
        """Rounds until the time is over or something is wrong; twice as long where kills are wanting."""
        began = time.monotonic()
        self._crowd.start()
        while self._report.account.exact:
            spent = time.monotonic() - began
            enough = self._mutant or self._report.kills.total() >= KILLS_WANTED
            if spent > seconds and (enough or spent > 2 * seconds):
                return
            await self._round()
            self._report.rounds += 1

    async def _round(self) -> None:
        self._crowd.go_on()
        await asyncio.sleep(self._random.uniform(0.1, 0.4))
        if self._mutant:
            await self._aim(AIMS[self._mutant])
        else:
            await self._stage.jump()
            async with asyncio.TaskGroup() as lanes:
                lanes.create_task(self._lane("worker", self._random.randint(3, 5)))
                lanes.create_task(self._lane("fold", self._random.randint(3, 4)))
                lanes.create_task(self._lane("events", self._random.randint(2, 3)))
                if self._report.rounds % 2:
                    lanes.create_task(self._stage.fill_disk(lambda: self._crowd.counts["answered 503"]))
                    lanes.create_task(self._crowd.send_heavy())
                else:
                    lanes.create_task(self._stage.fill_at_checkpoints())
            await asyncio.to_thread(self._stage.count_recognised)
            await self._ends[self._report.rounds % len(self._ends)]()
        await self._crowd.rest()
        stored = await asyncio.to_thread(self._stage.stored)
        await asyncio.to_thread(self._stage.count_recognised)
        account = self._crowd.ledger.compare(stored)
        self._report.account = account
        try:
            events = await asyncio.to_thread(self._stage.stored_events)
        except StoreError as error:  # a listed file is gone, or not what it was
            account.lost(1, str(error))
        else:
            self._crowd.ledger.compare_events(events, account)
        for fault in await asyncio.to_thread(self._past.faults, self._stage.data, stored):
            account.differs(fault)
        self._report.changes = self._past.changes

    async def _aim(self, targets: tuple[str, ...]) -> None:
        await asyncio.sleep(self._random.uniform(0.5, 1.5))
        for target in targets:
            if target == "power":
                await self._stage.cut_power(self._in_flight)
            elif target == "checkpoint":
                await self._stage.fill_at_checkpoints()
            elif target == "window":
                await self._stage.kill_in_window("events")
            else:
                await self._strike(target)

    async def _lane(self, role: str, strikes: int) -> None:
        for _ in range(strikes):
            await asyncio.sleep(self._random.uniform(0.02, 0.3))
            if self._random.random() < 0.3:
                await self._stage.kill(role, self._in_flight)
            else:
                await self._strike(role)

    async def _strike(self, role: str) -> None:
        if role == "worker":
            place = "log.db-wal write" if self._mutant else self._random.choice(_COMMIT_PLACES)
            label = BEFORE_REPLY if place == "worker reply" else WORKER_CHECKPOINT
            await self._stage.strike(role, place, IN_COMMIT if "wal" in place else label)
        elif role == "events":
            place = "events transaction" if self._mutant else self._random.choice(_EVENTS_PLACES)
            await self._stage.strike(role, place, _EVENTS_LABELS.get(place, EVENTS_CHECKPOINT))
        elif self._mutant or self._random.random() < 0.5:
            await self._stage.strike(role, self._random.choice(_TRANSACTION_PLACES), IN_TRANSACTION)
        else:
            await self._stage.strike(role, self._random.choice(_CHECKPOINT_PLACES), IN_CHECKPOINT)

    def _shuffled_ends(self) -> list[Callable[[], Awaitable[None]]]:
        ends: list[Callable[[], Awaitable[None]]] = [
            lambda: self._stage.cut_power(self._in_flight),
            lambda: self._stage.kill_supervisor(self._in_flight),
            lambda: self._stage.cut_power(self._in_flight),
            self._stage.drain,
        ]
        self._random.shuffle(ends)
        return ends

    def _in_flight(self) -> int:
        return self._crowd.in_flight


async def _torture(stage: Stage, report: Report, seconds: float, mutant: str) -> None:
    try:
        await asyncio.to_thread(stage.start)
    except RefusedToStartError as error:
        report.fault = f"the server does not start at all: {error}"
        return
    began = time.monotonic()
    crowd = Crowd(stage.server, stage.port, clients=CLIENTS, seed=report.seed, workers=stage.workers)
    try:
        await Run(stage, crowd, report, mutant=mutant).rounds(seconds)
    except* RefusedToStartError as errors:
        for refusal in errors.exceptions:
            assert isinstance(refusal, RefusedToStartError)
            report.account.lost(refusal.lost, f"the server refused to start: {refusal}")
    except* (UnexpectedReplyError, AssertionError) as errors:
        report.fault = "; ".join(f"{type(error).__name__}: {error}" for error in errors.exceptions)
    finally:
        await crowd.stop()
        report.traffic = crowd.counts
        report.records = crowd.ledger.records
        report.seconds = time.monotonic() - began


def torture(*, seconds: float, seed: int, mutant: str = "", own_disk: bool = True) -> Report:
    """A whole run, everything tidied up behind it. `mutant` breaks a guarantee on purpose."""
    stage = Stage(seed, mutant=mutant, own_disk=own_disk)
    report = Report(
        seed, disk=stage.disk, kills=stage.kills, events=stage.events, recognised=stage.recognised
    )
    try:
        asyncio.run(_torture(stage, report, seconds, mutant))
        report.lost_writes = stage.lost_writes
        if report.failures() or stage.events[STUCK_DRAINS]:
            report.log = stage.log_text()
    finally:
        stage.close()
    return report
