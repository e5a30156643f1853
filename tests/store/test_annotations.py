"""Annotations and their tags. For every store."""

from __future__ import annotations

import msgspec
import pytest

from mixdown.model.errors import CatalogError
from mixdown.store import annotations as bounds
from mixdown.store.annotations import Annotation, Annotations, Tag
from mixdown.store.protocols import Store

DAY = "2026-03-01 00:00:00"


@pytest.fixture
def project(store: Store) -> int:
    return a_project(store, "one")


@pytest.fixture
def notes(store: Store) -> Annotations:
    return store.annotations


def a_project(store: Store, name: str) -> int:
    made = store.catalog.create_project(name, token=name, secret_hash=b"", id_merge="simplified", now_ms=1)
    return made.id


def test_annotations_come_back_by_moment_and_number(notes: Annotations, project: int) -> None:
    late = notes.create(Annotation(project, "2026-03-02 12:00:00", "late", "ada", 5))
    twins = [notes.create(Annotation(project, DAY, text)) for text in ("b", "a")]
    assert notes.listing(project) == [*twins, late]
    assert late == Annotation(project, "2026-03-02 12:00:00", "late", "ada", 5, id=late.id)
    assert [notes.get(project, each.id) for each in twins] == twins
    assert notes.get(project + 1, late.id) is None
    assert notes.listing(project + 1) == []


def test_a_span_holds_its_first_moment_and_not_its_last(notes: Annotations, project: int) -> None:
    moments = ["2026-02-28 23:59:59", DAY, "2026-03-01 23:59:59", "2026-03-02 00:00:00"]
    made = {moment: notes.create(Annotation(project, moment, "x")) for moment in moments}
    found = notes.listing(project, since="2026-03-01", until="2026-03-02")
    assert found == [made[DAY], made["2026-03-01 23:59:59"]]
    assert notes.listing(project, since=DAY) == [made[moment] for moment in moments[1:]]
    assert notes.listing(project, until=DAY) == [made[moments[0]]]


def test_tags_are_made_once_and_say_whether_they_are_used(
    store: Store, notes: Annotations, project: int
) -> None:
    deploy = notes.create_tag(Tag(project, "deploy"))
    sale = notes.create_tag(Tag(project, "sale"))
    other = notes.create_tag(Tag(a_project(store, "two"), "deploy"))
    with pytest.raises(CatalogError, match="taken by another tag"):
        notes.create_tag(Tag(project, "sale"))
    made = notes.create(Annotation(project, DAY, "x", tags=(sale.id, sale.id)))
    assert made.tags == (sale.id,)
    assert notes.tags(project) == [deploy, msgspec.structs.replace(sale, is_used=True)]
    notes.delete(project, made.id)
    assert notes.tags(project) == [deploy, sale]
    with pytest.raises(CatalogError, match=f"no tag {other.id}"):
        notes.create(Annotation(project, DAY, "x", tags=(deploy.id, other.id)))
    assert notes.listing(project) == []


def test_text_and_tags_of_an_annotation_change_apart(notes: Annotations, project: int) -> None:
    tags = [notes.create_tag(Tag(project, name)).id for name in ("a", "b", "c")]
    made = notes.create(Annotation(project, DAY, "x", tags=(tags[1],)))
    changed = notes.change(project, made.id, description="y")
    assert changed == msgspec.structs.replace(made, description="y")
    changed = notes.change(project, made.id, tags=[tags[2], tags[0]])
    assert changed == msgspec.structs.replace(made, description="y", tags=(tags[0], tags[2]))
    with pytest.raises(CatalogError, match="no tag"):
        notes.change(project, made.id, description="lost", tags=[tags[0], tags[2] + 99])
    assert notes.listing(project) == [changed] == [notes.get(project, made.id)]
    assert notes.change(project, made.id, tags=[]).tags == ()


def test_an_annotation_is_changed_and_deleted_by_its_own_project_alone(
    store: Store, notes: Annotations, project: int
) -> None:
    made, other = notes.create(Annotation(project, DAY, "x")), a_project(store, "two")
    for number, owner in ((made.id, other), (made.id + 99, project)):
        with pytest.raises(CatalogError, match="no annotation"):
            notes.change(owner, number, description="y")
        with pytest.raises(CatalogError, match="no annotation"):
            notes.delete(owner, number)
    assert notes.listing(project) == [made]
    notes.delete(project, made.id)
    assert notes.create(Annotation(project, DAY, "x")).id > made.id


def test_annotations_and_tags_go_with_their_project(store: Store, notes: Annotations, project: int) -> None:
    tag = notes.create_tag(Tag(project, "deploy"))
    made = notes.create(Annotation(project, DAY, "x", tags=(tag.id,)))
    store.catalog.delete_project(project)
    assert (notes.listing(project), notes.tags(project)) == ([], [])
    assert notes.get(project, made.id) is None
    for call in (
        lambda: notes.create(Annotation(project, DAY, "y")),
        lambda: notes.create_tag(Tag(project, "sale")),
    ):
        with pytest.raises(CatalogError, match="no project"):
            call()


def test_annotations_and_tags_are_bounded(
    notes: Annotations, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "ANNOTATIONS_PER_PROJECT", 1)
    monkeypatch.setattr(bounds, "TAGS_PER_PROJECT", 3)
    monkeypatch.setattr(bounds, "TAGS_PER_ANNOTATION", 2)
    tags = [notes.create_tag(Tag(project, name)).id for name in ("a", "b", "c")]
    with pytest.raises(CatalogError, match="at most 3 tags of annotations"):
        notes.create_tag(Tag(project, "d"))
    with pytest.raises(CatalogError, match="an annotation has at most 2 tags"):
        notes.create(Annotation(project, DAY, "x", tags=tuple(tags)))
    made = notes.create(Annotation(project, DAY, "x", tags=tuple(tags[:2])))
    with pytest.raises(CatalogError, match="at most 1 annotations"):
        notes.create(Annotation(project, DAY, "y"))
    assert notes.listing(project) == [made]


def test_a_moment_changes_and_with_it_the_place_in_the_list(notes: Annotations, project: int) -> None:
    first, last = (notes.create(Annotation(project, f"2026-03-0{day} 12:00:00", "x")) for day in (1, 2))
    moved = notes.change(project, first.id, moment="2026-03-03 00:00:00")
    assert moved == msgspec.structs.replace(first, moment="2026-03-03 00:00:00")
    assert notes.listing(project) == [last, moved]
    assert notes.change(project, first.id, description="y").moment == moved.moment
