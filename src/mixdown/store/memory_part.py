"""What the parts of the store in memory have in common: one lock each, and no use after closing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mixdown.model.errors import StoreError


class Part:
    """What can be closed, and then raises on use; `_guard` makes each method atomic."""

    def __init__(self) -> None:
        self._guard = threading.RLock()
        self._closed = False

    def close(self) -> None:
        """Release nothing, but refuse further use as a store on disk does."""
        self._closed = True

    @contextmanager
    def _use(self) -> Iterator[None]:
        with self._guard:
            if self._closed:
                raise StoreError("this store was closed")
            yield
