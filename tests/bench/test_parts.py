"""The benchmark runs, every part of it, at a tiny size; and what it keeps is what it says."""

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as bench
from bench import disk, growth, load, options, records, report, server

TINY = ["--profiles", "400", "--records", "400", "--seconds", "0.2", "--sizes", "300,600"]
ROW = re.compile(r"^\|.*\|$")


@pytest.fixture(autouse=True)
def _kept_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of tests are none to publish."""
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(server, "STOP_LIMIT_S", 30.0)


def run(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """Run the benchmark as the command line would; the result that it kept."""
    bench.main([*TINY, "--folder", str(tmp_path), "--save", "tiny", *arguments])
    result: dict[str, Any] = json.loads((tmp_path / "results" / "tiny.json").read_bytes())
    return result


def assert_measured(figures: Any) -> None:
    """No rate and no time in a result is missing or zero."""
    if isinstance(figures, dict):
        for name, value in figures.items():
            if isinstance(value, (int, float)) and name.endswith(
                ("records_s", "profiles_s", "p50_ms", "p99_ms")
            ):
                assert value > 0, name
            assert_measured(value)
    elif isinstance(figures, list):
        for value in figures:
            assert_measured(value)


def tables(text: str) -> Iterator[list[list[str]]]:
    """The tables of a Markdown text, as rows of cells."""
    rows: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if ROW.match(line):
            rows.append([cell.strip() for cell in line[1:-1].split("|")])
        elif rows:
            yield rows
            rows = []


def assert_well_formed(text: str, count: int) -> None:
    """`count` tables, each with a rule below its head and rows of one width."""
    found = list(tables(text))
    assert len(found) == count
    for head, rule, *rows in found:
        assert set("".join(rule)) == {"-", ":"}
        assert rows
        assert {len(row) for row in rows} == {len(head)} == {len(rule)}


@pytest.mark.slow
def test_every_quick_part_runs_and_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(tmp_path, "--keys", "zipf")
    measured = result["disks"]["plain"]
    assert set(measured) == {"added_ms", *options.QUICK}
    assert [cell["records_a_request"] for cell in measured["ack"]["zipf"]] == [2000, 50, 1]
    assert measured["readable"]["zipf"]["probes"] > 0
    assert_measured(result)
    assert_well_formed(capsys.readouterr().out, 3)
    assert (tmp_path / "results" / "tiny.md").read_text().startswith(report.machine_words(result))
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


@pytest.mark.slow
def test_growth_measures_one_store_as_it_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(growth, "READS", dict.fromkeys(growth.READS, 2))
    result = run(tmp_path, "--only", "growth", "--keys", "uniform", "--disks", "slow")
    measured = result["disks"]["slow"]["growth"]
    assert [cell["profiles"] for cell in measured] == [300, 600]
    for cell in measured:
        assert set(cell["reads"]) == {"by id", "first page", "next page"}
        assert cell["memory_mib"] > 10
        assert cell["fold"]["uniform"]["written_bytes_a_record"] >= 0
    assert_measured(result)
    assert_well_formed(capsys.readouterr().out, 1)


def test_a_disk_with_too_little_room_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"(?s)this run may take .* --folder") as refused:
        disk.refuse_full(tmp_path, 1 << 60)
    assert "GiB free" in str(refused.value)


def test_an_unknown_part_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options.read(["--only", "ack,folding"])
    assert "folding is none of import, ack" in capsys.readouterr().err


def test_no_request_is_sent_twice() -> None:
    pool = records.pool(size=2, records=6, profiles=10, keys="zipf", seed=1, insert_ids=True)
    sent = [pool.next() for _ in range(3 * len(pool))]
    assert len(set(sent)) == len(sent)
    assert len({len(request) for request in sent}) <= len(pool)
    keys = [row["$insert_id"] for request in sent for row in records.parsed(request)]
    assert len(set(keys)) == len(keys) == 18


def test_records_are_mixed_and_as_large_as_they_are_said_to_be() -> None:
    (request,) = records.pool(size=1200, records=1200, profiles=1000, keys="uniform", seed=1).requests
    rows = records.parsed(request)
    operators = {name for row in rows for name in row if isinstance(row[name], (dict, list))}
    assert operators == {"$set", "$set_once", "$add", "$union", "$append", "$remove", "$unset"}
    assert 220 < len(request) / len(rows) < 260
    assert 550 < len(records.profile_json(123_456)) < 650


@pytest.mark.parametrize(("start", "end"), [(0, 1), (0, 1000), (300, 1300), (7, 4096)])
def test_scattered_numbers_are_all_there_and_in_no_order(start: int, end: int) -> None:
    numbers = list(records.scattered(start, end))
    assert sorted(numbers) == list(range(start, end))
    assert end - start == 1 or numbers != sorted(numbers)


@contextlib.contextmanager
def tiny_server(tmp_path: Path, slow: disk.Disk = disk.PLAIN) -> Iterator[server.Server]:
    """A server with a few profiles."""
    server.place(tmp_path / "data", 0, 50)
    with server.serving(tmp_path, slow.server) as running:
        yield running


def test_a_reply_that_is_not_1_ends_the_load(tmp_path: Path) -> None:
    refused = records.request_bytes(b'[{"$token":"nobody","$distinct_id":"a","$set":{"a":1}}]')
    with tiny_server(tmp_path) as running, pytest.raises(load.LoadError, match="did not answer 1"):
        load.send(running.port, records.Pool(1, [refused]), connections=2)


def test_a_paced_load_keeps_to_its_rate_and_reckons_from_when_a_request_was_due(tmp_path: Path) -> None:
    pool = records.pool(size=1, records=50, profiles=50, keys="uniform", seed=1)
    with tiny_server(tmp_path) as running:
        sent = load.send(running.port, pool, connections=4, seconds=1.0, records_s=50)
        running.wait_until_folded()
    assert 48 <= sent.requests <= 51


@pytest.mark.slow
def test_each_flush_of_a_server_on_the_slower_disk_takes_longer(tmp_path: Path) -> None:
    slow = disk.disk_of("slow", tmp_path)
    pool = records.pool(size=1, records=25, profiles=50, keys="uniform", seed=1)
    with tiny_server(tmp_path, slow) as running:
        sent = load.send(running.port, pool, connections=1)
    assert min(sent.latencies_s) > disk.ADDED_MS / 1000


@pytest.mark.skipif(shutil.which("cc") is None, reason="the library before libc's needs a C compiler")
def test_the_library_before_libcs_makes_flushes_wait(tmp_path: Path) -> None:
    import subprocess
    import sys

    slow = disk.disk_of("slow", tmp_path)
    code = "import sys, pathlib; from bench.disk import flush_ms; print(flush_ms(pathlib.Path(sys.argv[1])))"
    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**(slow.others or {}), "PYTHONPATH": str(report.ROOT)},
        capture_output=True,
        check=True,
    )
    assert float(said.stdout) >= disk.ADDED_MS
