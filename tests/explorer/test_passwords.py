"""Passwords that people choose: how one is changed, what it opens, and what guessing them costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest

from mixdown.explorer.choosing import weakness
from mixdown.http import passwords
from mixdown.http.attempts import (
    ADDRESS_FAILURES_ALLOWED,
    CALL_FAILURES_ALLOWED,
    FAILURES_ALLOWED,
    Attempts,
    network_of,
)
from mixdown.http.cookies import COOKIE_NAME
from mixdown.model.errors import AuthError
from mixdown.server.first_start import ensure_access
from mixdown.settings import Settings
from mixdown.store import credentials
from mixdown.store.credentials import chosen_hash, is_chosen, is_chosen_password, secret_hash
from tests.engine import plain_store
from tests.explorer.test_session import csrf_of, look, sign_in
from tests.reads.support import ADMIN, ENGAGE, PASSWORD, READER, SECRET, World, basic

NOW_S = 1_768_478_400
CHANGE = "/explorer/password/change"
CHOSEN = "four green horses swim"


@pytest.fixture
def world() -> Iterator[World]:
    made = World(plain_store())
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(credentials._SCRYPT, "n", 2**4)


@pytest.fixture
def stretched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that scrypt was asked about."""
    asked: list[str] = []

    def counted(stored: bytes, password: str) -> bool:
        asked.append(password)
        return is_chosen_password(stored, password)

    monkeypatch.setattr(passwords, "is_chosen_password", counted)
    return asked


def change(world: World, old: str = PASSWORD, new: str = CHOSEN, again: str | None = None) -> httpx.Response:
    form = {"old": old, "new": new, "again": new if again is None else again}
    return world.post(CHANGE, user=None, data={**form, "csrf": csrf_of(look(world))})


def called(world: World, password: str, name: str = READER) -> int:
    return world.get(ENGAGE, headers={"Authorization": basic(f"{name}:{password}")}).status_code


def test_a_chosen_password_opens_the_explorer_and_the_api_and_the_old_one_nothing(world: World) -> None:
    sign_in(world)
    other = world.http.cookies[COOKIE_NAME]
    world.http.cookies.clear()
    sign_in(world)
    reply = change(world)
    assert (reply.status_code, reply.headers["location"]) == (303, "/explorer/password")
    (account,) = [each for each in world.store.catalog.accounts() if each.username == READER]
    assert is_chosen(account.password_hash)
    assert CHOSEN.encode() not in account.password_hash
    shown = world.get("/explorer/password", user=None)
    assert "Your password is changed" in shown.text, "this browser stays signed in"
    world.http.cookies.clear()
    world.http.cookies.set(COOKIE_NAME, other)
    assert READER not in look(world).text, "every other browser was signed out"
    world.http.cookies.clear()
    assert sign_in(world).status_code == 401
    assert sign_in(world, password=CHOSEN).status_code == 303
    world.http.cookies.clear()
    assert (called(world, CHOSEN), called(world, PASSWORD)) == (200, 401)
    bearer = {"Authorization": f"Bearer {CHOSEN}"}
    assert world.get(ENGAGE, headers=bearer).status_code == 401, "nothing finds an account by it alone"


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"old": "wrong"}, 403, "The old password is not right."),
        ({"again": "four green horses sink"}, 400, "not the same"),
        ({"new": "short"}, 400, "Choose a longer one"),
        ({"new": "passwordpassword"}, 400, "everybody tries first"),
        ({"old": PASSWORD, "new": PASSWORD}, 400, "Choose another one"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(
    world: World, fields: dict[str, str], status: int, text: str
) -> None:
    sign_in(world)
    reply = change(world, **fields)
    assert (reply.status_code, text in reply.text) == (status, True), reply.text[:2000]
    for typed in ("wrong", CHOSEN, "passwordpassword", PASSWORD):
        assert f'value="{typed}' not in reply.text
    assert called(world, PASSWORD) == 200


def test_the_form_wants_its_token_and_guesses_of_the_old_password_are_bounded(world: World) -> None:
    sign_in(world)
    form = {"old": PASSWORD, "new": CHOSEN, "again": CHOSEN}
    assert world.post(CHANGE, user=None, data=form).status_code == 403
    answers = [change(world, old="wrong").status_code for _ in range(FAILURES_ALLOWED + 1)]
    assert answers == [403] * FAILURES_ALLOWED + [429]
    assert change(world).status_code == 429
    world.now_ms += 60_000
    assert change(world).status_code == 303


def test_a_preset_password_is_changed_where_it_is_set(world: World) -> None:
    ensure_access(world.store.catalog, Settings(account=f"{READER}:{PASSWORD}"), now_ms=world.now_ms)
    sign_in(world)
    assert "MIXDOWN_ACCOUNT" in world.get("/explorer/password", user=None).text
    assert change(world).status_code == 403
    ensure_access(world.store.catalog, Settings(), now_ms=world.now_ms)
    assert "MIXDOWN_ACCOUNT" not in world.get("/explorer/password", user=None).text
    assert change(world).status_code == 303


# --- what guessing costs


def choose(world: World, name: str = READER, password: str = CHOSEN) -> None:
    world.store.catalog.change_password(name, chosen_hash(password))


def test_a_password_that_was_right_is_known_without_scrypt_for_a_while(
    world: World, stretched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(world)
    assert [called(world, CHOSEN) for _ in range(5)] == [200] * 5
    assert stretched == [CHOSEN]
    monkeypatch.setattr(passwords, "REMEMBERED_S", -1.0)
    world.services.passwords._known.clear()
    assert [called(world, CHOSEN) for _ in range(2)] == [200] * 2
    assert stretched == [CHOSEN] * 3


def test_what_is_remembered_ends_with_the_password_and_is_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(world)
    assert called(world, CHOSEN) == 200
    choose(world, password="another set of words")
    assert called(world, CHOSEN) == 401
    monkeypatch.setattr(passwords, "REMEMBERED", 1)
    choose(world, ADMIN)
    assert called(world, CHOSEN, ADMIN) == called(world, "another set of words") == 200
    assert len(world.services.passwords._known) == 1


def test_guesses_cost_no_more_scrypt_than_is_allowed_and_good_credentials_pass(
    world: World, stretched: list[str]
) -> None:
    choose(world)
    assert called(world, CHOSEN) == 200
    stretched.clear()
    answers = [called(world, f"guess {number}") for number in range(FAILURES_ALLOWED + 5)]
    assert answers == [401] * FAILURES_ALLOWED + [429] * 5
    assert len(stretched) == FAILURES_ALLOWED
    assert called(world, CHOSEN) == 200, "it was right a short while ago"
    assert called(world, PASSWORD, ADMIN) == 200
    for number in range(CALL_FAILURES_ALLOWED):
        called(world, "guess", f"name {number}")
    assert called(world, "guess", "name") == 429
    assert len(stretched) <= ADDRESS_FAILURES_ALLOWED
    assert called(world, PASSWORD, ADMIN) == called(world, CHOSEN) == 200
    assert world.get(ENGAGE, headers={"Authorization": basic(f"{SECRET}:")}).status_code == 200
    assert world.get(ENGAGE, user=None).status_code == 401, "who tries nothing is not turned away"


def test_an_unknown_name_takes_as_long_where_anybody_has_chosen(world: World, stretched: list[str]) -> None:
    assert called(world, "guess", "nobody") == 401
    assert stretched == []
    choose(world)
    for name in ("nobody", ADMIN, READER):
        assert called(world, "guess", name) == 401
    assert stretched == ["guess"] * 3


def test_so_many_passwords_are_looked_at_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(world)
    begun, go_on = Event(), Event()

    def slow(stored: bytes, password: str) -> bool:
        begun.set()
        go_on.wait(60)
        return is_chosen_password(stored, password)

    monkeypatch.setattr(passwords, "is_chosen_password", slow)
    monkeypatch.setattr(passwords, "WAIT_S", 0.01)
    view = world.services.catalog.current()

    def first() -> None:
        world.services.passwords.account(view, READER, CHOSEN, now_ms=world.now_ms)

    thread = Thread(target=first)
    thread.start()
    assert begun.wait(60)
    with pytest.raises(AuthError, match="at once"):
        world.services.passwords.account(view, READER, CHOSEN, now_ms=world.now_ms)
    assert called(world, CHOSEN) == 429
    go_on.set()
    thread.join()
    assert called(world, CHOSEN) == 200


def test_ingestion_takes_passwords_that_were_made_alone(world: World) -> None:
    choose(world, ADMIN)
    for password, status in ((PASSWORD, 401), (CHOSEN, 401)):
        headers = {"Authorization": basic(f"{ADMIN}:{password}")}
        reply = world.post(f"/import?project_id={world.project.id}", headers=headers, json=[])
        assert reply.status_code == status


# --- how they are kept, and which are taken


def test_what_is_stored_has_a_salt_of_its_own_and_is_told_from_a_hash_that_was_made() -> None:
    one, other = chosen_hash(CHOSEN), chosen_hash(CHOSEN)
    assert one != other
    assert is_chosen_password(one, CHOSEN)
    assert is_chosen_password(other, CHOSEN)
    assert not is_chosen_password(one, CHOSEN + " ")
    assert not is_chosen_password(secret_hash(CHOSEN), CHOSEN)
    assert not is_chosen_password(b"", "")
    assert not is_chosen(secret_hash(CHOSEN))


@pytest.mark.parametrize(
    "password",
    ["", "elevenchars", "aaaaaaaaaaaaaaaa", "abababababababab", "password1234", "123456789012",
     "qwertyuiop12", "ada.lovelace1", "Lovelace-Ada-1", "abcdefghijklm", "x" * 257, "MixdownMixdown1"],
)  # fmt: skip
def test_a_password_that_is_guessed_first_is_not_taken(password: str) -> None:
    assert weakness(password, "ada.lovelace")


@pytest.mark.parametrize("password", [CHOSEN, "Tr0ub4dor&3xyz", "пять зелёных лошадей", "x7!kQ2#vB9$m"])
def test_one_that_nobody_guesses_is(password: str) -> None:
    assert weakness(password, "ada.lovelace") == ""


# --- attempts


@pytest.mark.parametrize("shared", [False, True])
def test_failures_are_counted_for_a_name_and_for_an_address(shared: bool, tmp_path: Path) -> None:
    file = tmp_path / "attempts" if shared else None
    one = Attempts(file)
    other = Attempts(file) if shared else one
    for _ in range(FAILURES_ALLOWED):
        one.failed("192.0.2.1", "eve", now_s=NOW_S)
    assert not other.may_try("192.0.2.1", "eve", now_s=NOW_S)
    assert other.may_try("192.0.2.1", "ada", now_s=NOW_S), "who mistypes locks out nobody else there"
    assert other.may_try("192.0.2.2", "eve", now_s=NOW_S)
    other.forgive("192.0.2.1", "eve", now_s=NOW_S)
    assert one.may_try("192.0.2.1", "eve", now_s=NOW_S)
    for number in range(ADDRESS_FAILURES_ALLOWED):
        one.failed("192.0.2.1", f"name {number}", now_s=NOW_S)
    assert not other.may_try("192.0.2.1", "ada", now_s=NOW_S)
    assert other.may_try("192.0.2.1", "ada", now_s=NOW_S + 60)


def test_failures_end_within_a_minute_also_where_the_clock_was_put_back() -> None:
    attempts = Attempts()
    for _ in range(50):
        attempts.failed("192.0.2.1", "eve", now_s=NOW_S)
    assert attempts.may_try("192.0.2.1", "eve", now_s=NOW_S + 60)
    assert attempts.may_try("192.0.2.1", "eve", now_s=NOW_S - 3600 + 60) is False
    attempts.failed("192.0.2.1", "eve", now_s=NOW_S - 3600)
    assert attempts.may_try("192.0.2.1", "eve", now_s=NOW_S - 3600 + 60)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix:", "unix:"),
    ],
)
def test_an_address_of_ipv6_is_its_subscribers_network(address: str, network: str) -> None:
    assert network_of(address) == network
