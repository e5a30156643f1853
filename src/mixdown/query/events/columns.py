"""SQL for what a read asks of an event: its properties, reserved ones among them, and how values are called.

Names of properties enter, and what an `EventTable` says of its columns; SQL expressions leave (contract query
§3.3, §5.1). Names come into SQL through the table, which quotes them; nothing else that a caller sent does.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from mixdown.store.duck.columns import in_form

ENDPOINT: Final = "api.mixpanel.com"
"""`$mp_api_endpoint` as Mixpanel's exports have it: what was moved from there and what came here look
alike."""
UNDEFINED_LABEL: Final = "undefined"
TIME: Final = ("time", "$time")
PERSON: Final = ("distinct_id", "$distinct_id")
ARRIVED: Final = ("mp_processing_time_ms", "$mp_api_timestamp_ms")
BEFORE: Final = "$distinct_id_before_identity"
EXPORTED: Final = ("$insert_id", "mp_processing_time_ms", "$mp_api_endpoint", "$mp_api_timestamp_ms")
"""Reserved names that each event of an export has, beside `time` and `distinct_id`."""
SECONDS: Final = "(epoch_ms(time) // 1000)"
PERSON_SQL: Final = "person"
"""The column with the canonical id of an event's person, in the relation that reads use."""


_NO_TEXT: Final = "NULL::VARCHAR"
_NO_NUMBER: Final = "NULL::DOUBLE"


class Columns(Protocol):
    """What a table of events knows of its columns: each is an SQL expression over a row of `events`."""

    @property
    def whole(self) -> str:
        """All stored properties, as the text of a JSON object."""

    def value(self, name: str) -> str:
        """A stored property as JSON; NULL where it is absent."""

    def text(self, name: str) -> str:
        """A stored property that is a text; NULL where it is none."""

    def number(self, name: str) -> str:
        """A stored property that is a number, as a double; NULL where it is none."""


class Source(NamedTuple):
    """A value as SQL: as JSON (NULL: absent), as a text (NULL: it is none), and as a double (likewise)."""

    json: str
    text: str
    number: str


def source_of(value: str) -> Source:
    """The source that a column of JSON is."""
    return Source(value, in_form(value, "text"), in_form(value, "number"))


def property_source(columns: Columns, name: str) -> Source:
    """A property of an event, reserved ones included."""
    value = property_sql(columns, name)
    if name in TIME:
        return Source(value, _NO_TEXT, f"CAST({SECONDS} AS DOUBLE)")
    if name in ARRIVED:
        return Source(value, _NO_TEXT, "CAST(arrived AS DOUBLE)")
    own = {"$event_name": "event", "$insert_id": "insert_id", **dict.fromkeys(PERSON, PERSON_SQL)}.get(name)
    if own is not None:
        return Source(value, own, _NO_NUMBER)
    if name in (BEFORE, "$mp_api_endpoint"):
        return source_of(value)
    return Source(value, columns.text(name), columns.number(name))


def property_sql(columns: Columns, name: str) -> str:
    """A property of an event as JSON, reserved ones included; NULL where it is absent."""
    if name in TIME:
        return f"to_json({SECONDS})"
    if name in PERSON:
        return f"to_json({PERSON_SQL})"
    if name in ARRIVED:
        return "to_json(arrived)"
    if name == BEFORE:
        stored = columns.value(name)
        return f"CASE WHEN {PERSON_SQL} <> distinct_id THEN to_json(distinct_id) ELSE {stored} END"
    fixed = {"$event_name": "to_json(event)", "$insert_id": "to_json(insert_id)"}
    if name == "$mp_api_endpoint":
        return f"""to_json('{ENDPOINT}')"""
    return fixed.get(name) or columns.value(name)


def labels_sql(value: str, *, absent: str = f"'{UNDEFINED_LABEL}'") -> str:
    """The names that a JSON value is counted under, as a list: one for each different element of a list.

    `absent` is SQL for what null, and no value at all, are called; where it is NULL, elements that are null
    count for nothing, and the list may be empty.
    """
    one = label_sql(value, absent)
    each = label_sql("item", absent)
    items = f"list_distinct(list_transform(json_extract({value}, '$[*]'), lambda item: {each}))"
    return (
        f"CASE WHEN {value} IS NULL OR json_type({value}) = 'NULL' THEN [{absent}] "
        f"WHEN json_type({value}) <> 'ARRAY' THEN [{one}] "
        f"WHEN json_array_length({value}) = 0 THEN [{absent}] ELSE {items} END"
    )


def label_sql(value: str, absent: str) -> str:
    """A value as text, as `string()` writes it (contract query §3.4); objects and lists as JSON."""
    return (
        f"CASE json_type({value}) WHEN 'VARCHAR' THEN {value} ->> '$' "
        f"WHEN 'DOUBLE' THEN {_plain_sql(f'CAST(CAST({value} AS DOUBLE) AS VARCHAR)')} "
        f"WHEN 'NULL' THEN {absent} ELSE CAST({value} AS VARCHAR) END"
    )


def _plain_sql(digits: str) -> str:
    """The digits of a double without exponent, and without `.0` where it is whole."""
    mantissa = f"ltrim(split_part({digits}, 'e', 1), '-')"
    exponent = f"TRY_CAST(split_part({digits}, 'e', 2) AS INTEGER)"
    bare = f"replace({mantissa}, '.', '')"
    places = f"length(split_part({mantissa}, '.', 2))"
    sign = f"CASE WHEN starts_with({digits}, '-') THEN '-' ELSE '' END"
    small = f"'0.' || repeat('0', -{exponent} - 1) || {bare}"
    large = f"{bare} || repeat('0', {exponent} - {places})"
    spread = f"{sign} || CASE WHEN {exponent} < 0 THEN {small} ELSE {large} END"
    trimmed = rf"regexp_replace(regexp_replace({digits}, '(\.[0-9]*?)0+$', '\1'), '\.$', '')"
    return (
        f"CASE WHEN {digits} = '-0.0' THEN '0' WHEN contains({digits}, 'e') THEN {spread} ELSE {trimmed} END"
    )
