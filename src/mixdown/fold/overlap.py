"""A step's second thread: SQLite reads and writes in it while this one folds.

Enters: the profiles of one step, in order, and what folds a few of them. Leaves: one written transaction.
Batches of documents go over to be folded and come back to be written; at most `READ_AHEAD` of them wait, so
that neither side holds much. Whichever side fails, the other learns of it: nobody waits for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, wait
from itertools import chain
from queue import SimpleQueue
from typing import Final

from mixdown.store.protocols import ProfileKey

READ_AHEAD: Final = 2

Documents = tuple[Sequence[ProfileKey], list[bytes | None]]
Changed = list[tuple[ProfileKey, bytes | None]]


class _FoldFailedError(Exception):
    """Undoes the transaction when it was the folding that failed."""


class _HandOver:
    """What goes between the two threads."""

    def __init__(self, reads: Iterator[Documents]) -> None:
        self._reads = reads
        self.read: SimpleQueue[Documents | None] = SimpleQueue()
        self.folded: SimpleQueue[Changed | None] = SimpleQueue()

    def write(self, write: Callable[[Iterator[tuple[ProfileKey, bytes | None]]], None]) -> None:
        """The second thread: write what comes back, and say so when there is nothing more to fold."""
        try:
            write(chain.from_iterable(self._batches()))
        finally:
            self.read.put(None)

    def _batches(self) -> Iterator[Changed]:
        waiting = 0
        for documents in self._reads:
            self.read.put(documents)
            waiting += 1
            if waiting > READ_AHEAD:
                yield self._next()
                waiting -= 1
        for _ in range(waiting):
            yield self._next()

    def _next(self) -> Changed:
        changed = self.folded.get()
        if changed is None:
            raise _FoldFailedError
        return changed


def write_overlapped(
    executor: Executor,
    *,
    reads: Iterator[Documents],
    profiles: int,
    fold: Callable[[Sequence[ProfileKey], list[bytes | None]], Changed],
    folded: Callable[[], None],
    write: Callable[[Iterator[tuple[ProfileKey, bytes | None]]], None],
    meanwhile: Callable[[], None],
) -> None:
    """Run `write` in `executor` with what `fold` makes of all that `reads` gives, which is read there too.

    `folded` is called when all `profiles` are folded, and before they are all written; `meanwhile` while the
    last of them are written. Raises what any of these raises, when the other thread has ended its part.
    """
    between = _HandOver(reads)
    written = executor.submit(between.write, write)
    left = profiles
    try:
        while left and (documents := between.read.get()) is not None:
            changed = fold(*documents)
            left -= len(documents[0])
            if not left:
                folded()
            between.folded.put(changed)
            del documents, changed
        meanwhile()
    except BaseException:
        between.folded.put(None)
        wait([written])
        raise
    written.result()
