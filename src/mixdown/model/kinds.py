"""What kind of value a property holds, in the words of `engage/properties` (contract query §2.5). Pure.

A value as `orjson` reads it enters; one of seven words leaves. Clients know these words alone: any other
stops them.
"""

from __future__ import annotations

import re
from typing import Any, Final

STRING: Final = "string"
DATETIME: Final = "datetime"
UNKNOWN: Final = "unknown"
_KINDS: Final = {
    int: "number",
    float: "number",
    bool: "boolean",
    dict: "object",
    list: "list",
    type(None): UNKNOWN,
}
KINDS: Final = frozenset({STRING, DATETIME, *_KINDS.values()})
# ISO 8601 to the second, as SDKs send dates: with or without fraction and zone.
_DATETIME: Final = re.compile(
    r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d"
    r"(\.\d{1,9})?(Z|[+-]\d\d:?\d\d)?",
    re.ASCII,
)
DATETIME_CHARS: Final = 19
DATETIME_T_AT: Final = 10
"""No text is a date that is shorter, or has no `T` there: a quick look for whoever has many."""


def kind_of(value: Any) -> str:
    """The kind of a JSON value; null is `unknown`, a text that is a date and time `datetime`."""
    kind = _KINDS.get(type(value))
    if kind is not None:
        return kind
    if len(value) >= DATETIME_CHARS and value[DATETIME_T_AT] == "T" and _DATETIME.fullmatch(value):
        return DATETIME
    return STRING


def kind_of_type(kind: type) -> str:
    """The kind of the values of a type; of texts, that of those that are no dates."""
    return _KINDS.get(kind, STRING)
