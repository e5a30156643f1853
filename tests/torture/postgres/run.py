"""A run: fault after fault under load, and after each the question whether what was acknowledged is there.

Clients write without a pause; a fault comes and goes; then writes must be acknowledged again within a bound,
the clients carry through what they began, the readers catch up, and everything that is stored is held against
the ledger. Readers ask all the while, and get an answer or a 503.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Final

import psycopg
import pytest

from tests.torture.clients import NO_ANSWER, Crowd, UnexpectedReplyError
from tests.torture.ledger import Account
from tests.torture.postgres.clusters import pair
from tests.torture.postgres.faults import BOUNCED, STRAIGHT, Fault
from tests.torture.postgres.stage import NODES, Stage

CLIENTS: Final = 16
SETTINGS: Final = {"max_connections": "80"}
RECOVERED_S: Final = 30.0
"""How long after a fault is over until a write is acknowledged again, at most."""
_PAUSE_S: Final = 0.2
_READ_EVERY_S: Final = 0.5
_READ_LIMIT_S: Final = 60.0
_STILL_S: Final = 4.0


@dataclass
class Tally:
    """What one sort of fault has come to."""

    rounds: int = 0
    acknowledged: int = 0
    lost: int = 0
    twice: int = 0
    different: int = 0
    answered_503: int = 0
    reads_503: int = 0
    slowest_s: float = 0.0
    recovered_s: float = 0.0

    @property
    def found(self) -> int:
        """How many of the acknowledged records are there."""
        return self.acknowledged - self.lost


@dataclass
class Report:
    """What a run did and found."""

    seed: int
    seconds: float = 0.0
    tallies: dict[str, Tally] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    traffic: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    stood_still_s: float = 0.0
    """How long this machine ran nothing at all, not even the clients: what took long then proves nothing."""
    faults: list[str] = field(default_factory=list)
    log: str = ""

    def failures(self) -> list[str]:
        """What was not as it must be; empty when all is well."""
        found = list(self.faults)
        for name, tally in self.tallies.items():
            if tally.lost:
                found.append(f"{name}: {tally.lost} acknowledged records were lost")
            if tally.twice:
                found.append(f"{name}: {tally.twice} records were applied twice")
            if tally.different:
                found.append(f"{name}: {tally.different} profiles are not what their records make")
            if tally.recovered_s > RECOVERED_S and not self.stood_still_s:
                found.append(f"{name}: writes were taken again only after {tally.recovered_s:.0f} s")
        if self.traffic[NO_ANSWER] and not self.stood_still_s:
            found.append(f"{self.traffic[NO_ANSWER]} requests got no answer in time")
        return found

    def figures(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "stood_still_s": round(self.stood_still_s, 1),
            "faults": {
                name: {
                    "rounds": tally.rounds,
                    "acknowledged": tally.acknowledged,
                    "found": tally.found,
                    "twice": tally.twice,
                    "answered_503": tally.answered_503,
                    "reads_503": tally.reads_503,
                    "slowest_answer_s": round(tally.slowest_s, 1),
                    "recovered_after_s": round(tally.recovered_s, 1),
                }
                for name, tally in self.tallies.items()
            },
            "events": dict(sorted(self.counts.items())),
            "traffic": dict(sorted(self.traffic.items())),
        }

    def lines(self) -> list[str]:
        """The report for people."""
        head = (
            "fault",
            "rounds",
            "acknowledged",
            "found",
            "twice",
            "503",
            "reads 503",
            "slowest",
            "again in",
        )
        rows: list[Sequence[object]] = [head]
        for name, each in self.tallies.items():
            counted = (each.rounds, each.acknowledged, each.found, each.twice)
            answered = (each.answered_503, each.reads_503, f"{each.slowest_s:.1f} s")
            rows.append((name, *counted, *answered, f"{each.recovered_s:.1f} s"))
        lines = [f"{row[0]!s:32}" + "".join(f"{cell!s:>13}" for cell in row[1:]) for row in rows]
        lines += [f"the machine stood still for {self.stood_still_s:.0f} s"] if self.stood_still_s else []
        lines += [f"{name:44}{count}" for name, count in sorted((self.counts + self.traffic).items())]
        return [*lines, *self.examples]


class Run:
    """Rounds on one stage."""

    def __init__(self, stage: Stage, crowd: Crowd, report: Report, label: str) -> None:
        self._stage = stage
        self._crowd = crowd
        self._report = report
        self._label = label
        self._random = random.Random(f"{report.seed}/{label}/rounds")
        self._read_503 = 0

    async def rounds(self, faults: Mapping[str, Fault], seconds: float) -> None:
        """Each fault, then each again, until the time is over or something is wrong."""
        began = time.monotonic()
        laps = 0
        self._crowd.start()
        reading = asyncio.create_task(self._read())
        watching = asyncio.create_task(self._watch_the_machine())
        try:
            while True:
                names = list(faults)
                self._random.shuffle(names)
                for name in names:
                    await self._round(name, faults[name])
                    if reading.done():
                        reading.result()
                    if self._report.failures() or (laps and time.monotonic() - began > seconds):
                        return
                laps += 1
                if time.monotonic() - began > seconds:
                    return
        finally:
            for task in (reading, watching):
                task.cancel()
            await asyncio.gather(reading, watching, return_exceptions=True)

    async def _round(self, name: str, fault: Fault) -> None:
        crowd = self._crowd
        tally = self._report.tallies.setdefault(f"{name}{self._label}", Tally())
        records, refused, reads = crowd.ledger.records, crowd.counts["answered 503"], self._read_503
        crowd.slowest_s = 0.0
        crowd.go_on()
        await asyncio.sleep(self._random.uniform(0.5, 1.5))
        await asyncio.to_thread(fault, self._stage)
        over_s = time.monotonic()
        while crowd.last_acknowledged_s < over_s:
            crowd.raise_fault()
            if time.monotonic() - over_s > 2 * RECOVERED_S:
                break
            await asyncio.sleep(0.05)
        tally.recovered_s = max(tally.recovered_s, time.monotonic() - over_s)
        await asyncio.sleep(0.5)
        await crowd.rest()
        account = await self._compare()
        tally.rounds += 1
        tally.acknowledged += crowd.ledger.records - records
        tally.answered_503 += crowd.counts["answered 503"] - refused
        tally.reads_503 += self._read_503 - reads
        tally.slowest_s = max(tally.slowest_s, crowd.slowest_s)
        tally.lost, tally.twice, tally.different = account.losses, account.duplicates, account.differences
        self._report.examples = account.examples

    async def _compare(self) -> Account:
        stored = await asyncio.to_thread(self._stage.stored)
        account = self._crowd.ledger.compare(stored)
        events = await asyncio.to_thread(self._stage.stored_events)
        self._crowd.ledger.compare_events(events, account)
        return account

    async def _watch_the_machine(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(_READ_EVERY_S)
            late_s = time.monotonic() - before - _READ_EVERY_S
            if late_s > _STILL_S:
                self._report.stood_still_s += late_s

    async def _read(self) -> None:
        """Ask a node for profiles again and again: an answer, or 503, in time."""
        while True:
            await asyncio.sleep(_READ_EVERY_S)
            server = self._stage.server
            began = time.monotonic()
            try:
                reply = await asyncio.wait_for(
                    asyncio.to_thread(server.get, "/api/query/engage", project_id=1, page_size=10),
                    _READ_LIMIT_S,
                )
            except TimeoutError:
                await asyncio.sleep(2 * _READ_EVERY_S)  # in which it shows whether the machine stood still
                if not self._report.stood_still_s:
                    waited_s = time.monotonic() - began
                    raise UnexpectedReplyError(f"a read got no answer in {waited_s:.0f} s") from None
                continue
            except OSError:
                continue  # its node was killed
            except HTTPException:  # likewise, in the middle of an answer
                continue
            if reply.status == 503:
                self._read_503 += 1
            elif reply.status != 200:
                raise UnexpectedReplyError(f"a read was answered {reply.status}: {reply.body[:300]!r}")


async def _on_stage(
    stage: Stage, report: Report, faults: Mapping[str, Fault], seconds: float, label: str
) -> None:
    crowd = Crowd(
        stage.server,
        *stage.ports,
        clients=CLIENTS,
        seed=report.seed,
        workers=stage.workers,
        whole_requests=not stage.large,
        pause_s=_PAUSE_S,
    )
    try:
        await Run(stage, crowd, report, label).rounds(faults, seconds)
    except* (UnexpectedReplyError, AssertionError, OSError, psycopg.Error, pytest.fail.Exception) as errors:
        # a node that does not start says so with all of its log
        report.faults += [f"{type(error).__name__}: {str(error)[:1000]}" for error in errors.exceptions]
    finally:
        await crowd.stop()
        report.traffic += crowd.counts


def run(
    report: Report,
    faults: Mapping[str, Fault],
    seconds: float,
    *,
    bounced: bool,
    large: bool,
    nodes: int = NODES,
    standby: bool = True,
) -> Report:
    """One stage: each fault once at least, and again for `seconds`. Everything is tidied up behind it."""
    began = time.monotonic()
    with pair(SETTINGS, standby=standby and not bounced) as servers:
        stage = Stage(servers, report.seed, large=large, bounced=bounced, nodes=nodes)
        try:
            label = ", through pgbouncer" if bounced else ""
            asyncio.run(_on_stage(stage, report, faults, seconds, label))
            report.counts += stage.counts
            for network in stage.networks.values():
                report.counts += network.counts
            if report.failures():
                report.log = stage.log_text()
        finally:
            stage.close()
    report.seconds += time.monotonic() - began
    return report


def torture(*, seconds: float, seed: int, only: Sequence[str] = ()) -> Report:
    """A whole run: three quarters of it straight, with a standby, the rest through pgbouncer.

    A project that is large and one that is not take turns, by the seed.
    """
    report = Report(seed)
    for bounced, all_faults, share in ((False, STRAIGHT, 0.75), (True, BOUNCED, 0.25)):
        faults = {name: fault for name, fault in all_faults.items() if not only or name in only}
        if faults and not report.failures():
            large = (seed + bounced) % 2 == 0
            run(report, faults, seconds * share, bounced=bounced, large=large)
    return report
