"""`python -m tests.torture`: torture a server for a while; ends with status 1 for a fault."""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

from bench.machine import facts
from tests.durability.faults.mutants import MUTANTS
from tests.torture.run import torture

LOG: Final = Path(tempfile.gettempdir()) / "mixdown-torture.log"
RESULT: Final = Path(__file__).parents[2] / "bench" / "results" / "torture.json"


def main(arguments: list[str]) -> int:
    """Run, print the report, and the verdict last."""
    parser = argparse.ArgumentParser(prog="make torture", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="how long (default 120)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--mutant", choices=sorted(MUTANTS), default="", help="break a guarantee on purpose")
    parser.add_argument("--no-mount", action="store_true", help="fill the disk below SQLite alone")
    parser.add_argument("--save", action="store_true", help=f"keep the figures in {RESULT.name}")
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and tidy up on the way, as on Ctrl-C
    print(f"torture: seed {asked.seed}, {asked.seconds:.0f} s", flush=True)  # noqa: T201
    report = torture(seconds=asked.seconds, seed=asked.seed, mutant=asked.mutant, own_disk=not asked.no_mount)
    failures = report.failures()
    if report.log:
        LOG.write_text(report.log)
        print(f"the server's log is kept in {LOG}")  # noqa: T201
    print("\n".join(report.lines()))  # noqa: T201
    for failure in failures:
        print(f"torture: FAILED: {failure}")  # noqa: T201
    if not failures:
        print("torture: passed: nothing lost, nothing applied twice")  # noqa: T201
        if asked.save:
            RESULT.parent.mkdir(exist_ok=True)
            result = {"machine": facts(RESULT.parent), "torture": report.figures()}
            RESULT.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
