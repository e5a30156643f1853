"""Data that looks like an attack, or like an accident: markup in every field, values no designer thought of.

A token enters; records leave. Each piece of markup names the field that it was sent in: where a page shows
it as anything but text, its script runs (`__ran`) or its element is found (`data-xss`), and the test says
which field it was. No I/O.
"""

from typing import Any, Final

from tests.explorer.pleasant import DAY_S

Record = dict[str, Any]

HOSTILE: Final = "hostile"
"""The id of a user with values of every awkward kind."""
WIDE: Final = "wide"
"""The id of a user with as many properties as one may have."""
WIDE_PROPERTIES: Final = 1_990

LONG: Final = "A sentence that goes on and on, as sentences of people with a keyboard do. " * 134
UNBROKEN: Final = "x" * 2_000
RIGHT_TO_LEFT: Final = "مرحبا بالعالم (v2.0) שלום"
OVERRIDE: Final = "invoice\u202efdp.exe"
COMBINING: Final = "Z̸̡̈́͑a̶͙̓l̵͔̕g̸̱̈́ȍ̷̩ 👩‍👩‍👧‍👦 🇩🇪"


def markup(field: str) -> str:
    """Markup that leaves attributes, titles, scripts and text areas, and tells on itself."""
    return f"""'"></title></script></textarea><img src=x data-xss="{field}" onerror="__ran('{field}')">"""


def address(field: str) -> str:
    """What a link to a value would run."""
    return f"javascript:__ran('{field}')//"


AWKWARD: Final[Record] = {
    "long text": LONG,
    "unbroken": UNBROKEN,
    "right to left": RIGHT_TO_LEFT,
    "override": OVERRIDE,
    "combining": COMBINING,
    "east asian": "東京都渋谷区神宮前一丁目 김민준 王小明",
    "مفتاح": "a name from right to left",
    "": "no name",
    " ": "a blank name",
    "lines": "one\ntwo\r\nthree\t\u2028four",
    "quotes": "\"double\" 'single' `back` \\slash",
    "__proto__": {"polluted": True},
    "constructor": {"prototype": {"polluted": True}},
    "toString": "a text",
    "hasOwnProperty": 1,
    "number": 12_345_678_901_234_567,
    "large": 1.7976931348623157e308,
    "small": -5e-324,
    "zero": -0.0,
    "null": None,
    "true": True,
    "text of true": "true",
    "text of number": "007",
    "date": "2026-02-29T25:61:00",
    "empty list": [],
    "empty object": {},
    "list": [1, "two", None, [3, [4, [5]]], {"six": 6}],
    "many": list(range(500)),
    "deep": {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": "down here"}}}}}}}},
    "template": "{{ 7 * 7 }} {% raw %} ${7 * 7} #{7} <%= 7 %>",
}


def _profile(name: str) -> Record:
    return {
        "$name": markup(f"{name} $name"),
        "$email": markup(f"{name} $email"),
        "$avatar": address(f"{name} $avatar"),
        "$city": markup(f"{name} $city"),
        "$country_code": markup(f"{name} country"),
        "$created": markup(f"{name} $created"),
        "company": [markup("group id"), markup("list")],
        "link": address(f"{name} link"),
        "page": "data:text/html,<script>__ran('data url')</script>",
        markup(f"{name} property"): markup(f"{name} value"),
        "nested": {markup("nested name"): [markup("nested value"), {markup("deep name"): 1}]},
        "htmx": '"><div hx-get="/explorer/sign-out" hx-trigger="load" data-xss="htmx"></div>',
        "style": '"><style data-xss="style">body{display:none}</style>',
        "base": '"><base href="//example.invalid" data-xss="base">',
        "frame": '"><iframe srcdoc="<script>parent.__ran(1)</script>" data-xss="frame"></iframe>',
        "plan": markup("plan"),
    }


def writes(token: str) -> list[tuple[str, list[Record]]]:
    """What is sent to ingestion: (path, records); some are refused, and kept with their markup."""
    said = {"$token": token}
    wide = {f"property {number:04} of very many": number for number in range(WIDE_PROPERTIES)}
    user, group = markup("user id"), markup("group id")
    key = markup("group key")
    transaction = {"$amount": markup("amount"), "$time": markup("transaction time")}
    return [
        ("/engage", [{**said, "$distinct_id": HOSTILE, "$set": {**AWKWARD, "$name": COMBINING}}]),
        ("/engage", [{**said, "$distinct_id": WIDE, "$set": {"$name": "Wide Widdershins", **wide}}]),
        ("/engage", [{**said, "$distinct_id": user, "$set": _profile("user")}]),
        ("/engage", [{**said, "$distinct_id": user, "$append": {"$transactions": transaction}}]),
        ("/engage", [{**said, "$distinct_id": user, "$set": {"plan": markup("plan later")}}]),
        ("/engage", [{**said, "$distinct_id": user, "$unset": ["frame"]}]),
        ("/groups", [{**said, "$group_key": key, "$group_id": group, "$set": _profile("group")}]),
        ("/groups", [{**said, "$group_key": "company", "$group_id": group, "$set": _profile("company")}]),
        ("/engage", [{**said, "$set": {markup("refused property"): markup("refused value")}}]),
        ("/engage", [{**said, "$distinct_id": user, "$set": markup("refused operator")}]),
        ("/engage?strict=1", [{**said, "$distinct_id": user, "$add": {markup("refused field"): "one"}}]),
        ("/engage", [{"$token": markup("token"), "$distinct_id": user, "$set": {"a": 1}}]),
        ("/engage", [{**said, "$distinct_id": user, markup("operator"): {"a": 1}}]),
        ("/track", [{"event": "", "properties": {"token": token, markup("event property"): markup("x")}}]),
    ]


BROKEN_BODY: Final = f"data=<script>__ran('body')</script>{markup('body')}"
USER_AGENT: Final = "<img/src=x data-xss=agent onerror=__ran('agent')>"


def events(now_s: int) -> list[Record]:
    """Events for `/import`."""
    user, name = markup("user id"), markup("event name")
    own = {
        markup("event property"): markup("event value"),
        "link": address("event link"),
        "plan": markup("plan"),
    }
    more = {"$city": markup("event city"), "$os": markup("os"), "$browser": markup("browser")}
    made = [
        {
            "event": name,
            "properties": {
                **own,
                **more,
                "distinct_id": user,
                "$insert_id": f"hostile-{number}",
                "time": now_s - 60 - number * DAY_S // 2,
                markup("group key"): markup("group id"),
            },
        }
        for number in range(12)
    ]
    odd = (RIGHT_TO_LEFT, OVERRIDE, COMBINING, UNBROKEN[:200], "__proto__", "constructor")
    for number, text in enumerate(odd):
        ids = {"distinct_id": HOSTILE, "$insert_id": f"odd-{number}"}
        made.append({"event": text, "properties": {**AWKWARD, **ids, "time": now_s - 90 - number}})
    linked = {"$device_id": markup("device"), "$user_id": user, "$insert_id": "linked", "time": now_s - 300}
    made.append({"event": "Signed in", "properties": linked})
    return made


COHORTS: Final = (
    (markup("cohort name"), f'properties["plan"] == {chr(34)}<img data-xss=cohort>{chr(34)}'),
    (RIGHT_TO_LEFT, 'properties["number"] > 1'),
)


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


_CELLS: Final = (
    f"{_cell(markup('key column'))},{_cell(markup('column'))}\n"
    f"{_cell(markup('key cell'))},{_cell(markup('cell'))}\n"
    f"plain,{_cell(address('cell'))}\n"
)
LOOKUP_TABLES: Final = ((markup("table name"), _CELLS),)
