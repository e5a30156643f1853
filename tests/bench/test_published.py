"""The figures that documents quote are those of the results that are kept."""

import json
from copy import deepcopy
from typing import Any

import pytest

from bench import report

CELL = {
    "records_a_request": 2000, "records_s": 250_123, "p50_ms": 40.5, "p99_ms": 99.25, "max_ms": 120.0,
    "sustained_records_s": 91_234,
}  # fmt: skip
RESULT: dict[str, Any] = {
    "machine": {
        "cores": 2, "processor": "Some CPU", "memory_gib": 4.0, "kernel": "6.1", "file_system": "ext4",
        "python": "3.11.7", "sqlite": "3.54.1", "mixdown": "0.2.0", "commit": "abc", "fdatasync_ms": 0.2,
        "at": "2026-11-22T00:00:00Z",
    },
    "options": {"profiles": 1_000_000, "seconds": 10.0},
    "disks": {
        "plain": {
            "added_ms": 0.0,
            "ack": {"zipf": [CELL, CELL, CELL]},
            "competitors": [
                {"name": "Some database", "cells": [{"records_s": 30_411, "p99_ms": 50.0}] * 2},
                {"name": "Another", "missing": "it is not installed"},
            ],
        },
        "slow": {"added_ms": 2.0, "ack": {"zipf": [{**CELL, "records_s": 111_222}] * 3}},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", report.BLOCKS)
def test_a_document_has_the_figures_of_the_kept_results(name: str) -> None:
    path = report.ROOT / name
    stored = report.published_stored_events()
    expected = report.documents(report.published(), report.published_reads(), stored)[path]
    assert path.read_text(encoding="utf-8") == expected, "run: .venv/bin/python -m bench.report"


def test_a_changed_figure_is_noticed() -> None:
    path = report.ROOT / "README.md"
    changed = deepcopy(RESULT)
    changed["disks"]["plain"]["ack"]["zipf"][0] = {**CELL, "records_s": 250_124}
    assert report.documents(RESULT)[path] != report.documents(changed)[path]


def test_kept_tables_are_those_of_the_kept_results() -> None:
    for path in report.RESULTS.glob("*.json"):
        result = json.loads(path.read_bytes())
        if "disks" in result:  # other programs keep theirs here as well
            kept = path.with_suffix(".md").read_text(encoding="utf-8")
            assert kept == report.markdown(result) + "\n", path.name


def test_the_kept_table_of_reads_is_that_of_the_kept_result() -> None:
    read = report.published_reads()
    if read is not None:
        kept = (report.RESULTS / "reads.md").read_text(encoding="utf-8")
        assert kept == report.reads(read) + "\n"


def test_the_summary_sets_the_disks_side_by_side() -> None:
    text = report.summary(RESULT)
    assert "|  | fdatasync 0.2 ms | fdatasync 0.2 ms, and 2 ms more |" in text
    assert "| 250,123 records/s, p99 99 ms | 111,222 records/s, p99 99 ms |" in text
    assert "| Some database | 30,411 records/s; Mixdown 3.0 times | not measured |" in text
    assert "| Another | it is not installed | not measured |" in text


def test_a_document_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="the marks of block summary are missing"):
        report.filled("no marks here", "summary", "figures")
