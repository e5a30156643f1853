"""The contract's rules about operators as rows: a sentence, what is given, the record, what is then.

Data and one check; both the product and the reference must satisfy every row. Profiles are written
without `$last_seen`, None is "no profile". Sources: contract ingestion §3.4, §4, §5.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tests.model.product import identical
from tests.model.reference import Applied, Refused
from tests.model.strategies import ARRIVAL, LONE_SURROGATE

if TYPE_CHECKING:
    from tests.model.reference import Document, Json, Kind

EARLIER = "2025-12-31T00:00:00"
INF = float("inf")


class Implementation(Protocol):
    """What product and reference have in common."""

    def __call__(
        self,
        raw: Json,
        *,
        kind: Kind,
        strict: bool,
        arrival: float,
        geo: Document | None,
        stored: Document | None,
    ) -> Refused | Applied:
        """One record onto one profile."""
        ...


class Row(NamedTuple):
    """One rule: `given`, then a record with these `operators`, gives `then`."""

    sentence: str
    given: dict[str, Any] | None
    operators: dict[str, Any]
    then: dict[str, Any] | None


def each(*values: Any) -> tuple[Any, ...]:
    """Values of many types, to make one row of each."""
    return values


def check_row(row: Row, implementation: Implementation, kind: Kind = "engage") -> None:
    """Assert that the implementation does what the row says."""
    ids: Document = (
        {"$distinct_id": "u1"} if kind == "engage" else {"$group_key": "Company", "$group_id": "u1"}
    )
    stored: Document | None = None if row.given is None else {**row.given, "$last_seen": EARLIER}
    outcome = implementation(
        {"$token": "TOK", **ids, **row.operators},
        kind=kind,
        strict=False,
        arrival=ARRIVAL,
        geo=None,
        stored=stored,
    )
    assert isinstance(outcome, Applied), f"{row.sentence}: {outcome}"
    after = outcome.profile
    if after is not None:
        assert after.pop("$last_seen") == "2026-01-15T12:00:00", row.sentence
    assert identical(after, row.then), f"{row.sentence}: {after}"


SET_ROWS = [
    Row("set makes the profile", None, {"$set": {"a": 1}}, {"a": 1}),
    Row("set without names makes an empty profile", None, {"$set": {}}, {}),
    Row("set takes PHP's empty list for an empty object", {"a": 1}, {"$set": []}, {"a": 1}),
    Row("set adds and replaces", {"a": 1, "b": 2}, {"$set": {"b": "x", "c": 3}}, {"a": 1, "b": "x", "c": 3}),
    Row("set replaces objects whole", {"o": {"x": 1, "y": 2}}, {"$set": {"o": {"x": 9}}}, {"o": {"x": 9}}),
    Row("set stores null", {"a": 1}, {"$set": {"a": None}}, {"a": None}),
    Row("set changes the type", {"l": [1]}, {"$set": {"l": False}}, {"l": False}),
    Row(
        "set clears transactions",
        {"$transactions": [{}]},
        {"$set": {"$transactions": []}},
        {"$transactions": []},
    ),
    Row(
        "set drops token, id and IP",
        None,
        {"$set": {"$token": 1, "$distinct_id": 2, "$ip": "::1", "a": 1}},
        {"a": 1},
    ),
    Row("set keeps such names inside values", None, {"$set": {"o": {"$ip": 1}}}, {"o": {"$ip": 1}}),
    Row("set lets no client choose last seen", None, {"$set": {"$last_seen": "2020-01-01T00:00:00"}}, {}),
]

SET_ONCE_ROWS = [
    Row("set_once makes the profile", None, {"$set_once": {"a": 1}}, {"a": 1}),
    Row("set_once takes an empty list", None, {"$set_once": []}, {}),
    Row("set_once writes absent names only", {"a": 1}, {"$set_once": {"a": 2, "b": 3}}, {"a": 1, "b": 3}),
    *(
        Row(
            f"set_once: a stored {stored!r} is present", {"a": stored}, {"$set_once": {"a": 1}}, {"a": stored}
        )
        for stored in each(None, "", 0, False, [], {})
    ),
    Row("set_once drops token, id and IP", {}, {"$set_once": {"$token": 1, "$distinct_id": 2, "$ip": 3}}, {}),
]

UNSET_ROWS = [
    Row("unset removes and ignores unknown names", {"a": 1, "b": 2}, {"$unset": ["a", "zzz"]}, {"b": 2}),
    Row("unset of nothing changes nothing", {"a": 1}, {"$unset": []}, {"a": 1}),
    Row("unset takes a single name", {"a": 1, "b": 2}, {"$unset": "a"}, {"b": 2}),
    Row("unset takes the keys of an object", {"a": 1, "b": 2}, {"$unset": {"a": None, "c": 1}}, {"b": 2}),
    Row("unset makes an empty profile", None, {"$unset": ["a"]}, {}),
    Row("unset of nothing makes an empty profile", None, {"$unset": []}, {}),
    Row("unset cannot take last seen away", {"a": 1}, {"$unset": ["$last_seen", "a"]}, {}),
    Row("unset cleans its names like set", {"\ufffd": 1, "b": 2}, {"$unset": ["\0"]}, {"b": 2}),
    Row("unset cuts its names like set", {"p" * 255: 1}, {"$unset": ["p" * 300]}, {}),
    Row("unset of a null removes the name", {"a": None}, {"$unset": ["a"]}, {}),
]

DELETE_ROWS = [
    *(
        Row(f"delete with {payload!r} deletes", {"a": 1}, {"$delete": payload}, None)
        for payload in each("", None, "null", {}, "u1", False, 0, [], {"a": [1]})
    ),
    Row("delete of nothing is good", None, {"$delete": ""}, None),
]

ADD_ROWS = [
    Row("add makes the profile", None, {"$add": {"n": 12}}, {"n": 12}),
    Row("add starts from nothing", {"a": 1}, {"$add": {"n": -2.5}}, {"a": 1, "n": -2.5}),
    Row("add without names makes an empty profile", None, {"$add": []}, {}),
    Row("add of nothing usable makes an empty profile", None, {"$add": {"n": "x"}}, {}),
    Row("add decrements", {"n": 5}, {"$add": {"n": -7}}, {"n": -2}),
    Row("add keeps integers integers", {"n": 1}, {"$add": {"n": 2}}, {"n": 3}),
    Row("add of a float makes a float", {"n": 1}, {"$add": {"n": 0.5}}, {"n": 1.5}),
    Row("add of an integral float makes a float", {"n": 1}, {"$add": {"n": 1.0}}, {"n": 2.0}),
    Row("add to a float stays a float", {"n": 1.5}, {"$add": {"n": 1}}, {"n": 2.5}),
    *(
        Row(f"add to a stored {stored!r} does nothing", {"n": stored}, {"$add": {"n": 1}}, {"n": stored})
        for stored in each("5", "", "x", True, False, None, [], [1], {}, {"n": 1})
    ),
    *(
        Row(f"add of {value!r} does nothing", {"n": 1}, {"$add": {"n": value}}, {"n": 1})
        for value in each(
            True,
            False,
            None,
            "",
            "x",
            "0x10",
            "1_0",
            "inf",
            "nan",
            "Infinity",
            "1 2",
            "-",
            ".",
            "1e",
        )
    ),
    Row("add of a list does nothing", {"n": 1}, {"$add": {"n": [1]}}, {"n": 1}),
    Row("add of an object does nothing", {"n": 1}, {"$add": {"n": {"n": 1}}}, {"n": 1}),
    *(
        Row(f"add reads the text {text!r}", {"n": 1}, {"$add": {"n": text}}, {"n": total})
        for text, total in (
            ("2", 3),
            ("-2.5", -1.5),
            (" 5 ", 6),
            ("+3", 4),
            (".5", 1.5),
            ("2.", 3.0),
            ("1e3", 1001.0),
            ("007", 8),
            ("1000000000000000000", 10**18 + 1),
            ("9223372036854775806", 2**63 - 1),
            ("-9223372036854775808", -(2**63) + 1),
        )
    ),
    Row("add reads a long text as a float", None, {"$add": {"n": "9223372036854775808"}}, {"n": 2.0**63}),
    Row("add ignores a text past the doubles", {"n": 1}, {"$add": {"n": "1e999"}}, {"n": 1}),
    Row("add past 64 bits makes a float", {"n": 2**63 - 1}, {"$add": {"n": 1}}, {"n": 2.0**63}),
    Row("add below 64 bits makes a float", {"n": -(2**63)}, {"$add": {"n": -1}}, {"n": -(2.0**63)}),
    Row("add up to 64 bits stays an integer", {"n": 2**63 - 2}, {"$add": {"n": 1}}, {"n": 2**63 - 1}),
    Row("add of a large integer is a float", {"n": 1}, {"$add": {"n": 10**30}}, {"n": 1e30}),
    Row("add past the doubles does nothing", {"n": 1e308}, {"$add": {"n": 1e308}}, {"n": 1e308}),
    Row(
        "add of what overflows does nothing", {"n": 1, "m": 1}, {"$add": {"n": INF, "m": 1}}, {"n": 1, "m": 2}
    ),
    Row(
        "add does each key on its own",
        {"n": "x", "m": 1},
        {"$add": {"n": 1, "m": 1, "k": 1}},
        {"n": "x", "m": 2, "k": 1},
    ),
]

APPEND_ROWS = [
    Row("append makes the profile", None, {"$append": {"l": "x"}}, {"l": ["x"]}),
    Row("append makes the list", {"a": 1}, {"$append": {"l": "x"}}, {"a": 1, "l": ["x"]}),
    Row("append keeps duplicates", {"l": ["x"]}, {"$append": {"l": "x"}}, {"l": ["x", "x"]}),
    Row("append pushes a list as one element", {"l": [1]}, {"$append": {"l": [2, 3]}}, {"l": [1, [2, 3]]}),
    Row("append pushes null", {"l": []}, {"$append": {"l": None}}, {"l": [None]}),
    Row("append pushes an object", None, {"$append": {"l": {"$amount": 9.5}}}, {"l": [{"$amount": 9.5}]}),
    *(
        Row(
            f"append to a stored {stored!r} does nothing", {"l": stored}, {"$append": {"l": 1}}, {"l": stored}
        )
        for stored in each("x", 1, None, False, {}, {"l": []})
    ),
    Row("append without names makes an empty profile", None, {"$append": []}, {}),
]

UNION_ROWS = [
    Row("union makes the profile", None, {"$union": {"l": ["a", "a", "b"]}}, {"l": ["a", "b"]}),
    Row("union makes the list, each once", {}, {"$union": {"l": [1, 1.0, 1, 2]}}, {"l": [1, 2]}),
    Row(
        "union appends in payload order",
        {"l": ["a"]},
        {"$union": {"l": ["c", "a", "b", "c"]}},
        {"l": ["a", "c", "b"]},
    ),
    Row(
        "union keeps stored duplicates", {"l": [1, 1, 1.0]}, {"$union": {"l": [1, 2]}}, {"l": [1, 1, 1.0, 2]}
    ),
    Row("union takes a scalar", {"l": ["a"]}, {"$union": {"l": "b"}}, {"l": ["a", "b"]}),
    Row("union takes null as an element", {"l": ["a"]}, {"$union": {"l": None}}, {"l": ["a", None]}),
    Row("union takes an object", {"l": []}, {"$union": {"l": {"x": 1}}}, {"l": [{"x": 1}]}),
    Row("union of nothing makes an empty list", {}, {"$union": {"l": []}}, {"l": []}),
    Row("union of nothing leaves the list", {"l": [1, 1]}, {"$union": {"l": []}}, {"l": [1, 1]}),
    Row(
        "union tells 1, true and '1' apart",
        {"l": [1]},
        {"$union": {"l": [True, "1", 1.0]}},
        {"l": [1, True, "1"]},
    ),
    Row(
        "union tells 0, false, null and '' apart",
        {"l": [0]},
        {"$union": {"l": [False, None, "", -0.0]}},
        {"l": [0, False, None, ""]},
    ),
    Row(
        "union knows equal objects",
        {"l": [{"x": 1, "y": 2}]},
        {"$union": {"l": [{"y": 2.0, "x": 1}]}},
        {"l": [{"x": 1, "y": 2}]},
    ),
    Row(
        "union compares after cutting", {"l": ["x" * 255]}, {"$union": {"l": ["x" * 256]}}, {"l": ["x" * 255]}
    ),
    Row(
        "union compares after cleaning",
        None,
        {"$union": {"l": ["\0", LONE_SURROGATE, "\ufffd"]}},
        {"l": ["\ufffd"]},
    ),
    *(
        Row(
            f"union onto a stored {stored!r} does nothing",
            {"l": stored},
            {"$union": {"l": ["b"]}},
            {"l": stored},
        )
        for stored in each("a", 1, None, True, {}, "b")
    ),
]

REMOVE_ROWS = [
    Row("remove takes every equal element", {"l": ["a", "b", "a"]}, {"$remove": {"l": "a"}}, {"l": ["b"]}),
    Row("remove leaves an empty list", {"l": ["a"]}, {"$remove": {"l": "a"}}, {"l": []}),
    Row("remove of an absent element does nothing", {"l": ["a"]}, {"$remove": {"l": "zzz"}}, {"l": ["a"]}),
    Row("remove of an absent name does nothing", {"a": 1}, {"$remove": {"l": "a"}}, {"a": 1}),
    Row("remove makes no profile", None, {"$remove": {"l": "a"}}, None),
    Row("remove without names makes no profile", None, {"$remove": {}}, None),
    Row("remove takes 1 and 1.0", {"l": [1, 1.0, True, "1"]}, {"$remove": {"l": 1}}, {"l": [True, "1"]}),
    Row("remove takes true alone", {"l": [1, True]}, {"$remove": {"l": True}}, {"l": [1]}),
    Row(
        "remove takes 0 and not false",
        {"l": [0, False, None, ""]},
        {"$remove": {"l": 0}},
        {"l": [False, None, ""]},
    ),
    Row("remove takes null", {"l": [None, 0]}, {"$remove": {"l": None}}, {"l": [0]}),
    Row("remove is case sensitive", {"l": ["a", "A"]}, {"$remove": {"l": "A"}}, {"l": ["a"]}),
    Row(
        "remove matches a list whole",
        {"l": ["a", "b", ["a", "b"]]},
        {"$remove": {"l": ["a", "b"]}},
        {"l": ["a", "b"]},
    ),
    Row(
        "remove matches lists in order", {"l": [[1, 2], [2, 1]]}, {"$remove": {"l": [2, 1]}}, {"l": [[1, 2]]}
    ),
    Row(
        "remove matches objects in any order",
        {"l": [{"x": 1, "y": 2}, 3]},
        {"$remove": {"l": {"y": 2, "x": 1}}},
        {"l": [3]},
    ),
    Row(
        "remove needs the whole object",
        {"l": [{"x": 1, "y": 2}]},
        {"$remove": {"l": {"x": 1}}},
        {"l": [{"x": 1, "y": 2}]},
    ),
    Row("remove compares after cutting", {"l": ["x" * 255]}, {"$remove": {"l": "x" * 300}}, {"l": []}),
    *(
        Row(
            f"remove from a stored {stored!r} does nothing",
            {"l": stored},
            {"$remove": {"l": stored}},
            {"l": stored},
        )
        for stored in each("a", 1, None, False, {"l": "a"})
    ),
]

MERGE_ROWS = [
    Row("merge makes the profile", None, {"$merge": {"o": {"x": 1}}}, {"o": {"x": 1}}),
    Row(
        "merge updates keys",
        {"o": {"x": 1, "y": 2}},
        {"$merge": {"o": {"y": 3, "z": 4}}},
        {"o": {"x": 1, "y": 3, "z": 4}},
    ),
    Row(
        "merge goes one level deep",
        {"o": {"x": {"a": 1}}},
        {"$merge": {"o": {"x": {"b": 2}}}},
        {"o": {"x": {"b": 2}}},
    ),
    Row("merge sets what is absent, whatever it is", {}, {"$merge": {"a": 1, "l": [1]}}, {"a": 1, "l": [1]}),
    Row(
        "merge of a scalar into an object does nothing",
        {"o": {"x": 1}},
        {"$merge": {"o": 5}},
        {"o": {"x": 1}},
    ),
    *(
        Row(
            f"merge into a stored {stored!r} does nothing",
            {"o": stored},
            {"$merge": {"o": {"x": 1}}},
            {"o": stored},
        )
        for stored in each("a", 1, None, True, [], [{"x": 1}])
    ),
]

ORDER_ROWS = [
    Row("delete beats everything", {"a": 1}, {"$set": {"b": 2}, "$delete": ""}, None),
    Row("unset comes before set", {"a": 1}, {"$set": {"a": 2}, "$unset": ["a"]}, {"a": 2}),
    Row("unset comes before set_once", {"a": 1}, {"$set_once": {"a": 2}, "$unset": ["a"]}, {"a": 2}),
    Row("set_once comes before set", {}, {"$set": {"a": 2}, "$set_once": {"a": 1, "b": 1}}, {"a": 2, "b": 1}),
    Row(
        "set comes before merge",
        {},
        {"$merge": {"o": {"y": 2}}, "$set": {"o": {"x": 1}}},
        {"o": {"x": 1, "y": 2}},
    ),
    Row("set comes before add", {"n": 5}, {"$add": {"n": 1}, "$set": {"n": 10}}, {"n": 11}),
    Row("union comes before append", {}, {"$append": {"l": 1}, "$union": {"l": [1, 2]}}, {"l": [1, 2, 1]}),
    Row("append comes before remove", {"l": [1]}, {"$remove": {"l": 1}, "$append": {"l": 1}}, {"l": []}),
    Row("set then remove makes a profile", None, {"$remove": {"l": 1}, "$set": {"l": [1, 2]}}, {"l": [2]}),
    Row("unset with remove makes an empty profile", None, {"$remove": {"l": 1}, "$unset": []}, {}),
]

ROWS = [
    *SET_ROWS,
    *SET_ONCE_ROWS,
    *UNSET_ROWS,
    *DELETE_ROWS,
    *ADD_ROWS,
    *APPEND_ROWS,
    *UNION_ROWS,
    *REMOVE_ROWS,
    *MERGE_ROWS,
    *ORDER_ROWS,
]
