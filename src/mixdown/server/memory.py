"""How a process of the server holds memory: what malloc keeps of what was freed, and when it gives that back.

Nothing enters, nothing leaves; pages go back to the system. It speaks to glibc alone: elsewhere each of these
does nothing.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_OWN_PAGES_FROM_BYTES: Final = 128 * 1024
_KEPT_AT_END_BYTES: Final = 1024 * 1024
_STATEMENT_BYTES: Final = 1024 * 1024
_KEPT_FOR_STATEMENTS_BYTES: Final = 16 * 1024 * 1024
WORTH_RECORDS: Final = 50_000
"""After so many records there is enough to give back; it takes 5 to 20 ms."""


def give_large_blocks_pages_of_their_own() -> None:
    """Let what is large go back to the system as soon as it is freed, and not lie among what is small.

    By itself malloc takes that back after the first such block, and keeps up to 64 MiB of each heap.
    """
    _hold(_OWN_PAGES_FROM_BYTES, _KEPT_AT_END_BYTES)


def keep_blocks_of_statements() -> None:
    """The same for what sends statements of some hundred kilobytes, one after the other, to a database.

    They are kept from one to the next, up to 16 MiB of each heap: to fault new pages in for each took one
    twentieth of the fold's time.
    """
    _hold(_STATEMENT_BYTES, _KEPT_FOR_STATEMENTS_BYTES)


def _hold(own_pages_from_bytes: int, kept_at_end_bytes: int) -> None:
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, own_pages_from_bytes)
        libc.mallopt(_M_TRIM_THRESHOLD, kept_at_end_bytes)


def give_back() -> None:
    """Give what is free back to the system, wherever it lies."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@lru_cache(maxsize=1)
def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None
