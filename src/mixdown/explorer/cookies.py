"""The explorer's cookie and its CSRF token: signed statements that an account has signed in. No I/O.

A key, an account and a time enter; texts leave, and are checked when they come back. A cookie dies with
its expiry, its account, or its account's password. It carries no right beyond the explorer.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

import msgspec

from mixdown.store.protocols import Account

COOKIE_NAME: Final = "mixdown_explorer"
COOKIE_TTL_S: Final = 12 * 3600
COOKIE_LIMIT_CHARS: Final = 2048
KEY_BYTES: Final = 32
_VERSION: Final = "v1"


class SignedIn(msgspec.Struct, frozen=True):
    """An account that a cookie speaks for, and the token that its forms must bring back."""

    account: Account
    csrf_token: str


def sign(key: bytes, account: Account, *, now_s: int) -> str:
    """The value of a new cookie for `account`; good for 12 hours."""
    name = base64.urlsafe_b64encode(account.username.encode()).decode().rstrip("=")
    payload = f"{_VERSION}.{name}.{now_s + COOKIE_TTL_S}.{secrets.token_urlsafe(12)}"
    return f"{payload}.{_mac(key, 'cookie', payload, account.password_hash)}"


def verify(key: bytes, cookie: str, accounts: Mapping[str, Account], *, now_s: int) -> SignedIn | None:
    """Who a cookie speaks for, None where it is forged, expired or of an account that has changed."""
    parts = cookie.split(".")
    if len(cookie) > COOKIE_LIMIT_CHARS or len(parts) != 5 or parts[0] != _VERSION:
        return None
    payload, _, mac = cookie.rpartition(".")
    account = accounts.get(_username(parts[1]))
    expected = _mac(key, "cookie", payload, account.password_hash if account else bytes(KEY_BYTES))
    if not hmac.compare_digest(mac.encode(), expected.encode()) or account is None:
        return None
    if int(parts[2]) <= now_s:
        return None
    return SignedIn(account, _mac(key, "csrf", cookie, account.password_hash))


def is_csrf_token(signed_in: SignedIn, given: str) -> bool:
    """Whether a form brought the token that belongs to its cookie."""
    return hmac.compare_digest(signed_in.csrf_token.encode(), given.encode())


def _mac(key: bytes, purpose: str, text: str, bound_to: bytes) -> str:
    message = b"\0".join((purpose.encode(), text.encode(), bound_to))
    return hmac.new(key, message, sha256).hexdigest()


def _username(encoded: str) -> str:
    try:
        return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""
