"""Documents of many profiles, read so many at a time that they do not fill the memory (DESIGN G7).

Enters: a state's `documents`, the keys in order, and how much may be held. Leaves: batches in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from mixdown.model.errors import TooMuchAtOnceError
from mixdown.store.protocols import ProfileKey

_SHRINK: Final = 4


def documents_in_batches(
    read: Callable[[Sequence[ProfileKey]], list[bytes | None]],
    keys: Sequence[ProfileKey],
    *,
    first: int,
    most: int,
    roomy_bytes: int,
) -> Iterator[tuple[Sequence[ProfileKey], list[bytes | None]]]:
    """(keys, their documents) in order: `first` keys, then twice as many each time, at most `most`.

    Half as many follow a batch of `roomy_bytes` or more, and a quarter is asked for again where large
    documents come after small ones and `read` refuses. Raises what `read` raises else.
    """
    at = 0
    count = min(first, most)
    while at < len(keys):
        some = keys[at : at + count]
        try:
            documents = read(some)
        except TooMuchAtOnceError:
            count = max(1, len(some) // _SHRINK)
            continue
        at += len(some)
        roomy = sum(map(len, filter(None, documents))) < roomy_bytes
        count = min(2 * count, most) if roomy else max(1, count // 2)
        yield some, documents
        del documents
