"""Query sessions: frozen result sets, read page by page (contract query §2.4).

Enters: the ids that a query found, in order. Leaves: pages of them, for as long as the session lasts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

import msgspec


class Session(msgspec.Struct, frozen=True):
    """A frozen result set: its ids are read page by page."""

    id: str
    project: int
    group_key: str
    total: int
    page_size: int
    created_ms: int
    output_properties: tuple[str, ...] | None = None


class Sessions(Protocol):
    """Query sessions: at most 100 a project (those unused longest go first), gone after 7 days."""

    def create(self, session: Session, ids: Iterable[str]) -> Session:
        """Keep a session and the ids of its result set, in order; returns it with the number of ids as total.

        The ids are taken as they are made, and never held together.
        """

    def get(self, session_id: str, project: int, *, now_ms: int) -> Session | None:
        """The session, if it is the project's and not expired; asking is a use, noted to the minute."""

    def page_ids(self, session_id: str, page: int) -> list[str]:
        """The ids of one page (0-based), without those that were forgotten; [] past the end."""

    def forget(
        self, project: int, group_key: str, ids: Collection[str], *, until_ms: int, now_ms: int
    ) -> Iterator[bool]:
        """Take ids out of the sessions made until `until_ms`; the places of the others stay.

        A step at a time: gives True after each that got on, and False while a session is still being made.
        """

    def close(self) -> None:
        """Release files."""
