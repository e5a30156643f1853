"""What a run measures, from the command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Final

QUICK: Final = ("import", "ack", "keyed", "fold", "readable")
PARTS: Final = (*QUICK, "competitors", "growth")
KEYS: Final = ("zipf", "uniform")
DISKS: Final = ("plain", "slow")
GROWTH: Final = (100_000, 1_000_000, 5_000_000, 10_000_000)
_EPILOG: Final = """parts:
  import       new profiles in no order, until they are folded
  ack          acknowledged while the fold runs, and sustained until it has caught up; beside them the floors
               of the HTTP server and of decode + append + fsync
  keyed        the same with an $insert_id on every record
  fold         the fold alone, beside its floor: the same documents upserted with no logic
  readable     from acknowledged to readable, at half of the sustained rate
  competitors  FastAPI with PostgreSQL (an upsert a record; batched) and with Redis
  growth       fold and reads as the profiles grow in number, memory, bytes written
"""


@dataclass(frozen=True)
class Options:
    """What to measure: parts, keys, disks, how many profiles are in place, for how long, and where."""

    parts: tuple[str, ...] = QUICK
    keys: tuple[str, ...] = KEYS
    disks: tuple[str, ...] = ("plain",)
    profiles: int = 1_000_000
    seconds: float = 10.0
    seed: int = 1
    growth: tuple[int, ...] = GROWTH
    records: int = 1_000_000
    folder: Path | None = None
    data: Path | None = None
    save: str = ""

    def as_json(self) -> dict[str, object]:
        """The options that a figure depends on."""
        return {
            "parts": self.parts,
            "keys": self.keys,
            "profiles": self.profiles,
            "seconds": self.seconds,
            "seed": self.seed,
            "records": self.records,
            "growth": self.growth if "growth" in self.parts else (),
        }

    def needed_bytes(self) -> int:
        """Disk space that the run takes at most: profiles, their copy, logs, and the databases of others."""
        most = max(self.growth) if "growth" in self.parts else 0
        log = int(self.seconds * 400_000 * 1000)
        return 1_500 * max(2 * self.profiles, most) + log + (6 << 30 if "competitors" in self.parts else 0)


def read(arguments: list[str] | None = None) -> Options:
    """The options of a command line (None: this program's)."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure Mixdown on this machine, over HTTP, durably, beside the floors of the same run.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one_of = "a comma list of "
    parser.add_argument("--full", action="store_true", help="every part, on both disks: about an hour")
    parser.add_argument("--only", default="", metavar="PARTS", help=one_of + ", ".join(PARTS))
    parser.add_argument("--keys", default=",".join(KEYS), help=one_of + ", ".join(KEYS))
    parser.add_argument("--disks", default="", help=one_of + "plain, slow (2 ms more for each flush)")
    parser.add_argument("--profiles", type=int, default=1_000_000, help="profiles in place (1,000,000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each load (10)")
    parser.add_argument(
        "--records", type=int, default=1_000_000, help="distinct records of a load (1,000,000)"
    )
    parser.add_argument("--sizes", default=",".join(map(str, GROWTH)), help="numbers of profiles for growth")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to measure: a temporary folder is made in it")
    parser.add_argument(
        "--data", type=Path, help="keep the profiles in this folder, and find them there again"
    )
    parser.add_argument(
        "--vfs", action="store_true", help="slow Mixdown's disk by the VFS shim, compiler or not"
    )
    parser.add_argument("--save", nargs="?", const="-", default="", metavar="NAME", help="keep the results")
    given = parser.parse_args(arguments)
    parts = _chosen(parser, given.only or ",".join(PARTS if given.full else QUICK), PARTS)
    disks = _chosen(parser, given.disks or ",".join(DISKS if given.full else DISKS[:1]), DISKS)
    name = given.save if given.save != "-" else ("full" if given.full else "quick")
    return Options(
        parts=parts,
        keys=_chosen(parser, given.keys, KEYS),
        disks=disks,
        profiles=given.profiles,
        seconds=given.seconds,
        seed=given.seed,
        growth=tuple(sorted(int(size) for size in given.sizes.split(","))),
        records=given.records,
        folder=given.folder,
        data=given.data,
        save=name,
    )


def _chosen(parser: argparse.ArgumentParser, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    words = text.replace(",", " ").split()
    for word in words:
        if word not in known:
            parser.error(f"{word} is none of {', '.join(known)}")
    return tuple(word for word in known if word in words)
