"""Refused records as they are kept, and what every store must do with them (DESIGN G5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec

RefusalHead = tuple[int, int, int]
"""Of a refusal: (id, project, time in ms)."""


class RefusedRecord(msgspec.Struct, frozen=True):
    """A refusal as it is kept: what arrived, where, and why it was not stored.

    `id` and `time_ms` are given by the log (0 before). `project` is 0 where no project has the
    token. `record` is JSON text; `whole` is false where only its first kilobyte was kept, or where
    a body was refused before it could be read. `request_key` makes a retried request's refusals
    count once.
    """

    project: int
    endpoint: str
    index: int
    field: str
    message: str
    record: str
    whole: bool
    sdk: str = ""
    request_key: bytes | None = None
    id: int = 0
    time_ms: int = 0


class RefusalFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which refusals are wanted: what is empty, 0 or None narrows nothing.

    `text` stands in the record, message or field, ASCII letters in either case. Times are in ms, `until_ms`
    not included.
    """

    messages: tuple[str, ...] | None = None
    endpoint: str = ""
    field: str = ""
    text: str = ""
    since_ms: int = 0
    until_ms: int = 0


ALL_REFUSALS: Final = RefusalFilter()


class RefusalCount(msgspec.Struct, frozen=True):
    """How many refusals have a message at an endpoint, and the id of the newest."""

    message: str
    endpoint: str
    count: int
    newest_id: int


class Refusals(Protocol):
    """Refused records, kept within bounds (10,000 and 64 MB a project; 1,000 and 8 MB without project)."""

    def listing(
        self,
        projects: Sequence[int] | None,
        *,
        before_id: int | None = None,
        limit: int = 100,
        wanted: RefusalFilter = ALL_REFUSALS,
    ) -> list[RefusedRecord]:
        """Newest first; `projects` None means all, 0 in it stands for records with an unknown token."""

    def by_ids(self, ids: Sequence[int]) -> list[RefusedRecord]:
        """The refusals with these ids, in the order of their ids."""

    def newest_id(self) -> int:
        """The id of the newest that ever came, kept or not; 0 where none did. Later ones have greater ids."""

    def heads(self, after_id: int, *, limit: int) -> list[RefusalHead]:
        """Of those behind an id, when they came and for whom: oldest first, `limit` at most."""

    def remove(self, ids: Sequence[int]) -> int:
        """Forget refusals (they were sent again, or dismissed); how many there were."""

    def counts(self) -> Mapping[int, tuple[int, int]]:
        """For each project (0: none) how many are kept, and their bytes."""

    def reasons(self, projects: Sequence[int]) -> list[RefusalCount]:
        """How many of these projects' refusals have each message at each endpoint, and the newest id."""

    def add(self, refusals: Sequence[RefusedRecord], now_ms: int) -> None:
        """Keep refusals outside a group commit (the fold's `internal error`s)."""
