"""Annotations: notes on points in time, with tags, and what every store must do with them.

Enters: texts with a moment, as it is in the project's zone. Leaves: the same, by moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from mixdown.model.errors import CatalogError

ANNOTATIONS_PER_PROJECT: Final = 10_000
TAGS_PER_PROJECT: Final = 1_000
TAGS_PER_ANNOTATION: Final = 50


class Tag(msgspec.Struct, frozen=True):
    """A word for annotations, given once in a project; `is_used` says whether any has it."""

    project: int
    name: str
    id: int = 0
    is_used: bool = False


class Annotation(msgspec.Struct, frozen=True):
    """A note on a moment: `YYYY-MM-DD HH:MM:SS` in the project's zone; `tags` are ids, ascending."""

    project: int
    moment: str
    description: str
    creator: str = ""
    created_ms: int = 0
    tags: tuple[int, ...] = ()
    id: int = 0


class Annotations(Protocol):
    """Annotations and their tags: `ANNOTATIONS_PER_PROJECT`, `TAGS_PER_PROJECT`, `TAGS_PER_ANNOTATION`.

    Ids are given for good. What changes is on disk on return.
    """

    def listing(self, project: int, *, since: str = "", until: str = "") -> list[Annotation]:
        """A project's annotations with `since` <= moment < `until` ("": no end), by moment and id."""

    def get(self, project: int, annotation_id: int) -> Annotation | None:
        """One annotation, None where the project has none such."""

    def create(self, annotation: Annotation) -> Annotation:
        """Keep an annotation; returns it with its id.

        Raises `CatalogError`: no such project, no such tag in it, too many.
        """

    def change(
        self,
        project: int,
        annotation_id: int,
        *,
        moment: str | None = None,
        description: str | None = None,
        tags: Sequence[int] | None = None,
    ) -> Annotation:
        """Change what is given. Raises `CatalogError`: no such annotation, no such tag, too many tags."""

    def delete(self, project: int, annotation_id: int) -> None:
        """Raises `CatalogError` where the project has no such annotation."""

    def tags(self, project: int) -> list[Tag]:
        """A project's tags, by id."""

    def create_tag(self, tag: Tag) -> Tag:
        """Keep a tag; returns it with its id. Raises `CatalogError`: no project, a taken name, too many."""


def check_annotations(held: int) -> None:
    """Raises `CatalogError` where a project would hold more annotations than it may."""
    if held > ANNOTATIONS_PER_PROJECT:
        raise CatalogError(
            f"a project has at most {ANNOTATIONS_PER_PROJECT} annotations", hint="Delete old ones."
        )


def check_tags(held: int) -> None:
    """Raises `CatalogError` where a project would hold more tags than it may."""
    if held > TAGS_PER_PROJECT:
        raise CatalogError(f"a project has at most {TAGS_PER_PROJECT} tags of annotations")


def check_tagged(asked: Sequence[int], known: frozenset[int]) -> tuple[int, ...]:
    """The tags of an annotation, each once, ascending. Raises `CatalogError`: unknown ones, too many."""
    found = tuple(sorted(set(asked)))
    for tag in found:
        if tag not in known:
            raise CatalogError(f"there is no tag {tag}", hint="Make it first.")
    if len(found) > TAGS_PER_ANNOTATION:
        raise CatalogError(f"an annotation has at most {TAGS_PER_ANNOTATION} tags")
    return found


def no_annotation(annotation_id: int) -> CatalogError:
    """The error about an annotation that a project does not have."""
    return CatalogError(f"there is no annotation {annotation_id}")


def tag_taken() -> CatalogError:
    """The error about a name that another tag has."""
    return CatalogError("this name is taken by another tag", hint="Choose another.")
