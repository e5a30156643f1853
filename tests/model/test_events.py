"""Events are judged as contract ingestion §7 and §8 say: held to a second reading of it, both ways in.

Every event goes the long way and, as text, the quick way; both must give what the reference gives.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mixdown.http.jsontext import parse_json
from mixdown.model.events import DAY_MS, EventReading, Judged, LinkAsked, Target, device_id, read_event
from mixdown.model.limits import Limits
from mixdown.model.quick_events import judge_quickly, read_events_quickly, read_lines_quickly
from mixdown.model.updates import Refusal
from tests.model.event_reference import Refused, Setting, Stored, judge

NOW_MS = 1_768_478_400_000
ADDRESS = "203.0.113.9"


def reading(how: Setting, *, hostile: bool = False) -> EventReading:
    """The product's words for a setting."""
    target = Target(7, how.mode, late=how.late, salt=b"salt")
    return EventReading(
        now_ms=how.now_ms,
        fresh="fresh",
        find=lambda token: target if token == "TOK" else None,
        target=target if how.importing else None,
        strict=how.strict,
        hostile=hostile,
        address=ADDRESS,
        limits=Limits(string_limit_bytes=how.string_limit),
    )


def told(judged: Judged | Refusal, index: int = 0) -> Any:
    """What became of an event, in the form of `expected`."""
    if isinstance(judged, Refusal):
        return ("refused", judged.field)
    if judged.event is None:
        return "ignored"
    event = judged.event
    insert_id = None if event.insert_id == f"fresh-{index}" else event.insert_id
    link = judged.link and (judged.link.verb, judged.link.one, judged.link.other)
    return (event.event, event.time, event.distinct_id, insert_id, exact(event.properties), link)


def expected(judged: Stored | Refused) -> Any:
    """What the reference says of it."""
    if isinstance(judged, Refused):
        return ("refused", judged.field)
    if judged.ignored:
        return "ignored"
    owner = FROM_ADDRESS if judged.distinct_id is None else judged.distinct_id
    return (judged.event, judged.time, owner, judged.insert_id, exact(judged.properties), judged.link)


def exact(properties: Any) -> str:
    """Properties in a form in which 1, 1.0 and true differ."""
    return json.dumps(properties, sort_keys=True)


def made_of_address() -> str:
    judged = read_event({"event": "E", "properties": {"token": "TOK"}}, 0, reading(Setting(NOW_MS)))
    assert isinstance(judged, Judged)
    assert judged.event is not None
    return judged.event.distinct_id


FROM_ADDRESS = made_of_address()


def quickly(raws: list[Any], how: Setting) -> list[Any] | None:
    """What the quick way makes of events, None where it leaves one to the long way; None if it takes none."""
    text = json.dumps(raws, ensure_ascii=False).encode("utf-8", "surrogatepass")
    quick = read_events_quickly(text, Limits(string_limit_bytes=how.string_limit))
    if quick is None:
        return None
    judged = judge_quickly(quick, reading(how))
    assert len(judged.events) == len(raws)
    found: list[Any] = []
    for index, pair in enumerate(judged.events):
        if pair is None:
            found.append(None)
            continue
        project, event = pair
        device, user = event.properties.get("$device_id"), event.properties.get("$user_id")
        link = None
        if type(device) is str and type(user) is str and (project, device, user) in judged.links:
            assert judged.links[project, device, user] <= index
            link = LinkAsked("simplified", "device", device_id(device), user)
        found.append(told(Judged(project, event, link), index))
    return found


# --- what is sent

MODES = st.sampled_from(["simplified", "original", "legacy"])
settings_of = st.builds(
    Setting,
    now_ms=st.just(NOW_MS),
    importing=st.booleans(),
    strict=st.booleans(),
    mode=MODES,
    late=st.booleans(),
    string_limit=st.sampled_from([255, 255, 12, 0]),
)
moments = st.one_of(
    st.integers(NOW_MS - 6 * DAY_MS, NOW_MS + 2 * 3_600_000),
    st.integers(0, 4_102_444_800_000),
    st.sampled_from([0, 365 * DAY_MS, 365 * DAY_MS - 1, NOW_MS, NOW_MS + 3_600_000, NOW_MS - 5 * DAY_MS]),
)


@st.composite
def times(draw: st.DrawFn) -> Any:
    """A time from 1970 to 2100 in one of the forms in which clients send it, or something else."""
    ms = draw(moments)
    form = draw(st.integers(0, 8))
    if form < 3:
        return ms // 1000
    if form < 8:
        return [ms, ms / 1000, str(ms), str(ms / 1000), f" {ms // 1000} "][form - 3]
    junk: list[Any] = [
        None,
        "",
        "2026-01-15T12:00:00",
        True,
        [],
        {},
        "x",
        -5,
        -5.5,
        1e300,
        10**30,
        "1e999",
        "\u0661\u0662",
        0.5,
    ]
    return draw(st.sampled_from(junk))


texts = st.text(
    st.characters(exclude_categories=[]) | st.sampled_from('aé"\\\0/\n\ud800\u2028漢😀'), max_size=20
)
ids: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(["u1", "", "$device:D", "undefined", " Null ", "undefined  ", "anonymous", "0"]),
    st.sampled_from(
        ["00000000-0000-0000-0000-000000000000", "a" * 10_000, 3473, 1.0, 1.5, True, None, [], {}]
    ),
    texts,
)
insert_ids: st.SearchStrategy[Any] = st.one_of(
    st.from_regex(r"[A-Za-z0-9-]{1,37}", fullmatch=True),
    st.sampled_from(
        ["", "a_b", "é", "---", "null", "NIL", "a" * 36, "a" * 37, 77, 1.5, None, True, [], "\u0661"]
    ),
)
scalars = st.one_of(
    texts,
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.sampled_from(["x" * 300, "é" * 200, "x" * 255, 2**63, 2**63 - 1, -(2**63), 10**400]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
) | st.sampled_from(
    [
        [1] * 254,
        [1] * 255,
        {str(n): n for n in range(255)},
        {"a": {"b": {"c": {"d": 1}}}},
        [[[[{"a": 1}]]]],
        ["x" * 100] * 90,
        [0.1] * 2000,
        [1e15] * 600,
        ['"' * 200] * 30,
    ]
)
names = st.one_of(
    st.sampled_from(
        ["plan", "$browser", "__proto__", "n" * 255, "n" * 256, "constructor", "$import", "$city"]
    ),
    texts,
)
events_named = st.one_of(
    st.sampled_from(
        ["E", "Page view", "", " ", "\t", "$identify", "$create_alias", "$merge", "e" * 256, "$x", None]
    ),
    texts,
)


@st.composite
def raw_events(draw: st.DrawFn) -> Any:
    """An event as somebody may send it: mostly good."""
    if draw(st.integers(0, 40)) == 0:
        return draw(st.sampled_from([None, 5, "x", [], {}, {"event": "E"}, {"event": "E", "properties": []}]))
    properties: dict[str, Any] = draw(st.dictionaries(names, values, max_size=5))
    may: dict[str, Any] = {
        "token": st.sampled_from(["TOK", "TOK", "TOK", "TOK", "NOPE", "", None]),
        "time": times(),
        "distinct_id": ids,
        "$insert_id": insert_ids,
    }
    more: dict[str, Any] = {
        "$device_id": ids,
        "$user_id": ids,
        "ip": st.sampled_from(["81.2.69.160", 0, None]),
        "$ignore": st.sampled_from(["", "x", False, True, 0]),
        "alias": ids,
        "$anon_id": ids,
        "$identified_id": ids,
        "$anon_distinct_id": ids,
        "$distinct_ids": st.sampled_from([["a", "b"], ["a"], ["a", 1], "x", None]),
    }
    for name, strategy in may.items():
        if draw(st.integers(0, 9)) > 0:
            properties[name] = draw(strategy)
    for name, strategy in more.items():
        if draw(st.integers(0, 6)) == 0:
            properties[name] = draw(strategy)
    if draw(st.integers(0, 30)) == 0:
        count = draw(st.sampled_from([254, 255, 256]))
        properties |= {f"p{number}": number for number in range(count)}
    record: dict[str, Any] = {"event": draw(events_named), "properties": properties}
    if draw(st.integers(0, 5)) == 0:
        record |= {"time": "beside", "$mp_metadata": {}, "insert_id": 5}
    return record


# --- the tests


def long_way(raw: Any, how: Setting) -> Any:
    """What the long way makes of an event that comes as text."""
    parsed = parse_json(json.dumps([raw]).encode())
    return told(read_event(parsed.value[0], 0, reading(how, hostile=parsed.hostile)))


@given(raw_events(), settings_of)
@example({"event": "E", "properties": {"token": "TOK", "time": 1768478400.0005}}, Setting(NOW_MS))
@example({"event": "E", "properties": {"token": "TOK", "time": -1e308}}, Setting(NOW_MS))
@example({"event": "E", "properties": {"token": "TOK", "time": "-1e308"}}, Setting(NOW_MS, importing=True))
def test_the_long_way_gives_what_the_reference_gives(raw: Any, how: Setting) -> None:
    again = json.loads(json.dumps(raw))
    assert long_way(raw, how) == expected(judge(again, how))


@given(st.lists(raw_events(), min_size=1, max_size=4), settings_of)
@example([{"event": "E", "properties": {"token": "TOK", "time": -1e308}}], Setting(NOW_MS))
@example(
    [
        {
            "event": "E",
            "properties": {"token": "TOK", "distinct_id": "u", "$device_id": "$device:", "$user_id": "U"},
        }
    ],
    Setting(NOW_MS),
)
def test_the_quick_way_takes_nothing_else_than_the_long_way_gives(raws: list[Any], how: Setting) -> None:
    try:
        json.dumps(raws, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return  # no JSON text holds a lone surrogate but as an escape
    quick = quickly(raws, how)
    for raw, found in zip(raws, quick or [], strict=quick is not None):
        if found is not None:
            assert found == long_way(raw, how)


def plain(**more: Any) -> dict[str, Any]:
    properties = {
        "token": "TOK",
        "time": NOW_MS // 1000 - 60,
        "distinct_id": "u1",
        "$insert_id": "i-1",
        "a": 1,
    }
    return {"event": "E", "properties": {**properties, **more}}


@pytest.mark.parametrize(
    "raw",
    [
        plain(),
        plain(time=NOW_MS - 5),
        plain(time=NOW_MS / 1000 - 1),
        plain(**{"$device_id": "D", "$user_id": "u1"}),
        plain(**{"$device_id": "D"}),
        plain(ip="81.2.69.160", l=[1, "x"], o={"a": {"b": None}}, f=1.5, t=True, n=None, é="é"),
        plain(**{f"p{number}": "x" * 255 for number in range(200)}),
        plain(url='https://a.example/?q=\\"x\\"&y=1'),
    ],
)
@pytest.mark.parametrize("importing", [True, False])
@pytest.mark.parametrize("strict", [True, False])
def test_plain_events_go_the_quick_way(raw: Any, importing: bool, strict: bool) -> None:
    how = Setting(NOW_MS, importing=importing, strict=strict)
    quick = quickly([raw, raw], how)
    assert quick is not None
    assert quick[0] == long_way(raw, how)
    assert None not in quick


def test_one_event_that_is_not_plain_leaves_its_neighbours_on_the_quick_way() -> None:
    how = Setting(NOW_MS, importing=True, strict=True)
    quick = quickly([plain(), plain(text="x" * 256), plain(time="now"), plain()], how)
    assert quick is not None
    assert [each is None for each in quick] == [False, True, True, False]


def test_lines_go_the_quick_way_each_for_itself() -> None:
    lines = [json.dumps(plain()).encode(), b'{"event":"a"},{"event":"b"}', b"x", json.dumps(plain()).encode()]
    quick = read_lines_quickly(lines, Limits())
    assert quick is not None
    assert [each is None for each in quick.events] == [False, True, True, False]
    assert read_lines_quickly([b"x"], Limits()) is None


def test_an_address_makes_an_id_that_differs_between_projects() -> None:
    how = Setting(NOW_MS)
    raw = {"event": "E", "properties": {"token": "TOK"}}
    other = EventReading(
        now_ms=NOW_MS,
        fresh="f",
        find=lambda _: Target(8, salt=b"other"),
        address=ADDRESS,
    )
    first, second = read_event(raw, 0, reading(how)), read_event(raw, 0, other)
    assert isinstance(first, Judged)
    assert isinstance(second, Judged)
    assert first.event is not None
    assert second.event is not None
    assert len(first.event.distinct_id) == 32
    assert first.event.distinct_id != second.event.distinct_id
    assert ADDRESS not in first.event.distinct_id
