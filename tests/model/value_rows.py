"""What can be stored, and how much of it, as rows (contract ingestion §5.4). Same form as `operator_rows`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tests.model.operator_rows import Row, each
from tests.model.strategies import LONE_SURROGATE, nest

if TYPE_CHECKING:
    from tests.model.reference import Document, Json

INF = math.inf
FULL: Document = {f"p{n}": n for n in range(2000)}
ALMOST_FULL: Document = {f"p{n}": n for n in range(1999)}


def list_of_bytes(size: int) -> list[Json]:
    """A list whose compact JSON has exactly `size` bytes (at least 258)."""
    items: list[Json] = []
    left = size - 2
    while left > 300:
        items.append("x" * 125)
        left -= 128
    items.append("y" * (left - 2 if left - 2 <= 255 else 100))
    left -= len(str(items[-1])) + 2
    if left:
        items.append("z" * (left - 3))
    return items


def object_of_bytes(size: int) -> Document:
    """An object whose compact JSON has exactly `size` bytes (at least 270)."""
    return {"k": list_of_bytes(size - 6)}


LIMIT = 262_144
AT_LIMIT = list_of_bytes(LIMIT)
OVER_LIMIT = list_of_bytes(LIMIT + 1)

TEXT_ROWS = [
    Row(f"a string is cut: {sentence}", None, {"$set": {"a": text}}, {"a": stored})
    for sentence, text, stored in (
        ("255 bytes stay", "x" * 255, "x" * 255),
        ("256 become 255", "x" * 256, "x" * 255),
        ("254 bytes in two-byte characters stay", "é" * 127, "é" * 127),
        ("no character is cut in two", "é" * 128, "é" * 127),
        ("255 bytes with a two-byte end stay", "x" + "é" * 127, "x" + "é" * 127),
        ("three-byte characters", "€" * 86, "€" * 85),
        ("four-byte characters", "\U0001f600" * 64, "\U0001f600" * 63),
        ("four-byte characters after three", "abc" + "\U0001f600" * 64, "abc" + "\U0001f600" * 63),
    )
]
TEXT_ROWS += [
    Row("NUL becomes U+FFFD", None, {"$set": {"a": "x\0y"}}, {"a": "x\ufffdy"}),
    Row("a lone surrogate becomes U+FFFD", None, {"$set": {"a": f"x{LONE_SURROGATE}y"}}, {"a": "x\ufffdy"}),
    Row(
        "surrogates in the wrong order become two",
        None,
        {"$set": {"a": "\udc00\ud800"}},
        {"a": "\ufffd\ufffd"},
    ),
    Row("a pair is a character", None, {"$set": {"a": "\U0001f600"}}, {"a": "\U0001f600"}),
    Row("text is cleaned before it is cut", None, {"$set": {"a": "\0" * 100}}, {"a": "\ufffd" * 85}),
    Row(
        "text is cut inside lists",
        None,
        {"$set": {"l": ["x" * 300, ["y" * 300]]}},
        {"l": ["x" * 255, ["y" * 255]]},
    ),
    Row("text is cut inside objects", None, {"$set": {"o": {"k": "x" * 300}}}, {"o": {"k": "x" * 255}}),
    Row("an appended string is cut", {"l": []}, {"$append": {"l": "x" * 300}}, {"l": ["x" * 255]}),
    Row("a string in a union is cut", {"l": []}, {"$union": {"l": ["x" * 300]}}, {"l": ["x" * 255]}),
    Row("a merged string is cut", {"o": {}}, {"$merge": {"o": {"k": "x" * 300}}}, {"o": {"k": "x" * 255}}),
    Row("a set_once string is cut", {}, {"$set_once": {"a": "é" * 200}}, {"a": "é" * 127}),
]

NAME_ROWS = [
    Row("a name of 255 characters stays", None, {"$set": {"é" * 255: 1}}, {"é" * 255: 1}),
    Row("a name is cut to 255 characters", None, {"$set": {"é" * 256: 1}}, {"é" * 255: 1}),
    Row(
        "a name is cleaned",
        None,
        {"$set": {"a\0b": 1, "c" + LONE_SURROGATE: 2}},
        {"a\ufffdb": 1, "c\ufffd": 2},
    ),
    Row("of names that become one the last wins", None, {"$set": {"\0": 1, "\ufffd": 2}}, {"\ufffd": 2}),
    Row("the last wins after cutting too", None, {"$set": {"p" * 256: 1, "p" * 257: 2}}, {"p" * 255: 2}),
    Row("the last wins even when it is dropped", {}, {"$set": {"\0": 1, "\ufffd": INF}}, {}),
    Row("the empty name is a name", None, {"$set": {"": 1}}, {"": 1}),
    Row("keys in objects are cut", None, {"$set": {"o": {"k" * 300: 1}}}, {"o": {"k" * 255: 1}}),
    Row("keys in objects are cleaned", None, {"$set": {"o": {"\0": 1, "\ufffd": 2}}}, {"o": {"\ufffd": 2}}),
    Row("add finds the cut name", {"p" * 255: 1}, {"$add": {"p" * 300: 1}}, {"p" * 255: 2}),
    *(
        Row(
            f"{operator} drops token, id, IP and last seen",
            {"a": 1},
            {operator: dict.fromkeys(names, value)},
            {"a": 1},
        )
        for names in (("$token", "$distinct_id", "$ip", "$last_seen"),)
        for operator, value in each(
            ("$set", 1),
            ("$set_once", 1),
            ("$add", 1),
            ("$append", 1),
            ("$union", [1]),
            ("$merge", {"x": 1}),
            ("$remove", 1),
        )
    ),
]

NUMBER_ROWS = [
    Row(f"the number {value!r} is stored", None, {"$set": {"a": value}}, {"a": stored})
    for value, stored in (
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (2**63, 2.0**63),
        (-(2**63) - 1, -(2.0**63)),
        (10**30, 1e30),
        (1.0, 1.0),
        (0.1, 0.1),
        (5e-324, 5e-324),
        (1.7976931348623157e308, 1.7976931348623157e308),
    )
]
NUMBER_ROWS += [
    Row(
        f"the number {sentence} drops its key alone",
        {"a": 1},
        {"$set": {"a": value, "b": 2}},
        {"a": 1, "b": 2},
    )
    for sentence, value in (("1e999", INF), ("-1e999", -INF), ("10^400", 10**400), ("-10^400", -(10**400)))
]
NUMBER_ROWS += [
    Row("a large integer inside a list is a double", None, {"$set": {"l": [2**64]}}, {"l": [2.0**64]}),
    Row(
        "an overflow deep inside drops the property",
        {},
        {"$set": {"o": {"x": [{"y": INF}]}, "b": 1}},
        {"b": 1},
    ),
    Row("an overflow is not appended", {"l": []}, {"$append": {"l": INF}}, {"l": []}),
    Row("an overflow spoils the whole union", {"l": []}, {"$union": {"l": [1, INF]}}, {"l": []}),
    Row("an overflow removes nothing", {"l": [1e308]}, {"$remove": {"l": INF}}, {"l": [1e308]}),
    Row("an overflow spoils the whole merge", {"o": {}}, {"$merge": {"o": {"x": 1, "y": INF}}}, {"o": {}}),
    Row("an overflow is not set once", {}, {"$set_once": {"a": 10**400}}, {}),
]

COUNT_ROWS = [
    Row("property 2000 is added", ALMOST_FULL, {"$set": {"q": 1}}, {**ALMOST_FULL, "q": 1}),
    Row("property 2001 is not", ALMOST_FULL, {"$set": {"q": 1, "r": 2}}, {**ALMOST_FULL, "q": 1}),
    Row("existing names still change", FULL, {"$set": {"q": 1, "p7": "x"}}, {**FULL, "p7": "x"}),
    Row("set_once adds none", FULL, {"$set_once": {"q": 1}}, FULL),
    Row("add adds none", FULL, {"$add": {"q": 1, "p1": 1}}, {**FULL, "p1": 2}),
    Row("append adds none", FULL, {"$append": {"q": 1}}, FULL),
    Row("union adds none", FULL, {"$union": {"q": [1]}}, FULL),
    Row("merge adds none", FULL, {"$merge": {"q": {"x": 1}}}, FULL),
    Row(
        "unset makes room",
        FULL,
        {"$unset": ["p0"], "$set": {"q": 1, "r": 1}},
        {**{n: v for n, v in FULL.items() if n != "p0"}, "q": 1},
    ),
    Row("a new profile holds 2000", None, {"$set": {**FULL, "q": 1}}, FULL),
]

SIZE_ROWS = [
    Row("a list of 256 KB is stored", None, {"$set": {"l": AT_LIMIT}}, {"l": AT_LIMIT}),
    Row("a larger list is not", {"l": 1, "b": 1}, {"$set": {"l": OVER_LIMIT, "b": 2}}, {"l": 1, "b": 2}),
    Row("a larger list is not set once", {}, {"$set_once": {"l": OVER_LIMIT}}, {}),
    Row(
        "an object of 256 KB is stored",
        None,
        {"$set": {"o": object_of_bytes(LIMIT)}},
        {"o": object_of_bytes(LIMIT)},
    ),
    Row("a larger object is not", {"o": 1}, {"$set": {"o": object_of_bytes(LIMIT + 1)}}, {"o": 1}),
    Row("append beyond keeps the old list", {"l": AT_LIMIT}, {"$append": {"l": 1}}, {"l": AT_LIMIT}),
    Row(
        "append up to the limit",
        {"l": list_of_bytes(LIMIT - 2)},
        {"$append": {"l": 1}},
        {"l": [*list_of_bytes(LIMIT - 2), 1]},
    ),
    Row("append of too much makes no list", {}, {"$append": {"l": AT_LIMIT}}, {}),
    Row("union beyond keeps the old list", {"l": AT_LIMIT}, {"$union": {"l": [1]}}, {"l": AT_LIMIT}),
    Row(
        "union of known elements changes nothing",
        {"l": AT_LIMIT},
        {"$union": {"l": AT_LIMIT[:3]}},
        {"l": AT_LIMIT},
    ),
    Row(
        "merge beyond keeps the old object",
        {"o": object_of_bytes(LIMIT)},
        {"$merge": {"o": {"x": 1}}},
        {"o": object_of_bytes(LIMIT)},
    ),
    Row(
        "merge replacing within the limit",
        {"o": object_of_bytes(LIMIT)},
        {"$merge": {"o": {"k": 1}}},
        {"o": {"k": 1}},
    ),
    Row(
        "remove works at the limit",
        {"l": [*list_of_bytes(LIMIT - 4), 1]},
        {"$remove": {"l": 1}},
        {"l": list_of_bytes(LIMIT - 4)},
    ),
    Row("bytes count, not characters", {"l": 1}, {"$set": {"l": ["é" * 127] * 1030}}, {"l": 1}),
    Row(
        "fewer bytes than characters escaped",
        {},
        {"$set": {"l": ["é" * 127] * 1000}},
        {"l": ["é" * 127] * 1000},
    ),
]

NESTING_ROWS = [
    Row("64 levels of lists are stored", None, {"$set": {"l": nest(64)}}, {"l": nest(64)}),
    Row(
        "64 levels of objects are stored",
        None,
        {"$set": {"o": nest(64, objects=True)}},
        {"o": nest(64, objects=True)},
    ),
]

ROWS = [*TEXT_ROWS, *NAME_ROWS, *NUMBER_ROWS, *COUNT_ROWS, *SIZE_ROWS, *NESTING_ROWS]
