"""`mixdown events import`: from files, pipes and a Mixdown that plays Mixpanel; nothing twice or lost."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.cli.mixpanel_front import Front, fronting
from tests.cli.support import Cli, continued_after_a_kill
from tests.cli.test_events import append, lines_of, parsed, sent
from tests.serving import Server, StartServer, start_module_server

pytestmark = pytest.mark.slow

__all__ = ["start_module_server"]

IMPORT = ("events", "import", "-", "--project", "shop")
TODAY = dt.datetime.now(dt.UTC).date()


def imported(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events as lines, marked as an import marks them."""
    lines = lines_of(events)
    for line in lines:
        line["properties"]["$import"] = True
    return lines


def exported(cli: Cli, project: str = "shop") -> list[dict[str, Any]]:
    return parsed(cli("events", "export", "--project", project).stdout)


def text_of(lines: list[dict[str, Any]]) -> str:
    return "\n".join(map(json.dumps, lines))


def counts(rows: int, **more: int) -> dict[str, int]:
    return {"rows": rows, "imported": 0, "recognised": 0, "left_out": 0, "refused": 0, **more}


@pytest.fixture
def copy(shop: Cli) -> Cli:
    """Two projects: `shop` has 60 events, `copy` none."""
    append(shop, sent(60))
    shop("project", "create", "copy", "--token", "copy-token")
    return shop


@pytest.mark.parametrize("name", ["a.ndjson", "a.ndjson.zst", "a.csv", "a.csv.gz", "a.parquet"])
@pytest.mark.parametrize("layout", ["columns", "json"])
def test_what_was_exported_comes_back_equal(copy: Cli, tmp_path: Path, name: str, layout: str) -> None:
    file = str(tmp_path / name)
    copy("events", "export", file, "--project", "shop", "--layout", layout)
    told = copy.json("events", "import", file, "--project", "copy")
    assert told == counts(60, imported=60)
    assert exported(copy, "copy") == imported(sent(60))


def test_processes_joined_by_a_pipe_carry_events_from_project_to_project(copy: Cli) -> None:
    with copy.process("events", "export", "--project", "shop") as out:
        back = subprocess.run(
            copy.command("events", "import", "-", "--project", "copy"),
            env=copy.environment(),
            stdin=out.stdout,
            capture_output=True,
            check=True,
            timeout=150,
        )
    assert b"imported 60 of 60 rows" in back.stderr
    assert exported(copy, "copy") == imported(sent(60))


def test_an_import_that_is_run_again_stores_nothing_twice(shop: Cli) -> None:
    text = text_of(lines_of(sent(2500)))
    assert json.loads(shop(*IMPORT, "--json", typed=text).stdout) == counts(2500, imported=2500)
    assert json.loads(shop(*IMPORT, "--json", typed=text).stdout) == counts(2500, recognised=2500)
    assert json.loads(shop(*IMPORT, "--json", "--again", typed=text).stdout)["imported"] == 2500
    other_batches = text_of(lines_of(sent(2500))[::-1])
    shop(*IMPORT, typed=other_batches)
    assert shop.json("events", "count", "--project", "shop") == [{"count": 2500}]


def test_a_row_without_insert_id_gets_one_that_is_the_same_for_the_same_row(shop: Cli) -> None:
    lines = lines_of(sent(3))
    for line in lines:
        del line["properties"]["$insert_id"]
    shop(*IMPORT, typed=text_of(lines))
    shop(*IMPORT, typed=text_of(lines[1:]))
    found = exported(shop)
    assert len(found) == 3
    assert len({event["properties"]["$insert_id"] for event in found}) == 3


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--event", "View"], lambda n: n % 3 == 1),
        (["--from", "2026-01-02", "--to", "2026-01-02"], lambda n: 24 <= n < 48),
        (["--where", 'properties["plan"] == "pro"'], lambda n: n % 2 == 0),
        (["--where", 'properties["$event_name"] == "View"'], lambda n: n % 3 == 1),
        (["--where", 'properties["$time"] < 1767312000'], lambda n: n < 24),
        (["--where", 'properties["$distinct_id"] == "u1"'], lambda n: n % 5 == 1),
    ],
)
def test_days_names_and_expressions_choose_rows(shop: Cli, flags: list[str], wanted: Any) -> None:
    told = json.loads(shop(*IMPORT, *flags, "--json", typed=text_of(lines_of(sent(60)))).stdout)
    expected = imported([event for event in sent(60) if wanted(event["properties"]["n"])])
    assert told == counts(60, imported=len(expected), left_out=60 - len(expected))
    assert exported(shop) == expected


def test_rows_that_are_refused_go_to_a_file_and_come_back_mended(shop: Cli, tmp_path: Path) -> None:
    good, old, nameless = lines_of(sent(3))
    old["properties"]["time"] = 1000
    nameless["event"] = ""
    text = text_of([good, old, nameless]) + "\n{torn\n[1]\n"
    file = tmp_path / "refused.ndjson"
    ended = shop(*IMPORT, "--refused", str(file), "--json", typed=text, code=1)
    assert json.loads(ended.stdout) == counts(5, imported=1, refused=4)
    refused = [json.loads(line) for line in file.read_text().split("\n")[:-1]]
    assert [(each["row"], each["field"]) for each in refused] == [
        (2, "properties.time"),
        (3, "event"),
        (4, ""),
        (5, ""),
    ]
    assert refused[0]["message"].startswith("'properties.time' is invalid")
    assert "no JSON" in refused[2]["message"]
    assert shop.json("refusals", "list") == []
    mended = file.read_text().replace('"time":1000', '"time":1767225600').split("\n")[0]
    shop(*IMPORT, typed=mended)
    assert len(exported(shop)) == 2


def test_without_a_file_refused_rows_are_among_the_refusals(shop: Cli) -> None:
    ended = shop(*IMPORT, typed='{"event":"View","properties":{"distinct_id":"u"}}', code=1)
    assert "1 rows were refused" in ended.stderr
    (refusal,) = shop.json("refusals", "list")
    assert (refusal["endpoint"], refusal["field"]) == ("import", "properties.time")


def test_a_table_of_someone_elses_is_read_by_the_names_of_its_columns(shop: Cli, tmp_path: Path) -> None:
    file = tmp_path / "theirs.parquet"
    with duckdb.connect() as database:
        database.execute(
            "COPY (SELECT 'View' AS event, TIMESTAMP '2026-01-01 00:00:01.5' AS time, 'u' AS distinct_id, "
            "'i-1' AS insert_id, 3 AS n, NULL AS gone UNION ALL SELECT 'Login', NULL, 'u', 'i-2', 4, NULL) "
            "TO ? (FORMAT parquet)",
            [str(file)],
        )
    ended = shop("events", "import", str(file), "--project", "shop", code=1)
    assert "'properties.time'" in ended.stderr
    (event,) = exported(shop)
    assert event == {
        "event": "View",
        "properties": {
            "time": 1767225601500,
            "distinct_id": "u",
            "$insert_id": "i-1",
            "n": 3,
            "$import": True,
        },
    }
    csv = tmp_path / "theirs.csv"
    csv.write_text("event,when\nView,2026-01-01\n")
    complaint = shop("events", "import", str(csv), "--project", "shop", code=1).stderr
    assert "no column is called time" in complaint


def test_an_import_that_was_killed_is_continued_by_the_same_command(shop: Cli) -> None:
    lines = [json.dumps(line).encode() + b"\n" for line in lines_of(sent(5000))]
    told = continued_after_a_kill(shop, shop.command(*IMPORT), lines, sent=4500, appended=2000)
    assert told["recognised"] >= 2000
    assert told["imported"] + told["recognised"] == 5000
    assert shop.json("events", "count", "--project", "shop") == [{"count": 5000}]


def test_wrong_usage_is_told_before_anything_is_read(shop: Cli) -> None:
    usage = shop("events", "import", "--project", "shop", code=2).stderr
    assert "Name a FILE" in usage
    usage = shop("events", "import", "--from-mixpanel", "1", "--project", "shop", code=2).stderr
    assert "--from 2025-01-01" in usage
    usage = shop(*IMPORT, "--where", 'user["a"] == 1', typed="", code=2).stderr
    assert "properties of events alone" in usage


# --- from Mixpanel


@pytest.fixture(scope="module")
def mixpanel(start_module_server: StartServer) -> Server:
    """A server that plays Mixpanel, with events of three days and a silent one between them."""
    server = start_module_server()
    days = [TODAY - dt.timedelta(days=back) for back in (4, 2, 1)]
    events = [
        {
            "event": "View" if n % 2 else "Login",
            "properties": {
                "time": int(dt.datetime.combine(day, dt.time(n % 24), dt.UTC).timestamp()) * 1000 + n,
                "distinct_id": f"u{n % 3}",
                "$insert_id": f"e-{place}-{n}",
                "n": n,
            },
        }
        for place, day in enumerate(days)
        for n in range(10)
    ]
    answer = server.post(
        f"/import?strict=1&project_id={server.project_id}", events, server.authorization()
    ).json()
    assert answer["num_records_imported"] == 30
    return server


@pytest.fixture
def front(mixpanel: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    """The front before it, and credentials."""
    monkeypatch.setenv("MIXPANEL_ACCOUNT", ":".join(mixpanel.account))
    monkeypatch.delenv("MIXPANEL_SECRET", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with fronting(mixpanel) as front:
        yield front


def command(front: Front, server: Server, *more: str) -> tuple[str, ...]:
    source = ("--from-mixpanel", str(server.project_id), "--mixpanel-url", front.url)
    days = ("--from", str(TODAY - dt.timedelta(days=4)))
    return ("events", "import", *source, *days, "--project", "shop", *more)


def theirs(server: Server) -> list[dict[str, Any]]:
    days = {"from_date": TODAY - dt.timedelta(days=9), "to_date": TODAY, "time_in_ms": "true"}
    answer = server.get("/api/2.0/export", project_id=server.project_id, **days)
    return parsed(answer.body.decode())


def test_all_days_come_over_as_they_are(shop: Cli, mixpanel: Server, front: Front) -> None:
    assert shop.json(*command(front, mixpanel)) == counts(30, imported=30)
    assert exported(shop) == theirs(mixpanel)
    days = [str(TODAY - dt.timedelta(days=back)) for back in (4, 3, 2, 1, 0)]
    assert [form["from_date"] for form in front.seen] == days
    assert [form["to_date"] for form in front.seen] == days
    assert list((shop.folder / "imports").iterdir()) == []


def test_it_waits_as_long_as_a_429_says_and_fetches_a_day_that_was_cut_off_again(
    shop: Cli, mixpanel: Server, front: Front
) -> None:
    front.trouble = [429]
    cut = iter([b"terminated early\n"])
    front.damage = lambda body: body + next(cut, b"")
    ended = shop(*command(front, mixpanel))
    assert "waiting 1 s" in ended.stderr
    assert "terminated early" in ended.stderr
    assert "imported 30 of 30 rows" in ended.stderr
    assert exported(shop) == theirs(mixpanel)
    assert 1.0 <= front.times[1] - front.times[0] < 10.0


def test_an_import_that_was_turned_away_goes_on_with_the_next_day(
    shop: Cli, mixpanel: Server, front: Front
) -> None:
    front.trouble = [200, 200, 403]
    ended = shop(*command(front, mixpanel), code=1)
    assert "Mixpanel answered 403" in ended.stderr
    assert len(exported(shop)) == 10
    told = shop(*command(front, mixpanel))
    assert f"going on with {TODAY - dt.timedelta(days=2)}: 10 events were read before" in told.stderr
    assert [form["from_date"] for form in front.seen[2:]] == [
        str(TODAY - dt.timedelta(days=back)) for back in (2, 1, 0)
    ]
    assert exported(shop) == theirs(mixpanel)


def test_names_and_expressions_are_asked_of_mixpanel(shop: Cli, mixpanel: Server, front: Front) -> None:
    shop(*command(front, mixpanel, "--event", "View", "--where", 'properties["n"] > 4', "--to", str(TODAY)))
    assert [each["properties"]["n"] for each in exported(shop)] == [5, 7, 9] * 3
    assert json.loads(front.seen[0]["event"]) == ["View"]
    assert front.seen[0]["where"] == 'properties["n"] > 4'


def test_a_server_that_runs_stores_what_is_imported_beside_it(mixpanel: Server, tmp_path: Path) -> None:
    file = tmp_path / "later.ndjson"
    lines = lines_of(sent(5))
    for line in lines:
        line["event"] = "Beside"
    file.write_text(text_of(lines))
    told = mixpanel.command("events", "import", str(file), "--project", "1", "--json")
    assert told == counts(5, imported=5)
    days = {"from_date": "2026-01-01", "to_date": "2026-01-01", "time_in_ms": "true"}
    answer = mixpanel.get("/api/2.0/export", project_id=1, event='["Beside"]', **days)
    assert [event["properties"]["n"] for event in parsed(answer.body.decode())] == [0, 1, 2, 3, 4]
