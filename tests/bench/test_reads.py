"""The benchmark of reads runs, every part of it, at a tiny size; and its tables say what it found."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import reader, reads, report, server


@pytest.mark.slow  # ten kinds of reads on two servers: half a minute
def test_reads_are_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(server, "STOP_LIMIT_S", 30.0)
    reads.main(
        ["--profiles", "3000", "--seconds", "2", "--records", "2000", "--folder", str(tmp_path), "--save"]
    )
    result: dict[str, Any] = json.loads((tmp_path / "results" / "reads.json").read_bytes())
    for way, kinds in (("plain", reads.PLAIN), ("indexed", reads.INDEXED)):
        for state in ("quiet", "loaded"):
            measured = result["reads"][way][state]
            assert set(measured) == set(kinds)
            assert all(cell["p50_ms"] > 0 and cell["reads"] >= reader.LEAST for cell in measured.values())
    assert set(result["fold"]) == {"neither", "history", "history and index"}
    table = (tmp_path / "results" / "reads.md").read_text()
    assert table == report.reads(result) + "\n"
    assert "one profile by its id" in table
