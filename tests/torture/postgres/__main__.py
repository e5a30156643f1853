"""`python -m tests.torture.postgres`: torture nodes on PostgreSQL; ends with status 1 for a fault."""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest

from bench.machine import facts
from tests.torture.postgres.faults import BOUNCED, STRAIGHT
from tests.torture.postgres.run import torture

LOG: Final = Path(tempfile.gettempdir()) / "mixdown-torture-postgres.log"
RESULT: Final = Path(__file__).parents[3] / "bench" / "results" / "torture_postgres.json"


def main(arguments: list[str]) -> int:
    """Run, print the report, and the verdict last."""
    parser = argparse.ArgumentParser(prog="make torture-postgres", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="how long (default 300)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    names = sorted({*STRAIGHT, *BOUNCED})
    parser.add_argument("--only", action="append", default=[], choices=names, help="this fault; repeatable")
    parser.add_argument("--save", action="store_true", help=f"add the figures to {RESULT.name}")
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and tidy up on the way, as on Ctrl-C
    print(f"torture-postgres: seed {asked.seed}, {asked.seconds:.0f} s", flush=True)  # noqa: T201
    try:
        report = torture(seconds=asked.seconds, seed=asked.seed, only=asked.only)
    except pytest.skip.Exception as missing:
        print(f"torture-postgres: cannot run: {missing}")  # noqa: T201
        return 1
    failures = report.failures()
    if report.log:
        LOG.write_text(report.log)
        print(f"the nodes' log is kept in {LOG}")  # noqa: T201
    print("\n".join(report.lines()))  # noqa: T201
    for failure in failures:
        print(f"torture-postgres: FAILED: {failure}")  # noqa: T201
    if not failures:
        print("torture-postgres: passed: nothing lost, nothing applied twice")  # noqa: T201
        if asked.save:
            save(report.figures())
    return 1 if failures else 0


def save(figures: dict[str, Any], result: Path = RESULT) -> None:
    """Keep the figures of a run beside those of runs with other seeds, each with what was run, and when."""
    machine = facts(result.parent)
    own = {name: machine.pop(name) for name in ("mixdown", "commit", "at", "load_before")}
    runs = json.loads(result.read_text())["runs"] if result.exists() else []
    runs = [run for run in runs if run["seed"] != figures["seed"]] + [{**figures, "run": own}]
    kept = {"machine": machine, "runs": sorted(runs, key=lambda run: int(run["seed"]))}
    result.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
