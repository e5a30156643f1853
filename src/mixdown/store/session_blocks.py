"""The ids of query sessions as engines keep them: blocks of compressed JSON, in which forgotten ids are null.

Enters: ids in the order of a result set, or a block. Leaves: blocks, or ids. `Blocks` is what stores them.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple, Protocol, TypeVar

import orjson

from mixdown.store import patience
from mixdown.store.protocols import Session

BLOCK_IDS: Final = 1000
BLOCKS_AT_ONCE: Final = 20
"""So many are written in one transaction: making the ids takes time, and others write there too."""
FORGOTTEN_AT_ONCE: Final = 200
UNFINISHED_MS: Final = 3600 * 1000
"""A session that is not whole after so long goes when the next one is made."""
ABANDONED_MS: Final = 10 * 60 * 1000
"""A session that is not whole after so long never will be: a read has a minute."""
_FEW_IDS: Final = 8
_COMPRESSION: Final = 1

Number = TypeVar("Number", int, str)
"""What an engine knows a session by."""


class Found(NamedTuple):
    """A session as `forget_ids` meets it."""

    complete: bool
    created_ms: int


class Blocks(Protocol[Number]):
    """What an engine does with the blocks of sessions: each method is one transaction."""

    def insert(self, number: Number, first: int, blocks: Sequence[bytes]) -> None:
        """Keep blocks of a session, numbered from `first` on."""

    def about(self, project: int, group_key: str, until_ms: int) -> dict[Number, Found]:
        """The sessions made until then of a project's users or groups, newest first."""

    def after(self, number: Number, block: int, limit: int) -> list[tuple[int, bytes]]:
        """(block's number, block) of a session behind a block, ascending."""

    def replace(self, number: Number, blocks: Sequence[tuple[int, bytes]]) -> None:
        """Put other contents in the place of blocks."""

    def abandon(self, number: Number) -> None:
        """Drop a session, unless it is complete by now."""


def keep_ids(blocks: Blocks[Number], number: Number, ids: Iterable[str]) -> int:
    """Write ids in blocks as they come; how many ids there were."""
    rest = iter(ids)
    total = first = 0
    while some := list(islice(rest, BLOCKS_AT_ONCE * BLOCK_IDS)):
        patience.check()
        packed = [_packed(some[at : at + BLOCK_IDS]) for at in range(0, len(some), BLOCK_IDS)]
        blocks.insert(number, first, packed)
        first += len(packed)
        total += len(some)
    return total


def blocks_of_page(page: int, page_size: int) -> tuple[int, int]:
    """The first and the last block that a page's ids may stand in."""
    start = page * page_size
    return start // BLOCK_IDS, (start + page_size - 1) // BLOCK_IDS


def ids_of_page(blocks: Iterable[bytes], page: int, page_size: int) -> list[str]:
    """The ids of a page, out of the blocks that `blocks_of_page` names; without those that were forgotten."""
    ids: list[str | None] = []
    for block in blocks:
        ids += orjson.loads(zlib.decompress(block))
    skip = page * page_size % BLOCK_IDS
    return [each for each in ids[skip : skip + page_size] if each is not None]


def properties_text(session: Session) -> bytes | None:
    """A session's output properties as they are stored."""
    return None if session.output_properties is None else orjson.dumps(session.output_properties)


def properties_of(stored: bytes | None) -> tuple[str, ...] | None:
    """The same, out of the store."""
    return None if stored is None else tuple(orjson.loads(stored))


def forget_ids(
    blocks: Blocks[Number], project: int, group_key: str, ids: Collection[str], *, until_ms: int, now_ms: int
) -> Iterator[bool]:
    """`Sessions.forget`. It runs beside workers that make and read sessions: each step is short."""
    done: set[Number] = set()
    gone = frozenset(ids)
    while True:
        left = {
            number: found
            for number, found in blocks.about(project, group_key, until_ms).items()
            if number not in done
        }
        if not left:
            return
        for number, found in left.items():
            if not found.complete and now_ms - found.created_ms > ABANDONED_MS:
                blocks.abandon(number)
        whole = [number for number, found in left.items() if found.complete]
        for number in whole:
            yield from _forget_in(blocks, number, gone)
            done.add(number)
        if not whole:
            yield False


def _forget_in(blocks: Blocks[Number], number: Number, ids: frozenset[str]) -> Iterator[bool]:
    last = -1
    while True:
        held = blocks.after(number, last, FORGOTTEN_AT_ONCE)
        changed = [(block, left) for block, packed in held if (left := without(packed, ids)) is not None]
        if changed:
            blocks.replace(number, changed)
        yield True
        if len(held) < FORGOTTEN_AT_ONCE:
            return
        last = held[-1][0]


def without(block: bytes, ids: frozenset[str]) -> bytes | None:
    """A block with null in the place of these ids; None where it holds none of them."""
    text = zlib.decompress(block)
    if len(ids) <= _FEW_IDS and not any(orjson.dumps(each) in text for each in ids):
        return None
    held = orjson.loads(text)
    if ids.isdisjoint(held):
        return None
    return _packed([None if each in ids else each for each in held])


def _packed(ids: Sequence[str | None]) -> bytes:
    return zlib.compress(orjson.dumps(ids), _COMPRESSION)
