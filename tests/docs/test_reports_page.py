"""docs/reports.md, word for word: every command of the page runs, and what it shows is what a server answers.

Each question is asked of a fresh server, whose events are made so that the figures of the page must come out;
what must not count lies among them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests import engine
from tests.docs.snippets import blocks
from tests.docs.test_readme import ADDRESS, plain_environment
from tests.serving import Server, StartServer

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "reports.md"
ENDPOINT = re.compile(r"/api/query/(\S+)")
AT_ONCE = 1000
Event = tuple[str, str, datetime, dict[str, Any]]
"""Name, who, when, properties."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("curl"), reason="the examples use curl"),
]


def at(day: str, hours: float = 10) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(hours=hours)


def views(who: str, when: datetime, page: str = "/pricing") -> Event:
    return "page view", who, when, {"page": page, "plan": "free"}


def who_looked_at_pricing() -> list[Event]:
    weeks = {"2026-11-01": 12, "2026-11-02": 96, "2026-11-09": 88, "2026-11-16": 101}
    found: list[Event] = []
    for day, count in weeks.items():
        for number in range(count):
            found += [views(f"p{number}", at(day)), views(f"p{number}", at(day, 11))]
    # the day before, another page, another event
    found += [views("early", at("2026-10-31")), views("other", at("2026-11-03"), "/docs")]
    return [*found, ("checkout", "buyer", at("2026-11-03"), {"page": "/pricing"})]


def who_paid_after_looking_at_pricing() -> list[Event]:
    found: list[Event] = []
    for number in range(120):
        day = f"2026-11-{16 + number % 4}"
        found.append(views(f"p{number}", at(day)))
        if number < 30:
            found.append(("checkout", f"p{number}", at(day, 11.5), {}))
        elif number < 50:  # before, or after another page, is no step
            found.append(("checkout", f"p{number}", at(day, 9), {}))
    found += [views("reader", at("2026-11-17"), "/docs"), ("checkout", "reader", at("2026-11-18"), {})]
    return found


def who_came_back() -> list[Event]:
    found: list[Event] = []
    for day, first, returned in (("2026-11-02", 80, (71, 40, 33)), ("2026-11-09", 92, (85, 47, 0))):
        for number in range(first):
            who, begun = f"{day} {number}", at(day, 1 + number / 60)
            found.append(("sign up", who, begun, {}))
            found += [
                views(who, begun + timedelta(days=7 * week + 1))
                for week, count in enumerate(returned)
                if number < count
            ]
            found.append(views(who, begun - timedelta(hours=0.5)))
    return [*found, ("sign up", "late", at("2026-11-16"), {})]


def what_was_paid() -> list[Event]:
    amounts = [("2026-11-21", 1000), ("2026-11-21", 204.5), ("2026-11-22", 730), ("2026-11-22", "much")]
    found: list[Event] = [
        ("checkout", f"p{number}", at(day), {"amount": amount})
        for number, (day, amount) in enumerate(amounts)
    ]
    others = (("checkout", "2026-11-20"), ("refund", "2026-11-22"))
    return [*found, *((name, "p0", at(day), {"amount": 5}) for name, day in others)]


def who_came_how_often() -> list[Event]:
    days = zip(range(16, 23), (310, 120, 64, 31, 12, 3, 1), strict=True)
    found = [
        views(f"p{number}", at(f"2026-11-{day}", hours))
        for day, count in days
        for number in range(count)
        for hours in (0, 23.9)
    ]
    return [*found, views("early", at("2026-11-15", 23.9))]


ANSWERED: dict[str, Callable[[], list[Event]]] = {
    "segmentation": who_looked_at_pricing,
    "segmentation/sum": what_was_paid,
    "arb_funnels": who_paid_after_looking_at_pricing,
    "retention": who_came_back,
    "retention/addiction": who_came_how_often,
}
"""What there is when each endpoint is asked."""


def commands() -> list[str]:
    """Every command of the page, in its order."""
    return [block.code for block in blocks(PAGE.read_text(encoding="utf-8")) if block.language == "sh"]


def asked_and_shown() -> dict[str, tuple[str, Any]]:
    """The commands that ask an endpoint, and the answer that stands below each."""
    found, page = {}, blocks(PAGE.read_text(encoding="utf-8"))
    for command, answer in pairwise(page):
        asked = ENDPOINT.search(command.code)
        if command.language == "sh" and asked is not None:
            assert answer.language == "json", command.code
            found[asked[1]] = command.code, json.loads(answer.code)
    return found


def without_time(answer: Any) -> Any:
    answer.pop("computed_at", None)
    return answer


def send(server: Server, made: list[Event]) -> None:
    events = [
        {
            "event": name,
            "properties": {
                "time": int(when.timestamp()),
                "distinct_id": who,
                "$insert_id": f"own-{number}",
                **properties,
            },
        }
        for number, (name, who, when, properties) in enumerate(made)
    ]
    for begin in range(0, len(events), AT_ONCE):
        some = json.dumps(events[begin : begin + AT_ONCE]).encode()
        headers = {**server.authorization(), "Content-Type": "application/json"}
        sent = server.request("POST", "/import?strict=1&project_id=1", some, headers)
        assert sent.status == 200, sent


def typed(server: Server, command: str, folder: Path) -> str:
    """What a command of the page prints."""
    ran = subprocess.run(
        ["sh", "-euc", command.replace(ADDRESS, server.base_url)],
        cwd=folder,
        env={
            **plain_environment(),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MIXDOWN_ACCOUNT": ":".join(server.account),
            "MIXDOWN_DATA_DIR": str(server.data_dir),
            **engine.variables(server.data_dir),
        },
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ran.returncode == 0, ran
    return ran.stdout


@pytest.mark.parametrize("endpoint", ANSWERED)
def test_what_the_page_asks_is_answered_as_it_shows(
    start_server: StartServer, tmp_path: Path, endpoint: str
) -> None:
    command, shown = asked_and_shown()[endpoint]
    server = start_server(environment={"MIXDOWN_READ_WAIT_MS": "60000"})
    send(server, ANSWERED[endpoint]())
    assert without_time(json.loads(typed(server, command, tmp_path))) == without_time(shown)


def test_every_question_of_the_page_is_asked() -> None:
    assert asked_and_shown().keys() == ANSWERED.keys()
    others = [command for command in commands() if ENDPOINT.search(command) is None]
    assert all(line.startswith(("mixdown ", "  ")) for command in others for line in command.splitlines())


def lately() -> list[Event]:
    """Ann signed up and came back, and looks into the cart; Bob does too, and pays; Eve looks once."""
    now = datetime.now(UTC)
    found: list[Event] = [
        ("sign up", "ann", now - timedelta(days=15), {}),
        views("ann", now - timedelta(days=7)),
        ("checkout", "bob", now - timedelta(hours=2), {}),
    ]
    carts = [("ann", 5), ("ann", 4), ("bob", 5), ("bob", 3), ("eve", 5), ("eve", 24 * 31)]
    return [*found, *(("view cart", who, now - timedelta(hours=hours), {}) for who, hours in carts)]


def test_every_command_at_the_terminal_runs(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(environment={"MIXDOWN_READ_WAIT_MS": "60000"})
    send(server, [*who_looked_at_pricing()[:-2], *lately()])  # all at one page
    told = {
        line: typed(server, line, tmp_path)
        for command in commands()
        if ENDPOINT.search(command) is None
        for line in command.replace("\\\n", " ").splitlines()
    }
    named = {line.split()[1] + " " + line.split()[2]: printed for line, printed in told.items()}
    assert named.keys() == {
        "funnel create",
        "report create",
        "report run",
        "dashboard create",
        "cohort create",
    }
    (table,) = [printed for line, printed in told.items() if line.startswith("mixdown report run plans")]
    shown = asked_and_shown()["segmentation"][1]["data"]["values"]["free"]
    rows = [line.split("\t") for line in table.splitlines()]
    assert rows[0][:2] == ["date", "free"]
    found = {key: int(count) for key, count, *_ in rows[1:]}
    assert found.keys() == shown.keys()
    # the week in which the test runs may be one of them
    assert all(0 <= found[key] - count <= 1 for key, count in shown.items()), found
    header, *lines = (tmp_path / "back.csv").read_text(encoding="utf-8").splitlines()
    assert header.startswith("date,value,first,Week 0")
    counts = [[int(cell) for cell in line.split(",")[2:]] for line in lines]
    assert [sum(column) for column in zip(*counts, strict=True)] == [1, 0, 1]
    cohorts = json.loads(typed(server, "mixdown cohort list --project default --json", tmp_path))
    assert [(cohort["name"], cohort["count"]) for cohort in cohorts] == [("undecided", 1)]
    boards = json.loads(typed(server, "mixdown dashboard list --project default --json", tmp_path))
    assert [[each["name"] for each in board["reports"]] for board in boards] == [["plans", "pay"]]
