"""Saved reports and dashboards of a project. For every store."""

from __future__ import annotations

import msgspec
import pytest

from mixdown.model.errors import CatalogError
from mixdown.store import reports as bounds
from mixdown.store.protocols import Store
from mixdown.store.reports import Reports, SavedReport


@pytest.fixture
def project(store: Store) -> int:
    return a_project(store, "one")


@pytest.fixture
def reports(store: Store) -> Reports:
    return store.reports


def a_project(store: Store, name: str) -> int:
    made = store.catalog.create_project(name, token=name, secret_hash=b"", id_merge="simplified", now_ms=1)
    return made.id


def a_report(project: int, name: str = "Signup", kind: str = "funnels") -> SavedReport:
    return SavedReport(project, kind, name, b'{"steps":["\xc3\xa9"]}', "who signs up", "ada", 5, 6)


def test_a_report_comes_back_as_it_was_saved_with_a_number(reports: Reports, project: int) -> None:
    made = [reports.create(a_report(project)), reports.create(a_report(project, kind="retention"))]
    assert [msgspec.structs.replace(each, id=0) for each in made] == [
        a_report(project),
        a_report(project, kind="retention"),
    ]
    assert 0 < made[0].id < made[1].id
    assert reports.listing(project) == made
    assert reports.listing(project, "retention") == [made[1]]
    assert reports.listing(project, "nothing") == reports.listing(project + 1) == []
    assert [reports.get(project, each.id) for each in made] == made
    assert reports.get(project, made[1].id + 1) is None
    assert reports.get(project + 1, made[0].id) is None


def test_a_name_is_given_once_to_the_reports_of_a_kind(store: Store, reports: Reports, project: int) -> None:
    reports.create(a_report(project))
    reports.create(a_report(project, kind="retention"))
    reports.create(a_report(a_project(store, "two")))
    with pytest.raises(CatalogError, match="taken by another report of this kind"):
        reports.create(a_report(project))
    other = reports.create(a_report(project, "Purchase"))
    with pytest.raises(CatalogError, match="taken by another report of this kind"):
        reports.change(project, other.id, name="Signup", description="lost", now_ms=9)
    assert reports.get(project, other.id) == other


def test_what_is_given_changes_and_all_else_stays(reports: Reports, project: int) -> None:
    made = reports.create(a_report(project))
    changed = reports.change(project, made.id, definition=b"{}", now_ms=9)
    assert changed == msgspec.structs.replace(made, definition=b"{}", changed_ms=9)
    changed = reports.change(project, made.id, name="Signup", description="", now_ms=10)
    assert changed == msgspec.structs.replace(made, definition=b"{}", description="", changed_ms=10)
    assert reports.listing(project) == [changed]


def test_a_report_is_changed_and_deleted_by_its_own_project_alone(
    store: Store, reports: Reports, project: int
) -> None:
    made, other = reports.create(a_report(project)), a_project(store, "two")
    for number, owner in ((made.id, other), (made.id + 99, project)):
        with pytest.raises(CatalogError, match="no report"):
            reports.change(owner, number, name="x", now_ms=9)
        with pytest.raises(CatalogError, match="no report"):
            reports.delete(owner, number)
    assert reports.listing(project) == [made]


def test_a_deleted_reports_number_is_never_used_again(reports: Reports, project: int) -> None:
    made = reports.create(a_report(project))
    reports.delete(project, made.id)
    assert reports.listing(project) == []
    assert reports.create(a_report(project)).id > made.id


def test_reports_go_with_their_project(store: Store, reports: Reports, project: int) -> None:
    made = reports.create(a_report(project))
    store.catalog.delete_project(project)
    assert reports.listing(project) == []
    assert reports.get(project, made.id) is None
    with pytest.raises(CatalogError, match="no project"):
        reports.create(a_report(project, "two"))
    with pytest.raises(CatalogError, match="no report"):
        reports.change(project, made.id, name="x", now_ms=9)


def test_reports_and_their_definitions_are_bounded(
    reports: Reports, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "REPORTS_PER_PROJECT", 2)
    monkeypatch.setattr(bounds, "DEFINITION_LIMIT_BYTES", 20)
    long = b'{"a":"' + b"x" * 14 + b'"}'
    made = reports.create(a_report(project))
    with pytest.raises(CatalogError, match="at most 20 bytes"):
        reports.create(msgspec.structs.replace(a_report(project, "long"), definition=long))
    with pytest.raises(CatalogError, match="at most 20 bytes"):
        reports.change(project, made.id, definition=long, now_ms=9)
    reports.create(a_report(project, "second"))
    with pytest.raises(CatalogError, match="at most 2 saved reports"):
        reports.create(a_report(project, "third"))
    assert [each.name for each in reports.listing(project)] == ["Signup", "second"]
