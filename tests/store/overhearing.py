"""Every statement that any process sends to a PostgreSQL, by the server's own log, judged as a cluster would.

Enters: the log of a server that was started with `SETTINGS`. Leaves: statements, each once, of which process;
and what a coordinator would refuse of them. Where `spying` sees the tests' own process alone, this hears
servers, commands and whatever else calls itself Mixdown.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.store.coordinator import Coordinator
from tests.store.spying import is_elsewhere

SETTINGS: Final = {
    "logging_collector": "on",
    "log_destination": "csvlog",
    "log_filename": "heard",
    "log_rotation_size": "0",
    "log_rotation_age": "0",
    "log_statement": "all",
    "log_parameter_max_length": "40",
}
_MESSAGE, _DETAIL, _APPLICATION = 13, 14, 22
_SENT: Final = re.compile(r"(?:execute [^:]*|statement): (.*)", re.DOTALL)
_VALUE: Final = re.compile(r"\$(\d+) = '(-?\d{1,18})'")
_SIZES: Final = ((15, 21), (31, 23), (63, 20))
"""The types that the driver gives an integer of so many bits."""


class Heard(NamedTuple):
    """A statement: who sent it first, and the values of those parameters that look like integers."""

    application: str
    statement: str
    values: dict[int, int]


def heard(folder: Path) -> list[Heard]:
    """What Mixdown has sent to the server whose data are in a folder; each statement once."""
    found: dict[str, Heard] = {}
    for path in sorted((folder / "log").glob("*.csv")):
        for application, statement, detail in _lines(path):
            if statement not in found and application.startswith("mixdown") and "mixdown." in statement:
                values = {int(number): int(value) for number, value in _VALUE.findall(detail)}
                found[statement] = Heard(application, statement, values)
    return list(found.values())


def _lines(path: Path) -> Iterator[tuple[str, str, str]]:
    csv.field_size_limit(1 << 30)
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for row in csv.reader(file):
            sent = _SENT.fullmatch(row[_MESSAGE]) if len(row) > _APPLICATION else None
            if sent is not None:
                yield row[_APPLICATION], sent[1], row[_DETAIL]


def faults(judge: Coordinator, known: list[Heard]) -> list[str]:
    """What a coordinator would refuse of them, or be slow at."""
    found = []
    for each in known:
        statement = each.statement.encode()
        if is_elsewhere(statement) or statement.startswith(b"COPY "):
            continue
        wrong = judge.faults(statement, (), each.values)
        if any(fault.startswith("it is not understood") for fault in wrong):
            # a parameter whose type nothing else tells: what looks like an integer was sent as one
            wrong = judge.faults(statement, _types(each.values), each.values)
        found += [f"{each.application}: {fault}: {each.statement}" for fault in wrong]
    return found


def _types(values: dict[int, int]) -> list[int]:
    types = [0] * max(values, default=0)
    for number, value in values.items():
        types[number - 1] = next(oid for bits, oid in _SIZES if -(1 << bits) <= value < 1 << bits)
    return types
