"""The profile query behind `engage` (contract query §2, §7): pages of users or groups as answer bytes.

What enters: a `ProfileQuery` whose numbers have been checked, and the time. What leaves: the whole JSON
answer, made of the documents as they are stored. Everything here blocks and belongs in a thread. It
must never decode a document unless the caller asked for some of its properties only, nor hold more than
`ANSWER_LIMIT_BYTES` of them.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Final, TypeVar

import msgspec
import orjson

from mixdown.model.errors import QueryError
from mixdown.query.choosing import Choice, Filters, choose, listed_ids
from mixdown.query.contexts import Rules, rules_in
from mixdown.query.events.reader import EventReads
from mixdown.query.group_keys import group_key_of
from mixdown.query.history import NAMED_LIMIT, as_of, require_reach
from mixdown.query.identities import owners, owners_at
from mixdown.query.sessions import WholeSession, is_live, live_id, read_whole
from mixdown.store import patience
from mixdown.store.batches import documents_in_batches
from mixdown.store.protocols import ProfileKey, Session, Store
from mixdown.store.selection import judge, sort_key_of
from mixdown.store.sorting import Keyed, Sorter

DEFAULT_PAGE_SIZE: Final = 1000
PAGE_SIZE_LIMIT: Final = 10_000
IDS_LIMIT: Final = 10_000
ANSWER_LIMIT_BYTES: Final = 256 * 1024 * 1024
REUSE_WITHIN_MS: Final = 24 * 3600 * 1000
REUSE_LIMIT: Final = 256
AS_OF_NAMED: Final = (
    f"as_of, name at most {NAMED_LIMIT} profiles by distinct_id or distinct_ids, and filter by nothing else; "
    "all profiles as they stood come from `mixdown profiles export --as-of`"
)
UNCACHED: Final = (
    "request for page in uncached query for params: this session_id is unknown or has expired; "
    "start again at page 0 without session_id"
)
_FIRST_AT_ONCE: Final = 16
_MOST_AT_ONCE: Final = 1000
_IDS_AT_ONCE: Final = 10_000
_TEXT_KEPT_CHARS: Final = 10_000
_ROOMY_BYTES: Final = 4 * 1024 * 1024
_NO_DOCUMENT: Final = b"{}"
_Document = TypeVar("_Document", bytes, bytes | None)


class ProfileQuery(msgspec.Struct, frozen=True, kw_only=True):
    """One call of `engage` in one project.

    `distinct_ids` None means all; `output_properties` None means all of them; `limit` caps the total
    (0: no cap). An id means the profile of the person whose it is, with `ignore_alias` the one it names.
    """

    project: int
    filters: Filters = Filters()
    distinct_ids: tuple[str, ...] | None = None
    ignore_alias: bool = False
    output_properties: tuple[str, ...] | None = None
    page: int = 0
    page_size: int = DEFAULT_PAGE_SIZE
    session_id: str = ""
    limit: int = 0

    @property
    def is_shared(self) -> bool:
        """Whether it is dear enough to be answered once for all who ask it at the same time."""
        return self.page == 0 and not self.session_id and self.distinct_ids is None

    @property
    def looks_through_all(self) -> bool:
        """Whether every profile of the kind may have to be looked at; a page of a session needs none."""
        whole = self.distinct_ids is None and (self.page == 0 or not self.session_id)
        return whole and self.filters.are_given

    @property
    def rows_a_page(self) -> int:
        """The page size in force: never above the cap (contract query §2.1, `limit`)."""
        return min(self.page_size, self.limit) if self.limit else self.page_size


class _Page(msgspec.Struct, frozen=True):
    """What an answer is made of; `rows` are encoded JSON objects."""

    page: int
    page_size: int
    total: int
    session_id: str
    rows: list[bytes]


class ProfileQueries:
    """Answers profile queries from one store; safe to use from many threads.

    `reads` is where events are read, for filters that count them.
    """

    def __init__(self, store: Store, reads: EventReads | None = None) -> None:
        self._store = store
        self._reads = reads
        self._reusable = _Reusable()

    def answer(self, query: ProfileQuery, *, now_ms: int) -> bytes:
        """The JSON answer to `query` (contract query §2.2). Raises `QueryError` (400), `StoreError`.

        A page of a known session comes from its frozen ids; a profile that was deleted since has a row
        with empty `$properties`, so that pages keep their length. Page 0 without one starts a session.
        A later page is computed live without `session_id`, and refused with an unknown one.
        """
        if query.session_id:
            known = self._page_of_known(query, now_ms)
            if known is not None:
                return _encode(known, now_ms)
        if query.page == 0:
            return _encode(self._first_page(query, now_ms), now_ms)
        if query.session_id and not is_live(query.session_id, query.project):
            raise QueryError(UNCACHED, status=400)
        return _encode(self._live_page(query, now_ms), now_ms)

    def answer_as_of(self, query: ProfileQuery, time_ms: int, *, now_ms: int) -> bytes:
        """The answer to a query of named ids as they stood at a time. Raises `QueryError` (400).

        Pages of it are computed anew: what stood then stays what stood then.
        """
        state = self._store.state
        if query.distinct_ids is None or len(query.distinct_ids) > NAMED_LIMIT or query.filters.are_given:
            raise QueryError(AS_OF_NAMED, status=400)
        require_reach(state, time_ms, "as_of")
        group_key = group_key_of(state, query.project, query.filters.data_group_id)
        render = renderer(query.output_properties)
        ids = set(query.distinct_ids)
        if not query.ignore_alias:
            ids = owners_at(state, query.project, group_key, ids, time_ms)
        found = (
            (profile_id, as_of(state, (query.project, group_key, profile_id), time_ms))
            for profile_id in sorted(ids)
        )
        there = ((each, msgspec.json.encode(then)) for each, then in found if then is not None)
        rows = [render(profile_id, document) for profile_id, document in _bounded(there)]
        if query.limit:
            del rows[query.limit :]
        size = query.rows_a_page
        some = rows[query.page * size : (query.page + 1) * size]
        return _encode(_Page(query.page, size, len(rows), live_id(query.project), some), now_ms)

    def _page_of_known(self, query: ProfileQuery, now_ms: int) -> _Page | None:
        whole = read_whole(query.session_id, query.project, now_ms=now_ms)
        if whole is not None:
            if query.page == 0:
                return None
            return _Page(query.page, whole.page_size, whole.total, query.session_id, [])
        session = self._store.sessions.get(query.session_id, query.project, now_ms=now_ms)
        return None if session is None else self._page_of(session, query.page)

    def _page_of(self, session: Session, page: int) -> _Page:
        rows: list[bytes] = []
        if page * session.page_size < session.total:
            ids = self._store.sessions.page_ids(session.id, page)
            render = renderer(session.output_properties)
            rows = [
                render(profile_id, document or _NO_DOCUMENT)
                for profile_id, document in self._documents(session.project, session.group_key, ids)
            ]
        return _Page(page, session.page_size, session.total, session.id, rows)

    def _first_page(self, query: ProfileQuery, now_ms: int) -> _Page:
        choice = choose(self._store, query.project, query.filters, now_ms=now_ms, reads=self._reads)
        size = query.rows_a_page
        watermark = self._store.state.watermark()
        rules = rules_in(choice.selection.context)
        reused = self._page_of_reusable(query, rules, 0, watermark, now_ms)
        if reused is not None:
            return reused
        ids = self.matching(query, choice)
        first = list(islice(ids, size + 1))
        if len(first) <= size:
            rows = self._rows(query, choice, first)
            whole = WholeSession(query.project, len(rows), size, now_ms)
            return _Page(0, size, len(rows), whole.id, rows)
        begun = Session(
            id=secrets.token_hex(16),
            project=query.project,
            group_key=choice.group_key,
            total=0,
            page_size=size,
            created_ms=now_ms,
            output_properties=query.output_properties,
        )
        session = self._store.sessions.create(begun, chain(first, ids))
        self._reusable.keep(query, rules, watermark, session)
        return self._page_of(session, 0)

    def _page_of_reusable(
        self, query: ProfileQuery, rules: Rules, page: int, watermark: int, now_ms: int
    ) -> _Page | None:
        reused = self._reusable.find(query, rules, watermark, now_ms)
        session = self._store.sessions.get(reused, query.project, now_ms=now_ms) if reused else None
        return None if session is None else self._page_of(session, page)

    def _live_page(self, query: ProfileQuery, now_ms: int) -> _Page:
        choice = choose(self._store, query.project, query.filters, now_ms=now_ms, reads=self._reads)
        size = query.rows_a_page
        offset = query.page * size
        rows: list[bytes] = []
        if query.filters.are_given or query.distinct_ids is not None:
            rules, watermark = rules_in(choice.selection.context), self._store.state.watermark()
            frozen = self._page_of_reusable(query, rules, query.page, watermark, now_ms)
            if frozen is not None:  # what page 0 froze is what is there now
                return msgspec.structs.replace(frozen, session_id=live_id(query.project))
            ids = self.matching(query, choice)
            before = sum(1 for _ in islice(ids, offset))
            wanted = list(islice(ids, size))
            total = before + len(wanted) + sum(1 for _ in ids)
            rows = self._rows(query, choice, wanted)
        else:
            total = self._store.state.count(query.project, choice.group_key)
            total = min(total, query.limit) if query.limit else total
            if offset < total:
                render = renderer(query.output_properties)
                last = offset + min(size, total - offset)
                found = self._live(query.project, choice.group_key, offset, last)
                rows = [render(profile_id, document) for profile_id, document in _bounded(found)]
        return _Page(query.page, size, total, live_id(query.project), rows)

    def _live(self, project: int, group_key: str, begin: int, end: int) -> Iterator[tuple[str, bytes]]:
        """The profiles of these places in the order of ids, few at a time where they are large."""
        while begin < end:
            patience.check()
            some = self._store.state.page(project, group_key, offset=begin, limit=end - begin)
            if not some:
                return
            yield from some
            begin += len(some)

    def matching(self, query: ProfileQuery, choice: Choice) -> Iterator[str]:
        """The ids of the result set in its order, cut at `limit`."""
        asked = query.distinct_ids
        if asked is not None and not query.ignore_alias:
            asked = owners(self._store.state, query.project, choice.group_key, asked)
        listed = listed_ids(self._store, choice, asked)
        if listed is not None:
            ids = self._wanted_of(query.project, choice, listed)
        elif choice.selection.takes_all and choice.selection.sort_key is None:
            ids = self._store.state.ids(query.project, choice.group_key)
        else:
            selection = msgspec.structs.replace(choice.selection, most=query.limit)
            ids = self._store.state.matching(query.project, choice.group_key, selection)
        return islice(ids, query.limit) if query.limit else iter(ids)

    def _wanted_of(self, project: int, choice: Choice, listed: Iterator[str]) -> Iterator[str]:
        """Those of the listed ids whose profiles the choice wants, in its order."""
        wants = judge(choice.selection)
        found = (
            (profile_id, document or _NO_DOCUMENT)
            for profile_id, document in self._documents(project, choice.group_key, listed, bounded=False)
            if (document is not None or choice.keeps_missing) and wants(profile_id, document or _NO_DOCUMENT)
        )
        if choice.selection.sort_key is None:
            yield from (profile_id for profile_id, _ in found)
            return
        key_of = sort_key_of(choice.selection)
        sorter = Sorter[Keyed](Keyed)
        try:
            for profile_id, document in found:
                sorter.add([(key_of(profile_id, document), profile_id)])
            yield from (profile_id for _, profile_id in sorter)
        finally:
            sorter.close()

    def _rows(self, query: ProfileQuery, choice: Choice, ids: Sequence[str]) -> list[bytes]:
        """A row for each id that has a profile, or is chosen without one."""
        render = renderer(query.output_properties)
        return [
            render(profile_id, document or _NO_DOCUMENT)
            for profile_id, document in self._documents(query.project, choice.group_key, ids)
            if document is not None or choice.keeps_missing
        ]

    def _documents(
        self, project: int, group_key: str, ids: Iterable[str], *, bounded: bool = True
    ) -> Iterator[tuple[str, bytes | None]]:
        """(id, document or None) for each id, read a thousand at a time, fewer where they are large."""
        found = self._read_all(project, group_key, iter(ids))
        return _bounded(found) if bounded else found

    def _read_all(
        self, project: int, group_key: str, ids: Iterator[str]
    ) -> Iterator[tuple[str, bytes | None]]:
        while some := list(islice(ids, _IDS_AT_ONCE)):
            batches = documents_in_batches(
                self._read,
                [(project, group_key, profile_id) for profile_id in some],
                first=_FIRST_AT_ONCE,
                most=_MOST_AT_ONCE,
                roomy_bytes=_ROOMY_BYTES,
            )
            for keys, documents in batches:
                for key, document in zip(keys, documents, strict=True):
                    yield key[2], document

    def _read(self, keys: Sequence[ProfileKey]) -> list[bytes | None]:
        patience.check()
        return self._store.state.documents(keys)


class _Reusable:
    """Sessions that a new query may share: the same query by the same rules, and not a record folded since.

    It keeps repeated first pages (probes, dashboards) from freezing the same ids again, and from
    pushing the session of a slow reader out of the hundred that a project may hold.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[ProfileQuery, Rules], tuple[int, str, int]] = OrderedDict()

    def find(self, query: ProfileQuery, rules: Rules, watermark: int, now_ms: int) -> str:
        """The id of a session with this very result set, or ""."""
        if not _may_be_shared(query):
            return ""
        with self._lock:
            kept = self._kept.get((_bare(query), rules))
        if kept is None:
            return ""
        at, session_id, created_ms = kept
        return session_id if at == watermark and now_ms - created_ms < REUSE_WITHIN_MS else ""

    def keep(self, query: ProfileQuery, rules: Rules, watermark: int, session: Session) -> None:
        """Remember a session; `watermark` was read before its ids were."""
        if not _may_be_shared(query):
            return
        with self._lock:
            self._kept[_bare(query), rules] = (watermark, session.id, session.created_ms)
            if len(self._kept) > REUSE_LIMIT:
                self._kept.popitem(last=False)


def _may_be_shared(query: ProfileQuery) -> bool:
    """Whether its result stays what it is as long as nothing is folded, and its text is worth keeping."""
    filters = query.filters
    is_short = len(filters.where) + len(filters.selector) + len(filters.sort_key) < _TEXT_KEPT_CHARS
    return query.distinct_ids is None and is_short and not filters.depend_on_more


def _bare(query: ProfileQuery) -> ProfileQuery:
    return msgspec.structs.replace(query, session_id="", page=0)


def _bounded(found: Iterable[tuple[str, _Document]]) -> Iterator[tuple[str, _Document]]:
    """The pairs as they come, until their documents grow past what one answer may hold."""
    size = 0
    for pair in found:
        size += len(pair[1] or b"")
        if size > ANSWER_LIMIT_BYTES:
            raise QueryError(
                f"page_size, this page holds more than {ANSWER_LIMIT_BYTES} bytes: ask for smaller pages",
                status=400,
            )
        yield pair


_raw_decoder: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _row(profile_id: str, document: bytes) -> bytes:
    return b'{"$distinct_id":%b,"$properties":%b}' % (orjson.dumps(profile_id), document)


def renderer(output_properties: tuple[str, ...] | None) -> Callable[[str, bytes], bytes]:
    """How a row is written: the document as it is stored, or what is asked of it, values untouched."""
    if output_properties is None:
        return _row
    wanted = frozenset(output_properties)

    def chosen(profile_id: str, document: bytes) -> bytes:
        properties = _raw_decoder.decode(document)
        kept = {name: value for name, value in properties.items() if name in wanted}
        return _row(profile_id, msgspec.json.encode(kept))

    return chosen


def _encode(page: _Page, now_ms: int) -> bytes:
    head = {
        "status": "ok",
        "computed_at": datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="seconds"),
        "page": page.page,
        "page_size": page.page_size,
        "total": page.total,
        "session_id": page.session_id,
    }
    return b'%b,"results":[%b]}' % (orjson.dumps(head)[:-1], b",".join(page.rows))
