"""The three questions of docs/reports.md, asked word for word: what it shows is what a server answers.

Each is asked of a fresh server, whose events are made so that the figures of the page must come out; what
must not count lies among them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.docs.snippets import blocks
from tests.docs.test_readme import ADDRESS, plain_environment
from tests.serving import StartServer

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "reports.md"
QUESTION = re.compile(
    r"^\*(?P<question>[^*\n]+\?)\*$(?P<rest>.*?)(?=^\*[^*\n]+\?\*$|\Z)", re.MULTILINE | re.DOTALL
)
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


QUESTIONS: dict[str, Callable[[], list[Event]]] = {
    "How many people looked at pricing, week by week, by plan?": who_looked_at_pricing,
    "How many of those who look at pricing pay within a week, and how long does it take them?": (
        who_paid_after_looking_at_pricing
    ),
    "Of those who signed up in each week, how many came back, week by week?": who_came_back,
}


def asked_and_shown(question: str) -> tuple[str, Any]:
    """The command below a question of the page, and the answer that stands below the command."""
    for match in QUESTION.finditer(PAGE.read_text(encoding="utf-8")):
        if match["question"] == question:
            command, answer, *_ = blocks(match["rest"])
            assert (command.language, answer.language) == ("sh", "json")
            return command.code, json.loads(answer.code)
    raise AssertionError(f"the page does not ask: {question}")


def without_time(answer: Any) -> Any:
    answer.pop("computed_at", None)
    return answer


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_of_the_page_is_answered_as_the_page_shows(
    start_server: StartServer, tmp_path: Path, question: str
) -> None:
    server = start_server(environment={"MIXDOWN_READ_WAIT_MS": "60000"})
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
        for number, (name, who, when, properties) in enumerate(QUESTIONS[question]())
    ]
    for begin in range(0, len(events), AT_ONCE):
        some = json.dumps(events[begin : begin + AT_ONCE]).encode()
        headers = {**server.authorization(), "Content-Type": "application/json"}
        sent = server.request("POST", "/import?strict=1&project_id=1", some, headers)
        assert sent.status == 200, sent
    command, shown = asked_and_shown(question)
    ran = subprocess.run(
        ["sh", "-euc", command.replace(ADDRESS, server.base_url)],
        cwd=tmp_path,
        env={**plain_environment(), "PATH": os.environ["PATH"], "MIXDOWN_ACCOUNT": ":".join(server.account)},
        capture_output=True,
        timeout=400,
        check=False,
    )
    assert ran.returncode == 0, ran
    assert without_time(json.loads(ran.stdout)) == without_time(shown)
