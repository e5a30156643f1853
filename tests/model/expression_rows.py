"""The truth table of the expression language (contract query §3.8) and strings that clients send (§3.9)."""

from typing import Any

NOW_S = 1_773_187_200
"""2026-03-11T00:00:00Z"""

PROFILES: dict[str, dict[str, Any]] = {
    "A": {
        "plan": "pro",
        "age": 36,
        "active": True,
        "tags": ["red", "blue"],
        "$email": "ada@example.com",
        "$last_seen": "2026-03-10T08:00:00",
        "signup": "2026-01-15T12:00:00",
        "score": "12.5",
        "zip": "02139",
        "debt": 0,
        "nick": None,
        "city": "Paris",
    },
    "B": {
        "plan": "free",
        "age": 17,
        "active": False,
        "tags": [],
        "$email": "bob@corp.io",
        "$last_seen": "2026-02-01T00:00:00",
        "signup": 1767225600,
        "score": "abc",
        "flag": "false",
        "quote": 'say "hi"',
        "city": "paris",
    },
    "C": {
        "plan": "",
        "age": "36",
        "$last_seen": "2026-03-10T08:00:01",
        "signup": 1770000000000,
        "cart": [{"sku": "s-1", "qty": 2}],
        "tags": "red",
    },
}

TABLE: list[tuple[int, str, str]] = [
    (1, 'properties["plan"] == "pro"', "TFF"),
    (2, 'properties["plan"] == "Pro"', "FFF"),
    (4, '(properties["plan"] == "pro" or properties["plan"] == "free")', "TTF"),
    (5, 'properties["plan"] in ["pro","free"]', "TTF"),
    (6, 'properties["missing"] == "x"', "FFF"),
    (7, 'properties["missing"] != "x"', "TTT"),
    (8, 'properties["missing"] == undefined', "TTT"),
    (10, 'properties["age"] == 36', "TFF"),
    (11, 'properties["age"] == "36"', "FFT"),
    (12, 'number(properties["age"]) == 36', "TFT"),
    (14, 'properties["age"] > 18', "TFU"),
    (15, 'properties["age"] > 18 or not properties["age"] > 18', "TTT"),
    (16, 'properties["age"] >= 17 and properties["age"] <= 36', "TTF"),
    (18, 'not properties["age"] > 18', "FTT"),
    (19, 'defined(properties["age"])', "TTT"),
    (20, '(defined (properties["$email"]))', "TTF"),
    (22, 'not defined(properties["nick"])', "TTT"),
    (23, 'defined(properties["plan"])', "TTT"),
    (24, 'properties["active"] == true', "TFF"),
    (25, 'properties["active"] == false', "FTF"),
    (27, 'properties["active"]', "TFU"),
    (28, 'not properties["active"]', "FTT"),
    (29, 'boolean(properties["active"]) == false', "FTT"),
    (30, '(boolean(properties["$email"]) == true)', "TTF"),
    (32, 'boolean(properties["debt"])', "FFF"),
    (33, '"example" in properties["$email"]', "TFU"),
    (34, '(not "example" in properties["$email"])', "FTT"),
    (35, '"" in properties["$email"]', "TTU"),
    (36, 'properties["$email"] in "ada@example.com"', "TFU"),
    (38, '"re" in properties["tags"]', "FFT"),
    (39, '("red" in list(properties["tags"]))', "TFT"),
    (40, 'not "red" in list(properties["tags"])', "FTF"),
    (41, 'properties["tags"] == "red"', "FFT"),
    (42, 'properties["$last_seen"] >= "2026-03-10T08:00:00Z"', "FFT"),
    (44, 'datetime(properties["$last_seen"]) >= datetime("2026-03-10T08:00:00")', "TFT"),
    (
        45,
        (
            'datetime(properties["$last_seen"]) >= datetime(NOW - 604800)'
            ' and datetime(properties["$last_seen"]) < datetime(NOW)'
        ),
        "TFT",
    ),
    (46, '(properties["$last_seen"] > datetime(1773129600000))', "FFT"),
    (47, 'datetime(properties["signup"]) < datetime("2026-01-10T00:00:00")', "FTF"),
    (49, 'datetime(properties["score"]) > datetime(1)', "UUU"),
    (50, 'number(properties["score"]) > 12', "TUU"),
    (51, 'number(properties["score"]) > 12 or true', "TTT"),
    (53, 'properties["score"] > "12"', "TTU"),
    (54, 'properties["age"] + 1 == 37', "TFF"),
    (56, 'properties["age"] / 0 == 1', "FFF"),
    (57, 'properties["age"] / 0 != 1', "TTT"),
    (58, '-properties["age"] < -20', "TFU"),
    (60, 'round(number(properties["score"])) == 13', "TFF"),
    (61, '"ad" + "a@example.com" == properties["$email"]', "TFF"),
    (62, 'properties["quote"] == "say \\"hi\\""', "FTF"),
    (64, 'properties["age"] == 36 and (properties["plan"] == "pro" or properties["plan"] == "free")', "TFF"),
    (65, "1 + 2 * 3 == 7", "TTT"),
    (67, 'user["plan"] == "pro"', "TFF"),
    (68, 'has_prefix(properties["city"], "PA")', "TTU"),
    (69, 'any(X, properties["cart"], X == 1)', "UUF"),
    (71, 'all(X, properties["tags"], X == "blue")', "FTU"),
    (72, 'string(properties["active"]) == "true"', "TFF"),
]
"""(number, expression, its value for A, B and C: true, false or undefined)"""

REFUSED: list[tuple[str, int, str]] = [
    ('properties["plan"] = "pro"', 19, "compare with `==`"),
    ('properties["plan"] == ', 22, "expected a value, found the end"),
    ('properties[plan] == "pro"', 11, "expected a name in quotes"),
    ('plan == "pro"', 0, 'unknown word "plan"'),
]
"""Rows 74 to 77, with position and reason."""

SENT_BY_CLIENTS: list[tuple[str, str]] = [
    ('properties["$last_seen"] >= "2026-03-10T08:00:01"', "FFT"),
    ('properties["$last_seen"] >= "2026-03-10T08:00:00Z"', "FFT"),
    ('properties["$time"]>=datetime(1773129600)', "UUU"),
    ('(defined (properties["$email"]))', "TTF"),
    ('(boolean(properties["$email"]) == true)', "TTF"),
    ('(properties["age"] < 18 or properties["age"] > 65)', "FTF"),
    ('(not defined (properties["nick"]))', "TTT"),
    ('(boolean(properties["active"]) == false)', "FTT"),
    ('("red" in list(properties["tags"]))', "TFT"),
    ('(not "red" in list(properties["tags"]))', "FTF"),
    ('(properties["$last_seen"] > datetime(1773129600000))', "FFT"),
    ('(properties["plan"] == "pro") and properties["age"] > 0 and properties["age"] < 40', "TFF"),
]
"""Forms that real clients send (contract query §3.9)."""
