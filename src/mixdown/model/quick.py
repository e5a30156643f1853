"""The quick way for requests in which every record is plain: text to updates in one typed parse. Pure.

The JSON text of a whole request enters; its `QuickRecord`s leave, or None where anything in it wants a
closer look. Then `updates.read_update` judges it record by record, so nothing is ever refused or changed
here: what this module takes, that one would take, and give the same updates. It must never be the other
way round; a test holds both to the same answers.

One typed decode checks containers, lengths and ranges in C, and payloads stay as they were parsed: a third
of the time of looking at each record in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, field

from mixdown.model.limits import INT_MAX, INT_MIN, NAME_LIMIT_CHARS, Limits
from mixdown.model.operators import LAST_SEEN, Operator
from mixdown.model.payloads import DROPPED_NAMES, is_canonical
from mixdown.model.times import MILLISECONDS_FROM, epoch_ms
from mixdown.model.updates import IGNORE_ALIAS, IGNORE_TIME, Update, is_true, record_key

_ESCAPE: Final = b"\\u"
NUL_ESCAPE: Final = b"\\u0000"
_SECONDS_BELOW: Final = int(MILLISECONDS_FROM)
GROWTH: Final = 8  # a number may be written longer than it came: 1e15 as 1000000000000000.0

_DELETE: Final = int(Operator.DELETE)
_UNSET_NAMES: Final = int(Operator.UNSET)
_SET_ONCE: Final = int(Operator.SET_ONCE)
_SET: Final = int(Operator.SET)
_ADD: Final = int(Operator.ADD)
_UNION: Final = int(Operator.UNION)
_APPEND: Final = int(Operator.APPEND)
_REMOVE: Final = int(Operator.REMOVE)
_IP: Final = "$ip"  # Go's SDK leaves the record's address inside `$set` (contract ingestion §5.1)
_CLEAN: Final = DROPPED_NAMES.isdisjoint
_CLEAN_BUT_SEEN: Final = (DROPPED_NAMES - {LAST_SEEN}).isdisjoint


class QuickRecord(msgspec.Struct, kw_only=True, gc=False):
    """A record whose every part has a type that needs no second look; absent parts are UNSET or None.

    `owner` is the distinct_id or group id, `group_key` "" for users; `_decoder` names them as the wire does.
    """

    token: str = field(name="$token")
    owner: Any = ""
    group_key: str = ""
    delete: Any = field(name="$delete", default=UNSET)
    unset: Any = field(name="$unset", default=UNSET)
    set_once: Any = field(name="$set_once", default=UNSET)
    set: Any = field(name="$set", default=UNSET)
    merge: Any = field(name="$merge", default=UNSET)
    add: Any = field(name="$add", default=UNSET)
    union: Any = field(name="$union", default=UNSET)
    append: Any = field(name="$append", default=UNSET)
    remove: Any = field(name="$remove", default=UNSET)
    time: Any = field(name="$time", default=None)
    ip: Any = field(name="$ip", default=None)
    ignore_time: Any = field(name="$ignore_time", default=None)
    ignore_alias: Any = field(name="$ignore_alias", default=None)
    insert_id: Any = field(name="$insert_id", default=None)
    metadata: Any = field(name="$mp_metadata", default=None)
    lib: Any = field(name="mp_lib", default=None)


Decode = Callable[[bytes], list[QuickRecord]]


def read_quickly(text: bytes, limits: Limits, *, group: bool) -> list[QuickRecord] | None:
    """The records of a request's JSON text, a list or one object; None where it wants a closer look.

    `group` chooses /groups over /engage.
    """
    if NUL_ESCAPE in text:
        return None
    start = text[:1]
    if start == b"{":
        text = b"[%b]" % text
    elif start != b"[":
        return None
    limit_chars = chars_within(text, limits)
    if limit_chars is None:
        return None
    try:
        if len(text) > limits.record_limit_bytes and not _all_small(text, limits.record_limit_bytes):
            return None
        records = _decoder(limit_chars, group=group)(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if start == b"{" and len(records) != 1:  # objects with a comma between them are no JSON
        return None
    return records or None


def chars_within(text: bytes, limits: Limits) -> int | None:
    """How many characters a string of this JSON may have and be within its limit (0: any, None: not one)."""
    limit_chars = limits.string_limit_bytes
    if limit_chars and (not text.isascii() or (b"\\" in text and _ESCAPE in text)):
        limit_chars //= 4  # so many characters have no more bytes than the limit, whatever they are
        return limit_chars or None
    return limit_chars


def plain_values(limit_chars: int, *, any_name: bool) -> Any:
    """The type of an object of plain values whose strings have at most so many characters (0: any).

    With `any_name` its names may be longer than a name may be.
    """
    return _types(limit_chars, any_name=any_name).values


def _all_small(text: bytes, limit_bytes: int) -> bool:
    return max((len(memoryview(each)) for each in _slices(text)), default=0) * GROWTH <= limit_bytes


_slices: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


def quick_updates(records: Sequence[QuickRecord], projects: Mapping[str, int]) -> list[Update] | None:
    """The updates of quick records, in their order; None where one of them wants a closer look.

    `projects` maps tokens to project ids. The rules are those of `updates.read_update`.
    """
    updates: list[Update] = []
    token = ""
    project: int | None = None
    for record in records:
        if record.token != token:
            token = record.token
            project = projects.get(token)
        owner = record.owner
        if type(owner) is not str:
            owner = str(owner)
        if project is None or not owner:
            return None
        flags = 0
        if record.ignore_time is not None and is_true(record.ignore_time):
            flags = IGNORE_TIME
        operations = _operations(record, flags)
        if operations is None:
            return None
        if record.ignore_alias is not None and is_true(record.ignore_alias):
            flags |= IGNORE_ALIAS
        key = None
        if record.insert_id is not None or record.metadata is not None:
            key = record_key(record.insert_id, record.metadata, project, record.group_key, owner)
        time_ms = record.time
        if type(time_ms) is int and 0 < time_ms < _SECONDS_BELOW:
            time_ms *= 1000  # what `epoch_ms` says of nearly every time
        else:
            time_ms = 0 if time_ms is None else epoch_ms(time_ms)
        updates.append(Update(project, record.group_key, owner, operations, time_ms, flags, key))
    return updates


def _operations(record: QuickRecord, flags: int) -> list[tuple[int, Any]] | None:
    """What a record does, in the order of `Operator`; None where it wants a closer look."""
    if record.delete is not UNSET:
        return [(_DELETE, None)] if record.merge is UNSET else None
    found: list[tuple[int, Any]] = []
    if (payload := record.unset) is not UNSET:
        if LAST_SEEN in payload:
            return None
        found.append((_UNSET_NAMES, payload))
    if (payload := record.set_once) is not UNSET:
        found.append((_SET_ONCE, payload))
    if (payload := record.set) is not UNSET:
        found.append((_SET, payload))
    if (payload := record.add) is not UNSET:
        found.append((_ADD, payload))
    if (payload := record.union) is not UNSET:
        found.append((_UNION, payload))
    if (payload := record.append) is not UNSET:
        found.append((_APPEND, payload))
    if (payload := record.remove) is not UNSET:
        found.append((_REMOVE, payload))
    for at, (code, payload) in enumerate(found):
        if not _CLEAN(payload):
            if flags or code == _UNSET_NAMES:  # a `$last_seen` may be meant
                return None
            if code <= _SET and _IP in payload:
                return None
            # exported profiles hold a `$last_seen`, and are sent again as they are
            found[at] = code, {name: value for name, value in payload.items() if name not in DROPPED_NAMES}
    return found if found and record.merge is UNSET else None


_WHOLE: Final[Any] = Annotated[int, Meta(ge=INT_MIN, le=INT_MAX)]


class _Types(msgspec.Struct, frozen=True):
    """The types of plain payloads: names alone, and objects of numbers, of lists, of any values."""

    names: Any
    numbers: Any
    lists: Any
    values: Any


def _types(limit_chars: int, *, any_name: bool = False) -> _Types:
    """Those whose strings have at most so many characters (0: any number)."""
    name: Any = str if any_name else Annotated[str, Meta(max_length=NAME_LIMIT_CHARS)]
    text = Annotated[str, Meta(max_length=limit_chars)] if limit_chars else str
    level: Any = text | _WHOLE | float | bool | None
    for _ in range(3):
        level = text | _WHOLE | float | bool | None | list[level] | dict[name, level]
    return _Types(list[name], dict[name, _WHOLE | float], dict[name, list[level]], dict[name, level])


class _PlainRow(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """`{"$distinct_id": …, "$properties": {…}}`."""

    owner: str
    properties: Any


def row_reader(project: int, group_key: str, operator: Operator) -> Callable[[bytes], Update | None]:
    """A function from a row's JSON text to its update, or None where the row wants a closer look.

    The row is one profile as it is exported, its strings may have any length, and it keeps its own
    `$last_seen`: what `read_update` says of `$set` or `$set_once` (`operator`) with `$ignore_time`.
    """
    shape: Any = msgspec.defstruct(
        "PlainRow",
        [
            ("owner", Annotated[str, Meta(min_length=1)], field(name="$distinct_id")),
            ("properties", _types(0).values, field(name="$properties")),
        ],
        bases=(_PlainRow,),
        gc=False,
    )
    decode: Callable[[bytes], _PlainRow] = msgspec.json.Decoder(shape).decode
    code = int(operator)
    assert code in (_SET, _SET_ONCE)

    def read(text: bytes) -> Update | None:
        if _ESCAPE in text:
            return None
        try:
            row = decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        properties = row.properties
        if not _CLEAN(properties) and (
            not _CLEAN_BUT_SEEN(properties) or not is_canonical(properties[LAST_SEEN])
        ):
            return None
        return Update(project, group_key, row.owner, [(code, properties)], 0, IGNORE_TIME)

    return read


@lru_cache(maxsize=8)
def _decoder(limit_chars: int, *, group: bool) -> Decode:
    """A decoder of plain records whose strings have at most so many characters (0: any number)."""
    types = _types(limit_chars)
    operators = {
        "unset": ("$unset", types.names),
        "set_once": ("$set_once", types.values),
        "set": ("$set", types.values),
        "add": ("$add", types.numbers),
        "union": ("$union", types.lists),
        "append": ("$append", types.values),
        "remove": ("$remove", types.values),
    }
    wire = "$group_id" if group else "$distinct_id"
    fields: list[Any] = [("owner", str | _WHOLE, field(name=wire))]
    if group:
        fields.append(("group_key", Annotated[str, Meta(min_length=1)], field(name="$group_key")))
    else:
        fields.append(("group_key", Literal[""], ""))
    fields += [
        (key, kind | msgspec.UnsetType, field(name=wire, default=UNSET))
        for key, (wire, kind) in operators.items()
    ]
    shape: Any = msgspec.defstruct("PlainRecord", fields, bases=(QuickRecord,), kw_only=True, gc=False)
    return msgspec.json.Decoder(list[shape]).decode
