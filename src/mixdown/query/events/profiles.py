"""What expressions over events read of profiles: `user["..."]`, by the ids of persons.

Ids enter; rows of values leave. Profiles are read a batch at a time, and never more than
`PROFILES_LIMIT_BYTES` of them are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mixdown.model.expression import UNDEFINED, Expression, document_rows
from mixdown.store import patience
from mixdown.store.batches import documents_in_batches
from mixdown.store.protocols import State

PROFILES_LIMIT_BYTES: Final = 16 * 1024 * 1024
_MOST_AT_ONCE: Final = 1000
_FIRST_AT_ONCE: Final = 100
_ROOMY_BYTES: Final = 4 * 1024 * 1024
_Row = tuple[Any, ...]


class Profiles:
    """The values that an expression reads of profiles, by id."""

    def __init__(self, state: State, project: int, expression: Expression) -> None:
        self._state = state
        self._project = project
        self._row_of: Callable[[str, bytes], _Row] = document_rows(expression)
        self._absent: _Row = (UNDEFINED,) * len(expression.slots)
        self._kept: dict[str, _Row] = {}
        self._kept_bytes = 0

    def rows(self, ids: dict[str, None]) -> dict[str, _Row]:
        """The row of each of these profiles; all undefined where there is none. Raises `StoreError`."""
        found = {name: self._kept[name] for name in ids if name in self._kept}
        wanted = [(self._project, "", name) for name in ids if name not in found]
        if self._kept_bytes > PROFILES_LIMIT_BYTES:
            self._kept, self._kept_bytes = {}, 0
        batches = documents_in_batches(
            self._state.documents,
            wanted,
            first=_FIRST_AT_ONCE,
            most=_MOST_AT_ONCE,
            roomy_bytes=_ROOMY_BYTES,
        )
        for keys, documents in batches:
            patience.check()
            for (_, _, name), document in zip(keys, documents, strict=True):
                row = self._absent if document is None else self._row_of(name, document)
                found[name] = self._kept[name] = row
                self._kept_bytes += len(name) + (0 if document is None else len(document))
        return found
