"""Reports asked in a process of its own.

`python -m bench.report_reader HOW FOLDER PORT ROUNDS FIRST DAYS BEST`

HOW is `http` (the server on PORT) or `floor` (statements written by hand, in plain DuckDB over the same
files), and `cold-http` or `cold-floor` where the files are to leave the page cache before each question.
BEST tells as JSON which of a question's statements to take; where it does not, the quickest of one round is.
Prints for each question its seconds, and a total and a digest of all figures of its answer, as JSON.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import statistics
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import duckdb

from bench import report_questions
from bench.report_questions import QUESTIONS, Days
from bench.server import PROJECT, SECRET
from mixdown.store.duck.sql import literals
from mixdown.store.events import FIRST_MS, LAST_MS
from mixdown.store.sqlite.events import SqliteEvents

THREADS: Final = 2
FLOOR_MEMORY: Final = "2GiB"
LIMIT_S: Final = 300.0


def main() -> None:
    """Ask as the arguments say."""
    how, folder, port, rounds, first, count, best = sys.argv[1:]
    days = report_questions.days_of(date.fromisoformat(first), int(count))
    files = day_files(Path(folder))
    cold, _, kind = how.rpartition("-")
    floors = Floors(files, days, json.loads(best))
    result: dict[str, dict[str, Any]] = {}
    for name in QUESTIONS:
        if kind != "http":
            floors.choose(name)
        elif not cold:
            ask(int(port), name, days)  # warm
        seconds = []
        figure: Any = None
        for _ in range(int(rounds)):
            if cold:
                forget(files)
            took, figure = ask(int(port), name, days) if kind == "http" else floors.run(name)
            seconds.append(took)
        result[name] = {"missing": figure} if isinstance(figure, str) else told(seconds, figure)
        if kind != "http":
            result[name]["statement"] = floors.best[name]
    print(json.dumps(result))


def told(seconds: list[float], figures: report_questions.Figures) -> dict[str, Any]:
    """What is kept of the rounds of a question."""
    return {
        "median_s": round(statistics.median(seconds), 3),
        "worst_s": round(max(seconds), 3),
        "figure": sum(map(sum, figures.values())),
        "digest": hashlib.sha256(json.dumps(sorted(figures.items())).encode()).hexdigest()[:16],
    }


def day_files(folder: Path) -> list[str]:
    """The files of days."""
    store = SqliteEvents(folder)
    parts = store.parts(PROJECT, FIRST_MS, LAST_MS)
    store.close()
    return [file.path for file in parts.files if file.day is not None]


def forget(paths: list[str]) -> None:
    """Take files out of the page cache."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def ask(port: int, name: str, days: Days) -> tuple[float, report_questions.Figures | str]:
    """Ask the server: seconds, and the figures of the answer; the error's text where it is none."""
    path, parameters = report_questions.requests(days)[name]
    credentials = base64.b64encode(f"{SECRET}:".encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    try:
        began = time.perf_counter()
        connection.request(
            "GET", f"{path}?{urlencode(parameters)}", headers={"Authorization": f"Basic {credentials}"}
        )
        reply = connection.getresponse()
        body = reply.read()
        took = time.perf_counter() - began
    finally:
        connection.close()
    answer = json.loads(body)
    if reply.status != 200:
        return took, str(answer["error"])
    return took, report_questions.told(name, answer)


class Floors:
    """Runs the statements of a question over files; `best` is which of them is the quickest."""

    def __init__(self, files: list[str], days: Days, best: dict[str, int]) -> None:
        source = f"read_parquet({literals(files)}, hive_partitioning = false)"
        self._statements = report_questions.in_duckdb(source, days)
        self.best = best

    def choose(self, name: str) -> None:
        """Find the best statement, where it is not known; the files are warm then."""
        if name not in self.best:
            seconds = [self._once(name, place)[0] for place in range(len(self._statements[name]))]
            self.best[name] = seconds.index(min(seconds))

    def run(self, name: str) -> tuple[float, report_questions.Figures]:
        """Run the best statement: seconds, and what it counted."""
        return self._once(name, self.best[name])

    def _once(self, name: str, place: int) -> tuple[float, report_questions.Figures]:
        began = time.perf_counter()
        config: dict[str, str | bool | int | float | list[str]] = {
            "threads": THREADS,
            "memory_limit": FLOOR_MEMORY,
        }
        with duckdb.connect(config=config) as connection:
            rows = connection.execute(self._statements[name][place]).fetchall()
        return time.perf_counter() - began, report_questions.counted(name, rows)


if __name__ == "__main__":
    main()
