"""Cohorts: saved filters of a project, as an expression or as a list of ids. For every store."""

from __future__ import annotations

import msgspec
import pytest

from mixdown.model.errors import CatalogError
from mixdown.store import bounds
from mixdown.store.protocols import Cohort, Cohorts, Store


@pytest.fixture
def project(store: Store) -> int:
    return a_project(store, "one")


@pytest.fixture
def cohorts(store: Store) -> Cohorts:
    return store.cohorts


def a_project(store: Store, name: str) -> int:
    made = store.catalog.create_project(name, token=name, secret_hash=b"", id_merge="simplified", now_ms=1)
    return made.id


def test_a_cohort_comes_back_as_it_was_made_with_a_number(cohorts: Cohorts, project: int) -> None:
    plain = Cohort(project, "paying", "who pay", "", 'properties["plan"] == "pro"', 5)
    grouped = Cohort(project, "large", "", "Company", 'properties["size"] > 100', 6)
    made = [cohorts.create(plain), cohorts.create(grouped)]
    assert cohorts.listing(project) == made
    assert [msgspec.structs.replace(each, id=0) for each in made] == [plain, grouped]
    assert 0 < made[0].id < made[1].id
    assert cohorts.listing(project + 1) == []
    assert [cohorts.get(project, each.id) for each in made] == made
    assert cohorts.get(project, made[1].id + 1) is None
    assert cohorts.get(project + 1, made[0].id) is None


def test_a_list_of_ids_comes_back_sorted_and_without_duplicates(cohorts: Cohorts, project: int) -> None:
    ids = ["b", "a\n", "é", "b", "\U0001f389", "Z"]
    made = cohorts.create(Cohort(project, "beta"), ids)
    assert made.expression is None
    assert list(cohorts.ids(made.id)) == ["Z", "a\n", "b", "é", "\U0001f389"]
    other = cohorts.create(Cohort(project, "with an expression", expression="true"), ["ignored"])
    assert list(cohorts.ids(other.id)) == []


def test_a_long_list_of_ids_is_read_in_order(cohorts: Cohorts, project: int) -> None:
    ids = [f"id{number:06}" for number in range(25_000)]
    made = cohorts.create(Cohort(project, "long"), reversed(ids))
    assert list(cohorts.ids(made.id)) == ids


def test_a_name_is_taken_within_its_project_alone(store: Store, cohorts: Cohorts, project: int) -> None:
    other = a_project(store, "two")
    cohorts.create(Cohort(project, "same", expression="true"))
    cohorts.create(Cohort(other, "same", expression="true"))
    with pytest.raises(CatalogError, match="taken by another cohort"):
        cohorts.create(Cohort(project, "same"), ["a"])
    assert len(cohorts.listing(project)) == 1


def test_a_deleted_cohorts_number_is_never_used_again(cohorts: Cohorts, project: int) -> None:
    made = cohorts.create(Cohort(project, "one"), ["a"])
    cohorts.delete(project, made.id)
    assert (cohorts.listing(project), list(cohorts.ids(made.id))) == ([], [])
    assert cohorts.create(Cohort(project, "one"), ["b"]).id > made.id
    with pytest.raises(CatalogError, match=f"no cohort {made.id}"):
        cohorts.delete(project, made.id)


def test_a_cohort_is_deleted_by_its_own_project_alone(store: Store, cohorts: Cohorts, project: int) -> None:
    made = cohorts.create(Cohort(project, "one"), ["a"])
    with pytest.raises(CatalogError):
        cohorts.delete(a_project(store, "two"), made.id)
    assert cohorts.listing(project) == [made]


def test_cohorts_go_with_their_project(store: Store, cohorts: Cohorts, project: int) -> None:
    cohorts.create(Cohort(project, "one"), ["a"])
    store.catalog.delete_project(project)
    assert cohorts.listing(project) == []
    with pytest.raises(CatalogError, match="no project"):
        cohorts.create(Cohort(project, "two"))


def test_cohorts_and_their_ids_are_bounded(
    cohorts: Cohorts, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "COHORTS_PER_PROJECT", 2)
    monkeypatch.setattr(bounds, "COHORT_IDS", 3)
    with pytest.raises(CatalogError, match="at most 3 ids"):
        cohorts.create(Cohort(project, "a"), ["1", "2", "3", "4"])
    assert cohorts.listing(project) == []
    cohorts.create(Cohort(project, "a"), ["1", "2", "3"])
    cohorts.create(Cohort(project, "b"), [])
    with pytest.raises(CatalogError, match="at most 2 cohorts"):
        cohorts.create(Cohort(project, "c"), [])


def test_forgotten_ids_leave_the_lists_of_their_group_key(cohorts: Cohorts, project: int) -> None:
    users = cohorts.create(Cohort(project, "users"), ["a", "b", "c"])
    more = cohorts.create(Cohort(project, "more"), ["b"])
    groups = cohorts.create(Cohort(project, "groups", group_key="Company"), ["a", "b"])
    assert cohorts.forget(project, "", ["a", "b", "nobody"]) == 3
    assert [list(cohorts.ids(each.id)) for each in (users, more, groups)] == [["c"], [], ["a", "b"]]
    assert cohorts.forget(project + 1, "", ["c"]) == 0


def test_a_cohort_is_renamed_described_and_given_another_expression(cohorts: Cohorts, project: int) -> None:
    made = cohorts.create(Cohort(project, "one", "first", "", "true", 5))
    assert cohorts.change(project, made.id, name="two").name == "two"
    assert cohorts.change(project, made.id, description="") == msgspec.structs.replace(
        made, name="two", description=""
    )
    changed = cohorts.change(project, made.id, name="two", expression="false")
    assert changed.expression == "false"
    assert cohorts.get(project, made.id) == changed
    assert (changed.id, changed.created_ms) == (made.id, 5)


def test_a_cohort_that_cannot_be_changed_stays(store: Store, cohorts: Cohorts, project: int) -> None:
    one = cohorts.create(Cohort(project, "one", expression="true"))
    listed = cohorts.create(Cohort(project, "listed"), ["a"])
    with pytest.raises(CatalogError, match="taken by another cohort"):
        cohorts.change(project, one.id, name="listed")
    with pytest.raises(CatalogError, match="is a list of ids"):
        cohorts.change(project, listed.id, name="other", expression="true")
    for number, of in ((one.id, a_project(store, "two")), (one.id + 99, project)):
        with pytest.raises(CatalogError, match="no cohort"):
            cohorts.change(of, number, name="x")
    assert cohorts.listing(project) == [one, listed]


def test_counts_of_events_are_kept_beside_an_expression(store: Store) -> None:
    project = store.catalog.create_project(
        "p", token="p", secret_hash=b"", id_merge="simplified", now_ms=1
    ).id
    counts = '[{"name":"é","event_selectors":[{"event":"a"}]}]'
    made = store.cohorts.create(Cohort(project, "one", expression="x", behaviors=counts))
    assert store.cohorts.get(project, made.id) == made
    assert made.behaviors == counts
    changed = store.cohorts.change(project, made.id, behaviors="[]")
    assert (changed.behaviors, changed.expression) == ("[]", "x")
    assert store.cohorts.change(project, made.id, expression="y").behaviors == "[]"
    assert store.cohorts.listing(project)[0].behaviors == "[]"
    listed = store.cohorts.create(Cohort(project, "two"), ["ada"])
    with pytest.raises(CatalogError, match="is a list of ids"):
        store.cohorts.change(project, listed.id, behaviors="[]")
