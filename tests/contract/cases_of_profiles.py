"""Cases of contract ingestion §11 about profiles: operators, `$last_seen`, groups, geolocation.

A number is that of the case, or of the case in whose place a rule of the contract is tried.
"""

from __future__ import annotations

import json
from typing import Any

from tests.contract.geo import BERLIN, LONDON, OTHER_IP
from tests.contract.support import (
    A1,
    ACME_A1,
    FORM,
    SET,
    V0,
    V1,
    Case,
    G,
    R,
    Sent,
    engage,
    groups,
    strict_reply,
)

GIVEN_A1 = [R(SET)]
DELETIONS: tuple[Any, ...] = ("", None, "null", {}, "u1", False)
ABSENT: dict[str, Any] = {}

SET_AND_DELETE = [
    Case(
        "55",
        engage({"$set": {"o": {"x": 9}}}),
        {"u1": {"a": 1, "o": {"x": 9}}},
        given=[R({"$set": {"a": 1, "o": {"x": 1, "y": 2}}})],
    ),
    Case("56", engage({"$set": {"a": None}}), {"u1": {"a": None}}),
    Case("57", engage({"$set": {"a": "ä" * 200}}), {"u1": {"a": "ä" * 127}}),
    Case("58", engage({"$set_once": {"a": 1}}), A1),
    Case("59", engage({"$set_once": {"a": 2, "b": 3}}), {"u1": {"a": 1, "b": 3}}, given=GIVEN_A1),
    Case(
        "60",
        engage({"$set_once": {"a": 1}}),
        {"u1": {"a": None}},
        given=[R({"$set": {"a": None}})],
    ),
    Case("61", engage({"$unset": ["a", "zzz"]}), {"u1": {"b": 2}}, given=[R({"$set": {"a": 1, "b": 2}})]),
    Case("62: a string", engage({"$unset": "a"}), {"u1": {}}, given=GIVEN_A1),
    Case("63", engage({"$unset": []}), A1, given=GIVEN_A1),
    Case("64", engage({"$unset": ["a"]}), {"u1": {}}),
    *(Case(f"65: {value!r}", engage({"$delete": value}), ABSENT, given=GIVEN_A1) for value in DELETIONS),
    Case("66", engage({"$delete": ""}), ABSENT),
    Case("67", engage({"$delete": ""}, {"$set": {"b": 2}}), {"u1": {"b": 2}}, given=GIVEN_A1),
    Case("68", engage({"$set": {"b": 2}}, {"$delete": ""}), ABSENT, given=GIVEN_A1),
    Case(
        "72",
        engage({"$append": {"l": 3}, "$set": {"n": 1, "l": [1]}, "$add": {"n": 2}, "$unset": ["x"]}),
        {"u1": {"n": 3, "l": [1, 3]}},
        given=[R({"$set": {"x": 1}})],
    ),
    Case(
        "72: strict",
        engage(
            {"$set": {"a": 2}, "$add": {"n": 2}},
            query="?strict=1",
            reply=strict_reply(0, (0, "", "only one operation is allowed per update")),
        ),
        A1,
        given=GIVEN_A1,
    ),
    Case("72: delete wins", engage({"$set": {"b": 1}, "$delete": None}), ABSENT, given=GIVEN_A1),
]

NUMBER = [R({"$set": {"n": 1}})]

ADD = [
    Case("73", engage({"$add": {"n": 12}}), {"u1": {"n": 12}}),
    Case("74", engage({"$add": {"n": -7}}), {"u1": {"n": -2}}, given=[R({"$set": {"n": 5}})]),
    Case("75", engage({"$add": {"n": 0.5}}), {"u1": {"n": 1.5}}, given=NUMBER),
    Case("76", engage({"$add": {"n": 1}}), {"u1": {"n": "5"}}, given=[R({"$set": {"n": "5"}})]),
    Case("78", engage({"$add": {"n": "2"}}), {"u1": {"n": 3}}, given=NUMBER),
    Case(
        "79",
        engage(
            {"$add": {"n": "2"}},
            query="?strict=1",
            reply=strict_reply(0, (0, "$add.n", "$add.n, must be a number")),
        ),
        {"u1": {"n": 1}},
        given=NUMBER,
    ),
    Case("77", engage({"$add": {"n": True, "m": 1}}), {"u1": {"n": 1, "m": 1}}, given=NUMBER),
    Case("80", engage(*[{"$add": {"n": 1}}] * 3), {"u1": {"n": 4}}, given=NUMBER),
]

LIST_A = [R({"$set": {"l": ["a"]}})]
LIST_X = [R({"$set": {"l": ["x"]}})]
TEXT_A = [R({"$set": {"l": "a"}})]
NUMBERS = [R({"$set": {"l": [1, True, "1"]}})]
CHARGE = {"$amount": 9.5, "$time": "2026-01-15T12:00:00"}
NOT_A_LIST = "$union.l, must be a list of strings or numbers"

LISTS = [
    Case("81", engage({"$append": {"l": "x"}}), {"u1": {"l": ["x"]}}),
    Case("82", engage({"$append": {"l": "x"}}), {"u1": {"l": ["x", "x"]}}, given=LIST_X),
    Case("83", engage({"$append": {"l": ["y", "z"]}}), {"u1": {"l": ["x", ["y", "z"]]}}, given=LIST_X),
    Case("84", engage({"$append": {"l": "y"}}), {"u1": {"l": "a"}}, given=TEXT_A),
    Case("85", engage({"$append": {"$transactions": CHARGE}}), {"u1": {"$transactions": [CHARGE]}}),
    Case("86", engage({"$union": {"l": ["a", "a", "b"]}}), {"u1": {"l": ["a", "b"]}}),
    Case("88", engage({"$union": {"l": "b"}}), {"u1": {"l": ["a", "b"]}}, given=LIST_A),
    Case(
        "89",
        engage(
            {"$union": {"l": "b"}},
            query="?strict=1",
            reply=strict_reply(0, (0, "$union.l", NOT_A_LIST)),
        ),
        {"u1": {"l": ["a"]}},
        given=LIST_A,
    ),
    Case("90", engage({"$union": {"l": ["b"]}}), {"u1": {"l": "a"}}, given=TEXT_A),
    Case(
        "91",
        engage({"$union": {"l": [1.0, True, "1", False, 2]}}),
        {"u1": {"l": [1, True, "1", False, 2]}},
        given=NUMBERS,
    ),
    Case(
        "92",
        engage({"$union": {"l": [{"b": 2, "a": 1}, {"a": 1, "b": 2}, [1, 2], [2, 1]]}}),
        {"u1": {"l": [{"b": 2, "a": 1}, [1, 2], [2, 1]]}},
    ),
    Case(
        "93",
        engage({"$remove": {"l": "a"}}),
        {"u1": {"l": ["b"]}},
        given=[R({"$set": {"l": ["a", "b", "a"]}})],
    ),
    Case("94", engage({"$remove": {"l": "a"}}), {"u1": {"l": []}}, given=LIST_A),
    Case("95", engage({"$remove": {"l": "zzz"}}), {"u1": {"l": ["a"]}}, given=LIST_A),
    Case("96", engage({"$remove": {"l": "a"}}), {"u1": {"l": "a"}}, given=TEXT_A),
    Case(
        "97",
        engage({"$remove": {"l": ["a", "b"]}}),
        {"u1": {"l": ["a", "b"]}},
        given=[R({"$set": {"l": ["a", "b", ["a", "b"]]}})],
    ),
    Case("98", engage({"$remove": {"l": 1.0}}), {"u1": {"l": [True, "1"]}}, given=NUMBERS),
    Case("99", engage({"$remove": {"l": "a"}}), ABSENT),
]

NOON = 1_768_392_000
IGNORED = {"$set": {"$last_seen": "2020-02-29T01:02:03Z"}, "$ignore_time": True}

LAST_SEEN = [
    Case("100", engage(SET), A1),
    Case("102: seconds", engage({**SET, "$time": NOON}), A1, last_seen="2026-01-14T12:00:00"),
    Case("102: milliseconds", engage({**SET, "$time": NOON * 1000}), A1, last_seen="2026-01-14T12:00:00"),
    Case("102: a time in the future", engage({**SET, "$time": 4_000_000_000}), A1),
    Case("103: given under $ignore_time", engage(IGNORED), {"u1": {}}, last_seen="2020-02-29T01:02:03"),
    Case("103: given without", engage({"$set": {"$last_seen": "2020-02-29T01:02:03"}}), {"u1": {}}),
    Case(
        "103: $ignore_time keeps what is stored",
        engage({**SET, "$ignore_time": True}),
        A1,
        given=[R({"$set": {}, "$time": NOON})],
        last_seen="2026-01-14T12:00:00",
    ),
    Case(
        '103: "false" is off',
        engage({**SET, "$ignore_time": "false", "$time": NOON}),
        A1,
        given=GIVEN_A1,
        last_seen="2026-01-14T12:00:00",
    ),
]

GIVEN_GROUP = [G(SET)]
GROUPS = [
    Case("104", groups(SET), groups=ACME_A1),
    Case("105", Sent("/groups/?verbose=1", [G(SET)], V1), groups=ACME_A1),
    Case(
        "106: group id",
        Sent(
            "/groups?verbose=1",
            [{"$token": "TOK", "$group_key": "Company", **SET}],
            V0("$group_id, missing or empty"),
        ),
    ),
    Case(
        "106: group key",
        Sent(
            "/groups?verbose=1",
            [{"$token": "TOK", "$group_id": "Acme", **SET}],
            V0("$group_key, missing or empty"),
        ),
    ),
    Case(
        "107: ids that are no text",
        Sent("/groups", [G(SET, 77), G(SET, True), G(SET, False)]),
        groups={"77": {"a": 1}, "true": {"a": 1}, "false": {"a": 1}},
    ),
    Case("108", groups({"$add": {"n": 2}}), groups={"Acme": {"n": 3}}, given=[G({"$set": {"n": 1}})]),
    Case(
        "109",
        groups({"$append": {"l": 1}}, query="?verbose=1", reply=V1),
        groups={"Acme": {"l": [1]}},
    ),
    Case(
        "110",
        [groups({"$union": {"l": ["a"]}}), groups({"$remove": {"l": "a"}})],
        groups={"Acme": {"l": []}},
    ),
    Case("111", groups({"$delete": "null"}), given=GIVEN_GROUP),
    Case("112", groups({**SET, "$distinct_id": "u1"}), groups=ACME_A1),
    Case(
        "112: strict",
        groups(
            {**SET, "$distinct_id": "u1"},
            query="?strict=1",
            reply=strict_reply(0, (0, "$distinct_id", "$distinct_id, must not be present")),
        ),
    ),
    Case(
        "113",
        [Sent("/engage", [R(SET)]), Sent("/groups", [G({"$set": {"b": 2}}, "u1")])],
        A1,
        {"u1": {"b": 2}},
    ),
]

IP_OFF = b"ip=0&data=" + json.dumps([R(SET)]).encode()
AT_LONDON = {"$ip": OTHER_IP}
BERLIN_A1 = {"u1": {"a": 1, **BERLIN}}
LONDON_A1 = {"u1": {"a": 1, **LONDON}}

GEO = [
    Case("114", Sent("/engage?ip=1", [R(SET)], geo=True), BERLIN_A1),
    Case("115", Sent("/engage", [R(SET)], geo=True), BERLIN_A1),
    Case("115: off", Sent("/engage?ip=0", [R(SET)], geo=True), A1),
    Case("115: off in the form", Sent("/engage", IP_OFF, content_type=FORM, geo=True), A1),
    Case("116", Sent("/engage?ip=0", [R({**SET, **AT_LONDON})], geo=True), LONDON_A1),
    *(
        Case(f"117: $ip {off!r}", Sent("/engage?ip=1", [R({**SET, "$ip": off})], geo=True), A1)
        for off in ("0", 0, "", "nowhere")
    ),
    Case(
        "117: $ip inside $set",
        Sent("/engage?ip=1", [R({"$set": {"a": 1, "$ip": OTHER_IP}})], geo=True),
        LONDON_A1,
    ),
    Case(
        "118",
        Sent("/engage?ip=1", [R({"$set": {"$city": "Rome"}})], geo=True),
        {"u1": {**BERLIN, "$city": "Rome"}},
    ),
    Case(
        "119: $set overwrites an earlier place",
        Sent("/engage?ip=1", [R({**SET, **AT_LONDON})], geo=True),
        LONDON_A1,
        given=[R({"$set": {**BERLIN}})],
    ),
    Case(
        "119: other operators leave it alone",
        Sent("/engage?ip=1", [R({"$add": {"n": 1}, **AT_LONDON})], geo=True),
        {"u1": {"n": 1}},
    ),
    Case(
        "120: trusted",
        Sent("/engage?ip=1", [R(SET)], headers={"X-Forwarded-For": OTHER_IP}, geo=True),
        LONDON_A1,
    ),
    Case(
        "120: groups ask for it",
        Sent("/groups?ip=1", [G(SET)], geo=True),
        groups={"Acme": {"a": 1, **BERLIN}},
    ),
    Case("120: groups get none by default", Sent("/groups", [G(SET)], geo=True), groups=ACME_A1),
]


CASES = [*SET_AND_DELETE, *ADD, *LISTS, *LAST_SEEN, *GROUPS, *GEO]
