"""What the property tests feed both the product and the reference: records that collide.

Few ids, few names and few values, so that operators meet stored properties of the right and of the wrong
type often, and equal values in different clothes (1, 1.0, true, "1") meet each other. A part of every
draw is nasty: NUL, lone surrogates, integers past 64 bits, numbers past the doubles, long and deep values.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from tests.model.reference import OPERATORS, clean, overflows

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from tests.model.reference import Document, Json, Kind

#: The clock of the contract's test cases: 2026-01-15T12:00:00Z.
ARRIVAL = 1_768_478_400

IDS = ("u1", "u2")
GROUP_KEY = "Company"

GEO: Document = {
    "$city": "Berlin",
    "$region": "Land Berlin",
    "$country_code": "DE",
    "$timezone": "Europe/Berlin",
}

INFINITY = math.inf
LONE_SURROGATE = "\ud800"


def nest(levels: int, *, objects: bool = False) -> Json:
    """A value that is that many levels of lists or objects deep; 0 is a scalar."""
    value: Json = "deep"
    for _ in range(levels):
        value = {"k": value} if objects else [value]
    return value


# --- JSON text -----------------------------------------------------------------------------------


def json_text(value: Json) -> str:
    """The value as a client may write it: ASCII escapes for surrogates, 1e999 for what overflows."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{json_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(json_text(item) for item in value) + "]"
    if isinstance(value, float) and math.isinf(value):
        return "1e999" if value > 0 else "-1e999"
    return json.dumps(value)


# --- values --------------------------------------------------------------------------------------

_NUMBERS: list[Json] = [0, 1, 2, -1, 5, 0.5, 1.0, 2.0, -2.5, 1e3, 0.1]
_LARGE_NUMBERS: list[Json] = [
    2**53 + 1,
    2**63 - 1,
    -(2**63),
    2**63,
    -(2**63) - 1,
    10**30,
    10**400,
    1e308,
    -1e308,
    INFINITY,
    -INFINITY,
    -0.0,
    5e-324,
]
_NUMERIC_STRINGS: list[Json] = ["1", "5", "-2.5", "1e3", " 7 ", "+3", ".5", "9223372036854775808", "1e999"]
_NOT_NUMERIC_STRINGS: list[Json] = ["", "a", "b", "A", "0x10", "1_0", "inf", "nan", "1 2", "-", ".", "1e"]
_NASTY_STRINGS: list[Json] = [
    "\0",
    "a\0b",
    LONE_SURROGATE,
    "\udfff" + LONE_SURROGATE,
    "\ufffd",
    "x" * 255,
    "x" * 256,
    "é" * 127,
    "é" * 128,
    "x" + "é" * 127,
    "x" + "é" * 127 + "tail",
    "\U0001f600" * 64,
    "xy" + "\U0001f600" * 64,
    "\0" * 85,
    "\0" * 86,
]
_ELEMENTS: list[Json] = ["a", "b", "A", "1", "", 1, 1.0, 0, 0.0, True, False, None, 2, "\0", "\ufffd"]
_COMPOUND: list[Json] = [
    [],
    {},
    [1],
    [1.0],
    [True],
    ["a"],
    [["a"]],
    [1, 2],
    [2, 1],
    {"x": 1},
    {"x": 1.0},
    {"x": True},
    {"x": 1, "y": 2},
    {"y": 2, "x": 1},
    {"x": {"y": [1, {"z": None}]}},
    {"x": LONE_SURROGATE, "\0": 1, "\ufffd": 2},
    {"k" * 255: 1, "k" * 256: 2},
    [INFINITY],
    {"x": [10**400]},
    {"$token": "kept inside", "$ip": "kept inside"},
]

_COMMON: list[Json] = ["a", "b", "1", 1, 1.0, True, None, [1], {"x": 1}]

numbers: SearchStrategy[Json] = st.one_of(
    st.sampled_from(_NUMBERS),
    st.sampled_from(_NUMBERS),
    st.sampled_from(_LARGE_NUMBERS),
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=False, allow_infinity=True),
)
strings: SearchStrategy[Json] = st.one_of(
    st.sampled_from(["a", "b", "A", "1", ""]),
    st.sampled_from(_NUMERIC_STRINGS),
    st.sampled_from(_NOT_NUMERIC_STRINGS),
    st.sampled_from(_NASTY_STRINGS),
    st.text(max_size=4),
)
elements: SearchStrategy[Json] = st.one_of(
    st.sampled_from(_ELEMENTS), st.sampled_from(_ELEMENTS), st.sampled_from(_COMPOUND), strings, numbers
)
#: What most elements of lists are, so that $union and $remove find their equals.
common_elements: SearchStrategy[Json] = st.one_of(*([st.sampled_from(_COMMON)] * 4), elements)
common_lists: SearchStrategy[Json] = st.lists(common_elements, max_size=5).map(list)
element_lists: SearchStrategy[Json] = st.lists(elements, max_size=5).map(list)
objects: SearchStrategy[Json] = st.dictionaries(
    st.one_of(st.sampled_from(["x", "y", "z", "$ip", "\0"]), st.text(max_size=2)), elements, max_size=3
)
_DEEP: list[Json] = [nest(n, objects=o) for n in (3, 4, 62, 63, 64, 65, 70) for o in (False, True)]
deep_values: SearchStrategy[Json] = st.sampled_from(_DEEP)
values: SearchStrategy[Json] = st.one_of(elements, numbers, strings, element_lists, objects)
rare_values: SearchStrategy[Json] = st.one_of(deep_values, *([values] * 4))

# --- names ---------------------------------------------------------------------------------------

#: The first letter says which type the property most often has.
NUMBER_NAMES = ("n1", "n2")
LIST_NAMES = ("l1", "l2")
OBJECT_NAMES = ("o1",)
PLAIN_NAMES = ("a", "$city", "$name")
_NASTY_NAMES = (
    "",
    "\0",
    "\ufffd",
    LONE_SURROGATE,
    "p" * 255,
    "p" * 256,
    "p" * 255 + "q",
    "é" * 256,
    "$ip",
    "$token",
    "$distinct_id",
    "$last_seen",
    "$set",
    "a.b",
)
names: SearchStrategy[str] = st.one_of(
    st.sampled_from(NUMBER_NAMES + LIST_NAMES + OBJECT_NAMES + PLAIN_NAMES),
    st.sampled_from(NUMBER_NAMES + LIST_NAMES + OBJECT_NAMES + PLAIN_NAMES),
    st.sampled_from(_NASTY_NAMES),
    st.text(max_size=3),
)


def _payload(usual_names: tuple[str, ...], usual_values: SearchStrategy[Json]) -> SearchStrategy[Json]:
    """A payload that mostly holds what its operator expects, and now and then anything."""
    usual = st.tuples(st.sampled_from(usual_names), usual_values)
    unusual = st.tuples(names, rare_values)
    pair = st.one_of(usual, usual, usual, unusual)
    return st.one_of(*([st.lists(pair, min_size=1, max_size=4)] * 4), st.just([])).map(dict)


_TYPED = st.one_of(
    st.tuples(st.sampled_from(NUMBER_NAMES), numbers),
    st.tuples(st.sampled_from(NUMBER_NAMES), numbers | st.sampled_from(_NUMERIC_STRINGS)),
    st.tuples(st.sampled_from(LIST_NAMES), common_lists),
    st.tuples(st.sampled_from(LIST_NAMES), element_lists),
    st.tuples(st.sampled_from(OBJECT_NAMES), objects),
    st.tuples(st.sampled_from(sorted(GEO)), strings),
    st.tuples(names, rare_values),
)
_set_payloads: SearchStrategy[Json] = st.lists(_TYPED, max_size=4).map(dict)
_unset_payloads: SearchStrategy[Json] = st.one_of(
    st.lists(names, max_size=3).map(list), names, st.dictionaries(names, elements, max_size=3)
)
_PAYLOADS: dict[str, SearchStrategy[Json]] = {
    "$delete": st.sampled_from(["", None, "null", False, 0, "u1"]) | objects,
    "$unset": _unset_payloads,
    "$set_once": _set_payloads,
    "$set": _set_payloads,
    "$merge": _payload(OBJECT_NAMES, objects),
    "$add": _payload(NUMBER_NAMES, numbers | st.sampled_from(_NUMERIC_STRINGS)),
    "$union": _payload(LIST_NAMES, common_lists | element_lists | common_elements),
    "$append": _payload(LIST_NAMES, common_elements),
    "$remove": _payload(LIST_NAMES, common_elements),
}
_WRONG_CONTAINERS: list[Json] = ["x", "", 1, 0.5, None, True, ["a"], [1], [{}], ["a", None], []]
wrong_containers: SearchStrategy[Json] = st.sampled_from(_WRONG_CONTAINERS)


def payloads(operator: str) -> SearchStrategy[Json]:
    """Payloads for one operator; about one in sixteen has the wrong container or is PHP's []."""
    good = _PAYLOADS[operator]
    return st.integers(0, 15).flatmap(lambda n: wrong_containers if n == 0 else good)


# --- records -------------------------------------------------------------------------------------

_TIMES: list[Json] = [
    ARRIVAL,
    ARRIVAL - 86_400,
    (ARRIVAL - 86_400) * 1000 + 999,
    float(ARRIVAL) - 0.25,
    str(ARRIVAL - 3600),
    "1768392000000",
    ARRIVAL + 60,
    (ARRIVAL + 60) * 1000,
    1e11,
    99_999_999_999,
    1,
    0,
    -5,
    True,
    None,
    "soon",
    "",
    [],
    INFINITY,
    10**400,
    "1e999",
]
_IGNORE_TIME: list[Json] = [True, True, True, False, 1, 0, "true", "false", "TRUE", None, ""]
_LAST_SEEN: list[Json] = [
    "2020-02-29T01:02:03",
    "2020-02-29T01:02:03.999Z",
    "2020-02-29T01:02:03+02:00",
    "2020-02-29",
    "2021-02-29T00:00:00",
    "2020-02-29T25:00:00",
    "yesterday",
    "",
    1_600_000_000,
    1_600_000_000_123,
    1_600_000_000.9,
    -1,
    None,
    True,
    [],
    INFINITY,
]
_BAD_IDS: list[Json] = ["", None, True, False, [], {}, ["u1"]]
_PLACEHOLDERS: list[Json] = ["undefined", " NULL ", "Anon", 0, -1, "n/a"]
_few_ids = st.sampled_from([IDS[0], IDS[0], *IDS])
_good_ids: SearchStrategy[Json] = st.sampled_from([*IDS, *IDS, *IDS, 7, 7.0, "7", 1.5])
_ids: SearchStrategy[Json] = st.one_of(
    _good_ids, st.sampled_from(_BAD_IDS), *([st.sampled_from(_PLACEHOLDERS)] * 2)
)
_EXTRAS: dict[str, Json] = {
    "$ip": "203.0.113.9",
    "$device_id": "d1",
    "$user_id": "u1",
    "$had_persisted_distinct_id": True,
    "$mp_metadata": {"$mp_session_id": "s"},
    "mp_lib": "web",
    "unknown": [1, {"x": None}],
}


@st.composite
def good_records(draw: st.DrawFn, kind: Kind) -> Document:
    """A record with good ids and one operator, now and then two or three."""
    record: Document = {"$token": "TOK"}
    if kind == "engage":
        record["$distinct_id"] = draw(_few_ids)
    else:
        record["$group_key"] = GROUP_KEY
        record["$group_id"] = draw(_few_ids)
    count = draw(st.sampled_from([1, 1, 2, 3]))
    for operator in draw(st.lists(st.sampled_from(_OFTEN), min_size=count, max_size=count)):
        record[operator] = draw(_PAYLOADS[operator])
    if draw(st.booleans()):
        record["$time"] = draw(st.sampled_from(_TIMES))
    if draw(st.integers(0, 2)) == 0:
        record["$ignore_time"] = draw(st.sampled_from(_IGNORE_TIME))
        for operator in ("$set", "$set_once"):
            payload = record.get(operator)
            if isinstance(payload, dict) and draw(st.booleans()):
                payload["$last_seen"] = draw(st.sampled_from(_LAST_SEEN))
    for name in draw(st.lists(st.sampled_from(sorted(_EXTRAS)), max_size=1)):
        record[name] = _EXTRAS[name]
    return record


_NOT_RECORDS: list[Json] = ["x", 1, None, True, [], [{}], {}]
#: $delete is rare, or few profiles would live long enough for operators to meet.
_OFTEN = OPERATORS[1:] * 2 + OPERATORS[:1]


@st.composite
def records(draw: st.DrawFn, kind: Kind) -> Json:
    """Any record, good or bad: what validation is tested with."""
    choice = draw(st.integers(0, 19))
    if choice == 0:
        return draw(st.sampled_from(_NOT_RECORDS))
    record = draw(good_records(kind))
    if choice <= 2:
        record["$token"] = draw(st.sampled_from(["", None, 5, [], {}]))
    if choice == 3:
        record.pop(draw(st.sampled_from(sorted(record))))
    if 4 <= choice <= 7:
        record["$distinct_id" if kind == "engage" else "$group_id"] = draw(_ids)
    if choice == 8:
        record["$distinct_id"] = draw(_ids)
        record["$group_key"] = draw(st.sampled_from(["Company", "", None, 5, True, []]))
    if 9 <= choice <= 12:
        operator = draw(st.sampled_from(OPERATORS))
        record[operator] = draw(payloads(operator))
    if choice == 13:
        record[draw(st.sampled_from(OPERATORS))] = {"k": draw(deep_values)}
    return record


geos: SearchStrategy[Document | None] = st.one_of(st.none(), st.just(GEO), st.just({"$country_code": "GB"}))
arrivals: SearchStrategy[int] = st.sampled_from([ARRIVAL, ARRIVAL + 1, ARRIVAL + 5000])
kinds: SearchStrategy[Kind] = st.sampled_from(["engage", "groups"])


#: A first record that gives the usual names something for later operators to meet.
_beginnings: SearchStrategy[Json] = st.fixed_dictionaries(
    {
        "n1": numbers,
        "n2": st.sampled_from(_NUMBERS) | strings,
        "l1": common_lists,
        "l2": element_lists,
        "o1": objects,
        "a": values,
    }
).map(dict)


@st.composite
def sequences(draw: st.DrawFn, kind: Kind) -> list[tuple[Document, int, Document | None]]:
    """Records in log order on very few ids, each with its arrival time (seconds) and its location."""
    steps = draw(st.lists(st.tuples(good_records(kind), arrivals, geos), min_size=1, max_size=10))
    if draw(st.integers(0, 3)):
        first: Document = {name: value for name, value in steps[0][0].items() if name not in OPERATORS}
        first["$set"] = draw(_beginnings)
        steps.insert(0, (first, ARRIVAL, None))
    return steps


# --- meetings ------------------------------------------------------------------------------------

_LISTS: list[Json] = [
    ["a", "b", "a"],
    [1, 1.0, True, "1", None, "a"],
    [[1, 2], [2, 1], 1, 2],
    [{"x": 1, "y": 2}, 3, {"x": 1}, [1], []],
]
_LONG_TEXTS: list[Json] = ["x" * 255, "x" * 256, "é" * 128]
_MEETING: list[Json] = [
    *_ELEMENTS,
    *_COMPOUND,
    *_NUMBERS,
    *_LARGE_NUMBERS,
    *_NUMERIC_STRINGS,
    *_LISTS,
    *_LONG_TEXTS,
]
#: Every one of these meets every other under every operator; the storable ones also as stored values.
MEETING_VALUES: list[Json] = list({json_text(value): value for value in _MEETING}.values())
STORED_VALUES: list[Json] = [clean(value) for value in MEETING_VALUES if not overflows(value)]
