"""The data dictionary: schemas by entity type and name, changed all or none. For every store."""

from __future__ import annotations

import pytest

from mixdown.model.errors import CatalogError, QueryError
from mixdown.store import dictionary as bounds
from mixdown.store.dictionary import Dictionary, DictionaryChange, DictionaryEntry
from mixdown.store.protocols import Store
from tests.store.test_cohorts import a_project


@pytest.fixture
def project(store: Store) -> int:
    return a_project(store, "one")


@pytest.fixture
def dictionary(store: Store) -> Dictionary:
    return store.dictionary


def put(entity_type: str, name: str, schema: bytes = b"{}") -> DictionaryChange:
    return DictionaryChange(entity_type, name, lambda _: schema)


def names(entries: list[DictionaryEntry]) -> list[tuple[str, str]]:
    return [(entry.entity_type, entry.name) for entry in entries]


def test_a_schema_comes_back_as_it_was_written(dictionary: Dictionary, project: int) -> None:
    schema = '{"description":"é \U0001f389"}'.encode()
    assert dictionary.change(project, [put("event", "bought", schema)], now_ms=7) == 0
    entry = DictionaryEntry(project, "event", "bought", schema, 7)
    assert dictionary.listing(project) == [entry]
    assert dictionary.get(project, "event", "bought") == entry
    assert dictionary.get(project, "profile", "bought") is None
    assert dictionary.get(project + 1, "event", "bought") is None


def test_schemas_are_listed_by_type_and_name(dictionary: Dictionary, project: int) -> None:
    changes = [put("profile", "$user"), put("event", "b"), put("event", "B"), put("event", "é")]
    dictionary.change(project, changes, now_ms=1)
    events = [("event", "B"), ("event", "b"), ("event", "é")]
    assert names(dictionary.listing(project)) == [*events, ("profile", "$user")]
    assert names(dictionary.listing(project, "event")) == events
    assert dictionary.listing(project, "nothing") == []


def test_a_change_sees_what_is_there_and_the_changes_before_it(dictionary: Dictionary, project: int) -> None:
    def longer(old: bytes | None) -> bytes:
        return (old or b"") + b"x"

    change = DictionaryChange("event", "e", longer)
    dictionary.change(project, [change, change], now_ms=1)
    dictionary.change(project, [change], now_ms=2)
    [entry] = dictionary.listing(project)
    assert (entry.schema, entry.changed_ms) == (b"xxx", 2)


def test_a_change_that_raises_undoes_all_of_them(dictionary: Dictionary, project: int) -> None:
    dictionary.change(project, [put("event", "kept", b"old")], now_ms=1)

    def fails(_old: bytes | None) -> bytes:
        raise QueryError("no", status=400)

    changes = [put("event", "kept", b"new"), put("event", "more"), DictionaryChange("event", "x", fails)]
    with pytest.raises(QueryError):
        dictionary.change(project, changes, truncate=True, now_ms=2)
    [entry] = dictionary.listing(project)
    assert (entry.name, entry.schema) == ("kept", b"old")


def test_truncating_leaves_what_is_written_then_alone(
    store: Store, dictionary: Dictionary, project: int
) -> None:
    other = a_project(store, "two")
    for each in (project, other):
        dictionary.change(each, [put("event", "a", b"old"), put("event", "b")], now_ms=1)
    seen: list[bytes | None] = []

    def looks(old: bytes | None) -> bytes:
        seen.append(old)
        return b"new"

    assert dictionary.change(project, [DictionaryChange("event", "a", looks)], truncate=True, now_ms=2) == 2
    assert seen == [None]
    assert names(dictionary.listing(project)) == [("event", "a")]
    assert len(dictionary.listing(other)) == 2


def test_all_of_a_type_or_one_may_be_deleted(dictionary: Dictionary, project: int) -> None:
    def fill() -> None:
        changes = [put("event", "a"), put("event", "b"), put("profile", "a")]
        dictionary.change(project, changes, now_ms=1)

    fill()
    assert dictionary.delete(project, "event", "a") == 1
    assert dictionary.delete(project, "event", "a") == 0
    assert names(dictionary.listing(project)) == [("event", "b"), ("profile", "a")]
    fill()
    assert dictionary.delete(project, "event") == 2
    assert names(dictionary.listing(project)) == [("profile", "a")]
    fill()
    assert dictionary.delete(project + 1) == 0
    assert dictionary.delete(project) == 3
    assert dictionary.listing(project) == []


def test_schemas_go_with_their_project(store: Store, dictionary: Dictionary, project: int) -> None:
    dictionary.change(project, [put("event", "a")], now_ms=1)
    store.catalog.delete_project(project)
    assert dictionary.listing(project) == []
    with pytest.raises(CatalogError, match="no project"):
        dictionary.change(project, [put("event", "a")], now_ms=1)


def test_what_a_project_holds_is_bounded(
    dictionary: Dictionary, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "SCHEMAS_PER_PROJECT", 2)
    monkeypatch.setattr(bounds, "BYTES_PER_PROJECT", 10)
    dictionary.change(project, [put("event", "a", b"12345"), put("event", "b", b"12345")], now_ms=1)
    with pytest.raises(CatalogError, match="at most 2 schemas"):
        dictionary.change(project, [put("event", "c", b"")], now_ms=1)
    with pytest.raises(CatalogError, match="at most 10 bytes"):
        dictionary.change(project, [put("event", "a", b"123456")], now_ms=1)
    assert [len(entry.schema) for entry in dictionary.listing(project)] == [5, 5]
    assert dictionary.change(project, [put("event", "c", b"1234567890")], truncate=True, now_ms=1) == 2
