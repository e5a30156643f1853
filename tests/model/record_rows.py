"""Which records are good, and what is said of the others, as rows (contract ingestion §3, §4.4, §6.5)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.model.operator_rows import each
from tests.model.reference import Applied, Refused
from tests.model.strategies import ARRIVAL, nest

if TYPE_CHECKING:
    from tests.model.operator_rows import Implementation
    from tests.model.reference import Kind

INF = math.inf


class RecordRow(NamedTuple):
    """One record and what non-strict and strict reading say of it: (field, message), None when good."""

    kind: Kind
    record: Any
    lenient: tuple[str, str] | None
    strict: tuple[str, str] | None


def check_record_row(row: RecordRow, implementation: Implementation) -> None:
    """Assert that the implementation judges the record as the row says, both ways."""
    for strict, expected in ((False, row.lenient), (True, row.strict)):
        outcome = implementation(
            row.record, kind=row.kind, strict=strict, arrival=ARRIVAL, geo=None, stored=None
        )
        if expected is None:
            assert isinstance(outcome, Applied), f"strict={strict} {row.record!r:.200}: {outcome}"
        else:
            assert outcome == Refused(*expected), f"strict={strict} {row.record!r:.200}: {outcome}"


def _user(**operators: Any) -> dict[str, Any]:
    return {"$token": "TOK", "$distinct_id": "u1", **{f"${name}": value for name, value in operators.items()}}


def _group(**operators: Any) -> dict[str, Any]:
    ids: dict[str, Any] = {"$token": "TOK", "$group_key": "Company", "$group_id": "Acme"}
    return {**ids, **{f"${name}": value for name, value in operators.items()}}


def _both(kind: Kind, record: Any, refused: tuple[str, str] | None) -> RecordRow:
    return RecordRow(kind, record, refused, refused)


NOT_OBJECT = ("", "data, must be an object")
NO_TOKEN = ("$token", "$token, missing or empty")
NO_ID = ("$distinct_id", "$distinct_id, missing or empty")
NO_GROUP_KEY = ("$group_key", "$group_key, missing or empty")
NO_GROUP_ID = ("$group_id", "$group_id, missing or empty")
PLACEHOLDER = ("$distinct_id", "'$distinct_id' is invalid: must not be a placeholder value")
ID_ON_GROUP = ("$distinct_id", "$distinct_id, must not be present")
NO_OPERATION = ("", "no operation, missing or empty")
SEVERAL = ("", "only one operation is allowed per update")
UNSET_LIST = ("$unset", "$unset, must be a list of strings")
UNSET_NOTHING = ("$unset", "$unset, must name at least one property")


def _must_be_object(operator: str) -> tuple[str, str]:
    return (operator, f"{operator}, must be an object")


SHAPE_ROWS = [
    *(_both("engage", record, NOT_OBJECT) for record in each("x", 1, None, True, [], [{}])),
    _both("engage", {}, NO_TOKEN),
    *(
        _both("engage", {**_user(set={}), "$token": token}, NO_TOKEN)
        for token in each("", None, 5, True, [], {})
    ),
    _both("engage", {"$token": "", "$distinct_id": ""}, NO_TOKEN),
    _both("engage", {"$token": "TOK", "$set": {}}, NO_ID),
    *(
        _both("engage", {**_user(set={}), "$distinct_id": value}, NO_ID)
        for value in each("", None, True, False, [], ["u1"], {}, INF)
    ),
    *(
        _both("engage", {**_user(set={}), "$distinct_id": value}, None)
        for value in each(3473, 7.0, 1.5, " ", "\0")
    ),
    *(
        RecordRow("engage", {**_user(set={}), "$distinct_id": value}, None, PLACEHOLDER)
        for value in each("undefined", "NULL", " Anonymous ", "n/a", "[]", "{}", "<nil>", 0, -1, 0.0, "true")
    ),
    _both("engage", {**_user(set={}), "$distinct_id": "lmy47d"}, None),
    _both("engage", {"$token": "TOK", "$distinct_id": "", "$set": "x"}, NO_ID),
    _both("engage", _user(), NO_OPERATION),
    _both("engage", _user(increment={"n": 1}), NO_OPERATION),
    _both("engage", {**_user(set={}), "unknown": [1], "$mp_metadata": 5, "$device_id": {}}, None),
    _both("engage", {**_user(set={}), "$time": "soon", "$ip": [], "$ignore_time": {}}, None),
]

GROUP_ROWS = [
    _both("groups", _group(set={}), None),
    _both("groups", {"$token": "TOK", "$group_id": "Acme", "$set": {}}, NO_GROUP_KEY),
    *(
        _both("groups", {**_group(set={}), "$group_key": key}, NO_GROUP_KEY)
        for key in each("", None, 5, True, [])
    ),
    _both("groups", {"$token": "TOK", "$group_key": "Company", "$set": {}}, NO_GROUP_ID),
    *(
        _both("groups", {**_group(set={}), "$group_id": value}, NO_GROUP_ID)
        for value in each("", None, [], {})
    ),
    *(
        _both("groups", {**_group(set={}), "$group_id": value}, None)
        for value in each(5, 1.5, True, False, "null")
    ),
    _both("groups", {"$token": "TOK", "$group_key": "", "$group_id": "", "$set": {}}, NO_GROUP_KEY),
    RecordRow("groups", {**_group(set={}), "$distinct_id": "u1"}, None, ID_ON_GROUP),
    RecordRow("groups", {**_group(set={}), "$distinct_id": None}, None, ID_ON_GROUP),
    _both("groups", {**_group(set={}), "$token": ""}, NO_TOKEN),
    _both("groups", _group(add={"n": 1}), None),
    _both("groups", _group(append={"l": 1}), None),
    _both("groups", _group(merge={"o": {}}), None),
    _both("groups", _group(set="x"), _must_be_object("$set")),
    _both("groups", _group(), NO_OPERATION),
]

CONTAINER_ROWS = [
    *(
        _both("engage", _user(**{operator: payload}), _must_be_object(f"${operator}"))
        for operator in ("set", "set_once", "add", "append", "union", "remove", "merge")
        for payload in each("x", "", 1, None, True, ["a"], [{}], [[]])
    ),
    *(
        _both("engage", _user(**{operator: []}), None)
        for operator in ("set", "set_once", "add", "append", "union", "remove", "merge")
    ),
    *(
        _both("engage", _user(unset=payload), UNSET_LIST)
        for payload in each(1, None, True, [1], ["a", None], [["a"]])
    ),
    *(_both("engage", _user(unset=payload), None) for payload in each("a", ["a"], {"a": 1}, [""], "")),
    *(RecordRow("engage", _user(unset=payload), None, UNSET_NOTHING) for payload in each([], {})),
    *(
        _both("engage", _user(delete=payload), None)
        for payload in each("", None, "null", {}, [], False, 1, nest(70))
    ),
]

SEVERAL_ROWS = [
    RecordRow("engage", _user(set={"a": 1}, unset=["b"]), None, SEVERAL),
    RecordRow("engage", _user(delete="", set={"a": 1}), None, SEVERAL),
    RecordRow("engage", _user(delete="", set="x"), _must_be_object("$set"), SEVERAL),
    RecordRow("engage", _user(set={"a": 1}, add=5), _must_be_object("$add"), SEVERAL),
    RecordRow("engage", _user(remove=1, set=1, unset=1), UNSET_LIST, SEVERAL),
    RecordRow("engage", _user(remove=1, add=1, set=1), _must_be_object("$set"), SEVERAL),
]


def _fault(field: str, text: str) -> tuple[str, str]:
    return (field, f"{field}, {text}")


def _strictly(operator: str, value: Any, text: str) -> RecordRow:
    return RecordRow("engage", _user(**{operator: {"k": value}}), None, _fault(f"${operator}.k", text))


WIDE: Any = dict.fromkeys([f"k{n}" for n in range(254)], 1)
TOO_WIDE: Any = dict.fromkeys([f"k{n}" for n in range(255)], 1)
NESTED = "objects must have fewer than 255 keys and at most 3 levels"
LARGE: Any = ["x" * 250] * 1100

VALUE_ROWS = [
    *(_both("engage", _user(add={"n": value}), None) for value in each(1, -1, 0.5, 2**70)),
    *(
        _strictly("add", value, "must be a number")
        for value in each("5", "x", "", True, False, None, [], [1], {}, "1e999")
    ),
    *(_both("engage", _user(union={"l": value}), None) for value in each(["a"], [1, "a", 0.5], ["", 0])),
    *(
        _strictly("union", value, "must be a list of strings or numbers")
        for value in each([], "a", 1, None, True, {}, [None], [True], [[]], [{}], ["a", False])
    ),
    *(_both("engage", _user(append={"l": value}), None) for value in each(1, "a", None, True, [1], {"x": 1})),
    *(_both("engage", _user(remove={"l": value}), None) for value in each(1, "a", None, [1, 2], {"x": 1})),
    *(
        _both("engage", _user(set={"a": value}), None)
        for value in each(None, True, "x" * 300, [], {}, [None])
    ),
    _both("engage", _user(merge={"o": {"x": 1}}), None),
    *(_strictly("merge", value, "must be an object") for value in each(1, "a", None, [], [{}])),
    *(
        _strictly(operator, value, "number is out of range")
        for operator in ("set", "set_once", "append", "remove")
        for value in each(INF, -INF, 10**400, [INF], {"x": [10**400]})
    ),
    *(_strictly("add", value, "number is out of range") for value in each(INF, -(10**400))),
    _strictly("union", [1, INF], "number is out of range"),
    _strictly("merge", {"x": INF}, "number is out of range"),
    _both("engage", _user(set={"o": nest(3, objects=True)}), None),
    _strictly("set", nest(4, objects=True), NESTED),
    _both("engage", _user(set={"l": [[[[nest(3, objects=True)]]]]}), None),
    _strictly("append", [nest(4, objects=True)], NESTED),
    _both("engage", _user(set={"o": WIDE}), None),
    _strictly("set", TOO_WIDE, NESTED),
    _strictly("merge", {"x": TOO_WIDE}, NESTED),
    _strictly("set", LARGE, "must be at most 262144 bytes of JSON"),
    _both(
        "engage", _user(set={"$token": INF, "$ip": [INF], "$distinct_id": 10**400, "$last_seen": INF}), None
    ),
    _both("engage", _user(add={"$token": "x", "$last_seen": "y"}), None),
    RecordRow(
        "engage", _user(set={"a": 1, "b": INF, "c": INF}), None, _fault("$set.b", "number is out of range")
    ),
]


def _too_deep(operator: str) -> tuple[str, str]:
    return (operator, f"{operator}, nested too deeply")


NESTING_ROWS = [
    *(
        _both(
            "engage", _user(**{operator: {"a": 1, "k": nest(65, objects=objects)}}), _too_deep(f"${operator}")
        )
        for operator in ("set", "set_once", "append", "remove")
        for objects in (False, True)
    ),
    _both("engage", _user(add={"n": nest(65)}), _too_deep("$add")),
    _both("engage", _user(union={"l": nest(65)}), _too_deep("$union")),
    _both("engage", _user(merge={"o": nest(65, objects=True)}), _too_deep("$merge")),
    _both("engage", _user(merge={"o": nest(65)}), _too_deep("$merge")),
    _both("engage", _user(unset={"k": nest(65)}), _too_deep("$unset")),
    _both("engage", _user(set={"$token": nest(65)}), _too_deep("$set")),
    _both("engage", _user(set={"$last_seen": nest(65)}), _too_deep("$set")),
    _both("engage", _user(set={"k": [INF, nest(64)]}), _too_deep("$set")),
    _both("engage", _user(set={"\0": nest(65), "\ufffd": 1}), _too_deep("$set")),
    _both("engage", _user(add={"a": "x", "n": nest(65)}), _too_deep("$add")),
    _both("engage", _user(set={"l": nest(64)}), None),
    _both("engage", _user(append={"l": nest(64)}), None),
    _both("engage", _user(unset={"k": nest(64)}), None),
    _both("engage", {**_user(set={}), "elsewhere": nest(70)}, None),
]

ROWS = [*SHAPE_ROWS, *GROUP_ROWS, *CONTAINER_ROWS, *SEVERAL_ROWS, *VALUE_ROWS, *NESTING_ROWS]
