"""The explorer's cookie: what is believed and what is not."""

from __future__ import annotations

import base64

import pytest

from mixdown.http.cookies import COOKIE_TTL_S, is_csrf_token, sign, verify
from mixdown.store.protocols import Account

KEY = b"k" * 32
ADA = Account("adä.mp-service-account", b"h" * 32, 1, "admin")
EVE = Account("eve", b"e" * 32, 1, "consumer")
ACCOUNTS = {account.username: account for account in (ADA, EVE)}
NOW_S = 1_768_478_400


def test_a_cookie_speaks_for_its_account() -> None:
    cookie = sign(KEY, ADA, now_s=NOW_S)
    assert cookie.isascii()
    signed_in = verify(KEY, cookie, ACCOUNTS, now_s=NOW_S + COOKIE_TTL_S - 1)
    assert signed_in is not None
    assert signed_in.account == ADA
    assert is_csrf_token(signed_in, signed_in.csrf_token)
    assert not is_csrf_token(signed_in, "")
    assert verify(KEY, cookie, ACCOUNTS, now_s=NOW_S + COOKIE_TTL_S) is None
    assert verify(b"another key", cookie, ACCOUNTS, now_s=NOW_S) is None


def test_two_cookies_of_one_account_have_different_form_tokens() -> None:
    first, second = (verify(KEY, sign(KEY, ADA, now_s=NOW_S), ACCOUNTS, now_s=NOW_S) for _ in range(2))
    assert first is not None
    assert second is not None
    assert not is_csrf_token(first, second.csrf_token)


def test_a_cookie_changed_in_any_part_is_no_cookie() -> None:
    parts = sign(KEY, EVE, now_s=NOW_S).split(".")
    ada = base64.urlsafe_b64encode(ADA.username.encode()).decode().rstrip("=")
    for place, forged in ((0, "v2"), (1, ada), (2, str(NOW_S * 2)), (3, "nonce"), (4, "0" * 64), (4, "")):
        changed = [*parts[:place], forged, *parts[place + 1 :]]
        assert verify(KEY, ".".join(changed), ACCOUNTS, now_s=NOW_S) is None


@pytest.mark.parametrize(
    "cookie", ["", "v1", "v1....", "v1.%.x.y.z", "a.b.c.d.e.f", "é" * 9, "v1." + "A" * 5000 + "..."]
)
def test_nonsense_is_no_cookie(cookie: str) -> None:
    assert verify(KEY, cookie, ACCOUNTS, now_s=NOW_S) is None
