"""The data dictionary: what every store must do with the schemas that people write of events and profiles.

Enters: schemas as JSON, by entity type and name. Leaves: the same. What a schema may say is decided by
`model.dictionary`; what is observed of the data itself is not kept here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from mixdown.model.errors import CatalogError

SCHEMAS_PER_PROJECT: Final = 5_000
BYTES_PER_PROJECT: Final = 32 * 1024 * 1024


class DictionaryEntry(msgspec.Struct, frozen=True):
    """A schema of a project: `schema` is its JSON."""

    project: int
    entity_type: str
    name: str
    schema: bytes
    changed_ms: int


class DictionaryChange(NamedTuple):
    """A change of one schema: `update` makes the new JSON of the old one (None: there is none)."""

    entity_type: str
    name: str
    update: Callable[[bytes | None], bytes]


class Dictionary(Protocol):
    """The schemas of projects: at most `SCHEMAS_PER_PROJECT` and `BYTES_PER_PROJECT` each."""

    def listing(self, project: int, entity_type: str = "") -> list[DictionaryEntry]:
        """A project's schemas, of one type or of all, by type and name."""

    def get(self, project: int, entity_type: str, name: str) -> DictionaryEntry | None:
        """One schema, None where there is none."""

    def change(
        self, project: int, changes: Sequence[DictionaryChange], *, truncate: bool = False, now_ms: int
    ) -> int:
        """Apply all of the changes, in order, in one transaction, on disk on return; how many were deleted.

        With `truncate` all schemas of the project go first, and are what no `update` gets to see. What an
        `update` raises undoes everything. Raises `CatalogError`: no such project, or more than it may hold.
        """

    def delete(self, project: int, entity_type: str = "", name: str = "") -> int:
        """Delete all schemas, those of a type, or one; how many there were."""


def check_schemas(held: int, size_bytes: int) -> None:
    """Raises `CatalogError` where a project would hold more than it may."""
    if held > SCHEMAS_PER_PROJECT:
        raise CatalogError(
            f"a project has at most {SCHEMAS_PER_PROJECT} schemas", hint="Delete those that are not used."
        )
    if size_bytes > BYTES_PER_PROJECT:
        raise CatalogError(
            f"the schemas of a project have at most {BYTES_PER_PROJECT} bytes of JSON",
            hint="Delete those that are not used, or shorten them.",
        )
