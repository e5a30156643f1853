"""The form of a cohort: conditions on what people did, beside what they are, counted and read again."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mixdown.explorer import session
from mixdown.store.memory import MemoryStore
from tests.explorer.support import NASTY
from tests.explorer.test_session import csrf_of, sign_in
from tests.reads.support import DAY_MS, NOON_MS, READER, World, user

ANALYST = "analyst.mp-service-account"
COHORTS = "/api/mixdown/cohorts"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Ada bought twice and looked, Bob looked long ago, Eve did nothing; Ada and Eve are on the pro plan."""
    made = World(MemoryStore())
    made.add_account(ANALYST, "analyst")
    made.send(user("ada", plan="pro"), user("bob", plan="free"), user("eve", plan="pro"))
    made.fold_all()
    done = [("Buy", 1, "ada", 20), ("Buy", 40, "ada", 5), ("Look", 2, "ada", 1), ("Look", 50, "bob", 1)]
    made.store_events(
        [
            {
                "position": number,
                "arrived": NOON_MS,
                "event": event,
                "time": NOON_MS - days * DAY_MS,
                "distinct_id": who,
                "insert_id": str(number),
                "properties": {"n": n, "odd": NASTY},
            }
            for number, (event, days, who, n) in enumerate(done)
        ]
    )
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _signed_in(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(session, "FAILURE_PAUSE_S", 0.0)
    as_user(world, ANALYST)
    yield
    for cohort in world.store.cohorts.listing(world.project.id):
        world.store.cohorts.delete(world.project.id, cohort.id)


def as_user(world: World, who: str) -> None:
    world.http.cookies.clear()
    assert sign_in(world, who).status_code == 303


def at(world: World, rest: str) -> str:
    return f"/explorer/{world.project.id}/{rest}"


def act(world: World, **fields: Any) -> httpx.Response:
    """Send the form, as a browser without a script."""
    csrf = csrf_of(world.get(at(world, "cohorts"), user=None))
    sent = {"csrf": csrf, "members": "where", **fields}
    return world.post(at(world, "cohorts/save"), user=None, data=sent)


def saved(world: World, **fields: Any) -> dict[str, Any]:
    """Send a form that is taken; the cohort that it made or changed."""
    reply = act(world, **fields)
    assert reply.status_code == 303, reply.text
    (found,) = world.get(COHORTS, user=READER).json()["results"]
    told: dict[str, Any] = found
    return told


def twin(world: World, rest: str, **params: Any) -> Any:
    reply = world.get(at(world, rest), user=READER, params=params)
    assert reply.status_code == 200, reply.text
    return reply.json()


def counted(world: World, **params: Any) -> str:
    """What the form says of how many match."""
    reply = world.get(at(world, "cohorts/check"), user=None, params=params)
    assert reply.status_code == 200, reply.text
    return " ".join(re.sub(r"<[^>]*>", " ", html.unescape(reply.text)).split())


def test_conditions_make_a_cohort_as_the_command_line_makes_it(world: World) -> None:
    made = saved(
        world,
        name="undecided",
        did1="did",
        event1="Buy",
        times1="2",
        did2="did-not",
        event2="Look",
        when2="last",
        length2="1",
        unit2="d",
        where='properties["plan"] == "pro"',
    )
    assert made["where"] == ('behaviors["1"] >= 2 and behaviors["2"] == 0 and (properties["plan"] == "pro")')
    assert made["behaviors"] == [
        {"name": "1", "event_selectors": [{"event": "Buy"}]},
        {"name": "2", "event_selectors": [{"event": "Look"}], "window": "1d"},
    ]
    assert made["count"] == 1
    listed = html.unescape(world.get(at(world, "cohorts/rows"), user=None).text)
    assert "did “Buy” at least 2 times" in listed
    assert "did not do “Look” in the last 1 day" in listed


def test_a_cohort_is_read_into_rows_and_changed_by_them(world: World) -> None:
    number = saved(world, name="buyers", event1="Buy", where1='properties["n"] > 9')["id"]
    found = twin(world, "cohorts/edit.json", id=number)
    (row,) = found["deeds"]
    assert (row["event"], row["where"], found["fields"]["where"]) == ("Buy", 'properties["n"] > 9', "")
    sent = {"id": number, "name": "buyers", "event1": "Buy", "event2": "Look", "deeds_joined": "any"}
    assert saved(world, **sent)["count"] == 2
    assert [row["event"] for row in twin(world, "cohorts/edit.json", id=number)["deeds"]] == ["Buy", "Look"]
    gone = saved(world, id=number, name="buyers", where="true")
    assert (gone["where"], gone["behaviors"], gone["count"]) == ("true", None, 3)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"event1": "Buy"}, "1 user matches now."),
        ({"event1": "Buy", "did1": "did-not"}, "2 users match now."),
        ({"event1": "Buy", "times1": "2", "when1": "last", "length1": "30"}, "0 users match now."),
        ({"event1": "Look", "when1": "between", "to1": "2025-12-31"}, "1 user matches now."),
        ({"event1": "Look", "event2": "Buy", "where2": 'properties["n"] > 9'}, "1 user matches now."),
        ({"event1": "Look", "event2": "Buy", "deeds_joined": "any"}, "2 users match now."),
        ({"event1": "Look", "where": 'properties["plan"] == "free"'}, "1 user matches now."),
        ({"event1": "Buy", "times1": "0"}, "how often is a whole number"),
        ({"event1": "Buy", "when1": "between", "from1": "soon"}, "must be days as YYYY-MM-DD"),
        ({"event1": "Buy", "where1": "=="}, "behaviors, selector,"),
        ({"event1": "Buy", "where": "1 ="}, "position 27"),
        ({"behaviors": "[", "where": "true"}, "this is no JSON"),
        ({"event1": " "}, ""),
    ],
)
def test_the_form_says_how_many_match_or_what_is_wrong(
    world: World, params: dict[str, str], said: str
) -> None:
    told = counted(world, **params)
    if said:
        assert said in told
    else:
        assert told == ""


def test_rows_come_and_go_and_are_counted_without_a_script(world: World) -> None:
    fields = {"name": NASTY, "event1": "Buy", "event2": NASTY, "event4": "Look", "times4": "3"}
    more = act(world, **fields, do="add").text
    assert [f'name="event{number}"' in more for number in (1, 4, 5)] == [True, True, False]
    assert NASTY not in more
    fewer = act(world, **fields, do="remove-2").text
    assert "&#34;Look&#34;" not in fewer
    assert re.findall(r'name="event\d" value="(\w*)"', fewer) == ["Buy", "Look"]
    assert re.findall(r'name="times\d" type="number" min="1" max="999999" value="(\d+)"', fewer) == ["1", "3"]
    assert "matches now" in act(world, event1="Buy", do="count").text
    assert not world.store.cohorts.listing(world.project.id)
    full = {f"event{number}": "Buy" for number in range(1, 21)}
    assert "One more condition" not in act(world, **full, do="add").text


def test_what_is_refused_is_shown_with_all_that_was_typed(world: World) -> None:
    reply = act(world, name="kept", event1="Buy", times1="x", where="true")
    assert (reply.status_code, "how often is a whole number" in reply.text) == (400, True)
    assert 'value="kept"' in reply.text
    reply = act(world, name="kept", event1="Buy", where="1 =")
    assert (reply.status_code, "<mark>" in reply.text) == (400, True)
    reply = act(world, name="kept", event1="Buy", where1="(")
    assert (reply.status_code, "behaviors, selector," in reply.text) == (400, True)


def test_what_rows_cannot_say_stays_a_text_that_can_be_changed(world: World) -> None:
    counts = [{"name": "a", "event_selectors": [{"event": "Buy"}, {"event": "Look"}]}]
    body = {"name": "both", "where": 'behaviors["a"] > 1', "behaviors": counts}
    number = world.post(COHORTS, user=ANALYST, json=body).json()["results"]["id"]
    found = twin(world, "cohorts/edit.json", id=number)
    assert (found["deeds"], found["fields"]["where"]) == ([], 'behaviors["a"] > 1')
    sent = {"id": number, "name": "both", "where": 'behaviors["a"] > 2'}
    assert saved(world, **sent, behaviors=found["fields"]["behaviors"])["count"] == 1
    refused = act(world, **sent, behaviors="{")
    assert (refused.status_code, "this is no JSON" in refused.text) == (400, True)


def test_the_form_takes_conditions_from_its_address_and_shows_readers_no_button(world: World) -> None:
    asked = {"event1": "Buy", "did1": "did-not", "when1": "last", "length1": "7", "name": "sleepers"}
    found = world.get(at(world, "cohorts/new"), user=None, params=asked).text
    assert re.search(r'name="event1" value="Buy"', found)
    assert re.search(r'<option value="did-not" selected', found)
    number = saved(world, name="buyers", event1="Buy")["id"]
    as_user(world, READER)
    page = world.get(at(world, f"cohorts/edit?id={number}"), user=None).text
    assert "<fieldset" in page
    assert 'name="do"' not in page
