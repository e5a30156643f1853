"""`mixdown events`: out of the data folder into files and pipes, counted, and the same beside a server."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest
import zstandard

from mixdown.store.chunk import FOR_EVENTS, encode_events, encode_filter
from mixdown.store.protocols import Append
from tests.cli.support import Cli
from tests.engine import open_store

FIRST_MS = 1_767_225_600_000  # 2026-01-01
HOUR_MS = 3_600_000
NAMES = ("Purchase", "View", "Login")


def sent(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    """Events an hour apart, as the log has them."""
    return [
        {
            "event": NAMES[n % 3],
            "time": FIRST_MS + n * HOUR_MS + n % 1000,
            "distinct_id": f"u{n % 5}",
            "insert_id": f"i{n:05}",
            "properties": {
                "n": n,
                "plan": ("pro", "free")[n % 2],
                "text": "Ålesund \u2028",
                "tags": ["a", n],
            },
        }
        for n in range(start, start + count)
    ]


def append(cli: Cli, events: list[dict[str, Any]], project: int = 1) -> None:
    """Append events to the log as a server would."""
    raws = [json.dumps([project, event]).encode() for event in events]
    store = open_store(cli.folder, role="worker", create=False)
    try:
        with store.log.turn() as turn:
            segment = encode_events("track", "tests", None, None, [], raws)
            appended = Append(segment, len(raws), encode_filter([]), kinds=FOR_EVENTS)
            turn.append([appended], time.time_ns() // 1_000_000)
    finally:
        store.close()


def lines_of(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events as lines of an export have them, without what tells of their arrival."""
    return [
        {
            "event": event["event"],
            "properties": {
                "time": event["time"],
                "distinct_id": event["distinct_id"],
                "$insert_id": event["insert_id"],
                **event["properties"],
            },
        }
        for event in events
    ]


def parsed(text: str) -> list[dict[str, Any]]:
    """Lines of an export without what tells of the events' arrival, which each has."""
    found = [json.loads(line) for line in text.split("\n") if line]
    for event in found:
        for name in ("mp_processing_time_ms", "$mp_api_endpoint", "$mp_api_timestamp_ms"):
            del event["properties"][name]
    return found


@pytest.fixture
def stored(shop: Cli) -> Cli:
    """A folder with 60 events of two and a half days."""
    append(shop, sent(60))
    return shop


def test_events_come_out_as_lines_in_the_order_of_their_times(stored: Cli) -> None:
    append(stored, sent(3, start=-3))
    exported = stored("events", "export", "--project", "shop")
    assert parsed(exported.stdout) == lines_of(sent(63, start=-3))
    assert "exported 63 events" in exported.stderr


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--from", "2026-01-02"], lambda n: n >= 24),
        (["--to", "2026-01-01"], lambda n: n < 24),
        (["--from", "2026-01-02", "--to", "2026-01-02"], lambda n: 24 <= n < 48),
        (["--event", "View"], lambda n: n % 3 == 1),
        (["--event", "View", "--event", "Login"], lambda n: n % 3 != 0),
        (
            ["--where", 'properties["plan"] == "pro" and properties["n"] > 50'],
            lambda n: n % 2 == 0 and n > 50,
        ),
        (["--event", "nothing"], lambda n: n < 0),
    ],
)
def test_days_names_and_expressions_choose_events(stored: Cli, flags: list[str], wanted: Any) -> None:
    expected = [event for event in sent(60) if wanted(event["properties"]["n"])]
    assert parsed(stored("events", "export", "--project", "shop", *flags).stdout) == lines_of(expected)
    assert stored.json("events", "count", "--project", "shop", *flags) == [{"count": len(expected)}]


def test_an_event_that_was_sent_twice_comes_once_as_it_was_sent_last(stored: Cli) -> None:
    again = sent(1)
    again[0]["properties"]["plan"] = "gold"
    append(stored, again)
    found = parsed(stored("events", "export", "--project", "shop").stdout)
    assert (len(found), found[0]["properties"]["plan"]) == (60, "gold")


@pytest.mark.parametrize("name", ["a.ndjson.gz", "a.ndjson.zst"])
def test_lines_are_compressed_as_the_name_says(stored: Cli, tmp_path: Path, name: str) -> None:
    told = stored.json("events", "export", str(tmp_path / name), "--project", "shop")
    packed = (tmp_path / name).read_bytes()
    assert told == {"file": str(tmp_path / name), "events": 60, "size_bytes": len(packed)}
    reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed), read_across_frames=True)
    text = gzip.decompress(packed) if name.endswith("gz") else reader.read()
    assert parsed(text.decode()) == lines_of(sent(60))


def test_a_table_has_a_column_for_each_property(stored: Cli, tmp_path: Path) -> None:
    stored("events", "export", str(tmp_path / "a.csv"), "--project", "shop")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[25] == {
        "event": "View",
        "time": "2026-01-02T01:00:00.025Z",
        "distinct_id": "u0",
        "$insert_id": "i00025",
        "mp_processing_time_ms": rows[25]["mp_processing_time_ms"],
        "n": "25",
        "plan": "free",
        "tags": '["a",25]',
        "text": "Ålesund \u2028",
    }
    stored("events", "export", str(tmp_path / "a.parquet"), "--project", "shop", "--properties", "n,plan")
    with duckdb.connect() as database:
        table = database.execute("SELECT * FROM read_parquet(?)", [str(tmp_path / "a.parquet")])
        assert [column[0] for column in table.description or ()] == [
            "event",
            "time",
            "distinct_id",
            "$insert_id",
            "n",
            "plan",
        ]
        event, when, *rest = table.fetchall()[25]
    assert (event, f"{when:%F %T.%f}", rest) == (
        "View",
        "2026-01-02 01:00:00.025000",
        ["u0", "i00025", 25, "free"],
    )


def test_events_are_counted_by_name_and_day(stored: Cli) -> None:
    count = ["events", "count", "--project", "shop"]
    by_event = stored.json(*count, "--by", "event")
    assert by_event == [{"event": name, "count": 20} for name in sorted(NAMES)]
    by_day = stored.json(*count, "--by", "day", "--where", 'properties["plan"] == "pro"')
    assert by_day == [
        {"day": "2026-01-01", "count": 12},
        {"day": "2026-01-02", "count": 12},
        {"day": "2026-01-03", "count": 6},
    ]
    both = stored.json(*count, "--by", "event", "--by", "day")
    assert both[0] == {"event": "Login", "day": "2026-01-01", "count": 8}
    assert sum(each["count"] for each in both) == 60
    shown = stored(*count, "--by", "event").stdout
    assert shown.split("\n")[1].split() == ["Login", "20"]
    assert shown.strip().split("\n")[-1].split() == ["total", "60"]


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--from", "yesterday"], "--from is a day such as 2026-01-31"),
        (["--from", "2026-02-01", "--to", "2026-01-31"], "--from is a later day than --to"),
    ],
)
def test_a_day_that_is_none_is_refused(stored: Cli, flags: list[str], complaint: str) -> None:
    for command in ("export", "count"):
        assert complaint in stored("events", command, "--project", "shop", *flags, code=2).stderr


def test_an_expression_that_is_none_is_refused(stored: Cli) -> None:
    assert (
        "position 11"
        in stored("events", "count", "--project", "shop", "--where", "properties[", code=1).stderr
    )


CRASH = """
import os, signal, sys
from mixdown.cli.transfer import export_run, unfinished
from mixdown.query.events import export
export.WINDOW_EVENTS = 10
export_run.SAVE_EVERY_S = 0
save, saves = unfinished.Unfinished.save, []
def dying(self):
    save(self)
    saves.append(1)
    if len(saves) == 3:
        self._file.write(b"torn row")
        os.kill(os.getpid(), signal.SIGKILL)
unfinished.Unfinished.save = dying
from mixdown.cli import main
sys.argv[0] = "mixdown"
main()
"""


def test_an_export_that_was_killed_is_continued_by_the_same_command(stored: Cli, tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    arguments = ["events", "export", str(file), "--project", "shop"]
    killed = subprocess.run(
        [sys.executable, "-c", CRASH, *arguments], env=stored.environment(), check=False, timeout=150
    )
    assert killed.returncode == -9
    assert not file.exists()
    told = stored(*arguments)
    assert "going on with an unfinished export: 30 events" in told.stderr
    assert parsed(file.read_text()) == lines_of(sent(60))
