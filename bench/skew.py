"""`python -m bench.skew`: how unevenly a large project's updates fall on partitions and folds.

Profiles are visited by a zipf law: the k-th most visited of all is as likely as k to the power of -s. The
most visited are placed one by one, by the very rule that the store places them by; the rest, each next to
nothing, falls evenly. Loads are expectations over a long time, no draws: left to chance is which profiles
meet in a partition, so each figure is the middle one, and the worst, of several seeds. No server is started.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any, Final

from bench.report import RESULTS, ROOT
from mixdown.store.places import partition_for, profile_key_text

NAME: Final = "skew"
PAGE: Final = ROOT / "docs" / "scaling.md"
PROFILES: Final = 10_000_000_000
PLACED: Final = 50_000
SEEDS: Final = 7
PARTITIONS: Final = (16, 32, 64, 128, 256, 512)
EXPONENTS: Final = (0.0, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)
WORKERS: Final = (8, 16, 32)
FOLDED: Final = 1.0
"""The exponent at which workers are compared."""
Result = dict[str, Any]


def weights(exponent: float, profiles: int, placed: int) -> tuple[list[float], float]:
    """The shares of the most visited profiles, and that of all others together."""
    own = [rank**-exponent for rank in range(1, placed + 1)]
    # the sum over all others lies between two integrals that are as good as equal
    begin, end = placed + 0.5, profiles + 0.5
    if math.isclose(exponent, 1.0):
        rest = math.log(end / begin)
    else:
        rest = (end ** (1 - exponent) - begin ** (1 - exponent)) / (1 - exponent)
    total = math.fsum(own) + rest
    return [share / total for share in own], rest / total


def places(seed: int, count: int, placed: int = PLACED) -> list[int]:
    """The partitions of the most visited profiles, by their rank."""
    source = random.Random(seed)
    return [
        partition_for(count, 1, profile_key_text("", f"{source.getrandbits(64):016x}")) for _ in range(placed)
    ]


def loads(shares: Sequence[float], rest: float, at: Sequence[int], count: int) -> list[float]:
    """The share of all updates that each partition gets."""
    found = [rest / count] * count
    for share, partition in zip(shares, at, strict=True):
        found[partition] += share
    return found


def worst_worker(found: Sequence[float], workers: int, source: random.Random) -> float:
    """The load of the busiest worker over the mean: all hold equally many partitions, whichever."""
    order = list(range(len(found)))
    source.shuffle(order)
    held = [math.fsum(found[number] for number in order[worker::workers]) for worker in range(workers)]
    return max(held) * workers


def measure() -> Result:
    """All figures."""
    began = time.monotonic()
    placed = {count: [places(seed, count) for seed in range(SEEDS)] for count in PARTITIONS}
    hottest: dict[str, dict[str, list[float]]] = {}
    largest: dict[str, float] = {}
    workers: dict[str, dict[str, float]] = {}
    for exponent in EXPONENTS:
        shares, rest = weights(exponent, PROFILES, PLACED)
        largest[str(exponent)] = shares[0]
        for count in PARTITIONS:
            found = [loads(shares, rest, at, count) for at in placed[count]]
            ratios = sorted(max(each) * count for each in found)
            kept = [statistics.median(ratios), ratios[-1]]
            hottest.setdefault(str(exponent), {})[str(count)] = [round(each, 3) for each in kept]
            if exponent == FOLDED:
                source = random.Random(0)
                for number in WORKERS:
                    if number <= count:
                        busiest = [worst_worker(each, number, source) for each in found]
                        workers.setdefault(str(number), {})[str(count)] = round(statistics.median(busiest), 3)
    return {
        "profiles": PROFILES,
        "placed": PLACED,
        "seeds": SEEDS,
        "hottest": hottest,
        "largest": {name: float(f"{share:.3g}") for name, share in largest.items()},
        "workers": workers,
        "seconds": round(time.monotonic() - began, 1),
    }


def markdown(result: Result) -> str:
    """The tables, for people."""
    lines = [
        "| s | largest profile | " + " | ".join(f"{count} partitions" for count in PARTITIONS) + " |",
        "| --- |" + " ---: |" * (len(PARTITIONS) + 1),
    ]
    for exponent, ratios in result["hottest"].items():
        cells = [f"{ratios[str(count)][0]:.2f} ({ratios[str(count)][1]:.2f})" for count in PARTITIONS]
        share = result["largest"][exponent]
        lines.append(f"| {exponent} | {_percent(share)} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"| workers, s = {FOLDED} | " + " | ".join(f"{count} partitions" for count in PARTITIONS) + " |",
        "| --- |" + " ---: |" * len(PARTITIONS),
    ]
    for number, busiest in result["workers"].items():
        cells = [f"{busiest[str(count)]:.2f}" if str(count) in busiest else "" for count in PARTITIONS]
        lines.append(f"| {number} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _percent(share: float) -> str:
    return f"{share * 100:.2g} %" if share >= 1e-5 else "none to speak of"


def published(page: str, tables: str, name: str = NAME) -> str:
    """The page with these tables between its marks."""
    begin, end = (f"<!-- bench:{name} {edge} (python -m bench.{name}) -->" for edge in ("begin", "end"))
    head, _, behind = page.partition(begin)
    _, found, tail = behind.partition(end)
    assert found, f"{PAGE.name} has no marks of {name}"
    return f"{head}{begin}\n{tables}{end}{tail}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, keep the figures, and write them into docs/scaling.md."""
    parser = argparse.ArgumentParser(prog="python -m bench.skew", description=__doc__)
    parser.add_argument("--print", action="store_true", dest="only", help="keep nothing")
    chosen = parser.parse_args(arguments)
    result = measure()
    tables = markdown(result)
    print(tables)
    if not chosen.only:
        (RESULTS / f"{NAME}.json").write_text(json.dumps(result, indent=2) + "\n")
        (RESULTS / f"{NAME}.md").write_text(tables)
        PAGE.write_text(published(PAGE.read_text(), tables))


if __name__ == "__main__":
    main()
