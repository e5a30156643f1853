"""The explorer's cookie and its CSRF token: signed statements that an account has signed in.

A key, an account and a time enter; texts leave, and are checked when they come back. A cookie dies with
its expiry, its account, its account's password, or the session that it stands for: signing out ends that for
every copy. It opens the explorer and, beside its CSRF token, Mixdown's own API; it must never be a credential
for anything else, nor without that token for a change.
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
from starlette.requests import Request

from mixdown.http.auth import READERS, Caller, caller_of, refuse_other_sites
from mixdown.store.catalog_cache import CatalogView
from mixdown.store.protocols import Account, Catalog

COOKIE_NAME: Final = "mixdown_explorer"
COOKIE_TTL_S: Final = 12 * 3600
COOKIE_LIMIT_CHARS: Final = 2048
COOKIE_KEY_FACT: Final = "cookie_key"
CSRF_HEADER: Final = "x-csrf-token"
KEY_BYTES: Final = 32
_VERSION: Final = "v1"


class SignedIn(msgspec.Struct, frozen=True):
    """An account that a cookie speaks for, and the token that its forms must bring back.

    `session` is the cookie's own number, which lives until `until_s`.
    """

    account: Account
    csrf_token: str
    session: bytes
    until_s: int


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
    until_s = int(parts[2])
    if until_s <= now_s:
        return None
    return SignedIn(account, _mac(key, "csrf", cookie, account.password_hash), parts[3].encode(), until_s)


def is_csrf_token(signed_in: SignedIn, given: str) -> bool:
    """Whether a form brought the token that belongs to its cookie."""
    return hmac.compare_digest(signed_in.csrf_token.encode(), given.encode())


def cookie_key(catalog: Catalog) -> bytes:
    """The key that signs cookies; made when first needed, shared by all workers through the catalog."""
    key = catalog.fact(COOKIE_KEY_FACT)
    if key is None:
        catalog.set_fact(COOKIE_KEY_FACT, secrets.token_bytes(KEY_BYTES))
        key = catalog.fact(COOKIE_KEY_FACT)  # another worker may have been later and won
        assert key is not None
    return key


def signed_in(cookie: str, catalog: Catalog, view: CatalogView, *, now_ms: int) -> SignedIn | None:
    """Who a cookie speaks for, None unless they may read something. Blocks. Raises `StoreError`."""
    if not cookie:
        return None
    found = verify(cookie_key(catalog), cookie, view.accounts, now_s=now_ms // 1000)
    if found is None or found.account.is_expired(now_ms):
        return None
    if catalog.is_session_over(found.account.username, found.session, until_s=found.until_s):
        return None
    return found if caller_of(found.account).roles & READERS else None


def sign_out(catalog: Catalog, found: SignedIn, *, now_ms: int) -> None:
    """End a session for every copy of its cookie, on every worker. Blocks. Raises `StoreError`."""
    catalog.end_session(found.account.username, found.session, until_s=found.until_s, now_s=now_ms // 1000)


def caller_of_cookie(request: Request, catalog: Catalog, view: CatalogView, *, now_ms: int) -> Caller | None:
    """The caller whose cookie and CSRF token a request brings; without that token the cookie is nothing.

    Blocks. Raises `AuthError` (403) for what another site's page sent.
    """
    token = request.headers.get(CSRF_HEADER, "")
    if not token:
        return None
    found = signed_in(request.cookies.get(COOKIE_NAME, ""), catalog, view, now_ms=now_ms)
    if found is None or not is_csrf_token(found, token):
        return None
    refuse_other_sites(request)
    return caller_of(found.account)


def _mac(key: bytes, purpose: str, text: str, bound_to: bytes) -> str:
    message = b"\0".join((purpose.encode(), text.encode(), bound_to))
    return hmac.new(key, message, sha256).hexdigest()


def _username(encoded: str) -> str:
    try:
        return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""
