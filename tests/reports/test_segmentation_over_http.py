"""Segmentation over HTTP, in Mixpanel's shapes, and what is refused."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast
from urllib.parse import parse_qsl

import pytest
from starlette.requests import Request

from mixdown.http.reading import in_report_thread
from mixdown.model.errors import QueryError, ReadTimeoutError, StoreError, TooMuchAtOnceError
from mixdown.query.events import figures
from mixdown.query.events.buckets import Span
from mixdown.query.events.reader import EventReads
from mixdown.query.reports import segmentation
from mixdown.store import patience
from mixdown.store.events import FIRST_MS, LAST_MS
from tests.reads.support import SECRET, World, basic, group, shared_world, user
from tests.reads.test_events import EVENTS
from tests.reads.test_reports import good, refused

DAYS = "from_date=2026-01-14&to_date=2026-01-15"
SEGMENTATION = f"/api/query/segmentation?{DAYS}&event=a"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server with a few events, which no test changes."""
    made = shared_world(tmp_path_factory.mktemp("segmentation") / "data")
    made.send(user("u0", plan="gold"), user("u1", plan="iron"))
    made.send(group("company", "acme", size=3), endpoint="groups")
    made.fold_all()
    made.store_events(EVENTS)
    yield made
    made.close()


def of(world: World, query: str = "", path: str = "segmentation") -> Any:
    """The answer; what the query says counts instead of the two days, and of the event `a`."""
    asked = {
        "from_date": "2026-01-14",
        "to_date": "2026-01-15",
        "event": "a",
        **dict(parse_qsl(query, keep_blank_values=True)),
    }
    return good(world.get(f"/api/query/{path}", params=asked)).json()


def totals(answer: Any) -> dict[str, float]:
    """The sum over all keys under each name."""
    values = answer["data"]["values"]
    assert answer["legend_size"] == len(values)
    return {name: sum(found.values()) for name, found in values.items()}


@pytest.mark.parametrize("prefix", ["/api/query", "/api/2.0"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_an_event_is_counted_over_time(world: World, prefix: str, slash: str) -> None:
    reply = good(world.get(f"{prefix}/segmentation{slash}?{DAYS}&event=a"))
    assert reply.json() == {
        "data": {
            "series": ["2026-01-14", "2026-01-15"],
            "values": {"a": {"2026-01-14": 0, "2026-01-15": 3}},
        },
        "legend_size": 1,
    }


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {"a": 3}),
        ("type=unique", {"a": 2}),
        ("type=average", {"a": 1.5}),
        ("event=b&type=unique", {"b": 2}),
        ("event=nothing", {"nothing": 0}),
        ('event=["b"]', {"b": 2}),
        ("on=", {"a": 3}),
        ("on=plan", {"free": 1, "pro": 1, "undefined": 1}),
        ('on=properties["plan"]', {"free": 1, "pro": 1, "undefined": 1}),
        ('on=event["plan"]&limit=1', {"free": 1}),
        ('on=properties["n"]', {"1": 1, "2": 2}),
        ('on=number(properties["n"])', {"1": 1, "2": 2}),
        ('on=string(properties["n"])', {"1": 1, "2": 2}),
        ('on=properties["n"] > 1', {"false": 1, "true": 1, "undefined": 1}),
        ('on=boolean(properties["plan"])', {"true": 2, "false": 1}),
        ('on=properties["tags"]', {"undefined": 2, "x": 1, "y": 1}),
        ('on=properties["company"]', {"acme": 2, "beta": 1, "undefined": 1}),
        ('on=user["plan"]', {"gold": 2, "iron": 1}),
        ('on=user["plan"]&type=unique', {"gold": 1, "iron": 1}),
        ("on=$event_name", {"a": 3}),
        ("on=distinct_id", {"u0": 2, "u1": 1}),
        ("on=undefined", {"undefined": 3}),
        ('where=properties["plan"] == "pro"', {"a": 1}),
        ('where=user["plan"] == "gold"&on=plan', {"pro": 1, "undefined": 1}),
        ("type=unique&data_group_id=company", {"a": 2}),
        ("type=average&data_group_id=company", {"a": 1.5}),
        ("data_group_id=company", {"a": 3}),
        ("unit=hour", {"a": 3}),
        ("unit=week", {"a": 3}),
        ("interval=2", {"a": 3}),
    ],
)
def test_an_event_is_counted_as_asked(world: World, query: str, found: dict[str, float]) -> None:
    answer = of(world, query.replace("==", "%3D%3D"))
    assert totals(answer) == found
    if "type=average" not in query:  # the most frequent first, the same in the order of code points
        names = list(answer["data"]["values"])
        assert names == sorted(names, key=lambda name: (-found[name], name))


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("unit=month", ["2026-01-01"]),
        ("unit=week", ["2026-01-12"]),
        ("interval=2", ["2026-01-14"]),
        ("unit=hour&interval=24", ["2026-01-14 00:00:00", "2026-01-15 00:00:00"]),
        ("from_date=&to_date=&interval=2", ["2026-01-14", "2026-01-15"]),
        ("from_date=&to_date=&interval=2&unit=month", ["2025-12-01", "2026-01-01"]),
        ("from_date=&to_date=2026-01-10&interval=1", ["2026-01-10"]),
        ("from_date=2026-01-10&to_date=&interval=3", ["2026-01-10", "2026-01-13"]),
        ("from_date=2026-01-20&to_date=&interval=3", ["2026-01-20"]),
        ("from_date=1969-12-31&to_date=1969-12-31", []),
        ("from_date=1969-12-31&to_date=1970-01-01", ["1970-01-01"]),
        ("from_date=2200-01-01&to_date=9999-12-31", ["2200-01-01"]),
        ("from_date=9999-12-31&to_date=9999-12-31", []),
    ],
)
def test_time_is_cut_as_asked(world: World, query: str, keys: list[str]) -> None:
    answer = of(world, query)
    assert answer["data"]["series"] == keys
    assert list(answer["data"]["values"]["a"]) == keys


def test_a_number_is_put_into_ranges(world: World) -> None:
    answer = of(world, "on=n", "segmentation/numeric")
    assert totals(answer) == {"1 - 1.1": 1, "2 - 2.1": 1}
    cast = of(world, 'on=number(properties["n"]) * 1000&type=unique', "segmentation/numeric")
    assert totals(cast) == {"1,000 - 1,100": 1, "2,000 - 2,100": 2}
    assert totals(of(world, "on=plan", "segmentation/numeric")) == {}
    assert list(totals(of(world, "on=5", "segmentation/numeric"))) == ["5 - 6"]


def test_a_number_is_summed_and_averaged(world: World) -> None:
    answer = of(world, "on=n", "segmentation/sum")
    assert answer == {
        "status": "ok",
        "computed_at": "2026-01-15T12:00:00.000000+00:00",
        "results": {"2026-01-14": 0, "2026-01-15": 3},
    }
    assert of(world, 'on=number(properties["n"])', "segmentation/sum")["results"]["2026-01-15"] == 5
    assert of(world, "on=n&unit=month", "segmentation/average")["results"] == {"2026-01-01": 1}
    for path in ("segmentation/sum", "segmentation/average"):  # figures of events, whoever is counted
        asked = 'on=n&where=defined(properties["company"])'
        groups = of(world, f"{asked}&type=unique&data_group_id=company", path)
        assert groups["results"] == of(world, asked, path)["results"] != {}
    halves = of(world, 'on=n&where=properties["n"] != "2"', "segmentation/average")
    assert halves["results"] == {"2026-01-14": 0, "2026-01-15": 1.5}


def test_a_segmentation_is_a_table_of_text_where_that_is_asked_for(world: World) -> None:
    reply = good(world.get(f"{SEGMENTATION}&on=plan&format=csv"))
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.text == "date,free,pro,undefined\n2026-01-14,0,0,0\n2026-01-15,1,1,1\n"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("segmentation?event=a", "from_date, missing"),
        (f"segmentation?{DAYS}", "event, missing"),
        (f"segmentation?{DAYS}&event=", "event, missing"),
        (f"segmentation?{DAYS}&event=[%22a%22,%22b%22]", "event, must be a list of at most 1"),
        (f"segmentation?{DAYS}&event=a&unit=year", "unit, must be one of"),
        (f"segmentation?{DAYS}&event=a&type=sum", "type, must be one of"),
        (f"segmentation?{DAYS}&event=a&limit=0", "limit, must be an integer"),
        (f"segmentation?{DAYS}&event=a&format=xml", "format, must be one of"),
        (f"segmentation?{DAYS}&event=a&where=properties", "expected `[`"),
        (f"segmentation?{DAYS}&event=a&on=properties[", "position"),
        (f"segmentation?{DAYS}&event=a&on=no%20such", "position"),
        (f"segmentation?{DAYS}&event=a&type=unique&data_group_id=Nobody", "data_group_id, no group key"),
        ("segmentation?from_date=2026-01-01&to_date=2027-01-01&event=a&unit=minute", "more than 50000 units"),
        (f"segmentation/numeric?{DAYS}&event=a", "on, missing"),
        (f"segmentation/sum?{DAYS}&event=a", "on, missing"),
        (f"segmentation/average?{DAYS}&event=a&on=%20", "on, missing"),
    ],
)
def test_what_is_wrong_is_refused(world: World, query: str, text: str) -> None:
    assert text in refused(world.get(f"/api/query/{query}"))


def test_an_answer_is_bounded_in_figures_and_in_text(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "CELLS_LIMIT", 5)
    good(world.get(f"{SEGMENTATION}&on=plan&limit=2"))
    assert "more than" in refused(world.get(f"{SEGMENTATION}&on=plan"))
    monkeypatch.setattr(figures, "LABELS_LIMIT_CHARS", 5)
    assert refused(world.get(f"{SEGMENTATION}&on=company&limit=2")).startswith("limit, these values have")


def test_a_report_that_takes_too_long_or_too_much_memory_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: StoreError = ReadTimeoutError.after(0)

    def ended(*_: Any, **__: Any) -> Any:
        raise raised

    monkeypatch.setattr(segmentation, "report_rows", ended)
    told = refused(world.get(SEGMENTATION))
    assert told.startswith("this report took longer than 60 s: ask for fewer days")
    raised = TooMuchAtOnceError("more than fits")
    assert "takes more memory than it may" in refused(world.get(SEGMENTATION))


OF_EVENTS = (
    "events?event=a&interval=2",
    "events/properties?event=a&name=plan&interval=2",
    "events/names",
    "events/top",
    "events/properties/top",
    "events/properties/values?name=plan",
)


@pytest.mark.parametrize("target", OF_EVENTS)
def test_figures_of_events_that_take_too_long_are_refused_as_reports_are(
    world: World, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    def opened(*_: Any, **__: Any) -> Any:
        raise ReadTimeoutError.after(0)

    monkeypatch.setattr(EventReads, "open", opened)
    told = refused(world.get(f"/api/query/{target}"))
    assert told.startswith("this report took longer than 60 s: ask for fewer days")


@pytest.mark.parametrize("target", OF_EVENTS)
def test_figures_of_events_end_when_nobody_waits_for_them(
    world: World, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    begun = threading.Event()
    left_s: list[float] = []

    def opened(*_: Any, **__: Any) -> Any:
        begun.set()
        try:
            endless_in_python(world)
        finally:
            left_s.append(patience.remaining_s() or 0)

    async def receive() -> dict[str, str]:
        await asyncio.to_thread(begun.wait, 60)
        return {"type": "http.disconnect"}

    async def unheard(message: Any) -> None:
        del message

    monkeypatch.setattr(EventReads, "open", opened)
    path, _, query = f"/api/query/{target}".partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"mixdown.test"), (b"authorization", basic(f"{SECRET}:").encode())],
        "client": ("192.0.2.7", 4711),
        "server": ("mixdown.test", 80),
    }
    world.loop.run_until_complete(world.app(scope, receive, unheard))
    assert len(left_s) == 1
    assert left_s[0] > 0, "it ended before its time was over"


class Leaving:
    """A request whose client closes the connection as soon as its body was read."""

    def __init__(self) -> None:
        self.left_s = 0.0

    async def receive(self) -> dict[str, str]:
        if not self.left_s:
            self.left_s = time.monotonic()
            return {"type": "http.request"}
        await asyncio.sleep(0.05)
        self.left_s = time.monotonic()
        return {"type": "http.disconnect"}


def endless(world: World) -> None:
    with world.services.event_reads.open(world.project.id, Span(FIRST_MS, LAST_MS)) as table:
        table.run("SELECT sum(hash(range)) FROM range(1000000000000)")


def endless_in_python(_: World) -> None:
    while True:
        patience.check()


@pytest.mark.parametrize("read", [endless, endless_in_python])
def test_a_report_ends_when_nobody_waits_for_it(world: World, read: Callable[[World], Any]) -> None:
    request = Leaving()

    async def ask() -> None:
        await in_report_thread(cast("Request", request), world.services, lambda: read(world))

    with pytest.raises(QueryError):
        world.loop.run_until_complete(ask())
    assert time.monotonic() - request.left_s < 60


@pytest.mark.slow
def test_a_statement_ends_at_the_time_limit(world: World) -> None:
    with pytest.raises(ReadTimeoutError), patience.until(time.monotonic() + 0.5, 0.5):
        endless(world)
