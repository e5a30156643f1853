"""`make fuzz`: made-up input against the decoders and the record parser, in several processes.

Captures of real clients are the seeds. Every input has a number: the same seed and number make the same input
again (`--only TARGET --first NUMBER --inputs 1`). Findings are written down, the process goes on; a hang is
found by the parent, which sees that a process's number stands still. The result is JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import multiprocessing
import os
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mixdown import __version__
from tests.engine import ON_POSTGRES, postgresql
from tests.hostile import targets
from tests.hostile.mutation import Mutator
from tests.hostile.stored import StoreCheck

INPUT_LIMIT_S = 0.25
BYTE_LIMIT_S = 20e-6
HANG_S = 60.0
GROWTH_LIMIT_KIB = 64 * 1024
STORE_EVERY = 20_000
STORED_AT_ONCE = 200
WARM_UP = 20_000
TARGETS = ("body", "record", "parameters", "head")
# Of twenty inputs in a row: which go where.
PLAN = ("body",) * 8 + ("record",) * 9 + ("parameters",) * 2 + ("head",)

Findings = dict[str, dict[str, Any]]
Progress = Any  # a shared array of numbers: inputs done, for each process


class TookTooLongError(Exception):
    """An input took more time of the processor than its size allows."""


class Fuzzer:
    """One process's fuzzing: `run` takes numbers, `findings` has what went wrong, `counts` what was tried."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.mutator = Mutator()
        self.records = targets.RecordCheck()
        self.findings: Findings = {}
        self.counts: Counter[str] = Counter()
        self.bytes = 0
        self.stored = 0
        self.slowest_s = 0.0

    def try_one(self, number: int, target: str) -> None:
        """Make input `number` and check it; whatever it raises is a finding."""
        self.mutator.reseed(self.seed * 1_000_003_000_000 + number)
        made, size, check = self._made(target)
        began = time.thread_time()
        try:
            check()
            took = time.thread_time() - began
            self.slowest_s = max(self.slowest_s, took)
            if took > INPUT_LIMIT_S + size * BYTE_LIMIT_S:
                raise TookTooLongError(f"{took:.2f} s for {size} bytes")  # noqa: TRY301 - a finding like others
        except Exception as error:  # noqa: BLE001 - finding these is the purpose
            self._found(target, number, made, error)
        self.counts[target] += 1
        self.bytes += size

    def _made(self, target: str) -> tuple[Any, int, Callable[[], None]]:
        mutator = self.mutator
        if target == "record":
            text = mutator.record()
            variant = int(mutator.random.random() * 4)
            return (text, variant), len(text), lambda: self.records(text, variant)
        if target == "head":
            text = mutator.broken(mutator.pick(HEADS))
            return text, len(text), lambda: targets.check_head(text)
        if target == "parameters":
            sent = mutator.read()
            return sent, len(sent.query) + len(sent.body), lambda: targets.check_parameters(sent)
        sent = mutator.request()
        return sent, len(sent.query) + len(sent.body), lambda: targets.check_body(sent)

    def _found(self, target: str, number: int, made: Any, error: Exception) -> None:
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        where = " > ".join(f"{Path(frame.filename).name}:{frame.name}" for frame in frames)
        kind = f"{target}: {type(error).__name__}: {where}"
        if isinstance(error, targets.BrokenPromiseError):
            kind += f": {error}"
        found = self.findings.setdefault(
            kind, {"count": 0, "number": number, "error": repr(error)[:500], "input": repr(made)[:20_000]}
        )
        found["count"] += 1
        if len(repr(made)) < len(found["input"]):
            found |= {"number": number, "error": repr(error)[:500], "input": repr(made)}

    def store(self, check: StoreCheck) -> None:
        """Send what was accepted lately through a real store, and compare what comes back."""
        try:
            self.stored += check(self.records.accepted)
        except Exception as error:  # noqa: BLE001 - likewise
            self._found("store", 0, self.records.accepted[:3], error)
        self.records.accepted = []


HEADS: tuple[bytes, ...] = (
    b"dXNlcjpwYXNzd29yZA==",
    b"user:password",
    b"v1.dXNlcg.1795319639.c2FsdA.abcdef",
    b"f",
    b"a.b[0].$c",
    b"(function(){})",
    b"/engage//#profile-set",
    b"/api/query/../engage",
    b"/%2e%2e/engage",
    b"203.0.113.9, 10.0.0.2",
    b"[::1]:80",
    b"fe80::1%eth0",
    b'data=[{"$token":"abc","$set":{}}]',
    b"data=%7B%22%24token%22%3A%22abc%22%7D",
    b"mixpanel-python/5.0",
)


def rss_kib() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


def work(index: int, arguments: argparse.Namespace, progress: Progress, folder: str, results: Any) -> None:
    """One process: every `processes`-th number."""
    fuzzer = Fuzzer(arguments.seed)
    only = arguments.only
    numbers = range(arguments.first + index, arguments.first + arguments.inputs, arguments.processes)
    began, before_kib = time.monotonic(), rss_kib()
    deadline = began + arguments.seconds if arguments.seconds else float("inf")
    gc.collect()
    gc.freeze()
    with StoreCheck(Path(folder) / f"store-{index}") as store:
        for done, number in enumerate(numbers):
            progress[index] = number
            fuzzer.try_one(number, only or PLAN[number % len(PLAN)])
            if done % STORE_EVERY == STORE_EVERY - STORED_AT_ONCE * 10:
                fuzzer.records.keep = STORED_AT_ONCE
            elif done % STORE_EVERY == STORE_EVERY - 1:
                fuzzer.store(store)
                fuzzer.records.keep = 0
                if time.monotonic() > deadline:
                    break
            if done == WARM_UP:
                before_kib = rss_kib()
        if fuzzer.records.accepted:
            fuzzer.store(store)
    grown = max(0, rss_kib() - before_kib)
    if grown > GROWTH_LIMIT_KIB:
        fuzzer.findings["memory grew"] = {"count": 1, "error": f"{grown} KiB", "input": "", "number": 0}
    results.put(
        {
            "index": index,
            "counts": dict(fuzzer.counts),
            "bytes": fuzzer.bytes,
            "stored": fuzzer.stored,
            "slowest_s": round(fuzzer.slowest_s, 4),
            "grown_kib": grown,
            "seconds": round(time.monotonic() - began, 1),
            "findings": fuzzer.findings,
        }
    )
    progress[index] = -1


def main(words: list[str] | None = None) -> int:
    """Run; prints a summary, writes the result where asked. Status 1 where anything was found."""
    arguments = parsed(words)
    logging.disable()  # the multipart parser has a word for every broken body
    if ON_POSTGRES:
        postgresql()  # begun here, so that it ends with this process and not with those that it forks
    context = multiprocessing.get_context("fork")
    progress = context.Array("q", [0] * arguments.processes, lock=False)
    results: Any = context.Queue()
    from tempfile import TemporaryDirectory

    began = time.monotonic()
    with TemporaryDirectory(prefix="mixdown-fuzz-") as folder:
        processes = [
            context.Process(target=work, args=(index, arguments, progress, folder, results), daemon=True)
            for index in range(arguments.processes)
        ]
        for process in processes:
            process.start()
        try:
            gathered, hung = watch(processes, progress, results)
        finally:
            logging.disable(logging.NOTSET)
    report = summary(arguments, gathered, hung, time.monotonic() - began)
    text = json.dumps(report, indent=2, ensure_ascii=False)
    if arguments.out:
        Path(arguments.out).write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    return 1 if report["findings"] else 0


def parsed(words: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="how many in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    parser.add_argument("--seconds", type=float, default=0, help="stop after about so many seconds")
    parser.add_argument("--processes", type=int, default=max(1, os.cpu_count() or 1))
    parser.add_argument("--only", choices=TARGETS, help="one target alone")
    parser.add_argument("--out", help="a file for the result")
    return parser.parse_args(words)


def watch(processes: list[Any], progress: Progress, results: Any) -> tuple[list[dict[str, Any]], Findings]:
    """Wait for all; end a process whose number stands still, or that died, and say at which input."""
    seen = {index: (progress[index], time.monotonic()) for index in range(len(processes))}
    gathered: list[dict[str, Any]] = []
    lost: Findings = {}
    waiting = set(seen)
    while waiting:
        while not results.empty():
            gathered.append(results.get())
            waiting.discard(gathered[-1]["index"])
        for index in list(waiting):
            number = progress[index]
            if number != seen[index][0]:
                seen[index] = (number, time.monotonic())
            dead = not processes[index].is_alive() and results.empty()
            if dead or (number >= 0 and time.monotonic() - seen[index][1] > HANG_S):
                kind = "ended" if dead else "hung"
                lost[f"process {index} {kind} at input {number}"] = {
                    "count": 1,
                    "number": number,
                    "error": kind,
                    "input": "",
                }
                processes[index].kill()
                waiting.discard(index)
        time.sleep(0.05)
    return gathered, lost


def summary(
    arguments: argparse.Namespace, gathered: list[dict[str, Any]], hung: Findings, seconds: float
) -> dict[str, Any]:
    """The result as it is written down."""
    counts: Counter[str] = Counter()
    findings = dict(hung)
    for result in gathered:
        counts.update(result["counts"])
        for kind, found in result["findings"].items():
            known = findings.setdefault(kind, {**found, "count": 0})
            known["count"] += found["count"]
    total = sum(counts.values())
    return {
        "seed": arguments.seed,
        "first": arguments.first,
        "inputs": total,
        "inputs_by_target": dict(counts),
        "stored_and_read_back": sum(result["stored"] for result in gathered),
        "megabytes": round(sum(result["bytes"] for result in gathered) / 1e6, 1),
        "seconds": round(seconds, 1),
        "inputs_per_second": round(total / seconds),
        "processes": arguments.processes,
        "slowest_input_s": max((result["slowest_s"] for result in gathered), default=0),
        "memory_grown_kib": [result["grown_kib"] for result in gathered],
        "mixdown": __version__,
        "findings": findings,
    }


if __name__ == "__main__":
    sys.exit(main())
