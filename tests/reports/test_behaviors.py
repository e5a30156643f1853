"""What persons did, as filters over profiles read it: by the book, and with mutants that the book catches."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixdown.query import behaviors, choosing
from mixdown.query.choosing import Filters, choose
from mixdown.query.engage import ProfileQueries, ProfileQuery
from mixdown.store.protocols import Cohort
from tests.engine import PARTITIONS
from tests.reads.event_reference import Stored
from tests.reads.test_events_by_the_book import (
    GENERATED,
    HOUR_MS,
    IDS,
    MIDNIGHT_MS,
    PROJECT,
    Kept,
    kept,
    links,
)
from tests.reports.journeys import local
from tests.reports.test_journeys import NAMES, VALUES, is_one, stored
from tests.store.support import user, write

ZONES = [ZoneInfo(name) for name in ("UTC", "America/New_York", "Asia/Kolkata")]
SELECTORS = ("", 'properties["v"] == "x"', 'defined(properties["v"])', 'properties["distinct_id"] != "u1"')
PROFILES: dict[str, dict[str, Any]] = {
    "u1": {"n": 1},
    "u2": {"n": 0},
    "alias": {"n": "x"},
    "nobody": {},
    "zoe": {"n": 2},
}
"""Profiles by canonical id: of some who did something, and of some who did not."""
WHERES: tuple[tuple[str, Callable[[Sequence[int], dict[str, Any] | None], bool]], ...] = (
    ('behaviors["0"] > 0', lambda n, _: n[0] > 0),
    ('behaviors["0"] == 0', lambda n, _: n[0] == 0),
    ('behaviors["0"] >= 2 and behaviors["1"] == 0', lambda n, _: n[0] >= 2 and n[1] == 0),
    ('behaviors["0"] > 0 or behaviors["1"] > 1', lambda n, _: n[0] > 0 or n[1] > 1),
    ('not (behaviors["0"] > behaviors["1"])', lambda n, _: n[0] <= n[1]),
    (
        '(behaviors["1"] < 2) and defined(properties["n"])',
        lambda n, p: n[1] < 2 and p is not None and "n" in p,
    ),
    (
        'behaviors["0"] > properties["n"]',
        lambda n, p: p is not None and type(p.get("n")) is int and n[0] > p["n"],
    ),
    (
        'behaviors["0"] == 0 or properties["n"] == "x"',
        lambda n, p: n[0] == 0 or (p is not None and p.get("n") == "x"),
    ),
)


def windows_as_of(as_of_ms: int, zone: ZoneInfo, given: dict[str, Any]) -> Callable[[int], bool]:
    """Whether a time is in the window of a definition, said in Python."""
    if "window" in given:
        length = timedelta(
            **{{"h": "hours", "d": "days", "w": "weeks"}[given["window"][-1]]: int(given["window"][:-1])}
        )
        begin_ms = as_of_ms - length // timedelta(milliseconds=1)
        return lambda ms: begin_ms <= ms <= as_of_ms
    first, last = given.get("from_date"), given.get("to_date")

    def within(ms: int) -> bool:
        day = local(ms, zone).date().isoformat()
        return (first is None or first <= day) and (day <= last if last is not None else ms <= as_of_ms)

    return within


def by_the_book(
    world: Kept, definitions: Sequence[dict[str, Any]], *, as_of_ms: int, zone: ZoneInfo, group_key: str
) -> dict[str, list[int]]:
    """How often each did what is defined: every event is looked at for each definition."""
    found: dict[str, list[int]] = {}
    for number, each in enumerate(definitions):
        within = windows_as_of(as_of_ms, zone, each)
        for event in world.once:
            choices = [(one["event"], one["selector"]) for one in each["event_selectors"]]
            if not within(event.time) or not any(is_one(world, event, choice) for choice in choices):
                continue
            who = {world.person(event)}
            if group_key:
                groups = event.properties.get(group_key)
                who = set(groups if isinstance(groups, list) else [groups]) - {None, ""}
            for one in who:
                found.setdefault(one, [0] * len(definitions))[number] += 1
    return found


def definitions_of(chance: random.Random) -> list[dict[str, Any]]:
    """Two definitions; windows end where events tie with their edges."""
    found = []
    for name in ("0", "1"):
        chosen = [
            {"event": chance.choice(NAMES), "selector": chance.choice(SELECTORS)}
            for _ in range(chance.choice([1, 1, 2]))
        ]
        when = chance.choice(
            [
                {"window": chance.choice(["1h", "24h", "1d", "2d", "3d", "1w"])},
                {"window": chance.choice(["1h", "24h", "1d", "2d", "3d", "1w"])},
                {"from_date": "2026-01-15"},
                {"to_date": "2026-01-15"},
                {"from_date": "2026-01-14", "to_date": "2026-01-16"},
                {},
            ]
        )
        found.append({"name": name, "event_selectors": chosen, **when})
    return found


def prepare(world: Kept, zone: ZoneInfo) -> None:
    """Give the project its zone, and profiles."""
    catalog = world.store.catalog
    made = catalog.create_project(
        "one", token="one", secret_hash=b"", id_merge="simplified", timezone=zone.key, now_ms=1
    )
    assert made.id == PROJECT
    state = world.view.state
    profiles = [(user(name), orjson.dumps(own)) for name, own in PROFILES.items()]
    write(state, profiles, watermark=state.watermark())


Told = tuple[str, Callable[[Sequence[int], dict[str, Any] | None], bool]]


def found_and_expected(
    world: Kept,
    definitions: list[dict[str, Any]],
    where: Told,
    *,
    as_of_ms: int,
    zone: ZoneInfo,
    group_key: str = "",
) -> tuple[list[list[str]], list[list[str]]]:
    """Whom the profile query and a cohort find, and whom the book does."""
    text, is_wanted = where
    told = orjson.dumps(definitions).decode()
    filters = Filters(where=text, behaviors=told, as_of_ms=as_of_ms)
    cohort = Cohort(PROJECT, "c", group_key=group_key, expression=text, behaviors=told)
    queries, query = ProfileQueries(world.store), ProfileQuery(project=PROJECT)
    found = []
    ask: dict[str, Any] = {"now_ms": as_of_ms, "reads": world.reads}
    chosen = [choose(world.store, PROJECT, Filters(), cohort=cohort, **ask)]
    if not group_key:
        chosen.append(choose(world.store, PROJECT, filters, now_ms=MIDNIGHT_MS, reads=world.reads))
    profiles: dict[str, dict[str, Any]] = {} if group_key else PROFILES
    counts = by_the_book(world, definitions, as_of_ms=as_of_ms, zone=zone, group_key=group_key)
    everybody = sorted({*profiles, *counts})
    wanted = [one for one in everybody if is_wanted(counts.get(one, [0, 0]), profiles.get(one, {}))]
    for choice in chosen:
        ids = list(queries.matching(query, choice))
        found.append(ids)
    return found, [wanted, [one for one in wanted if one in profiles]][: len(chosen)]


def check(world: Kept, zone: ZoneInfo, chance: random.Random) -> None:
    """Ask one question that chance makes, and hold the answers to the book."""
    as_of_ms = MIDNIGHT_MS + chance.choice([0, 1, 999, 1000, 24 * HOUR_MS, 48 * HOUR_MS, 72 * HOUR_MS])
    found, expected = found_and_expected(
        world,
        definitions_of(chance),
        chance.choice(WHERES),
        as_of_ms=as_of_ms,
        zone=zone,
        group_key=chance.choice(["", "", "company"]),
    )
    assert found == expected


@settings(GENERATED, max_examples=3)
@given(
    stored(),
    st.lists(st.integers(1, 20), max_size=2),
    links,
    st.sampled_from(ZONES),
    st.randoms(use_true_random=False),
)
def test_counts_choose_whom_the_book_chooses(
    events: list[Stored],
    cuts: list[int],
    linked: list[tuple[str, str]],
    zone: ZoneInfo,
    chance: random.Random,
) -> None:
    with kept(events, cuts, linked) as world:
        prepare(world, zone)
        for _ in range(2):
            check(world, zone, chance)


@pytest.mark.slow
@settings(GENERATED, max_examples=25)
@given(
    stored(),
    st.lists(st.integers(1, 20), max_size=3),
    links,
    st.sampled_from(ZONES),
    st.randoms(use_true_random=False),
)
def test_counts_over_files_and_what_is_beside_them_choose_whom_the_book_chooses(
    events: list[Stored],
    cuts: list[int],
    linked: list[tuple[str, str]],
    zone: ZoneInfo,
    chance: random.Random,
) -> None:
    with (
        TemporaryDirectory() as name,
        kept(events, cuts, linked, Path(name) / "data", cuts[:1], partitions=PARTITIONS) as world,
    ):
        prepare(world, zone)
        for _ in range(2):
            check(world, zone, chance)


# --- faults that the book must catch


def events_at_edges() -> list[Stored]:
    """Many events of few persons, at the edges of hours and days as well."""
    chance = random.Random(8)
    found = []
    for position in range(30):
        properties: dict[str, Any] = {"company": chance.choice(["acme", ["acme", "zed"], "zed", ""])}
        if chance.random() < 0.8:
            properties["v"] = chance.choice(VALUES)
        time = (
            MIDNIGHT_MS
            + chance.choice([0, 0, 1, -1, 1000])
            + chance.choice([-48, -24, -1, 0, 0, 1, 23, 24, 47, 48, 72]) * HOUR_MS
        )
        again = chance.choice([f"own{position}", "twice"])
        who = chance.choice(IDS[:4])
        found.append(
            Stored(position, MIDNIGHT_MS + position, chance.choice(NAMES), time, who, again, properties)
        )
    return found


@pytest.fixture(scope="module")
def worlds() -> Iterator[list[tuple[ZoneInfo, Kept]]]:
    linked = [("$device:d1", "u1"), ("alias", "u2")]
    with (
        kept(events_at_edges(), [10, 20], linked) as one,
        kept(events_at_edges(), [15], linked) as other,
    ):
        found = [(ZONES[1], one), (ZONES[2], other)]
        for zone, world in found:
            prepare(world, zone)
        yield found


def ask_many(worlds: list[tuple[ZoneInfo, Kept]], questions: int) -> None:
    chance = random.Random(5)
    for _ in range(questions):
        for zone, world in worlds:
            check(world, zone, chance)


def test_many_questions_are_answered_as_by_the_book(worlds: list[tuple[ZoneInfo, Kept]]) -> None:
    ask_many(worlds, 3)


FAULTS = (
    (
        "max(_EARLIEST_MS, as_of_ms - length_ms), as_of_ms + 1",
        "max(_EARLIEST_MS, as_of_ms - length_ms) + 1, as_of_ms + 1",
    ),
    (
        "max(_EARLIEST_MS, as_of_ms - length_ms), as_of_ms + 1",
        "max(_EARLIEST_MS, as_of_ms - length_ms), as_of_ms",
    ),
    (
        "span_of_days(first or date.min, last or date.max, zone)",
        "span_of_days(first or date.min, last or date.max)",
    ),
    ("days.until_ms if last else min(days.until_ms, as_of_ms + 1)", "days.until_ms"),
    ("return Span(_EARLIEST_MS, as_of_ms + 1)", "return Span(_EARLIEST_MS, 10**14)"),
    ("group_key=self.group_key,\n        )\n        return", "group_key='',\n        )\n        return"),
    ('" OR ".join(f"match', '" AND ".join(f"match'),
    ("place += len(each.selectors)", "place += 1"),
    (" AND {within}) AS", ") AS"),
    ('if wants("", nothing, b"") else counted', "if False else counted"),
    (
        "            while ahead is not None and ahead[0] < one:\n                yield ahead\n",
        "            while ahead is not None and ahead[0] < one:\n",
    ),
    ("            yield ahead\n            yield from counted", "            pass"),
    ("ORDER BY person", "ORDER BY n0"),
    ('operator == "and"', 'operator in ("and", "or")'),
    ("yield from self._matching(some, mixed) if mixed else", "yield from"),
    ('document or b"{}"', 'b"{}"'),
)
"""What stands in the module, and what is put in its place."""


def mutant(module: ModuleType, old: str, new: str) -> Any:
    """A module with something else in its source."""
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    assert source.count(old) == 1, (old, source.count(old))
    made = ModuleType(module.__name__)
    exec(compile(source.replace(old, new), f"a mutant of {module.__file__}", "exec"), made.__dict__)  # noqa: S102 - our own source
    return made


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=range(len(FAULTS)))
def test_a_fault_is_noticed(
    worlds: list[tuple[ZoneInfo, Kept]], fault: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = mutant(behaviors, *fault)
    for name in ("Acted", "read_behaviors", "split"):
        monkeypatch.setattr(choosing, name, getattr(changed, name))
    with pytest.raises(Exception, match=r"(?s)."):
        ask_many(worlds, 60)
