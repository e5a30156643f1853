"""What must hold for any input: one check for each way in, which raises where it does not.

An input enters as bytes or as a request; nothing leaves. Only the errors that a part declares may come out of
it; anything else, a broken promise included, is a finding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from mixdown.http import events, events_activity, events_export, own
from mixdown.http.auth import authenticate
from mixdown.http.body import Decoded, decode
from mixdown.http.client_ip import client_ip
from mixdown.http.cookies import verify
from mixdown.http.engage import profile_query
from mixdown.http.events_export import export_query
from mixdown.http.forms import Params, form_fields
from mixdown.http.ingestion import sdk_name, token_in
from mixdown.http.jsontext import parse_json
from mixdown.http.metrics import reason_of
from mixdown.http.parameters import Parameters, _merged
from mixdown.http.paths import canonical_path
from mixdown.http.reading import Read, project_id_of
from mixdown.http.reply import callback_name
from mixdown.http.sql import sql_query
from mixdown.ingest.geo import valid_ip
from mixdown.ingest.pipeline import rules_of
from mixdown.ingest.prepare import Prepared, Submission, prepare
from mixdown.model import texts
from mixdown.model.errors import AuthError, BodyError, QueryError
from mixdown.model.expression import no_tables
from mixdown.model.limits import INT_MAX, INT_MIN, NAME_LIMIT_CHARS, Limits
from mixdown.model.operators import Crowd, Operator, apply_operations
from mixdown.model.payloads import NAME_OF, Reading
from mixdown.model.quick import QuickRecord, quick_updates, read_quickly
from mixdown.model.updates import Refusal, Unreadable, Update, read_update, record_text
from mixdown.query.events.jql import selectors_of
from mixdown.query.events.reader import EventReads
from mixdown.settings import Settings
from mixdown.store.catalog_cache import CatalogCache
from mixdown.store.chunk import (
    Segment,
    decode_body,
    decode_whole,
    encode_segment,
    join_segments,
)
from mixdown.store.memory import MemoryStore
from mixdown.store.privacy import filter_meets, hashes_of
from mixdown.store.protocols import Project
from tests.hostile.seeds import TOKEN, Sent

LIMITS: Final = Limits()
OTHER: Final = "other"
PROJECT: Final = 7
SEEN: Final = "2026-01-02T03:04:05"
GOOD_TEXT: Final = b'{"$token":"%b","$distinct_id":"good","$set":{"a":1}}' % TOKEN
GOOD: Final = orjson.loads(GOOD_TEXT)
GOOD_GROUP_TEXT: Final = b'{"$token":"%b","$group_key":"k","$group_id":"good","$set":{"a":1}}' % TOKEN
GOOD_GROUP: Final = orjson.loads(GOOD_GROUP_TEXT)
EVENTS_AT_MS: Final = 1_795_400_000_000
"""A little after the requests that were recorded."""
PROJECTS: Final = {TOKEN.decode(): PROJECT}
_READINGS: Final = tuple(
    Reading(projects=PROJECTS, group=group, strict=strict, hostile=hostile)
    for group in (False, True)
    for strict in (False, True)
    for hostile in (False, True)
)
_DOCUMENT_LIMIT_BYTES: Final = 3000
_NETWORKS: Final = Settings(trusted_proxies="10.0.0.0/8,::1").trusted_networks()
_encode: Final = msgspec.json.encode
_PROJECT: Final = Project(PROJECT, "fuzz", TOKEN.decode(), b"f" * 32)
_RULES: Final = rules_of(Settings())


class BrokenPromiseError(AssertionError):
    """An input did what no input may do."""


def promise(held: object, what: str) -> None:
    """Raise unless `held`."""
    if not held:
        raise BrokenPromiseError(what)


# --- bodies


def check_body(sent: Sent) -> None:
    """A body becomes records, a problem or a `BodyError`; a record survives being written down and read."""
    check_events(sent)
    endpoint = "groups" if len(sent.body) % 4 == 0 else "engage"
    try:
        decoded = decode(**sent._asdict(), limits=LIMITS, quick_for=endpoint)
    except BodyError as error:
        promise(error.status in (400, 413), "a body error has the status 400 or 413")
        promise(reason_of(error.message) != OTHER, "a body error has a text of the table")
        return
    if decoded.quick is not None:
        assert decoded.reread is not None
        quick, decoded = decoded.quick, decoded.reread()
        _check_quick(quick, decoded, group=endpoint == "groups")
    promise(bool(decoded.records) == (not decoded.problem), "either records or a problem")
    promise(decoded.problem in ("", texts.DATA_MISSING, texts.DATA_INVALID), "a problem of the table")
    for record in decoded.records[:4]:
        _check_written_down(record)
    sdk = sdk_name(decoded.first("mp_lib"), decoded.params, b"fuzz/1")
    sdk.encode()
    promise(len(sdk) <= 64, "the name of an SDK is short")


def check_events(sent: Sent) -> None:
    """A body of events is judged alike on both ways, and the log gives back what was judged."""
    endpoint = ("track", "import")[len(sent.body) % 2]
    try:
        decoded = decode(**sent._asdict(), limits=LIMITS, quick_for=endpoint)
    except BodyError:
        return
    if decoded.problem:
        return
    found = [_prepared(endpoint, decoded)]
    if decoded.reread is not None:
        found.append(_prepared(endpoint, decoded.reread()))
    outcomes = [repr(prepared.outcome) for prepared in found]
    promise(outcomes[0] == outcomes[-1], "both ways judge alike")
    for _, field, message in found[0].outcome.failed:
        field.encode()
        promise(reason_of(message) != OTHER, "a refusal has a text of the table")
    written = [_written(prepared) for prepared in found]
    promise(written[0] == written[-1], "both ways store the same")


def _prepared(endpoint: str, decoded: Decoded) -> Prepared:
    reread = decoded.reread

    def again() -> tuple[list[Any], bool]:
        assert reread is not None
        long = reread()
        return long.records, long.hostile

    submission = Submission(
        endpoint,
        decoded.records,
        strict=decoded.params.strict,
        hostile=decoded.hostile,
        ip_flag=False,
        quick_events=decoded.quick_events,
        reread=again,
        now_ms=EVENTS_AT_MS,
        fresh="fuzz",
        project=PROJECT if endpoint == "import" else 0,
        body_bytes=len(decoded.text),
    )
    return prepare(submission, PROJECTS, _RULES, None, {PROJECT: _PROJECT})


def _written(prepared: Prepared) -> str:
    """What the log gives back of a request's events and links."""
    append = prepared.append
    if append is None or not append.count:
        return ""
    append.segment.decode()
    [segment] = decode_whole(join_segments([append.segment]))
    promise(segment.event_count == append.count == len(segment.events), "the log counts events")
    ids = segment.ids()
    promise(
        all(filter_meets(append.id_filter, hashes_of([each])) for each in ids), "the filter holds every id"
    )
    events = [(number, orjson.loads(bytes(raw))) for number, raw in segment.events]
    promise(not any("\0" in text for text in _texts([event for _, event in events])), "no NUL is stored")
    return repr((events, segment.links))


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value, names included."""
    if type(value) is str:
        yield value
    elif type(value) is list:
        for each in value:
            yield from _texts(each)
    elif type(value) is dict:
        yield from value
        yield from _texts(list(value.values()))


def _check_quick(quick: list[QuickRecord], decoded: Decoded, *, group: bool) -> None:
    """What the quick way takes, the long way takes, and gives the same updates."""
    promise(not decoded.problem, "what is read quickly is no problem")
    updates = quick_updates(quick, PROJECTS)
    if updates is None:
        return
    reading = _READINGS[4 * group + decoded.hostile]
    judged = [read_update(raw, at, reading) for at, raw in enumerate(decoded.records)]
    promise(len(judged) == len(updates), "both ways find as many records")
    promise(repr(judged) == repr(updates), "both ways give the same updates")
    # what reaches the log is text: it must be one that the fold reads back as the same
    segment = encode_segment(Segment("engage", "fuzz", None, None, updates))
    logged = decode_body(join_segments([segment]))[0].updates
    read = [[(code, orjson.loads(memoryview(raw))) for code, raw in update.operations] for update in logged]
    promise(repr(read) == repr([update.operations for update in updates]), "the log gives back payloads")


def _check_written_down(record: object) -> None:
    if type(record) is Unreadable:
        promise(reason_of(record.message) != OTHER, "an unreadable element says why")
        return
    text, whole = record_text(record, 1 << 30)
    promise(whole, "a record without a limit is kept whole")
    again = parse_json(text.encode()).value
    with contextlib.suppress(RecursionError):  # of repr, which is not what is tested
        promise(repr(again) == repr(record), "a record reads as it was written down")


# --- records


class RecordCheck:
    """Judges, stores and folds records; `document` is the profile that they build up."""

    def __init__(self) -> None:
        self.document = b"{}"
        self.accepted: list[tuple[bytes, bool]] = []
        self.keep = 0

    def __call__(self, text: bytes, variant: int) -> None:
        """`variant` chooses /groups, strict, and how the text's neighbours stand."""
        good_text, good = (GOOD_GROUP_TEXT, GOOD_GROUP) if variant & 1 else (GOOD_TEXT, GOOD)
        batch = b"[%b,%b,%b]" % (good_text, text, good_text)
        parsed = parse_json(batch, strict=bool(variant & 2))
        values = parsed.value
        promise(len(values) == 3, "a record keeps its neighbours")
        promise(values[0] == good == values[2], "a record leaves its neighbours as they are")
        group = bool(variant & 1)
        reading = _READINGS[4 * group + (variant & 2) + parsed.hostile]
        if not variant & 2:
            quick = read_quickly(batch, LIMITS, group=group)
            if quick is not None:
                decoded = Decoded(values, Params(), "", hostile=parsed.hostile, text=batch)
                _check_quick(quick, decoded, group=group)
        result = read_update(values[1], 1, reading)
        if type(result) is Refusal:
            promise(reason_of(result.message) != OTHER, "a refusal has a text of the table")
            result.field.encode()
            _check_written_down(values[1])
            return
        promise(type(result) is Update, "an update or a refusal")
        assert isinstance(result, Update)
        promise(not reading.group or result.group_key, "a group's record has a group key")
        self._check_stored(result, reading)
        if len(self.accepted) < self.keep:
            self.accepted.append((text, reading.group))

    def _check_stored(self, update: Update, reading: Reading) -> None:
        segment = encode_segment(Segment("engage", "fuzz", None, None, [update]))
        promise(b"\\u0000" not in segment, "no NUL is stored")
        segment.decode()  # valid UTF-8
        logged = decode_body(join_segments([segment]))[0].updates[0]
        promise((logged.id, logged.key) == (update.id, update.key), "the log gives back ids and keys")
        operations = [(code, orjson.loads(memoryview(raw))) for code, raw in logged.operations]
        promise(operations == update.operations, "the log gives back payloads")
        for code, payload in operations:
            if code != Operator.DELETE:
                _check_storable(payload)
        self._check_read_again(update, operations, reading)
        self._fold(operations)

    @staticmethod
    def _check_read_again(update: Update, operations: list[tuple[int, Any]], reading: Reading) -> None:
        """A record made of what was stored, as a refusal is sent again, is stored as the same."""
        raw: dict[str, Any] = {NAME_OF[code]: payload for code, payload in operations}
        raw |= {"$token": TOKEN.decode(), "$ignore_time": bool(update.flags & 1)}
        if reading.group:
            raw |= {"$group_key": update.group_key, "$group_id": update.id}
        else:
            raw["$distinct_id"] = update.id
        again = read_update(raw, 0, _READINGS[4 * reading.group + 1])
        assert isinstance(again, Update), again
        promise(again.operations == operations, "what was stored is stored again as it is")

    def _fold(self, operations: list[tuple[int, Any]]) -> None:
        """A crowded profile and a small one end up as the same document, and it can be read back."""
        folded = [
            apply_operations(
                orjson.loads(self.document), operations, geo=None, seen=SEEN, arrival=SEEN, crowd=crowd
            )
            for crowd in (None, Crowd())
        ]
        small, crowded = map(_encode, folded)
        if len(small) < _DOCUMENT_LIMIT_BYTES:
            promise(small == crowded, "limits that are not met change nothing")
        promise(_encode(orjson.loads(small)) == small, "a document reads as it was written")
        self.document = small if len(small) < _DOCUMENT_LIMIT_BYTES and folded[0] is not None else b"{}"


def _check_storable(value: Any) -> None:
    kind = type(value)
    if kind is dict:
        for name, item in value.items():
            promise(len(name) <= NAME_LIMIT_CHARS, "names are cut")
            _check_storable(item)
    elif kind is list:
        for item in value:
            _check_storable(item)
    elif kind is int:
        promise(INT_MIN <= value <= INT_MAX, "integers have 64 bits")
    elif kind is float:
        promise(value - value == 0, "doubles are finite")


# --- reads


def check_parameters(sent: Sent) -> None:
    """The parameters of a read are decoded, or answered with 400 or 413 by name."""
    try:
        merged = _merged(
            sent.query,
            sent.body,
            sent.content_type.decode("latin-1").lower(),
            sent.content_encoding.decode("latin-1"),
            LIMITS.body_limit_bytes,
        )
    except (QueryError, BodyError) as error:
        promise(error.status in (400, 413), "a read that cannot be decoded is 400 or 413")
        error.message.encode()
        return
    parameters = Parameters(merged)
    for use in _USES:
        try:
            use(parameters)
        except QueryError as error:
            promise(error.status == 400, "a parameter that is wrong is 400")
            error.message.encode()


def _query(parameters: Parameters) -> None:
    msgspec.json.encode(profile_query(PROJECT, parameters))  # every text in it is valid


def _export(parameters: Parameters) -> None:
    query = export_query(PROJECT, parameters, no_tables, now_ms=_NOW_MS)
    assert query.span.since_ms <= query.span.until_ms
    msgspec.json.encode([selector.events for selector in query.selectors])


def _figures(parameters: Parameters) -> None:
    """Each question is judged by itself: one that is refused says nothing of the others."""
    asked = events.Asked(PROJECT, UTC, parameters, _NOW_MS, _NO_READS)
    for question in (
        events._events,
        events._properties,
        events._names,
        events._top,
        events._top_properties,
        events._values,
    ):
        with contextlib.suppress(QueryError):
            question(asked)


def _activity(parameters: Parameters) -> None:
    read = Read(_SOME_PROJECT, parameters, 0)
    for query in (events_activity._activity_query, events_activity._stream_query):
        for group_key in ("", "company"):
            with contextlib.suppress(QueryError):
                msgspec.json.encode(query(read, group_key, _NOW_MS))


def _script(parameters: Parameters) -> None:
    for name in ("user_selectors", "event_selectors", "params"):
        with contextlib.suppress(QueryError):
            selectors_of(parameters.value(name), name, no_tables)
    events_export._offset(parameters)


_NOW_MS: Final = 1_768_478_400_000
_NO_READS: Final = EventReads(MemoryStore(), memory_limit_bytes=0)
_SOME_PROJECT: Final = Project(PROJECT, "p", "T", b"")
_USES: Final[tuple[Callable[[Parameters], object], ...]] = (
    _query,
    _export,
    _figures,
    _activity,
    _script,
    project_id_of,
    own._resend_ids,
    lambda parameters: sql_query(PROJECT, parameters),
    lambda parameters: parameters.value("record"),
    lambda parameters: parameters.integer("before_id", 0, low=1, high=own.ID_LIMIT),
)


# --- heads


def _view() -> CatalogCache:
    store = MemoryStore()
    store.catalog.create_project("p", token="T", secret_hash=b"s" * 32, id_merge="simplified", now_ms=1)
    return CatalogCache(store.catalog)


class _Known(NamedTuple):
    catalog: CatalogCache


_KNOWN: Final = _Known(_view())
_ACCOUNTS: Final[Mapping[str, Any]] = {}


def check_head(text: bytes) -> None:
    """Whatever stands in a header, path or parameter, what reads it says yes or no."""
    latin = text.decode("latin-1")
    view = _KNOWN.catalog.current()
    for header in (latin, "Basic " + latin, "basic  " + latin, "Bearer " + latin):
        try:
            authenticate(header, view, now_ms=1)
        except AuthError as error:
            promise(error.status == 401, "credentials that are none get 401")
        else:
            promise(False, "nobody has an account here")
    promise(verify(b"k" * 32, latin, _ACCOUNTS, now_s=1) is None, "a forged cookie opens nothing")
    decoded = text.decode("utf-8", "replace")
    name = callback_name(decoded)
    promise(name == decoded or not name, "a callback is taken as it is or not at all")
    promise(name.isascii() and not set(name) & set("<>\"'; \n\r"), "a callback cannot hold markup")
    path = canonical_path(decoded)
    promise(path and canonical_path(path) == path, "a canonical path is its own")
    token_in(text).encode()
    sdk_name(None, Params(lib=decoded), text).encode()
    for address in (client_ip("10.0.0.1", [text], text, _NETWORKS), decoded):
        valid_ip(address)
    promise(len(form_fields(text)) <= 100, "fields are bounded")
