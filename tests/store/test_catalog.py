"""Projects, accounts, facts. For every store."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace as replaced

from mixdown.model.errors import CatalogError
from mixdown.store.bounds import SESSIONS_ENDED
from mixdown.store.protocols import Account, Catalog, Project


def project(catalog: Catalog, name: str = "one", token: str = "", secret: bytes = b"") -> Project:
    return catalog.create_project(
        name, token=token or f"token of {name}", secret_hash=secret, id_merge="simplified", now_ms=5
    )


def account(username: str, project_id: int, role: str = "admin") -> Account:
    return Account(username, b"h" * 32, project_id, role, 9)


def test_a_new_catalog_is_empty(catalog: Catalog) -> None:
    assert (catalog.projects(), catalog.accounts(), catalog.fact("f")) == ([], [], None)


def test_projects_come_back_by_id(catalog: Catalog) -> None:
    made = [project(catalog, name, secret=name.encode() * 8) for name in ("b", "a", "c")]
    assert catalog.projects() == made
    assert [each.id for each in made] == sorted({each.id for each in made})
    assert made[0] == Project(made[0].id, "b", "token of b", b"b" * 8, "simplified", 5)
    assert made[0].id > 0


@pytest.mark.parametrize(
    ("name", "token", "secret"), [("one", "t2", b"s2"), ("two", "t1", b"s2"), ("two", "t2", b"s1")]
)
def test_name_token_and_secret_are_each_projects_own(
    catalog: Catalog, name: str, token: str, secret: bytes
) -> None:
    project(catalog, "one", "t1", b"s1")
    other = project(catalog, "other", "t", b"s")
    with pytest.raises(CatalogError, match="taken by another project"):
        project(catalog, name, token, secret)
    changes = (
        {"name": name} if name == "one" else {"token": token} if token == "t1" else {"secret_hash": secret}
    )
    with pytest.raises(CatalogError, match="taken by another project"):
        catalog.change_project(other.id, **changes)
    assert catalog.projects()[1:] == [other]


def test_projects_without_a_secret_do_not_clash(catalog: Catalog) -> None:
    assert [each.secret_hash for each in (project(catalog, "a"), project(catalog, "b"))] == [b"", b""]


def test_a_change_changes_what_is_given_alone(catalog: Catalog) -> None:
    made = project(catalog, "one", "t1", b"s1")
    changed = catalog.change_project(made.id, token="t2")
    assert changed == replaced(made, token="t2")
    assert catalog.change_project(made.id, token="t2") == changed, "its own token is not taken"
    changed = catalog.change_project(made.id, name="n", secret_hash=b"s2", id_merge="legacy")
    assert catalog.projects() == [changed] == [Project(made.id, "n", "t2", b"s2", "legacy", 5)]


def test_a_project_has_a_zone_and_case_of_its_own(catalog: Catalog) -> None:
    made = project(catalog)
    assert (made.timezone, made.ci_strings) == ("UTC", False)
    other = catalog.create_project(
        "two", token="t2", secret_hash=b"", id_merge="simplified", now_ms=5, timezone="Asia/Tokyo"
    )
    assert other.timezone == "Asia/Tokyo"
    before = catalog.version()
    changed = catalog.change_project(made.id, timezone="Europe/Berlin", ci_strings=True)
    assert changed == replaced(made, timezone="Europe/Berlin", ci_strings=True)
    assert catalog.version() > before
    assert [catalog.project(made.id), catalog.project(other.id), catalog.project(99)] == [
        changed,
        other,
        None,
    ]
    assert catalog.change_project(made.id, ci_strings=False).ci_strings is False


def test_a_project_has_no_limits_of_its_own_until_it_is_given_some(catalog: Catalog) -> None:
    made, other = project(catalog, "a"), project(catalog, "b")
    assert (made.rate_limit_records_per_s, made.rate_limit_queries_per_hour) == (None, None)
    before = catalog.version()
    limited = catalog.limit_project(made.id, records_per_s=5, requests_per_s=0, queries_per_hour=None)
    assert catalog.version() > before
    assert catalog.projects() == [limited, other]
    own = (limited.rate_limit_records_per_s, limited.rate_limit_requests_per_s)
    assert (*own, limited.rate_limit_queries_per_hour) == (5, 0, None)
    assert catalog.change_project(made.id, name="c").rate_limit_records_per_s == 5
    catalog.limit_project(made.id, records_per_s=None, requests_per_s=None, queries_per_hour=None)
    assert catalog.projects()[0].rate_limit_records_per_s is None
    with pytest.raises(CatalogError, match="no project 99"):
        catalog.limit_project(99, records_per_s=1, requests_per_s=None, queries_per_hour=None)


def test_a_deleted_project_takes_its_accounts_and_never_gives_its_id_back(catalog: Catalog) -> None:
    first, second = project(catalog, "a"), project(catalog, "b")
    for name, project_id in (("u1", first.id), ("u2", second.id), ("owner", 0)):
        catalog.create_account(account(name, project_id))
    catalog.delete_project(second.id)
    assert catalog.projects() == [first]
    assert [each.username for each in catalog.accounts()] == ["owner", "u1"]
    assert project(catalog, "b").id > second.id


def test_accounts_come_back_by_name(catalog: Catalog) -> None:
    own = project(catalog)
    made = [account("zoe", own.id), account("adam", own.id, "consumer"), account("Owner", 0, "owner")]
    made = [catalog.create_account(each) for each in made]
    assert [each.id for each in made] == sorted({each.id for each in made})
    assert catalog.accounts() == [made[2], made[1], made[0]]
    catalog.delete_account("zoe")
    assert [each.username for each in catalog.accounts()] == ["Owner", "adam"]


def test_an_account_may_be_in_several_projects_with_a_role_in_each(catalog: Catalog) -> None:
    first, second, third = (project(catalog, name) for name in "abc")
    made = catalog.create_account(account("u", first.id, "admin"))
    assert catalog.grant_account("u", third.id, "analyst").grants == (
        (first.id, "admin"),
        (third.id, "analyst"),
    )
    catalog.grant_account("u", second.id, "consumer")
    granted = catalog.grant_account("u", third.id, "ingest")
    assert granted.grants == ((first.id, "admin"), (second.id, "consumer"), (third.id, "ingest"))
    assert catalog.accounts() == [granted]
    assert granted.id == made.id
    left = catalog.revoke_account("u", first.id)
    assert left.grants == ((second.id, "consumer"), (third.id, "ingest")), "the next one is its own now"
    catalog.delete_project(second.id)
    assert [each.grants for each in catalog.accounts()] == [((third.id, "ingest"),)]
    catalog.revoke_account("u", third.id)
    assert [each.grants for each in catalog.accounts()] == [()]
    catalog.grant_account("u", first.id, "consumer")
    catalog.delete_project(first.id)
    assert catalog.accounts() == []


def test_an_account_may_be_made_in_several_projects_at_once(catalog: Catalog) -> None:
    first, second = project(catalog, "a"), project(catalog, "b")
    asked = replaced(account("u", second.id), others=((first.id, "consumer"),), creator="root", expires_ms=77)
    made = catalog.create_account(asked)
    assert made == replaced(asked, id=made.id)
    assert catalog.accounts() == [made]
    assert (made.is_expired(76), made.is_expired(77)) == (False, True)
    with pytest.raises(CatalogError, match="no project 99"):
        catalog.create_account(replaced(asked, username="v", others=((99, "consumer"),)))
    assert catalog.accounts() == [made]


def test_a_password_can_be_changed(catalog: Catalog) -> None:
    made = catalog.create_account(account("u", project(catalog).id))
    assert catalog.change_password("u", b"n" * 32) == replaced(made, password_hash=b"n" * 32)
    assert catalog.accounts()[0].password_hash == b"n" * 32


def test_an_account_can_end_at_another_time(catalog: Catalog) -> None:
    made = catalog.create_account(account("u", project(catalog).id))
    before = catalog.version()
    assert catalog.expire_account("u", 77) == replaced(made, expires_ms=77)
    assert catalog.accounts()[0].expires_ms == 77
    assert catalog.version() > before
    assert catalog.expire_account("u", 0) == made
    with pytest.raises(CatalogError, match="no account 'v'"):
        catalog.expire_account("v", 77)


def test_a_session_is_over_for_its_account_alone_until_its_time(catalog: Catalog) -> None:
    before = catalog.version()
    catalog.end_session("u", b"one", until_s=100, now_s=10)
    catalog.end_session("u", b"one", until_s=100, now_s=11)
    assert catalog.is_session_over("u", b"one", until_s=100)
    assert not catalog.is_session_over("u", b"two", until_s=100)
    assert not catalog.is_session_over("v", b"one", until_s=100)
    catalog.end_session("v", b"three", until_s=200, now_s=100)
    assert not catalog.is_session_over("u", b"one", until_s=100), "what ended by itself is not kept"
    assert catalog.version() == before


def test_who_ended_many_sessions_has_ended_all_that_there_were(catalog: Catalog) -> None:
    for number in range(SESSIONS_ENDED):
        catalog.end_session("u", b"%d" % number, until_s=100 + number, now_s=10)
    assert not catalog.is_session_over("u", b"other", until_s=150)
    catalog.end_session("u", b"last", until_s=250, now_s=10)
    for session in (b"0", b"99", b"last", b"other"):
        assert catalog.is_session_over("u", session, until_s=250)
    assert not catalog.is_session_over("u", b"later", until_s=251)
    assert not catalog.is_session_over("v", b"other", until_s=250)


def test_what_cannot_be_granted_or_revoked_is_said(catalog: Catalog) -> None:
    own, other = project(catalog, "a"), project(catalog, "b")
    made = catalog.create_account(account("u", own.id))
    catalog.create_account(account("root", 0, "owner"))
    crowned = replaced(made, username="w", others=((other.id, "owner"),))
    changes: tuple[tuple[Callable[[], object], str], ...] = (
        (lambda: catalog.grant_account("v", own.id, "admin"), "no account 'v'"),
        (lambda: catalog.grant_account("u", 99, "admin"), "no project 99"),
        (lambda: catalog.grant_account("root", own.id, "admin"), "sees every project"),
        (lambda: catalog.revoke_account("v", own.id), "no account 'v'"),
        (lambda: catalog.revoke_account("u", other.id), "not in project"),
        (lambda: catalog.revoke_account("root", own.id), "sees every project"),
        (lambda: catalog.change_password("v", b""), "no account 'v'"),
        (lambda: catalog.grant_account("u", other.id, "owner"), "an owner sees every"),
        (lambda: catalog.create_account(crowned), "an owner"),
    )
    for change, text in changes:
        with pytest.raises(CatalogError, match=text):
            change()
    assert catalog.accounts()[1] == made


def test_what_is_missing_or_taken_is_said(catalog: Catalog) -> None:
    own = project(catalog)
    catalog.create_account(account("u", own.id))
    with pytest.raises(CatalogError, match="taken by another account"):
        catalog.create_account(account("u", own.id))
    with pytest.raises(CatalogError, match="no project 99"):
        catalog.create_account(account("v", 99))
    with pytest.raises(CatalogError, match="no account 'v'"):
        catalog.delete_account("v")
    with pytest.raises(CatalogError, match="no project 99"):
        catalog.delete_project(99)
    with pytest.raises(CatalogError, match="no project 99"):
        catalog.change_project(99, name="x")
    assert [each.username for each in catalog.accounts()] == ["u"]


def test_every_change_changes_the_version(catalog: Catalog) -> None:
    versions = [catalog.version()]

    def note() -> None:
        versions.append(catalog.version())

    made = project(catalog)
    note()
    catalog.change_project(made.id, token="new")
    note()
    catalog.create_account(account("u", made.id))
    note()
    catalog.delete_account("u")
    note()
    catalog.delete_project(made.id)
    note()
    assert versions == sorted(set(versions)), "each is newer than the one before"


def test_what_changes_nothing_leaves_the_version(catalog: Catalog) -> None:
    project(catalog)
    before = catalog.version()
    catalog.set_fact("f", b"1")
    with pytest.raises(CatalogError):
        project(catalog)
    with pytest.raises(CatalogError):
        catalog.delete_account("nobody")
    assert catalog.projects()
    assert catalog.version() == before


def test_facts_are_kept_and_replaced(catalog: Catalog) -> None:
    catalog.set_fact("key", b"\x00\x01")
    catalog.set_fact("key", b"\x02")
    catalog.set_fact("other", b"")
    assert (catalog.fact("key"), catalog.fact("other"), catalog.fact("none")) == (b"\x02", b"", None)
