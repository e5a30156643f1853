"""Events over HTTP: the raw export, figures and names in Mixpanel's shapes, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from mixdown.model.errors import StoreError
from mixdown.query.events import figures
from mixdown.query.events.buckets import Span
from tests.engine import plain_store
from tests.reads.support import (
    DAY_MS,
    IMPORTER,
    NOON_MS,
    OTHER_SECRET,
    OWNER,
    SECRET,
    STRANGER,
    TOKEN,
    World,
    basic,
    user,
)
from tests.reads.test_reports import good, refused

DAYS = "from_date=2026-01-01&to_date=2026-01-15"
PREFIXES = ("/api/query", "/api/2.0")


def event(position: int, name: str = "a", **members: Any) -> dict[str, Any]:
    """An event as the reader of events hands it over; an hour before noon of 15 January 2026, and older."""
    properties = members.pop("properties", {})
    return {
        "position": position,
        "arrived": NOON_MS + position,
        "event": name,
        "time": NOON_MS - (position + 1) * 3_600_000,
        "distinct_id": f"u{position % 2}",
        "insert_id": f"i{position}",
        **members,
        "properties": properties,
    }


EVENTS = [
    event(0, properties={"plan": "pro", "n": 1, "company": "acme"}),
    event(1, properties={"plan": "free", "n": 2.0, "company": ["acme", "beta"]}),
    event(2, properties={"plan": None, "tags": ["x", "y", "x"], "n": "2"}),
    event(30, "b", properties={"plan": "pro"}),
    event(31, "b", time=NOON_MS - 31 * 3_600_000 - 123),
    event(32, "Ünïcode", properties={"city": "Ålesund", "odd": "a\u2028b😀", "__proto__": {"a": [1, None]}}),
]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A server with a few events, which no test changes."""
    made = World(plain_store())
    made.send(user("u0", plan="gold"), user("u1", plan="iron"), user("u3"))
    made.fold_all()
    made.store_events(EVENTS)
    made.store_events([event(0, "theirs", properties={"secret": 1})], project=made.other.id)
    yield made
    made.close()


def exported(world: World, query: str = "", **options: Any) -> list[Any]:
    reply = good(world.get(f"/api/2.0/export?{DAYS}&{query}", **options))
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.content.isascii()
    assert reply.content.endswith(b"\n") == bool(reply.content)
    assert b"\n\n" not in reply.content
    return [json.loads(line) for line in reply.content.splitlines()]


# --- the raw export


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("slash", ["", "/"])
def test_an_export_has_a_line_for_each_event_in_the_order_of_time(
    world: World, prefix: str, slash: str
) -> None:
    reply = good(world.get(f"{prefix}/export{slash}?{DAYS}"))
    lines = [json.loads(line) for line in reply.content.splitlines()]
    times = [line["properties"]["time"] for line in lines]
    assert times == sorted(times)
    assert all(type(time) is int for time in times)
    assert [line["event"] for line in lines] == ["Ünïcode", "b", "b", "a", "a", "a"]
    assert lines[-1] == {
        "event": "a",
        "properties": {
            "time": NOON_MS // 1000 - 3600,
            "distinct_id": "u0",
            "$insert_id": "i0",
            "mp_processing_time_ms": NOON_MS,
            "$mp_api_endpoint": "api.mixpanel.com",
            "$mp_api_timestamp_ms": NOON_MS,
            "plan": "pro",
            "n": 1,
            "company": "acme",
        },
    }


def test_values_keep_their_types_and_texts_their_characters(world: World) -> None:
    line = exported(world)[0]
    assert line["properties"]["city"] == "Ålesund"
    assert line["properties"]["odd"] == "a\u2028b😀"
    assert line["properties"]["__proto__"] == {"a": [1, None]}
    reply = world.get(f"/api/2.0/export?{DAYS}&event=a&limit=2")
    assert b'"n":2.0' in reply.content


@pytest.mark.parametrize(
    ("query", "positions"),
    [
        ("event=a", [2, 1, 0]),
        ("event=%5B%22b%22,%22a%22%5D", [31, 30, 2, 1, 0]),
        ("event=%5B%5D", [32, 31, 30, 2, 1, 0]),
        ("event=", [32, 31, 30, 2, 1, 0]),
        ("event=nothing", []),
        ("limit=2", [32, 31]),
        ('where=properties["plan"]=="pro"', [30, 0]),
        ('where=properties["plan"]=="pro"&limit=1', [30]),
        ('where=event["$event_name"]=="b" and properties["plan"]!="pro"', [31]),
        ('where=(defined (properties["tags"])) and "x" in properties["tags"]', [2]),
        ('where=user["plan"]=="gold"', [32, 30, 2, 0]),
        ('where=user["plan"]=="iron" and properties["n"]==2', [1]),
        ('where=user["$distinct_id"]=="u1"', [31, 1]),
        ('where=properties["distinct_id"]=="u1"', [31, 1]),
        ('where=properties["$insert_id"]=="i30"', [30]),
        (f'where=properties["mp_processing_time_ms"] > {NOON_MS + 30}', [32, 31]),
        (f'where=properties["$time"]>=datetime({NOON_MS // 1000 - 2 * 3600})', [1, 0]),
        (f'where=properties["time"] < {NOON_MS // 1000 - 32 * 3600}', [32]),
        ('where=behaviors["x"] == undefined and properties["n"]==1', [0]),
        ("where=   ", [32, 31, 30, 2, 1, 0]),
    ],
)
def test_an_export_has_the_events_that_are_asked_for(world: World, query: str, positions: list[int]) -> None:
    asked = query.replace(" ", "%20").replace('"', "%22").replace("==", "%3D%3D")
    found = exported(world, asked)
    assert [line["properties"]["mp_processing_time_ms"] - NOON_MS for line in found] == positions


def test_times_come_in_milliseconds_where_they_are_asked_for(world: World) -> None:
    times = [line["properties"]["time"] for line in exported(world, "time_in_ms=true&event=b")]
    assert times == [NOON_MS - 31 * 3_600_000 - 123, NOON_MS - 31 * 3_600_000]


def test_an_export_without_events_has_no_bytes(world: World) -> None:
    reply = good(world.get("/api/2.0/export?from_date=2025-01-01&to_date=2025-01-02"))
    assert reply.content == b""
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"


def test_a_long_export_is_compressed_for_those_who_take_it(world: World) -> None:
    plain = good(world.get(f"/api/2.0/export?{DAYS}", headers={"Accept-Encoding": "identity"}))
    assert "content-encoding" not in plain.headers
    assert len(plain.content) > 1400
    for accepted in ("gzip", "deflate, GZIP;q=0.5", "x-gzip"):
        packed = good(world.get(f"/api/2.0/export?{DAYS}", headers={"Accept-Encoding": accepted}))
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.content == plain.content, "the client has unpacked it"
    for query, accepted in ((f"{DAYS}&limit=2", "gzip"), (DAYS, "gzip;q=0"), (DAYS, "br")):
        reply = good(world.get(f"/api/2.0/export?{query}", headers={"Accept-Encoding": accepted}))
        assert "content-encoding" not in reply.headers


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "from_date, missing"),
        ("from_date=2026-01-01", "to_date, missing"),
        ("to_date=2026-01-01", "from_date, missing"),
        ("from_date=&to_date=2026-01-01", "from_date, missing"),
        ("from_date=yesterday&to_date=2026-01-01", "from_date, must be a day as YYYY-MM-DD"),
        ("from_date=2026-01-01&to_date=2026-02-30", "to_date, must be a day as YYYY-MM-DD"),
        ("from_date=2026-01-01&to_date=0000-01-01", "to_date, must be a day as YYYY-MM-DD"),
        ("from_date=2026-01-01T00:00:00&to_date=2026-01-01", "from_date, must be a day"),
        ("from_date=2026-01-03&to_date=2026-01-02", "from_date, 2026-01-03 is later than to_date"),
        (f"{DAYS}&limit=0", "limit, must be an integer from 1 to 100000"),
        (f"{DAYS}&limit=100001", "limit, must be an integer from 1 to 100000"),
        (f"{DAYS}&limit=ten", "limit, must be an integer from 1 to 100000"),
        (f"{DAYS}&time_in_ms=maybe", "time_in_ms, must be true or false"),
        (f"{DAYS}&where=properties%5B%22a%22%5D+%3D+1", "position 16"),
        (f"{DAYS}&where=group%5B%22a%22%5D+%3D%3D+1", "position 0"),
        (f"{DAYS}&event=%5B%7B%7D%5D", "event, must be a list of texts"),
    ],
)
def test_an_export_is_refused_with_what_is_wrong(world: World, query: str, text: str) -> None:
    assert text in refused(world.get(f"/api/2.0/export?{query}"))


def test_days_may_be_written_without_zeros_and_lie_before_all_time(world: World) -> None:
    good(world.get("/api/2.0/export?from_date=2016-9-3&to_date=2016-9-23"))
    reply = good(world.get("/api/2.0/export?from_date=0001-01-01&to_date=2026-01-15"))
    assert len(reply.content.splitlines()) == len(EVENTS)


@pytest.mark.parametrize(("hours", "ahead", "status"), [(0, 0, 200), (10, 1, 200), (9, 1, 400), (10, 2, 400)])
def test_a_day_that_is_today_somewhere_is_not_in_the_future(
    plain_world: World, hours: int, ahead: int, status: int
) -> None:
    """The day ends first in UTC+14: there it is tomorrow from 10:00 UTC on."""
    midnight_ms = NOON_MS - DAY_MS // 2
    plain_world.now_ms = midnight_ms + hours * 3_600_000
    day = datetime.fromtimestamp((midnight_ms + ahead * DAY_MS) / 1000, UTC).date()
    reply = plain_world.get(f"/api/2.0/export?from_date=2026-01-01&to_date={day}")
    assert reply.status_code == status
    if status == 400:
        assert refused(reply) == "to_date cannot be later than today"


# --- figures and names

VALUES = json.dumps([f"v{number}" for number in range(21)])
MANY_VALUES = json.dumps([*(f"v{number}" for number in range(300)), "pro"])
COUNTS: list[tuple[str, Any]] = [
    (
        'events?event=["a","b","none"]&type=general&unit=day&from_date=2026-01-14&to_date=2026-01-15',
        {
            "data": {
                "series": ["2026-01-14", "2026-01-15"],
                "values": {
                    "a": {"2026-01-14": 0, "2026-01-15": 3},
                    "b": {"2026-01-14": 2, "2026-01-15": 0},
                    "none": {"2026-01-14": 0, "2026-01-15": 0},
                },
            },
            "legend_size": 3,
        },
    ),
    (
        'events?event=["a"]&type=unique&unit=month&interval=2',
        {
            "data": {
                "series": ["2025-12-01", "2026-01-01"],
                "values": {"a": {"2025-12-01": 0, "2026-01-01": 2}},
            },
            "legend_size": 1,
        },
    ),
    (
        "events?event=a&type=average&unit=week&from_date=2026-01-14",
        {"data": {"series": ["2026-01-12"], "values": {"a": {"2026-01-12": 1.5}}}, "legend_size": 1},
    ),
    (
        "events?event=a&unit=hour&interval=2",
        {
            "data": {
                "series": ["2026-01-15 11:00:00", "2026-01-15 12:00:00"],
                "values": {"a": {"2026-01-15 11:00:00": 1, "2026-01-15 12:00:00": 0}},
            },
            "legend_size": 1,
        },
    ),
    (
        "events?event=b&unit=minute&interval=1&to_date=2026-01-15",
        {
            "data": {"series": ["2026-01-15 23:59:00"], "values": {"b": {"2026-01-15 23:59:00": 0}}},
            "legend_size": 1,
        },
    ),
    (
        "events/properties?event=a&name=plan&unit=month&interval=1",
        {
            "data": {
                "series": ["2026-01-01"],
                "values": {
                    "free": {"2026-01-01": 1},
                    "pro": {"2026-01-01": 1},
                    "undefined": {"2026-01-01": 1},
                },
            },
            "legend_size": 3,
        },
    ),
    (
        'events/properties?event=a&name=n&unit=month&interval=1&values=["2","9"]&type=unique',
        {
            "data": {
                "series": ["2026-01-01"],
                "values": {"2": {"2026-01-01": 2}, "9": {"2026-01-01": 0}},
            },
            "legend_size": 2,
        },
    ),
    (
        f"events/properties?event=a&name=plan&unit=month&interval=1&values={MANY_VALUES}",
        {
            "data": {
                "series": ["2026-01-01"],
                "values": {value: {"2026-01-01": int(value == "pro")} for value in json.loads(MANY_VALUES)},
            },
            "legend_size": 301,
        },
    ),
    (
        "events/properties?event=a&name=tags&unit=month&interval=1&limit=2",
        {
            "data": {
                "series": ["2026-01-01"],
                "values": {"undefined": {"2026-01-01": 2}, "x": {"2026-01-01": 1}},
            },
            "legend_size": 2,
        },
    ),
    ("events/names", ["a", "b", "Ünïcode"]),
    ("events/names?type=general&limit=5000&from_date=2000-01-01&to_date=2026-01-15", ["a", "b", "Ünïcode"]),
    ("events/names?limit=1&to_date=2026-01-14", ["b"]),
    ("events/names?from_date=2026-01-16&to_date=2026-01-20", []),
    (
        "events/top?type=general",
        {"events": [{"event": "a", "amount": 3, "percent_change": 1.0}], "type": "general"},
    ),
    (
        "events/properties/top?event=a",
        {
            "n": {"count": 3},
            "plan": {"count": 3},
            "company": {"count": 2},
            "tags": {"count": 1},
            "$insert_id": {"count": 3},
            "mp_processing_time_ms": {"count": 3},
            "$mp_api_endpoint": {"count": 3},
            "$mp_api_timestamp_ms": {"count": 3},
        },
    ),
    ("events/properties/top?limit=1", {"plan": {"count": 4}}),
    ("events/properties/top?event=unheard", {}),
    ("events/properties/top?from_date=2025-01-01&to_date=2025-02-01", {}),
    ("events/properties/values?name=plan&limit=255", ["pro", "free"]),
    ("events/properties/values?name=plan&event=a&limit=1", ["free"]),
    ("events/properties/values?name=n", ["2", "1"]),
    ("events/properties/values?name=tags", ["x", "y"]),
    ("events/properties/values?name=distinct_id&event=b", ["u0", "u1"]),
    ("events/properties/values?name=unheard", []),
]


@pytest.mark.parametrize(("target", "answer"), COUNTS, ids=[target[:99] for target, _ in COUNTS])
def test_figures_and_names_have_mixpanels_shapes(world: World, target: str, answer: Any) -> None:
    reply = good(world.get(f"/api/query/{target}"))
    assert reply.json() == answer
    assert reply.headers["content-type"] == "application/json"


def test_paths_of_events_are_known_by_both_prefixes_with_and_without_a_slash(world: World) -> None:
    asked = 'event=a&name=plan&interval=1&unit=month&distinct_ids=["u0"]'
    for name in ("events", "events/names", "events/top", "events/properties", "stream/query"):
        paths = (f"{prefix}/{name}{slash}" for prefix in PREFIXES for slash in ("", "/"))
        assert len({good(world.get(f"{path}?{asked}")).text for path in paths}) == 1


def test_names_that_are_equally_frequent_come_in_order_and_keys_ascend(world: World) -> None:
    reply = world.get("/api/2.0/events/properties/top?event=a")
    assert list(reply.json())[:4] == ["n", "plan", "company", "tags"]
    reply = world.get("/api/2.0/events/properties?event=a&name=plan&unit=month&interval=1")
    assert list(reply.json()["data"]["values"]) == ["free", "pro", "undefined"]


def test_a_series_comes_as_csv_too(world: World) -> None:
    asked = 'events?event=["a","b"]&from_date=2026-01-14&to_date=2026-01-15&format=csv'
    reply = good(world.get(f"/api/2.0/{asked}"))
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    assert reply.text == "date,a,b\n2026-01-14,0,2\n2026-01-15,3,0\n"


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("events", "event, missing"),
        ("events?event=a", "from_date, missing"),
        ("events?event=a&to_date=2026-01-01", "from_date, missing"),
        ("events?event=a&interval=0", "interval, must be an integer"),
        ("events?event=a&interval=1&unit=second", "unit, must be one of minute, hour, day, week, month"),
        ("events?event=a&interval=1&type=median", "type, must be one of general, unique, average"),
        ("events?event=a&interval=1&format=xml", "format, must be one of json, csv"),
        ("events?event=a&unit=minute&from_date=2020-01-01&to_date=2026-01-01", "unit, this range of days"),
        ("events?event=a&unit=day&from_date=0001-01-01&to_date=9999-12-31", "unit, this range of days"),
        ("events/properties?event=a&interval=1", "name, missing"),
        ("events/properties?name=a&interval=1", "event, missing"),
        (f"events/properties?name=a&event=a&interval=50000&unit=minute&values={VALUES}", "more than 1000000"),
        ("events/properties/values", "name, missing"),
        ("events/properties/values?name=a&limit=0", "limit, must be an integer"),
        ("events/names?limit=0", "limit, must be an integer"),
        ("events/properties/top?to_date=12", "to_date, must be a day"),
        ("stream/query", "distinct_ids, missing"),
        ('stream/query?distinct_ids=["a"]&data_group_id=nope', "data_group_id, no group key"),
        ('stream/query?distinct_ids=["a"]&limit=15001', "limit, must be an integer from 1 to 15000"),
        ('stream/query?distinct_ids=["a"]&sentinel_event={"time":1}', "sentinel_event, must be"),
        ('stream/query?distinct_ids=["a"]&bookmark={"dateRange":{"type":"ever"}}', "bookmark, dateRange"),
        ('stream/query?distinct_ids=["a"]&bookmark=[]', "bookmark, must be an object"),
        ('stream/query?distinct_ids=["a"]&include_events=a&exclude_events=b', "include_events, give this or"),
        ('stream/query?distinct_ids=["a"]&search_properties=[1]', "search_properties, each must be"),
    ],
)
def test_a_read_of_events_is_refused_with_what_is_wrong(world: World, target: str, text: str) -> None:
    assert text in refused(world.get(f"/api/2.0/{target}"))


@pytest.mark.parametrize(
    "target",
    ["events/properties/values?name=plan", f"events/properties?event=a&name=plan&unit=day&{DAYS}"],
)
def test_values_that_are_too_long_together_are_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setattr(figures, "LABELS_LIMIT_CHARS", len("profree") - 1)
    assert "limit, these values have more than" in refused(world.get(f"/api/2.0/{target}"))
    monkeypatch.setattr(figures, "LABELS_LIMIT_CHARS", len("profreeundefined"))
    good(world.get(f"/api/2.0/{target}"))


def test_whatever_duckdb_objects_to_is_an_error_of_the_store(world: World) -> None:
    with (
        world.services.event_reads.open(world.project.id, Span(0, NOON_MS)) as table,
        pytest.raises(StoreError, match=r"events cannot be read: .*no column has this name"),
    ):
        table.run("SELECT error('no column has this name')")
    with (
        world.services.event_reads.open(world.project.id, Span(0, NOON_MS)) as table,
        pytest.raises(StoreError, match="Binder Error"),
    ):
        table.run("SELECT nothing FROM events")


# --- activity


def stream(world: World, **body: Any) -> Any:
    reply = good(world.post("/api/query/stream/bookmark", json={"mode": "raw", **body}))
    return reply.json()["results"]


def positions(events: list[Any]) -> list[int]:
    return [each["properties"]["mp_processing_time_ms"] - NOON_MS for each in events]


def test_a_stream_has_what_persons_did_in_the_order_of_time(world: World) -> None:
    reply = good(world.get(f'/api/2.0/stream/query?distinct_ids=["u1","nobody"]&{DAYS}')).json()
    assert reply["status"] == "ok"
    assert positions(reply["results"]["events"]) == [31, 1]
    properties = reply["results"]["events"][0]["properties"]
    assert properties["distinct_id"] == properties["$distinct_id"] == "u1"
    assert type(properties["time"]) is int


def test_a_bookmark_pages_back_in_time_by_its_sentinel(world: World) -> None:
    window = {"dateRange": {"type": "between", "from": "2026-01-01", "to": "2026-01-15"}, "entries": []}
    found, sentinel, pages = [], None, 0
    while pages < 10:
        page = stream(world, distinct_ids=["u0"], bookmark=window, limit=3, sentinel_event=sentinel)
        assert positions(page["events"]) == sorted(positions(page["events"]), reverse=True)
        found += positions(page["events"])[::-1]
        sentinel, pages = page["sentinel_event"], pages + 1
        if sentinel is None:
            break
    assert (found, pages) == ([0, 2, 30, 32], 2)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"bookmark": {"dateRange": {"type": "since", "from": "2026-01-15"}}}, [2, 0]),
        ({"bookmark": {"dateRange": {"type": "relative_after", "window": {"unit": "day", "value": 1}}}}, 4),
        ({"include_events": ["b"]}, [30]),
        ({"exclude_events": ["a", "b"]}, [32]),
        ({"search": "ÅLES"}, [32]),
        ({"search": "pro"}, [30, 0]),
        ({"search": "pro", "search_properties": [{"value": "city", "resourceType": "event"}]}, []),
        ({"from_date": "2026-01-14", "to_date": "2026-01-14"}, [32, 30]),
    ],
)
def test_a_stream_is_narrowed_by_days_names_and_texts(world: World, asked: Any, found: Any) -> None:
    page = stream(world, distinct_ids=["u0"], **asked)
    assert (len(page["events"]) if type(found) is int else positions(page["events"])) == found


def test_activity_of_a_person_comes_newest_first_a_page_at_a_time(world: World) -> None:
    first = good(world.get("/api/mixdown/activity?distinct_id=u0&limit=3")).json()
    assert positions(first["results"]) == [0, 2, 30]
    rest = good(world.get(f"/api/mixdown/activity?distinct_id=u0&limit=3&before={first['next']}")).json()
    assert (positions(rest["results"]), rest["next"]) == ([32], None)
    one = good(world.get("/api/mixdown/activity?distinct_id=u0&event=b&from_date=2026-01-14")).json()
    assert positions(one["results"]) == [30]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"search": "PRO"}, [0, 30]),
        ({"search": "ünï"}, [32]),
        ({"search": "pro", "property": "company"}, []),
        ({"search": "acm", "property": ["company", "plan"]}, [0]),
        ({"property": "plan"}, [0, 30]),
        ({"property": "__proto__"}, [32]),
        ({"property": ["tags", "city"]}, [2, 32]),
        ({"property": "plan", "limit": 1}, [0]),
    ],
)
def test_activity_is_narrowed_by_texts_and_by_properties(world: World, asked: Any, found: Any) -> None:
    page = good(world.get("/api/mixdown/activity", params={"distinct_id": "u0", **asked})).json()
    assert positions(page["results"]) == found
    assert (page["next"] is None) == ("limit" not in asked)


def test_an_event_belongs_to_each_group_that_it_names(plain_world: World) -> None:
    world = plain_world
    world.send(
        {"$token": TOKEN, "$group_key": "company", "$group_id": "acme", "$set": {"size": 3}},
        endpoint="groups",
    )
    world.fold_all()
    world.store_events(EVENTS)
    number = world.store.state.group_keys(world.project.id)["company"]
    for asked in ("group_key=company", f"data_group_id={number}"):
        for group, found in (("acme", [0, 1]), ("beta", [1]), ("nobody", [])):
            reply = good(world.get(f"/api/mixdown/activity?{asked}&group_id={group}")).json()
            assert positions(reply["results"]) == found
    page = stream(world, distinct_ids=["beta", "acme"], data_group_id=str(number))
    assert positions(page["events"]) == [1, 0]
    for asked in ("", "?group_key=company", "?group_id=acme"):
        assert "distinct_id, missing" in refused(world.get(f"/api/mixdown/activity{asked}"))
    assert "before, must be" in refused(world.get("/api/mixdown/activity?distinct_id=u0&before=x"))


# --- who may read

READS = (
    f"/api/2.0/export?{DAYS}",
    *(f"/api/query/{target}" for target, _ in (COUNTS[0], COUNTS[5], COUNTS[8], COUNTS[12], COUNTS[13])),
    "/api/query/events/properties/values?name=plan",
    '/api/query/stream/query?distinct_ids=["u0"]',
    "/api/mixdown/activity?distinct_id=u0",
)


@pytest.mark.parametrize("target", READS)
def test_a_projects_events_are_read_by_those_who_may(world: World, target: str) -> None:
    mark = "&" if "?" in target else "?"
    mine = f"{target}{mark}project_id={world.project.id}"
    good(world.get(target, user=None, headers={"Authorization": basic(SECRET)}))
    good(world.get(mine, user=OWNER))
    for credentials in ("", f"{TOKEN}:", f"{SECRET[:-1]}1"):
        headers = {"Authorization": basic(credentials)} if credentials else {}
        assert world.get(target, user=None, headers=headers).status_code == 401
    for name in (STRANGER, IMPORTER):
        assert world.get(mine, user=name).status_code == 403
    assert world.get(mine, user=None, headers={"Authorization": basic(OTHER_SECRET)}).status_code == 403


@pytest.mark.parametrize("target", [*READS, "/api/query/events/properties/values?name=secret"])
def test_a_project_never_sees_anothers_events(world: World, target: str) -> None:
    theirs = {"Authorization": basic(OTHER_SECRET)}
    mine = good(world.get(target)).text
    assert "theirs" not in mine
    assert '"secret"' not in mine
    reply = good(world.get(target, user=None, headers=theirs)).text
    for name in ('"pro"', '"free"', '"b":{"2026-01-14":2', "Ünïcode", '"plan":{', "i30", "acme"):
        assert name not in reply


def test_a_head_is_answered_without_reading(world: World) -> None:
    for target in READS:
        reply = world.run(world.ask(target, method="HEAD"))
        assert (reply.status_code, reply.content) == (200, b"")
