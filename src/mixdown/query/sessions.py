"""Session ids that describe themselves. Pure.

Most answers fit one page. Such an answer needs no stored session: its id carries all that a page past
the end has to repeat (contract query §2.2, §2.4). An id is no credential: what it can make a server
say is what it says itself, and it counts only in the project it names.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mixdown.store.bounds import SESSION_LIFE_MS

_WHOLE: Final = "whole"
_LIVE: Final = "live"
_NUMBER_LIMIT_CHARS: Final = 16


class WholeSession(msgspec.Struct, frozen=True):
    """A result set that page 0 held entirely."""

    project: int
    total: int
    page_size: int
    created_ms: int

    @property
    def id(self) -> str:
        """The session id that says all this."""
        return f"{_WHOLE}-{self.project}-{self.total}-{self.page_size}-{self.created_ms}"


def read_whole(session_id: str, project: int, *, now_ms: int) -> WholeSession | None:
    """The session that an id of this kind describes, if it is the project's and not expired."""
    kind, *numbers = session_id.split("-")
    if kind != _WHOLE or len(numbers) != 4 or not all(_is_number(number) for number in numbers):
        return None
    session = WholeSession(*map(int, numbers))
    expired = now_ms - session.created_ms >= SESSION_LIFE_MS
    consistent = session.total <= session.page_size and session.page_size > 0
    return session if session.project == project and consistent and not expired else None


def live_id(project: int) -> str:
    """The session id of pages that are computed as they are asked for."""
    return f"{_LIVE}-{project}"


def is_live(session_id: str, project: int) -> bool:
    """Whether this id stands for pages computed live in this project."""
    return session_id == live_id(project)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _NUMBER_LIMIT_CHARS
