"""`mixdown funnel`, `mixdown report` and `mixdown dashboard`."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mixdown.store import patience
from tests.cli.support import Cli
from tests.engine import open_store
from tests.reads.support import OWNER, World

FUNNEL = ("funnel", "create", "pay", "--project", "shop", "--step", "Cart", "--step", "Pay")


def test_a_funnel_is_saved_listed_shown_and_deleted(shop: Cli) -> None:
    where = '2=properties["amount"] >= 100'
    made = shop.json(
        *FUNNEL, "--where", where, "--length", "1", "--length-unit", "hour", "--description", "who pays"
    )
    assert made == {
        "id": 1,
        "project_id": 1,
        "kind": "funnels",
        "name": "pay",
        "description": "who pays",
        "definition": {
            "steps": [{"event": "Cart"}, {"event": "Pay", "where": 'properties["amount"] >= 100'}],
            "length": 1,
            "length_unit": "hour",
        },
        "creator": "",
        "created": made["created"],
        "changed": made["created"],
    }
    assert shop.json("funnel", "list", "--project", "shop") == [made]
    assert shop.json("report", "list", "--project", "1") == [made]
    for ref in ("pay", "1"):
        assert shop.json("funnel", "show", ref, "--project", "shop") == made
        assert shop.json("report", "show", ref, "--project", "shop") == made
    table = shop("funnel", "list", "--project", "shop").stdout
    assert table.splitlines()[0].split("\t") == ["id", "name", "created", "definition"]
    assert '"steps":' in shop("report", "show", "pay", "--project", "shop").stdout
    assert shop.json("funnel", "delete", "pay", "--project", "shop", "--yes") == {"id": 1, "name": "pay"}
    assert shop.json("report", "list", "--project", "shop") == []


def test_a_report_is_deleted_by_its_name(shop: Cli) -> None:
    shop.json(*FUNNEL)
    assert "deleted the report pay" in shop("report", "delete", "pay", "--project", "shop", "--yes").stderr
    assert shop.json("funnel", "list", "--project", "shop") == []


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (("--where", "3=true"), "write the number of a step"),
        (("--where", "true"), "write the number of a step"),
        (("--where", "1=("), "steps, where of step 1"),
        (("--length", "91"), "a funnel takes at most 90 days"),
        (("--step", ""), "each must name an event"),
    ],
)
def test_a_funnel_that_cannot_be_counted_is_not_saved(shop: Cli, more: tuple[str, ...], text: str) -> None:
    code = 2 if text.startswith("write") else 1
    assert text in shop(*FUNNEL, *more, code=code).stderr
    assert shop.json("funnel", "list", "--project", "shop") == []


def test_what_is_not_there_is_said(shop: Cli) -> None:
    for words in (("funnel", "show", "x"), ("report", "delete", "x", "--yes")):
        assert f"there is no {words[0]} 'x'" in shop(*words, "--project", "shop", code=1).stderr


# --- reports of all kinds: made, asked, told as the API tells them

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
FIRST, LAST = (str((NOON - timedelta(days=ago)).date()) for ago in (1, 0))
"""Two days before today, with something in them."""
FORMULA = "=1+1"
SEGMENTATION = ("--kind", "segmentation", "--event", "look")
KINDS: dict[str, tuple[str, ...]] = {
    "looks": (*SEGMENTATION, "--on", "plan", "--days", "5"),
    "sums": (*SEGMENTATION, "--method", "sum", "--on", "n", "--days", "5"),
    "pay": ("--kind", "funnels", "--step", "look", "--step", "pay", "--step-where", "2=true", "--on", "plan"),
    "back": ("--kind", "retention", "--born-event", "look", "--interval-count", "2", "--unbounded"),
    "often": ("--kind", "addiction", "--unit", "week", "--addiction-unit", "day", "--on", "plan"),
}


@pytest.fixture
def looked(shop: Cli) -> Cli:
    """Three look, on two days, one of whom pays; with one saved report of each kind."""
    events = [("look", who, ago) for who in "abc" for ago in (0, 86_400)] + [("pay", "a", -1)]
    records = [
        {
            "event": event,
            "properties": {
                "token": "shop-token",
                "distinct_id": who,
                "time": int(NOON.timestamp()) - ago,
                "plan": FORMULA if who == "a" else "pro",
                "n": 2,
                "$insert_id": f"{event}{who}{ago}",
            },
        }
        for event, who, ago in events
    ]
    assert shop.send(*records, endpoint="track").good == len(records)
    for name, flags in KINDS.items():
        made = shop.json("report", "create", name, "--project", "shop", *flags)
        assert (made["name"], made["kind"]) == (name, flags[1])
    return shop


@contextmanager
def served(cli: Cli) -> Iterator[World]:
    """The same folder behind the API."""
    world = World(open_store(cli.folder, role="worker", create=False))
    world.now_ms = time.time_ns() // 1_000_000
    try:
        yield world
    finally:
        world.close()


def without_moment(answer: Any) -> Any:
    """An answer without the time at which it was computed."""
    return {name: value for name, value in answer.items() if name != "computed_at"}


@pytest.mark.slow
def test_a_report_answers_what_the_api_answers(looked: Cli) -> None:
    numbers = {each["name"]: each["id"] for each in looked.json("report", "list", "--project", "shop")}
    told = {name: looked.json("report", "run", name, "--project", "shop") for name in KINDS}
    where = 'properties["n"] > 5'
    days = ("--from", FIRST, "--to", LAST)
    cut = looked.json("report", "run", "looks", "--project", "shop", "--where", where, *days)
    with served(looked) as world:
        for name, number in numbers.items():
            asked = {"id": number, "project_id": 1}
            answer = world.get("/api/mixdown/reports/run", user=OWNER, params=asked)
            assert without_moment(told[name]) == without_moment(answer.json()), name
        asked = {"id": numbers["looks"], "project_id": 1, "where": where, "from_date": FIRST, "to_date": LAST}
        answer = world.get("/api/mixdown/reports/run", user=OWNER, params=asked)
        assert cut == answer.json()
    assert sum(told["looks"]["data"]["values"]["pro"].values()) == 4


def test_a_report_is_a_table_and_in_csv_no_text_of_it_is_a_formula(looked: Cli) -> None:
    days = ("--from", FIRST, "--to", LAST)

    def table(name: str) -> list[list[str]]:
        lines = looked("report", "run", name, "--project", "shop", *days).stdout.splitlines()
        return [line.split("\t") for line in lines]

    assert table("looks") == [["date", "pro", FORMULA], [FIRST, "2", "1"], [LAST, "2", "1"]]
    assert table("sums") == [["date", "look"], [FIRST, "6"], [LAST, "6"]]
    assert table("pay")[0][:4] == ["date", "value", "step", "event"]
    assert table("back")[0] == ["date", "value", "first", "Day 0", "Day 1", "Day 2"]
    assert table("often")[0] == ["date", "value", *(f"{number} days or more" for number in range(1, 8))]
    text = looked("report", "run", "looks", "--project", "shop", "--csv", *days).stdout
    rows = list(csv.reader(io.StringIO(text)))
    assert rows == [["date", "pro", f"'{FORMULA}"], [FIRST, "2", "1"], [LAST, "2", "1"]]


def test_a_report_is_asked_without_being_saved(looked: Cli) -> None:
    asked = ("report", "run", "--project", "shop", *SEGMENTATION, "--from", LAST, "--to", LAST)
    assert looked.json(*asked)["data"]["values"] == {"look": {LAST: 3}}
    assert len(looked.json("report", "list", "--project", "shop")) == len(KINDS)


def test_a_report_is_changed_in_what_the_flags_name(looked: Cli) -> None:
    own = ("report", "change", "looks", "--project", "shop")
    before = looked.json("report", "show", "looks", "--project", "shop")
    made = looked.json(*own, "--unit", "week", "--drop", "on", "--where", 'properties["n"] > 1')
    assert made["definition"] == {
        "event": "look",
        "days": 5,
        "unit": "week",
        "where": 'properties["n"] > 1',
    }
    assert [made[name] for name in ("id", "kind", "name")] == [before["id"], "segmentation", "looks"]
    named = looked.json(*own, "--name", "Looks", "--description", "who looks", "--drop", "--where")
    assert (named["name"], named["description"], named["definition"]["unit"]) == (
        "Looks",
        "who looks",
        "week",
    )
    steps = looked.json("report", "change", "pay", "--project", "shop", "--step", "look", "--length", "1")
    assert steps["definition"] == {"on": "plan", "length": 1, "steps": [{"event": "look"}]}
    often = ("report", "change", "back", "--project", "shop", "--drop", "unbounded", "--description", "")
    assert looked.json(*often)["definition"] == {"born_event": "look", "interval_count": 2}
    with served(looked) as world:
        asked = {"id": named["id"], "project_id": 1}
        answer = world.get("/api/mixdown/reports", user=OWNER, params=asked).json()["results"]
    assert answer == named == looked.json("report", "show", "Looks", "--project", "shop")


def test_a_report_that_takes_too_long_is_ended(looked: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ("report", "run", "looks", "--project", "shop")
    told = looked(*run, "--timeout", "1e-9", code=1).stderr
    assert "this report took longer than 1e-09 s" in told
    assert "--timeout" in told
    seen = []

    def until(deadline_s: float, limit_s: float) -> AbstractContextManager[None]:
        seen.append((limit_s, round(deadline_s - time.monotonic())))
        return nullcontext()

    monkeypatch.setattr(patience, "until", until)
    looked(*run)
    looked(*run, "--timeout", "5000")
    looked(*run, env={"MIXDOWN_READ_TIMEOUT_S": "77"})
    assert [limit_s for limit_s, _ in seen] == [60, 5000, 77]
    assert [abs(limit_s - left_s) <= 30 for limit_s, left_s in seen] == [True] * 3


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("report", "run"), 2, "Name a saved report, or give --kind"),
        (("report", "run", "x", "--kind", "addiction"), 2, "Name a saved report, or give --kind"),
        (("report", "run", "x"), 1, "there is no report 'x'"),
        (("report", "run", "--kind", "segmentation"), 1, "event, missing: name the event"),
        (("report", "run", "--kind", "addiction", "--length", "2"), 1, "length is no part of it"),
        (("report", "run", *SEGMENTATION, "--where", "("), 1, "position 1"),
        (("report", "run", *SEGMENTATION, "--from", "soon"), 1, "from_date"),
        (("report", "run", *SEGMENTATION, "--step-where", "1=true"), 2, "name the steps by --step"),
        (("report", "run", *SEGMENTATION, "--json", "--csv"), 2, "Choose --json or --csv"),
        (("report", "create", "x", "--kind", "funnels"), 1, "steps, must be a list of 1 to 20 events"),
        (("report", "create", "x", *SEGMENTATION, "--unit", "century"), 1, "unit, must be one of"),
        (("report", "create", "x", "--kind", "retention"), 1, "born_event, missing"),
        (("dashboard", "create", "x", "--report", "none=6"), 1, "there is no report 'none'"),
        (("dashboard", "show", "x"), 1, "there is no dashboard 'x'"),
        (("dashboard", "change", "x", "--days", "3"), 1, "there is no dashboard 'x'"),
        (("dashboard", "change", "x"), 2, "Give what is to change"),
        (("report", "change", "x", "--name", "y"), 1, "there is no report 'x'"),
        (("report", "change", "x"), 2, "Give what is to change"),
    ],
)
def test_what_cannot_be_asked_or_kept_is_said(
    shop: Cli, words: tuple[str, ...], code: int, text: str
) -> None:
    assert text in shop(*words, "--project", "shop", code=code).stderr
    assert shop.json("report", "list", "--project", "shop") == []


def test_a_dashboard_is_made_shown_and_deleted_as_the_api_shows_it(shop: Cli) -> None:
    for name in ("looks", "pays=6"):
        shop.json("report", "create", name, "--project", "shop", *SEGMENTATION)
    flags = ("--report", "looks=4", "--report", "pays=6", "--report", "1", "--days", "7")
    made = shop.json("dashboard", "create", "Growth", "--project", "shop", *flags)
    rooms = [(each["name"], each["width"]) for each in made["reports"]]
    assert (made["title"], made["days"], rooms) == (
        "Growth",
        7,
        [("looks", 4), ("pays=6", 12), ("looks", 12)],
    )
    with served(shop) as world:
        answer = world.get("/api/mixdown/dashboards", user=OWNER, params={"project_id": 1})
    assert shop.json("dashboard", "list", "--project", "shop") == answer.json()["results"] == [made]
    assert shop.json("dashboard", "show", "Growth", "--project", "shop") == made
    assert "pays=6\t12" in shop("dashboard", "show", "3", "--project", "shop").stdout
    assert "Growth\t7\tlooks" in shop("dashboard", "list", "--project", "shop").stdout
    refused = shop("report", "run", "Growth", "--project", "shop", code=1).stderr
    assert "is a dashboard" in refused
    assert "`mixdown dashboard show`" in refused
    assert (
        "is a dashboard"
        in shop("report", "change", "Growth", "--project", "shop", "--on", "x", code=1).stderr
    )
    gone = shop.json("dashboard", "delete", "Growth", "--project", "shop", "--yes")
    assert gone == {"id": 3, "name": "Growth"}
    assert len(shop.json("report", "list", "--project", "shop")) == 2


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--drop", "where"), "says nothing of it"),
        (("--length", "3"), "length is no part of it"),
        (("--unit", "century"), "unit, must be one of"),
        (("--where", "("), "position 1"),
        (("--drop", "event"), "event, missing"),
        (("--name", " "), "name, must be 1 to 255"),
        (("--name", "sums"), "taken by another report"),
    ],
)
def test_a_change_that_cannot_be_asked_changes_nothing(
    looked: Cli, words: tuple[str, ...], text: str
) -> None:
    before = looked.json("report", "list", "--project", "shop")
    code = 2 if text.startswith("says") else 1
    assert text in looked("report", "change", "looks", "--project", "shop", *words, code=code).stderr
    assert looked.json("report", "list", "--project", "shop") == before


def test_a_dashboard_is_changed_in_what_the_flags_name(shop: Cli) -> None:
    for name in ("one", "two", "three"):
        shop.json("report", "create", name, "--project", "shop", *SEGMENTATION)
    flags = ("--report", "one=4", "--report", "two=8", "--days", "7", "--description", "what we look at")
    made = shop.json("dashboard", "create", "Growth", "--project", "shop", *flags)
    wide = [{"id": each["id"], "width": each["width"], "height": 2} for each in made["reports"]]
    with served(shop) as world:
        given = {"id": made["id"], "title": "Growth", "days": 7, "reports": wide, "project_id": 1}
        world.run(world.ask("/api/mixdown/dashboards", method="PUT", user=OWNER, json=given))

    def change(*words: str, code: int = 0) -> Any:
        own = ("dashboard", "change", str(made["id"]), "--project", "shop", *words)
        return shop.json(*own) if not code else shop(*own, code=code).stderr

    def rooms(board: Any) -> list[tuple[str, int, int]]:
        return [(each["name"], each["width"], each["height"]) for each in board["reports"]]

    more = change("--add", "three=6", "--remove", "one", "--title", "Grown")
    assert rooms(more) == [("two", 8, 2), ("three", 6, 1)]
    assert [more[name] for name in ("title", "days", "id")] == ["Grown", 7, made["id"]]
    again = change("--report", "three", "--report", "one=4", "--days", "0", "--description", "new")
    assert rooms(again) == [("three", 12, 1), ("one", 4, 1)]
    assert (again["title"], again["days"], again["description"]) == ("Grown", None, "new")
    assert "there is no report 'two' on this dashboard" in change("--remove", "two", code=1)
    assert "there is no report 'four'" in change("--add", "four", code=1)
    assert "title, must be" in change("--title", " ", code=1)
    assert shop.json("dashboard", "show", "Grown", "--project", "shop") == again
