"""What pages of reports say of their figures: whose they are, how many in all, and what is not over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mixdown.explorer import session
from tests.engine import open_store
from tests.explorer.test_reports import ANALYST, REPORTS, event, get, lines, made_up, twin
from tests.explorer.test_session import sign_in
from tests.reads.support import READER, World


def logins() -> list[dict[str, Any]]:
    """Five people who come on three days each, with two values at a time."""
    return [
        event(1000 + 3 * n + at, "login", n, days, tags=["a", "b"])
        for n in range(5)
        for at, days in enumerate((20, 10, 3))
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One server for all tests: none changes what another one counts."""
    folder: Path = tmp_path_factory.mktemp("figures") / "data"
    store = open_store(folder, role="worker", create=True)
    made = World(store, open_store(folder, role="fold", create=False))
    made.store_events([*made_up(), *logins()])
    made.add_account(ANALYST, "analyst")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _signed_in(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "FAILURE_PAUSE_S", 0.0)
    world.http.cookies.clear()
    assert sign_in(world, ANALYST).status_code == 303


# --- retention in each stretch


def test_where_each_return_begins_anew_one_event_is_asked_for_and_named(world: World) -> None:
    asked: dict[str, Any] = {"retention_type": "compounded", "event": "login", "unit": "week"}
    page = twin(world, "reports/retention", **asked)
    other = twin(world, "reports/retention", **asked, born_event="visit", born_where="true")
    assert page["definition"]["event"] == "login"
    assert not {"born_event", "born_where"} & other["definition"].keys()
    assert other == page
    form = get(world, "reports/retention", **asked, born_event="visit").text.partition('id="question"')[2]
    assert set(re.findall(r'name="((?:born_)?(?:event|where))"', form)) == {"event", "where"}
    assert "Does, and does again" in form
    assert "counted anew in each stretch" in get(world, "reports/retention/figures", **asked).text
    wrong = get(world, "reports/retention/figures", **{**asked, "event": "logn", "born_event": "visit"}).text
    assert re.search("no such event in these days: <bdi>logn", wrong)


def test_what_somebody_saved_in_each_stretch_is_told_once(world: World) -> None:
    definition = {"retention_type": "compounded", "born_event": "visit", "event": "login", "unit": "week"}
    body = {"kind": "retention", "name": "again and again", "definition": definition}
    number = world.post(REPORTS, user=ANALYST, json=body).json()["results"]["id"]
    (line,) = twin(world, "reports", q="again and again")["reports"]
    assert line["asks"] == ["login"]
    assert "born" not in line["url"]
    del definition["event"]
    changed = {"id": number, "definition": definition}
    assert world.run(world.ask(REPORTS, method="PATCH", user=ANALYST, json=changed)).status_code == 200
    opened = get(world, "reports/open", status=303, id=number).headers["location"]
    figures = world.get(opened.replace("retention?", "retention.json?"), user=READER).json()["figures"]
    assert sum(row["first"] for row in figures["rows"]) > 15  # of any event, as the API counts it


# --- how many in all


@pytest.mark.parametrize("limit", [1, 10])
def test_the_events_of_a_segmentation_by_value_count_once_each(world: World, limit: int) -> None:
    """Values stand under each element of a list, and rarer ones are left out."""
    found = twin(world, "reports/segmentation", event="login", on="tags", limit=limit)["figures"]
    assert [column["total"] for column in found["table"]["columns"]] == [15, 15][:limit]
    assert found["headline"] == {"number": 15, "text": "events"}
    some = twin(world, "reports/segmentation", event="visit", on="plan", limit=limit)["figures"]
    assert some["headline"]["number"] == 40


@pytest.mark.parametrize("on", ["", "tags"])
def test_different_people_of_all_days_are_counted_once(world: World, on: str) -> None:
    asked: dict[str, Any] = {"event": "login", "measure": "unique", "on": on or None, "unit": "week"}
    found = twin(world, "reports/segmentation", **asked)["figures"]
    assert found["people"] == 5
    assert found["headline"]["number"] == (None if on else 5)
    text = get(world, "reports/segmentation/figures", **asked).text
    assert re.search(r'class="figure">5</span> <span dir="auto">users in these days<', text)
    assert ("5 users at most in a week" in text) == (not on)
    days = twin(world, "reports/segmentation", event="visit", measure="unique")["figures"]
    assert (days["people"], days["headline"]["number"]) == (40, 10)
    assert twin(world, "reports/segmentation", event="visit")["figures"]["people"] is None


def test_more_days_than_buckets_are_counted_together_all_the_same(world: World) -> None:
    days: dict[str, Any] = {"from": "0100-01-01", "to": "9999-12-31"}
    found = twin(world, "reports/funnel", event1="visit", event2="sign up", **days)["figures"]
    assert [step["count"] for step in found["steps"]] == [40, 30]
    assert len(lines(world, "reports/funnel", event1="visit", event2="sign up", **days)) == 3
    asked: dict[str, Any] = {"event": "login", "measure": "unique", "unit": "month"}
    assert twin(world, "reports/segmentation", **asked, **days)["figures"]["people"] == 5
