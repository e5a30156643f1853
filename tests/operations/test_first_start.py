"""The catalog at a start: what is made once, what a preset changes, what people decided and is left alone."""

import json
import shlex
from dataclasses import replace

import pytest

from mixdown.model.errors import CatalogError
from mixdown.server.first_start import Access, ensure_access, short_presets
from mixdown.server.greeting import greeting
from mixdown.settings import Settings
from mixdown.store.credentials import secret_hash
from mixdown.store.memory import MemoryStore
from mixdown.store.protocols import Account, Catalog, Project

NOW_MS = 1_700_000_000_000
PLAIN = Settings()
PRESET = Settings(token="t" * 32, secret="s" * 32, account="ada:" + "p" * 32)


@pytest.fixture
def catalog() -> Catalog:
    """An empty catalog."""
    return MemoryStore().catalog


def start(catalog: Catalog, settings: Settings = PLAIN) -> Access:
    return ensure_access(catalog, settings, now_ms=NOW_MS)


def test_a_first_start_makes_a_project_and_an_owner_with_secrets_of_256_bits(catalog: Catalog) -> None:
    access = start(catalog)
    (project,), (account,) = catalog.projects(), catalog.accounts()
    assert access.new
    assert access.project == project
    assert (project.name, len(project.token), project.id_merge) == ("default", 32, "simplified")
    assert project.secret_hash == secret_hash(access.secret)
    assert (account.username, account.role, account.project_id) == ("owner", "owner", 0)
    assert account.password_hash == secret_hash(access.password)
    assert (len(access.secret), len(access.password)) == (64, 64)


def test_later_starts_change_nothing_and_know_no_secret(catalog: Catalog) -> None:
    start(catalog)
    version = catalog.version()
    access = start(catalog)
    assert catalog.version() == version
    assert (access.new, access.secret, access.password, access.user) == (False, "", "", "")
    assert access.project == catalog.projects()[0]


def test_a_start_that_died_before_it_showed_the_password_makes_it_anew(catalog: Catalog) -> None:
    catalog.create_account(Account("owner", secret_hash("never shown"), 0, "owner", NOW_MS))
    access = start(catalog)
    assert access.new
    assert catalog.accounts()[0].password_hash == secret_hash(access.password)


def test_what_people_renamed_or_deleted_stays_so(catalog: Catalog) -> None:
    project = start(catalog).project
    assert project is not None
    catalog.change_project(project.id, name="shop")
    catalog.delete_account("owner")
    access = start(catalog)
    assert access.project is None
    assert [project.name for project in catalog.projects()] == ["shop"]
    assert catalog.accounts() == []


@pytest.mark.parametrize("given", [PRESET, replace(PRESET, token=""), replace(PRESET, secret="")])
def test_a_project_that_was_renamed_keeps_its_presets(catalog: Catalog, given: Settings) -> None:
    project = start(catalog, PRESET).project
    assert project is not None
    renamed = catalog.change_project(project.id, name="shop")
    catalog.create_project("other", token="o", secret_hash=b"", id_merge="simplified", now_ms=NOW_MS)
    assert start(catalog, given).project == renamed
    assert [each.name for each in catalog.projects()] == ["shop", "other"]


def test_presets_are_taken_as_they_are_and_never_repeated(catalog: Catalog) -> None:
    access = start(catalog, PRESET)
    (project,), (account,) = catalog.projects(), catalog.accounts()
    assert (project.token, project.secret_hash) == ("t" * 32, secret_hash("s" * 32))
    assert (account.username, account.password_hash) == ("ada", secret_hash("p" * 32))
    assert (access.secret, access.password) == ("", "")
    version = catalog.version()
    start(catalog, PRESET)
    assert catalog.version() == version, "a preset in force changes nothing"


def test_a_changed_preset_is_put_in_force(catalog: Catalog) -> None:
    start(catalog, PRESET)
    access = start(catalog, replace(PRESET, token="other", secret="more", account="ada:new"))
    assert access.project is not None
    assert (access.project.token, access.project.secret_hash) == ("other", secret_hash("more"))
    assert [account.password_hash for account in catalog.accounts()] == [secret_hash("new")]


def test_a_preset_account_becomes_an_owner_whatever_it_was(catalog: Catalog) -> None:
    project = start(catalog).project
    assert project is not None
    catalog.create_account(Account("ada", secret_hash("p" * 32), project.id, "consumer", NOW_MS))
    start(catalog, replace(PLAIN, account="ada:" + "p" * 32))
    roles = {account.username: (account.role, account.project_id) for account in catalog.accounts()}
    assert roles == {"owner": ("owner", 0), "ada": ("owner", 0)}


def test_a_preset_token_of_another_project_is_refused(catalog: Catalog) -> None:
    start(catalog)
    catalog.create_project("shop", token="taken", secret_hash=b"", id_merge="simplified", now_ms=NOW_MS)
    with pytest.raises(CatalogError):
        start(catalog, replace(PLAIN, token="taken"))


@pytest.mark.parametrize(
    ("settings", "short"),
    [
        (PLAIN, []),
        (PRESET, []),
        (replace(PRESET, token="t" * 31), ["MIXDOWN_TOKEN"]),
        (replace(PRESET, account="a-very-long-user-name-of-more-than-32:p"), ["MIXDOWN_ACCOUNT"]),
        (replace(PRESET, secret="s"), ["MIXDOWN_SECRET"]),
    ],
)
def test_short_presets_are_found_by_the_secret_part_alone(settings: Settings, short: list[str]) -> None:
    assert short_presets(settings) == short


def test_a_token_with_quotes_can_be_pasted_all_the_same() -> None:
    token = """it's a "token" $HOME `id` \N{OWL}"""
    project = Project(1, "default", token, b"")
    text = greeting("http://127.0.0.1:1", PLAIN, Access(project, "s", "owner", "it's", new=True))
    send = next(line for line in text.splitlines() if line.startswith("curl http"))
    assert json.loads(shlex.split(send)[-1])[0]["$token"] == token
    read = next(line for line in text.splitlines() if line.startswith("curl -u"))
    assert shlex.split(read)[2] == "owner:it's"
    snippet = text[text.index("mp = Mixpanel(") :].splitlines()[0]
    assert eval(snippet.partition("Mixpanel(")[2].partition(", consumer")[0]) == token  # noqa: S307 - our own text


def test_later_starts_print_no_lines_to_paste() -> None:
    text = greeting("http://127.0.0.1:1", PLAIN, Access(Project(1, "default", "t", b""), user="", new=False))
    assert "curl" not in text
    assert "Token" in text
    assert "Secret" not in text
