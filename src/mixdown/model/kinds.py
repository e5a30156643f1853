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
_DATETIME_CHARS: Final = 19
_T_AT: Final = 10


def kind_of(value: Any) -> str:
    """The kind of a JSON value; null is `unknown`, a text that is a date and time `datetime`."""
    if type(value) is not str:
        return _KINDS[type(value)]
    if len(value) >= _DATETIME_CHARS and value[_T_AT] == "T" and _DATETIME.fullmatch(value):
        return DATETIME
    return STRING
