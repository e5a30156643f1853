"""An event as a line of the raw export (contract query §4): SQL that makes it, and the bytes that leave.

Columns of a table enter; lines of ASCII leave: clients that guess an encoding, or split at U+2028, read them
whole. A property that has the name of a reserved one never stands twice in a line.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from typing import Any, Final

import orjson

from mixdown.query.events.columns import BEFORE, ENDPOINT, PERSON_SQL, SECONDS, Columns

_ERRORS: Final = "mixdown.events.json"
_SUSPECT: Final = ('mp_processing_time_ms"', '"$mp_api_', '"$distinct_id_before_identity"')
"""What a stored text holds if it has a reserved name; `time` and those of ids are no properties once
stored."""
_PAIR_FROM: Final = 0x10000


def line_sql(columns: Columns, *, time_in_ms: bool = False, both_ids: bool = False) -> tuple[str, str]:
    """SQL for an event's line as text, and for whether `mended` must look at it first.

    With `both_ids` the canonical id stands under `$distinct_id` as well (contract query §5.1,
    `stream/query`).
    """
    person = f"CAST(to_json({PERSON_SQL}) AS VARCHAR)"
    again = f"""',"$distinct_id":' || {person} || """ if both_ids else ""
    suspect = (*_SUSPECT, '"$distinct_id"') if both_ids else _SUSPECT
    time = "epoch_ms(time)" if time_in_ms else SECONDS
    whole = columns.whole
    before = (
        f"CASE WHEN {PERSON_SQL} <> distinct_id "
        f"""THEN ',"{BEFORE}":' || CAST(to_json(distinct_id) AS VARCHAR) ELSE '' END"""
    )
    line = (
        """'{"event":' || CAST(to_json(event) AS VARCHAR) || """
        f"""',"properties":{{"time":' || {time} || """
        f"""',"distinct_id":' || {person} || {again}{before} || """
        """',"$insert_id":' || CAST(to_json(insert_id) AS VARCHAR) || """
        """',"mp_processing_time_ms":' || arrived || """
        f"""',"$mp_api_endpoint":"{ENDPOINT}","$mp_api_timestamp_ms":' || arrived || """
        f"CASE WHEN {whole} = '{{}}' THEN '}}}}' ELSE ',' || substr({whole}, 2) || '}}' END"
    )
    return line, " OR ".join(f"contains({whole}, '{part}')" for part in suspect)


def mended(line: str) -> str:
    """A line whose stored properties may have reserved names: of two of a name the first, ours, stays."""
    return orjson.dumps(json.loads(line, object_pairs_hook=_first_of_each)).decode()


def _first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs)) if len({name for name, _ in pairs}) < len(pairs) else dict(pairs)


def ascii_lines(lines: Sequence[str]) -> bytes:
    """Lines as bytes, each with its end; what is not ASCII is escaped as JSON does. No lines are no bytes."""
    return ("\n".join(lines) + "\n").encode("ascii", _ERRORS) if lines else b""


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    found = []
    for character in error.object[error.start : error.end]:
        code = ord(character)
        if code >= _PAIR_FROM:
            code -= _PAIR_FROM
            found.append(f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}")
        else:
            found.append(f"\\u{code:04x}")
    return "".join(found), error.end


codecs.register_error(_ERRORS, _escaped)
